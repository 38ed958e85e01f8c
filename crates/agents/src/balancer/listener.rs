//! One listening socket and the connections that came in by it.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Listener, ListenerStatus};
use crate::relay::relay;

/// Connections of one listener at a time; more wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 10_000;
const BACKLOG: u32 = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A backend that did not answer is tried last for so long.
const SHUN: Duration = Duration::from_secs(5);
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

#[derive(Debug)]
struct Backends {
    all: Vec<Backend>,
    /// Whose turn it is.
    next: AtomicUsize,
    started: Instant,
}

#[derive(Debug)]
struct Backend {
    address: SocketAddr,
    /// Tried last until then, in milliseconds since `started`; 0: not shunned.
    shunned_until_ms: AtomicU64,
}

impl Backends {
    fn new(addresses: &[SocketAddr]) -> Self {
        let backend = |address: &SocketAddr| Backend { address: *address, shunned_until_ms: AtomicU64::new(0) };
        Self { all: addresses.iter().map(backend).collect(), next: AtomicUsize::new(0), started: Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// All backends in the order in which they are to be tried: in turn, those that failed lately last.
    fn in_turn(&self) -> Vec<&Backend> {
        let count = self.all.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<&Backend> = (0..count).map(|step| &self.all[first.wrapping_add(step) % count]).collect();
        let now_ms = self.now_ms();
        order.sort_by_key(|backend| backend.shunned_until_ms.load(Ordering::Relaxed) > now_ms);
        order
    }

    /// Connects to the first backend that answers; otherwise says what the last one said.
    async fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotConnected, "the listener has no backends");
        for backend in self.in_turn() {
            let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(backend.address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    backend.shunned_until_ms.store(0, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => {
                    let until_ms = self.now_ms() + u64::try_from(SHUN.as_millis()).unwrap_or(0);
                    backend.shunned_until_ms.store(until_ms, Ordering::Relaxed);
                    last = io::Error::new(error.kind(), format!("{}: {error}", backend.address));
                }
            }
        }
        Err(last)
    }
}

impl OpenListener {
    /// Opens a listener. With `ahead` the address may be one that the host does not have yet (or has no longer for a
    /// while): a virtual IP.
    pub(super) fn open(wanted: &Listener, ahead: bool) -> io::Result<Self> {
        let socket = bind(wanted.listen, ahead)?;
        let shared = Arc::new(Shared {
            name: wanted.name.clone(),
            listen: wanted.listen,
            backends: Mutex::new(Arc::new(Backends::new(&wanted.backends))),
            open: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(listen(socket, Arc::clone(&shared), stop.clone()));
        Ok(Self { shared, stop, task })
    }

    /// Where new connections go from now on. Open connections stay where they are.
    pub(super) fn set_backends(&self, addresses: &[SocketAddr]) {
        let mut backends = self.shared.backends.lock().unwrap_or_else(PoisonError::into_inner);
        if !backends.all.iter().map(|backend| &backend.address).eq(addresses) {
            *backends = Arc::new(Backends::new(addresses));
        }
    }

    /// Stops listening and ends every connection.
    pub(super) async fn close(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }

    /// Its numbers.
    pub(super) fn status(&self) -> ListenerStatus {
        let Shared { name, listen, open, accepted, failed, .. } = &*self.shared;
        ListenerStatus {
            name: name.clone(),
            listen: *listen,
            open: open.load(Ordering::Relaxed),
            accepted: accepted.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
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
    let _ = prepare(&client).and_then(|()| prepare(&backend));
    if let Err(error) = relay(client, backend).await {
        tracing::debug!(listener, %peer, %error, "a connection broke");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_take_turns_and_failed_ones_come_last() {
        let addresses: Vec<SocketAddr> = (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let backends = Backends::new(&addresses);
        let ports = || backends.in_turn().iter().map(|backend| backend.address.port()).collect::<Vec<_>>();
        assert_eq!([ports(), ports(), ports()], [[1, 2, 3], [2, 3, 1], [3, 1, 2]]);
        backends.all[0].shunned_until_ms.store(u64::MAX, Ordering::Relaxed);
        assert_eq!([ports(), ports(), ports()], [[2, 3, 1], [2, 3, 1], [3, 2, 1]]);
        assert!(Backends::new(&[]).in_turn().is_empty());
    }
}
