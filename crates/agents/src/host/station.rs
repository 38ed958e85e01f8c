//! The server's side: one TLS port for everything that hosts ask, from the first line of the attach script to the tunnel.
//!
//! What decides is behind [`Desk`]: here is only transport. Without a certificate a caller gets what is no secret, and may
//! show a token; with one it is the machine that the certificate names.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::{
    remote::UPGRADE,
    wire::{JoinAnswer, JoinRequest, RenewAnswer, RenewRequest},
};
use crate::{
    http::{Body, empty, failure, full, json, read_json, serve},
    node::{layout::Layout, mirror},
    relay::relay,
};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const CHUNK_BYTES: usize = 128 * 1024;
const TOKEN_BYTES_MAX: usize = 256;

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a host is refused: an HTTP status, and words for the person at the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status.
    pub status: u16,
    /// In words.
    pub message: String,
}

/// What decides about hosts.
#[async_trait]
pub trait Desk: Send + Sync + 'static {
    /// The authority that hosts believe, PEM.
    fn authority(&self) -> String;
    /// How the server proves who it is to whoever reached it at `local`.
    fn tls(&self, local: IpAddr) -> io::Result<Arc<rustls::ServerConfig>>;
    /// The machine that a certificate (DER), signed by the authority, names.
    fn machine_of(&self, certificate: &[u8]) -> Option<String>;
    /// The installer that the attach line runs.
    fn script(&self) -> io::Result<String>;
    /// The agent's executable.
    fn agent(&self) -> PathBuf;
    /// A host with that token joins; `peer` is where it came from.
    async fn join(&self, token: &str, request: JoinRequest, peer: IpAddr) -> Result<JoinAnswer, Refusal>;
    /// A new certificate for a machine that has one.
    async fn renew(&self, machine: &str, request: RenewRequest) -> Result<RenewAnswer, Refusal>;
    /// Whether the machine is in a cluster.
    fn is_member(&self, machine: &str) -> bool;
    /// Where a part of the payload is.
    fn payload(&self, name: &str) -> Option<PathBuf>;
    /// The folder with the images, an OCI image layout.
    fn images(&self) -> PathBuf;
    /// A connection to the API server of the machine's cluster.
    async fn api(&self, machine: &str) -> io::Result<Box<dyn Stream>>;
    /// The machine's tunnel, until it ends.
    async fn tunnel(&self, machine: &str, io: Box<dyn Stream>);
}

struct Station<D> {
    desk: Arc<D>,
    layout: Arc<Layout>,
}

/// Who is at the other end.
#[derive(Clone)]
struct Caller {
    machine: Option<String>,
    peer: IpAddr,
}

/// Serves hosts until `stop`.
pub async fn listen<D: Desk>(listener: TcpListener, desk: Arc<D>, stop: CancellationToken) {
    let station = Arc::new(Station { layout: Arc::new(Layout::new(desk.images())), desk });
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let (station, stop) = (Arc::clone(&station), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = station.connection(tcp, peer) => {}
                        () = stop.cancelled() => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a host's connection could not be accepted");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl<D: Desk> Station<D> {
    async fn connection(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let _ = tcp.set_nodelay(true);
        let tls = match tcp.local_addr().and_then(|local| self.desk.tls(local.ip())) {
            Ok(tls) => tls,
            Err(error) => {
                tracing::warn!(%peer, %error, "a host cannot be served");
                return;
            }
        };
        let io = match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(tcp)).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => {
                tracing::info!(%peer, %error, "a host was not admitted");
                return;
            }
            Err(_) => return,
        };
        let certificate = io.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let machine = certificate.and_then(|certificate| self.desk.machine_of(certificate));
        let caller = Caller { machine, peer: peer.ip() };
        let served = serve(io, move |request| {
            let (station, caller) = (Arc::clone(&self), caller.clone());
            Box::pin(async move { station.answer(request, caller).await })
        });
        if let Err(error) = served.await {
            tracing::debug!(%peer, %error, "a host's connection ended early");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, caller: Caller) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/ca.pem") => text(self.desk.authority()),
            (&Method::GET, "/attach.sh") => match self.desk.script() {
                Ok(script) => text(script),
                Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error),
            },
            (&Method::GET, "/agent") => file(self.desk.agent()).await,
            (&Method::POST, "/v1/join") => self.join(request, caller).await,
            _ => match caller.machine {
                Some(machine) => self.answer_machine(request, &path, machine).await,
                None => failure(StatusCode::UNAUTHORIZED, "only machines of this installation may ask for this"),
            },
        }
    }

    async fn answer_machine(
        self: Arc<Self>,
        request: Request<Incoming>,
        path: &str,
        machine: String,
    ) -> Response<Body> {
        let upgrades = request.headers().get(header::UPGRADE).is_some_and(|protocol| protocol == UPGRADE);
        // One that was removed may still hear of that.
        if path == "/v1/tunnel" && upgrades {
            return self.upgraded(request, move |station, io| async move { station.desk.tunnel(&machine, io).await });
        }
        if !self.desk.is_member(&machine) {
            return failure(StatusCode::FORBIDDEN, "this machine is in no cluster");
        }
        match (request.method(), path) {
            (&Method::POST, "/v1/api") if upgrades => match self.desk.api(&machine).await {
                Ok(target) => self.upgraded(request, move |_, io| async move {
                    if let Err(error) = relay(io, target).await {
                        tracing::debug!(%error, "a host's connection to its cluster ended");
                    }
                }),
                Err(error) => failure(StatusCode::BAD_GATEWAY, error),
            },
            (&Method::POST, "/v1/renew") => match read_json(request.into_body(), REQUEST_BYTES_MAX).await {
                Ok(renew) => answered(self.desk.renew(&machine, renew).await),
                Err(refusal) => refusal,
            },
            (&Method::GET, path) if path.starts_with("/v1/payload/") => {
                match self.desk.payload(path.trim_start_matches("/v1/payload/")) {
                    Some(path) => file(path).await,
                    None => failure(StatusCode::NOT_FOUND, "this installation has no such payload"),
                }
            }
            (_, path) if path == "/v2" || path.starts_with("/v2/") => mirror::answer(&self.layout, request).await,
            (method, path) => failure(StatusCode::NOT_FOUND, format!("there is no {method} {path} for hosts")),
        }
    }

    async fn join(&self, request: Request<Incoming>, caller: Caller) -> Response<Body> {
        let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            token.and_then(|value| value.strip_prefix("Bearer ")).filter(|token| token.len() <= TOKEN_BYTES_MAX);
        let Some(token) = token.map(str::to_owned) else {
            return failure(StatusCode::UNAUTHORIZED, "a join token is needed; it is in the attach line");
        };
        match read_json(request.into_body(), REQUEST_BYTES_MAX).await {
            Ok(join) => answered(self.desk.join(&token, join, caller.peer).await),
            Err(refusal) => refusal,
        }
    }

    /// Answers that the protocol changes, and hands the connection to `work`.
    fn upgraded<F, W>(self: Arc<Self>, mut request: Request<Incoming>, work: W) -> Response<Body>
    where
        W: FnOnce(Arc<Self>, Box<dyn Stream>) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(io) => work(self, Box::new(TokioIo::new(io))).await,
                Err(error) => tracing::debug!(%error, "a host's connection was not taken over"),
            }
        });
        let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(UPGRADE));
        response
    }
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn answered<T: serde::Serialize>(outcome: Result<T, Refusal>) -> Response<Body> {
    match outcome {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            failure(status, refusal.message)
        }
    }
}

/// A file, streamed.
async fn file(path: PathBuf) -> Response<Body> {
    let opened = async {
        let file = File::open(&path).await?;
        let size = file.metadata().await?.len();
        io::Result::Ok((file, size))
    };
    match opened.await {
        Ok((file, size)) => {
            let stream = ReaderStream::with_capacity(file, CHUNK_BYTES);
            let mut response = Response::new(StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
            response
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a file for hosts cannot be read");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "a file for hosts cannot be read")
        }
    }
}
