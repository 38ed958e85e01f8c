//! The kubelet's and kube-proxy's configuration files.

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{containerd::SOCKET, facts::proxy_backend, master::role_taint, parts::PKI_DIR, worker::WorkerInputs};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// More pods than this on one node help nobody.
const PODS_MAX: u32 = 256;
/// What the kubelet keeps free, in bytes, before it evicts pods.
const MEMORY_FREE_MIN: u64 = 100 << 20;
/// CPU kept for the system where pods may own whole cores, in thousandths: the static policy needs some.
const STATIC_POLICY_RESERVE: u64 = 100;

/// How many pods a node with this part of the pod network can have: two addresses name the network, one is the bridge's.
pub fn max_pods(own_pods: Ipv4Net) -> u32 {
    let addresses = 1u64 << (32 - u32::from(own_pods.prefix_len()));
    u32::try_from(addresses.saturating_sub(3)).unwrap_or(PODS_MAX).clamp(1, PODS_MAX)
}

/// `KubeletConfiguration`, as JSON (which is YAML).
pub(crate) fn kubelet_config(inputs: &WorkerInputs<'_>, own_pods: Ipv4Net) -> Value {
    let network = &inputs.cluster.network;
    let static_cpus = inputs.pool.and_then(|pool| pool.cpu_policy.as_deref()) == Some("static");
    let reserved = reserved(inputs, static_cpus);
    json!({
        "apiVersion": API_VERSION,
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{PKI_DIR}/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        // Both certificates are the server's at first; the kubelet renews them by certificate signing requests.
        "rotateCertificates": true,
        "serverTLSBootstrap": true,
        "tlsMinVersion": "VersionTLS12",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "clusterDNS": [network.dns_ip.to_string()],
        "clusterDomain": network.cluster_domain,
        "resolvConf": super::worker::RESOLV_CONF,
        "providerID": format!("{}.{}", inputs.machine.region_id, inputs.machine.id),
        "maxPods": max_pods(own_pods),
        "cpuManagerPolicy": if static_cpus { "static" } else { "none" },
        "systemReserved": {"cpu": format!("{}m", reserved.cpu_millis)},
        "evictionHard": {
            "memory.available": reserved.memory_bytes.to_string(),
            // Absolute: the disk is the host's, and a large disk that is nine tenths full is no emergency.
            "nodefs.available": "1Gi",
            "imagefs.available": "1Gi",
            "nodefs.inodesFree": "1%",
        },
        // For the same reason images are collected when space is short, not when the host's disk is full of other things.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // A pod's first Secret or ConfigMap is asked for, not watched for: a watch that is refused, because the API server has
        // not heard of the pod yet, waits a second before it tries again. It also saves a connection for each of them.
        "configMapAndSecretChangeDetectionStrategy": "Cache",
        "serializeImagePulls": false,
        "maxParallelImagePulls": 4,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 3,
        "oomScoreAdj": if inputs.facts.can_lower_oom_score { -999 } else { 0 },
    })
}

/// The part of the `KubeletConfiguration` that only matters when the node is registered, for a file of its own: the kubelet
/// need not start again, and be not Ready meanwhile, because a pool's taints changed.
pub(crate) fn registration_config(inputs: &WorkerInputs<'_>) -> Value {
    let own = inputs.machine.is_control_plane_of(&inputs.cluster.id).then(role_taint);
    let taints = inputs.pool.iter().flat_map(|pool| &pool.taints).chain(&own);
    let taints: Vec<Value> =
        taints.map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect})).collect();
    json!({"apiVersion": API_VERSION, "kind": "KubeletConfiguration", "registerWithTaints": taints})
}

struct Reserved {
    cpu_millis: u64,
    /// Threshold of the eviction of pods; it counts as reserved, too.
    memory_bytes: u64,
}

/// The kubelet sees the host's capacity; what the machine's instance type does not have is reserved, so that allocatable
/// is the smaller of both. For memory it is the eviction threshold that is raised: the kubelet compares the host's
/// capacity with the machine's own use.
fn reserved(inputs: &WorkerInputs<'_>, static_cpus: bool) -> Reserved {
    let facts = inputs.facts;
    let host_millis = facts.cpus * 1000;
    let beyond_cpu = inputs.cpu_millis.map_or(0, |own| host_millis.saturating_sub(own));
    let beyond_memory = inputs.memory_bytes.map_or(0, |own| facts.memory_bytes.saturating_sub(own));
    Reserved {
        cpu_millis: if static_cpus { beyond_cpu.max(STATIC_POLICY_RESERVE) } else { beyond_cpu },
        memory_bytes: beyond_memory + MEMORY_FREE_MIN,
    }
}

/// `KubeProxyConfiguration`, as JSON.
pub(crate) fn kube_proxy_config(inputs: &WorkerInputs<'_>, node_name: &str) -> Value {
    let network = &inputs.cluster.network;
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": proxy_backend(network.proxy_mode, inputs.facts).as_str(),
        "clientConnection": {"kubeconfig": super::worker::KUBE_PROXY_KUBECONFIG},
        "clusterCIDR": network.pod_cidr.to_string(),
        "detectLocalMode": "ClusterCIDR",
        "hostnameOverride": node_name,
        "healthzBindAddress": "0.0.0.0:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // Connection tracking limits are the host's; a container may not and need not change them.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": if inputs.facts.can_lower_oom_score { -999 } else { 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_per_node_follow_the_mask() {
        for (cidr, pods) in [("10.0.0.0/24", 253), ("10.0.0.0/26", 61), ("10.0.0.0/28", 13), ("10.0.0.0/20", 256)] {
            assert_eq!(max_pods(cidr.parse().unwrap()), pods, "{cidr}");
        }
    }
}
