//! The server's side of all tunnels: admits agents, keeps their latest status, hands out clients.

use std::{
    collections::HashMap,
    fmt, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixListener,
    sync::{Semaphore, broadcast},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    AgentClient,
    handshake::{self, Hello, Verdict},
    mux,
};
use crate::spec::NodeStatus;

/// Connections that may be in the handshake at once; more wait in the socket's backlog.
const HANDSHAKES_MAX: usize = 64;
const CHANGES_QUEUE: usize = 4096;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells whether a machine id and a token belong together. Called within the handshake, so it must not block for long.
pub type Verify = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// All connected agents.
pub struct AgentHub {
    agents: Mutex<Agents>,
    changes: broadcast::Sender<String>,
    verify: Verify,
    socket_path: PathBuf,
    handshakes: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Agents {
    connected: HashMap<String, Connected>,
    /// Tells a machine's connections apart.
    generation: u64,
}

struct Connected {
    generation: u64,
    client: AgentClient,
    status: Option<NodeStatus>,
    stop: CancellationToken,
}

impl fmt::Debug for AgentHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentHub").field("socket_path", &self.socket_path).finish_non_exhaustive()
    }
}

impl AgentHub {
    /// Listens on a Unix socket (replacing a stale file) that every local user may connect to: tokens decide. Call it
    /// within a Tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(socket_path: &Path, verify: Verify) -> io::Result<Arc<Self>> {
        match std::fs::remove_file(socket_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket_path)?;
        std::fs::set_permissions(socket_path, std::fs::Permissions::from_mode(0o666))?;
        let hub = Arc::new(Self {
            agents: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES_QUEUE),
            verify,
            socket_path: socket_path.to_owned(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        hub.tasks.spawn(Arc::clone(&hub).listen(listener));
        Ok(hub)
    }

    /// Whether that machine's agent is connected.
    pub fn is_connected(&self, machine: &str) -> bool {
        self.lock().connected.contains_key(machine)
    }

    /// Ids of all connected machines.
    pub fn connected(&self) -> Vec<String> {
        self.lock().connected.keys().cloned().collect()
    }

    /// A client for that machine, while its agent is connected.
    pub fn agent(&self, machine: &str) -> Option<AgentClient> {
        self.lock().connected.get(machine).map(|agent| agent.client.clone())
    }

    /// The latest status of a connected machine, without a round trip. `None`: not connected, or not heard from yet.
    pub fn status(&self, machine: &str) -> Option<NodeStatus> {
        self.lock().connected.get(machine)?.status.clone()
    }

    /// Ids of machines as they connect, disconnect or change their status. A receiver that lags misses some and must look
    /// at everything again.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// Ends every connection and removes the socket. Agents keep trying to come back.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(SHUTDOWN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some agent connections did not end in time");
        }
        if let Err(error) = std::fs::remove_file(&self.socket_path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.socket_path.display(), %error, "the agents' socket could not be removed");
        }
    }

    /// Serves one connection that an agent opened, over whatever carries bytes, until it ends.
    pub async fn serve<S>(self: Arc<Self>, io: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let verify = Arc::clone(&self.verify);
        let verdict = move |hello: &Hello| match verify(&hello.machine_id, &hello.token) {
            true => Verdict::Welcome,
            false => Verdict::Unknown,
        };
        self.serve_if(io, verdict).await;
    }

    /// As [`AgentHub::serve`], of an agent that has proved by other means which machine it is: `is_member` says whether
    /// that machine is still wanted.
    pub async fn serve_proved<S>(self: Arc<Self>, io: S, machine: &str, is_member: bool)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let verdict = |hello: &Hello| match (hello.machine_id == machine, is_member) {
            (false, _) => Verdict::Unknown,
            (true, true) => Verdict::Welcome,
            (true, false) => Verdict::Removed,
        };
        self.serve_if(io, verdict).await;
    }

    async fn serve_if<S>(self: Arc<Self>, io: S, verdict: impl FnOnce(&Hello) -> Verdict)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Ok(permit) = Arc::clone(&self.handshakes).acquire_owned().await else { return };
        let admitted = handshake::admit(io, verdict).await;
        drop(permit);
        let (io, hello) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                tracing::warn!(%error, "an agent was not admitted");
                return;
            }
        };
        let machine = hello.machine_id;
        let (opener, connection) = mux::opening(io);
        let client = AgentClient::new(machine.clone(), opener);
        let stop = self.stop.child_token();
        let generation = self.enter(&machine, client.clone(), stop.clone());
        tracing::info!(machine, boot_id = hello.boot_id, "agent {machine} connected");
        let reason = tokio::select! {
            ended = connection => ended.map_or_else(|error| error.to_string(), |()| "closed by the agent".to_owned()),
            error = self.follow(&machine, generation, &client) => error,
            () = stop.cancelled() => "replaced, or the server stops".to_owned(),
        };
        self.leave(&machine, generation);
        tracing::info!(machine, reason, "agent {machine} disconnected");
    }

    async fn listen(self: Arc<Self>, listener: UnixListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((io, _)) => {
                    let hub = Arc::clone(&self);
                    let stop = self.stop.clone();
                    // A connection still in its handshake holds the permit that bounds them.
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = hub.serve(io) => {}
                            () = stop.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an agent's connection could not be accepted");
                    sleep(ACCEPT_RETRY).await;
                }
            }
            // Do not take connections out of the backlog that could not shake hands now.
            let _ = self.handshakes.acquire().await;
        }
    }

    /// Keeps the machine's status up to date; returns why that stopped working.
    async fn follow(&self, machine: &str, generation: u64, client: &AgentClient) -> String {
        let mut revision = 0;
        loop {
            match client.status_after(revision).await {
                Ok(status) => {
                    let changed = status.revision != revision;
                    revision = status.revision;
                    if changed {
                        self.record(machine, generation, status);
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    fn enter(&self, machine: &str, client: AgentClient, stop: CancellationToken) -> u64 {
        let mut agents = self.lock();
        agents.generation += 1;
        let generation = agents.generation;
        let entry = Connected { generation, client, status: None, stop };
        if let Some(older) = agents.connected.insert(machine.to_owned(), entry) {
            older.stop.cancel();
        }
        drop(agents);
        self.announce(machine);
        generation
    }

    fn record(&self, machine: &str, generation: u64, status: NodeStatus) {
        let mut agents = self.lock();
        match agents.connected.get_mut(machine) {
            Some(agent) if agent.generation == generation => agent.status = Some(status),
            _ => return,
        }
        drop(agents);
        self.announce(machine);
    }

    fn leave(&self, machine: &str, generation: u64) {
        let mut agents = self.lock();
        if agents.connected.get(machine).is_none_or(|agent| agent.generation != generation) {
            return;
        }
        agents.connected.remove(machine);
        drop(agents);
        self.announce(machine);
    }

    fn announce(&self, machine: &str) {
        // Nobody listening is fine.
        let _ = self.changes.send(machine.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Agents> {
        // Every critical section leaves the map consistent, so a poisoned lock is still good.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
