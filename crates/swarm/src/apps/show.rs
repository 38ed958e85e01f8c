//! Applications and services as the API shows them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use serde_json::{Map, Value, json};

use super::{
    Inner, Words, health,
    record::{Desired, Record, ServiceRecord},
    rolling,
    scene::{Crew, Member, NodeSight, Notes, Scene},
};
use crate::model::{Container, ContainerState, View};

/// Failures in a row after which a state is `failed`; it is tried on all the same.
const FAILED_AFTER: u32 = 5;

/// What is shown beside the objects themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail {
    pub(crate) services: bool,
    pub(crate) containers: bool,
}

/// Everything that a picture of applications is made from.
pub(crate) struct Showing<'a> {
    inner: &'a Inner,
    view: Arc<View>,
    nodes: BTreeMap<String, NodeSight>,
    notes: Notes,
}

impl<'a> Showing<'a> {
    pub(crate) fn new(inner: &'a Inner) -> Self {
        let view = inner.engines.view();
        let nodes = inner.sight.look(&view);
        Self { inner, view, nodes, notes: Notes::default() }
    }

    fn words(&self, record: &Record) -> Words {
        self.inner.words().get(&record.name).cloned().unwrap_or_default()
    }

    fn with_scene<T>(&self, record: &Record, look: impl FnOnce(&Scene<'_>) -> T) -> T {
        let health = |container: &Container| self.inner.health.of(container);
        look(&Scene::new(record, &self.view, &self.nodes, &self.notes, &health))
    }

    /// Object `Project`.
    pub(crate) fn project(&self, record: &Record, detail: Detail) -> Value {
        let words = self.words(record);
        self.with_scene(record, |scene| {
            let states: Vec<&'static str> = scene.crews().map(|crew| state(scene, crew, &words)).collect();
            let mut environment = record.environment.clone();
            environment.entry("COMPOSE_PROJECT_NAME".into()).or_insert_with(|| record.name.clone());
            let services: Vec<Value> = if detail.services {
                scene.crews().map(|crew| self.service_in(scene, crew, &words, detail.containers)).collect()
            } else {
                Vec::new()
            };
            let mut shown = json!({
                "name": record.name,
                "description": record.description,
                "template": record.template,
                "version": record.version,
                "environment": environment,
                "created": record.created.to_string(),
                "updated": record.updated.to_string(),
                "desired_state": if record.deletion.is_some() { "deleted" } else { record.desired().word() },
                "current_state": whole(scene, &states),
                "services": services,
            });
            if let Some(next) = &record.next {
                shown["update"] = json!({
                    "method": "blue-green",
                    "version": next.version,
                    "since": next.since.to_string(),
                    "confirmed": next.confirmed.is_some(),
                });
            }
            let message = words.errors.get("").cloned().unwrap_or_default();
            if !message.is_empty() {
                shown["message"] = json!(message);
            }
            if !record.notes.is_empty() {
                shown["notes"] = json!(record.notes);
            }
            shown
        })
    }

    /// Object `Service`.
    pub(crate) fn service(&self, record: &Record, service: &ServiceRecord, containers: bool) -> Value {
        let words = self.words(record);
        let look = |scene: &Scene<'_>| {
            let crew = scene.crew(&service.id);
            crew.map_or(Value::Null, |crew| self.service_in(scene, crew, &words, containers))
        };
        self.with_scene(record, look)
    }

    fn service_in(&self, scene: &Scene<'_>, crew: &Crew<'_>, words: &Words, containers: bool) -> Value {
        let (record, service) = (scene.record, crew.service);
        let mut shown = Map::new();
        let mut show = |key: &str, value: Value| shown.insert(key.to_owned(), value);
        show("id", json!(service.id));
        show("name", json!(service.name));
        show("project", json!(record.name));
        show("definition", Value::Object(service.service.definition.clone()));
        show("extensions", extensions(service));
        show("created", json!(service.created.to_string()));
        show("updated", json!(service.updated.to_string()));
        show("desired_state", json!(if record.deletion.is_some() { "deleted" } else { service.desired.word() }));
        show("current_state", json!(state(scene, crew, words)));
        show("version", json!(service.version));
        if service.is_routed() {
            show("weight", json!(service.weight));
        }
        if let Some(message) = self.message(service, crew, words) {
            show("message", json!(message));
        }
        if containers {
            let all = crew.all().map(|member| (member.container.id.clone(), self.container(member)));
            show("containers", Value::Object(all.collect()));
        }
        Value::Object(shown)
    }

    fn container(&self, member: &Member<'_>) -> Value {
        let container = member.container;
        let node = self.view.node(&container.node).map_or_else(|| container.node.clone(), |node| node.ip.to_string());
        let running = matches!(container.state, ContainerState::Running | ContainerState::Paused);
        let ip = health::address(&self.view, container).map(|ip| ip.to_string()).unwrap_or_default();
        let health = match (running, member.reachable) {
            (true, true) => member.health.word(),
            (true, false) => "unknown",
            (false, _) if member.completed => "success",
            (false, _) => "unknown",
        };
        json!({
            "name": format!("/{}", container.name),
            "node": node,
            "ip": ip,
            "running": running,
            "status": container.state,
            "health": health,
        })
    }

    /// Why a service is not as it shall be.
    fn message(&self, service: &ServiceRecord, crew: &Crew<'_>, words: &Words) -> Option<String> {
        let probe = || {
            let failing = crew.present().filter(|member| member.serves() && !member.ready());
            failing.into_iter().find_map(|member| self.inner.health.detail(member.container))
        };
        let restarting = || {
            let again = crew.present().find(|member| member.container.state == ContainerState::Restarting)?;
            let (name, code) = (&again.container.name, again.container.exit_code);
            Some(format!("{name} ends again and again, the last time with code {code}"))
        };
        let conflict = self.inner.routes.conflict(&service.id);
        let error = words.errors.get(&service.id).filter(|_| !crew.settled()).cloned();
        let unsent = || self.inner.unsent.lock().unwrap_or_else(PoisonError::into_inner).get(&service.id).cloned();
        conflict
            .or(error)
            .or_else(|| words.reasons.get(&service.id).cloned())
            .or_else(probe)
            .or_else(restarting)
            .or_else(unsent)
            .or_else(|| service.pull_error.clone())
    }
}

fn extensions(service: &ServiceRecord) -> Value {
    let mut shown = service.service.extensions.shown();
    if !service.service.extensions.global {
        // The number that holds now, not the one that the template began with.
        shown.insert("scale".into(), json!(service.scale));
    }
    Value::Object(shown)
}

/// State of a service in one word.
fn state(scene: &Scene<'_>, crew: &Crew<'_>, words: &Words) -> &'static str {
    let service = crew.service;
    if scene.record.deletion.is_some() {
        return "deleting";
    }
    if service.desired == Desired::Stopped {
        return if crew.settled() { "stopped" } else { "stopping" };
    }
    let given_up = crew.current.iter().any(|member| member.given_up);
    if crew.settled() {
        if !words.failures.contains_key(&service.id) && rolling::misnumbered(scene, crew).is_some() {
            return "updating";
        }
        let done = crew.wanted > 0 && crew.current.iter().all(|member| member.completed);
        return if done { "stopped" } else { "running" };
    }
    if given_up || words.failures.get(&service.id).is_some_and(|failures| *failures >= FAILED_AFTER) {
        return "failed";
    }
    if !crew.old.is_empty() || (service.pull && crew.present().next().is_some()) {
        return "updating";
    }
    match (crew.current.len(), crew.ready()) {
        (0, _) => "launching",
        (count, ready) if count != crew.wanted && ready > 0 => "scaling",
        (count, _) if count < crew.wanted => "launching",
        _ => "starting",
    }
}

/// State of an application, from those of its services.
fn whole(scene: &Scene<'_>, states: &[&'static str]) -> &'static str {
    let record = scene.record;
    if record.deletion.is_some() {
        return "deleting";
    }
    let has = |state: &&&str| states.contains(*state);
    if let Some(state) = ["failed", "updating", "launching", "starting", "scaling", "stopping"].iter().find(has) {
        return state;
    }
    let confirmed = record.next.as_ref().is_some_and(|next| next.confirmed.is_some());
    if confirmed || scene.orphans.iter().any(|container| scene.reachable(container)) {
        return "updating";
    }
    record.desired().word()
}
