//! The process `sampan master`: reads what it is told, keeps the engines, and answers on the cluster's endpoint and on a
//! Unix socket.
//!
//! [`run`] is the door. [`settings`] follows the configuration file; [`listen`] takes connections; [`dispatch`] decides
//! who answers: applications ([`Applications`]), the routes of the routers, or Docker ([`crate::docker`]).

mod dispatch;
mod internal;
mod listen;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use http::{Request, Response};
use hyper::body::Incoming;
use sampan_agents::master::MasterConfig;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use self::dispatch::Master;
use crate::{
    fleet::{Fleet, tls::TlsError, wire::Body},
    model::Engines,
    router::table::RouteTable,
};

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
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
}

/// What the master knows of applications: the part that answers for them and computes routes.
#[async_trait]
pub trait Applications: Send + Sync + 'static {
    /// Answers `/projects…`, `/services…` and `/service…` (no version in front).
    async fn handle(&self, request: Request<Incoming>) -> Response<Body>;
    /// The routes, for the nodes' routers.
    fn routes(&self) -> watch::Receiver<Arc<RouteTable>>;
    /// A router has this revision in force.
    fn acknowledged(&self, router: IpAddr, revision: u64);
    /// Listeners that the load balancer shall have beside that of HTTP: (name, port).
    fn tcp_listeners(&self) -> Vec<(String, u16)>;
}

/// Runs the master until it is told to stop (SIGTERM, SIGINT).
pub async fn run(config_path: &Path) -> Result<(), MasterError> {
    run_with(config_path, |_, _| None).await
}

/// The same with a part that answers for applications, made from the engines and the settings.
pub async fn run_with(
    config_path: &Path,
    applications: impl FnOnce(Arc<dyn Engines>, watch::Receiver<Arc<MasterConfig>>) -> Option<Arc<dyn Applications>>,
) -> Result<(), MasterError> {
    let settings = settings::follow(config_path)?;
    let fleet = Fleet::open(settings.clone())?;
    let applications = applications(fleet.clone(), settings.clone());
    let master = Arc::new(Master::new(fleet.clone(), applications));
    let users = listen::Endpoint::open(settings.clone()).await?;
    let socket = listen::Socket::open(Path::new(sampan_agents::master::SOCKET_PATH))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(MasterError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(MasterError::Signals)?;
    tracing::info!(cluster = settings.borrow().cluster_id, "the master of a cluster runs");
    tokio::select! {
        () = fleet.run() => {}
        () = master.clone().keep_status() => {}
        () = users.serve(master.clone()) => {}
        () = socket.serve(master.clone()) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("the master stops");
    Ok(())
}
