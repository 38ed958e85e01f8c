//! `cargo xtask bench`: the figures of the README; and `soak`: the long versions of the crash tests.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{build, paths, test};

/// What is measured.
#[derive(Args)]
pub(crate) struct Options {
    /// Swarm clusters, beside Docker's own swarm mode, nginx and HAProxy
    #[arg(long)]
    swarm: bool,
    /// The later life of Kubernetes clusters: dedicated and pro control planes, joining nodes, upgrades
    #[arg(long, conflicts_with = "swarm")]
    life: bool,
}

/// Measures and prints.
///
/// # Errors
/// When the build or a measurement fails.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let own = [(options.swarm, "bench_swarm.py"), (options.life, "bench_life.py")];
    if let Some((_, script)) = own.into_iter().find(|(wanted, _)| *wanted) {
        build::run(&build::Options::default())?;
        return finish("the benchmark", &mut test::python(script)?);
    }
    build::run(&build::Options { peer: true, ..build::Options::default() })?;
    let mut command = test::python("bench.py")?;
    command.env("SAMPAN_PEER", paths::peer());
    finish("the benchmark", &mut command)
}

/// Runs the crash tests for long.
///
/// # Errors
/// When something does not converge; the output has the seed.
pub(crate) fn soak() -> Result<()> {
    let mut controllers = Command::new("cargo");
    controllers.args(["test", "--package", "sampan-control", "--test", "reconcile"]).current_dir(paths::workspace());
    controllers.env("SAMPAN_KILL_ROUNDS", "5000");
    finish("the controllers' kill test", &mut controllers)?;
    build::run(&build::Options::default())?;
    let mut command = test::python("-m")?;
    command.args(["pytest", "-x", "-k", "crash or many"]);
    command.env("SAMPAN_E2E_KILLS", "60").env("SAMPAN_E2E_CLUSTERS", "10").env("SAMPAN_E2E_STOPPED_SECONDS", "120");
    finish("the crash tests", &mut command)
}

fn finish(what: &str, command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {what}"))?;
    if !status.success() {
        bail!("{what} failed: {status}");
    }
    Ok(())
}
