//! One container: as in lists, and inspected.

use std::{collections::BTreeSet, net::Ipv4Addr};

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::docker::{Answer, Call, Docker, human};
use crate::{
    fleet::{
        observe::{CPUS_LABEL, number, strings, text},
        wire,
    },
    model::{Container, Node, Refusal},
};

impl Docker {
    /// `GET /containers/{id}/json`: the engine's own words, and the node.
    pub(super) async fn inspect(&self, call: &Call, key: &str) -> Answer {
        let (container, member) = self.fleet.locate(key)?;
        let view = self.fleet.current();
        let node = view.node(&container.node).ok_or_else(|| Refusal::missing(format!("No such container: {key}")))?;
        let mut seen = if member.is_reachable() {
            member.client.get(&call.target(&format!("/containers/{}/json", container.id))).await?
        } else {
            let mut seen = (*container.inspect).clone();
            let error = node.error.clone().unwrap_or_default();
            seen["State"]["Error"] = json!(format!("as last seen: the node does not answer ({error})"));
            seen
        };
        seen["Node"] = node_of(node);
        if let Some(cpus) = container.labels.get(CPUS_LABEL).and_then(|cpus| cpus.parse::<u64>().ok()) {
            // What was asked for, not the weight that the engine got for it.
            seen["HostConfig"]["CpuShares"] = json!(cpus);
        }
        at_node(seen.pointer_mut("/NetworkSettings/Ports"), node.ip);
        Ok(wire::answer(StatusCode::OK, &seen))
    }
}

/// The node as Docker Swarm showed it in an inspection.
fn node_of(node: &Node) -> Value {
    json!({
        "ID": node.id,
        "IP": node.ip.to_string(),
        "Addr": format!("{}:{}", node.ip, sampan_agents::master::ENGINE_PORT),
        "Name": node.name,
        "Cpus": node.cpus,
        "Memory": node.memory,
        "Labels": node.labels,
    })
}

/// Published ports are ports of the node, and so is their address.
fn at_node(ports: Option<&mut Value>, ip: Ipv4Addr) {
    let Some(ports) = ports.and_then(Value::as_object_mut) else { return };
    for bindings in ports.values_mut().filter_map(Value::as_array_mut) {
        bindings.retain(|binding| text(binding, "/HostIp") != "::");
        for binding in bindings {
            if matches!(text(binding, "/HostIp"), "0.0.0.0" | "") {
                binding["HostIp"] = json!(ip.to_string());
            }
        }
    }
}

/// A container as lists show it. `answers`: its node does; else nobody knows how it is.
pub(super) fn entry(container: &Container, node: &Node, answers: bool, now: Timestamp) -> Value {
    let inspect = &*container.inspect;
    let status = match answers {
        false => "Host Down".to_owned(),
        true => human::status(&inspect["State"], now),
    };
    json!({
        "Id": container.id,
        "Names": [format!("/{}/{}", container.node, container.name)],
        "Image": container.image,
        "ImageID": container.image_id,
        "Command": command(inspect),
        "Created": container.created.as_second(),
        "Ports": ports(inspect, node.ip),
        "Labels": container.labels,
        "State": text(inspect, "/State/Status"),
        "Status": status,
        "HostConfig": {"NetworkMode": text(inspect, "/HostConfig/NetworkMode")},
        "NetworkSettings": {"Networks": networks(inspect)},
        "Mounts": inspect.get("Mounts").cloned().unwrap_or_else(|| json!([])),
    })
}

fn command(inspect: &Value) -> String {
    let mut command = text(inspect, "/Path").to_owned();
    for argument in strings(inspect.get("Args")) {
        match argument.contains(' ') {
            true => command.push_str(&format!(" '{argument}'")),
            false => command.push_str(&format!(" {argument}")),
        }
    }
    command
}

fn networks(inspect: &Value) -> Map<String, Value> {
    let networks = inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    networks.cloned().unwrap_or_default()
}

fn ports(inspect: &Value, ip: Ipv4Addr) -> Vec<Value> {
    let mut shown = Vec::new();
    let mut seen = BTreeSet::new();
    let ports = inspect.pointer("/NetworkSettings/Ports").and_then(Value::as_object);
    for (port, bound) in ports.into_iter().flatten() {
        let (private, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let Ok(private) = private.parse::<u16>() else { continue };
        let bound = bound.as_array().map(Vec::as_slice).unwrap_or_default();
        if bound.is_empty() {
            shown.push(json!({"PrivatePort": private, "Type": protocol}));
        }
        for binding in bound {
            let address = match text(binding, "/HostIp") {
                "0.0.0.0" | "" | "::" => ip.to_string(),
                address => address.to_owned(),
            };
            let Ok(public) = text(binding, "/HostPort").parse::<u16>() else { continue };
            if seen.insert((address.clone(), public, private, protocol)) {
                shown.push(json!({"IP": address, "PrivatePort": private, "PublicPort": public, "Type": protocol}));
            }
        }
    }
    shown
}

/// Puts the sizes that an engine measured into a list's entry.
pub(super) fn put_sizes(entry: &mut Value, measured: &Value) {
    entry["SizeRw"] = json!(number(measured, "/SizeRw"));
    entry["SizeRootFs"] = json!(number(measured, "/SizeRootFs"));
}
