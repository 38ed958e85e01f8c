//! Root file systems out of Debian packages, by mmdebstrap.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::cache::{self, Artifact, Key};
use super::config::Debian;
use crate::process;
use crate::progress::step;

/// Another mirror than Debian's own.
const MIRROR_VARIABLE: &str = "SAMPAN_DEBIAN_MIRROR";

/// What no image needs; the licences stay.
const DPKG_OPTIONS: [&str; 10] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/lib/*/gconv/*",
    // The modules of Perl, 47 MB, which s3fs brings in by way of a list of file types. The scripts of packages use those
    // of perl-base, which are elsewhere.
    "path-exclude=/usr/share/perl/*",
    "path-exclude=/usr/lib/*/perl/*",
    "path-exclude=/usr/lib/*/libperl.so*",
];

/// How mmdebstrap makes a kind of root.
struct Kind {
    variant: &'static str,
    options: &'static [&'static str],
}

/// The two directories of executables are merged by a hook: the package that
/// does it otherwise brings all of Perl.
const NODE: Kind = Kind {
    variant: "essential",
    options: &[
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        r#"--customize-hook=rm -rf "$1"/etc/apt/sources.list* "$1"/etc/resolv.conf "$1"/etc/hostname"#,
    ],
};

/// A host as people have it: with its package manager and nothing of ours.
const BARE: Kind = Kind {
    variant: "apt",
    options: &[
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        r#"--customize-hook=rm -rf "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*"#,
    ],
};

const UNPACKED: Kind = Kind { variant: "extract", options: &[] };

/// The node image's root: a small, configured Debian.
///
/// # Errors
/// When mmdebstrap fails; the error carries the end of its log.
pub(crate) fn node(debian: &Debian) -> Result<Artifact> {
    make("rootfs-node", &NODE, debian, &debian.node_packages)
}

/// The root of containers that play bare hosts.
///
/// # Errors
/// When mmdebstrap fails; the error carries the end of its log.
pub(crate) fn bare(debian: &Debian) -> Result<Artifact> {
    make("rootfs-bare", &BARE, debian, &debian.bare_packages)
}

/// Packages and what they depend on, unpacked side by side and not configured.
///
/// # Errors
/// When mmdebstrap fails; the error carries the end of its log.
pub(crate) fn unpacked(name: &str, debian: &Debian, packages: &[String]) -> Result<Artifact> {
    make(&format!("rootfs-{name}"), &UNPACKED, debian, packages)
}

fn make(name: &str, kind: &Kind, debian: &Debian, packages: &[String]) -> Result<Artifact> {
    step(&format!("debian: {name}"), || {
        let key = Key::new("mmdebstrap 1")
            .with(kind.variant)
            .with_all(kind.options)
            .with(&debian.suite)
            .with(std::env::consts::ARCH)
            .with_all(packages)
            .with_all(DPKG_OPTIONS);
        cache::artifact(name, key, |output| run(name, kind, debian, packages, output))
    })
}

fn run(name: &str, kind: &Kind, debian: &Debian, packages: &[String], output: &Path) -> Result<()> {
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.stdin(Stdio::null()).arg(format!("--variant={}", kind.variant));
    mmdebstrap.args(kind.options).arg(format!("--include={}", packages.join(",")));
    mmdebstrap.args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")));
    // The name decides the format, and the cache's names have no extension.
    let tarball = output.with_extension("tar");
    mmdebstrap.arg("--format=tar").arg(&debian.suite).arg(&tarball);
    if let Ok(mirror) = std::env::var(MIRROR_VARIABLE) {
        mmdebstrap.arg(mirror);
    }
    // Images must not depend on when they were made.
    mmdebstrap.env("SOURCE_DATE_EPOCH", "0");
    let made = process::logged(&format!("mmdebstrap-{name}"), &mut mmdebstrap);
    if made.is_err() {
        let _ = fs::remove_file(&tarball);
    }
    made?;
    fs::rename(&tarball, output).with_context(|| format!("cannot rename {}", tarball.display()))
}
