//! A way into the cluster's overlay from outside of it: sockets made in the network namespace of a container that is attached.
//!
//! Overlay addresses are reachable only from containers that are attached to it. A [`Door`] keeps a placeholder container
//! (which does nothing, see [`pause`]) attached on the local engine. One thread enters that container's network namespace
//! and makes sockets there; a socket belongs for its life to the namespace that it was made in, so this process connects
//! and uses them like any other. When the container is another one (the engine was restarted, the container died), a
//! thread enters the new namespace and the old one ends; [`OverlayDialer::generation`] tells users that connections of
//! before are dead.

mod engine;
mod keeper;
mod namespace;
mod pause;
mod spec;

pub use pause::pause;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nix::errno::Errno;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use self::{keeper::Keeper, namespace::Namespace};

/// A connection is there after so long, or not at all; a lost first packet is within it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to addresses of the cluster's overlay.
#[async_trait]
pub trait OverlayDialer: fmt::Debug + Send + Sync + 'static {
    /// Connects within two seconds or says why not.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;

    /// Listens inside the overlay, at the way's own address there. What listened there before [`OverlayDialer::generation`]
    /// changed is reached by nobody any more.
    async fn listen(&self, _port: u16) -> io::Result<TcpListener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Waits until [`OverlayDialer::generation`] is another one.
    async fn moved(&self, _since: u64) {
        std::future::pending().await
    }

    /// Changes when connections made before lead nowhere any more.
    fn generation(&self) -> u64 {
        0
    }

    /// Whether connections can be made at present.
    fn is_open(&self) -> bool {
        true
    }

    /// Waits until connections can be made.
    async fn opened(&self) {}

    /// Waits until connections cannot be made.
    async fn shut(&self) {
        std::future::pending().await
    }
}

/// Connects from this process's own namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

#[async_trait]
impl OverlayDialer for Direct {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

/// Where a door shall lead.
#[derive(Clone, Debug)]
pub struct DoorSettings {
    /// The local engine.
    pub engine_socket: PathBuf,
    /// The overlay.
    pub network: String,
    /// Name of the placeholder container.
    pub name: String,
    /// Labels of it, beside `io.sampan.system`.
    pub labels: BTreeMap<String, String>,
    /// What runs in it, with the argument `pause`; must not need shared libraries. The own binary if not given.
    pub program: Option<PathBuf>,
}

/// What connections need to know of the door.
#[derive(Clone, Debug)]
enum State {
    /// Not open, and why.
    Shut(String),
    /// Open.
    Open(Arc<Namespace>),
}

impl State {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

/// A door, kept open for as long as this lives. The container stays when it is dropped.
#[derive(Debug)]
pub struct Door {
    state: watch::Receiver<State>,
    generation: Arc<AtomicU64>,
    /// Wakes the keeper.
    doubt: Arc<Notify>,
    _keeper: AbortOnDropHandle<()>,
}

impl Door {
    /// Begins to keep a door open. Answers at once; connections wait for the door within their time.
    #[must_use]
    pub fn open(settings: DoorSettings) -> Self {
        let (states, state) = watch::channel(State::Shut("it is being made".to_owned()));
        let (generation, doubt) = (Arc::<AtomicU64>::default(), Arc::<Notify>::default());
        let keeper = Keeper::new(settings, states, Arc::clone(&generation), Arc::clone(&doubt));
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeper.run()));
        Self { state, generation, doubt, _keeper: keeper }
    }

    /// Connects through the door, and through the next one if this one turns out to lead nowhere.
    async fn through(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut state = self.state.clone();
        loop {
            let namespace = match state.wait_for(State::is_open).await.as_deref() {
                Ok(State::Open(namespace)) => Arc::clone(namespace),
                Ok(State::Shut(_)) | Err(_) => return Err(io::Error::other("nobody keeps the door")),
            };
            let connected = match namespace.socket().await {
                Ok(socket) => TcpSocket::from_std_stream(socket).connect(address).await,
                Err(error) => Err(error),
            };
            match connected {
                // The namespace has lost its interface: the container has ended, or was taken out of the network.
                Err(error) if is_shut(&error) => {
                    self.doubt.notify_one();
                    state.changed().await.map_err(|_| error)?;
                }
                connected => return connected,
            }
        }
    }

    fn not_in_time(&self) -> io::Error {
        let reason = match &*self.state.borrow() {
            State::Open(_) => return io::ErrorKind::TimedOut.into(),
            State::Shut(reason) => reason.clone(),
        };
        io::Error::new(io::ErrorKind::NotConnected, format!("there is no way into the overlay: {reason}"))
    }
}

fn is_shut(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENODEV | Errno::ENETUNREACH | Errno::ENXIO))
}

#[async_trait]
impl OverlayDialer for Door {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let connected =
            timeout(CONNECT_TIMEOUT, self.through(address)).await.unwrap_or_else(|_| Err(self.not_in_time()));
        // Refused is a word of the other end; everything else may be the door's fault.
        if connected.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::ConnectionRefused) {
            self.doubt.notify_one();
        }
        connected
    }

    async fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let namespace = match &*self.state.borrow() {
            State::Open(namespace) => Arc::clone(namespace),
            State::Shut(reason) => return Err(io::Error::new(io::ErrorKind::NotConnected, reason.clone())),
        };
        TcpListener::from_std(namespace.listener(port).await?)
    }

    async fn moved(&self, since: u64) {
        // An error is the end of the keeper, which ends with this.
        let _ = self.state.clone().wait_for(|_| self.generation() != since).await;
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn is_open(&self) -> bool {
        self.state.borrow().is_open()
    }

    async fn opened(&self) {
        // An error is the end of the keeper, which ends with this.
        let _ = self.state.clone().wait_for(State::is_open).await;
    }

    async fn shut(&self) {
        let _ = self.state.clone().wait_for(|state| !state.is_open()).await;
    }
}
