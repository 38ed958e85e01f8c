//! What is, laid beside what is wanted: the containers of an application sorted by service.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
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
    /// It answered once and has not for long: only a restart can help.
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
    /// Containers that were replaced while their node was away.
    pub(crate) displaced: BTreeSet<String>,
    /// Where a container of this name was last.
    pub(crate) last_node: BTreeMap<String, String>,
}

/// Everything that decides what is to be done for one application.
pub(crate) struct Scene<'a> {
    pub(crate) record: &'a Record,
    pub(crate) view: &'a View,
    pub(crate) nodes: &'a BTreeMap<String, NodeSight>,
    pub(crate) health: &'a dyn Fn(&Container) -> Health,
    pub(crate) notes: &'a Notes,
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
    /// It does its work.
    pub(crate) fn ready(&self) -> bool {
        self.completed || (self.serves() && self.health == Health::Success)
    }
    /// It runs where it can be reached.
    pub(crate) fn serves(&self) -> bool {
        self.reachable && self.container.is_running()
    }
    /// It is no loss.
    pub(crate) fn useless(&self) -> bool {
        let up = matches!(
            self.container.state,
            ContainerState::Running | ContainerState::Paused | ContainerState::Restarting
        );
        !up || matches!(self.health, Health::Failure | Health::Stuck)
    }
    /// A process of it is there.
    pub(crate) fn up(&self) -> bool {
        matches!(self.container.state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting)
    }
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
    pub(crate) fn ready(&self) -> usize {
        self.current.iter().filter(|member| member.ready()).count()
    }
    /// Nothing is left to do.
    pub(crate) fn settled(&self) -> bool {
        match self.service.desired {
            Desired::Running => {
                !self.service.pull
                    && self.old.is_empty()
                    && self.current.len() == self.wanted
                    && self.ready() == self.wanted
            }
            Desired::Stopped => !self.present().any(Member::up),
        }
    }
}

impl<'a> Scene<'a> {
    /// The containers of this application.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &'a Arc<Container>> + use<'a> {
        let record = self.record;
        self.view.containers.iter().filter(move |container| names::belongs(record, container))
    }

    /// Whether a container of this service may be made anew on another node when its own is lost.
    pub(crate) fn movable(&self, service: &ServiceRecord) -> bool {
        body::local_volumes(self.record, service).next().is_none() || body::reschedules(service)
    }

    fn node(&self, container: &Container) -> Option<&'a NodeSight> {
        self.nodes.get(&container.node)
    }

    pub(crate) fn member(&self, service: &ServiceRecord, container: &'a Arc<Container>) -> Member<'a> {
        let ended = container.state == ContainerState::Exited
            && container.started.is_some_and(|started| started > service.desired_since);
        let (completed, given_up) = if ended { end(service, container) } else { (false, false) };
        Member {
            container,
            number: names::number(service, container),
            reachable: self.node(container).is_some_and(|node| node.healthy),
            health: (self.health)(container),
            completed,
            given_up,
            busy: self.notes.busy.contains(&container.id),
        }
    }

    /// Containers that belong to no service any more.
    pub(crate) fn orphans(&self) -> Vec<&'a Arc<Container>> {
        let origins: HashSet<String> = self.record.services.values().map(ServiceRecord::origin).collect();
        let is_orphan = |container: &&Arc<Container>| {
            names::origin_of(self.record, container).is_none_or(|origin| !origins.contains(&origin))
        };
        self.containers().filter(is_orphan).collect()
    }

    /// The containers of a service, sorted.
    pub(crate) fn crew(&self, service: &'a ServiceRecord) -> Crew<'a> {
        let origin = service.origin();
        let hash = body::definition(self.record, service);
        let movable = self.movable(service);
        let mut crew =
            Crew { service, current: Vec::new(), old: Vec::new(), away: Vec::new(), wanted: self.wanted(service) };
        let ours =
            self.containers().filter(|container| names::origin_of(self.record, container).as_ref() == Some(&origin));
        for container in ours {
            let member = self.member(service, container);
            let node = self.node(container);
            let lost = node.is_none_or(|node| node.lost);
            let leaves = node.is_some_and(|node| node.healthy && !node.schedulable);
            let stale = container.labels.get(labels::DEFINITION) != Some(&hash) || self.lost_its_base(container);
            if lost && (movable || service.service.extensions.global) {
                crew.away.push(member);
            } else if stale || (leaves && (movable || service.service.extensions.global)) {
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

    /// What `service` waits for before its containers start, in words; `None`: nothing.
    pub(crate) fn gate(&self, service: &ServiceRecord) -> Option<String> {
        for (name, condition) in &service.service.depends {
            let Some(needed) = self.record.peer(service, name).filter(|needed| needed.id != service.id) else {
                continue;
            };
            if needed.desired == Desired::Stopped {
                continue;
            }
            let crew = self.crew(needed);
            let met = match condition {
                DependsCondition::Completed => {
                    !crew.current.is_empty() && crew.current.iter().all(|member| member.completed)
                }
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
        self.record.services.values().all(|service| self.crew(service).settled())
    }

    /// Whether the new version of a blue-green release serves in full.
    pub(crate) fn next_is_ready(&self) -> bool {
        let next = self.record.services.values().filter(|service| service.release == Release::Next);
        next.filter(|service| service.desired == Desired::Running).all(|service| {
            let crew = self.crew(service);
            !service.pull && crew.ready() >= crew.wanted
        })
    }
}

/// Whether a container that ended is done, or given up.
fn end(service: &ServiceRecord, container: &Container) -> (bool, bool) {
    let policy =
        service.service.container.pointer("/HostConfig/RestartPolicy/Name").and_then(Value::as_str).unwrap_or_default();
    let asked_for_none = service.service.definition.get("restart").is_some_and(|value| value == "no" || value == false);
    match policy {
        "always" | "unless-stopped" => (false, false),
        "on-failure" => (container.exit_code == 0, container.exit_code != 0 && has_tries(service)),
        _ => (container.exit_code == 0, container.exit_code != 0 && asked_for_none),
    }
}

fn has_tries(service: &ServiceRecord) -> bool {
    let tries =
        service.service.container.pointer("/HostConfig/RestartPolicy/MaximumRetryCount").and_then(Value::as_u64);
    tries.is_some_and(|tries| tries > 0)
}
