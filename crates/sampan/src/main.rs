//! The `sampan` command: the server, the agent on machines, the balancer, and the friendly client of the API.
//!
//! Here is configuration and wiring, nothing else. One file per command under [`commands`].

mod bundle;
mod client;
mod commands;
mod config;
mod data_dir;
mod glue;
mod hosts;
mod housekeeping;
mod logging;
mod master;
mod output;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::output::Format;

/// Exit code when the server refused the request.
const EXIT_REFUSED: u8 = 2;

#[derive(Parser)]
#[command(name = "sampan", version, about = "A container service that you run yourself")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of all commands.
#[derive(clap::Args, Clone)]
pub(crate) struct Global {
    /// The server's data directory
    #[arg(long, global = true, env = "SAMPAN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
    /// How to print results
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server in the foreground
    Serve(Box<serve::Arguments>),
    /// Print shell lines that point clients at the server
    Env,
    /// Send one raw request, as `aliyun cs` does
    Cs(commands::cs::Arguments),
    /// Clusters
    #[command(subcommand)]
    Cluster(commands::cluster::Command),
    /// Node pools
    #[command(subcommand)]
    Nodepool(commands::nodepool::Command),
    /// Tasks
    #[command(subcommand)]
    Task(commands::task::Command),
    /// Machines of the inventory
    #[command(subcommand)]
    Machine(commands::machine::Command),
    /// Applications of a Swarm cluster
    #[command(subcommand)]
    App(commands::app::Command),
    /// Links that redeploy an application or scale a service
    #[command(subcommand)]
    Trigger(commands::trigger::Command),
    /// Print shell lines that point Docker's clients at a Swarm cluster
    DockerEnv(commands::docker_env::Arguments),
    /// Images that nodes can run without any registry
    #[command(subcommand)]
    Image(commands::image::Command),
    /// Check whether this host can run clusters, and say what is missing
    Doctor,
    /// Remove everything of an installation from Docker; its server must be stopped
    Purge(commands::purge::Arguments),
    /// Print a completion script
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The agent on a machine (started by the machine itself)
    #[command(hide = true)]
    Node,
    /// The agent on a host that somebody brought
    #[command(subcommand, hide = true)]
    Host(commands::host::Command),
    /// The master of a Swarm cluster (started by its machine)
    #[command(hide = true)]
    Master(commands::swarm::Arguments),
    /// L7 routing on a node of a Swarm cluster (started by its machine)
    #[command(hide = true)]
    Router(commands::swarm::Arguments),
    /// Volume plug-ins on a node of a Swarm cluster (started by its machine)
    #[command(hide = true)]
    Volumes(commands::swarm::Arguments),
    /// Holds a network namespace (started by a router or a master)
    #[command(hide = true)]
    Pause,
    /// The balancer (started by the server in a container)
    #[command(hide = true)]
    Balancer(commands::balancer::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Pause) {
        return match sampan_swarm::door::pause() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let outcome = runtime(&cli.command).and_then(|runtime| runtime.block_on(Box::pin(run(cli))));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let refused = error.downcast_ref::<client::Refused>().is_some();
            if refused { ExitCode::from(EXIT_REFUSED) } else { ExitCode::FAILURE }
        }
    }
}

/// Agents and clients are single-threaded: there may be many of them on one host.
fn runtime(command: &Command) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = match command {
        Command::Serve(_) | Command::Balancer(_) | Command::Master(_) | Command::Router(_) => {
            tokio::runtime::Builder::new_multi_thread()
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    Ok(builder.enable_all().build()?)
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let global = cli.global;
    match cli.command {
        Command::Serve(arguments) => serve::run(&global, *arguments).await,
        Command::Env => commands::env::run(&global),
        Command::Cs(arguments) => commands::cs::run(&global, arguments).await,
        Command::Cluster(command) => commands::cluster::run(&global, command).await,
        Command::Nodepool(command) => commands::nodepool::run(&global, command).await,
        Command::Task(command) => commands::task::run(&global, command).await,
        Command::Machine(command) => commands::machine::run(&global, command).await,
        Command::App(command) => Box::pin(commands::app::run(&global, command)).await,
        Command::Trigger(command) => commands::trigger::run(&global, command).await,
        Command::DockerEnv(arguments) => commands::docker_env::run(&global, arguments).await,
        Command::Image(command) => commands::image::run(&global, command),
        Command::Doctor => commands::doctor::run(&global).await,
        Command::Purge(arguments) => commands::purge::run(&global, arguments).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sampan", &mut std::io::stdout());
            Ok(())
        }
        Command::Node => commands::node::run().await,
        Command::Host(command) => Box::pin(commands::host::run(command)).await,
        Command::Master(arguments) => commands::swarm::master(&arguments).await,
        Command::Router(arguments) => commands::swarm::router(&arguments).await,
        Command::Volumes(arguments) => commands::swarm::volumes(&arguments).await,
        // Answered before there is a runtime.
        Command::Pause => Ok(()),
        Command::Balancer(arguments) => commands::balancer::run(arguments).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
