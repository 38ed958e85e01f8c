//! The pod network of one node: a bridge, an address for each pod, and who leaves the cluster under the node's address.

use ipnet::Ipv4Net;
use sampan_agents::spec::{File, Process};
use sampan_store::model::Cluster;
use serde_json::json;

use super::parts::{process, public_file};

const RULES: &str = "/etc/sampan/pod-network.nft";

/// Configuration files.
pub(crate) fn files(cluster: &Cluster, own_pods: Ipv4Net) -> [File; 2] {
    [
        public_file("/etc/cni/net.d/10-sampan.conflist", interface(own_pods)),
        public_file(RULES, rules(cluster.network.pod_cidr, cluster.network.service_cidr)),
    ]
}

/// Loads the rules, once.
pub(crate) fn rules_process() -> Process {
    let mut load = process("pod-network", ["/usr/sbin/nft", "-f", RULES].map(String::from).into());
    load.oneshot = true;
    load.restart_on = vec![RULES.to_owned()];
    load
}

/// The interface's configuration. It does not masquerade itself: the plugin's own rule would hide a pod's address from
/// pods on other nodes.
fn interface(own_pods: Ipv4Net) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "sampan",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": true,
                "forceAddress": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": own_pods.to_string()}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true, "backend": "nftables"},
        ],
    })
    .to_string()
}

/// Pods speak to pods under their own addresses, on every node. To everything else (machines of the VPC, virtual IPs, the
/// world) they speak under their node's, since nothing else there knows a way back to them.
///
/// kube-proxy replaces the address of a service before a packet is forwarded. A packet that still carries one came before
/// kube-proxy knew the service, as happens on a new node. A connection is refused at once: without an answer the first pods,
/// DNS among them, would wait half a minute before they try again. (Who asks by UDP tries again soon, or takes a refusal as
/// the answer.)
fn rules(pods: Ipv4Net, services: Ipv4Net) -> String {
    format!(
        "table ip sampan\n\
         delete table ip sampan\n\
         table ip sampan {{\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority 110; policy accept;\n\
         \x20   ip saddr {pods} ip daddr != {{ {pods}, 224.0.0.0/4 }} masquerade\n\
         \x20 }}\n\
         \x20 chain forward {{\n\
         \x20   type filter hook forward priority 0; policy accept;\n\
         \x20   ip saddr {pods} ip daddr {services} meta l4proto tcp reject with tcp reset\n\
         \x20 }}\n\
         }}\n"
    )
}
