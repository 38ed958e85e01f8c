//! Where things are: the workspace, the build's output and the cache.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the workspace that this xtask was compiled from.
pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// The release binary.
pub(crate) fn release_binary() -> PathBuf {
    target().join("release/sampan")
}

/// What the release binary needs beside itself: images and versions.
pub(crate) fn bundle() -> PathBuf {
    target().join("release/sampan-bundle")
}

/// The folder with the Go modules of the distribution.
pub(crate) fn distro() -> PathBuf {
    workspace().join("distro")
}

/// Cache of finished artifacts, shared by all checkouts of one user.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let home = env::var_os("HOME").context("set HOME or XDG_CACHE_HOME: the build needs a cache directory")?;
            PathBuf::from(home).join(".cache")
        }
    };
    Ok(base.join("sampan"))
}
