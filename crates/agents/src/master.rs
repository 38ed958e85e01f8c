//! What the master of a Swarm cluster is told, and what it reports. The master is a process of the cluster's hidden machine; the
//! server writes [`MasterConfig`] as a file there and asks for [`MasterStatus`] through the tunnel.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The master's configuration file. The master looks at it again whenever it changes.
pub const CONFIG_PATH: &str = "/etc/sampan/master.json";
/// Socket of the master in its machine: the whole API without TLS, and `/internal/…`; only root opens it.
pub const SOCKET_PATH: &str = "/run/sampan-master.sock";
/// Port of the cluster's endpoint on the master's machine (TLS, client certificate required).
pub const MASTER_PORT: u16 = 2376;
/// Port of a node's engine (TLS, only the master's client certificate is accepted).
pub const ENGINE_PORT: u16 = 2376;
/// Port on which the nodes' routers take HTTP.
pub const ROUTER_PORT: u16 = 9080;

/// Files of a TLS end, as paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// Authority whose certificates are accepted.
    pub ca: String,
    /// Own certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// What the master is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterConfig {
    /// Cluster, `c…`.
    pub cluster_id: String,
    /// Region.
    pub region_id: String,
    /// Address of the master's own machine in the VPC; the swarm's manager advertises it.
    pub advertise: Ipv4Addr,
    /// Server side of the cluster's endpoint.
    pub endpoint_tls: TlsFiles,
    /// Authority of the routers' certificates: such a certificate opens `/internal/routes` and nothing else.
    pub router_ca: String,
    /// Client side towards the nodes' engines.
    pub engines_tls: TlsFiles,
    /// Range of the cluster's overlay (`subnet_cidr`).
    pub subnet: Ipv4Net,
    /// Where further overlays take their ranges from (swarm's default address pool).
    pub address_pool: Ipv4Net,
    /// Bare routing prefixes become `<prefix>.<cluster_id>.<region_id>.<suffix>`.
    pub routing_suffix: String,
    /// How nodes are chosen for containers.
    #[serde(default)]
    pub strategy: Strategy,
    /// Nodes that shall be members.
    pub nodes: Vec<MasterNode>,
    /// Own state.
    pub state_dir: String,
}

/// How a node is chosen among those that will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The emptiest.
    #[default]
    Spread,
    /// The fullest.
    Binpack,
    /// Any.
    Random,
}

/// A node, as the master is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterNode {
    /// Instance id.
    pub id: String,
    /// Name, `<region>.<ip>`.
    pub name: String,
    /// Address in the VPC.
    pub ip: Ipv4Addr,
    /// `aliyun.node_index`, from 1.
    pub index: u32,
    /// It shall leave: nothing new goes there, what may move is moved.
    pub leaving: bool,
    /// Labels for constraints (zone, instance type, the cluster's tags).
    pub labels: BTreeMap<String, String>,
}

/// What the master sees; `GET /internal/status?after=REVISION` waits for more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterStatus {
    /// Counts every change.
    pub revision: u64,
    /// The swarm exists, and the cluster's overlay with it.
    pub ready: bool,
    /// Why not, in words.
    pub message: String,
    /// Nodes.
    pub nodes: Vec<MasterNodeStatus>,
    /// Listeners that the cluster's load balancer shall have beside that of HTTP: (name, port).
    pub tcp_listeners: Vec<(String, u16)>,
}

/// A node as the master sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterNodeStatus {
    /// Instance id.
    pub id: String,
    /// Answers, and is a member of the swarm.
    pub healthy: bool,
    /// Why not.
    pub message: String,
    /// For a node that leaves: nothing that moves is left on it, and it is no member of the swarm any more.
    pub drained: bool,
    /// Docker's version.
    pub engine_version: String,
    /// Containers on it.
    pub containers: u32,
}
