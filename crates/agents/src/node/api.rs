//! The HTTP API that the server reaches through the tunnel.

use std::{io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    board::Board,
    check::is_process_name,
    log::Logs,
    reconcile::{Order, Rejected},
};
use crate::{
    host::HostAgent,
    http::{Body, empty, failure, full, json, malformed, query, read},
    relay::relay,
    spec::ReceivedSpec,
    tunnel::{SPEC_BYTES_MAX, address::DialAddress, client::DIAL_PROTOCOL},
};

const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const STATUS_WAIT_MAX: Duration = Duration::from_secs(60);
const LOG_LINES_DEFAULT: usize = 100;
const LOG_LINES_MAX: usize = 10_000;

/// What the API answers from.
pub(crate) struct Api {
    pub(crate) board: Arc<Board>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) stored_hash: watch::Receiver<String>,
    /// On a host: who can leave it.
    pub(crate) host: Option<Arc<HostAgent>>,
}

impl Api {
    /// Answers one request.
    pub(crate) fn handle(self: &Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        let api = Arc::clone(self);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            match (request.method(), path.as_str()) {
                (&Method::PUT, "/v1/spec") => api.put_spec(request).await,
                (&Method::GET, "/v1/spec/hash") => json(StatusCode::OK, &*api.stored_hash.borrow()),
                (&Method::GET, "/v1/status") => api.status(&request).await,
                (&Method::POST, "/v1/dial") => dial(request).await,
                (&Method::POST, "/v1/restart") => api.restart().await,
                (&Method::POST, "/v1/leave") => api.leave().await,
                (&Method::GET, path) if path.starts_with("/v1/logs/") => api.log(&request).await,
                (method, path) => failure(StatusCode::NOT_FOUND, format!("this agent has no {method} {path}")),
            }
        })
    }

    async fn put_spec(&self, request: Request<Incoming>) -> Response<Body> {
        let body = read(request.into_body(), SPEC_BYTES_MAX).await;
        let spec = match body.map(ReceivedSpec::read) {
            Ok(Ok(spec)) => spec,
            Ok(Err(error)) => return malformed(&error),
            Err(refusal) => return refusal,
        };
        let (done, outcome) = oneshot::channel();
        if self.orders.send(Order::Spec { spec: Box::new(spec), done }).await.is_err() {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping");
        }
        match outcome.await {
            Ok(Ok(())) => json(StatusCode::OK, &self.board.status()),
            Ok(Err(Rejected::Invalid(reason))) => failure(StatusCode::BAD_REQUEST, reason),
            Ok(Err(Rejected::NotStored(error))) => {
                failure(StatusCode::INTERNAL_SERVER_ERROR, format!("the spec could not be stored: {error}"))
            }
            Err(_) => failure(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping"),
        }
    }

    async fn restart(&self) -> Response<Body> {
        let (done, outcome) = oneshot::channel();
        let asked = self.orders.send(Order::Restart { done }).await;
        match (asked, outcome.await) {
            (Ok(()), Ok(())) => json(StatusCode::OK, &()),
            _ => failure(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping"),
        }
    }

    async fn leave(&self) -> Response<Body> {
        match &self.host {
            Some(host) => json(StatusCode::OK, &host.leave(&self.orders).await),
            None => failure(StatusCode::NOT_FOUND, "this machine is no host: it goes as a whole"),
        }
    }

    async fn status(&self, request: &Request<Incoming>) -> Response<Body> {
        let number = |name| query(request.uri(), name).map_or(Some(0), |text| text.parse::<u64>().ok());
        let (Some(after), Some(timeout_ms)) = (number("after"), number("timeout_ms")) else {
            return failure(StatusCode::BAD_REQUEST, "after and timeout_ms must be numbers");
        };
        let mut revision = self.board.revision();
        let wait = Duration::from_millis(timeout_ms).min(STATUS_WAIT_MAX);
        // A time-out answers with what there is.
        let _ = timeout(wait, revision.wait_for(|revision| *revision > after)).await;
        json(StatusCode::OK, &self.board.status())
    }

    async fn log(&self, request: &Request<Incoming>) -> Response<Body> {
        let name = request.uri().path().trim_start_matches("/v1/logs/").to_owned();
        let lines = query(request.uri(), "lines").map_or(Ok(LOG_LINES_DEFAULT), str::parse::<usize>);
        let (true, Ok(lines)) = (is_process_name(&name), lines) else {
            return failure(StatusCode::BAD_REQUEST, "a process name and a number of lines are needed");
        };
        let logs = Arc::clone(&self.logs);
        let process = name.clone();
        let read = tokio::task::spawn_blocking(move || logs.read(&process, lines.min(LOG_LINES_MAX))).await;
        match read.map_err(io::Error::other).flatten() {
            Ok(Some(text)) => {
                let mut response = Response::new(full(text));
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, text);
                response
            }
            Ok(None) => failure(StatusCode::NOT_FOUND, format!("process {name} has no log")),
            Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, format!("log of {name}: {error}")),
        }
    }
}

/// Connects first and upgrades then, so that a refusal is an ordinary answer.
async fn dial(mut request: Request<Incoming>) -> Response<Body> {
    let address = match query(request.uri(), "address").unwrap_or_default().parse::<DialAddress>() {
        Ok(address) => address,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    if request.headers().get(header::UPGRADE).is_none_or(|protocol| protocol != DIAL_PROTOCOL) {
        return failure(StatusCode::UPGRADE_REQUIRED, format!("ask for an upgrade to {DIAL_PROTOCOL}"));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let connected = match &address {
        DialAddress::Tcp { host, port } => {
            let connect = TcpStream::connect((host.as_str(), *port));
            connected(timeout(DIAL_TIMEOUT, connect).await).map(|stream| {
                // Costs latency only, should it fail.
                let _ = stream.set_nodelay(true);
                tokio::spawn(carry(upgrade, stream));
            })
        }
        DialAddress::Unix(path) => connected(timeout(DIAL_TIMEOUT, UnixStream::connect(path)).await).map(|stream| {
            tokio::spawn(carry(upgrade, stream));
        }),
    };
    if let Err(error) = connected {
        return failure(StatusCode::BAD_GATEWAY, format!("{address}: {error}"));
    }
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(DIAL_PROTOCOL));
    response
}

fn connected<S>(outcome: Result<io::Result<S>, tokio::time::error::Elapsed>) -> io::Result<S> {
    outcome.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

async fn carry<S>(upgrade: hyper::upgrade::OnUpgrade, stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin,
{
    match upgrade.await {
        Ok(upgraded) => {
            if let Err(error) = relay(TokioIo::new(upgraded), stream).await {
                tracing::debug!(%error, "a dialled connection broke");
            }
        }
        Err(error) => tracing::debug!(%error, "a dialled connection was not taken over"),
    }
}
