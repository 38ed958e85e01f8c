//! `sampan node`: the agent, PID 1 of a node container.

use anyhow::Context as _;

pub(crate) async fn run() -> anyhow::Result<()> {
    crate::logging::start();
    let options = sampan_agents::node::NodeOptions::from_env().context("the agent's environment")?;
    sampan_agents::node::run(options).await.context("the agent cannot run")
}
