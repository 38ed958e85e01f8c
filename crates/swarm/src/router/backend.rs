//! A container that serves, as a router knows it: what is under way there, whether it is avoided for a moment, and the
//! connections to it that wait for a next request. Outlives changes of the table as long as the container does.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::Rng as _;
use tokio::sync::Notify;

use super::{link::Link, multiplex::Multiplexed, session, table};

/// Connections of one backend that wait for a next request.
const IDLE_MAX: usize = 256;
/// A connection waits so long at most: servers close theirs after some seconds (five are usual), and a request that
/// crosses with the close may be lost.
const IDLE_AGE_MAX: Duration = Duration::from_secs(4);
/// What must not be sent twice goes out only on a connection that was used so lately.
const IDLE_AGE_MAX_UNREPEATABLE: Duration = Duration::from_secs(1);
/// A backend that could not be reached is tried again after so long, then after twice as long, …
const PROBE_FIRST: Duration = Duration::from_millis(250);
/// … and at least every so often.
const PROBE_MAX: Duration = Duration::from_secs(8);
/// A try ends by then.
const PROBE_TIME: Duration = Duration::from_secs(5);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the process first asked.
fn now_ms() -> u64 {
    as_ms(START.elapsed())
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

/// Requests and failures of a service. Outlives changes of the table.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// Service id.
    pub(super) name: String,
    /// Requests since the router's start.
    pub(super) requests: AtomicU64,
    /// Those that no backend answered, or whose answer broke off.
    pub(super) failed: AtomicU64,
    /// Requests that were sent again to another backend.
    pub(super) repeated: AtomicU64,
    /// Requests and streams under way.
    pub(super) in_flight: AtomicUsize,
}

/// A container.
#[derive(Debug)]
pub(super) struct Backend {
    /// Container id.
    pub(super) id: String,
    /// Address in the overlay.
    pub(super) address: SocketAddr,
    /// How sessions name it.
    pub(super) hash: u64,
    requests: AtomicUsize,
    streams: AtomicUsize,
    failures: AtomicU32,
    /// When it is to be tried again; 0: it is not avoided.
    probe_at_ms: AtomicU64,
    is_retired: AtomicBool,
    quiet: Notify,
    /// Boxed: they are large and move between here and their requests.
    #[allow(clippy::vec_box)]
    idle: Mutex<Vec<Box<Link>>>,
    /// Connections that carry many requests at once.
    pub(super) multiplexed: Multiplexed,
}

impl Backend {
    /// A backend of the table.
    pub(super) fn new(backend: &table::Backend) -> Self {
        Self {
            id: backend.id.clone(),
            address: backend.address,
            hash: session::hash(&backend.id),
            requests: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            probe_at_ms: AtomicU64::new(0),
            is_retired: AtomicBool::new(false),
            quiet: Notify::new(),
            idle: Mutex::default(),
            multiplexed: Multiplexed::default(),
        }
    }

    /// Requests and streams under way.
    pub(super) fn in_flight(&self) -> usize {
        self.requests.load(Ordering::Relaxed) + self.streams.load(Ordering::Relaxed)
    }

    /// Whether it could not be reached and has not been since. It is avoided for as long as there is another: its trying
    /// again is not left to requests, which would have to wait for it.
    pub(super) fn is_shunned(&self) -> bool {
        self.probe_at_ms.load(Ordering::Relaxed) != 0
    }

    /// Whether it is to be tried again now; if so, not again before that has ended.
    pub(super) fn is_probe_due(&self) -> bool {
        let (at, now) = (self.probe_at_ms.load(Ordering::Relaxed), now_ms());
        if at == 0 || at > now {
            return false;
        }
        self.probe_at_ms.store(now + as_ms(PROBE_TIME), Ordering::Relaxed);
        true
    }

    /// It could not be reached.
    pub(super) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(8);
        let pause = PROBE_FIRST.saturating_mul(1 << failures).min(PROBE_MAX);
        let pause = pause.mul_f64(rand::rng().random_range(0.75..1.25));
        self.probe_at_ms.store((now_ms() + as_ms(pause)).max(1), Ordering::Relaxed);
        self.forget_connections();
    }

    /// It could be reached.
    pub(super) fn succeeded(&self) {
        if self.is_shunned() {
            self.probe_at_ms.store(0, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A connection that waits and is still open.
    pub(super) fn waiting(&self, generation: u64, is_repeatable: bool) -> Option<Box<Link>> {
        let age_max = if is_repeatable { IDLE_AGE_MAX } else { IDLE_AGE_MAX_UNREPEATABLE };
        loop {
            let mut link = self.idle().pop()?;
            if link.is_usable(generation, age_max) {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for a next request.
    pub(super) fn keep(&self, link: Box<Link>) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX && !self.is_retired() {
            idle.push(link);
        }
    }

    /// Closes connections that waited too long, that the backend closed, or that go through a door that is gone.
    pub(super) fn sweep(&self, generation: u64) {
        self.idle().retain_mut(|link| link.is_usable(generation, IDLE_AGE_MAX));
        self.multiplexed.sweep(generation);
    }

    /// Closes the connections that wait; requests under way go on.
    pub(super) fn forget_connections(&self) {
        self.idle().clear();
        self.multiplexed.forget();
    }

    /// The table has it no more.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::SeqCst);
        self.forget_connections();
    }

    /// Whether the table has it no more.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::SeqCst)
    }

    /// Waits until no request is under way; streams are not waited for.
    pub(super) async fn quiet(&self) {
        loop {
            let told = self.quiet.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.requests.load(Ordering::SeqCst) == 0 {
                return;
            }
            told.await;
        }
    }

    #[allow(clippy::vec_box)] // as the field
    fn idle(&self) -> MutexGuard<'_, Vec<Box<Link>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request or stream under way; its end is counted however it ends.
#[derive(Debug)]
pub(super) struct Lease {
    /// Where it is.
    pub(super) backend: Arc<Backend>,
    /// Whose it is.
    pub(super) service: Arc<Service>,
    is_stream: bool,
}

impl Lease {
    /// A request.
    pub(super) fn new(backend: &Arc<Backend>, service: &Arc<Service>) -> Self {
        Self::begin(backend, service, false)
    }

    /// A connection without end in sight, which nobody waits for when the backend goes.
    pub(super) fn stream(backend: &Arc<Backend>, service: &Arc<Service>) -> Self {
        Self::begin(backend, service, true)
    }

    fn begin(backend: &Arc<Backend>, service: &Arc<Service>, is_stream: bool) -> Self {
        let count = if is_stream { &backend.streams } else { &backend.requests };
        count.fetch_add(1, Ordering::SeqCst);
        service.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { backend: Arc::clone(backend), service: Arc::clone(service), is_stream }
    }

    /// The request has become a stream.
    pub(super) fn into_stream(self) -> Self {
        Self::stream(&self.backend, &self.service)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.service.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_stream {
            self.backend.streams.fetch_sub(1, Ordering::SeqCst);
        } else if self.backend.requests.fetch_sub(1, Ordering::SeqCst) == 1 && self.backend.is_retired() {
            self.backend.quiet.notify_waiters();
        }
    }
}
