//! One listening socket and the connections that came in by it.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{HealthCheck, Listener, ListenerStatus, backends::Backends};
use crate::relay::relay;

/// Connections of one listener at a time; more wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 10_000;
const BACKLOG: u32 = 1024;
/// Pause after an error of accept, e.g. when no descriptors are left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
const KEEPALIVE_IDLE_S: u32 = 60;
const KEEPALIVE_INTERVAL_S: u32 = 15;
const KEEPALIVE_PROBES: u32 = 4;

/// An open listener. Dropping it leaves its connections alone; [`OpenListener::close`] ends everything.
#[derive(Debug)]
pub(super) struct OpenListener {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    listen: SocketAddr,
    backends: Mutex<Arc<Backends>>,
    open: AtomicU64,
    accepted: AtomicU64,
    failed: AtomicU64,
}

impl OpenListener {
    /// Opens a listener. With `ahead` the address may be one that the host does not have yet (or has no longer for a
    /// while): a virtual IP.
    pub(super) fn open(wanted: &Listener, ahead: bool) -> io::Result<Self> {
        let socket = bind(wanted.listen, ahead)?;
        let shared = Arc::new(Shared {
            name: wanted.name.clone(),
            listen: wanted.listen,
            backends: Mutex::new(Backends::new(&wanted.backends, wanted.check.as_ref(), None)),
            open: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(listen(socket, Arc::clone(&shared), stop.clone()));
        Ok(Self { shared, stop, task })
    }

    /// Where new connections go from now on. Open connections stay where they are.
    pub(super) fn set_backends(&self, addresses: &[SocketAddr], check: Option<&HealthCheck>) {
        let mut backends = self.shared.backends.lock().unwrap_or_else(PoisonError::into_inner);
        if !backends.are(addresses, check) {
            *backends = Backends::new(addresses, check, Some(&backends));
        }
    }

    /// Stops listening and ends every connection.
    pub(super) async fn close(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }

    /// Its numbers.
    pub(super) fn status(&self) -> ListenerStatus {
        let Shared { name, listen, open, accepted, failed, backends } = &*self.shared;
        let out = backends.lock().unwrap_or_else(PoisonError::into_inner).out();
        ListenerStatus {
            name: name.clone(),
            listen: *listen,
            open: open.load(Ordering::Relaxed),
            accepted: accepted.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            out,
        }
    }
}

fn bind(address: SocketAddr, ahead: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if ahead {
        setsockopt(&socket.as_fd(), sockopt::IpFreebind, &true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn listen(socket: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let accepting = async {
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            match socket.accept().await {
                Ok((client, peer)) => {
                    let (shared, stop) = (Arc::clone(&shared), stop.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = carry(&shared, client, peer) => {}
                            () = stop.cancelled() => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(listener = shared.name, %error, "a connection could not be accepted");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
    drop(socket);
    connections.close();
    connections.wait().await;
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(open: &'a AtomicU64) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn carry(shared: &Shared, client: TcpStream, peer: SocketAddr) {
    shared.accepted.fetch_add(1, Ordering::Relaxed);
    let _open = Counted::new(&shared.open);
    let backends = Arc::clone(&shared.backends.lock().unwrap_or_else(PoisonError::into_inner));
    let listener = &shared.name;
    let backend = match backends.connect().await {
        Ok(backend) => backend,
        Err(error) => {
            shared.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(listener, %peer, %error, "no backend answered");
            return;
        }
    };
    // A connection without these options still works.
    let _ = prepare(&client).and_then(|()| prepare(&backend.stream));
    // The backends must not be watched on for the sake of a connection: that holds only their word to end it.
    drop(backends);
    tokio::select! {
        carried = relay(client, backend.stream) => if let Err(error) = carried {
            tracing::debug!(listener, %peer, %error, "a connection broke");
        },
        () = backend.cut.cancelled() => tracing::debug!(listener, %peer, "a connection was cut: its backend is out"),
    }
}

/// No delay for small writes; an end that vanished without a word is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    Ok(())
}
