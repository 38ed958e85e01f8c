//! `cargo xtask build`: everything that is run, from sources.

mod bundle;
mod cache;
mod config;
mod conformance;
mod go;
mod image;
mod layer;
mod oci;
mod payload;
mod peer;
mod pods;
mod rootfs;
mod rust;
mod tree;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::host;
use crate::paths;
use crate::progress::seconds;
use cache::Artifact;
use config::Config;
use go::Executables;
use pods::DebianLayers;

/// Options of `cargo xtask build`.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Do not compile the Rust binary: take the last one, or none if there is none.
    #[arg(long)]
    pub(crate) no_rust: bool,
    /// Also build kubeadm and its images, which the benchmark compares with.
    #[arg(long)]
    pub(crate) peer: bool,
    /// Also build the S3 server that the end-to-end tests mount buckets of.
    #[arg(long)]
    pub(crate) s3_server: bool,
    /// Also build upstream's conformance tests and the images that they ask for.
    #[arg(long)]
    pub(crate) conformance: bool,
}

/// What is made beside the Go executables.
struct Others {
    rootfs: Artifact,
    bare: Artifact,
    layers: DebianLayers,
    binary: Option<PathBuf>,
}

/// Builds the release binary, the distribution, the images and the bundle.
///
/// # Errors
/// When the host lacks something or a step fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    host::ensure_tools()?;
    host::ensure_docker()?;
    let config = Config::load()?;
    let (go, others) = make_parts(&config, options)?;
    let images = pods::images(&config, &others.layers, &go)?;
    let node = image::build(&others.rootfs, &config, &go, others.binary.as_deref())?;
    let bare = image::bare(&others.bare)?;
    bundle::write(&config, &go, &images, bundle::Machines { node: &node, bare: &bare })?;
    if options.peer {
        peer::write(&config, &go, &others.rootfs, &images)?;
    }
    if options.s3_server {
        s3_server()?;
    }
    if options.conformance {
        conformance::write(&config, &go, &others.layers, &images)?;
    }
    cache::prune()?;
    eprintln!("built {node} and {} in {}", paths::bundle().display(), seconds(start.elapsed()));
    Ok(())
}

fn s3_server() -> Result<()> {
    let built = go::s3_server()?;
    let path = paths::s3_server();
    let dir = path.parent().context("a path without a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    oci::link_or_copy(&built.path, &path)
}

/// Linkers and package downloads leave cores idle, so Go and the rest are made side by side.
fn make_parts(config: &Config, options: &Options) -> Result<(Executables, Others)> {
    thread::scope(|scope| {
        let go = scope.spawn(|| go::build(config));
        let others = make_others(config, options);
        let go = go.join().map_err(|_| anyhow!("the thread that builds Go executables panicked"))?;
        match (go, others) {
            (Ok(go), Ok(others)) => Ok((go, others)),
            (Err(go), Err(others)) => Err(anyhow!("{go:#}\n\nand {others:#}")),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        }
    })
}

fn make_others(config: &Config, options: &Options) -> Result<Others> {
    let rootfs = rootfs::node(&config.debian)?;
    let bare = rootfs::bare(&config.debian)?;
    let layers = pods::debian_layers(&config.debian)?;
    let binary = paths::release_binary();
    let binary = match options.no_rust {
        true => Some(binary).filter(|binary| binary.exists()),
        false => Some(rust::build()?),
    };
    Ok(Others { rootfs, bare, layers, binary })
}
