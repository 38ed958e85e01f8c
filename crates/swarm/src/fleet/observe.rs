//! From what an engine says to the cluster's nouns.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::Value;

use super::belonging;
use crate::model::{Container, ContainerState, labels};

/// Label in which the number of processors reserved by `-c` is kept; the engine itself gets a weight.
pub(crate) const CPUS_LABEL: &str = "io.sampan.cpus";

/// The string at a JSON pointer, or nothing.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer, or 0.
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// The strings of an array.
pub(crate) fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The entries of an object whose values are strings.
pub(crate) fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let Some(map) = value.and_then(Value::as_object) else { return BTreeMap::new() };
    map.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A point in time as engines write it; the year 1 means never.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    let parsed: Timestamp = text.parse().ok()?;
    (parsed.as_second() > 0).then_some(parsed)
}

/// A container out of its inspection.
pub(crate) fn container(node: &str, inspect: Arc<Value>) -> Option<Container> {
    let id = text(&inspect, "/Id").to_owned();
    if id.is_empty() {
        return None;
    }
    let labels = belonging::without_disowned(string_map(inspect.pointer("/Config/Labels")));
    let host_config = &inspect["HostConfig"];
    Some(Container {
        id,
        name: text(&inspect, "/Name").trim_start_matches('/').to_owned(),
        node: node.to_owned(),
        image: text(&inspect, "/Config/Image").to_owned(),
        image_id: text(&inspect, "/Image").to_owned(),
        state: state(&inspect["State"]),
        exit_code: inspect.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or_default(),
        health: health(&inspect),
        created: time(text(&inspect, "/Created")).unwrap_or(Timestamp::UNIX_EPOCH),
        started: time(text(&inspect, "/State/StartedAt")),
        env: strings(inspect.pointer("/Config/Env")),
        networks: networks(&inspect),
        host_ports: host_ports(&inspect),
        host_network: text(host_config, "/NetworkMode") == "host",
        exposed_ports: ports_of(inspect.pointer("/Config/ExposedPorts")),
        memory: reserved_memory(host_config),
        nano_cpus: reserved_cpus(host_config, &labels),
        volumes: volumes(&inspect),
        labels,
        inspect,
    })
}

/// Memory that a container reserves: its limit, else what it says it needs.
pub(crate) fn reserved_memory(host_config: &Value) -> u64 {
    match number(host_config, "/Memory") {
        0 => number(host_config, "/MemoryReservation"),
        limit => limit,
    }
}

/// Processors that a container reserves: `--cpus`, else `-c` as Docker Swarm read it, kept in a label.
pub(crate) fn reserved_cpus(host_config: &Value, labels: &BTreeMap<String, String>) -> u64 {
    match number(host_config, "/NanoCpus") {
        0 => labels.get(CPUS_LABEL).and_then(|cpus| cpus.parse::<u64>().ok()).unwrap_or_default() * 1_000_000_000,
        nano => nano,
    }
}

/// Whether it is ours and hidden from users.
pub(crate) fn is_system(container: &Container) -> bool {
    container.labels.contains_key(labels::SYSTEM)
}

fn state(state: &Value) -> ContainerState {
    match text(state, "/Status") {
        "running" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "restarting" => ContainerState::Restarting,
        "removing" => ContainerState::Removing,
        "exited" => ContainerState::Exited,
        "dead" => ContainerState::Dead,
        _ => ContainerState::Created,
    }
}

fn health(inspect: &Value) -> Option<String> {
    match text(inspect, "/State/Health/Status") {
        "" | "none" => None,
        health => Some(health.to_owned()),
    }
}

fn networks(inspect: &Value) -> BTreeMap<String, Ipv4Addr> {
    let Some(networks) = inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object) else {
        return BTreeMap::new();
    };
    let address = |network: &Value| text(network, "/IPAddress").parse().ok();
    networks.iter().filter_map(|(name, network)| Some((name.clone(), address(network)?))).collect()
}

/// Ports that it wants and ports that it has.
fn host_ports(inspect: &Value) -> BTreeSet<(String, String, u16)> {
    let mut ports = bindings(inspect.pointer("/HostConfig/PortBindings"));
    ports.extend(bindings(inspect.pointer("/NetworkSettings/Ports")));
    ports
}

/// The fixed host ports of a map of bindings: (protocol, address or empty, port).
pub(crate) fn bindings(map: Option<&Value>) -> BTreeSet<(String, String, u16)> {
    let mut ports = BTreeSet::new();
    for (port, bound) in map.and_then(Value::as_object).into_iter().flatten() {
        let protocol = port.split_once('/').map_or("tcp", |(_, protocol)| protocol);
        for binding in bound.as_array().into_iter().flatten() {
            let address = text(binding, "/HostIp");
            let address = if matches!(address, "0.0.0.0" | "::") { "" } else { address };
            if let Ok(host) = text(binding, "/HostPort").parse::<u16>()
                && host != 0
            {
                ports.insert((protocol.to_owned(), address.to_owned(), host));
            }
        }
    }
    ports
}

/// The ports of a set such as `ExposedPorts`.
pub(crate) fn ports_of(set: Option<&Value>) -> BTreeSet<(String, u16)> {
    let mut ports = BTreeSet::new();
    for port in set.and_then(Value::as_object).into_iter().flat_map(|set| set.keys()) {
        let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        if let Ok(port) = port.parse() {
            ports.insert((protocol.to_owned(), port));
        }
    }
    ports
}

fn volumes(inspect: &Value) -> BTreeSet<String> {
    let mounts = inspect["Mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let volumes = mounts.iter().filter(|mount| mount["Type"] == "volume");
    volumes.map(|mount| text(mount, "/Name").to_owned()).filter(|name| !name.is_empty()).collect()
}
