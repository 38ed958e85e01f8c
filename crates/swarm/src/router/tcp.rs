//! TCP routes: a listener on the node for each, bytes carried to a container of its service.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use sampan_agents::relay::relay;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backend::Lease,
    plane::Plane,
    routes::{Routes, Tried},
    server::{accept_while_open, bind},
    sockets,
};

/// Backends that are tried for one connection.
const ATTEMPTS_MAX: usize = 5;

/// A listener that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    /// Its port.
    pub(super) port: u16,
    /// Why.
    pub(super) message: String,
}

/// The listeners of a router.
#[derive(Debug)]
pub(super) struct Listeners {
    address: IpAddr,
    plane: Arc<Plane>,
    open: Mutex<BTreeMap<u16, Arc<Open>>>,
    failures: Mutex<Vec<Failure>>,
}

#[derive(Debug)]
struct Open {
    stop: CancellationToken,
    done: TaskTracker,
}

impl Listeners {
    /// None yet.
    pub(super) fn new(address: IpAddr, plane: Arc<Plane>) -> Self {
        Self { address, plane, open: Mutex::default(), failures: Mutex::default() }
    }

    /// Opens and closes listeners as the table says. Connections of a route that is gone are cut; the others stay where
    /// they are. What cannot be opened is kept in [`Listeners::failures`]; calling this again tries again.
    pub(super) async fn follow(&self, routes: &Routes) {
        let gone: Vec<Arc<Open>> = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let ports: Vec<u16> = open.keys().filter(|port| !routes.tcp.contains_key(port)).copied().collect();
            ports.iter().filter_map(|port| open.remove(port)).collect()
        };
        for listener in gone {
            listener.stop.cancel();
            listener.done.wait().await;
        }
        let mut failures = Vec::new();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for port in routes.tcp.keys().filter(|port| !open.contains_key(port)).copied().collect::<Vec<_>>() {
            match bind(SocketAddr::new(self.address, port)) {
                Ok(listener) => {
                    open.insert(port, Arc::new(self.begin(listener, port)));
                }
                Err(error) => {
                    failures.push(Failure { port, message: format!("port {port} cannot be opened: {error}") });
                }
            }
        }
        drop(open);
        let mut known = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != failures {
            for failure in &failures {
                tracing::warn!("{}", failure.message);
            }
            *known = failures;
        }
    }

    fn begin(&self, listener: TcpListener, port: u16) -> Open {
        let (stop, done) = (CancellationToken::new(), TaskTracker::new());
        done.spawn(accept(listener, port, Arc::clone(&self.plane), stop.clone()));
        done.close();
        Open { stop, done }
    }

    /// What could not be opened.
    pub(super) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ports that are open.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Cuts everything.
    pub(super) fn stop(&self) {
        for listener in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            listener.stop.cancel();
        }
    }
}

async fn accept(listener: TcpListener, port: u16, plane: Arc<Plane>, stop: CancellationToken) {
    let address = listener.local_addr();
    let Ok(address) = address else { return };
    let accepted = |client, _, _, permit| {
        let (plane, stop) = (Arc::clone(&plane), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = carry(&plane, client, port) => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    };
    accept_while_open(listener, address, &plane, &stop, accepted).await;
}

async fn carry(plane: &Plane, client: TcpStream, port: u16) {
    sockets::prepare_client(&client);
    sockets::be_patient(&client);
    let (mut tried, mut door) = (Tried::default(), None);
    for attempt in 0..ATTEMPTS_MAX {
        plane.ready(&mut door).await;
        let routes = plane.routes();
        let Some(group) = routes.tcp.get(&port) else { return };
        if attempt == 0 {
            group.service.requests.fetch_add(1, Ordering::Relaxed);
        }
        let Some(backend) = group.pick(&tried, false).or_else(|| group.pick(&tried, true)) else { break };
        let lease = Lease::stream(backend, &group.service);
        match plane.dial(backend.address).await {
            Ok(stream) => {
                sockets::be_patient(&stream);
                backend.succeeded();
                drop(routes);
                if let Err(error) = relay(client, stream).await {
                    tracing::debug!(port, service = lease.service.name, %error, "a connection broke");
                }
                return;
            }
            Err(error) => {
                tracing::debug!(port, backend = backend.id, %error, "a backend cannot be reached");
                plane.counters.connect_failures.fetch_add(1, Ordering::Relaxed);
                backend.failed();
                tried.add(backend);
            }
        }
    }
    if let Some(group) = plane.routes().tcp.get(&port) {
        group.service.failed.fetch_add(1, Ordering::Relaxed);
    }
}
