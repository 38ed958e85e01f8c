//! Makes the machine what the spec says: one task that owns the processes and everything else that is changed.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{check::check, files, forward::Forwards, mirror::Mirror, routes, supervisor::Supervisor, unit::Context};
use crate::{
    disk,
    host::{HostAgent, payload, uplink::Uplinks},
    spec::{NodeSpec, ReceivedSpec},
};

const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often it is checked that the routes are still there; a link that goes down takes them with it.
const ROUTES_LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Docker kills a container 10 s after it asked it to stop.
const STOP_LIMIT: Duration = Duration::from_secs(7);
const SPEC_FILE: &str = "spec.json";
const SPEC_MODE: u32 = 0o600;

/// Why a spec was not accepted.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// It makes no sense.
    Invalid(String),
    /// It could not be stored.
    NotStored(io::Error),
}

/// What is wanted of the reconciler, and who wants to know when it is done.
pub(crate) enum Order {
    /// A new spec.
    Spec { spec: Box<ReceivedSpec>, done: oneshot::Sender<Result<(), Rejected>> },
    /// Everything stops and starts again.
    Restart { done: oneshot::Sender<()> },
    /// Everything stops, for good.
    Halt { done: oneshot::Sender<()> },
}

/// Settings of the reconciler.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) state_dir: PathBuf,
    pub(crate) images_dir: Option<PathBuf>,
    pub(crate) mirror_address: SocketAddr,
    /// On a host: the server that it fetches from.
    pub(crate) host: Option<Arc<HostAgent>>,
}

/// Owns what the spec describes.
pub(crate) struct Reconciler {
    settings: Settings,
    context: Context,
    supervisor: Supervisor,
    mirror: Option<Mirror>,
    forwards: Forwards,
    uplinks: Uplinks,
    spec: Option<Arc<ReceivedSpec>>,
    /// Hash of the spec on disk, for whoever asks.
    stored_hash: watch::Sender<String>,
    retry: Duration,
    /// When to look again.
    look: Instant,
}

impl Reconciler {
    pub(crate) fn new(settings: Settings, context: Context, stored_hash: watch::Sender<String>) -> Self {
        let supervisor = Supervisor::new(context.clone());
        let look = Instant::now();
        Self {
            settings,
            context,
            supervisor,
            mirror: None,
            forwards: Forwards::default(),
            uplinks: Uplinks::default(),
            spec: None,
            stored_hash,
            retry: RETRY_MIN,
            look,
        }
    }

    /// Applies the spec on disk, then every new one, until `stop`; then stops all processes.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>, stop: CancellationToken) {
        // A host that was leaving when it was switched off goes on with that.
        if self.settings.host.as_ref().is_none_or(|host| !host.is_leaving()) {
            self.load();
        }
        self.apply().await;
        loop {
            tokio::select! {
                Some(order) = orders.recv() => self.obey(order).await,
                () = sleep_until(self.look) => self.look_again().await,
                () = stop.cancelled() => break,
            }
        }
        self.supervisor.stop_all(STOP_LIMIT).await;
    }

    /// Whoever asked may have gone.
    async fn obey(&mut self, order: Order) {
        match order {
            Order::Spec { spec, done } => drop(done.send(self.accept(*spec).await)),
            Order::Restart { done } => {
                self.supervisor.stop_all(STOP_LIMIT).await;
                self.apply().await;
                let _ = done.send(());
            }
            Order::Halt { done } => {
                self.spec = None;
                self.supervisor.stop_all(STOP_LIMIT).await;
                self.mirror = None;
                self.forwards = Forwards::default();
                self.uplinks = Uplinks::default();
                let _ = done.send(());
            }
        }
    }

    fn load(&mut self) {
        let path = self.settings.state_dir.join(SPEC_FILE);
        let problem = match load_spec(&path) {
            Ok(spec) => {
                if let Some(spec) = spec {
                    self.stored_hash.send_replace(spec.hash().to_owned());
                    self.spec = Some(Arc::new(spec));
                }
                None
            }
            Err(reason) => {
                Some(format!("the stored spec {} is not usable, waiting for the server: {reason}", path.display()))
            }
        };
        self.context.board.set_problem("spec", problem);
    }

    /// Checks a new spec, stores and applies it. The disk writes while the machine starts already: the server, which has
    /// no answer yet, sends a spec again that a power cut took away.
    async fn accept(&mut self, spec: ReceivedSpec) -> Result<(), Rejected> {
        check(&spec).map_err(Rejected::Invalid)?;
        if self.settings.host.as_ref().is_some_and(|host| host.is_leaving()) {
            return Err(Rejected::Invalid("this host is leaving its cluster".into()));
        }
        let spec = Arc::new(spec);
        let hash = spec.hash().to_owned();
        let stored = if *self.stored_hash.borrow() == hash {
            None
        } else {
            let path = self.settings.state_dir.join(SPEC_FILE);
            let spec = Arc::clone(&spec);
            Some(spawn_blocking(move || disk::replace(&path, SPEC_MODE, spec.json(), true)))
        };
        self.spec = Some(spec);
        self.retry = RETRY_MIN;
        self.apply().await;
        let stored = match stored {
            Some(writing) => writing.await.map_err(io::Error::other).flatten(),
            None => Ok(()),
        };
        let problem = stored.as_ref().err().map(|error| format!("the spec could not be stored: {error}"));
        self.context.board.set_problem("spec", problem);
        stored.map_err(Rejected::NotStored)?;
        self.stored_hash.send_replace(hash);
        Ok(())
    }

    /// Makes the machine what the spec says, and decides when to look again.
    async fn apply(&mut self) {
        let mut pause = ROUTES_LOOK_INTERVAL;
        if let Some(spec) = self.spec.clone() {
            if self.apply_all(&spec).await {
                self.context.board.set_spec_hash(spec.hash());
                self.retry = RETRY_MIN;
            } else {
                pause = self.retry;
                self.retry = (self.retry * 2).min(RETRY_MAX);
            }
        }
        self.look = Instant::now() + pause;
    }

    async fn look_again(&mut self) {
        let in_force = self.context.board.status().spec_hash;
        match &self.spec {
            Some(spec) if in_force != spec.hash() || !routes::are_present(&spec.routes) => self.apply().await,
            _ => self.look = Instant::now() + ROUTES_LOOK_INTERVAL,
        }
    }

    /// Whether all of it could be done.
    async fn apply_all(&mut self, spec: &Arc<ReceivedSpec>) -> bool {
        let board = Arc::clone(&self.context.board);
        let (file_problems, other_problems) = {
            let spec = Arc::clone(spec);
            spawn_blocking(move || set_up(&spec)).await.unwrap_or_else(|error| (vec![error.to_string()], vec![]))
        };
        board.set_problem("files", joined(&file_problems));
        board.set_problem("kernel", joined(&other_problems));
        if !file_problems.is_empty() {
            // A process without its configuration does harm.
            return false;
        }
        let fetched = self.fetch(spec).await;
        board.set_problem("payload", fetched.as_ref().err().cloned());
        if fetched.is_err() {
            return false;
        }
        let uplinks = self.uplinks.apply(&spec.uplinks, self.settings.host.as_ref(), &board).await;
        board.set_problem("uplinks", uplinks.as_ref().err().cloned());
        let mirror = self.apply_mirror(spec.registry_mirror).await;
        board.set_problem("mirror", mirror.as_ref().err().cloned());
        let forwards = self.forwards.apply(&spec.forwards).await;
        board.set_problem("forwards", forwards.as_ref().err().cloned());
        self.supervisor.apply(&spec.processes);
        let routes = routes::apply(&self.context.children, &spec.routes).await;
        board.set_problem("routes", routes.as_ref().err().cloned());
        routes.is_ok() && mirror.is_ok() && forwards.is_ok() && uplinks.is_ok()
    }

    /// Fetches what is missing of what a host needs.
    async fn fetch(&self, spec: &NodeSpec) -> Result<(), String> {
        if spec.payload.is_empty() {
            return Ok(());
        }
        let host = self.settings.host.as_ref().ok_or("this machine is no host and fetches nothing")?;
        payload::ensure(host.server(), &spec.payload).await
    }

    async fn apply_mirror(&mut self, wanted: bool) -> Result<(), String> {
        if !wanted {
            self.mirror = None;
            return Ok(());
        }
        if self.mirror.is_none() {
            let directory = self.settings.images_dir.clone();
            let directory = directory.ok_or("registry mirror: this machine has no image directory")?;
            let address = self.settings.mirror_address;
            let mirror = Mirror::start(address, directory).await;
            self.mirror = Some(mirror.map_err(|error| format!("registry mirror on {address}: {error}"))?);
        }
        Ok(())
    }
}

fn load_spec(path: &Path) -> Result<Option<ReceivedSpec>, String> {
    let json = match std::fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let spec = ReceivedSpec::read(json.into()).map_err(|error| error.to_string())?;
    check(&spec)?;
    Ok(Some(spec))
}

/// Problems with files, and those that are only reported.
fn set_up(spec: &NodeSpec) -> (Vec<String>, Vec<String>) {
    let file_problems = files::write_all(&spec.files);
    let mut other_problems = files::set_sysctls(Path::new("/proc/sys"), &spec.sysctls);
    if let Some(zone) = &spec.timezone {
        other_problems.extend(files::set_timezone(Path::new("/"), zone).err());
    }
    (file_problems, other_problems)
}

fn joined(problems: &[String]) -> Option<String> {
    if problems.is_empty() { None } else { Some(problems.join("; ")) }
}
