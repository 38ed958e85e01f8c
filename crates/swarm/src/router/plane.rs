//! What all connections of a router share: the table in force, the way into the overlay, counters.
//!
//! ## When a revision is acknowledged
//! A request holds the table that it asked from its choice of a backend until its head has been handed to the backend's
//! socket; a further attempt asks the table that is then in force. [`Plane::install`] puts the new table in place, closes
//! what waits for backends that are gone, waits until nobody holds the old table any more, then (for [`DRAIN_GRACE`] at
//! most) until requests under way at the backends that are gone have ended. Only then the master is told. So a container
//! that is stopped after the acknowledgement gets no new request, and in the usual case is at work on none. Streams
//! (upgraded connections, TCP) go on for as long as both ends want.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    backend::Backend,
    link::Link,
    multiplex::Channel,
    routes::{Released, Routes},
    sockets,
    table::RouteTable,
};
use crate::door::OverlayDialer;

/// Requests at backends that a table takes out have so long before the table is acknowledged all the same.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// A request waits so long for a way into the overlay: an engine that is restarted takes some 15 s.
const DOOR_TIMEOUT: Duration = Duration::from_secs(20);
/// Attempts to connect end long before; a request that holds the old table for longer is a defect and must not block the
/// next table.
const RELEASE_MAX: Duration = Duration::from_secs(15);

/// Shared by everything in a router.
#[derive(Debug)]
pub(super) struct Plane {
    routes: RwLock<Arc<Routes>>,
    released: Mutex<Option<Released>>,
    dialer: Arc<dyn OverlayDialer>,
    /// Counters.
    pub(super) counters: Counters,
}

/// Since the router's start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Connections of clients.
    pub(super) accepted: AtomicU64,
    /// Those that are open.
    pub(super) open: AtomicUsize,
    /// Requests.
    pub(super) requests: AtomicU64,
    /// Requests without a route.
    pub(super) unrouted: AtomicU64,
    /// Attempts to connect to a backend that failed.
    pub(super) connect_failures: AtomicU64,
}

impl Plane {
    /// A plane without routes.
    pub(super) fn new(dialer: Arc<dyn OverlayDialer>) -> Self {
        let (routes, released) = Routes::new(&RouteTable::default(), None);
        Self {
            routes: RwLock::new(routes),
            released: Mutex::new(Some(released)),
            dialer,
            counters: Counters::default(),
        }
    }

    /// The table in force.
    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a table in force. When it answers, no request that asked the table before is still to be sent.
    pub(super) async fn install(&self, table: &RouteTable) {
        let before = self.routes();
        let (next, next_released) = Routes::new(table, Some(&before));
        let gone = before.without(&next);
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = next;
        drop(before);
        for backend in &gone {
            backend.retire();
        }
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner).replace(next_released);
        if let Some(released) = released
            && timeout(RELEASE_MAX, released).await.is_err()
        {
            tracing::warn!(revision = table.revision, "a request of the table before has still not been sent");
        }
        if timeout(DRAIN_GRACE, join_all(gone.iter().map(|backend| backend.quiet()))).await.is_err() {
            tracing::debug!(revision = table.revision, "requests go on at backends that are gone");
        }
    }

    /// Waits for a way into the overlay, [`DOOR_TIMEOUT`] in all for a request. Before the table is asked: who waits here
    /// holds none. Without a way the attempt says why there is none.
    pub(super) async fn ready(&self, until: &mut Option<Instant>) {
        if !self.dialer.is_open() {
            let until = *until.get_or_insert_with(|| Instant::now() + DOOR_TIMEOUT);
            let _ = timeout_at(until, self.dialer.opened()).await;
        }
    }

    /// The way into the overlay.
    pub(super) fn dialer(&self) -> &dyn OverlayDialer {
        &*self.dialer
    }

    /// Closes connections that waited too long, and tries backends again that could not be reached.
    pub(super) fn sweep(self: &Arc<Self>) {
        let generation = self.dialer.generation();
        for backend in self.routes().backends() {
            backend.sweep(generation);
            if self.dialer.is_open() && backend.is_probe_due() {
                let (plane, backend) = (Arc::clone(self), Arc::clone(backend));
                tokio::spawn(async move {
                    match plane.dial(backend.address).await {
                        Ok(_) => backend.succeeded(),
                        Err(_) if plane.dialer.is_open() => backend.failed(),
                        Err(_) => {}
                    }
                });
            }
        }
    }

    /// A fresh connection.
    pub(super) async fn dial(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = self.dialer.connect(address).await?;
        sockets::prepare_backend(&stream);
        Ok(stream)
    }

    /// A connection for one HTTP/1.1 request: one that waits, or a fresh one. Large uploads get one of their own.
    pub(super) async fn link(&self, backend: &Backend, needs: Needs) -> std::io::Result<Box<Link>> {
        let generation = self.dialer.generation();
        if !needs.is_large
            && !needs.is_fresh
            && let Some(link) = backend.waiting(generation, needs.is_repeatable)
        {
            return Ok(link);
        }
        let stream = self.dial(backend.address).await?;
        Link::new(stream, generation, needs.is_large).await.map_err(std::io::Error::other)
    }

    /// An HTTP/2 connection: one that others use, or a fresh one.
    pub(super) async fn channel(&self, backend: &Backend) -> std::io::Result<Channel> {
        let generation = self.dialer.generation();
        if let Some(channel) = backend.multiplexed.channel(generation) {
            return Ok(channel);
        }
        let stream = self.dial(backend.address).await?;
        let channel = Channel::new(stream, generation).await.map_err(std::io::Error::other)?;
        backend.multiplexed.keep(&channel);
        Ok(channel)
    }
}

/// What a request needs of its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// It may be sent twice.
    pub(super) is_repeatable: bool,
    /// Its body is large or of unknown size.
    pub(super) is_large: bool,
    /// A connection that waited has just failed it.
    pub(super) is_fresh: bool,
}
