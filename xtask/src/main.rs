//! `cargo xtask`: builds Sampan and everything that it runs.

mod bench;
mod build;
mod conformance;
mod host;
mod paths;
mod place;
mod process;
mod progress;
mod test;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tries and tests Sampan.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the release binary, the Kubernetes distribution and the images.
    Build(build::Options),
    /// Build, start a server, create a cluster with two nodes and run a web workload.
    Up(build::Options),
    /// Remove everything that `up` made.
    Down,
    /// Run every test.
    Test(test::Options),
    /// Measure, and print the figures of the README.
    Bench(bench::Options),
    /// Run upstream's conformance tests against a cluster of this build.
    Conformance(conformance::Options),
    /// Run the long versions of the crash tests.
    Soak,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Build(options) => build::run(&options),
        Command::Up(options) => up::up(&options),
        Command::Down => up::down(),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Conformance(options) => conformance::run(&options),
        Command::Soak => bench::soak(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes, without the stack that anyhow adds when asked for panics' stacks.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
