//! The controller: looks at each cluster whose pools scale by themselves, when it changes and when time makes a
//! difference, and at most once in `scan_interval`.
//!
//! What is remembered between two looks ([`memory`]) only makes it patient: a restart begins the time anew for which a
//! node was not needed, and forgets back-offs. How old nodes are and how many a pool has is recorded.

mod act;
mod decide;
mod memory;
mod scene;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sampan_store::{
    Change, Kind, Store,
    model::{Cluster, NodePool, Outcome, Timestamp},
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinSet,
};

use super::observe::{Eyes, TunnelEyes};
use crate::{
    kubernetes::{HostFacts, access::TunnelAccess},
    ports::Clock,
    reconcile::{BackOff, Driver, Pace, Reconcile, Status, Waker},
    service::Service,
};
pub(crate) use memory::Memory;
use scene::Scene;

/// A burst of pods is waited for so long, once it has begun.
const SETTLE: Duration = Duration::from_secs(1);
/// But not longer than this in all.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Clusters that are looked at at the same time.
const CONCURRENCY: usize = 4;
/// All clusters are looked at again after this time, in case a wake was lost.
const RESYNC: Duration = Duration::from_secs(300);

/// What the autoscaler works with.
pub struct AutoscalerParts {
    /// What is wanted.
    pub store: Store,
    /// The use cases.
    pub service: Arc<Service>,
    /// The clusters' APIs.
    pub access: Arc<TunnelAccess>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The host of the machines.
    pub host: Arc<HostFacts>,
}

/// The running autoscaler. Dropping it kills it at once, which is safe.
pub struct Autoscaler {
    driver: Driver,
    /// Aborted when dropped.
    _sources: JoinSet<()>,
}

impl Autoscaler {
    /// Starts it.
    pub fn start(parts: AutoscalerParts) -> Self {
        let eyes = Arc::new(TunnelEyes::new(parts.access));
        let started = parts.clock.now();
        Self::begin(Arc::new(Work {
            store: parts.store,
            service: parts.service,
            eyes,
            clock: parts.clock,
            host: parts.host,
            memory: Memory::default(),
            started,
        }))
    }

    pub(crate) fn begin(work: Arc<Work>) -> Self {
        let pace = Pace {
            back_off: BackOff { first: Duration::from_secs(1), max: Duration::from_secs(60) },
            resync: RESYNC,
            concurrency: CONCURRENCY,
            ..Pace::default()
        };
        let waker = Waker::new(&pace);
        let mut sources = JoinSet::new();
        sources
            .spawn(listen(Arc::clone(&work), waker.clone(), work.store.watch(), |change: Change| of_change(&change)));
        sources.spawn(listen(Arc::clone(&work), waker.clone(), work.eyes.changes(), Some));
        Self { driver: Driver::start(work, waker, pace), _sources: sources }
    }

    /// Begins nothing new, waits a little for the work in progress, and returns.
    pub async fn stop(self) {
        self.driver.stop().await;
    }
}

/// The cluster that a change of a record is about. Tasks change nothing that is looked at here.
fn of_change(change: &Change) -> Option<String> {
    match change.kind {
        Kind::Cluster => Some(change.id.to_string()),
        Kind::NodePool | Kind::Machine => change.parent.as_ref().map(ToString::to_string),
        _ => None,
    }
}

/// Wakes the clusters that messages are about; all of them when messages were lost.
async fn listen<M: Clone + Send + 'static>(
    work: Arc<Work>,
    waker: Waker<String>,
    mut messages: Receiver<M>,
    about: fn(M) -> Option<String>,
) {
    loop {
        match messages.recv().await {
            Ok(message) => {
                // Most clusters do not scale by themselves; they cost nothing more.
                if let Some(id) = about(message).filter(|id| work.memory.knows(id) || Scene::exists(&work.store, id)) {
                    waker.wake(id);
                }
            }
            Err(RecvError::Lagged(_)) => work.all().into_iter().for_each(|id| waker.wake(id)),
            Err(RecvError::Closed) => return,
        }
    }
}

/// What the controller does its work with.
pub(crate) struct Work {
    pub(crate) store: Store,
    pub(crate) service: Arc<Service>,
    pub(crate) eyes: Arc<dyn Eyes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) host: Arc<HostFacts>,
    pub(crate) memory: Memory,
    /// Since when.
    pub(crate) started: Timestamp,
}

#[async_trait]
impl Reconcile for Work {
    type Key = String;

    async fn reconcile(&self, cluster_id: &String) -> Outcome<Status> {
        let Some(scene) = Scene::load(&self.store, cluster_id) else {
            self.eyes.forget(cluster_id);
            self.memory.forget(cluster_id);
            return Ok(Status::Settled);
        };
        self.eyes.follow(cluster_id);
        if !scene.is_open() {
            // A change of the cluster's state wakes us.
            return Ok(Status::Settled);
        }
        let now = self.clock.now();
        if let Some(wait) = self.memory.wait(cluster_id, scene.interval(), now) {
            return Ok(Status::again(wait, "was looked at a moment ago"));
        }
        self.look(&scene, now).await
    }

    fn all(&self) -> Vec<String> {
        let clusters = self.store.list::<Cluster>();
        let concerned = |id: &String| self.memory.knows(id) || Scene::exists(&self.store, id);
        clusters.iter().map(|cluster| cluster.id.clone()).filter(concerned).collect()
    }
}

impl Work {
    async fn look(&self, scene: &Scene, now: Timestamp) -> Outcome<Status> {
        let id = &scene.cluster.id;
        // Pools below their minimum need no look at pods.
        if act::fill(self, scene, now).await? {
            return Ok(Status::Settled);
        }
        // When everything is known, we are woken.
        let Some(view) = self.eyes.view(id) else { return Ok(Status::Settled) };
        if view.overflows {
            act::complain(self, scene, "AutoscalingOverflow", "the cluster has more objects than the autoscaler keeps")
                .await?;
            return Ok(Status::again(RESYNC, "more objects than are kept"));
        }
        let waiting = view.pods.values().filter(|pod| pod.unschedulable).map(|pod| pod.uid.as_str());
        if self.memory.settles(id, waiting, now, SETTLE_MAX) {
            return Ok(Status::again(SETTLE, "waits for more pods of the same burst"));
        }
        let priorities = act::priorities(self, scene).await?;
        let inputs = decide::Inputs {
            scene,
            view: &view,
            host: &self.host,
            memory: self.memory.of(id),
            priorities: priorities.as_ref(),
            started: self.started,
            now,
        };
        let decision = decide::decide(&inputs);
        self.memory.remember(id, &decision, now);
        let next = decision.next;
        act::carry_out(self, scene, &view, decision, now).await?;
        Ok(next.map_or(Status::Settled, |after| Status::again(after.max(scene.interval()), "time makes a difference")))
    }
}

/// Whether a pool of the cluster scales by itself.
fn scales(store: &Store, cluster_id: &str) -> bool {
    store.list_of::<NodePool>(cluster_id).iter().any(|pool| pool.scales().is_some())
}
