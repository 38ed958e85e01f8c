//! The control socket: `PUT /config` and `GET /status`.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{Config, plane::Order};
use crate::http::{Body, failure, json, read_json, serve};

const CONNECTIONS_MAX: usize = 16;
const CONFIG_BYTES_MAX: usize = 8 * 1024 * 1024;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The bound socket.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    orders: mpsc::Sender<Order>,
}

impl Control {
    /// Binds the socket, for the owner of its directory only: the server need not run as the balancer's user.
    pub(super) fn bind(path: &Path, orders: mpsc::Sender<Order>) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        if let Some(directory) = path.parent() {
            let owner = std::fs::metadata(directory)?;
            if owner.uid() != nix::unistd::geteuid().as_raw() {
                chown(path, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        Ok(Self { listener, orders })
    }

    /// Serves until `stop`.
    pub(super) async fn serve(self, stop: CancellationToken) {
        tokio::select! {
            () = self.listen() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn listen(&self) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let orders = self.orders.clone();
                    tokio::spawn(async move {
                        let served = serve(stream, move |request| Box::pin(answer(orders.clone(), request)));
                        if let Err(error) = served.await {
                            tracing::debug!(%error, "a control connection broke");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a control connection could not be accepted");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

async fn answer(orders: mpsc::Sender<Order>, request: Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::PUT, "/config") => match read_json::<Config>(request.into_body(), CONFIG_BYTES_MAX).await {
            Ok(config) => match ask(&orders, |answer| Order::Apply(config, answer)).await {
                Some(Ok(report)) => json(StatusCode::OK, &report),
                Some(Err(error)) => failure(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("the configuration could not be stored, so it was not applied: {error}"),
                ),
                None => stopping(),
            },
            Err(refusal) => refusal,
        },
        (&Method::GET, "/status") => match ask(&orders, Order::Status).await {
            Some(status) => json(StatusCode::OK, &status),
            None => stopping(),
        },
        (method, path) => failure(StatusCode::NOT_FOUND, format!("the balancer has no {method} {path}")),
    }
}

async fn ask<T>(orders: &mpsc::Sender<Order>, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    orders.send(order(sender)).await.ok()?;
    answer.await.ok()
}

fn stopping() -> Response<Body> {
    failure(StatusCode::SERVICE_UNAVAILABLE, "the balancer is stopping")
}
