//! The node agent, `sampan node`: PID 1 of a node container, or a service on a real host. It keeps the machine as the
//! last [`crate::spec::NodeSpec`] says, with the server or without it.
//!
//! [`reconcile`] owns what is changed, [`supervisor`] and [`unit`] the processes;
//! [`board`] is what the machine is doing, [`api`] shows it to the server through the tunnel.

mod api;
pub(crate) mod board;
mod check;
mod container;
mod files;
mod forward;
pub(crate) mod layout;
mod log;
pub(crate) mod mirror;
mod probe;
pub(crate) mod reconcile;
mod routes;
mod supervisor;
mod unit;

pub(crate) use probe::succeeds as probe_succeeds;

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::{
    api::Api,
    board::Board,
    log::Logs,
    reconcile::{Reconciler, Settings},
    unit::Context,
};
use crate::{
    children::Children,
    host::HostAgent,
    tunnel::{
        dialer,
        handshake::{Hello, PROTOCOL},
    },
};

/// Where containerd looks for the registry mirror.
pub const MIRROR_PORT: u16 = 5999;
/// How long what pods left behind may take to stop when the machine stops.
const LEFTOVERS_GRACE: Duration = Duration::from_millis(500);

/// Settings of the agent.
#[derive(Clone)]
pub struct NodeOptions {
    /// Which machine this is.
    pub machine_id: String,
    /// The secret that proves it to the server.
    pub token: String,
    /// The server's socket for agents.
    pub server_socket: PathBuf,
    /// Where the agent keeps the spec.
    pub state_dir: PathBuf,
    /// Image layout that the registry mirror serves.
    pub images_dir: Option<PathBuf>,
    /// Where logs of processes go.
    pub log_dir: PathBuf,
    /// Where the registry mirror listens.
    pub mirror_address: SocketAddr,
    /// Whether this is PID 1 of a container, which then is prepared, and orphans are reaped.
    pub pid1: bool,
    /// On a host, which has no socket of the server's: how it is reached.
    pub host: Option<Arc<HostAgent>>,
}

// The token must not reach a log.
impl std::fmt::Debug for NodeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeOptions")
            .field("machine_id", &self.machine_id)
            .field("server_socket", &self.server_socket)
            .field("state_dir", &self.state_dir)
            .field("pid1", &self.pid1)
            .finish_non_exhaustive()
    }
}

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An environment variable is missing.
    #[error("the environment variable {0} must be set: the server gives it to each machine")]
    NoVariable(&'static str),
    /// The operating system refused something that the agent cannot do without.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl NodeOptions {
    /// The defaults, for this machine.
    pub fn new(machine_id: String, token: String) -> Self {
        Self {
            machine_id,
            token,
            server_socket: "/run/sampan-server/agents.sock".into(),
            state_dir: "/var/lib/sampan".into(),
            images_dir: Some("/var/lib/sampan/images".into()),
            log_dir: "/var/log/sampan".into(),
            mirror_address: SocketAddr::from((Ipv4Addr::LOCALHOST, MIRROR_PORT)),
            pid1: std::process::id() == 1,
            host: None,
        }
    }

    /// The defaults, with `SAMPAN_MACHINE_ID`, `SAMPAN_MACHINE_TOKEN` and, if set, `SAMPAN_SERVER_SOCKET`.
    ///
    /// # Errors
    /// When one of the first two is not set.
    pub fn from_env() -> Result<Self, NodeError> {
        let variable =
            |name| std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or(NodeError::NoVariable(name));
        let mut options = Self::new(variable("SAMPAN_MACHINE_ID")?, variable("SAMPAN_MACHINE_TOKEN")?);
        if let Ok(socket) = variable("SAMPAN_SERVER_SOCKET") {
            options.server_socket = socket.into();
        }
        Ok(options)
    }
}

/// Runs the agent until SIGTERM or SIGINT, then stops all processes (within 8 s). Runs on any Tokio runtime; one thread
/// is enough.
///
/// Processes do not outlive a PID 1 agent. Elsewhere the service manager has to see to that, should the agent be killed.
///
/// # Errors
/// When signals cannot be handled or the state directory cannot be made.
pub async fn run(options: NodeOptions) -> Result<(), NodeError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| NodeError::System { what, source }
    };
    // First of all: PID 1 ignores signals that it has no handler for.
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM cannot be handled"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT cannot be handled"))?;
    let stop = CancellationToken::new();
    let asked = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let pid1 = options.pid1;
    if pid1 {
        container::prepare();
    }
    let agent = run_until(options, stop.clone());
    tokio::pin!(agent);
    tokio::select! {
        ended = &mut agent => return ended,
        () = asked => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    let ended = agent.await;
    if pid1 {
        end_leftovers().await;
    }
    ended
}

/// Runs the agent until `stop`. Signals are the caller's, and so is a container's preparation.
///
/// # Errors
/// As [`run`].
pub async fn run_until(options: NodeOptions, stop: CancellationToken) -> Result<(), NodeError> {
    std::fs::create_dir_all(&options.state_dir).map_err(|source| NodeError::System {
        what: format!("the state directory {} cannot be made", options.state_dir.display()),
        source,
    })?;
    let children = Children::start(options.pid1)
        .map_err(|source| NodeError::System { what: "SIGCHLD cannot be handled".into(), source })?;
    let boot_id = boot_id();
    let context = Context {
        children,
        logs: Arc::new(Logs::new(options.log_dir.clone())),
        board: Arc::new(Board::new(boot_id.clone())),
    };
    let (stored_hash, hash_reader) = watch::channel(String::new());
    let (orders, new_orders) = mpsc::channel(1);
    let api = Arc::new(Api {
        board: Arc::clone(&context.board),
        logs: Arc::clone(&context.logs),
        orders,
        stored_hash: hash_reader,
        host: options.host.clone(),
    });
    let settings = Settings {
        state_dir: options.state_dir,
        images_dir: options.images_dir,
        mirror_address: options.mirror_address,
        host: options.host.clone(),
    };
    let reconciler = Reconciler::new(settings, context, stored_hash).run(new_orders, stop.clone());
    let hello = Hello { protocol: PROTOCOL, machine_id: options.machine_id, token: options.token, boot_id };
    let handler: dialer::Handler = Arc::new(move |request| api.handle(request));
    // The tunnel stays while processes stop, so that the server sees it.
    let tunnel_stop = CancellationToken::new();
    let tunnel = async {
        match &options.host {
            Some(host) => host.keep_connected(&hello, handler, tunnel_stop.clone()).await,
            None => dialer::keep_connected(&options.server_socket, &hello, handler, tunnel_stop.clone()).await,
        }
    };
    let stopping = async {
        reconciler.await;
        tunnel_stop.cancel();
    };
    tokio::join!(stopping, tunnel);
    Ok(())
}

/// What is left in the container (pods' processes) gets a moment; the kernel kills the rest when PID 1 ends.
async fn end_leftovers() {
    // -1: everything but PID 1 itself.
    let _ = nix::sys::signal::kill(Pid::from_raw(-1), Signal::SIGTERM);
    sleep(LEFTOVERS_GRACE).await;
    let _ = nix::sys::signal::kill(Pid::from_raw(-1), Signal::SIGKILL);
}

fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/uuid") {
        Ok(uuid) => uuid.trim().to_owned(),
        Err(_) => format!("{:016x}", RandomState::new().hash_one(std::process::id())),
    }
}
