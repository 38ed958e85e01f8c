//! What the hidden machine of a Swarm cluster must be: the engine that manages the swarm, and the master.

use std::net::Ipv4Addr;

use sampan_agents::{
    master::{CONFIG_PATH, MasterConfig, MasterNode, SOCKET_PATH, Strategy},
    spec::{NodeSpec, Probe},
};
use sampan_store::model::{Cluster, Fault, Machine, MachineWanted, Outcome};

use super::{
    labels::node_labels,
    parts::{PKI_DIR, SAMPAN, authority_file, common_files, engine, pair, sysctls, tls_files, tls_paths},
    pki::SwarmPki,
};
use crate::parts::{process, secret_file};

/// Where the master keeps what it must not forget.
const STATE_DIR: &str = "/var/lib/sampan/master";
const CLUSTER_CA: &str = "cluster-ca";
const ENGINE_CA: &str = "engine-ca";
const ROUTER_CA: &str = "router-ca";

/// What decides the manager's machine.
#[derive(Clone, Copy, Debug)]
pub struct ManagerInputs<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Its certificates and keys.
    pub pki: &'a SwarmPki,
    /// The machine.
    pub machine: &'a Machine,
    /// All nodes of the cluster, those that leave included.
    pub nodes: &'a [Machine],
    /// What bare routing prefixes end in.
    pub routing_suffix: &'a str,
    /// How the master chooses nodes for containers.
    pub strategy: Strategy,
    /// Name servers for what runs in containers.
    pub name_servers: &'a [Ipv4Addr],
}

/// Says what the machine must be.
///
/// # Errors
/// Internal, when the records make no sense.
pub fn manager_spec(inputs: &ManagerInputs<'_>) -> Outcome<NodeSpec> {
    let config = master_config(inputs)?;
    let text = serde_json::to_string_pretty(&config)
        .map_err(|error| Fault::internal(format!("the master's configuration cannot be written: {error}")))?;
    let mut files = common_files(inputs.machine);
    files.push(secret_file(CONFIG_PATH, text));
    files.push(authority_file(CLUSTER_CA, &inputs.pki.cluster_ca));
    files.push(authority_file(ENGINE_CA, &inputs.pki.engine_ca));
    files.push(authority_file(ROUTER_CA, &inputs.pki.router_ca));
    files.extend(pair("endpoint", &inputs.pki.endpoint));
    files.extend(pair("engines-client", &inputs.pki.master));
    let engine = engine(inputs.cluster, inputs.machine, inputs.name_servers, &[])?;
    let mut master = process("master", [SAMPAN, "master", "--config", CONFIG_PATH].map(str::to_owned).into());
    master.after = vec![engine.name.clone()];
    master.ready = Some(Probe::Unix(SOCKET_PATH.to_owned()));
    // Not the configuration: the master sees its changes by itself, and nodes come and go.
    master.restart_on = tls_paths(&config.endpoint_tls).into_iter().chain(tls_paths(&config.engines_tls)).collect();
    Ok(NodeSpec { files, sysctls: sysctls(), processes: vec![engine, master], ..NodeSpec::default() })
}

/// What the master is told.
fn master_config(inputs: &ManagerInputs<'_>) -> Outcome<MasterConfig> {
    let cluster = inputs.cluster;
    let mut nodes: Vec<MasterNode> =
        inputs.nodes.iter().map(|machine| master_node(cluster, machine)).collect::<Outcome<_>>()?;
    // A stable order keeps the machine's specification stable.
    nodes.sort_by(|a, b| (a.index, &a.id).cmp(&(b.index, &b.id)));
    Ok(MasterConfig {
        cluster_id: cluster.id.clone(),
        region_id: cluster.region_id.clone(),
        advertise: inputs.machine.ip,
        endpoint_tls: tls_files(CLUSTER_CA, "endpoint"),
        engines_tls: tls_files(ENGINE_CA, "engines-client"),
        router_ca: format!("{PKI_DIR}/{ROUTER_CA}.crt"),
        subnet: cluster.network.pod_cidr,
        address_pool: cluster.network.service_cidr,
        routing_suffix: inputs.routing_suffix.to_owned(),
        strategy: inputs.strategy,
        nodes,
        state_dir: STATE_DIR.to_owned(),
    })
}

fn master_node(cluster: &Cluster, machine: &Machine) -> Outcome<MasterNode> {
    let member = machine.membership.as_ref();
    let (Some(name), Some(index)) =
        (member.map(|member| member.node_name.clone()), member.and_then(|member| member.node_index))
    else {
        return Err(Fault::internal(format!("machine {} has no number in its cluster", machine.id)));
    };
    Ok(MasterNode {
        id: machine.id.clone(),
        name,
        ip: machine.ip,
        index,
        leaving: machine.wanted != MachineWanted::Run,
        labels: node_labels(cluster, machine, index),
    })
}
