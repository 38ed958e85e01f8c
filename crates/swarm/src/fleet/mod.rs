//! The engines of a cluster: watched, joined to one swarm, and acted upon. [`Fleet`] is the real [`Engines`].
//!
//! Each node has a [`member`] with a connection pool, a cache fed by events and a heartbeat. [`swarm`] makes the members
//! one swarm with one overlay; [`create`] puts containers on them; [`reschedule`] moves those that may move. The picture
//! that users see is an immutable [`View`], replaced on every change.

mod addresses;
mod attach;
mod belonging;
mod cache;
mod client;
mod create;
mod drain;
#[cfg(test)]
mod engine_tests;
mod engines;
mod exec;
mod images;
mod kept;
mod lifecycle;
mod member;
mod networks;
pub(crate) mod observe;
mod prepare;
mod reschedule;
mod reserve;
mod room;
mod sockets;
mod status;
mod swarm;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod usage;
mod volumes;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use sampan_agents::master::MasterConfig;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

pub use self::create::WhenMissing;
pub(crate) use self::{
    client::{Client, json_request, set_header},
    images::{error_of, find_image},
    lifecycle::lost_the_overlay,
    member::{Member, into_array},
    sockets::watch_peer,
    volumes::{LOCAL_DRIVER, shown as shown_volume, without_secrets},
};
use self::{
    client::{SharedTls, Target},
    reserve::Reservations,
    swarm::SwarmState,
};
use crate::model::{Container, NodeHealth, Refusal, View, labels};

/// The engine of the master's own machine: the swarm's manager.
const MANAGER_SOCKET: &str = "/var/run/docker.sock";
/// Changes within this time are published together.
const PUBLISH_PAUSE: Duration = Duration::from_millis(10);
/// Containers that are looked at at the same time.
const LOOKS_MAX: usize = 8;

/// The engines of a cluster.
#[derive(Debug)]
pub struct Fleet {
    settings: watch::Receiver<Arc<MasterConfig>>,
    tls: SharedTls,
    /// The swarm's manager; no container of a user runs there.
    pub(crate) manager: Client,
    /// By instance id.
    members: RwLock<BTreeMap<String, Watched>>,
    view: RwLock<Arc<View>>,
    revision: watch::Sender<u64>,
    /// Held while a view is made, so that they appear in order.
    publishing: Mutex<()>,
    changed: Arc<Notify>,
    reservations: Mutex<Reservations>,
    pub(crate) swarm: Mutex<SwarmState>,
    /// Wakes who looks after the swarm.
    swarm_wake: Arc<Notify>,
    /// Commands in containers: which node has which.
    execs: Mutex<exec::Execs>,
    /// Processor time of containers at the last look.
    samples: Mutex<usage::Samples>,
    /// Definitions of volumes of plug-ins and of containers that move, on disk.
    kept: kept::Kept,
    /// Held while volumes are removed that were removed while a node was away: none is made meanwhile.
    late: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Watched {
    member: Arc<Member>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fleet {
    /// Opens a fleet with what `settings` says. [`Fleet::run`] keeps it.
    pub fn open(settings: watch::Receiver<Arc<MasterConfig>>) -> Result<Arc<Self>, tls::TlsError> {
        let config = settings.borrow().clone();
        let tls: SharedTls = Arc::new(RwLock::new(tls::client_config(&config.engines_tls)?));
        Ok(Arc::new(Self {
            settings,
            tls,
            manager: Client::new("the cluster's manager", Target::Unix(PathBuf::from(MANAGER_SOCKET))),
            members: RwLock::default(),
            view: RwLock::default(),
            revision: watch::Sender::new(0),
            publishing: Mutex::default(),
            changed: Arc::default(),
            reservations: Mutex::default(),
            swarm: Mutex::default(),
            swarm_wake: Arc::default(),
            execs: Mutex::default(),
            samples: Mutex::default(),
            kept: kept::Kept::open(&config.state_dir),
            late: tokio::sync::Mutex::default(),
        }))
    }

    /// Keeps the fleet as the settings say, for ever.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(
            self.clone().follow_settings(),
            self.clone().publish_changes(),
            self.clone().keep_swarm(),
            self.clone().keep_volumes(),
            self.clone().keep_moving(),
            Box::pin(self.clone().keep_addresses()),
        );
    }

    async fn follow_settings(self: Arc<Self>) {
        let mut settings = self.settings.clone();
        loop {
            let config = settings.borrow_and_update().clone();
            match tls::client_config(&config.engines_tls) {
                Ok(fresh) => *self.tls.write().unwrap_or_else(PoisonError::into_inner) = fresh,
                Err(error) => {
                    tracing::error!(%error, "the certificates towards the engines cannot be used; the former stay")
                }
            }
            self.set_members(&config);
            if settings.changed().await.is_err() {
                return;
            }
        }
    }

    fn set_members(&self, config: &MasterConfig) {
        let wanted: BTreeSet<&str> = config.nodes.iter().map(|node| node.id.as_str()).collect();
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.retain(|id, _| wanted.contains(id.as_str()));
        for node in &config.nodes {
            let same = members.get(&node.id).filter(|known| {
                let spec = known.member.spec();
                (spec.ip, &spec.name) == (node.ip, &node.name)
            });
            match same {
                Some(known) => known.member.set_spec(node.clone()),
                None => {
                    let member = Arc::new(Member::new(
                        node.clone(),
                        self.tls.clone(),
                        self.changed.clone(),
                        self.swarm_wake.clone(),
                    ));
                    let task = tokio::spawn(member.clone().run());
                    members.insert(node.id.clone(), Watched { member, task });
                }
            }
        }
        drop(members);
        self.changed.notify_one();
        self.swarm_wake.notify_one();
    }

    /// What the master was told last.
    pub fn settings(&self) -> Arc<MasterConfig> {
        self.settings.borrow().clone()
    }

    /// All nodes, by index.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = members.values().map(|watched| watched.member.clone()).collect();
        list.sort_by_key(|member| member.spec().index);
        list
    }

    /// Nodes whose engines answer and belong to the swarm, by index.
    pub(crate) fn healthy(&self) -> Vec<Arc<Member>> {
        let view = self.current();
        let well = |member: &Arc<Member>| {
            view.nodes.iter().any(|node| node.name == member.name && node.health == NodeHealth::Healthy)
        };
        self.members().into_iter().filter(well).collect()
    }

    /// The healthy ones, or why there is none.
    pub(crate) fn some_healthy(&self) -> Result<Vec<Arc<Member>>, Refusal> {
        let healthy = self.healthy();
        match healthy.is_empty() {
            true => Err(Refusal::unavailable("No healthy node available in the cluster")),
            false => Ok(healthy),
        }
    }

    /// The node of this name, instance id or address.
    pub(crate) fn member(&self, key: &str) -> Option<Arc<Member>> {
        self.members().into_iter().find(|member| {
            let spec = member.spec();
            spec.name == key || spec.id == key || spec.ip.to_string() == key
        })
    }

    /// The node of a container, if its engine answers.
    pub(crate) fn member_of(&self, container: &Container) -> Result<Arc<Member>, Refusal> {
        let member = self.member(&container.node);
        member.ok_or_else(|| Refusal::missing(format!("the node {} of {} is gone", container.node, container.name)))
    }

    /// The present picture.
    pub(crate) fn current(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at containers again, each at its node, and publishes what is seen: events that are on their way are not waited
    /// for.
    pub(crate) async fn refresh_all(&self, ids: impl IntoIterator<Item = String>) {
        let located = ids.into_iter().filter_map(|id| self.locate(&id).ok());
        let looks = located.map(|(container, member)| async move {
            if let Err(error) = member.refresh(&container.id).await {
                tracing::debug!(node = member.name, error = error.message, "a container could not be looked at");
            }
        });
        stream::iter(looks).buffer_unordered(LOOKS_MAX).collect::<Vec<()>>().await;
        self.publish();
    }

    /// Looks at one container again and publishes what is seen: after this the picture shows what was just done.
    pub(crate) async fn refresh(&self, member: &Member, id: &str) {
        if let Err(error) = member.refresh(id).await {
            tracing::debug!(node = member.name, id, error = error.message, "a container could not be looked at");
        }
        self.publish();
    }

    async fn publish_changes(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            self.publish();
            tokio::time::sleep(PUBLISH_PAUSE).await;
        }
    }

    /// Makes a new picture out of the caches, if anything differs.
    pub(crate) fn publish(&self) {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let fresh = self.picture();
        let same_containers = old.containers.len() == fresh.containers.len()
            && old.containers.iter().zip(&fresh.containers).all(|(old, fresh)| Arc::ptr_eq(old, fresh));
        if same_containers && old.nodes == fresh.nodes {
            return;
        }
        let revision = old.revision + 1;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(View { revision, ..fresh });
        self.revision.send_replace(revision);
    }

    fn picture(&self) -> View {
        let mut view = View::default();
        for member in self.members() {
            let spec = member.spec();
            let cache = member.cache();
            view.nodes.push(Arc::new(cache.node(&spec)));
            view.containers.extend(cache.containers().filter(|one| !self.kept.is_replaced(&one.id)).cloned());
        }
        hide_superseded(&mut view);
        view
    }

    pub(crate) fn reservations(&self) -> MutexGuard<'_, Reservations> {
        self.reservations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A container that was made anew elsewhere is not shown a second time on the node that was lost.
fn hide_superseded(view: &mut View) {
    let mut newest: BTreeMap<&str, jiff::Timestamp> = BTreeMap::new();
    for container in &view.containers {
        if let Some(id) = container.labels.get(reschedule::IDENTITY_LABEL) {
            let created = newest.entry(id).or_insert(container.created);
            *created = container.created.max(*created);
        }
    }
    let old: BTreeSet<String> = view
        .containers
        .iter()
        .filter(|container| {
            let identity = container.labels.get(reschedule::IDENTITY_LABEL);
            identity.and_then(|id| newest.get(id.as_str())).is_some_and(|newest| container.created < *newest)
        })
        .map(|container| container.id.clone())
        .collect();
    if !old.is_empty() {
        view.containers.retain(|container| !old.contains(&container.id));
    }
}

/// Whether a container belongs to an application, which looks after it itself.
pub(crate) fn is_of_application(container: &Container) -> bool {
    container.labels.contains_key(labels::PROJECT)
}
