//! `sampan balancer`: the data plane in its container.

use std::path::PathBuf;

use anyhow::Context as _;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where its configuration and control socket are
    #[arg(long, default_value = "/var/lib/sampan-balancer")]
    state_dir: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    crate::logging::start();
    sampan_agents::balancer::run(&arguments.state_dir).await.context("the balancer cannot run")
}
