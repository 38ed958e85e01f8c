//! What a router tells of itself: `GET /status` on the socket `status.sock` in its directory, which only root opens.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{net::UnixListener, sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    plane::Plane,
    tcp::{Failure, Listeners},
};

/// Name of the socket in the router's directory.
pub const STATUS_SOCKET: &str = "status.sock";
const CONNECTIONS_MAX: usize = 16;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How the router gets on with its master.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// The revision that was acknowledged last.
    pub(super) acknowledged: AtomicU64,
    /// Whether the last question was answered.
    pub(super) is_connected: AtomicBool,
}

/// A router's figures.
#[derive(Debug, Serialize)]
struct Status {
    revision: u64,
    acknowledged: u64,
    master_connected: bool,
    connections: usize,
    accepted: u64,
    requests: u64,
    unrouted: u64,
    connect_failures: u64,
    services: BTreeMap<String, ServiceStatus>,
    tcp_ports: Vec<u16>,
    tcp_failures: Vec<Failure>,
}

#[derive(Debug, Serialize)]
struct ServiceStatus {
    requests: u64,
    failed: u64,
    repeated: u64,
    in_flight: usize,
}

/// What the figures are read from.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) plane: Arc<Plane>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) feed: Arc<Feed>,
}

impl Sources {
    fn status(&self) -> Status {
        let routes = self.plane.routes();
        let counters = &self.plane.counters;
        let service = |service: &super::backend::Service| ServiceStatus {
            requests: service.requests.load(Ordering::Relaxed),
            failed: service.failed.load(Ordering::Relaxed),
            repeated: service.repeated.load(Ordering::Relaxed),
            in_flight: service.in_flight.load(Ordering::Relaxed),
        };
        Status {
            revision: routes.revision,
            acknowledged: self.feed.acknowledged.load(Ordering::Relaxed),
            master_connected: self.feed.is_connected.load(Ordering::Relaxed),
            connections: counters.open.load(Ordering::Relaxed),
            accepted: counters.accepted.load(Ordering::Relaxed),
            requests: counters.requests.load(Ordering::Relaxed),
            unrouted: counters.unrouted.load(Ordering::Relaxed),
            connect_failures: counters.connect_failures.load(Ordering::Relaxed),
            services: routes.services().map(|one| (one.name.clone(), service(one))).collect(),
            tcp_ports: self.listeners.ports(),
            tcp_failures: self.listeners.failures(),
        }
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        if path != "/status" {
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        match serde_json::to_vec(&self.status()) {
            Ok(json) => {
                *response.body_mut() = Full::from(json);
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            Err(error) => {
                tracing::error!(%error, "the status cannot be encoded");
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
        }
        response
    }
}

/// Opens the socket anew.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `stop`.
pub(super) async fn serve(listener: UnixListener, sources: Arc<Sources>, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accepting = async {
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_RETRY).await;
                continue;
            };
            let sources = Arc::clone(&sources);
            tokio::spawn(async move {
                let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                    let answer = sources.answer(request.uri().path());
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection =
                    http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a reader of the status went away");
                }
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
}
