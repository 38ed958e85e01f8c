//! Emptying a node: it is made unschedulable, then every pod that can move is evicted, with respect for disruption budgets.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{EvictParams, ListParams, Patch, PatchParams},
    core::Status,
};
use sampan_store::model::Outcome;
use serde_json::json;

use super::{
    access::{CALL_TIMEOUT, call, fault, timed_out},
    budgets::Budgets,
};
use crate::ports::{BLOCKED_BY, DrainOutcome};

/// Evictions per round; the next round goes on.
const EVICTIONS_MAX: usize = 100;
/// Pods named in a message.
const NAMED_MAX: usize = 5;
/// A pod with this annotation stands for a static one, which only its kubelet can end.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// One round.
///
/// # Errors
/// As the API server says; a node that does not exist is empty.
pub(crate) async fn drain(client: &Client, node: &str) -> Outcome<DrainOutcome> {
    if !cordon(client, node).await? {
        return Ok(DrainOutcome::Done);
    }
    let pods: Api<Pod> = Api::all(client.clone());
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let list = call(&format!("the pods of node {node}"), pods.list(&on_node)).await?;
    let mut waiting = Vec::new();
    let mut budgets = Budgets::default();
    for pod in list.items.iter().filter(|pod| must_leave(pod)).take(EVICTIONS_MAX) {
        waiting.extend(evict(client, pod, &mut budgets).await?);
    }
    // What is blocked is what people have to know first.
    waiting.sort_by_key(|text| !text.contains(BLOCKED_BY));
    Ok(if waiting.is_empty() { DrainOutcome::Done } else { DrainOutcome::Waiting(summary(&waiting)) })
}

/// Makes the node unschedulable; `false`: there is no such node.
async fn cordon(client: &Client, node: &str) -> Outcome<bool> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    let params = PatchParams::default();
    match tokio::time::timeout(CALL_TIMEOUT, nodes.patch(node, &params, &patch)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(false),
        Ok(Err(error)) => Err(fault(&format!("node {node}"), &error)),
        Err(_) => Err(timed_out(&format!("node {node}"))),
    }
}

/// Whether the pod has to be gone before the node may go. Pods of daemon sets would come back at once; mirror pods and
/// finished ones have nothing to move.
pub(crate) fn must_leave(pod: &Pod) -> bool {
    let metadata = &pod.metadata;
    let of_daemon_set = metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && owner.kind == "DaemonSet");
    let mirror = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR_ANNOTATION));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !of_daemon_set && !mirror && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Evicts the pod; answers what is still to be waited for.
async fn evict(client: &Client, pod: &Pod, budgets: &mut Budgets) -> Outcome<Option<String>> {
    let metadata = &pod.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let name = metadata.name.as_deref().unwrap_or_default();
    let what = format!("{namespace}/{name}");
    if metadata.deletion_timestamp.is_some() {
        return Ok(Some(format!("{what} is ending")));
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match tokio::time::timeout(CALL_TIMEOUT, pods.evict(name, &EvictParams::default())).await {
        Ok(Ok(_)) => Ok(Some(format!("{what} is ending"))),
        Ok(Err(kube::Error::Api(status))) => match status.code {
            404 => Ok(None),
            // A budget forbids it; or several cover the pod, which the API server does not evict then.
            // The names only inform: without them the drain goes on.
            429 | 500 => {
                let names = budgets.covering(client, namespace, pod).await.unwrap_or_default();
                Ok(Some(refused(&what, &status, &names)))
            }
            // For example: its namespace is being deleted.
            _ => Ok(Some(format!("{what} cannot be evicted: {}", status.message))),
        },
        Ok(Err(error)) => Err(fault(&what, &error)),
        Err(_) => Err(timed_out(&what)),
    }
}

/// Why a pod stays: the budgets that cover it, and what the API server says.
fn refused(what: &str, status: &Status, budgets: &[String]) -> String {
    let cause = status.details.as_ref().and_then(|details| details.causes.first());
    let why = cause.map_or(status.message.as_str(), |cause| cause.message.as_str());
    if budgets.is_empty() {
        return format!("{what} must stay for now: {why}");
    }
    let names: Vec<String> = budgets.iter().map(|name| format!("{BLOCKED_BY}{name}")).collect();
    format!("{what} must stay for now: {} forbids its eviction ({why})", names.join(" and "))
}

fn summary(waiting: &[String]) -> String {
    let mut text = waiting.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    if waiting.len() > NAMED_MAX {
        text.push_str(&format!("; and {} more pods", waiting.len() - NAMED_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_that_cannot_move_are_left() {
        let owned = |kind: &str| {
            pod(json!({"metadata": {"ownerReferences": [
                {"kind": kind, "controller": true, "name": "x", "uid": "u", "apiVersion": "apps/v1"}]}}))
        };
        assert!(must_leave(&owned("ReplicaSet")));
        assert!(!must_leave(&owned("DaemonSet")));
        assert!(!must_leave(&pod(json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}))));
        assert!(!must_leave(&pod(json!({"status": {"phase": "Succeeded"}}))));
        assert!(must_leave(&pod(json!({"status": {"phase": "Running"}}))));
    }

    #[test]
    fn a_message_names_a_few_pods() {
        let waiting: Vec<String> = (0..7).map(|n| format!("default/p{n} is ending")).collect();
        let text = summary(&waiting);
        assert!(text.contains("p4") && !text.contains("p5") && text.ends_with("and 2 more pods"));
    }
}
