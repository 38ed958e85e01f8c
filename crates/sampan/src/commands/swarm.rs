//! What runs inside the machines of a Swarm cluster: `sampan master`, `sampan router`, `sampan volumes`.

use std::path::PathBuf;

use anyhow::Context as _;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Its configuration, which the machine's agent writes
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) async fn master(arguments: &Arguments) -> anyhow::Result<()> {
    crate::logging::start();
    Box::pin(sampan_swarm::master::run(&arguments.config)).await.context("the cluster's master ended")
}

pub(crate) async fn router(arguments: &Arguments) -> anyhow::Result<()> {
    crate::logging::start();
    Box::pin(sampan_swarm::router::run(&arguments.config)).await.context("the router ended")
}

pub(crate) async fn volumes(arguments: &Arguments) -> anyhow::Result<()> {
    crate::logging::start();
    Box::pin(sampan_swarm::volumes::run(&arguments.config)).await.context("the volume plug-ins ended")
}
