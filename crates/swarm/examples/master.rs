//! The master alone, for trials beside hand-made engines: `master [CONFIG]`.

use std::{path::PathBuf, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let path = std::env::args().nth(1).unwrap_or_else(|| sampan_agents::master::CONFIG_PATH.to_owned());
    match sampan_swarm::master::run(&PathBuf::from(path)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the master ends");
            ExitCode::FAILURE
        }
    }
}
