//! The release binary: one static executable for server, command line, nodes and balancer.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::cache;
use crate::paths;
use crate::process;
use crate::progress::{Did, step};

/// Builds the binary and returns its path, `target/release/sampan`.
///
/// # Errors
/// When it does not compile; the error carries the end of cargo's log.
pub(crate) fn build() -> Result<PathBuf> {
    step("rust: sampan", || {
        let target = host_triple()?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(paths::workspace()).stdin(Stdio::null());
        cargo.args(["build", "--release", "--locked", "--package", "sampan", "--bin", "sampan", "--target", &target]);
        cargo.env("RUSTFLAGS", flags());
        process::logged("cargo-build", &mut cargo)?;
        let built = paths::target().join(&target).join("release/sampan");
        let binary = paths::release_binary();
        if let Ok(there) = cache::sha256_of_file(&binary)
            && there == cache::sha256_of_file(&built)?
        {
            return Ok(Did::Cached(binary));
        }
        publish(&built, &binary)?;
        Ok(Did::Built(binary))
    })
}

/// A copy, not a link: a server that runs must keep its file when cargo writes anew.
fn publish(built: &PathBuf, binary: &PathBuf) -> Result<()> {
    let unfinished = binary.with_extension("new");
    if let Some(dir) = binary.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    fs::copy(built, &unfinished).with_context(|| format!("cannot copy {}", built.display()))?;
    fs::rename(&unfinished, binary).with_context(|| format!("cannot replace {}", binary.display()))
}

/// The binary runs in node images that have another libc than the host, hence static.
fn flags() -> String {
    let mut flags = env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" -C target-feature=+crt-static");
    flags.trim().to_owned()
}

fn host_triple() -> Result<String> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
