//! What is known of one node: as last seen, with a ticket per look so that an older look never overwrites a newer one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use sampan_agents::master::MasterNode;
use serde_json::Value;
use tokio::time::Instant;

use super::observe::{self, number, text};
use crate::model::{Container, Image, Node, NodeHealth};

/// What is known of a node's engine.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// The engine answers; `None`: not tried yet.
    reachable: Option<bool>,
    /// Why it does not.
    error: Option<String>,
    /// The node is a member of this cluster's swarm; else why not.
    membership: Membership,
    unhealthy_since: Option<Instant>,
    info: Arc<Value>,
    containers: BTreeMap<String, Arc<Container>>,
    system: BTreeSet<String>,
    image_names: Vec<Image>,
    volumes: Arc<Vec<Value>>,
    looks: HashMap<String, u64>,
    ticket: u64,
}

/// Whether a node belongs to the swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Membership {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// It does.
    Member,
    /// It does not, and why.
    Outside(String),
    /// It has left because it was told to.
    Left,
}

impl Cache {
    /// A number for a look that begins now.
    pub(crate) fn look(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// What a look at one container has seen; `None`: it is gone.
    pub(crate) fn put(&mut self, ticket: u64, id: &str, seen: Option<Container>) {
        let last = self.looks.entry(id.to_owned()).or_default();
        if *last > ticket {
            return;
        }
        *last = ticket;
        match seen {
            Some(container) if observe::is_system(&container) => {
                self.system.insert(container.id);
            }
            Some(container) => match self.containers.get(id) {
                Some(known) if **known == container => {}
                _ => {
                    self.containers.insert(id.to_owned(), Arc::new(container));
                }
            },
            None => {
                self.containers.remove(id);
                self.system.remove(id);
            }
        }
    }

    /// Forgets what a list that was asked for with `ticket` does not name.
    pub(crate) fn retain(&mut self, ticket: u64, listed: &BTreeSet<String>) {
        let looks = &mut self.looks;
        let kept = |id: &String| listed.contains(id) || looks.get(id).is_some_and(|last| *last > ticket);
        self.containers.retain(|id, _| kept(id));
        self.system.retain(kept);
        looks.retain(|id, last| listed.contains(id) || *last > ticket);
    }

    pub(crate) fn set_info(&mut self, info: Value) {
        self.info = Arc::new(info);
    }
    pub(crate) fn info(&self) -> Arc<Value> {
        self.info.clone()
    }

    pub(crate) fn set_images(&mut self, images: &[Value]) {
        self.image_names = images.iter().map(image).collect();
    }
    pub(crate) fn image_names(&self) -> &[Image] {
        &self.image_names
    }

    pub(crate) fn set_volumes(&mut self, volumes: Vec<Value>) {
        self.volumes = Arc::new(volumes);
    }
    pub(crate) fn volumes(&self) -> Arc<Vec<Value>> {
        self.volumes.clone()
    }

    pub(crate) fn containers(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.containers.values()
    }
    pub(crate) fn is_system(&self, id: &str) -> bool {
        self.system.contains(id)
    }

    pub(crate) fn set_reachable(&mut self, result: Result<(), String>) {
        self.reachable = Some(result.is_ok());
        self.error = result.err();
        self.clock();
    }
    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable == Some(true)
    }
    pub(crate) fn set_membership(&mut self, membership: Membership) {
        self.membership = membership;
        self.clock();
    }
    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }
    /// Since when the engine does not answer.
    pub(crate) fn unreachable_since(&self) -> Option<Instant> {
        self.unhealthy_since
    }
    fn clock(&mut self) {
        match self.reachable {
            Some(false) => self.unhealthy_since = self.unhealthy_since.or_else(|| Some(Instant::now())),
            _ => self.unhealthy_since = None,
        }
    }

    fn health(&self) -> (NodeHealth, Option<String>) {
        match (self.reachable, &self.membership) {
            (Some(true), Membership::Member) => (NodeHealth::Healthy, None),
            (Some(true), Membership::Unknown) => (NodeHealth::Pending, Some("it is joining the swarm".to_owned())),
            (Some(true), Membership::Outside(why)) => (NodeHealth::Pending, Some(why.clone())),
            (Some(true), Membership::Left) => (NodeHealth::Pending, Some("it has left the cluster".to_owned())),
            (Some(false), _) => (NodeHealth::Unhealthy, self.error.clone()),
            (None, _) => (NodeHealth::Pending, Some("it has not been reached yet".to_owned())),
        }
    }

    /// The node as users see it.
    pub(crate) fn node(&self, spec: &MasterNode) -> Node {
        let info = &*self.info;
        let (health, error) = self.health();
        let mut labels = spec.labels.clone();
        for label in observe::strings(info.get("Labels")) {
            let (key, value) = label.split_once('=').unwrap_or((&label, ""));
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels.insert("aliyun.node_index".to_owned(), spec.index.to_string());
        Node {
            id: spec.id.clone(),
            name: spec.name.clone(),
            ip: spec.ip,
            index: spec.index,
            labels,
            health,
            error,
            schedulable: !spec.leaving && self.membership != Membership::Left,
            cpus: u32::try_from(number(info, "/NCPU")).unwrap_or(u32::MAX),
            memory: number(info, "/MemTotal"),
            engine_version: text(info, "/ServerVersion").to_owned(),
            storage_driver: text(info, "/Driver").to_owned(),
            execution_driver: text(info, "/DefaultRuntime").to_owned(),
            kernel_version: text(info, "/KernelVersion").to_owned(),
            operating_system: text(info, "/OperatingSystem").to_owned(),
            images: self.image_names.clone(),
            volumes: self.volumes.iter().map(|volume| text(volume, "/Name").to_owned()).collect(),
        }
    }
}

fn image(value: &Value) -> Image {
    let tags = observe::strings(value.get("RepoTags"));
    let digests = observe::strings(value.get("RepoDigests"));
    let named = tags.into_iter().chain(digests).filter(|tag| !tag.contains("<none>"));
    Image { id: text(value, "/Id").to_owned(), tags: named.collect() }
}
