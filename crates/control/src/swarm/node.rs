//! What a node of a Swarm cluster must be: the engine, the volume plug-ins that it uses, and the router.

use std::net::Ipv4Addr;

use sampan_agents::{
    master::{ENGINE_PORT, MASTER_PORT, ROUTER_PORT},
    node::MIRROR_PORT,
    spec::{Forward, NodeSpec, Probe},
};
use sampan_store::model::{Cluster, Fault, Machine, Outcome};
use serde_json::json;

use super::{
    REGISTRY_PORT, SHARED_DIR,
    labels::engine_labels,
    parts::{ENGINE_SOCKET, SAMPAN, authority_file, common_files, engine, pair, sysctls, tls_files, tls_paths},
    pki::{NodePki, SwarmPki},
};
use crate::parts::{process, public_file};

const ROUTER_CONFIG: &str = "/etc/sampan/router.json";
const VOLUMES_CONFIG: &str = "/etc/sampan/volumes.json";
/// Where the engine looks for the sockets of plug-ins.
const PLUGIN_DIR: &str = "/run/docker/plugins";
const CLUSTER_CA: &str = "cluster-ca";
const ENGINE_CA: &str = "engine-ca";

/// What decides a node's machine.
#[derive(Clone, Copy, Debug)]
pub struct NodeInputs<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Its certificates and keys.
    pub pki: &'a SwarmPki,
    /// This node's: issued once and stored, or the machine's specification would change at every look.
    pub own: &'a NodePki,
    /// The machine.
    pub machine: &'a Machine,
    /// Address of the master's machine.
    pub manager_ip: Ipv4Addr,
    /// Port of the installation's image registry, the same on every machine and on the host.
    pub registry_port: Option<u16>,
    /// Name servers for what runs in containers.
    pub name_servers: &'a [Ipv4Addr],
}

/// Says what the machine must be.
///
/// # Errors
/// Internal, when the records make no sense.
pub fn node_spec(inputs: &NodeInputs<'_>) -> Outcome<NodeSpec> {
    let machine = inputs.machine;
    let member = machine.membership.as_ref();
    let (Some(name), Some(index)) =
        (member.map(|member| member.node_name.as_str()), member.and_then(|member| member.node_index))
    else {
        return Err(Fault::internal(format!("machine {} has no number in its cluster", machine.id)));
    };
    // The master's endpoint is signed by the cluster's authority, and believes the engines' one about routers.
    let router_tls = tls_files(CLUSTER_CA, "router");
    let mut files = common_files(machine);
    files.push(authority_file(CLUSTER_CA, &inputs.pki.cluster_ca));
    files.push(authority_file(ENGINE_CA, &inputs.pki.engine_ca));
    files.extend(pair("engine", &inputs.own.engine));
    files.extend(pair("router", &inputs.own.router));
    files.push(public_file(
        ROUTER_CONFIG,
        json!({
            "master": format!("{}:{MASTER_PORT}", inputs.manager_ip), "tls": router_tls,
            "state_dir": "/var/lib/sampan/router", "http_port": ROUTER_PORT,
            "engine_socket": ENGINE_SOCKET, "node": name,
        })
        .to_string(),
    ));
    files.push(public_file(
        VOLUMES_CONFIG,
        json!({
            "plugin_dir": PLUGIN_DIR, "state_dir": "/var/lib/sampan/volumes", "mount_root": "/mnt/acs_mnt",
            "nas_dir": SHARED_DIR,
        })
        .to_string(),
    ));
    let mut volumes = process("volumes", [SAMPAN, "volumes", "--config", VOLUMES_CONFIG].map(str::to_owned).into());
    volumes.ready = Some(Probe::Unix(format!("{PLUGIN_DIR}/ossfs.sock")));
    volumes.restart_on = vec![VOLUMES_CONFIG.to_owned()];
    let mut engine = engine(inputs.cluster, machine, inputs.name_servers, &engine_flags(inputs, index))?;
    // An engine that starts begins the containers it had, and these want their volumes.
    engine.after = vec![volumes.name.clone()];
    engine.restart_on = tls_paths(&tls_files(ENGINE_CA, "engine")).into();
    let mut router = process("router", [SAMPAN, "router", "--config", ROUTER_CONFIG].map(str::to_owned).into());
    router.after = vec![engine.name.clone()];
    router.ready = Some(Probe::Tcp(format!("127.0.0.1:{ROUTER_PORT}")));
    router.restart_on = tls_paths(&router_tls).into_iter().chain([ROUTER_CONFIG.to_owned()]).collect();
    let forwards = inputs.registry_port.map(|port| Forward {
        listen: (Ipv4Addr::LOCALHOST, port).into(),
        to: (inputs.cluster.network.api_vip, REGISTRY_PORT).into(),
    });
    Ok(NodeSpec {
        files,
        sysctls: sysctls(),
        registry_mirror: true,
        forwards: forwards.into_iter().collect(),
        processes: vec![volumes, engine, router],
        ..NodeSpec::default()
    })
}

fn engine_flags(inputs: &NodeInputs<'_>, index: u32) -> Vec<String> {
    let tls = tls_files(ENGINE_CA, "engine");
    let mut flags = vec![
        format!("--host=tcp://{}:{ENGINE_PORT}", inputs.machine.ip),
        "--tlsverify".to_owned(),
        format!("--tlscacert={}", tls.ca),
        format!("--tlscert={}", tls.cert),
        format!("--tlskey={}", tls.key),
    ];
    // Images of the machine, which only the operator puts there. Not the registry: everybody may write to it, and would
    // decide what `nginx` is for all others.
    flags.push(format!("--registry-mirror=http://127.0.0.1:{MIRROR_PORT}"));
    let labels = engine_labels(inputs.cluster, inputs.machine, index);
    flags.extend(labels.iter().map(|(name, value)| format!("--label={name}={value}")));
    flags
}
