//! Tests of the simulation by tables and by properties, and of the controller against a fake cluster.

mod controller;
mod fits;
mod packing;
mod shrinking;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    model::{self, CPU, MEMORY, Node, NodeTaint, PODS, Pod, Resources},
    simulate::{Group, Slot, Snapshot, Template},
};

/// One GiB.
pub(super) const GIB: i64 = 1 << 30;

/// A node with so many processors and so much memory, in a zone.
pub(super) fn node(name: &str, cores: i64, gib: i64, zone: &str) -> Node {
    let labels = [("kubernetes.io/hostname", name), ("topology.kubernetes.io/zone", zone)];
    Node {
        name: name.into(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        allocatable: [(CPU, cores * 1000), (MEMORY, gib * GIB), (PODS, 100)].into_iter().collect(),
        ready: true,
        ..Node::default()
    }
}

pub(super) fn tainted(mut node: Node, key: &str) -> Node {
    node.taints.push(NodeTaint { key: key.into(), value: String::new(), effect: "NoSchedule".into() });
    node
}

/// A pod of a replica set, from what its specification says beside its one container.
pub(super) fn pod(name: &str, millicores: i64, mib: i64, more: Value) -> Arc<Pod> {
    let mut object = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": "web"},
            "ownerReferences": [{"kind": "ReplicaSet", "controller": true, "name": "rs", "uid": "rs", "apiVersion": "apps/v1"}],
        },
        "spec": {"containers": [{
            "name": "main", "resources": {"requests": {"cpu": format!("{millicores}m"), "memory": format!("{mib}Mi")}},
        }]},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
    });
    merge(&mut object, more);
    Arc::new(model::pod(&serde_json::from_value(object).unwrap()))
}

/// Puts what `more` says into the object; lists are replaced.
pub(super) fn merge(object: &mut Value, more: Value) {
    match (object, more) {
        (Value::Object(object), Value::Object(more)) => {
            for (key, value) in more {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, more) => *object = more,
    }
}

pub(super) fn snapshot(nodes: impl IntoIterator<Item = (Node, Vec<Arc<Pod>>)>) -> Snapshot {
    let namespaces: model::Namespaces = [
        ("default".to_owned(), BTreeMap::from([("team".to_owned(), "a".to_owned())])),
        ("other".to_owned(), BTreeMap::from([("team".to_owned(), "b".to_owned())])),
    ]
    .into();
    let mut snapshot = Snapshot::new(Arc::new(namespaces));
    for (node, pods) in nodes {
        snapshot.add(Arc::new(node), pods);
    }
    snapshot
}

pub(super) fn group(pool_id: &str, nodes: Vec<Node>) -> Group {
    let order = nodes.into_iter().map(|node| Arc::new(Template { node, daemons: Vec::new() })).collect();
    Group { pool_id: pool_id.into(), zone: None, order, barred: None }
}

pub(super) fn slots(snapshot: &Snapshot) -> Vec<&Slot> {
    (0..snapshot.len()).filter_map(|number| snapshot.slot(number)).collect()
}

/// A second, simple-minded reading of the rules that hold for a node whatever the order in which its pods came: what is
/// wrong with it.
pub(super) fn violations(snapshot: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    for slot in slots(snapshot) {
        let node = &slot.node;
        for (resource, all) in node.allocatable.iter() {
            let used: i64 = slot.pods.iter().map(|pod| pod.requests.get(resource)).sum();
            if used > all {
                wrong.push(format!("{}: {used} of {all} {resource}", node.name));
            }
        }
        for pod in &slot.pods {
            let tolerated = |taint: &NodeTaint| pod.tolerations.iter().any(|one| one.key == taint.key);
            if let Some(taint) = node.taints.iter().find(|taint| !tolerated(taint)) {
                wrong.push(format!("{}: {} does not tolerate {}", node.name, pod.name, taint.key));
            }
            for (key, value) in &pod.node_selector {
                if node.labels.get(key) != Some(value) {
                    wrong.push(format!("{}: {} wants {key}={value}", node.name, pod.name));
                }
            }
        }
        let mut ports: Vec<i32> = slot.pods.iter().flat_map(|pod| &pod.host_ports).map(|port| port.port).collect();
        let all = ports.len();
        ports.sort_unstable();
        ports.dedup();
        if ports.len() != all {
            wrong.push(format!("{}: a port twice", node.name));
        }
    }
    wrong.extend(neighbours(snapshot));
    wrong
}

/// Pods that share a place though one of them does not want to.
fn neighbours(snapshot: &Snapshot) -> Vec<String> {
    let placed: Vec<(&Node, &Pod)> =
        slots(snapshot).into_iter().flat_map(|slot| slot.pods.iter().map(move |pod| (&*slot.node, &**pod))).collect();
    let mut wrong = Vec::new();
    for (node, pod) in &placed {
        for term in &pod.anti_affinity {
            let selector = term.selector.as_ref().unwrap();
            let there = node.labels.get(&term.topology_key);
            for (other_node, other) in &placed {
                let same_place = there.is_some() && other_node.labels.get(&term.topology_key) == there;
                let is_meant = other.namespace == pod.namespace && model::matches_labels(selector, &other.labels);
                if same_place && is_meant && !std::ptr::eq(*pod, *other) {
                    wrong.push(format!("{} is beside {} in {}", pod.name, other.name, term.topology_key));
                }
            }
        }
    }
    wrong
}

pub(super) fn resources(amounts: &[(&str, i64)]) -> Resources {
    amounts.iter().copied().collect()
}
