//! What decides whether a cluster can be upgraded: removed APIs that are still asked for, disruption budgets, room.

use std::collections::BTreeMap;

use futures::{AsyncBufReadExt as _, AsyncReadExt as _};
use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, PodSpec},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use sampan_store::model::{Fault, Outcome};
use serde_json::json;

use super::{
    access::{CALL_TIMEOUT, call, fault, timed_out},
    drain::must_leave,
    quantity::{millis, units},
};
use crate::ports::{Budget, DeprecatedApi, NodeRoom, Survey};

/// The API server's gauge of requests to APIs that will be removed.
const DEPRECATED_METRIC: &str = "apiserver_requested_deprecated_apis{";
/// The API server's metrics are not read beyond this.
const METRICS_BYTES_MAX: u64 = 64 << 20;
/// Deprecated APIs, budgets and nodes that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// Looks.
///
/// # Errors
/// As the API server says.
pub(crate) async fn survey(client: &Client) -> Outcome<Survey> {
    let deprecated =
        tokio::time::timeout(CALL_TIMEOUT, deprecated(client)).await.map_err(|_| timed_out("metrics"))??;
    let budgets: Api<PodDisruptionBudget> = Api::all(client.clone());
    let budgets = call("the disruption budgets", budgets.list(&ListParams::default())).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = call("its nodes", nodes.list(&ListParams::default())).await?;
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = call("its pods", pods.list(&ListParams::default())).await?;
    Ok(Survey {
        deprecated,
        budgets: budgets.items.iter().take(ENTRIES_MAX).map(budget).collect(),
        rooms: rooms(&nodes.items, &pods.items),
    })
}

/// The version that the API server of this client runs.
pub(crate) async fn server_version(client: &Client) -> Outcome<String> {
    let info = call("its version", client.apiserver_version()).await?;
    Ok(info.git_version)
}

/// Makes the node schedulable; fine when there is none of that name.
pub(crate) async fn uncordon(client: &Client, node: &str) -> Outcome<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"spec": {"unschedulable": null}}));
    match call(&format!("node {node}"), nodes.patch(node, &PatchParams::default(), &patch)).await {
        Err(fault) if matches!(fault.kind, sampan_store::model::FaultKind::NotFound(_)) => Ok(()),
        outcome => outcome.map(drop),
    }
}

async fn deprecated(client: &Client) -> Outcome<Vec<DeprecatedApi>> {
    let request = http::Request::get("/metrics")
        .body(Vec::new())
        .map_err(|error| Fault::internal(format!("a request cannot be built: {error}")))?;
    let metrics = client.request_stream(request).await.map_err(|error| fault("its metrics", &error))?;
    let mut lines = futures::io::BufReader::new(Box::pin(metrics).take(METRICS_BYTES_MAX)).lines();
    let mut found = Vec::new();
    while let Some(line) = futures::StreamExt::next(&mut lines).await {
        let line = line.map_err(|error| Fault::unavailable(format!("the API server's metrics end early: {error}")))?;
        found.extend(deprecated_api(&line).filter(|_| found.len() < ENTRIES_MAX));
    }
    Ok(found)
}

/// Reads one line of the metrics; `None`: it is another metric, or counts nothing.
fn deprecated_api(line: &str) -> Option<DeprecatedApi> {
    let (labels, value) = line.strip_prefix(DEPRECATED_METRIC)?.rsplit_once('}')?;
    value.trim().parse::<f64>().ok().filter(|value| *value > 0.0)?;
    // No label of this metric has commas or quotes in its value.
    let label = |name: &str| {
        labels.split(',').find_map(|label| {
            let (key, value) = label.split_once('=')?;
            (key.trim() == name).then(|| value.trim_matches('"').to_owned())
        })
    };
    let group = label("group").unwrap_or_default();
    let version = label("version")?;
    let removed_in = label("removed_release").unwrap_or_default();
    Some(DeprecatedApi {
        resource: label("resource")?,
        group_version: if group.is_empty() { version } else { format!("{group}/{version}") },
        removed_in,
    })
}

fn budget(budget: &PodDisruptionBudget) -> Budget {
    let (metadata, status) = (&budget.metadata, budget.status.as_ref());
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    Budget {
        name: format!("{namespace}/{}", metadata.name.as_deref().unwrap_or_default()),
        allowed: status.map_or(0, |status| status.disruptions_allowed),
        desired: status.map_or(0, |status| status.desired_healthy),
        expected: status.map_or(0, |status| status.expected_pods),
    }
}

fn rooms(nodes: &[Node], pods: &[Pod]) -> Vec<NodeRoom> {
    let mut rooms: BTreeMap<&str, NodeRoom> = BTreeMap::new();
    for node in nodes.iter().take(ENTRIES_MAX) {
        let Some(name) = node.metadata.name.as_deref() else { continue };
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let of = |resource: &str| allocatable.and_then(|all| all.get(resource));
        let room = NodeRoom {
            node: name.to_owned(),
            cordoned: node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false),
            cpu_millis: of("cpu").and_then(millis).unwrap_or(0),
            memory_bytes: of("memory").and_then(units).unwrap_or(0),
            ..NodeRoom::default()
        };
        rooms.insert(name, room);
    }
    for pod in pods {
        let Some(spec) = &pod.spec else { continue };
        let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let Some(room) = spec.node_name.as_deref().and_then(|node| rooms.get_mut(node)) else { continue };
        if matches!(ended, Some("Succeeded" | "Failed")) {
            continue;
        }
        let (cpu, memory) = (request(spec, "cpu", millis), request(spec, "memory", units));
        room.used_cpu_millis += cpu;
        room.used_memory_bytes += memory;
        if must_leave(pod) {
            room.moving_cpu_millis += cpu;
            room.moving_memory_bytes += memory;
        }
    }
    rooms.into_values().collect()
}

/// What a pod asks for: the sum of its containers, or its largest init container.
fn request(spec: &PodSpec, resource: &str, read: fn(&Quantity) -> Option<u64>) -> u64 {
    let of = |container: &k8s_openapi::api::core::v1::Container| {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| requests.get(resource)).and_then(read).unwrap_or(0)
    };
    let together: u64 = spec.containers.iter().map(of).sum();
    let before = spec.init_containers.iter().flatten().map(of).max().unwrap_or(0);
    together.max(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deprecated_apis_are_read_from_the_metric() {
        let line = r#"apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.36",resource="flowschemas",subresource="",version="v1beta3"} 1"#;
        let found = deprecated_api(line).unwrap();
        assert_eq!(found.group_version, "flowcontrol.apiserver.k8s.io/v1beta3");
        assert_eq!((found.resource.as_str(), found.removed_in.as_str()), ("flowschemas", "1.36"));
        assert_eq!(deprecated_api(&line.replace("} 1", "} 0")), None);
        assert_eq!(deprecated_api("# HELP apiserver_requested_deprecated_apis [STABLE] Gauge"), None);
        let core = r#"apiserver_requested_deprecated_apis{group="",removed_release="",resource="componentstatuses",subresource="",version="v1"} 1"#;
        let core = deprecated_api(core).unwrap();
        assert_eq!((core.group_version.as_str(), core.removed_in.as_str()), ("v1", ""));
    }

    #[test]
    fn rooms_count_what_moves() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}},
        }))
        .unwrap();
        let pod = |owner: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"ownerReferences": [
                    {"kind": owner, "controller": true, "name": "x", "uid": "u", "apiVersion": "apps/v1"}]},
                "spec": {"nodeName": "n",
                    "containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}],
                    "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "300m"}}}]},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        let pods = [pod("ReplicaSet", "Running"), pod("DaemonSet", "Running"), pod("Job", "Succeeded")];
        let [room] = rooms(&[node], &pods).try_into().unwrap();
        assert_eq!((room.cpu_millis, room.memory_bytes), (2000, 1 << 30));
        assert_eq!((room.used_cpu_millis, room.moving_cpu_millis), (600, 300));
        assert_eq!((room.used_memory_bytes, room.moving_memory_bytes), (2 << 20, 1 << 20));
    }
}
