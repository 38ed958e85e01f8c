//! Times as Docker words them.

use jiff::Timestamp;
use serde_json::Value;

use crate::fleet::observe::{text, time};

/// A span of time in one unit.
pub(crate) fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        i64::MIN..=0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// The state of a container in words, as in the column STATUS.
pub(crate) fn status(state: &Value, now: Timestamp) -> String {
    let is = |key: &str| state.get(key) == Some(&Value::Bool(true));
    let started = time(text(state, "/StartedAt"));
    let finished = time(text(state, "/FinishedAt"));
    let since = |then: Option<Timestamp>| duration(then.map_or(0, |then| now.as_second() - then.as_second()));
    let code = state.get("ExitCode").and_then(Value::as_i64).unwrap_or_default();
    if is("Running") {
        if is("Paused") {
            return format!("Up {} (Paused)", since(started));
        }
        if is("Restarting") {
            return format!("Restarting ({code}) {} ago", since(finished));
        }
        return match text(state, "/Health/Status") {
            "" | "none" => format!("Up {}", since(started)),
            "starting" => format!("Up {} (health: starting)", since(started)),
            health => format!("Up {} ({health})", since(started)),
        };
    }
    match text(state, "/Status") {
        "removing" => "Removal In Progress".to_owned(),
        "dead" => "Dead".to_owned(),
        _ if started.is_none() => "Created".to_owned(),
        _ if finished.is_none() => String::new(),
        _ => format!("Exited ({code}) {} ago", since(finished)),
    }
}
