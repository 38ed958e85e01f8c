//! The objects that a cluster has from the start: roles, DNS, metrics. They are written as YAML in `manifests/`; here
//! they are filled in and read.

use std::net::Ipv4Addr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sampan_store::model::{Cluster, Fault, Outcome, Taint};
use serde::{Deserialize as _, Serialize};
use serde_json::{Value, json};

use super::pki::{KUBELET_CLIENT, Pki};
use crate::ports::BasePart;

const BASE: &str = include_str!("../../manifests/base.yaml");
const COREDNS: &str = include_str!("../../manifests/coredns.yaml");
const METRICS_SERVER: &str = include_str!("../../manifests/metrics-server.yaml");

/// Name of the DNS add-on.
pub(crate) const COREDNS_ADDON: &str = "coredns";
/// Name of the metrics add-on.
pub(crate) const METRICS_SERVER_ADDON: &str = "metrics-server";

/// References of the images that every cluster needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Images {
    /// Holds a pod's namespaces.
    pub pause: String,
    /// CoreDNS.
    pub coredns: String,
    /// metrics-server.
    pub metrics_server: String,
}

/// What to apply for this part, in order.
///
/// `taints` are those of the cluster's own pools: the add-ons tolerate them, or a cluster of tainted nodes would have no
/// DNS. `name_servers` are asked for names outside the cluster; without any, only the cluster's own names resolve.
///
/// # Errors
/// Internal, when a manifest cannot be filled in.
pub fn base_manifests(
    part: BasePart,
    cluster: &Cluster,
    pki: &Pki,
    images: &Images,
    taints: &[Taint],
    name_servers: &[Ipv4Addr],
) -> Outcome<Vec<Value>> {
    let tolerations = tolerations(taints).to_string();
    match part {
        BasePart::Essentials => {
            let mut objects = roles(pki)?;
            if is_wanted(cluster, COREDNS_ADDON) {
                objects.extend(dns(cluster, images, name_servers, &tolerations)?);
            }
            Ok(objects)
        }
        BasePart::Extras if is_wanted(cluster, METRICS_SERVER_ADDON) => metrics(pki, images, &tolerations),
        BasePart::Extras => Ok(Vec::new()),
    }
}

fn roles(pki: &Pki) -> Outcome<Vec<Value>> {
    // JSON text is YAML text.
    let authority = json!(pki.cluster_ca.certificate).to_string();
    read(BASE, &[("kubelet_client", KUBELET_CLIENT), ("\"authority\"", &authority)])
}

fn dns(cluster: &Cluster, images: &Images, name_servers: &[Ipv4Addr], tolerations: &str) -> Outcome<Vec<Value>> {
    let corefile = corefile(&cluster.network.cluster_domain, name_servers);
    read(
        COREDNS,
        &[
            ("image", &images.coredns),
            ("dns_ip", &cluster.network.dns_ip.to_string()),
            ("\"corefile\"", &json!(corefile).to_string()),
            ("\"tolerations\"", tolerations),
        ],
    )
}

fn metrics(pki: &Pki, images: &Images, tolerations: &str) -> Outcome<Vec<Value>> {
    read(
        METRICS_SERVER,
        &[
            ("image", &images.metrics_server),
            ("certificate", &STANDARD.encode(&pki.metrics_server.certificate)),
            ("key", &STANDARD.encode(&pki.metrics_server.key)),
            ("expires", &pki.metrics_server.expires.to_string()),
            ("authority", &STANDARD.encode(&pki.cluster_ca.certificate)),
            ("\"tolerations\"", tolerations),
        ],
    )
}

/// Whether the add-on was not refused at creation.
pub(crate) fn is_wanted(cluster: &Cluster, name: &str) -> bool {
    !cluster.addons.iter().any(|addon| addon.name == name && addon.disabled)
}

fn tolerations(taints: &[Taint]) -> Value {
    let mut list = vec![json!({"key": "CriticalAddonsOnly", "operator": "Exists"})];
    for taint in taints {
        let toleration = json!({"key": taint.key, "operator": "Equal", "value": taint.value, "effect": taint.effect});
        if !list.contains(&toleration) {
            list.push(toleration);
        }
    }
    Value::Array(list)
}

/// No `loop` plugin: the name servers are known to be others, and it would stop CoreDNS where Docker answers for them.
fn corefile(domain: &str, name_servers: &[Ipv4Addr]) -> String {
    let forward = if name_servers.is_empty() {
        String::new()
    } else {
        let list: Vec<String> = name_servers.iter().map(Ipv4Addr::to_string).collect();
        format!("    forward . {} {{\n        max_concurrent 1000\n    }}\n", list.join(" "))
    };
    format!(
        ".:53 {{\n    \
             errors\n    \
             health {{\n        lameduck 5s\n    }}\n    \
             ready\n    \
             kubernetes {domain} in-addr.arpa ip6.arpa {{\n        \
                 pods insecure\n        \
                 fallthrough in-addr.arpa ip6.arpa\n        \
                 ttl 30\n    \
             }}\n    \
             prometheus :9153\n\
         {forward}    \
             cache 30\n    \
             reload\n    \
             loadbalance\n\
         }}\n"
    )
}

/// Fills in the names and reads the documents. A name in quotes stands for a whole quoted value.
fn read(template: &str, values: &[(&str, &str)]) -> Outcome<Vec<Value>> {
    let mut text = template.to_owned();
    for (name, value) in values {
        let place = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
            Some(name) => format!("\"{{{{{name}}}}}\""),
            None => format!("{{{{{name}}}}}"),
        };
        text = text.replace(&place, value);
    }
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| {
            Value::deserialize(document)
                .map_err(|error| Fault::internal(format!("a built-in manifest cannot be read: {error}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::tests::{sample_cluster, sample_images, sample_pki};

    const PARTS: [BasePart; 2] = [BasePart::Essentials, BasePart::Extras];

    fn kinds(objects: &[Value]) -> Vec<String> {
        objects
            .iter()
            .map(|object| {
                format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
            })
            .collect()
    }

    #[test]
    fn everything_is_filled_in() {
        let cluster = sample_cluster();
        let taint = Taint { key: "only".into(), value: "us".into(), effect: "NoSchedule".into() };
        let (pki, taints, servers) = (sample_pki(), [taint.clone(), taint], [Ipv4Addr::new(192, 0, 2, 1)]);
        let part = |part| base_manifests(part, &cluster, &pki, &sample_images(), &taints, &servers).unwrap();
        let objects = PARTS.map(part).concat();
        let text = serde_json::to_string(&objects).unwrap();
        assert!(!text.contains("{{") && !text.contains("}}\""), "{text}");
        assert!(text.contains("forward . 192.0.2.1 {"));
        assert!(text.contains("kubernetes cluster.local in-addr.arpa"));
        assert!(!text.contains("loop"));
        let deployment = objects
            .iter()
            .find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == "coredns")
            .unwrap();
        let tolerations = &deployment["spec"]["template"]["spec"]["tolerations"];
        assert_eq!(tolerations.as_array().unwrap().len(), 2);
        assert_eq!(tolerations[1]["key"], "only");
    }

    #[test]
    fn disabled_add_ons_are_left_out() {
        let mut cluster = sample_cluster();
        for name in [COREDNS_ADDON, METRICS_SERVER_ADDON] {
            cluster.addons.push(sampan_store::model::Addon {
                name: name.into(),
                version: None,
                config: None,
                disabled: true,
                installed: false,
            });
        }
        let part = |part| base_manifests(part, &cluster, &sample_pki(), &sample_images(), &[], &[]).unwrap();
        let objects = PARTS.map(part).concat();
        assert_eq!(
            kinds(&objects),
            [
                "ClusterRoleBinding sampan:kubelet-api-admin",
                "ClusterRoleBinding sampan:node-client-certificate-renewal",
                "ConfigMap kube-root-ca.crt",
            ]
        );
    }

    #[test]
    fn without_name_servers_nothing_is_forwarded() {
        let text = corefile("example.internal", &[]);
        assert!(!text.contains("forward"));
        assert!(
            text.contains("    kubernetes example.internal in-addr.arpa ip6.arpa {\n        pods insecure\n"),
            "{text}"
        );
    }
}
