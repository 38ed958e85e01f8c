//! `sampan master`, `sampan router`, `sampan volumes`: what runs inside the machines of a Swarm cluster.

use std::path::PathBuf;

use anyhow::Context as _;

/// Where the machine's specification puts the configuration.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Its configuration, written by the server
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) async fn master(arguments: Arguments) -> anyhow::Result<()> {
    crate::logging::start();
    sampan_swarm::master::run(&arguments.config).await.context("the master cannot run")
}

pub(crate) async fn router(arguments: Arguments) -> anyhow::Result<()> {
    crate::logging::start();
    sampan_swarm::router::run(&arguments.config).await.context("the router cannot run")
}

pub(crate) async fn volumes(arguments: Arguments) -> anyhow::Result<()> {
    crate::logging::start();
    sampan_swarm::volumes::run(&arguments.config).await.context("the volume plug-ins cannot run")
}
