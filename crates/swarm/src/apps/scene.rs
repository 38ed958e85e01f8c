//! What is, laid beside what is wanted: the containers of an application sorted by service.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    body, names,
    record::{Desired, Record, Release, ServiceRecord},
};
use crate::{
    compose::template::DependsCondition,
    model::{Container, ContainerState, View, labels},
};

/// How a container serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers, or nothing says how to ask.
    Success,
    /// Not known yet.
    Checking,
    /// It does not answer.
    Failure,
    /// It answered once, or has run for very long, and does not now: only a restart can help.
    Stuck,
}

impl Health {
    /// As the API says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Checking => "checking",
            Self::Failure | Self::Stuck => "failure",
        }
    }
}

/// A node as controllers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSight {
    pub(crate) healthy: bool,
    /// Away for so long that its containers are not waited for.
    pub(crate) lost: bool,
    pub(crate) schedulable: bool,
    pub(crate) index: u32,
}

/// What a worker remembers beside what is recorded and what is seen. All of it may be forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Keys of actions that are under way.
    pub(crate) busy: HashSet<String>,
    /// Numbers of containers that are being created, by service id.
    pub(crate) creating: BTreeMap<String, BTreeSet<u32>>,
    /// Keys that wait for another try.
    pub(crate) waiting: HashSet<String>,
    /// Failures in a row, by key.
    pub(crate) failures: BTreeMap<String, u32>,
    /// Networks and volumes that are known to be there.
    pub(crate) ensured: BTreeSet<String>,
    /// Where a container of this name was last.
    pub(crate) last_node: BTreeMap<String, String>,
}

/// A container of a service.
#[derive(Clone)]
pub(crate) struct Member<'a> {
    pub(crate) container: &'a Arc<Container>,
    pub(crate) number: u32,
    /// Its node answers.
    pub(crate) reachable: bool,
    pub(crate) health: Health,
    /// It ended well and is not meant to run again.
    pub(crate) completed: bool,
    /// It ended badly and its restart policy says to leave it so.
    pub(crate) given_up: bool,
    /// Something is being done to it.
    pub(crate) busy: bool,
}

impl Member<'_> {
    /// It does its work, and will go on: one that is being retired gets no requests any more, though it still runs.
    pub(crate) fn ready(&self) -> bool {
        !self.busy && (self.completed || (self.serves() && self.health == Health::Success))
    }
    /// It runs where it can be reached.
    pub(crate) fn serves(&self) -> bool {
        self.reachable && self.container.is_running()
    }
    /// It is no loss.
    pub(crate) fn useless(&self) -> bool {
        !self.completed && (!self.up() || matches!(self.health, Health::Failure | Health::Stuck))
    }
    /// A process of it is there.
    pub(crate) fn up(&self) -> bool {
        is_up(self.container)
    }
}

/// A process of it is there.
pub(crate) fn is_up(container: &Container) -> bool {
    matches!(container.state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting)
}

/// The containers of a service.
pub(crate) struct Crew<'a> {
    pub(crate) service: &'a ServiceRecord,
    /// As they shall be.
    pub(crate) current: Vec<Member<'a>>,
    /// Out of date, or on a node that leaves.
    pub(crate) old: Vec<Member<'a>>,
    /// On lost nodes, to be replaced elsewhere.
    pub(crate) away: Vec<Member<'a>>,
    /// How many there shall be.
    pub(crate) wanted: usize,
}

impl<'a> Crew<'a> {
    /// All that can be seen.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Member<'a>> {
        self.current.iter().chain(&self.old).chain(&self.away)
    }
    /// Those that can be acted upon.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Member<'a>> {
        self.current.iter().chain(&self.old)
    }
    /// Of those that are as they shall be, how many do their work.
    pub(crate) fn ready(&self) -> usize {
        self.current.iter().filter(|member| member.ready()).count()
    }
    /// Nothing is left to do.
    pub(crate) fn settled(&self) -> bool {
        match self.service.desired {
            Desired::Running => {
                let complete = self.current.len() == self.wanted && self.ready() == self.wanted;
                !self.service.pull && self.old.is_empty() && complete
            }
            Desired::Stopped => !self.present().any(Member::up),
        }
    }
}

/// Everything that decides what is to be done for one application.
pub(crate) struct Scene<'a> {
    pub(crate) record: &'a Record,
    pub(crate) view: &'a View,
    pub(crate) nodes: &'a BTreeMap<String, NodeSight>,
    pub(crate) notes: &'a Notes,
    /// Its containers.
    pub(crate) containers: Vec<&'a Arc<Container>>,
    /// Those that belong to no service any more.
    pub(crate) orphans: Vec<&'a Arc<Container>>,
    crews: BTreeMap<&'a str, Crew<'a>>,
}

impl<'a> Scene<'a> {
    /// Sorts the containers of the cluster by the services of this application.
    pub(crate) fn new(
        record: &'a Record,
        view: &'a View,
        nodes: &'a BTreeMap<String, NodeSight>,
        notes: &'a Notes,
        health: &dyn Fn(&Container) -> Health,
    ) -> Self {
        let containers: Vec<_> = view.containers.iter().filter(|container| names::belongs(record, container)).collect();
        let mut scene = Self { record, view, nodes, notes, containers, orphans: Vec::new(), crews: BTreeMap::new() };
        let mut by_origin: HashMap<String, Vec<&'a Arc<Container>>> = HashMap::new();
        for container in &scene.containers {
            by_origin.entry(names::origin_of(record, container).unwrap_or_default()).or_default().push(container);
        }
        for service in record.services.values() {
            let ours = by_origin.remove(&service.origin()).unwrap_or_default();
            let crew = scene.sort(service, ours, health);
            scene.crews.insert(&service.id, crew);
        }
        scene.orphans = by_origin.into_values().flatten().collect();
        scene.orphans.sort_by(|one, other| one.name.cmp(&other.name));
        scene
    }

    /// The containers of a service of this application.
    pub(crate) fn crew(&self, id: &str) -> Option<&Crew<'a>> {
        self.crews.get(id)
    }

    /// Those of all services, by id.
    pub(crate) fn crews(&self) -> impl Iterator<Item = &Crew<'a>> {
        self.crews.values()
    }

    /// Whether a container of this service may be made anew on another node when its own is lost.
    pub(crate) fn movable(&self, service: &ServiceRecord) -> bool {
        body::local_volumes(self.record, service).next().is_none() || body::reschedules(service)
    }

    fn node(&self, container: &Container) -> Option<&'a NodeSight> {
        self.nodes.get(&container.node)
    }

    /// Whether the node of a container answers.
    pub(crate) fn reachable(&self, container: &Container) -> bool {
        self.node(container).is_some_and(|node| node.healthy)
    }

    fn member(
        &self,
        service: &ServiceRecord,
        container: &'a Arc<Container>,
        health: &dyn Fn(&Container) -> Health,
    ) -> Member<'a> {
        let ended = container.state == ContainerState::Exited
            && container.started.is_some_and(|started| started > service.desired_since);
        let (completed, given_up) = if ended { self.end(service, container) } else { (false, false) };
        Member {
            container,
            number: names::number(service, container),
            reachable: self.reachable(container),
            health: health(container),
            completed,
            given_up,
            busy: self.notes.busy.contains(&container.id),
        }
    }

    fn sort(
        &self,
        service: &'a ServiceRecord,
        ours: Vec<&'a Arc<Container>>,
        health: &dyn Fn(&Container) -> Health,
    ) -> Crew<'a> {
        let hash = body::definition(self.record, service);
        let moves = self.movable(service) || service.service.extensions.global;
        let mut crew =
            Crew { service, current: Vec::new(), old: Vec::new(), away: Vec::new(), wanted: self.wanted(service) };
        for container in ours {
            let member = self.member(service, container, health);
            let node = self.node(container);
            let lost = node.is_none_or(|node| node.lost);
            let leaves = node.is_some_and(|node| node.healthy && !node.schedulable);
            let stale = container.labels.get(labels::DEFINITION) != Some(&hash) || self.lost_its_base(container);
            if lost && moves {
                crew.away.push(member);
            } else if stale || (leaves && moves) {
                crew.old.push(member);
            } else {
                crew.current.push(member);
            }
        }
        crew.current.sort_by_key(|member| member.number);
        crew
    }

    /// How many containers a service shall have.
    fn wanted(&self, service: &ServiceRecord) -> usize {
        if service.service.extensions.global {
            self.nodes.values().filter(|node| node.schedulable && !node.lost).count()
        } else if service.service.container_name.is_some() {
            service.scale.min(1) as usize
        } else {
            service.scale as usize
        }
    }

    /// A container that lives in another's network namespace cannot outlive it.
    fn lost_its_base(&self, container: &Container) -> bool {
        let mode = container.inspect.pointer("/HostConfig/NetworkMode").and_then(Value::as_str);
        let Some(base) = mode.and_then(|mode| mode.strip_prefix("container:")) else { return false };
        !self.view.containers.iter().any(|other| other.id == base || other.name == base)
    }

    /// Whether a container that ended is done, or given up. Without a word about restarts a service is meant to stay up:
    /// engines that are stopped end containers well, too. A job says `restart: "no"` or is waited for by others.
    fn end(&self, service: &ServiceRecord, container: &Container) -> (bool, bool) {
        let policy = |name: &str| service.service.container.pointer(&format!("/HostConfig/RestartPolicy/{name}"));
        let well = container.exit_code == 0;
        match policy("Name").and_then(Value::as_str).unwrap_or_default() {
            "always" | "unless-stopped" => (false, false),
            "on-failure" => {
                let limited = policy("MaximumRetryCount").and_then(Value::as_u64).is_some_and(|tries| tries > 0);
                (well, !well && limited)
            }
            _ => {
                let restart = service.service.definition.get("restart");
                let never = restart.is_some_and(|value| value == "no" || value == false);
                (well && (never || self.is_job(service)), !well && never)
            }
        }
    }

    /// Somebody waits for its end.
    fn is_job(&self, service: &ServiceRecord) -> bool {
        self.record.services.values().any(|other| {
            other.service.depends.get(&service.name) == Some(&DependsCondition::Completed)
                && self.record.peer(other, &service.name).is_some_and(|needed| needed.id == service.id)
        })
    }

    /// What `service` waits for before its containers start, in words; `None`: nothing.
    pub(crate) fn gate(&self, service: &ServiceRecord) -> Option<String> {
        let bases: Vec<&String> = body::bases(service).collect();
        for (name, condition) in &service.service.depends {
            let needed = self.record.peer(service, name).filter(|needed| needed.id != service.id);
            let Some(needed) = needed.filter(|needed| needed.desired == Desired::Running) else { continue };
            let Some(crew) = self.crew(&needed.id) else { continue };
            let met = match condition {
                DependsCondition::Completed => {
                    !crew.current.is_empty() && crew.current.iter().all(|member| member.completed)
                }
                // What is built upon a container is built upon the new one, while there are two.
                _ if bases.contains(&name) => crew.old.is_empty() && crew.current.iter().any(Member::ready),
                DependsCondition::Started | DependsCondition::Healthy => {
                    crew.wanted == 0 || crew.present().any(Member::ready)
                }
            };
            if !met {
                let word = if *condition == DependsCondition::Completed { "end" } else { "be ready" };
                return Some(format!("waits for {} to {word}", needed.id));
            }
        }
        None
    }

    /// Whether all that shall run does.
    pub(crate) fn settled(&self) -> bool {
        self.crews().all(Crew::settled)
    }

    /// Whether the new version of a blue-green release serves in full.
    pub(crate) fn next_is_ready(&self) -> bool {
        let next = self.crews().filter(|crew| crew.service.release == Release::Next);
        let mut running = next.filter(|crew| crew.service.desired == Desired::Running);
        running.all(|crew| !crew.service.pull && crew.ready() >= crew.wanted)
    }
}
