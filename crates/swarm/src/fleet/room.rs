//! Whether an overlay has an address left. Engines only say, after 20 seconds, that attaching took too long.

use std::collections::BTreeSet;

use http::StatusCode;
use ipnet::Ipv4Net;
use serde_json::Value;

use super::{Fleet, observe::text};
use crate::model::{CLUSTER_NETWORK, Container, Refusal};

/// Addresses of a range that no container gets: the network's, the gateway's, the broadcast's.
const RESERVED: u64 = 3;

impl Fleet {
    /// Refuses to start a container if the containers of the cluster's overlay alone take all its addresses.
    pub(crate) fn refuse_full(&self, container: &Container) -> Result<(), Refusal> {
        let subnet = self.settings().subnet;
        let wanted = networks_of(container).any(|(name, _)| name == CLUSTER_NETWORK);
        let (used, _) = self.takers(CLUSTER_NETWORK, "", container);
        match wanted && used >= room(subnet) {
            true => Err(full(CLUSTER_NETWORK, subnet, used, 0)),
            false => Ok(()),
        }
    }

    /// A failure to attach, in words that say what is wrong if a network of the container is full.
    pub(crate) async fn explain_attaching(&self, container: &Container, refusal: Refusal) -> Refusal {
        if !is_about_attaching(&refusal) {
            return refusal;
        }
        for (name, endpoint) in networks_of(container) {
            let id = text(endpoint, "/NetworkID");
            let key = if id.is_empty() { name.as_str() } else { id };
            let Ok(network) = self.manager.get(&format!("/networks/{key}")).await else { continue };
            let Ok(subnet) = text(&network, "/IPAM/Config/0/Subnet").parse::<Ipv4Net>() else { continue };
            let (used, nodes) = self.takers(name, text(&network, "/Id"), container);
            // Each node takes an address of its own in every overlay that one of its containers is in.
            let own = u64::from(!nodes.contains(&container.node));
            let gates = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
            if used + gates + own + 1 > room(subnet) {
                return full(name, subnet, used, gates);
            }
        }
        refusal
    }

    /// How many other containers run in a network, and on which nodes.
    fn takers(&self, name: &str, id: &str, except: &Container) -> (u64, BTreeSet<String>) {
        let view = self.current();
        let mut nodes = BTreeSet::new();
        let mut used = 0;
        for container in view.containers.iter().filter(|one| one.is_running() && one.id != except.id) {
            let inside = networks_of(container)
                .any(|(own, endpoint)| own == name && (id.is_empty() || text(endpoint, "/NetworkID") == id));
            if inside {
                used += 1;
                nodes.insert(container.node.clone());
            }
        }
        (used, nodes)
    }
}

fn networks_of(container: &Container) -> impl Iterator<Item = (&String, &Value)> {
    let networks = container.inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    networks.into_iter().flatten()
}

fn room(subnet: Ipv4Net) -> u64 {
    (1u64 << (32 - u32::from(subnet.prefix_len()))).saturating_sub(RESERVED)
}

fn is_about_attaching(refusal: &Refusal) -> bool {
    ["attaching to network failed", "could not find an available IP", "no available IPv4 addresses"]
        .iter()
        .any(|words| refusal.message.contains(words))
}

fn full(name: &str, subnet: Ipv4Net, used: u64, gates: u64) -> Refusal {
    let gates = if gates > 0 { format!(" and {gates} by nodes") } else { String::new() };
    Refusal::new(
        StatusCode::CONFLICT,
        format!(
            "the network {name} is full: of the {} addresses of {subnet}, {used} are taken by running containers{gates}; \
             remove containers or use a larger network",
            room(subnet)
        ),
    )
}

#[cfg(test)]
#[test]
fn room_of_ranges() {
    for (subnet, expected) in
        [("10.0.0.0/29", 5), ("10.0.0.0/16", 65_533), ("10.0.0.0/31", 0), ("0.0.0.0/0", (1 << 32) - 3)]
    {
        assert_eq!(subnet.parse().map(room), Ok(expected), "{subnet}");
    }
}
