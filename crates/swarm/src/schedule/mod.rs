//! Decides on which node a container goes: filters that exclude nodes, then a strategy that ranks the rest. Pure: the same
//! nodes, containers and request give the same answer (but for the strategy `random`), in whatever order they are listed.
//!
//! [`place`] is the door. Filters and strategies are those of Docker Swarm, the standalone one.

mod expression;
mod filters;
mod strategy;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::StatusCode;
use rand::Rng;

pub use self::expression::{Expression, Expressions};
pub use sampan_agents::master::Strategy;

use crate::model::{Container, Node, Refusal, View};

/// What is to be placed.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Image as named.
    pub image: String,
    /// Constraints and affinities.
    pub expressions: Expressions,
    /// Fixed ports on the node: (protocol, host address or empty, port).
    pub host_ports: BTreeSet<(String, String, u16)>,
    /// It uses the node's network namespace.
    pub host_network: bool,
    /// Ports that it exposes (they count with the host's network): (protocol, port).
    pub exposed_ports: BTreeSet<(String, u16)>,
    /// Reserved memory in bytes.
    pub memory: u64,
    /// Reserved processors in billionths.
    pub nano_cpus: u64,
    /// Containers that must be on the same node: (the option that says so, id of the container).
    pub dependencies: Vec<(String, String)>,
    /// Local volumes that it mounts; a node that has them is preferred.
    pub volumes: BTreeSet<String>,
    /// Service that it belongs to; its containers are spread among otherwise equal nodes.
    pub service: Option<String>,
    /// Nodes that were tried in vain.
    pub excluded: BTreeSet<String>,
}

/// A node with what is on it or on its way there.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) node: &'a Node,
    pub(crate) containers: Vec<&'a Container>,
}

/// Chooses a node for `request` and answers its name. `in_flight` are containers that are being created.
pub fn place(
    view: &View,
    in_flight: &[Arc<Container>],
    request: &Request,
    strategy: Strategy,
    random: &mut impl Rng,
) -> Result<String, Refusal> {
    let candidates = candidates(view, in_flight);
    let healthy: Vec<_> = candidates.iter().filter(|candidate| filters::healthy(candidate, request)).collect();
    if healthy.is_empty() {
        return Err(Refusal::unavailable(format!("No healthy node available in the cluster{}", states(&candidates))));
    }
    let mut excluded = Vec::new();
    let mut fit = Vec::new();
    for candidate in healthy {
        match filters::hard(candidate, request) {
            Ok(()) => fit.push(candidate),
            Err(reason) => excluded.push((candidate.node, reason)),
        }
    }
    if fit.is_empty() {
        return Err(nowhere(request, &excluded));
    }
    let fit = filters::soft(fit, request);
    strategy::choose(&fit, request, strategy, random)
        .map(|node| node.name.clone())
        .ok_or_else(|| Refusal::internal("no node was left to choose from"))
}

fn candidates<'a>(view: &'a View, in_flight: &'a [Arc<Container>]) -> Vec<Candidate<'a>> {
    let mut by_node: BTreeMap<&str, Vec<&Container>> = BTreeMap::new();
    for container in view.containers.iter().chain(in_flight) {
        by_node.entry(container.node.as_str()).or_default().push(container);
    }
    let nodes = view.nodes.iter();
    nodes
        .map(|node| Candidate { node, containers: by_node.get(node.name.as_str()).cloned().unwrap_or_default() })
        .collect()
}

/// Why each node cannot be used, for the refusal.
fn states(candidates: &[Candidate<'_>]) -> String {
    let mut text = String::new();
    for candidate in candidates {
        let node = candidate.node;
        let why = match (&node.error, node.schedulable) {
            (Some(error), _) => error.as_str(),
            (None, false) => "it is leaving the cluster",
            (None, true) => "it could not be used",
        };
        text.push_str(&format!("\n{}: {why}", node.name));
    }
    text
}

/// The refusal names the conditions as Docker Swarm did, then which of them excluded which node.
fn nowhere(request: &Request, excluded: &[(&Node, filters::Exclusion)]) -> Refusal {
    let only_resources = excluded.iter().all(|(_, exclusion)| exclusion.resources);
    let mut text = if only_resources {
        "no resources available to schedule container".to_owned()
    } else {
        let mut text = "Unable to find a node that satisfies the following conditions".to_owned();
        for condition in filters::conditions(request) {
            text.push_str(&format!("\n[{condition}]"));
        }
        text
    };
    for (node, exclusion) in excluded {
        text.push_str(&format!("\n{}: {}", node.name, exclusion.reason));
    }
    Refusal::new(StatusCode::CONFLICT, text)
}
