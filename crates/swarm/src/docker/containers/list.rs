//! `GET /containers/json`: out of what is known; engines are asked for sizes only.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::show;
use crate::docker::{
    Answer, Call, Docker,
    filters::{Filters, matches},
};
use crate::{
    fleet::{
        into_array,
        observe::{ports_of, text},
        wire,
    },
    model::{Container, ContainerState, Refusal, View},
};

const FILTERS: [&str; 17] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "node",
    "publish",
    "since",
    "status",
    "volume",
    "label!",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// What decides whether a container is listed.
struct Choice<'a> {
    view: &'a View,
    filters: Filters,
    all: bool,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Docker {
    pub(super) async fn list(&self, call: &Call) -> Answer {
        let view = self.fleet.current();
        let filters = Filters::of(&call.query, &FILTERS)?;
        check(&filters)?;
        let limit = call.query.number("limit").unwrap_or(None).filter(|limit| *limit > 0);
        let created = |key: &str, filters: &Filters| -> Result<Option<Timestamp>, Refusal> {
            let named = filters.values(key).first().map(String::as_str).or_else(|| call.query.text(key));
            let named = named.filter(|named| !named.is_empty());
            named.map(|named| view.find(named).map(|container| container.created)).transpose()
        };
        let choice = Choice {
            view: &view,
            all: call.query.flag("all") || limit.is_some() || filters.has("status"),
            before: created("before", &filters)?,
            since: created("since", &filters)?,
            filters,
        };
        let mut chosen: Vec<&Arc<Container>> = view.containers.iter().filter(|one| choice.takes(one)).collect();
        chosen.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        if let Some(limit) = limit {
            chosen.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let members = self.fleet.members();
        let answers = |name: &str| members.iter().any(|member| member.name == name && member.is_reachable());
        let nodes: BTreeMap<&str, _> =
            view.nodes.iter().map(|node| (node.name.as_str(), (node, answers(&node.name)))).collect();
        let now = Timestamp::now();
        let entries = chosen.iter().filter_map(|one| {
            let (node, answers) = nodes.get(one.node.as_str())?;
            Some(show::entry(one, node, *answers, now))
        });
        let mut entries: Vec<Value> = entries.collect();
        if call.query.flag("size") {
            self.measure_sizes(&mut entries).await;
        }
        Ok(wire::answer(StatusCode::OK, &entries))
    }

    async fn measure_sizes(&self, entries: &mut [Value]) {
        let healthy = self.fleet.healthy();
        let measured = join_all(healthy.iter().map(|member| member.client.get("/containers/json?all=1&size=1"))).await;
        let lists = measured.into_iter().filter_map(Result::ok).flat_map(into_array);
        let sizes: BTreeMap<String, Value> = lists.map(|one| (text(&one, "/Id").to_owned(), one)).collect();
        for entry in entries {
            if let Some(size) = sizes.get(text(entry, "/Id")) {
                show::put_sizes(entry, size);
            }
        }
    }
}

fn check(filters: &Filters) -> Result<(), Refusal> {
    for state in filters.values("status") {
        if !STATES.contains(&state.as_str()) {
            return Err(Refusal::bad(format!("Unrecognised filter value for status: {state}")));
        }
    }
    for code in filters.values("exited") {
        if code.parse::<i64>().is_err() {
            return Err(Refusal::bad(format!("Invalid filter 'exited={code}'")));
        }
    }
    for key in ["publish", "expose"] {
        for port in filters.values(key) {
            port_range(port).ok_or_else(|| Refusal::bad(format!("Invalid filter '{key}={port}'")))?;
        }
    }
    Ok(())
}

impl Choice<'_> {
    fn takes(&self, one: &Container) -> bool {
        let filters = &self.filters;
        let up = matches!(one.state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting);
        (self.all || up)
            && self.before.is_none_or(|before| one.created < before)
            && self.since.is_none_or(|since| one.created > since)
            && filters.any("id", |id| one.id.starts_with(id) || matches(id, &one.id))
            && filters.any("name", |name| self.named(name, one))
            && filters.any("status", |status| text(&one.inspect, "/State/Status") == status)
            && filters.any("exited", |code| {
                one.state == ContainerState::Exited && code.parse::<i64>().is_ok_and(|code| code == one.exit_code)
            })
            && filters.any("health", |health| one.health.as_deref().unwrap_or("none") == health)
            && filters.any("is-task", |task| matches!(task, "false" | "0"))
            && filters.labels(&one.labels)
            && self.takes_surroundings(one)
    }

    fn takes_surroundings(&self, one: &Container) -> bool {
        let filters = &self.filters;
        filters.any("node", |node| self.view.node(node).is_some_and(|node| node.name == one.node))
            && filters.any("ancestor", |image| self.descends(image, one))
            && filters.any("network", |network| in_network(network, one))
            && filters.any("volume", |volume| mounts(volume, one))
            && filters.any("publish", |port| published(port, one))
            && filters.any("expose", |port| exposed(port, one))
    }

    /// Docker compares with the name and with the slash before it; Docker Swarm with the node before that too.
    fn named(&self, wanted: &str, one: &Container) -> bool {
        let full = format!("/{}/{}", one.node, one.name);
        matches(wanted, &one.name) || matches(wanted, &format!("/{}", one.name)) || matches(wanted, &full)
    }

    fn descends(&self, image: &str, one: &Container) -> bool {
        let node = self.view.node(&one.node);
        let same_id = node.and_then(|node| crate::fleet::find_image(&node.images, image));
        one.image == image || same_id.is_some_and(|found| found.id == one.image_id)
    }
}

fn in_network(wanted: &str, one: &Container) -> bool {
    let networks = one.inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    networks.into_iter().flatten().any(|(name, endpoint)| {
        let id = text(endpoint, "/NetworkID");
        name == wanted || (!id.is_empty() && id.starts_with(wanted))
    })
}

fn mounts(wanted: &str, one: &Container) -> bool {
    let mounts = one.inspect.get("Mounts").and_then(Value::as_array);
    mounts
        .into_iter()
        .flatten()
        .any(|mount| [text(mount, "/Name"), text(mount, "/Source"), text(mount, "/Destination")].contains(&wanted))
}

/// `port`, `port/protocol`, `first-last/protocol`.
fn port_range(text: &str) -> Option<(u16, u16, &str)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    Some((first.parse().ok()?, last.parse().ok()?, protocol))
}

fn published(wanted: &str, one: &Container) -> bool {
    let Some((first, last, protocol)) = port_range(wanted) else { return false };
    let ports = one.inspect.pointer("/NetworkSettings/Ports").and_then(Value::as_object);
    ports.into_iter().flatten().any(|(port, bound)| {
        let (private, own) = port.split_once('/').unwrap_or((port, "tcp"));
        let within = private.parse::<u16>().is_ok_and(|private| (first..=last).contains(&private));
        within && own == protocol && bound.as_array().is_some_and(|bound| !bound.is_empty())
    })
}

fn exposed(wanted: &str, one: &Container) -> bool {
    let Some((first, last, protocol)) = port_range(wanted) else { return false };
    let exposed = ports_of(one.inspect.pointer("/Config/ExposedPorts"));
    exposed.iter().any(|(own, port)| own == protocol && (first..=last).contains(port))
}
