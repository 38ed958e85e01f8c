//! Where things are: the workspace, the build's output and the cache.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};

/// The root of the workspace that `cargo xtask` was called in. Checkouts may share a target directory, so where this
/// program was compiled says it only when cargo does not.
pub(crate) fn workspace() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let called = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        // Another package's cargo may have called us.
        let ours = called.filter(|dir| dir.ends_with("xtask") && dir.join("Cargo.toml").is_file());
        let xtask = ours.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
    });
    &ROOT
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

/// kubectl of the version that new clusters have.
pub(crate) fn kubectl() -> PathBuf {
    bundle().join("bin/kubectl")
}

/// What the benchmark compares with: kubeadm and the images that it makes a cluster of.
pub(crate) fn peer() -> PathBuf {
    target().join("bench/kubeadm")
}

/// The S3 server of the end-to-end tests.
pub(crate) fn s3_server() -> PathBuf {
    target().join("test/s3-server")
}

/// The conformance tests, their images, and what their runs leave.
pub(crate) fn conformance() -> PathBuf {
    target().join("conformance")
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
