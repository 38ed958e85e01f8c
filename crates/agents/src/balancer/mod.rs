//! The data plane: stable ports and virtual IPs in front of machines. It lives in a container of its own in the host's
//! network namespace and goes on while the server is down, with its last configuration on disk.
//!
//! [`run`] is the whole of `sampan balancer`; [`Client`] is how the server talks to it. [`plane`] compares what is wanted
//! with what there is, [`listener`] carries connections to its [`backends`], [`addresses`] keeps virtual IPs on bridges.

mod addresses;
mod backends;
mod client;
mod control;
mod listener;
mod plane;

pub use client::{Client, ControlError};

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use self::plane::Plane;
use crate::children::Children;

/// Name of the control socket in the balancer's directory.
pub const CONTROL_SOCKET: &str = "control.sock";

/// A virtual IP that the balancer adds to a bridge of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VirtualIp {
    /// The address (added as a /32).
    pub ip: Ipv4Addr,
    /// The bridge's name.
    pub bridge: String,
}

/// A TCP listener and where its connections go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Stable name, e.g. `<cluster>/api/public`.
    pub name: String,
    /// Address to listen on: a host address or a virtual IP.
    pub listen: SocketAddr,
    /// Where connections go, in turn; a backend that refuses is skipped.
    pub backends: Vec<SocketAddr>,
    /// How to see whether a backend is well; `None`: only by connecting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<HealthCheck>,
}

/// How the backends of a listener are asked whether they are well: TLS, and a path that answers 200. No certificate is
/// verified and no secret sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The path, e.g. `/readyz`.
    pub path: String,
}

/// Everything the balancer shall do. Sent whole, applied by comparison; untouched listeners keep their connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Virtual IPs.
    pub virtual_ips: Vec<VirtualIp>,
    /// Listeners.
    pub listeners: Vec<Listener>,
}

/// What could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Name of the listener, or the virtual IP.
    pub name: String,
    /// Why, in words (port taken, bridge missing, …).
    pub message: String,
}

/// Answer to a new configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What could not be done; tried again every few seconds.
    pub failures: Vec<Failure>,
}

/// What the balancer is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Listeners that are open.
    pub listeners: Vec<ListenerStatus>,
    /// What could not be done.
    pub failures: Vec<Failure>,
}

/// What one listener is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Name.
    pub name: String,
    /// Address.
    pub listen: SocketAddr,
    /// Connections that are open now.
    pub open: u64,
    /// Connections since the listener was opened.
    pub accepted: u64,
    /// Connections for which no backend answered.
    pub failed: u64,
    /// Backends that failed their checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub out: Vec<SocketAddr>,
}

/// Why the balancer does not run.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct BalancerError {
    what: String,
    source: io::Error,
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> BalancerError {
    let what = what.into();
    move |source| BalancerError { what, source }
}

/// Runs the balancer on its directory until SIGTERM or SIGINT. Virtual IPs stay on their bridges when it stops: the next
/// run finds them, and an installation that is taken down sends an empty configuration first, which removes them.
///
/// # Errors
/// When the directory or the control socket cannot be made, or signals cannot be handled.
pub async fn run(state_dir: &Path) -> Result<(), BalancerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("SIGTERM cannot be handled"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("SIGINT cannot be handled"))?;
    let stop = CancellationToken::new();
    let balancer = run_until(state_dir, stop.clone());
    tokio::pin!(balancer);
    tokio::select! {
        ended = &mut balancer => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    balancer.await
}

/// Runs the balancer until `stop`; signals are the caller's.
///
/// # Errors
/// As [`run`].
pub async fn run_until(state_dir: &Path, stop: CancellationToken) -> Result<(), BalancerError> {
    raise_open_files();
    std::fs::create_dir_all(state_dir).map_err(failed(format!("directory {}", state_dir.display())))?;
    let children = Children::start(false).map_err(failed("SIGCHLD cannot be handled"))?;
    let socket: PathBuf = state_dir.join(CONTROL_SOCKET);
    let (orders, new_orders) = mpsc::channel(1);
    let plane = Plane::new(state_dir, children);
    let control = control::Control::bind(&socket, orders).map_err(failed(format!("socket {}", socket.display())))?;
    tokio::join!(plane.run(new_orders, stop.clone()), control.serve(stop.clone()));
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Every connection takes two descriptors; the usual soft limit is far below what is allowed.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
