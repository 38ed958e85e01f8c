//! What a cluster's load balancer listens for, and where that goes. Follows from the cluster's record alone.

use sampan_agents::master::ROUTER_PORT;
use sampan_store::model::{Cluster, ClusterType, SwarmOptions};

use crate::{kubernetes::API_PORT, swarm};

/// A listener of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    /// Its name, `<cluster>/…`.
    pub(super) name: String,
    /// Where it listens: on the virtual IP, or on the host.
    pub(super) port: u16,
    /// Where its connections go.
    pub(super) target: Target,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// That port of the control plane's machines.
    ControlPlane(u16),
    /// That port of the nodes.
    Nodes(u16),
    /// That port of the host's loopback address.
    Host(u16),
}

/// Name of the listener for the cluster's own API on the virtual IP; every cluster has it.
pub(super) fn api_internal(cluster_id: &str) -> String {
    format!("{cluster_id}/api/internal")
}

/// Name of the public listener for the cluster's own API.
pub(super) fn api_public(cluster_id: &str) -> String {
    format!("{cluster_id}/api/public")
}

/// Name of the public listener for HTTP to a Swarm cluster's applications.
pub(super) fn routing_public(cluster_id: &str) -> String {
    format!("{cluster_id}/routing/public")
}

/// Name of the public listener that an application of a Swarm cluster asked for.
pub(super) fn tcp_public(cluster_id: &str, name: &str) -> String {
    format!("{cluster_id}/tcp/{name}/public")
}

fn api(cluster: &Cluster) -> u16 {
    match cluster.cluster_type {
        ClusterType::ManagedKubernetes | ClusterType::Kubernetes => API_PORT,
        ClusterType::Swarm => swarm::MASTER_PORT,
    }
}

/// Listeners on the virtual IP, with natural ports.
pub(super) fn internal(cluster: &Cluster) -> impl Iterator<Item = Door> {
    let id = &cluster.id;
    let port = api(cluster);
    let mut doors = vec![Door { name: api_internal(id), port, target: Target::ControlPlane(port) }];
    if let Some(options) = &cluster.swarm {
        if options.routing {
            let name = format!("{id}/routing/internal");
            doors.push(Door { name, port: swarm::ROUTING_PORT, target: Target::Nodes(ROUTER_PORT) });
        }
        doors.extend(options.listeners.iter().map(|(name, listener)| Door {
            name: format!("{id}/tcp/{name}/internal"),
            port: listener.port,
            target: Target::Nodes(listener.port),
        }));
    }
    doors.into_iter()
}

/// The installation's image registry, as the nodes of a Swarm cluster reach it.
pub(super) fn registry(cluster: &Cluster, port: Option<u16>) -> Option<Door> {
    let port = port.filter(|_| cluster.is_swarm())?;
    let name = format!("{}/registry/internal", cluster.id);
    Some(Door { name, port: swarm::REGISTRY_PORT, target: Target::Host(port) })
}

/// Listeners on the host, with the ports that are recorded.
pub(super) fn public(cluster: &Cluster) -> impl Iterator<Item = Door> {
    let id = &cluster.id;
    let mut doors = Vec::new();
    if let Some(port) = cluster.network.api_public_port {
        doors.push(Door { name: api_public(id), port, target: Target::ControlPlane(api(cluster)) });
    }
    if let Some(options) = &cluster.swarm {
        if let Some(port) = options.routing_public_port {
            doors.push(Door { name: routing_public(id), port, target: Target::Nodes(ROUTER_PORT) });
        }
        doors.extend(options.listeners.iter().map(|(name, listener)| Door {
            name: tcp_public(id, name),
            port: listener.public_port,
            target: Target::Nodes(listener.port),
        }));
    }
    doors.into_iter()
}

/// The record with another port for the public listener of that name.
pub(super) fn moved(cluster: &Cluster, name: &str, port: u16) -> Cluster {
    let mut moved = cluster.clone();
    if name == api_public(&cluster.id) {
        moved.network.api_public_port = Some(port);
    }
    let move_options = |options: &mut SwarmOptions| {
        if name == routing_public(&cluster.id) {
            options.routing_public_port = Some(port);
        }
        let own = options.listeners.iter_mut().find(|(own, _)| tcp_public(&cluster.id, own) == name);
        if let Some((_, listener)) = own {
            listener.public_port = port;
        }
    };
    moved.swarm.as_mut().map(move_options);
    moved
}
