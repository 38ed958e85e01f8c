//! What is to be done next for an application: a pure function of what is wanted, what is seen and what is under way.
//!
//! Every action is one step that may be repeated; whatever was done before a crash is found by its labels.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    body::{self, Placement},
    names,
    record::{Desired, Record, ServiceRecord},
    rolling,
    scene::{Crew, Health, Member, Scene, is_up},
};
use crate::model::{Container, ContainerState, labels};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Pull the service's image on all nodes.
    Pull { service: String },
    /// Make a network of the template.
    Network { name: String },
    /// Make a volume of the template.
    Volume { name: String },
    /// Make a container.
    Create { service: String, number: u32, place: Placement },
    /// Start it.
    Start { id: String, service: String },
    /// Stop and start one that does not answer any more.
    Restart { id: String, service: String, seconds: u32 },
    /// Stop it where it stands.
    Stop { id: String, service: String, seconds: u32 },
    /// Take it out of the routes, wait until no router sends it anything, stop it, remove it.
    Retire { id: String, service: String, seconds: u32 },
    /// Remove it.
    Remove { id: String, service: String, volumes: bool },
    /// Remove a network that is not wanted any more.
    RemoveNetwork { name: String },
    /// Remove a volume of a deleted application.
    RemoveVolume { name: String },
    /// End a confirmed blue-green release.
    Promote,
    /// The application is gone.
    Forget,
}

impl Action {
    /// Actions of one key follow each other.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Pull { service } => format!("pull:{service}"),
            Self::Network { name } | Self::RemoveNetwork { name } => format!("network:{name}"),
            Self::Volume { name } | Self::RemoveVolume { name } => format!("volume:{name}"),
            Self::Create { service, number, .. } => format!("create:{service}:{number}"),
            Self::Start { id, .. }
            | Self::Restart { id, .. }
            | Self::Stop { id, .. }
            | Self::Retire { id, .. }
            | Self::Remove { id, .. } => id.clone(),
            Self::Promote => "promote".into(),
            Self::Forget => "forget".into(),
        }
    }

    /// What has to wait when it fails.
    pub(crate) fn back_off(&self) -> String {
        match self {
            Self::Create { service, .. } => create_key(service),
            // A container that ends again and again can still be stopped and removed at once.
            Self::Start { id, .. } | Self::Restart { id, .. } => start_key(id),
            other => other.key(),
        }
    }

    /// The service that it is about.
    pub(crate) fn service(&self) -> Option<&str> {
        match self {
            Self::Pull { service }
            | Self::Create { service, .. }
            | Self::Start { service, .. }
            | Self::Restart { service, .. }
            | Self::Stop { service, .. }
            | Self::Retire { service, .. }
            | Self::Remove { service, .. } => Some(service),
            _ => None,
        }
    }
}

/// [`Action::back_off`] of starting a container.
pub(crate) fn start_key(id: &str) -> String {
    format!("start:{id}")
}

/// [`Action::back_off`] of making a service's containers.
pub(crate) fn create_key(service: &str) -> String {
    format!("create:{service}")
}

/// A volume's name among what is known to be there.
pub(crate) fn volume_key(name: &str) -> String {
    format!("volume:{name}")
}

/// What is to be done, and what cannot be yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Why a service does not come along, by service id.
    pub(crate) reasons: BTreeMap<String, String>,
}

impl Plan {
    fn reason(&mut self, service: &ServiceRecord, words: String) {
        self.reasons.insert(service.id.clone(), words);
    }
}

/// Decides. Actions whose key is busy or waits for another try are left out.
pub(crate) fn plan(scene: &Scene<'_>) -> Plan {
    let mut plan = Plan::default();
    if scene.record.deletion.is_some() {
        deletion(scene, &mut plan);
    } else {
        foundations(scene, &mut plan);
        for crew in scene.crews() {
            match crew.service.desired {
                Desired::Running => running(scene, crew, &mut plan),
                Desired::Stopped => stopped(scene, crew, &mut plan),
            }
        }
        orphans(scene, &mut plan);
        let confirmed = scene.record.next.as_ref().is_some_and(|next| next.confirmed.is_some());
        if confirmed && scene.next_is_ready() {
            plan.actions.push(Action::Promote);
        }
    }
    let notes = scene.notes;
    plan.actions.retain(|action| !notes.busy.contains(&action.key()) && !notes.waiting.contains(&action.back_off()));
    plan
}

/// Networks and volumes.
fn foundations(scene: &Scene<'_>, plan: &mut Plan) {
    let record = scene.record;
    if record.desired() == Desired::Running {
        let networks = record.networks.keys().filter(|name| !scene.notes.ensured.contains(*name));
        plan.actions.extend(networks.map(|name| Action::Network { name: name.clone() }));
        let volumes = record.volumes.keys().filter(|name| !scene.notes.ensured.contains(&volume_key(name)));
        plan.actions.extend(volumes.map(|name| Action::Volume { name: name.clone() }));
    }
    let unwanted = record.made_networks.iter().filter(|name| !record.networks.contains_key(*name));
    for name in unwanted {
        if !scene.containers.iter().any(|container| container.networks.contains_key(name)) {
            plan.actions.push(Action::RemoveNetwork { name: name.clone() });
        }
    }
}

/// What the service needs and is not there yet, in words.
fn missing_foundation(scene: &Scene<'_>, service: &ServiceRecord) -> Option<String> {
    let (record, ensured) = (scene.record, &scene.notes.ensured);
    let mut networks = service.service.networks.keys();
    if let Some(name) = networks.find(|name| record.networks.contains_key(*name) && !ensured.contains(*name)) {
        return Some(format!("waits for the network {name}"));
    }
    let mut volumes = service.service.volumes.iter().map(|(name, _, _)| name);
    let volume = volumes.find(|name| record.volumes.contains_key(*name) && !ensured.contains(&volume_key(name)));
    volume.map(|name| format!("waits for the volume {name}"))
}

fn running(scene: &Scene<'_>, crew: &Crew<'_>, plan: &mut Plan) {
    let service = crew.service;
    if service.pull {
        plan.actions.push(Action::Pull { service: service.id.clone() });
        plan.reason(service, format!("pulls {}", service.image_name()));
        return;
    }
    let gate = scene.gate(service).or_else(|| missing_foundation(scene, service));
    for member in crew.current.iter().filter(|member| !member.busy && member.reachable) {
        upkeep(service, member, gate.is_none(), plan);
    }
    let step = rolling::step(scene, crew);
    if let Some(words) = gate {
        if crew.ready() < crew.wanted {
            plan.reason(service, words);
        }
    } else if service.service.extensions.global {
        create_everywhere(scene, crew, plan);
    } else {
        create(scene, crew, &step, plan);
    }
    let retire = step.retire.into_iter().map(|member| Action::Retire {
        id: member.container.id.clone(),
        service: service.id.clone(),
        seconds: service.grace(),
    });
    plan.actions.extend(retire);
}

/// What a container that shall be there needs.
fn upkeep(service: &ServiceRecord, member: &Member<'_>, may_start: bool, plan: &mut Plan) {
    let (id, name) = (member.container.id.clone(), service.id.clone());
    match member.container.state {
        ContainerState::Dead => plan.actions.push(Action::Remove { id, service: name, volumes: false }),
        ContainerState::Exited if member.given_up => {
            let code = member.container.exit_code;
            let words = format!("{} ended with code {code}; its restart policy leaves it so", member.container.name);
            plan.reason(service, words);
        }
        ContainerState::Created | ContainerState::Exited if !member.completed && may_start => {
            plan.actions.push(Action::Start { id, service: name });
        }
        ContainerState::Running if member.health == Health::Stuck => {
            plan.actions.push(Action::Restart { id, service: name, seconds: service.grace() });
        }
        _ => {}
    }
}

/// Makes more containers of a service, under the lowest numbers that are free.
fn create(scene: &Scene<'_>, crew: &Crew<'_>, step: &rolling::Step<'_>, plan: &mut Plan) {
    let service = crew.service;
    let creating = scene.notes.creating.get(&service.id);
    let used: BTreeSet<u32> =
        crew.all().map(|member| member.number).chain(creating.into_iter().flatten().copied()).collect();
    let fixed_name = service.service.container_name.is_some();
    let taken = |number: u32| {
        let name = names::container(service, number);
        scene.view.containers.iter().any(|container| container.name == name)
    };
    let free = (1u32..).filter(|number| fixed_name || !(used.contains(number) || taken(*number)));
    let staying = crew.current.iter().filter(|member| step.instead_of != Some(member.number));
    let mut hosts: Vec<String> = staying.map(|member| member.container.node.clone()).collect();
    for number in free.take(step.create) {
        match place(scene, service, number, &hosts) {
            Ok(place) => {
                hosts.extend(place.node.clone());
                plan.actions.push(Action::Create { service: service.id.clone(), number, place });
            }
            Err(words) => plan.reason(service, words),
        }
    }
}

/// One on every healthy node that has none.
fn create_everywhere(scene: &Scene<'_>, crew: &Crew<'_>, plan: &mut Plan) {
    let service = crew.service;
    let creating = scene.notes.creating.get(&service.id);
    for (name, node) in scene.nodes.iter().filter(|(_, node)| node.healthy && node.schedulable) {
        let has = crew.present().any(|member| member.container.node == *name);
        if !has && !creating.is_some_and(|numbers| numbers.contains(&node.index)) {
            let place = Placement { node: Some(name.clone()), rather: None };
            plan.actions.push(Action::Create { service: service.id.clone(), number: node.index, place });
        }
    }
}

/// A container goes where its data is. `hosts`: nodes of the service's other containers.
fn place(scene: &Scene<'_>, service: &ServiceRecord, number: u32, hosts: &[String]) -> Result<Placement, String> {
    let volumes: Vec<&str> = body::local_volumes(scene.record, service).collect();
    if volumes.is_empty() {
        let last = scene.notes.last_node.get(&names::container(service, number));
        let rather = last.filter(|_| body::has_host_paths(service)).cloned();
        return Ok(Placement { node: None, rather });
    }
    let mut holders: Vec<_> = scene
        .view
        .nodes
        .iter()
        .filter(|node| volumes.iter().all(|volume| node.volumes.contains(*volume)))
        .filter(|node| !hosts.contains(&node.name))
        .collect();
    holders.sort_by_key(|node| node.index);
    let usable = |name: &str| scene.nodes.get(name).is_some_and(|node| node.healthy && node.schedulable);
    match (holders.iter().find(|node| usable(&node.name)), holders.first()) {
        (Some(node), _) => Ok(Placement { node: Some(node.name.clone()), rather: None }),
        (None, Some(node)) if !body::reschedules(service) => {
            let volume = volumes.first().copied().unwrap_or_default();
            let node = &node.name;
            Err(format!("waits for the node {node}, which has the volume {volume} and does not take containers now"))
        }
        _ => Ok(Placement::default()),
    }
}

/// Stops a service when nothing that needs it and shall stop too is left.
fn stopped(scene: &Scene<'_>, crew: &Crew<'_>, plan: &mut Plan) {
    let service = crew.service;
    if let Some(dependent) = held_by(scene, service) {
        plan.reason(service, format!("waits for {dependent} to stop"));
        return;
    }
    for member in crew.present().filter(|member| member.up() && member.reachable) {
        let (id, service_id) = (member.container.id.clone(), service.id.clone());
        plan.actions.push(Action::Stop { id, service: service_id, seconds: service.grace() });
    }
}

/// A service that needs this one, shall stop (or go), and has not yet.
fn held_by(scene: &Scene<'_>, service: &ServiceRecord) -> Option<String> {
    let record = scene.record;
    let ends = |other: &ServiceRecord| record.deletion.is_some() || other.desired == Desired::Stopped;
    let needs = |other: &ServiceRecord| record.dependencies(other).any(|needed| needed.id == service.id);
    // In a circle, which should not be, nothing is held.
    let mutual = |other: &ServiceRecord| record.dependencies(service).any(|needed| needed.id == other.id);
    let mut others = scene.crews().filter(|crew| crew.service.id != service.id && ends(crew.service));
    others
        .find(|crew| {
            crew.present().any(|member| member.up() && member.reachable) && needs(crew.service) && !mutual(crew.service)
        })
        .map(|crew| crew.service.id.clone())
}

/// Containers of services that are not in the template any more. They stay until what takes their place is ready.
fn orphans(scene: &Scene<'_>, plan: &mut Plan) {
    let record = scene.record;
    if scene.orphans.is_empty() {
        return;
    }
    let settled = record.desired() == Desired::Stopped || scene.settled();
    let wanted_ports: BTreeSet<String> = record.services.values().flat_map(body::host_ports).collect();
    for container in &scene.orphans {
        let is_wanted =
            |(protocol, _, port): &(String, String, u16)| wanted_ports.contains(&format!("{port}/{protocol}"));
        let in_the_way = container.host_ports.iter().any(is_wanted);
        let ended = names::origin_of(record, container).is_none_or(|origin| record.retired.contains(&origin));
        if scene.reachable(container) && (settled || in_the_way || ended || !container.is_running()) {
            let service = container.labels.get(labels::SERVICE).cloned().unwrap_or_default();
            plan.actions.push(Action::Retire { id: container.id.clone(), service, seconds: super::STOP_SECONDS });
        }
    }
}

fn deletion(scene: &Scene<'_>, plan: &mut Plan) {
    let record = scene.record;
    let Some(deletion) = &record.deletion else { return };
    let mut left = false;
    for crew in scene.crews() {
        let service = crew.service;
        let held = !deletion.force && held_by(scene, service).is_some();
        for member in crew.all() {
            left |= member.reachable || !deletion.force;
            if !member.reachable {
                let node = &member.container.node;
                plan.reason(service, format!("waits for the node {node}, which does not answer"));
            } else if !held {
                plan.actions.push(undo(
                    member.container,
                    &service.id,
                    service.grace(),
                    deletion.force,
                    deletion.volumes,
                ));
            }
        }
    }
    for container in &scene.orphans {
        left |= scene.reachable(container) || !deletion.force;
        if scene.reachable(container) {
            plan.actions.push(undo(container, "", super::STOP_SECONDS, deletion.force, deletion.volumes));
        }
    }
    if !left && scene.notes.creating.is_empty() {
        leftovers(scene, record, deletion.volumes, deletion.force, plan);
    }
}

/// Networks and volumes of a deleted application, then itself.
fn leftovers(scene: &Scene<'_>, record: &Record, volumes: bool, force: bool, plan: &mut Plan) {
    let gone = |key: &str| {
        let tries = scene.notes.failures.get(key).copied().unwrap_or(0);
        (force && tries >= super::FORCED_TRIES_MAX) || scene.notes.ensured.contains(&gone_key(key))
    };
    let networks = record.made_networks.iter().map(|name| Action::RemoveNetwork { name: name.clone() });
    let volumes =
        record.made_volumes.iter().filter(|_| volumes).map(|name| Action::RemoveVolume { name: name.clone() });
    let mut actions: Vec<Action> = networks.chain(volumes).filter(|action| !gone(&action.key())).collect();
    if actions.is_empty() && scene.notes.busy.is_empty() {
        actions.push(Action::Forget);
    }
    plan.actions.extend(actions);
}

/// Says of a network or volume that it was removed.
pub(crate) fn gone_key(key: &str) -> String {
    format!("gone:{key}")
}

/// The next step towards a container's end.
fn undo(container: &Container, service: &str, seconds: u32, force: bool, volumes: bool) -> Action {
    let (id, service) = (container.id.clone(), service.to_owned());
    if is_up(container) && !force {
        Action::Stop { id, service, seconds }
    } else {
        Action::Remove { id, service, volumes }
    }
}
