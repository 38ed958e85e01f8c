//! `cargo xtask`: builds Sampan and everything that it runs.

mod build;
mod host;
mod paths;
mod process;
mod progress;

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
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Build(options) => build::run(&options),
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
