//! From the body of a request to create a container to what is asked of the scheduler and of the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use rand::Rng as _;
use serde_json::{Map, Value, json};

use super::{
    observe::{self, CPUS_LABEL, text},
    reschedule::IDENTITY_LABEL,
};
use crate::{
    model::{CLUSTER_NETWORK, Container, ContainerState, Refusal, View, labels},
    schedule::{Expressions, Request},
};

/// `-c` up to here is a number of processors, as Docker Swarm read it; above it is Docker's relative weight.
const CPUS_MAX: u64 = 64;
/// Weight of one processor.
const SHARES_PER_CPU: u64 = 1024;

/// A container that is to be created.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The engine's body.
    pub(crate) body: Value,
    /// The scheduler's question.
    pub(crate) request: Request,
    cpus: Option<u64>,
}

/// Takes scheduling expressions out of the body and makes it one for an engine of this cluster.
/// `identity`: of the container that this one replaces; else it gets its own.
pub(crate) fn plan(view: &View, body: Value, identity: Option<&str>) -> Result<Plan, Refusal> {
    let Value::Object(mut body) = body else {
        return Err(Refusal::bad("config cannot be empty in order to create a container"));
    };
    let expressions = take_expressions(&mut body)?;
    let host_config = object(&mut body, "HostConfig")?;
    let mut dependencies = Vec::new();
    share(view, host_config, &mut dependencies)?;
    let links = overlay_mode(view, host_config, &mut dependencies)?;
    let cpus = reserve_cpus(host_config);
    let host_config = Value::Object(std::mem::take(host_config));
    let request = Request {
        image: body.get("Image").and_then(Value::as_str).unwrap_or_default().to_owned(),
        expressions,
        host_ports: observe::bindings(host_config.get("PortBindings")),
        host_network: text(&host_config, "/NetworkMode") == "host",
        exposed_ports: observe::ports_of(body.get("ExposedPorts")),
        memory: observe::reserved_memory(&host_config),
        nano_cpus: cpus.map_or_else(|| observe::number(&host_config, "/NanoCpus"), |cpus| cpus * 1_000_000_000),
        dependencies,
        volumes: named_volumes(&host_config),
        service: text(body.get("Labels").unwrap_or(&Value::Null), &pointer(labels::SERVICE)).to_owned().into(),
        excluded: BTreeSet::new(),
    };
    body.insert("HostConfig".to_owned(), host_config);
    put_links(&mut body, links)?;
    put_labels(&mut body, cpus, identity)?;
    let service = request.service.filter(|service| !service.is_empty());
    Ok(Plan { body: Value::Object(body), request: Request { service, ..request }, cpus })
}

impl Plan {
    /// The body for an engine with this many processors.
    pub(crate) fn body_for(&self, node_cpus: u32) -> Value {
        let mut body = self.body.clone();
        if let Some(cpus) = self.cpus {
            let shares = (cpus * SHARES_PER_CPU).div_ceil(u64::from(node_cpus.max(1)));
            body["HostConfig"]["CpuShares"] = json!(shares.max(2));
        }
        body
    }

    /// What other placements have to know of it until it is seen.
    pub(crate) fn shadow(&self, name: &str, node: &str) -> Container {
        Container {
            id: String::new(),
            name: name.to_owned(),
            node: node.to_owned(),
            image: self.request.image.clone(),
            image_id: String::new(),
            state: ContainerState::Created,
            exit_code: 0,
            health: None,
            created: Timestamp::UNIX_EPOCH,
            started: None,
            labels: observe::string_map(self.body.get("Labels")),
            env: Vec::new(),
            networks: BTreeMap::new(),
            host_ports: self.request.host_ports.clone(),
            host_network: self.request.host_network,
            exposed_ports: self.request.exposed_ports.clone(),
            memory: self.request.memory,
            nano_cpus: self.request.nano_cpus,
            volumes: self.request.volumes.clone(),
            inspect: Arc::new(Value::Null),
        }
    }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The object under `key`, made if there is none.
fn object<'a>(body: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>, Refusal> {
    let value = body.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or_else(|| Refusal::bad(format!("{key} is not an object")))
}

/// Takes `constraint:`, `affinity:` and `reschedule:` out of the environment into labels, where they are kept.
fn take_expressions(body: &mut Map<String, Value>) -> Result<Expressions, Refusal> {
    let mut taken: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let kinds =
        [("constraint:", labels::CONSTRAINTS), ("affinity:", labels::AFFINITIES), ("reschedule:", labels::RESCHEDULE)];
    if let Some(Value::Array(env)) = body.get_mut("Env") {
        env.retain(|entry| {
            let entry = entry.as_str().unwrap_or_default();
            let found = kinds.iter().find_map(|(prefix, label)| Some((*label, entry.strip_prefix(prefix)?)));
            if let Some((label, expression)) = found {
                taken.entry(label).or_default().push(expression.trim_end_matches('=').to_owned());
            }
            found.is_none()
        });
    }
    let kept = object(body, "Labels")?;
    for (_, label) in kinds {
        let mut list = labelled(kept, label)?;
        for expression in taken.remove(label).unwrap_or_default() {
            if !list.contains(&expression) {
                list.push(expression);
            }
        }
        if !list.is_empty() {
            kept.insert(label.to_owned(), Value::String(json!(list).to_string()));
        }
        taken.insert(label, list);
    }
    let list = |label| taken.get(label).map(Vec::as_slice).unwrap_or_default();
    Expressions::parse(list(labels::CONSTRAINTS), list(labels::AFFINITIES), list(labels::RESCHEDULE))
}

/// Expressions that a label holds: a JSON array, or one word.
fn labelled(kept: &Map<String, Value>, label: &str) -> Result<Vec<String>, Refusal> {
    match kept.get(label).and_then(Value::as_str) {
        None | Some("") => Ok(Vec::new()),
        Some(list) if list.starts_with('[') => {
            serde_json::from_str(list).map_err(|error| Refusal::bad(format!("the label {label} is no list: {error}")))
        }
        Some(word) => Ok(vec![word.to_owned()]),
    }
}

/// What is shared with another container needs that container's node; its name becomes its id.
fn share(
    view: &View,
    host_config: &mut Map<String, Value>,
    dependencies: &mut Vec<(String, String)>,
) -> Result<(), Refusal> {
    let modes = [("NetworkMode", "--net"), ("IpcMode", "--ipc"), ("PidMode", "--pid")];
    for (key, option) in modes {
        let Some(other) = host_config.get(key).and_then(Value::as_str).and_then(|mode| mode.strip_prefix("container:"))
        else {
            continue;
        };
        let target = view.find(other)?;
        dependencies.push((format!("{option}=container:{other}"), target.id.clone()));
        let mode = format!("container:{}", target.id);
        host_config.insert(key.to_owned(), Value::String(mode));
    }
    if let Some(Value::Array(sources)) = host_config.get_mut("VolumesFrom") {
        for source in sources {
            let written = source.as_str().unwrap_or_default().to_owned();
            let (other, mode) = match written.rsplit_once(':') {
                Some((other, mode)) => (other, Some(mode)),
                None => (written.as_str(), None),
            };
            let target = view.find(other)?;
            dependencies.push((format!("--volumes-from={other}"), target.id.clone()));
            *source = Value::String(mode.map_or_else(|| target.id.clone(), |mode| format!("{}:{mode}", target.id)));
        }
    }
    Ok(())
}

/// The mode `default`, `bridge` or nothing is the cluster's overlay. There, links belong to the endpoint; they are answered.
fn overlay_mode(
    view: &View,
    host_config: &mut Map<String, Value>,
    dependencies: &mut Vec<(String, String)>,
) -> Result<Vec<String>, Refusal> {
    let mode = host_config.get("NetworkMode").and_then(Value::as_str).unwrap_or_default();
    if !matches!(mode, "" | "default" | "bridge") && mode != CLUSTER_NETWORK {
        return Ok(Vec::new());
    }
    host_config.insert("NetworkMode".to_owned(), json!(CLUSTER_NETWORK));
    let mut links = Vec::new();
    for link in observe::strings(host_config.remove("Links").as_ref()) {
        let (other, alias) = link.split_once(':').unwrap_or((&link, &link));
        let target = view.find(other)?;
        dependencies.push((format!("--link={link}"), target.id.clone()));
        links.push(format!("{}:{}", target.name, alias.rsplit('/').next().unwrap_or(alias)));
    }
    Ok(links)
}

/// Endpoints of the default network become the overlay's, and get the links.
fn put_links(body: &mut Map<String, Value>, links: Vec<String>) -> Result<(), Refusal> {
    let overlay = body["HostConfig"]["NetworkMode"] == CLUSTER_NETWORK;
    if !overlay {
        return Ok(());
    }
    let networking = object(body, "NetworkingConfig")?;
    let endpoints = object(networking, "EndpointsConfig")?;
    for other in ["default", "bridge"] {
        if let Some(endpoint) = endpoints.remove(other) {
            endpoints.entry(CLUSTER_NETWORK).or_insert(endpoint);
        }
    }
    if links.is_empty() {
        return Ok(());
    }
    let endpoint = object(endpoints, CLUSTER_NETWORK)?;
    let mut all = observe::strings(endpoint.get("Links"));
    all.extend(links);
    endpoint.insert("Links".to_owned(), json!(all));
    Ok(())
}

fn put_labels(body: &mut Map<String, Value>, cpus: Option<u64>, identity: Option<&str>) -> Result<(), Refusal> {
    let kept = object(body, "Labels")?;
    // Copied from an inspection it would make this one and that one the same.
    let identity = identity.map_or_else(new_identity, str::to_owned);
    kept.insert(IDENTITY_LABEL.to_owned(), Value::String(identity));
    // What is hidden is ours, and ours is not made here.
    kept.remove(labels::SYSTEM);
    match cpus {
        Some(cpus) => kept.insert(CPUS_LABEL.to_owned(), Value::String(cpus.to_string())),
        None => kept.remove(CPUS_LABEL),
    };
    Ok(())
}

fn new_identity() -> String {
    let random: [u8; 32] = rand::rng().random();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `-c` with a small number reserves that many processors.
fn reserve_cpus(host_config: &Map<String, Value>) -> Option<u64> {
    let shares =
        host_config.get("CpuShares").and_then(Value::as_u64).filter(|shares| (1..=CPUS_MAX).contains(shares))?;
    let explicit = host_config.get("NanoCpus").and_then(Value::as_u64).unwrap_or_default();
    (explicit == 0).then_some(shares)
}

/// Names of volumes in `Binds` and `Mounts`.
fn named_volumes(host_config: &Value) -> BTreeSet<String> {
    let binds = observe::strings(host_config.get("Binds"));
    let bound = binds.iter().filter_map(|bind| bind.split_once(':')).map(|(source, _)| source.to_owned());
    let mounts = host_config.get("Mounts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mounted =
        mounts.iter().filter(|mount| mount["Type"] == "volume").map(|mount| text(mount, "/Source").to_owned());
    bound.chain(mounted).filter(|name| !name.is_empty() && !name.starts_with(['/', '.', '~'])).collect()
}
