//! What a worker's machine must be: containerd, kubelet, kube-proxy, and the pod network between them.

use std::net::{Ipv4Addr, SocketAddr};

use jiff::SignedDuration;
use sampan_agents::spec::{File, NodeSpec, Probe, Process, Uplink, UplinkService};
use sampan_store::model::{Cluster, Fault, Machine, NodePool, Outcome};

use super::{
    API_PORT,
    addons::Images,
    containerd,
    facts::HostFacts,
    kubeconfig::Kubeconfig,
    kubelet::{kube_proxy_config, kubelet_config, registration_config},
    labels::node_labels,
    network,
    parts::{PKI_DIR, command_line, component, environment, pair_files, pod_routes, process, public_file, secret_file},
    pki::{NodeCertificates, Pki},
    restore,
};
use crate::parts::machine_id_file;

/// The kubelet's own: client certificates that it renews are kept beside it, see [`files`].
const KUBELET_DIR: &str = "/var/lib/kubelet";
const KUBELET_CONFIG: &str = "/etc/kubernetes/kubelet.json";
/// Files that the kubelet reads after its configuration, those that end with `.conf`.
const KUBELET_CONFIG_DIR: &str = "/etc/kubernetes/kubelet.d";
const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
const KUBE_PROXY_CONFIG: &str = "/etc/kubernetes/kube-proxy.json";
/// kube-proxy's kubeconfig.
pub(crate) const KUBE_PROXY_KUBECONFIG: &str = "/etc/kubernetes/kube-proxy.conf";
/// Name servers that pods with the node's DNS policy, CoreDNS among them, use.
pub(crate) const RESOLV_CONF: &str = "/etc/kubernetes/resolv.conf";
const USER_DATA: &str = "/var/lib/sampan/user-data";

/// Where containerd looks for images first.
const MIRROR_PORT: u16 = sampan_agents::node::MIRROR_PORT;

/// Kubelet and kube-proxy: there are many of them, and neither is waited for long.
const HEAP_GROWTH: u32 = 75;

/// What decides a worker's machine.
#[derive(Clone, Copy, Debug)]
pub struct WorkerInputs<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Its certificates and keys.
    pub pki: &'a Pki,
    /// This node's certificates: issued once and stored, or the machine's specification would change at every look.
    pub certificates: &'a NodeCertificates,
    /// The machine.
    pub machine: &'a Machine,
    /// Its pool.
    pub pool: Option<&'a NodePool>,
    /// Addresses of the control plane's machines.
    pub control_planes: &'a [Ipv4Addr],
    /// All nodes of the cluster.
    pub workers: &'a [Machine],
    /// Validity of the certificates that the cluster signs for kubelets; only a master signs any.
    pub certificate_lifetime: SignedDuration,
    /// The images of the bundle.
    pub images: &'a Images,
    /// The host.
    pub facts: &'a HostFacts,
    /// CPU of the instance type in thousandths; `None`: the host's.
    pub cpu_millis: Option<u64>,
    /// Memory of the instance type in bytes; `None`: the host's.
    pub memory_bytes: Option<u64>,
}

/// Says what the machine must be.
///
/// # Errors
/// Internal, when the machine is no worker with a part of the pod network.
pub fn worker_spec(inputs: &WorkerInputs<'_>) -> Outcome<NodeSpec> {
    let machine = inputs.machine;
    let membership = machine.membership.as_ref();
    let (Some(node_name), Some(own_pods)) =
        (membership.map(|m| m.node_name.as_str()), membership.and_then(|m| m.pod_cidr))
    else {
        return Err(Fault::internal(format!("machine {} has no part of the pod network", machine.id)));
    };
    let mut files = common_files(inputs);
    files.extend(containerd::files(inputs.facts, &inputs.images.pause));
    files.extend(network::files(inputs.cluster, own_pods));
    files.push(public_file(KUBELET_CONFIG, kubelet_config(inputs, own_pods).to_string()));
    files.push(public_file(format!("{KUBELET_CONFIG_DIR}/registration.conf"), registration_config(inputs).to_string()));
    files.push(public_file(KUBE_PROXY_CONFIG, kube_proxy_config(inputs, node_name).to_string()));
    let user_data = inputs.pool.and_then(|pool| pool.user_data.as_deref()).filter(|text| !text.trim().is_empty());
    let mut processes = vec![containerd::containerd(), network::rules_process()];
    if let Some(text) = user_data {
        files.push(File { mode: 0o700, ..secret_file(USER_DATA, text) });
        processes.push(user_data_process());
    }
    processes.push(prefetch(inputs.images));
    processes.push(kubelet(inputs, node_name, user_data.is_some()));
    processes.push(kube_proxy(inputs));
    let is_host = machine.host.is_some();
    Ok(NodeSpec {
        // A host's time zone is its owner's business.
        timezone: inputs.cluster.control_plane.timezone.clone().filter(|_| !is_host),
        files,
        routes: pod_routes(machine, inputs.workers),
        sysctls: sysctls(),
        registry_mirror: !is_host,
        forwards: Vec::new(),
        uplinks: if is_host { uplinks(inputs.cluster) } else { Vec::new() },
        payload: Vec::new(),
        processes,
    })
}

/// On a host the API server and the images are behind ports of its own: what they lead to need not be reachable.
fn uplinks(cluster: &Cluster) -> Vec<Uplink> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let api = SocketAddr::from((cluster.network.api_vip, API_PORT));
    vec![
        Uplink { listen: local(API_PORT), service: UplinkService::Api, direct: Some(api) },
        Uplink { listen: local(MIRROR_PORT), service: UplinkService::Images, direct: None },
    ]
}

fn sysctls() -> std::collections::BTreeMap<String, String> {
    [
        ("net.ipv4.ip_forward", "1"),
        // Replies between pods of one node must pass the address translation that their requests passed.
        ("net.bridge.bridge-nf-call-iptables", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Certificates, kubeconfigs, name servers.
///
/// The kubelet keeps the certificates that it renews in its own folder and prefers them to those written here, which are
/// only what it starts with; so writing them again does no harm. The client's is in the kubeconfig too: from there it is
/// taken when the kubelet's own has expired, because the machine was off for long.
fn common_files(inputs: &WorkerInputs<'_>) -> Vec<File> {
    let (pki, own) = (inputs.pki, inputs.certificates);
    let url = api_url(inputs);
    let kubeconfig = |client| {
        Kubeconfig { url: &url, authority: &pki.cluster_ca.certificate, client, user: "component", context: "default" }
            .text()
    };
    let mut files = vec![
        public_file(format!("{PKI_DIR}/ca.crt"), &pki.cluster_ca.certificate),
        secret_file(KUBELET_KUBECONFIG, kubeconfig(&own.kubelet_client)),
        secret_file(KUBE_PROXY_KUBECONFIG, kubeconfig(&own.kube_proxy)),
        public_file(RESOLV_CONF, resolv_conf(inputs.facts)),
    ];
    if inputs.machine.host.is_none() {
        files.push(public_file("/etc/machine-id", machine_id_file(inputs.machine)));
    }
    files.extend(pair_files(&format!("{KUBELET_DIR}/pki/kubelet-client"), &own.kubelet_client));
    files.extend(pair_files(&format!("{KUBELET_DIR}/pki/kubelet-server"), &own.kubelet_server));
    files
}

fn resolv_conf(facts: &HostFacts) -> String {
    if facts.name_servers.is_empty() {
        return "# The host has no name server that machines can reach.\n".to_owned();
    }
    facts.name_servers.iter().map(|server| format!("nameserver {server}\n")).collect()
}

/// Where the node's components reach the API server: a master's beside them, a host's through its agent, others' through
/// the balancer.
fn api_url(inputs: &WorkerInputs<'_>) -> String {
    let is_near = inputs.machine.host.is_some() || inputs.machine.is_control_plane_of(&inputs.cluster.id);
    let host = if is_near { Ipv4Addr::LOCALHOST } else { inputs.cluster.network.api_vip };
    format!("https://{host}:{API_PORT}")
}

/// The API server listens. The kubelet's rights do not come from roles: its first requests wait in the API server's backlog,
/// and the node is registered as soon as they are answered, while the roles are still being made. The machine itself is
/// asked, since the balancer might accept a connection before anybody listens behind it; where there are several, none of
/// them is waited for in particular.
fn api_listens(inputs: &WorkerInputs<'_>) -> Probe {
    if inputs.machine.host.is_some() {
        return Probe::Tcp(format!("{}:{API_PORT}", Ipv4Addr::LOCALHOST));
    }
    match inputs.control_planes {
        [only] => Probe::Tcp(format!("{only}:{API_PORT}")),
        _ => Probe::Http(format!("{}/livez", api_url(inputs))),
    }
}

/// The API server is ready, its roles included: kube-proxy's rights come from one, and a refused list is only tried again
/// after a growing pause.
fn api_is_ready(inputs: &WorkerInputs<'_>) -> Probe {
    Probe::Http(format!("{}/readyz", api_url(inputs)))
}

fn kubelet(inputs: &WorkerInputs<'_>, node_name: &str, has_user_data: bool) -> Process {
    let labels: Vec<String> = node_labels(inputs.cluster, inputs.pool, inputs.machine)
        .registered
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let flags = [
        ("config", KUBELET_CONFIG.to_owned()),
        ("config-dir", KUBELET_CONFIG_DIR.to_owned()),
        ("kubeconfig", KUBELET_KUBECONFIG.to_owned()),
        ("root-dir", KUBELET_DIR.to_owned()),
        ("cert-dir", format!("{KUBELET_DIR}/pki")),
        ("hostname-override", node_name.to_owned()),
        ("node-ip", inputs.machine.ip.to_string()),
    ];
    let mut kubelet =
        process("kubelet", command_line(component(inputs.machine.version(inputs.cluster), "kubelet"), flags));
    // What it registers its node with; the labels and taints of a node that exists are set at the API server.
    kubelet.start_arguments = vec![format!("--node-labels={}", labels.join(","))];
    kubelet.env = environment(HEAP_GROWTH, inputs.cluster.control_plane.timezone.as_deref());
    kubelet.env.extend(restore::generation(inputs.cluster));
    kubelet.after = vec!["containerd".into(), "pod-network".into()];
    if has_user_data {
        kubelet.after.push("user-data".into());
    }
    kubelet.wait_for = Some(api_listens(inputs));
    kubelet.ready = Some(Probe::Http("http://127.0.0.1:10248/healthz".into()));
    kubelet.restart_on = vec![
        KUBELET_CONFIG.to_owned(),
        KUBELET_KUBECONFIG.to_owned(),
        RESOLV_CONF.to_owned(),
        format!("{PKI_DIR}/ca.crt"),
    ];
    kubelet
}

fn kube_proxy(inputs: &WorkerInputs<'_>) -> Process {
    let flags = [("config", KUBE_PROXY_CONFIG.to_owned())];
    let mut proxy =
        process("kube-proxy", command_line(component(inputs.machine.version(inputs.cluster), "kube-proxy"), flags));
    proxy.env = environment(HEAP_GROWTH, None);
    proxy.wait_for = Some(api_is_ready(inputs));
    proxy.ready = Some(Probe::Http("http://127.0.0.1:10256/livez".into()));
    proxy.restart_on = vec![KUBE_PROXY_CONFIG.to_owned(), KUBE_PROXY_KUBECONFIG.to_owned()];
    proxy
}

/// Fetches what every first pod needs while the API server is still starting. What cannot be fetched now is fetched by the
/// kubelet later, so this never fails.
fn prefetch(images: &Images) -> Process {
    let script = "for image in \"$@\"; do \
                  /opt/sampan/bin/ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d \"$image\" >/dev/null \
                  || echo \"$image could not be fetched early\"; done";
    let mut command: Vec<String> = ["/bin/sh", "-c", script, "prefetch"].map(String::from).into();
    command.extend([images.pause.clone(), images.coredns.clone()]);
    let mut prefetch = process("prefetch", command);
    prefetch.oneshot = true;
    prefetch.after = vec!["containerd".into()];
    prefetch
}

/// Runs the pool's user data once in a machine's life, for at most ten minutes. As on a server of a cloud, its failure
/// does not keep the node from joining; the process's log has what it said.
fn user_data_process() -> Process {
    let script = format!(
        "set -u; done={USER_DATA}.done; [ -e \"$done\" ] && exit 0; \
         if [ \"$(head -c 2 {USER_DATA})\" = '#!' ]; then timeout 600 {USER_DATA} </dev/null; \
         else echo 'user data is not a script (it does not begin with #!) and is not run'; fi; \
         code=$?; echo \"user data ended with code $code\"; echo \"$code\" > \"$done\""
    );
    let mut run = process("user-data", vec!["/bin/sh".into(), "-c".into(), script]);
    run.oneshot = true;
    run
}
