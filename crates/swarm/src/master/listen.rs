//! Connections: TLS for users and routers, the Unix socket for the server.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::UnixTime;
use sampan_agents::master::{MASTER_PORT, MasterConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    MasterError,
    dispatch::Master,
    strangers::{Stranger, Strangers},
};
use crate::fleet::tls;

/// Connections of users and routers at the same time; streams such as logs hold theirs for long.
const CONNECTIONS_MAX: usize = 4096;
/// Connections that have not shown a certificate yet, at the same time; beyond, the oldest goes.
const STRANGERS_MAX: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const HEADERS_MAX: usize = 100;
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// A pause when no connection can be accepted (no file descriptor left, for one).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Over the Unix socket.
    Server,
    /// With a certificate of the cluster.
    User,
    /// With a certificate of an engine: its address.
    Router(IpAddr),
}

/// The cluster's endpoint.
pub(crate) struct Endpoint {
    listener: TcpListener,
    tls: Arc<RwLock<tls::Endpoint>>,
    settings: watch::Receiver<Arc<MasterConfig>>,
}

impl Endpoint {
    pub(crate) async fn open(settings: watch::Receiver<Arc<MasterConfig>>) -> Result<Self, MasterError> {
        Self::open_at(settings, SocketAddr::from((Ipv4Addr::UNSPECIFIED, MASTER_PORT))).await
    }

    /// The same at another address.
    pub(crate) async fn open_at(
        mut settings: watch::Receiver<Arc<MasterConfig>>,
        address: SocketAddr,
    ) -> Result<Self, MasterError> {
        let config = settings.borrow_and_update().clone();
        let tls = tls::endpoint(&config.endpoint_tls, &config.router_ca)?;
        let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(&address, &error))?;
        Ok(Self { listener, tls: Arc::new(RwLock::new(tls)), settings })
    }

    /// Where it listens.
    #[cfg(test)]
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(crate) async fn serve(self, master: Arc<Master>) {
        tokio::join!(renew(self.settings, self.tls.clone()), accept(self.listener, self.tls, master));
    }
}

fn cannot_listen(address: &dyn std::fmt::Display, error: &io::Error) -> MasterError {
    MasterError::Listen { address: address.to_string(), reason: error.to_string() }
}

/// Puts new certificates in force for connections to come.
async fn renew(mut settings: watch::Receiver<Arc<MasterConfig>>, current: Arc<RwLock<tls::Endpoint>>) {
    while settings.changed().await.is_ok() {
        let config = settings.borrow_and_update().clone();
        match tls::endpoint(&config.endpoint_tls, &config.router_ca) {
            Ok(fresh) => *current.write().unwrap_or_else(PoisonError::into_inner) = fresh,
            Err(error) => tracing::error!(%error, "the endpoint's certificates cannot be used; the former stay"),
        }
    }
    std::future::pending::<()>().await;
}

async fn accept(listener: TcpListener, tls: Arc<RwLock<tls::Endpoint>>, master: Arc<Master>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let strangers = Strangers::new(STRANGERS_MAX);
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(greet(stream, peer, tls.clone(), strangers.take_in(), permit, master.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The handshake: who it is is known after it.
async fn greet(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Arc<RwLock<tls::Endpoint>>,
    stranger: Stranger,
    _permit: OwnedSemaphorePermit,
    master: Arc<Master>,
) {
    let shaken = time::timeout(HANDSHAKE_TIMEOUT, async {
        crate::fleet::watch_peer(&stream)?;
        let (config, users) = {
            let tls = tls.read().unwrap_or_else(PoisonError::into_inner);
            (tls.config.clone(), tls.users.clone())
        };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let caller = if is_user(&stream, &*users) { Caller::User } else { Caller::Router(peer.ip()) };
        Ok::<_, io::Error>((stream, caller))
    });
    let shaken = tokio::select! {
        shaken = shaken => shaken,
        () = stranger.turned_away() => {
            tracing::debug!(%peer, "a connection that said nothing made room for others");
            return;
        }
    };
    drop(stranger);
    match shaken {
        Ok(Ok((stream, caller))) => converse(stream, caller, master).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a handshake failed"),
        Err(_) => tracing::debug!(%peer, "a handshake took too long"),
    }
}

fn is_user(stream: &TlsStream<TcpStream>, users: &dyn rustls::server::danger::ClientCertVerifier) -> bool {
    let Some([own, others @ ..]) = stream.get_ref().1.peer_certificates() else { return false };
    users.verify_client_cert(own, others, UnixTime::now()).is_ok()
}

async fn converse<S>(stream: S, caller: Caller, master: Arc<Master>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let master = master.clone();
        async move { Ok::<_, std::convert::Infallible>(master.answer(caller, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The socket of the server.
pub(crate) struct Socket(UnixListener);

impl Socket {
    pub(crate) fn open(path: &Path) -> Result<Self, MasterError> {
        let wrong = |error: io::Error| cannot_listen(&path.display(), &error);
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(wrong)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(wrong)?;
        Ok(Self(listener))
    }

    pub(crate) async fn serve(self, master: Arc<Master>) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = connections.clone().acquire_owned().await else { return };
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let master = master.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        converse(stream, Caller::Server, master).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
