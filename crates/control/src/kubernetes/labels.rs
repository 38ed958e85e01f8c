//! Labels of nodes, and which of them a kubelet may set itself.

use std::collections::BTreeMap;

use sampan_store::model::{Cluster, Machine, NodePool};

use super::master::ROLE_LABELS;

/// Label with the id of a node's pool.
const POOL_LABEL: &str = "alibabacloud.com/nodepool-id";
/// Label with the id of a node's machine.
pub(crate) const INSTANCE_LABEL: &str = "alibabacloud.com/instance-id";
/// The reserved domains' names that kubelets may set nevertheless, by upstream's rule.
const KUBELET_MAY_SET: [&str; 8] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// And the prefixes.
const KUBELET_MAY_PREFIX: [&str; 2] = ["kubelet.kubernetes.io/", "node.kubernetes.io/"];

/// The labels of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLabels {
    /// Those that its kubelet registers with.
    pub registered: BTreeMap<String, String>,
    /// Those in domains that are reserved to the cluster's owner: the server sets them.
    pub settled: BTreeMap<String, String>,
    /// Labels and tags that Kubernetes does not accept as labels, in words.
    pub refused: Vec<String>,
}

/// The labels of a machine's node: where it is, what it belongs to, its pool's labels, and the tags of cluster, pool and
/// machine. The more specific one wins, and a label wins over a tag.
pub fn node_labels(cluster: &Cluster, pool: Option<&NodePool>, machine: &Machine) -> NodeLabels {
    let mut wanted = BTreeMap::new();
    let tags = cluster.tags.iter().chain(pool.iter().flat_map(|pool| &pool.tags)).chain(&machine.tags);
    let labels = pool.iter().flat_map(|pool| &pool.labels);
    let mut refused = Vec::new();
    for tag in tags.chain(labels) {
        if is_label_name(&tag.key) && is_label_value(&tag.value) {
            wanted.insert(tag.key.clone(), tag.value.clone());
        } else {
            refused.push(format!("{}={}", tag.key, tag.value));
        }
    }
    for (name, value) in [
        ("topology.kubernetes.io/region", machine.region_id.as_str()),
        ("topology.kubernetes.io/zone", machine.zone_id.as_str()),
        ("node.kubernetes.io/instance-type", machine.instance_type.as_str()),
        (INSTANCE_LABEL, machine.id.as_str()),
        (POOL_LABEL, pool.map_or("", |pool| pool.id.as_str())),
    ] {
        if !value.is_empty() && is_label_value(value) {
            wanted.insert(name.to_owned(), value.to_owned());
        }
    }
    if machine.is_control_plane_of(&cluster.id) {
        wanted.extend(ROLE_LABELS.map(|name| (name.to_owned(), String::new())));
    }
    let (registered, settled) = wanted.into_iter().partition(|(name, _)| kubelet_may_set(name));
    NodeLabels { registered, settled, refused }
}

fn kubelet_may_set(name: &str) -> bool {
    let Some((domain, _)) = name.split_once('/') else { return true };
    let reserved = ["kubernetes.io", "k8s.io"].iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}")));
    !reserved || KUBELET_MAY_SET.contains(&name) || KUBELET_MAY_PREFIX.iter().any(|prefix| name.starts_with(prefix))
}

/// `[prefix/]name`, as Kubernetes wants it.
pub(crate) fn is_label_name(name: &str) -> bool {
    let (prefix, name) = match name.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, name),
    };
    let prefix_ok = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    });
    prefix_ok && !name.is_empty() && is_label_value(name)
}

/// At most 63 of letters, digits, `-`, `_`, `.`, beginning and ending with a letter or digit; may be empty.
pub(crate) fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    value.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::tests::{sample_cluster, sample_pool, sample_worker, tag};

    #[test]
    fn reserved_names_are_left_to_the_server() {
        for (name, kubelet) in [
            ("team", true),
            ("example.com/team", true),
            ("notkubernetes.io/x", true),
            ("node-role.kubernetes.io/infra", false),
            ("kubernetes.io/role", false),
            ("k8s.io/x", false),
            ("topology.kubernetes.io/zone", true),
            ("node.kubernetes.io/anything", true),
        ] {
            assert_eq!(kubelet_may_set(name), kubelet, "{name}");
        }
    }

    #[test]
    fn specific_wins_and_what_is_no_label_is_reported() {
        let mut cluster = sample_cluster();
        cluster.tags = vec![tag("env", "cluster"), tag("owner", "a b"), tag("", "x"), tag("kept", "")];
        let mut pool = sample_pool();
        pool.tags = vec![tag("env", "pool")];
        pool.labels = vec![tag("env", "label"), tag("node-role.kubernetes.io/infra", "")];
        let worker = sample_worker(1);
        let labels = node_labels(&cluster, Some(&pool), &worker);
        assert_eq!(labels.registered["env"], "label");
        assert_eq!(labels.registered["kept"], "");
        assert_eq!(labels.registered[POOL_LABEL], pool.id);
        assert_eq!(labels.registered["topology.kubernetes.io/zone"], worker.zone_id);
        assert_eq!(labels.settled.keys().collect::<Vec<_>>(), ["node-role.kubernetes.io/infra"]);
        assert_eq!(labels.refused, ["owner=a b", "=x"]);
    }
}
