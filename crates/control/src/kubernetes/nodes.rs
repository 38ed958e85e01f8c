//! Node objects: what we read from them, and what the server settles on them.

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use sampan_store::model::Outcome;
use serde_json::{Map, Value, json};

use super::{
    access::call,
    labels::{INSTANCE_LABEL, is_label_name, is_label_value},
};
use crate::ports::{NodeReadiness, NodeView, NodeWanted};

/// What the controllers want to know of a node.
pub(crate) fn view(node: &Node) -> NodeView {
    let status = node.status.as_ref();
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    let readiness = match ready.map(|condition| condition.status.as_str()) {
        Some("True") => NodeReadiness::Ready,
        Some("False") => NodeReadiness::NotReady,
        _ => NodeReadiness::Unknown,
    };
    let message = match ready {
        Some(condition) if readiness != NodeReadiness::Ready => condition.message.clone().unwrap_or_default(),
        Some(_) => String::new(),
        None => "the kubelet has not reported yet".to_owned(),
    };
    let spec = node.spec.as_ref();
    NodeView {
        name: node.metadata.name.clone().unwrap_or_default(),
        ready: readiness,
        heard: ready.and_then(|condition| condition.last_heartbeat_time.as_ref()).map(|time| time.0),
        message,
        machine_id: node.metadata.labels.as_ref().and_then(|labels| labels.get(INSTANCE_LABEL).cloned()),
        cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        pod_cidr: spec.and_then(|spec| spec.pod_cidr.clone()),
        kubelet_version: status
            .and_then(|status| status.node_info.as_ref())
            .map(|info| info.kubelet_version.clone())
            .unwrap_or_default(),
    }
}

/// Makes the node object so.
///
/// # Errors
/// `NotFound` while the kubelet has not registered; `Conflict` when somebody else changed it meanwhile.
pub(crate) async fn settle(client: &Client, name: &str, wanted: &NodeWanted) -> Outcome<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let what = format!("node {name}");
    let node = call(&what, nodes.get(name)).await?;
    let Some(patch) = missing(&node, wanted) else { return Ok(()) };
    call(&what, nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
}

/// The patch that makes the node so; `None`: it is.
fn missing(node: &Node, wanted: &NodeWanted) -> Option<Value> {
    let mut spec = Map::new();
    let current = node.spec.as_ref();
    let pod_cidr = current.and_then(|spec| spec.pod_cidr.as_ref());
    // It can be set once and never changed.
    if let (Some(cidr), None) = (&wanted.pod_cidr, pod_cidr) {
        spec.insert("podCIDR".to_owned(), json!(cidr));
        spec.insert("podCIDRs".to_owned(), json!([cidr]));
    }
    if wanted.unschedulable && current.and_then(|spec| spec.unschedulable) != Some(true) {
        spec.insert("unschedulable".to_owned(), json!(true));
    }
    let old_taints: &[Taint] = current.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let mut taints = old_taints.to_vec();
    taints.retain(|taint| {
        !wanted.retired_taints.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect)
    });
    for (key, value, effect) in &wanted.taints {
        let value = (!value.is_empty()).then(|| value.clone());
        match taints.iter_mut().find(|taint| taint.key == *key && taint.effect == *effect) {
            Some(taint) => taint.value = value,
            None => taints.push(Taint { key: key.clone(), value, effect: effect.clone(), ..Taint::default() }),
        }
    }
    if taints != old_taints {
        spec.insert("taints".to_owned(), json!(taints));
    }
    let have = node.metadata.labels.as_ref();
    let mut labels: Map<String, Value> = wanted
        .labels
        .iter()
        // A label that Kubernetes refuses must not keep the others from being set.
        .filter(|(name, value)| is_label_name(name) && is_label_value(value))
        .filter(|(name, value)| have.and_then(|labels| labels.get(name)) != Some(value))
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let gone = wanted.retired_labels.iter().filter(|name| have.is_some_and(|labels| labels.contains_key(*name)));
    labels.extend(gone.map(|name| (name.clone(), Value::Null)));
    if spec.is_empty() && labels.is_empty() {
        return None;
    }
    // The list of taints is replaced as a whole, hence only in the version that was looked at.
    Some(json!({
        "metadata": {"resourceVersion": node.metadata.resource_version, "labels": labels},
        "spec": spec,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_is_missing_is_patched() {
        let wanted = NodeWanted {
            pod_cidr: Some("10.0.1.0/24".into()),
            labels: vec![("a".into(), "1".into()), ("no label".into(), "1".into())],
            taints: vec![("k".into(), String::new(), "NoSchedule".into())],
            ..NodeWanted::default()
        };
        let fresh = node(json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {"taints": [{"key": "other", "effect": "NoExecute"}]},
        }));
        let patch = missing(&fresh, &wanted).unwrap();
        assert_eq!(
            patch,
            json!({
                "metadata": {"resourceVersion": "7", "labels": {"a": "1"}},
                "spec": {
                    "podCIDR": "10.0.1.0/24",
                    "podCIDRs": ["10.0.1.0/24"],
                    "taints": [{"key": "other", "effect": "NoExecute"}, {"key": "k", "effect": "NoSchedule"}],
                },
            })
        );
        let settled = node(json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"podCIDR": "10.0.1.0/24", "taints": [{"key": "k", "effect": "NoSchedule"}]},
        }));
        assert_eq!(missing(&settled, &wanted), None);
    }

    #[test]
    fn what_the_pool_no_longer_has_is_taken_away_and_nothing_else() {
        let wanted = NodeWanted {
            labels: vec![("a".into(), "2".into())],
            retired_labels: vec!["old".into(), "never-there".into()],
            retired_taints: vec![("k".into(), "NoSchedule".into())],
            unschedulable: true,
            ..NodeWanted::default()
        };
        let now = node(json!({
            "metadata": {"resourceVersion": "7", "labels": {"a": "1", "old": "x", "mine": "y"}},
            "spec": {"taints": [
                {"key": "k", "effect": "NoSchedule", "value": "v"}, {"key": "k", "effect": "NoExecute"},
            ]},
        }));
        let patch = missing(&now, &wanted).unwrap();
        assert_eq!(patch["metadata"]["labels"], json!({"a": "2", "old": null}));
        assert_eq!(patch["spec"], json!({"unschedulable": true, "taints": [{"key": "k", "effect": "NoExecute"}]}));
        let after = node(json!({
            "metadata": {"labels": {"a": "2", "mine": "y"}},
            "spec": {"unschedulable": true, "taints": [{"key": "k", "effect": "NoExecute"}]},
        }));
        assert_eq!(missing(&after, &wanted), None);
    }

    #[test]
    fn readiness_is_read_from_the_condition() {
        let with = |status: &str| {
            view(&node(json!({"metadata": {"name": "n"}, "status": {"conditions": [
                {"type": "Ready", "status": status, "message": "why"}]}})))
        };
        assert_eq!((with("True").ready, with("True").message), (NodeReadiness::Ready, String::new()));
        assert_eq!((with("False").ready, with("False").message), (NodeReadiness::NotReady, "why".to_owned()));
        assert_eq!(with("Unknown").ready, NodeReadiness::Unknown);
        assert_eq!(view(&node(json!({}))).ready, NodeReadiness::Unknown);
    }
}
