//! Labels of nodes: what constraints of containers can name.

use std::collections::BTreeMap;

use sampan_store::model::{Cluster, Machine};

/// `aliyun.node_index`.
const NODE_INDEX: &str = "aliyun.node_index";

/// Labels that never change: the engine itself has them. Another command line would restart it with all its containers.
pub(super) fn engine_labels(cluster: &Cluster, machine: &Machine, index: u32) -> BTreeMap<String, String> {
    [
        (NODE_INDEX, index.to_string()),
        ("region", cluster.region_id.clone()),
        ("zone", machine.zone_id.clone()),
        ("instance_type", machine.instance_type.clone()),
        ("instance_id", machine.id.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// All labels of a node: the engine's, and the tags of its cluster and its machine.
pub fn node_labels(cluster: &Cluster, machine: &Machine, index: u32) -> BTreeMap<String, String> {
    let tags = cluster.tags.iter().chain(&machine.tags);
    let mut labels: BTreeMap<String, String> = tags.map(|tag| (tag.key.clone(), tag.value.clone())).collect();
    labels.extend(engine_labels(cluster, machine, index));
    labels
}
