//! L7 routing on a node: by host and path prefix, into the cluster's overlay.
//!
//! [`run`] is the whole of `sampan router`, one process on every node, in the node's own network namespace. It asks the
//! master for the [`table`] and keeps the last one on disk, so that it goes on while the master and the server are down.
//!
//! From the socket inwards: [`server`] takes connections, [`proxy`] finds a backend for each request ([`routes`],
//! [`matching`], [`turns`], [`session`]) and carries it there by a [`link`] ([`multiplex`] for gRPC, [`upgrade`] for
//! WebSocket and the like); [`plane`] is what they share and says when a table counts as being in force. [`tcp`] carries
//! bytes of TCP routes. [`feed`] brings tables, [`status`] tells figures.

mod answers;
mod backend;
mod body;
mod feed;
mod grpc;
mod headers;
mod link;
pub(crate) mod master;
mod matching;
mod multiplex;
mod plane;
mod proxy;
mod routes;
mod server;
mod session;
mod settings;
mod sockets;
mod status;
pub mod table;
mod tcp;
mod turns;
mod upgrade;

pub use feed::TABLE_FILE;
pub use status::STATUS_SOCKET;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};
use tokio_util::sync::CancellationToken;

use self::{
    feed::Installer,
    plane::Plane,
    settings::Settings,
    status::{Feed, Sources},
    tcp::Listeners,
};
use crate::{
    door::{Direct, Door, DoorSettings, OverlayDialer},
    model::CLUSTER_NETWORK,
};

/// How often connections that waited too long, and backends that are to be tried again, are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Name of the door's container on every node; inside the overlay it resolves to all of them.
pub(crate) const DOOR_NAME: &str = "sampan-router";
/// Port of HTTP inside the overlay, beside that of the nodes.
const INSIDE_PORT: u16 = 80;

/// Why a router does not run.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct RouterError {
    what: String,
    source: io::Error,
}

impl RouterError {
    fn of(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self { what, source }
    }
}

/// Runs the router of this configuration file until SIGTERM or SIGINT; then requests under way have some seconds to end.
///
/// The file is JSON: `master` (`address:port`), `tls` (`ca`, `cert`, `key`: paths; the client's side), `state_dir`, `node`
/// (its name); and, if not as usual, `listen` (`0.0.0.0`), `http_port` (9080), `engine_socket`
/// (`/var/run/docker.sock`), `program` (what the door's container runs). Without `master` the table is the file
/// `routes.json` in `state_dir`, looked at again whenever it changes; with `"direct": true` there is no door and backends
/// are connected to from the process's own namespace: both for tests and benchmarks.
///
/// # Errors
/// When the configuration cannot be read, a socket cannot be opened, or signals cannot be handled.
pub async fn run(config_path: &Path) -> Result<(), RouterError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RouterError::of("SIGTERM cannot be handled"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RouterError::of("SIGINT cannot be handled"))?;
    let stop = CancellationToken::new();
    let router = run_until(config_path, stop.clone());
    tokio::pin!(router);
    tokio::select! {
        ended = &mut router => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    router.await
}

/// Runs the router until `stop`; signals are the caller's.
///
/// # Errors
/// As [`run`].
pub async fn run_until(config_path: &Path, stop: CancellationToken) -> Result<(), RouterError> {
    let settings = Settings::read(config_path)?;
    let directory = &settings.state_dir;
    std::fs::create_dir_all(directory).map_err(RouterError::of(format!("directory {}", directory.display())))?;
    raise_open_files();
    let plane = Arc::new(Plane::new(dialer(&settings)));
    let listeners = Arc::new(Listeners::new(settings.listen, Arc::clone(&plane)));
    let feed = Arc::new(Feed::default());
    let installer = Installer {
        plane: Arc::clone(&plane),
        listeners: Arc::clone(&listeners),
        feed: Arc::clone(&feed),
        path: directory.join(TABLE_FILE),
    };
    // Before the first request.
    installer.install_last().await;
    let address = SocketAddr::new(settings.listen, settings.http_port);
    let http = server::bind(address).map_err(RouterError::of(format!("address {address}")))?;
    let socket = directory.join(STATUS_SOCKET);
    let socket_bound = status::bind(&socket).map_err(RouterError::of(format!("socket {}", socket.display())))?;
    let sources = Arc::new(Sources { plane: Arc::clone(&plane), listeners: Arc::clone(&listeners), feed });
    let master = feed::master(&settings);
    let tables = async {
        match master {
            Some(master) => Box::pin(installer.follow_master(master, stop.clone())).await,
            None => installer.follow_file(stop.clone()).await,
        }
    };
    tracing::info!(%address, node = settings.node, "the router takes requests");
    tokio::join!(
        server::serve(http, address, Arc::clone(&plane), stop.clone()),
        server::serve_inside(INSIDE_PORT, Arc::clone(&plane), stop.clone()),
        async {
            // Also at the port of the nodes, as it was before containers were led inside.
            if settings.http_port != INSIDE_PORT {
                server::serve_inside(settings.http_port, Arc::clone(&plane), stop.clone()).await;
            }
        },
        status::serve(socket_bound, sources, stop.clone()),
        tables,
        installer.mend(stop.clone()),
        sweep(&plane, stop.clone()),
    );
    listeners.stop();
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

fn dialer(settings: &Settings) -> Arc<dyn OverlayDialer> {
    if settings.direct {
        return Arc::new(Direct);
    }
    Arc::new(Door::open(DoorSettings {
        engine_socket: settings.engine_socket.clone(),
        network: CLUSTER_NETWORK.to_owned(),
        name: DOOR_NAME.to_owned(),
        labels: [("io.sampan.node".to_owned(), settings.node.clone())].into(),
        program: settings.program.clone(),
    }))
}

async fn sweep(plane: &Arc<Plane>, stop: CancellationToken) {
    let mut look = interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = look.tick() => plane.sweep(),
            () = stop.cancelled() => return,
        }
    }
}

/// Every request takes two descriptors; the usual soft limit is far below what is allowed.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
