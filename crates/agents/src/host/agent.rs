//! What the agent on a host has beyond one in a container: its way to the server, and how it leaves.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{HostError, identity::Identity, leave, remote::Server, state::HostState, wire};
use crate::{
    node::reconcile::Order,
    tunnel::{
        dialer::{self, BACKOFF_MAX, BACKOFF_MIN, STEADY, jittered},
        handshake::{HandshakeError, Hello},
    },
};

/// After the report of what is left, so that it reaches the server.
const LINGER: Duration = Duration::from_secs(3);
/// How often the certificate is renewed; it is valid for much longer.
const RENEW_INTERVAL: Duration = Duration::from_secs(30 * 86_400);
/// And how soon again when that failed.
const RENEW_RETRY: Duration = Duration::from_secs(3600);

/// The agent of a host.
pub struct HostAgent {
    root: PathBuf,
    state: HostState,
    server: Arc<Server>,
    leaving: AtomicBool,
    report: Mutex<Option<Vec<String>>>,
    /// Everything is removed but the agent.
    left: CancellationToken,
    /// The server says that this host is none of its machines any more.
    removed: CancellationToken,
}

impl HostAgent {
    /// The agent of the host whose root is `root`, as it was told when it joined.
    ///
    /// # Errors
    /// When what it was told cannot be used.
    pub fn new(root: PathBuf, state: HostState) -> Result<Arc<Self>, HostError> {
        let server = Server::new(&state.server, &state.ca)?;
        server.identify(&state.certificate, &state.key)?;
        let leaving = AtomicBool::new(leave::is_begun(&root));
        Ok(Arc::new(Self {
            root,
            state,
            server: Arc::new(server),
            leaving,
            report: Mutex::default(),
            left: CancellationToken::new(),
            removed: CancellationToken::new(),
        }))
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whether the host is being left.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Ends when everything is removed but the agent.
    pub(crate) async fn left(&self) {
        self.left.cancelled().await;
    }

    /// Ends when the server says that this host is none of its machines any more.
    pub(crate) async fn removed(&self) {
        self.removed.cancelled().await;
    }

    /// Stops everything and removes it; answers what could not be removed. Asked again, it answers the same.
    pub(crate) async fn leave(&self, orders: &mpsc::Sender<Order>) -> Vec<String> {
        let mut report = self.report.lock().await;
        if let Some(report) = &*report {
            return report.clone();
        }
        self.leaving.store(true, Ordering::Relaxed);
        let mut leftovers = Vec::new();
        // First of all, so that a host that is switched off now goes on with it.
        if let Err(error) = leave::begin(&self.root) {
            leftovers.push(error.to_string());
        }
        let (done, halted) = oneshot::channel();
        if orders.send(Order::Halt { done }).await.is_ok() {
            let _ = halted.await;
        }
        let (root, state) = (self.root.clone(), self.state.clone());
        match spawn_blocking(move || leave::clean(&root, &state)).await {
            Ok(left) => leftovers.extend(left),
            Err(error) => leftovers.push(format!("the removal broke off: {error}")),
        }
        *report = Some(leftovers.clone());
        let left = self.left.clone();
        tokio::spawn(async move {
            sleep(LINGER).await;
            left.cancel();
        });
        leftovers
    }

    /// Keeps one tunnel to the server until `stop`.
    pub(crate) async fn keep_connected(&self, hello: &Hello, handler: dialer::Handler, stop: CancellationToken) {
        tokio::select! {
            () = self.connect_for_ever(hello, handler) => {}
            () = self.keep_certificate() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn connect_for_ever(&self, hello: &Hello, handler: dialer::Handler) {
        let mut backoff = BACKOFF_MIN;
        let mut last_problem = String::new();
        loop {
            let started = Instant::now();
            let outcome = match self.server.open("/v1/tunnel").await {
                Ok(io) => dialer::serve_tunnel(io, hello, &handler).await,
                Err(error) => Err(error.into()),
            };
            match outcome {
                Ok(()) if started.elapsed() > STEADY => backoff = BACKOFF_MIN,
                Ok(()) => {}
                Err(HandshakeError::Removed) => {
                    tracing::warn!("the server has removed this host from its cluster");
                    self.removed.cancel();
                    return std::future::pending().await;
                }
                Err(error) => {
                    let problem = error.to_string();
                    if problem != last_problem {
                        tracing::warn!(server = self.server.address(), "no connection to the server: {problem}");
                        last_problem = problem;
                    }
                }
            }
            sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Renews the certificate long before it expires.
    async fn keep_certificate(&self) {
        let mut pause = RENEW_RETRY;
        loop {
            sleep(pause).await;
            pause = match self.renew().await {
                Ok(()) => RENEW_INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "the host's certificate could not be renewed yet");
                    RENEW_RETRY
                }
            };
        }
    }

    async fn renew(&self) -> Result<(), HostError> {
        let identity = Identity::of_key(&self.state.key, &self.state.machine_id)?;
        let answer: wire::RenewAnswer =
            self.server.call("/v1/renew", None, &wire::RenewRequest { csr: identity.csr }).await?;
        self.server.identify(&answer.certificate, &self.state.key)?;
        let state = HostState { certificate: answer.certificate, ..self.state.clone() };
        state.save(&self.root)
    }
}
