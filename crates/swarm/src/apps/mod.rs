//! Applications: projects and services as they are wanted, kept that way.
//!
//! A request changes what is recorded ([`store`]) and answers. A worker for each application compares the record with the
//! picture of the cluster ([`scene`]), decides the next steps ([`plan`], [`rolling`]), takes them ([`worker`], [`actions`]) and looks again. What it made is
//! found by labels, so that it may be killed at any instruction. [`health`] probes containers, [`routes`] makes the table of
//! the routers, [`scaler`] follows the measured use. [`api`] is the HTTP side.
//!
//! What the guide leaves open, and how it is here:
//! - `q` of the lists finds substrings of names (of ids too, for services).
//! - States: `launching`, `starting`, `scaling`, `updating`, `stopping`, `deleting` are on the way to something; `running` and
//!   `stopped` (also: a job that is done) stay; `failed` says that something fails again and again, and `message` what. It is
//!   tried on all the same.
//! - An update without a version keeps the version; only an equal version that was given is refused (409). What an update does
//!   not say (environment, description) stays. An update, a redeployment and a start let everything run.
//! - A blue-green update may keep services' names or change them. A service that is the same in both versions (and whose
//!   dependencies are) is shared by both and not made twice. A changed service of the same name is
//!   `{project}_{service}-v{version}` until the release ends; containers keep their names.
//! - `confirm-update?force=true` ends the release as soon as the new version is ready. `force=false` keeps the weights: old
//!   services without weight go, those with weight stay beside the new ones until the next update.
//! - `kill` with KILL leaves services stopped; any other signal is only sent.
//! - Without a restart policy a service is started again whenever it ends; a job says `restart: "no"`, or another service waits
//!   for its end (`service_completed_successfully`).
//! - A container on a lost node is replaced elsewhere unless it has a local named volume of its application and does not ask
//!   for `reschedule:on-node-failure`. The replacement has another number, since names are unique in the cluster.
//! - A container without a probe that is routed to counts as serving when its port takes connections for the first time.
//! - The first application that asks for a host and path gets the route; services of one application may share one by weight.

mod actions;
mod api;
mod body;
pub(crate) mod health;
mod intake;
mod marks;
pub(crate) mod names;
mod plan;
pub(crate) mod record;
mod rolling;
mod routes;
mod scaler;
pub(crate) mod scene;
mod show;
mod sight;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod wire;
mod worker;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use rand::Rng as _;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use routes::{ROUTER_SILENT_AFTER, RouteHub};

use crate::{
    door::OverlayDialer,
    model::{Engines, NodeHealth, Refusal, Usage, labels},
    router::table::RouteTable,
};
use health::{Board, Prober};
use routes::{Routes, Sources};
use sight::Sight;
use store::Store;

/// Seconds that a container has for stopping if nobody says anything else.
pub(crate) const STOP_SECONDS: u32 = 10;
/// Most containers of a service.
pub const SCALE_MAX: u32 = 1000;
/// Largest body of a request.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A forced deletion tries this often to remove a network or volume.
pub(crate) const FORCED_TRIES_MAX: u32 = 3;
/// How long the nodes have for their first answer before applications are looked after.
const FIRST_LOOK_WAIT: Duration = Duration::from_secs(20);
/// How long the first round of probes has before routes are published.
const FIRST_PROBES_WAIT: Duration = Duration::from_secs(15);
/// Routes are looked at again at the latest after this.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Steps taken at the same time, over all applications.
const STEPS_MAX: usize = 64;
/// Changes of the picture within this time are looked at together.
const GATHER: Duration = Duration::from_millis(20);

/// What applications need to know of their cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where they are recorded.
    pub state_dir: PathBuf,
    /// Cluster, `c…`.
    pub cluster_id: String,
    /// Region.
    pub region_id: String,
    /// Bare routing prefixes become `<prefix>.<cluster_id>.<region_id>.<suffix>`.
    pub routing_suffix: String,
}

impl Settings {
    fn domain(&self) -> String {
        format!("{}.{}.{}", self.cluster_id, self.region_id, self.routing_suffix)
    }
}

/// The applications of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Apps {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engines: Arc<dyn Engines>,
    pub(crate) dialer: Arc<dyn OverlayDialer>,
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) health: Arc<Board>,
    pub(crate) routes: Routes,
    pub(crate) sight: Sight,
    /// What workers have to say, by application.
    pub(crate) words: Mutex<HashMap<String, Words>>,
    /// The cluster has been looked at once.
    looked: watch::Sender<bool>,
    /// Use of resources by container, measured while somebody wants to know.
    pub(crate) usage: watch::Sender<Arc<BTreeMap<String, Usage>>>,
    pub(crate) steps: Arc<Semaphore>,
    /// Services whose figures do not reach their database, with the reason.
    pub(crate) unsent: Mutex<BTreeMap<String, String>>,
}

/// What a worker has to say about an application's services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// The last failure, by service id (empty: of the whole application).
    pub(crate) errors: BTreeMap<String, String>,
    /// Failures in a row, by service id.
    pub(crate) failures: BTreeMap<String, u32>,
    /// What services wait for.
    pub(crate) reasons: BTreeMap<String, String>,
}

impl Apps {
    /// Reads what is recorded. Nothing is done before [`Apps::run`].
    pub fn new(engines: Arc<dyn Engines>, dialer: Arc<dyn OverlayDialer>, settings: Settings) -> io::Result<Self> {
        let store = Store::open(&settings.state_dir)?;
        let inner = Inner {
            engines,
            dialer,
            settings,
            store,
            health: Arc::default(),
            routes: Routes::default(),
            sight: Sight::default(),
            words: Mutex::default(),
            looked: watch::Sender::new(false),
            usage: watch::Sender::new(Arc::default()),
            steps: Arc::new(Semaphore::new(STEPS_MAX)),
            unsent: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Answers a request for `/projects…`, `/services…` or `/service/…`, with or without a version in front of the path.
    pub async fn handle(&self, parts: &http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
        api::handle(&self.inner, parts, &body).await
    }

    /// The same for a request as it comes from a connection.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => self.handle(&parts, body.to_bytes()).await,
            Err(error) => api::unreadable(&*error),
        }
    }

    /// Whether [`Apps::handle`] answers for this path.
    pub fn takes(path: &str) -> bool {
        api::takes(path)
    }

    /// The routers' table. Revision 0 until the cluster has been looked at: it is not for routers then.
    pub fn route_table(&self) -> watch::Receiver<Arc<RouteTable>> {
        self.inner.routes.hub.table()
    }

    /// Answers routers.
    pub fn hub(&self) -> Arc<RouteHub> {
        self.inner.routes.hub.clone()
    }

    /// Listeners that the cluster's load balancer shall have: (name, port).
    pub fn tcp_listeners(&self) -> Vec<(String, u16)> {
        let records = self.inner.store.all();
        let services =
            records.iter().filter(|record| record.deletion.is_none()).flat_map(|record| record.services.values());
        let mut all: Vec<(String, u16)> =
            services.flat_map(|service| &service.service.extensions.lb).map(|lb| (lb.name.clone(), lb.port)).collect();
        all.sort();
        // Two names for one port are the server's to refuse, in words.
        all.dedup();
        all
    }

    /// Told whenever something else is wanted, [`Apps::tcp_listeners`] for example.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.store.changes()
    }

    /// Pulls the images of an application and makes all its containers anew.
    pub async fn redeploy(&self, project: &str) -> Result<(), Refusal> {
        intake::redeploy(&self.inner, project).await
    }

    /// Makes a service larger or smaller by this many containers; answers how many it shall have. It does not go below none
    /// or beyond [`SCALE_MAX`].
    pub async fn scale_by(&self, service: &str, by: i64) -> Result<u32, Refusal> {
        intake::scale_by(&self.inner, service, by).await
    }

    /// Keeps the applications until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let inner = self.inner.clone();
        let mut tasks = JoinSet::new();
        let prober =
            Prober { engines: inner.engines.clone(), dialer: inner.dialer.clone(), board: inner.health.clone() };
        tasks.spawn(prober.run());
        tasks.spawn(inner.clone().look_first());
        tasks.spawn(publish(inner.clone()));
        tasks.spawn(sweep(inner.clone()));
        tasks.spawn(scaler::run(inner.clone()));
        tasks.spawn(crate::monitor::run(inner.clone()));
        tasks.spawn(dispatch(inner));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = tasks.join_next() => tracing::error!("a part of the applications' controller ended; it is started again with the master"),
        }
    }
}

/// A pause that others do not take at the same time.
pub(crate) fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.8..1.2))
}

impl Inner {
    pub(crate) fn words(&self) -> MutexGuard<'_, HashMap<String, Words>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds the routers' table anew if anything changed; answers its revision.
    pub(crate) fn refresh_routes(&self) -> u64 {
        self.routes.refresh(|| {
            let view = self.engines.view();
            let ours = || view.containers.iter().filter(|container| container.labels.contains_key(names::UID));
            let health = ours().map(|container| (container.id.clone(), self.health.of(container))).collect();
            let unjudged = ours().filter(|container| self.health.is_unjudged(container));
            Sources {
                records: self.store.all(),
                nodes: self.sight.look(&view),
                unjudged: unjudged.map(|container| container.id.clone()).collect(),
                health,
                domain: self.settings.domain(),
                view,
            }
        })
    }

    /// Waits until the cluster has been looked at.
    pub(crate) async fn looked(&self) {
        // Fails only if the sender is gone, which is a part of `self`.
        let _ = self.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Before every node has answered once, containers that are there would be taken for missing.
    async fn look_first(self: Arc<Self>) {
        let mut changes = self.engines.changes();
        let deadline = Instant::now() + FIRST_LOOK_WAIT;
        loop {
            changes.borrow_and_update();
            let view = self.engines.view();
            if !view.nodes.is_empty() && view.nodes.iter().all(|node| node.health != NodeHealth::Pending) {
                break;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep_until(deadline) => break,
            }
        }
        self.looked.send_replace(true);
        std::future::pending().await
    }

    /// Before the first probes have ended, containers that serve would fall out of the table.
    async fn probe_first(&self) {
        let mut news = self.health.changes();
        let deadline = Instant::now() + FIRST_PROBES_WAIT;
        loop {
            news.borrow_and_update();
            let view = self.engines.view();
            let waits = |container: &std::sync::Arc<crate::model::Container>| {
                container.is_running() && marks::Marks::of(container).asks() && !self.health.knows(container)
            };
            if !view.containers.iter().filter(|container| container.labels.contains_key(names::UID)).any(waits) {
                return;
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = sleep_until(deadline) => return,
            }
        }
    }
}

/// Keeps the route table true.
async fn publish(inner: Arc<Inner>) {
    inner.looked().await;
    inner.probe_first().await;
    inner.routes.open();
    let (mut view, mut store, mut health) = (inner.engines.changes(), inner.store.changes(), inner.health.changes());
    loop {
        view.borrow_and_update();
        store.borrow_and_update();
        health.borrow_and_update();
        inner.refresh_routes();
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            changed = store.changed() => if changed.is_err() { return },
            changed = health.changed() => if changed.is_err() { return },
            // Time alone changes things, too: a container that was given long enough to begin to serve.
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// A worker for every application.
async fn dispatch(inner: Arc<Inner>) {
    inner.looked().await;
    let mut store = inner.store.changes();
    let mut workers: JoinSet<String> = JoinSet::new();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    loop {
        store.borrow_and_update();
        for record in inner.store.all() {
            if !known.contains_key(&record.name) {
                known.insert(record.name.clone(), record.uid.clone());
                workers.spawn(worker::run(inner.clone(), record.name.clone(), record.uid.clone()));
            }
        }
        tokio::select! {
            changed = store.changed() => if changed.is_err() { return },
            Some(ended) = workers.join_next() => match ended {
                Ok(name) => { known.remove(&name); }
                Err(error) => {
                    // Which one is not told: those that still run keep their names by their own.
                    tracing::error!(%error, "a worker of an application failed");
                    workers.abort_all();
                    while workers.join_next().await.is_some() {}
                    known.clear();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    store.mark_changed();
                }
            },
        }
    }
}

/// Containers of deleted applications, when a node that was away comes back with them.
async fn sweep(inner: Arc<Inner>) {
    inner.looked().await;
    let mut changes = inner.engines.changes();
    loop {
        changes.borrow_and_update();
        let tombstones = inner.store.tombstones();
        let view = inner.engines.view();
        let nodes = inner.sight.look(&view);
        let dead = |uid: &String| !tombstones.is_empty() && tombstones.contains(uid);
        let mut failed = false;
        for container in view.containers.iter().filter(|container| container.labels.get(names::UID).is_some_and(dead)) {
            if !nodes.get(&container.node).is_some_and(|node| node.healthy) {
                continue;
            }
            let project = container.labels.get(labels::PROJECT).map_or("", String::as_str);
            tracing::info!(container = container.name, project, "a container of a deleted application is removed");
            if let Err(error) = inner.engines.remove(&container.id, true, false).await {
                tracing::warn!(container = container.name, %error, "a container of a deleted application could not be removed");
                failed = true;
            }
        }
        let pause = if failed { Duration::from_secs(30) } else { Duration::from_secs(1) };
        tokio::time::sleep(pause).await;
        if !failed && changes.changed().await.is_err() {
            return;
        }
    }
}
