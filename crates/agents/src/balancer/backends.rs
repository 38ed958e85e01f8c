//! The backends of a listener: whose turn it is, who is well, and connecting to one of them.
//!
//! With a [`HealthCheck`] each backend is asked every second. One that fails twice is out: new connections go to others, and
//! those that it has are cut, so that clients come again. Where all are out, all are tried: the check may be what is wrong.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::HealthCheck;
use crate::{node::probe_succeeds, spec::Probe};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same while another backend can be tried: machines are near, one that does not answer in this time is ill.
const CONNECT_QUICKLY: Duration = Duration::from_millis(400);
/// A backend that did not answer is tried last for so long.
const SHUN: Duration = Duration::from_secs(5);
/// Each backend is asked so often how it is.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// It has so long to answer.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1500);
/// So many failures in a row, and a backend is out.
const FAILURES_MAX: u32 = 2;

#[derive(Debug)]
pub(super) struct Backends {
    all: Vec<Backend>,
    check: Option<HealthCheck>,
    /// Whose turn it is.
    next: AtomicUsize,
    started: Instant,
    /// Ends the checks.
    stop: CancellationToken,
}

#[derive(Debug)]
struct Backend {
    address: SocketAddr,
    /// Tried last until then, in milliseconds since `started`; 0: not shunned.
    shunned_until_ms: AtomicU64,
    health: Mutex<Health>,
}

/// What the checks say.
#[derive(Debug, Default)]
struct Health {
    failures: u32,
    /// Of the connections that it has; cancelled when it is out and somebody else is in.
    connections: CancellationToken,
}

impl Backend {
    fn is_out(&self) -> bool {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).failures >= FAILURES_MAX
    }
}

/// A connection to a backend.
pub(super) struct Connected {
    pub(super) stream: TcpStream,
    /// Cancelled when the backend is out.
    pub(super) cut: CancellationToken,
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Backends {
    /// Backends; with a check they are watched until the last owner lets go. What is known of those that were there before
    /// stays known.
    pub(super) fn new(addresses: &[SocketAddr], check: Option<&HealthCheck>, former: Option<&Self>) -> Arc<Self> {
        let known = |address: &SocketAddr| former?.all.iter().find(|backend| backend.address == *address);
        let backends = Arc::new(Self {
            all: addresses.iter().map(|address| Backend::new(*address, known(address))).collect(),
            check: check.cloned(),
            next: AtomicUsize::new(0),
            started: Instant::now(),
            stop: CancellationToken::new(),
        });
        if let Some(check) = check {
            let watched = Arc::downgrade(&backends);
            let (check, stop) = (check.clone(), backends.stop.clone());
            tokio::spawn(async move {
                let mut ticks = interval(CHECK_INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        _ = ticks.tick() => {}
                        () = stop.cancelled() => return,
                    }
                    // Whoever is gone needs no check any more.
                    let Some(backends) = watched.upgrade() else { return };
                    backends.check_all(&check).await;
                }
            });
        }
        backends
    }

    /// Whether these are the same backends, checked in the same way.
    pub(super) fn are(&self, addresses: &[SocketAddr], check: Option<&HealthCheck>) -> bool {
        self.check.as_ref() == check && self.all.iter().map(|backend| &backend.address).eq(addresses)
    }

    /// Backends that are out.
    pub(super) fn out(&self) -> Vec<SocketAddr> {
        self.all.iter().filter(|backend| backend.is_out()).map(|backend| backend.address).collect()
    }

    async fn check_all(&self, check: &HealthCheck) {
        let asked = self.all.iter().map(|backend| async {
            let probe = Probe::Http(format!("https://{}{}", backend.address, check.path));
            matches!(timeout(CHECK_TIMEOUT, probe_succeeds(&probe)).await, Ok(true))
        });
        let answers = join_all(asked).await;
        self.judge(&answers);
    }

    /// Counts the answers of one round; cuts the connections of those that are out while somebody is in.
    fn judge(&self, are_well: &[bool]) {
        for (backend, is_well) in self.all.iter().zip(are_well) {
            let mut health = backend.health.lock().unwrap_or_else(PoisonError::into_inner);
            health.failures = if *is_well { 0 } else { health.failures.saturating_add(1) };
            match health.failures {
                FAILURES_MAX => tracing::warn!(backend = %backend.address, "out: it failed {FAILURES_MAX} checks"),
                0 if health.connections.is_cancelled() => {
                    tracing::info!(backend = %backend.address, "in again");
                    health.connections = CancellationToken::new();
                }
                _ => {}
            }
        }
        if self.all.iter().any(|backend| !backend.is_out()) {
            for backend in self.all.iter().filter(|backend| backend.is_out()) {
                backend.health.lock().unwrap_or_else(PoisonError::into_inner).connections.cancel();
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// All backends in the order in which they are to be tried: in turn, those that failed lately last, those that are out
    /// at the very end.
    fn in_turn(&self) -> Vec<&Backend> {
        let count = self.all.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<&Backend> = (0..count).map(|step| &self.all[first.wrapping_add(step) % count]).collect();
        let now_ms = self.now_ms();
        order.sort_by_key(|backend| (backend.is_out(), backend.shunned_until_ms.load(Ordering::Relaxed) > now_ms));
        order
    }

    /// Connects to the first backend that answers; otherwise says what the last one said.
    pub(super) async fn connect(&self) -> io::Result<Connected> {
        let order = self.in_turn();
        let mut last = io::Error::new(io::ErrorKind::NotConnected, "the listener has no backends");
        // A machine that vanished without a word must not hold up those who could go elsewhere.
        if self.check.is_some() && order.len() > 1 {
            match self.try_each(&order, CONNECT_QUICKLY).await {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            }
        }
        match self.try_each(&order, CONNECT_TIMEOUT).await {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(last),
            outcome => outcome,
        }
    }

    async fn try_each(&self, order: &[&Backend], limit: Duration) -> io::Result<Connected> {
        let mut last = io::Error::new(io::ErrorKind::NotConnected, "the listener has no backends");
        for backend in order {
            let connected = timeout(limit, TcpStream::connect(backend.address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    backend.shunned_until_ms.store(0, Ordering::Relaxed);
                    let health = backend.health.lock().unwrap_or_else(PoisonError::into_inner);
                    // Where all are out and one was chosen all the same, it may serve until another one is in.
                    let was_cut = health.connections.is_cancelled();
                    let cut = if was_cut { CancellationToken::new() } else { health.connections.clone() };
                    return Ok(Connected { stream, cut });
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

impl Backend {
    fn new(address: SocketAddr, former: Option<&Self>) -> Self {
        let health = former.map_or_else(Health::default, |former| {
            let health = former.health.lock().unwrap_or_else(PoisonError::into_inner);
            Health { failures: health.failures, connections: health.connections.clone() }
        });
        Self { address, shunned_until_ms: AtomicU64::new(0), health: Mutex::new(health) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Arc<Backends> {
        let addresses: Vec<SocketAddr> = (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        Backends::new(&addresses, None, None)
    }

    fn ports(backends: &Backends) -> Vec<u16> {
        backends.in_turn().iter().map(|backend| backend.address.port()).collect()
    }

    #[test]
    fn backends_take_turns_and_failed_ones_come_last() {
        let backends = three();
        let three_times = || [ports(&backends), ports(&backends), ports(&backends)];
        assert_eq!(three_times(), [[1, 2, 3], [2, 3, 1], [3, 1, 2]]);
        backends.all[0].shunned_until_ms.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(three_times(), [[2, 3, 1], [2, 3, 1], [3, 2, 1]]);
        assert!(Backends::new(&[], None, None).in_turn().is_empty());
    }

    #[test]
    fn two_failures_in_a_row_and_a_backend_is_out() {
        let backends = three();
        let token = |index: usize| backends.all[index].health.lock().unwrap().connections.clone();
        let (first, second) = (token(0), token(1));
        backends.judge(&[false, true, true]);
        assert!(backends.out().is_empty() && !first.is_cancelled(), "once is nothing");
        backends.judge(&[false, true, true]);
        assert_eq!(backends.out().len(), 1);
        assert!(first.is_cancelled() && !second.is_cancelled());
        assert_eq!(ports(&backends).last(), Some(&1), "it is the last resort");
        backends.judge(&[true, true, true]);
        assert!(backends.out().is_empty() && !token(0).is_cancelled(), "new connections are not cut");
    }

    #[test]
    fn nobody_is_cut_while_nobody_is_in() {
        let backends = three();
        let tokens: Vec<CancellationToken> =
            backends.all.iter().map(|backend| backend.health.lock().unwrap().connections.clone()).collect();
        backends.judge(&[false; 3]);
        backends.judge(&[false; 3]);
        assert_eq!(backends.out().len(), 3);
        assert!(tokens.iter().all(|token| !token.is_cancelled()));
        backends.judge(&[false, false, true]);
        let cut: Vec<bool> = tokens.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(cut, [true, true, false]);
    }
}
