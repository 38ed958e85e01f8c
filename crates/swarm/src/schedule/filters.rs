//! Which nodes are out of the question, and why.

use super::{Candidate, Expression, Request};
use crate::model::{Container, Node, NodeHealth, labels};

/// Label of an engine: how many containers it takes at most.
const SLOTS_LABEL: &str = "containerslots";
/// Memory and processors may be promised up to this share of what is there, in percent.
const OVERCOMMIT_PERCENT: u64 = 105;

/// Why a node is excluded.
#[derive(Clone, Debug)]
pub(crate) struct Exclusion {
    pub(crate) reason: String,
    /// It would do if it had more memory or processors left.
    pub(crate) resources: bool,
}

impl From<String> for Exclusion {
    fn from(reason: String) -> Self {
        Self { reason, resources: false }
    }
}

/// The filter `health`, and nodes that are leaving or were tried already.
pub(crate) fn healthy(candidate: &Candidate<'_>, request: &Request) -> bool {
    let node = candidate.node;
    node.health == NodeHealth::Healthy && node.schedulable && !request.excluded.contains(&node.name)
}

/// All filters that admit no exception.
pub(crate) fn hard(candidate: &Candidate<'_>, request: &Request) -> Result<(), Exclusion> {
    ports(candidate, request)?;
    slots(candidate)?;
    dependencies(candidate, request)?;
    let expressions = &request.expressions;
    for affinity in expressions.affinities.iter().filter(|expression| !expression.soft) {
        if !affine(candidate, affinity) {
            return Err(format!("affinity:{}", affinity.text).into());
        }
    }
    for constraint in expressions.constraints.iter().filter(|expression| !expression.soft) {
        if !constrained(candidate.node, constraint) {
            return Err(format!("constraint:{}", constraint.text).into());
        }
    }
    resources(candidate, request)
}

/// Wishes: each narrows the choice unless nothing would be left.
pub(crate) fn soft<'a, 'b>(mut fit: Vec<&'a Candidate<'b>>, request: &Request) -> Vec<&'a Candidate<'b>> {
    let mut narrow = |holds: &dyn Fn(&Candidate<'_>) -> bool| {
        let narrowed: Vec<_> = fit.iter().copied().filter(|candidate| holds(candidate)).collect();
        if !narrowed.is_empty() {
            fit = narrowed;
        }
    };
    for affinity in request.expressions.affinities.iter().filter(|expression| expression.soft) {
        narrow(&|candidate| affine(candidate, affinity));
    }
    for constraint in request.expressions.constraints.iter().filter(|expression| expression.soft) {
        narrow(&|candidate| constrained(candidate.node, constraint));
    }
    if !request.volumes.is_empty() {
        // Data stays where it is: a local volume that is on some node only is not made anew, empty, on another.
        narrow(&|candidate| request.volumes.is_subset(&candidate.node.volumes));
    }
    fit
}

/// The conditions of a request, in Docker Swarm's words.
pub(crate) fn conditions(request: &Request) -> Vec<String> {
    let mut list = Vec::new();
    let mode = if request.host_network { "Host mode" } else { "Bridge mode" };
    list.extend(wanted_ports(request).iter().map(|(protocol, _, port)| format!("port {port}/{protocol} ({mode})")));
    list.push("available container slots".to_owned());
    list.extend(request.dependencies.iter().map(|(option, _)| option.clone()));
    let soft = |expression: &Expression| format!("(soft={})", expression.soft);
    let expressions = &request.expressions;
    list.extend(expressions.affinities.iter().map(|one| format!("affinity:{} {}", one.text, soft(one))));
    list.extend(expressions.constraints.iter().map(|one| format!("constraint:{} {}", one.text, soft(one))));
    list
}

fn wanted_ports(request: &Request) -> Vec<(String, String, u16)> {
    let exposed = request.exposed_ports.iter().filter(|_| request.host_network);
    let exposed = exposed.map(|(protocol, port)| (protocol.clone(), String::new(), *port));
    request.host_ports.iter().cloned().chain(exposed).collect()
}

fn ports(candidate: &Candidate<'_>, request: &Request) -> Result<(), Exclusion> {
    let wanted = wanted_ports(request);
    if wanted.is_empty() {
        return Ok(());
    }
    for container in &candidate.containers {
        for port in &wanted {
            if takes(container, port) {
                return Err(format!("port {}/{} is taken by {}", port.2, port.0, container.name).into());
            }
        }
    }
    Ok(())
}

fn takes(container: &Container, (protocol, address, port): &(String, String, u16)) -> bool {
    let everywhere = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
    let published = container.host_ports.iter().any(|(other_protocol, other_address, other)| {
        other == port
            && other_protocol == protocol
            && (everywhere(address) || everywhere(other_address) || address == other_address)
    });
    published || (container.host_network && container.exposed_ports.contains(&(protocol.clone(), *port)))
}

fn slots(candidate: &Candidate<'_>) -> Result<(), Exclusion> {
    let slots = candidate.node.labels.get(SLOTS_LABEL).and_then(|slots| slots.trim().parse::<usize>().ok());
    match slots {
        Some(slots) if candidate.containers.len() >= slots => {
            Err(format!("all of its {slots} container slots are taken").into())
        }
        _ => Ok(()),
    }
}

fn dependencies(candidate: &Candidate<'_>, request: &Request) -> Result<(), Exclusion> {
    let missing = request
        .dependencies
        .iter()
        .find(|(_, wanted)| !candidate.containers.iter().any(|container| container.id == *wanted));
    missing.map_or(Ok(()), |(option, _)| Err(format!("{option} is not there").into()))
}

/// Whether what is on a node satisfies an affinity.
fn affine(candidate: &Candidate<'_>, expression: &Expression) -> bool {
    let containers = &candidate.containers;
    match expression.key.as_str() {
        "container" => {
            expression.holds(containers.iter().flat_map(|container| [container.id.as_str(), &container.name]))
        }
        "image" => {
            let images = &candidate.node.images;
            let names = images.iter().flat_map(|image| {
                let tags = image.tags.iter().flat_map(|tag| [tag.as_str(), repository(tag)]);
                std::iter::once(image.id.as_str()).chain(tags)
            });
            expression.holds(names)
        }
        "service" => expression.holds(containers.iter().flat_map(|container| service_names(container))),
        label => {
            expression.holds(containers.iter().filter_map(|container| container.labels.get(label).map(String::as_str)))
        }
    }
}

/// `name` of `name:tag`; a port of the registry is not a tag.
fn repository(tag: &str) -> &str {
    match tag.rsplit_once(':') {
        Some((name, version)) if !version.contains('/') => name,
        _ => tag,
    }
}

/// Names by which a service is known: `{project}_{service}` and `{service}`, and Compose's.
fn service_names(container: &Container) -> Vec<&str> {
    let mut names = Vec::new();
    if let Some(service) = container.labels.get(labels::SERVICE) {
        names.push(service.as_str());
        let project = container.labels.get(labels::PROJECT);
        let short = project.and_then(|project| service.strip_prefix(project.as_str())?.strip_prefix('_'));
        names.extend(short);
    }
    names.extend(container.labels.get("com.docker.compose.service").map(String::as_str));
    names
}

/// Whether a node satisfies a constraint.
fn constrained(node: &Node, expression: &Expression) -> bool {
    let ip;
    let index;
    let found: Vec<&str> = match expression.key.to_ascii_lowercase().as_str() {
        "node" => {
            ip = node.ip.to_string();
            vec![&node.id, &node.name, &ip]
        }
        "storagedriver" => vec![&node.storage_driver],
        "executiondriver" => vec![&node.execution_driver],
        "kernelversion" => vec![&node.kernel_version],
        "operatingsystem" => vec![&node.operating_system],
        "aliyun.node_index" => {
            index = node.index.to_string();
            vec![&index]
        }
        _ => node.labels.get(&expression.key).map(String::as_str).into_iter().collect(),
    };
    expression.holds(found)
}

fn resources(candidate: &Candidate<'_>, request: &Request) -> Result<(), Exclusion> {
    let short = |what: &str| Err(Exclusion { reason: format!("not enough {what} left"), resources: true });
    let memory = candidate.reserved_memory().saturating_add(request.memory);
    if request.memory > 0 && memory > usable(candidate.node.memory) {
        return short("memory");
    }
    let cpus = candidate.reserved_cpus().saturating_add(request.nano_cpus);
    if request.nano_cpus > 0 && cpus > usable(u64::from(candidate.node.cpus) * NANO) {
        return short("processors");
    }
    Ok(())
}

/// Billionths of a processor.
pub(crate) const NANO: u64 = 1_000_000_000;

pub(crate) fn usable(total: u64) -> u64 {
    u64::try_from(u128::from(total) * u128::from(OVERCOMMIT_PERCENT) / 100).unwrap_or(u64::MAX)
}

impl Candidate<'_> {
    pub(crate) fn reserved_memory(&self) -> u64 {
        self.containers.iter().fold(0, |sum, container| sum.saturating_add(container.memory))
    }
    pub(crate) fn reserved_cpus(&self) -> u64 {
        self.containers.iter().fold(0, |sum, container| sum.saturating_add(container.nano_cpus))
    }
}
