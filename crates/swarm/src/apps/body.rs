//! The container of a service, as Docker is asked for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    marks::Marks,
    names,
    record::{Record, ServiceRecord},
};
use crate::{
    compose::{
        definition_hash,
        template::{Service, Volume},
    },
    model::{CLUSTER_NETWORK, View, labels},
};

/// Depth of `network_mode: service:` and `volumes_from` that a hash follows.
const DEPTH_MAX: usize = 16;
/// Labels that say how a service is kept, not what its containers are.
const KEEPING: [&str; 5] =
    ["aliyun.scale", "aliyun.depends", "aliyun.latest_image", "aliyun.rolling_updates", "aliyun.auto_scaling"];
/// Hash of everything that makes a service's containers what they are. Containers with another one are out of date.
pub(crate) fn definition(record: &Record, service: &ServiceRecord) -> String {
    let digest = Sha256::digest(essence(record, service, 0).as_bytes());
    digest.iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Hash of a service's own definition. Labels that say nothing of containers do not make a map of labels out of none.
fn made_from(service: &Service) -> String {
    let labels = service.container.get("Labels").and_then(Value::as_object);
    if labels.is_none_or(|labels| !labels.keys().all(|key| KEEPING.iter().any(|prefix| key.starts_with(prefix)))) {
        return definition_hash(service);
    }
    let mut bare = service.clone();
    if let Some(container) = bare.container.as_object_mut() {
        container.remove("Labels");
    }
    definition_hash(&bare)
}

/// Whether two versions of an application say the same of a service.
pub(crate) fn unchanged(one: &ServiceRecord, other: &ServiceRecord) -> bool {
    made_from(&one.service) == made_from(&other.service)
}

fn essence(record: &Record, service: &ServiceRecord, depth: usize) -> String {
    let template = &service.service;
    let peer = |name: &String| record.peer(service, name);
    let needed: BTreeMap<&String, u32> = template
        .depends
        .keys()
        .filter_map(|name| Some((name, peer(name)?.incarnation)))
        .filter(|(_, incarnation)| *incarnation > 1)
        .collect();
    let on: Vec<String> = bases(service)
        .filter(|_| depth < DEPTH_MAX)
        .filter_map(|name| Some(essence(record, peer(name)?, depth + 1)))
        .collect();
    format!("{}\n{needed:?}\n{on:?}\n{}\n{:?}", made_from(template), service.epoch, service.image)
}

/// Services whose containers this one's are built upon.
pub(crate) fn bases(service: &ServiceRecord) -> impl Iterator<Item = &String> {
    let template = &service.service;
    let from = template.volumes_from.iter().filter(|from| !from.is_container).map(|from| &from.source);
    [&template.network_of, &template.pid_of, &template.ipc_of].into_iter().flatten().chain(from)
}

/// Where a container may go beyond what its service says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// This node and no other.
    pub(crate) node: Option<String>,
    /// This node if it can be.
    pub(crate) rather: Option<String>,
}

/// Body of `POST /containers/create` for container `number` of a service.
pub(crate) fn body(record: &Record, service: &ServiceRecord, number: u32, place: &Placement, view: &View) -> Value {
    let mut body = match &service.service.container {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    body.insert("Env".into(), environment(record, &body, place));
    body.insert("Labels".into(), all_labels(record, service, &body, number));
    let mut host = match body.remove("HostConfig") {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    volumes(record, service, number, view, &mut host);
    for (key, base) in [("PidMode", &service.service.pid_of), ("IpcMode", &service.service.ipc_of)] {
        if let Some(base) = base.as_ref().and_then(|name| record.peer(service, name)) {
            host.insert(key.into(), json!(format!("container:{}", base_container(record, base, number, view))));
        }
    }
    let own_network = |mode: &str| mode.is_empty() || mode == "default" || mode == "bridge" || mode == CLUSTER_NETWORK;
    let mode = host.get("NetworkMode").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(base) = service.service.network_of.as_ref().and_then(|name| record.peer(service, name)) {
        host.insert("NetworkMode".into(), json!(format!("container:{}", base_container(record, base, number, view))));
    } else if own_network(&mode) {
        host.insert("NetworkMode".into(), json!(CLUSTER_NETWORK));
        body.insert("NetworkingConfig".into(), json!({ "EndpointsConfig": endpoints(record, service, view) }));
    }
    body.insert("HostConfig".into(), Value::Object(host));
    Value::Object(body)
}

/// Containers of one number go together where they share something; else the first there is.
fn base_container(record: &Record, base: &ServiceRecord, number: u32, view: &View) -> String {
    let wanted = names::container(base, number);
    let origin = base.origin();
    let mut there = view
        .containers
        .iter()
        .filter(|container| {
            names::belongs(record, container) && names::origin_of(record, container).as_ref() == Some(&origin)
        })
        .map(|container| container.name.clone())
        .collect::<BTreeSet<_>>();
    there.take(&wanted).or_else(|| there.pop_first()).unwrap_or(wanted)
}

fn environment(record: &Record, body: &Map<String, Value>, place: &Placement) -> Value {
    let given = body.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    // Moving after the loss of a node is done here, where the whole service is known.
    let mut env: Vec<String> = given
        .iter()
        .filter_map(Value::as_str)
        .filter(|entry| !entry.starts_with("reschedule:"))
        .map(String::from)
        .collect();
    if !env.iter().any(|entry| entry.starts_with("COMPOSE_PROJECT_NAME=")) {
        env.push(format!("COMPOSE_PROJECT_NAME={}", record.name));
    }
    env.extend(place.node.iter().map(|node| format!("constraint:node=={node}")));
    env.extend(place.rather.iter().map(|node| format!("constraint:node==~{node}")));
    json!(env)
}

fn all_labels(record: &Record, service: &ServiceRecord, body: &Map<String, Value>, number: u32) -> Value {
    let mut all = body.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let marks = serde_json::to_string(&Marks::of_service(&service.service.extensions)).unwrap_or_default();
    let ours = [
        (labels::PROJECT, record.name.clone()),
        (labels::SERVICE, record.canonical(&service.name)),
        (labels::NUMBER, number.to_string()),
        (labels::VERSION, service.version.clone()),
        (labels::DEFINITION, definition(record, service)),
        (names::UID, record.uid.clone()),
        (names::INCARNATION, service.incarnation.to_string()),
        (names::MARKS, marks),
        ("com.docker.compose.project", record.name.clone()),
        ("com.docker.compose.service", service.name.clone()),
        ("com.docker.compose.container-number", number.to_string()),
        ("com.docker.compose.oneoff", "False".to_owned()),
    ];
    all.extend(ours.map(|(key, value)| (key.to_owned(), Value::String(value))));
    Value::Object(all)
}

fn volumes(record: &Record, service: &ServiceRecord, number: u32, view: &View, host: &mut Map<String, Value>) {
    let mut binds = host.get("Binds").and_then(Value::as_array).cloned().unwrap_or_default();
    binds.extend(service.service.volumes.iter().map(|(volume, path, mode)| json!(format!("{volume}:{path}:{mode}"))));
    if !binds.is_empty() {
        host.insert("Binds".into(), Value::Array(binds));
    }
    let from: Vec<String> = service
        .service
        .volumes_from
        .iter()
        .map(|from| {
            let source = match record.peer(service, &from.source) {
                Some(base) if !from.is_container => base_container(record, base, number, view),
                _ => from.source.clone(),
            };
            if from.mode.is_empty() { source } else { format!("{source}:{}", from.mode) }
        })
        .collect();
    if !from.is_empty() {
        host.insert("VolumesFrom".into(), json!(from));
    }
}

/// Containers and services have no dots in their names, but for those that somebody named so.
fn is_domain(record: &Record, target: &str, view: &View) -> bool {
    target.contains('.')
        && !record.services.contains_key(target)
        && !view.containers.iter().any(|container| {
            container.name == target || container.labels.get(labels::SERVICE).is_some_and(|service| service == target)
        })
}

fn endpoints(record: &Record, service: &ServiceRecord, view: &View) -> Value {
    let own = names::own_alias(record, service);
    let shared = names::alias(record, &service.name);
    let mut links: BTreeMap<String, String> = BTreeMap::new();
    for other in record.services.values() {
        let Some(peer) = record.peer(service, &other.name) else { continue };
        // What a service says it needs is that of its own version; what it merely may ask is whatever has the name.
        let needed = peer.id == service.id || service.service.depends.contains_key(&peer.name);
        let target = if needed { names::own_alias(record, peer) } else { names::alias(record, &peer.name) };
        links.insert(peer.name.clone(), target);
    }
    for (target, alias) in &service.service.links {
        if let Some(peer) = record.peer(service, target) {
            links.insert(alias.clone(), names::own_alias(record, peer));
        }
    }
    for (target, alias) in &service.service.external_links {
        if is_domain(record, target, view) {
            // Those of routes lead to the routers, which listen inside the overlay, too.
            links.insert(target.clone(), crate::router::DOOR_NAME.to_owned());
            links.insert(alias.clone(), crate::router::DOOR_NAME.to_owned());
        } else {
            links.insert(alias.clone(), target.clone());
        }
    }
    let links: Vec<String> = links.into_iter().map(|(alias, target)| format!("{target}:{alias}")).collect();
    let mut endpoints = Map::new();
    endpoints.insert(CLUSTER_NETWORK.into(), json!({ "Aliases": [shared, own], "Links": links }));
    for (network, attachment) in &service.service.networks {
        if network == CLUSTER_NETWORK {
            continue;
        }
        let mut aliases = vec![service.name.clone()];
        aliases.extend(attachment.aliases.iter().cloned());
        let mut endpoint = json!({ "Aliases": aliases });
        if let Some(address) = &attachment.ipv4_address {
            endpoint["IPAMConfig"] = json!({ "IPv4Address": address });
        }
        endpoints.insert(network.clone(), endpoint);
    }
    Value::Object(endpoints)
}

/// Names of the volumes of a service whose content is on one node only.
pub(crate) fn local_volumes<'a>(record: &'a Record, service: &'a ServiceRecord) -> impl Iterator<Item = &'a str> {
    let is_local = |volume: &Volume| {
        let network = volume.options.get("type").is_some_and(|kind| kind.starts_with("nfs") || kind == "cifs");
        volume.driver.as_deref().is_none_or(|driver| driver == "local") && !network
    };
    let names = service.service.volumes.iter().map(|(name, _, _)| name.as_str());
    names.filter(move |name| record.volumes.get(*name).is_some_and(is_local))
}

/// Whether the service has a directory of its node.
pub(crate) fn has_host_paths(service: &ServiceRecord) -> bool {
    let binds = service.service.container.pointer("/HostConfig/Binds").and_then(Value::as_array);
    binds.is_some_and(|binds| !binds.is_empty())
}

/// Whether it asks for `reschedule:on-node-failure`.
pub(crate) fn reschedules(service: &ServiceRecord) -> bool {
    let env = service.service.container.get("Env").and_then(Value::as_array);
    env.is_some_and(|env| {
        let policies = env.iter().filter_map(Value::as_str).filter_map(|entry| entry.strip_prefix("reschedule:"));
        policies.into_iter().any(|policy| policy.trim_start_matches('=').starts_with("on-node-failure"))
    })
}

/// Ports of the node that the service's containers take.
pub(crate) fn host_ports(service: &ServiceRecord) -> BTreeSet<String> {
    let bindings = service.service.container.pointer("/HostConfig/PortBindings").and_then(Value::as_object);
    let each = bindings.into_iter().flatten().flat_map(|(port, bindings)| {
        let protocol = port.rsplit_once('/').map_or("tcp", |(_, protocol)| protocol).to_owned();
        bindings.as_array().into_iter().flatten().filter_map(move |binding| {
            let port = binding.get("HostPort")?.as_str()?;
            (!port.is_empty() && port != "0").then(|| format!("{port}/{protocol}"))
        })
    });
    each.collect()
}

/// Network mode as the template says it.
pub(crate) fn on_host_network(service: &ServiceRecord) -> bool {
    service.service.container.pointer("/HostConfig/NetworkMode").and_then(Value::as_str) == Some("host")
}
