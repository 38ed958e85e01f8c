//! `sampan host`: the agent on a host that somebody brought. The attach script calls it, and the host's service manager.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sampan_agents::host::{
    join::{JoinOptions, join},
    leave, run,
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make this host a node, with the token in SAMPAN_TOKEN (the attach script does this)
    Join {
        /// The server, as this host reaches it
        #[arg(long, value_name = "HOST:PORT")]
        server: String,
        /// The authority that the server's certificate must be of
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
        /// Names of the packages that were installed before
        #[arg(long, value_name = "FILE")]
        packages_before: Option<PathBuf>,
    },
    /// Run the agent (the host's service manager does this)
    Run,
    /// Remove everything of Sampan from this host, without asking its server
    Leave,
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Join { server, ca, packages_before } => {
            let token = std::env::var("SAMPAN_TOKEN").context("SAMPAN_TOKEN must hold the token of the attach line")?;
            let joined = join(JoinOptions { server, ca, token, packages_before }).await?;
            println!("sampan: this host is machine {}; its node is {}", joined.machine_id, joined.node_name);
            Ok(())
        }
        Command::Run => {
            crate::logging::start();
            Ok(Box::pin(run::run()).await?)
        }
        Command::Leave => {
            let left = tokio::task::spawn_blocking(|| leave::leave_alone(Path::new("/"))).await??;
            match left.is_empty() {
                true => println!("sampan: nothing of Sampan is left on this host"),
                false => eprintln!("sampan: this could not be removed: {}", left.join("; ")),
            }
            Ok(())
        }
    }
}
