//! `cargo xtask`: builds Sampan and everything that it runs.

mod build;
mod host;
mod paths;
mod process;
mod progress;

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

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Build(options) => build::run(&options),
    }
}
