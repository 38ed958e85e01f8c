//! Use cases: each validates everything, records what is wanted together with its task in one transaction, and answers ids.
//!
//! They take inputs of their own (no wire types) and a verified [`RequestContext`]. They never wait for machines: the
//! controllers in `reconcile` make real what is recorded here. Nothing is written when anything is refused. Start
//! reading at [`Service`] and at [`cluster::create`].

mod addon;
pub mod attach;
mod change;
pub mod cluster;
pub mod configuration;
mod context;
pub mod credentials;
pub mod event;
mod fields;
mod host;
pub mod instance_type;
pub mod machine;
pub mod metadata;
pub mod network;
pub mod node;
pub mod node_pool;
pub mod quota;
mod settings;
pub mod subscription;
pub mod task;
pub mod trigger;
pub mod upgrade;
pub mod version;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use ipnet::Ipv4Net;
use sampan_store::{
    Store, Versioned,
    model::{Cluster, ClusterState, Fault, Outcome, Timestamp},
};

pub use context::{Nonce, RequestContext};
pub use settings::{NodeImage, Quotas, Settings, UnknownVersion};

use crate::{
    backup::Shelf,
    kubernetes::HostFacts,
    ports::{Applications, Clock, ClusterAccess, RangeSource},
};
use credentials::Credentials;

/// The use cases and what they need.
pub struct Service {
    store: Store,
    settings: Settings,
    clock: Arc<dyn Clock>,
    credentials: Arc<dyn Credentials>,
    /// Ranges that host routes and other networks use; new VPCs keep away from them.
    foreign_ranges: RwLock<Vec<Ipv4Net>>,
    /// Where they are asked for before anything is allocated.
    range_source: OnceLock<Arc<dyn RangeSource>>,
    /// Applications of clusters, for triggers.
    applications: OnceLock<Arc<dyn Applications>>,
    /// Where backups are.
    shelf: OnceLock<Shelf>,
    /// The clusters' APIs, for what only they know.
    access: OnceLock<Arc<dyn ClusterAccess>>,
    trigger_rates: trigger::Rates,
    /// The host of the machines, once it is known.
    host: OnceLock<Arc<HostFacts>>,
    /// Where hosts join, if they may.
    door: OnceLock<attach::HostDoor>,
    /// Changes that allocate are planned one after another; the store would only refuse and repeat them.
    planning: tokio::sync::Mutex<()>,
}

impl Service {
    /// Puts the service together.
    pub fn new(store: Store, settings: Settings, clock: Arc<dyn Clock>, credentials: Arc<dyn Credentials>) -> Self {
        Self {
            store,
            settings,
            clock,
            credentials,
            foreign_ranges: RwLock::default(),
            range_source: OnceLock::new(),
            applications: OnceLock::new(),
            shelf: OnceLock::new(),
            access: OnceLock::new(),
            trigger_rates: trigger::Rates::default(),
            host: OnceLock::new(),
            door: OnceLock::new(),
            planning: tokio::sync::Mutex::default(),
        }
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells which ranges are in use outside; call it again whenever that changes.
    pub fn set_foreign_ranges(&self, ranges: Vec<Ipv4Net>) {
        // Only whole values are put in under the lock, so poison says nothing.
        *self.foreign_ranges.write().unwrap_or_else(PoisonError::into_inner) = ranges;
    }

    /// Tells what the host of the machines can do; then events say where less is had than asked for. The first call counts.
    pub fn set_host(&self, facts: Arc<HostFacts>) {
        let _ = self.host.set(facts);
    }

    /// Says where hosts join; without it there are no attach scripts. The first call counts.
    pub fn set_host_door(&self, door: attach::HostDoor) {
        let _ = self.door.set(door);
    }

    /// Says where foreign ranges are asked for before anything is allocated; only the first source counts.
    pub fn set_range_source(&self, source: Arc<dyn RangeSource>) {
        let _ = self.range_source.set(source);
    }

    /// Says how applications of clusters are reached; only the first counts.
    pub fn set_applications(&self, applications: Arc<dyn Applications>) {
        let _ = self.applications.set(applications);
    }

    /// Says where backups of clusters are; only the first counts.
    pub fn set_shelf(&self, shelf: Shelf) {
        let _ = self.shelf.set(shelf);
    }

    /// Says how clusters are asked about themselves; only the first counts.
    pub fn set_access(&self, access: Arc<dyn ClusterAccess>) {
        let _ = self.access.set(access);
    }

    fn applications(&self) -> Outcome<&Arc<dyn Applications>> {
        self.applications.get().ok_or_else(|| Fault::unavailable("the server is still starting; try again in a moment"))
    }

    /// Looks again at what is in use outside. When that cannot be known now, what was seen last counts: the controllers
    /// find a clash when they make the network.
    async fn refresh_foreign_ranges(&self) {
        let Some(source) = self.range_source.get() else { return };
        match source.foreign_ranges().await {
            Ok(ranges) => self.set_foreign_ranges(ranges),
            Err(fault) => tracing::warn!(reason = %fault, "planning with the foreign ranges seen last"),
        }
    }

    fn foreign_ranges(&self) -> Vec<Ipv4Net> {
        self.foreign_ranges.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A cluster of the caller's account that is not deleted.
    ///
    /// # Errors
    /// ClusterNotFound.
    pub fn cluster(&self, ctx: &RequestContext, id: &str) -> Outcome<Arc<Versioned<Cluster>>> {
        self.any_cluster(ctx, id).and_then(
            |cluster| {
                if cluster.is_live() { Ok(cluster) } else { Err(Fault::no_cluster(id)) }
            },
        )
    }

    /// A cluster of the caller's account, also a deleted one: its log stays readable.
    fn any_cluster(&self, ctx: &RequestContext, id: &str) -> Outcome<Arc<Versioned<Cluster>>> {
        self.store
            .get::<Cluster>(id)
            .filter(|cluster| cluster.account_id == ctx.account_id)
            .ok_or_else(|| Fault::no_cluster(id))
    }

    /// A cluster whose nodes and settings may be changed now.
    fn changeable_cluster(&self, ctx: &RequestContext, id: &str) -> Outcome<Arc<Versioned<Cluster>>> {
        let cluster = self.cluster(ctx, id)?;
        // Adding and removing nodes are independent of each other, so one may begin while another goes on.
        if cluster.is_settled() || cluster.state == ClusterState::Scaling {
            return Ok(cluster);
        }
        let state = cluster_state_word(&cluster);
        Err(Fault::state(format!("cluster {id} is {state}; it can be changed when it is running")))
    }
}

/// The API's word for a cluster's state. The two generations have different ones.
pub fn cluster_state_word(cluster: &Cluster) -> &'static str {
    match cluster.state {
        ClusterState::Initial if cluster.is_swarm() => "launching",
        // There is no word for these: the change is over, and the deletion still goes on.
        ClusterState::UpdatingFailed if cluster.is_swarm() => "running",
        ClusterState::DeleteFailed if cluster.is_swarm() => "deleting",
        ClusterState::Initial => "initial",
        ClusterState::Failed => "failed",
        ClusterState::Running => "running",
        ClusterState::Updating => "updating",
        ClusterState::UpdatingFailed => "updating_failed",
        ClusterState::Scaling => "scaling",
        ClusterState::Stopped => "stopped",
        ClusterState::Deleting => "deleting",
        ClusterState::Deleted => "deleted",
        ClusterState::DeleteFailed => "delete_failed",
    }
}

/// The host's clock, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // Milliseconds of a valid time are a valid time.
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}
