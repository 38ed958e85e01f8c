//! `cargo xtask test`: every test, in the order in which they fail fastest.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::progress::seconds;
use crate::{build, host, paths, process};

/// Which tests.
#[derive(Args)]
pub(crate) struct Options {
    /// Only formatting, lints, unit and controller tests: no Docker
    #[arg(long, conflicts_with = "e2e")]
    fast: bool,
    /// Only the end-to-end tests
    #[arg(long)]
    e2e: bool,
    /// Passed on to pytest
    #[arg(last = true)]
    pytest: Vec<String>,
}

/// Runs the tests.
///
/// # Errors
/// The first suite that fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let begun = Instant::now();
    if !options.e2e {
        host::ensure_tools()?;
        suite("formatting", cargo(&["fmt", "--all", "--check"]))?;
        suite("lints", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    }
    if !options.fast {
        // The engine is needed by the provider's tests and by everything after.
        host::ensure_docker()?;
    }
    if !options.e2e {
        let mut arguments = vec!["test", "--workspace"];
        if options.fast {
            arguments.extend(["--lib", "--bins", "--test", "reconcile"]);
        }
        suite("unit and integration tests", cargo(&arguments))?;
    }
    if !options.fast {
        build::run(&build::Options { s3_server: true, ..build::Options::default() })?;
        suite("end-to-end tests", pytest(&options.pytest)?)?;
    }
    eprintln!("all tests passed in {}", seconds(begun.elapsed()));
    Ok(())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(paths::workspace());
    command
}

fn suite(name: &str, mut command: Command) -> Result<()> {
    let begun = Instant::now();
    eprintln!("== {name}");
    let status = command.status().with_context(|| format!("cannot start the {name}"))?;
    eprintln!("== {name}: {status}, {}", seconds(begun.elapsed()));
    if !status.success() {
        bail!("{name} failed");
    }
    Ok(())
}

fn pytest(arguments: &[String]) -> Result<Command> {
    let mut command = python("-m")?;
    // A few failures tell more than the first; many would only keep the machine busy.
    command.args(["pytest", "--maxfail=4"]).args(arguments);
    Ok(command)
}

/// Python in the end-to-end tests' folder, with the official clients; `what` is its first argument.
///
/// # Errors
/// When the virtual environment cannot be made.
pub(crate) fn python(what: &str) -> Result<Command> {
    let suite = paths::workspace().join("tests/e2e");
    let environment = python_environment(&suite.join("requirements.txt"))?;
    let mut command = Command::new(environment.join("bin/python"));
    command.arg(what).current_dir(suite);
    command.env("SAMPAN_BINARY", paths::release_binary()).env("SAMPAN_S3_SERVER", paths::s3_server());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// A virtual environment with the listed packages, cached by the list.
fn python_environment(requirements: &std::path::Path) -> Result<PathBuf> {
    host::ensure_test_tools()?;
    let list = fs::read(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let hash: String = Sha256::digest(&list).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let environment = paths::cache()?.join(format!("python-{hash}"));
    let done = environment.join("complete");
    if done.exists() && process::succeeds(Command::new(environment.join("bin/python")).args(["-c", "import pytest"])) {
        return Ok(environment);
    }
    let _ = fs::remove_dir_all(&environment);
    process::logged("python", Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements);
    process::logged("python", &mut pip)?;
    fs::write(&done, "").with_context(|| format!("cannot write {}", done.display()))?;
    Ok(environment)
}
