//! A client of one engine: HTTP/1.1 over mutual TLS or the local Unix socket, with connections kept for the next call.

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body as _, Frame, Incoming, SizeHint},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::wire::{self, Body};
use crate::model::Refusal;

/// Reaching an engine: TCP, then TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Calls that do no work in the engine.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read as a whole (lists of thousands of containers or images).
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Connections that wait for the next call.
const IDLE_MAX: usize = 8;

/// Client side of TLS towards the engines; replaced when the files change.
pub(crate) type SharedTls = Arc<RwLock<Arc<ClientConfig>>>;

/// Where an engine listens.
#[derive(Clone)]
pub(crate) enum Target {
    /// The engine of this machine.
    Unix(PathBuf),
    /// The engine of a node.
    Tls { address: SocketAddr, tls: SharedTls },
}

/// A client of one engine.
pub(crate) struct Client {
    /// Its name, for messages.
    name: String,
    target: Target,
    idle: Arc<Mutex<Vec<SendRequest<Body>>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(name: impl Into<String>, target: Target) -> Self {
        Self { name: name.into(), target, idle: Arc::default() }
    }

    /// Sends a request and answers as soon as the head of the answer is there. Its body is the engine's stream; the
    /// connection is kept once that has been read to its end. An upgrade is in the answer's extensions.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let host = HeaderValue::from_static("engine");
        request.headers_mut().insert(header::HOST, host);
        while let Some(mut sender) = self.take_idle() {
            if sender.is_closed() || sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.keep(sender, response)),
                // The engine had closed this connection; nothing was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.failed(&error.into_error())),
                },
            }
        }
        let mut sender = timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| self.failed(&format_args!("no connection within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|error| self.failed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.failed(&error))?;
        Ok(self.keep(sender, response))
    }

    /// A call whose answer is read as a whole. Statuses from 400 on are refusals with the engine's message.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Refusal> {
        self.call_within(method, path, body, CALL_TIMEOUT).await
    }

    /// The same with another time limit.
    pub(crate) async fn call_within(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Value, Refusal> {
        let work = async {
            let response = self.send(json_request(method, path, body)?).await?;
            let bytes = self.read(response).await?;
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&bytes).or_else(|error| match bytes.as_ref() {
                b"OK" => Ok(Value::Null),
                _ => Err(Refusal::internal(format!("{} answered what is not JSON to {path}: {error}", self.name))),
            })
        };
        let late = || self.failed(&format_args!("no answer within {} s", limit.as_secs()));
        timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// The whole body of an answer, or the engine's refusal.
    pub(crate) async fn read(&self, response: Response<Body>) -> Result<Bytes, Refusal> {
        let response = self.accepted(response).await?;
        wire::collect(response.into_body(), ANSWER_MAX).await.map_err(|error| self.failed(&error))
    }

    /// Passes an answer below 400; anything else becomes a refusal with the engine's status and message.
    pub(crate) async fn accepted(&self, response: Response<Body>) -> Result<Response<Body>, Refusal> {
        let status = response.status();
        if status.as_u16() < 400 {
            return Ok(response);
        }
        let bytes = wire::collect(response.into_body(), 64 * 1024).await.map_err(|error| self.failed(&error))?;
        Err(Refusal::new(status, message(&bytes)))
    }

    /// `GET path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.call(Method::GET, path, None).await
    }

    /// `POST path`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `DELETE path`; what is gone is fine.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Refusal> {
        match self.call(Method::DELETE, path, None).await {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Forgets kept connections: those to an engine that went away would each cost a time-out.
    pub(crate) fn forget(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn failed(&self, why: &dyn fmt::Display) -> Refusal {
        Refusal::unavailable(format!("the engine of {} does not answer: {why}", self.name))
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, sender: SendRequest<Body>, response: Response<Incoming>) -> Response<Body> {
        let reusable = response.status() != StatusCode::SWITCHING_PROTOCOLS;
        let idle = self.idle.clone();
        let sender = reusable.then_some(sender);
        response.map(|incoming| Kept { incoming, sender, idle }.boxed_unsync())
    }

    async fn connect(&self) -> io::Result<SendRequest<Body>> {
        match &self.target {
            Target::Unix(path) => handshake(UnixStream::connect(path).await?).await,
            Target::Tls { address, tls } => {
                let tcp = TcpStream::connect(address).await?;
                super::sockets::watch_peer(&tcp)?;
                let config = tls.read().unwrap_or_else(PoisonError::into_inner).clone();
                let name = ServerName::IpAddress(address.ip().into());
                handshake(TlsConnector::from(config).connect(name, tcp).await?).await
            }
        }
    }
}

async fn handshake<S>(stream: S) -> io::Result<SendRequest<Body>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to an engine ended");
        }
    });
    Ok(sender)
}

/// A request with a JSON body.
pub(crate) fn json_request(method: Method, path: &str, body: Option<&Value>) -> Result<Request<Body>, Refusal> {
    let mut builder = Request::builder().method(method).uri(path);
    let body = match body {
        Some(value) => {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
            wire::full(value.to_string())
        }
        None => wire::nothing(),
    };
    builder.body(body).map_err(|error| Refusal::bad(format!("{path:?} is no address: {error}")))
}

/// Adds a header to a request, if there is a value that can be one.
pub(crate) fn set_header(headers: &mut HeaderMap, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

/// The message in the body of an engine's refusal.
fn message(body: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    match value.as_ref().and_then(|value| value["message"].as_str()) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// A body that gives its connection back at its end.
struct Kept {
    incoming: Incoming,
    sender: Option<SendRequest<Body>>,
    idle: Arc<Mutex<Vec<SendRequest<Body>>>>,
}

impl Kept {
    fn give_back(&mut self) {
        let Some(sender) = self.sender.take() else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !sender.is_closed() && idle.len() < IDLE_MAX {
            idle.push(sender);
        }
    }
}

impl hyper::body::Body for Kept {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(None) => {
                self.give_back();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.sender = None;
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            other => other.map_err(io::Error::other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Read to its end without being asked for more: the usual case with a known length. Else the connection closes.
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }
}
