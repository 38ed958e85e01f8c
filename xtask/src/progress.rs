//! One line per build step on stderr, with its time or "cached".

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What a step did.
pub(crate) enum Did<T> {
    /// The result was already there.
    Cached(T),
    /// The result was made now.
    Built(T),
}

/// Runs one step and prints what came of it.
///
/// # Errors
/// The step's own, with the step's name.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<Did<T>>) -> Result<T> {
    let start = Instant::now();
    match work().with_context(|| format!("step \"{name}\" failed"))? {
        Did::Cached(value) => {
            eprintln!("  {name:<40} cached");
            Ok(value)
        }
        Did::Built(value) => {
            eprintln!("  {name:<40} {}", seconds(start.elapsed()));
            Ok(value)
        }
    }
}

/// A duration as people read it: `0.4 s`, `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole >= 60 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
