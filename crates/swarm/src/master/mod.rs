//! The process `sampan master`: reads what it is told, keeps the engines, and answers on the cluster's endpoint and on a
//! Unix socket.
//!
//! [`run`] is the door. [`settings`] follows the configuration file; [`listen`] takes connections; [`dispatch`] decides
//! who answers: applications ([`crate::apps`]), the routes of the routers, or Docker ([`crate::docker`]).

mod dispatch;
mod internal;
mod listen;
mod settings;
mod strangers;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use sampan_agents::master::MasterConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::dispatch::Master;
use crate::{
    apps::{self, Apps},
    door::{Door, DoorSettings},
    fleet::{Fleet, tls::TlsError},
    model::{CLUSTER_NETWORK, Engines},
};

/// The master's own engine: the manager of the swarm.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// Why the master cannot work.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// Its configuration cannot be read.
    #[error("the configuration {path} cannot be used: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Its certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A socket cannot be opened.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Address or path.
        address: String,
        /// Why not.
        reason: String,
    },
    /// What is recorded cannot be read.
    #[error("the state in {path} cannot be used: {reason}")]
    State {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
}

/// Name of the placeholder through which the master reaches the overlay.
const DOOR_NAME: &str = "sampan-master-door";

/// Runs the master until it is told to stop (SIGTERM, SIGINT).
///
/// # Errors
/// When the configuration, the certificates, the state or a socket cannot be used.
pub async fn run(config_path: &Path) -> Result<(), MasterError> {
    let settings = settings::follow(config_path)?;
    let fleet = Fleet::open(settings.clone())?;
    let apps = Arc::new(applications(&fleet, &settings.borrow())?);
    let master = Arc::new(Master::new(fleet.clone(), apps.clone()));
    let users = listen::Endpoint::open(settings.clone()).await?;
    let socket = listen::Socket::open(Path::new(sampan_agents::master::SOCKET_PATH))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(MasterError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(MasterError::Signals)?;
    tracing::info!(cluster = settings.borrow().cluster_id, "the master of a cluster runs");
    tokio::select! {
        () = fleet.run() => {}
        () = apps.run(CancellationToken::new()) => {}
        () = master.clone().keep_status() => {}
        () = users.serve(master.clone()) => {}
        () = socket.serve(master.clone()) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("the master stops");
    Ok(())
}

/// The applications of the cluster, which reach its overlay through a door of the master's own engine.
fn applications(fleet: &Arc<Fleet>, config: &MasterConfig) -> Result<Apps, MasterError> {
    let state_dir = PathBuf::from(&config.state_dir);
    let settings = apps::Settings {
        state_dir: state_dir.clone(),
        cluster_id: config.cluster_id.clone(),
        region_id: config.region_id.clone(),
        routing_suffix: config.routing_suffix.clone(),
    };
    let door = Door::open(DoorSettings {
        engine_socket: PathBuf::from(ENGINE_SOCKET),
        network: CLUSTER_NETWORK.to_owned(),
        name: DOOR_NAME.to_owned(),
        labels: BTreeMap::new(),
        program: None,
    });
    let engines: Arc<dyn Engines> = fleet.clone();
    let apps = Apps::new(engines, Arc::new(door), settings);
    apps.map_err(|error| MasterError::State { path: state_dir, reason: error.to_string() })
}
