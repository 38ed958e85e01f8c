//! From API objects to what the simulation sees.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{self as core, Container, ContainerStatus, PodSpec},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::{
    AffinityTerm, Budget, HostPort, Node, NodeTaint, Owner, PODS, Pod, Resources, Tolerated, quantity::amount,
};

/// A pod with this annotation stands for a static one.
const MIRROR: &str = "kubernetes.io/config.mirror";
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
const SAFE_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
const SCALE_DOWN_DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
/// Taints that follow from the condition Ready.
const NOT_READY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// What Kubernetes tolerates on behalf of every daemon set's pods.
const DAEMONS_TOLERATE: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// A node.
pub(crate) fn node(node: &core::Node) -> Node {
    let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let mut taints = taints(spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default());
    if ready {
        // Kubernetes takes these away a moment after the node became Ready.
        taints.retain(|taint| !NOT_READY.contains(&taint.key.as_str()));
    }
    Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints,
        unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        allocatable: Resources::of(status.and_then(|status| status.allocatable.as_ref())),
        ready,
        kept: annotation(&node.metadata, SCALE_DOWN_DISABLED) == Some("true"),
    }
}

fn taints(taints: &[core::Taint]) -> Vec<NodeTaint> {
    let forbids = |taint: &&core::Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    let kept = taints.iter().filter(forbids).map(|taint| NodeTaint {
        key: taint.key.clone(),
        value: taint.value.clone().unwrap_or_default(),
        effect: taint.effect.clone(),
    });
    kept.collect()
}

/// A pod.
pub(crate) fn pod(pod: &core::Pod) -> Pod {
    let (metadata, status) = (&pod.metadata, pod.status.as_ref());
    let mut seen = pod.spec.as_ref().map(|spec| of_spec(metadata, spec)).unwrap_or_default();
    if let Some(spec) = &pod.spec {
        seen.requests = requests(spec, status);
    }
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    seen.owner = if annotation(metadata, MIRROR).is_some() { Owner::Node } else { owner.map_or(Owner::Nobody, kind) };
    seen.owner_uid = owner.map(|owner| owner.uid.clone()).unwrap_or_default();
    seen.terminating = metadata.deletion_timestamp.is_some();
    seen.nominated = status.and_then(|status| status.nominated_node_name.clone()).filter(|name| !name.is_empty());
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let unscheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let reason = unscheduled.and_then(|condition| condition.reason.as_deref());
    seen.unschedulable = seen.node.is_none() && reason == Some("Unschedulable");
    seen.gated = seen.node.is_none() && reason == Some("SchedulingGated");
    seen
}

/// The pod that a daemon set puts on every node that it may run on.
pub(crate) fn daemon(set: &DaemonSet) -> Option<Pod> {
    let template = &set.spec.as_ref()?.template;
    let spec = template.spec.as_ref()?;
    let metadata = ObjectMeta {
        namespace: set.metadata.namespace.clone(),
        name: set.metadata.name.clone(),
        uid: set.metadata.uid.clone(),
        ..template.metadata.clone().unwrap_or_default()
    };
    let mut pod = of_spec(&metadata, spec);
    pod.requests = requests(spec, None);
    pod.owner = Owner::DaemonSet;
    pod.owner_uid = pod.uid.clone();
    let network = spec.host_network == Some(true);
    let network = network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    pod.tolerations.extend(DAEMONS_TOLERATE.into_iter().chain(network).map(|(key, effect)| Tolerated {
        key: key.into(),
        exists: true,
        value: String::new(),
        effect: effect.into(),
    }));
    Some(pod)
}

/// A PodDisruptionBudget.
pub(crate) fn budget(budget: &PodDisruptionBudget) -> Budget {
    Budget {
        namespace: budget.metadata.namespace.clone().unwrap_or_default(),
        name: budget.metadata.name.clone().unwrap_or_default(),
        selector: budget.spec.as_ref().and_then(|spec| spec.selector.clone()),
        allowed: budget.status.as_ref().map_or(0, |status| status.disruptions_allowed),
    }
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn kind(owner: &OwnerReference) -> Owner {
    match owner.kind.as_str() {
        "DaemonSet" => Owner::DaemonSet,
        "Node" => Owner::Node,
        "ReplicaSet" | "ReplicationController" | "StatefulSet" | "Job" => Owner::Controller,
        _ => Owner::Custom,
    }
}

/// All that the specification alone says.
fn of_spec(metadata: &ObjectMeta, spec: &PodSpec) -> Pod {
    let name = metadata.name.clone().unwrap_or_default();
    let affinity = spec.affinity.as_ref();
    let node_affinity = affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let near = affinity
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_deref());
    let apart = affinity
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_deref());
    let spread = spec.topology_spread_constraints.iter().flatten();
    let claims_resources = spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty());
    Pod {
        uid: metadata.uid.clone().unwrap_or_default(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        node: spec.node_name.clone().filter(|name| !name.is_empty()),
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        node_affinity: node_affinity.map(|selector| selector.node_selector_terms.clone()),
        affinity: near.unwrap_or_default().iter().map(term).collect(),
        anti_affinity: apart.unwrap_or_default().iter().map(term).collect(),
        spread: spread.filter(|constraint| constraint.when_unsatisfiable == "DoNotSchedule").cloned().collect(),
        tolerations: spec.tolerations.iter().flatten().map(toleration).collect(),
        host_ports: host_ports(spec),
        claims: claims(&name, spec),
        hindrance: claims_resources.then(|| "it uses resource claims, which are not simulated".to_owned()),
        priority: spec.priority.unwrap_or(0),
        safe_to_evict: annotation(metadata, SAFE_TO_EVICT).and_then(|value| value.parse().ok()),
        local_storage: has_local_storage(metadata, spec),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        name,
        ..Pod::default()
    }
}

fn term(term: &core::PodAffinityTerm) -> AffinityTerm {
    AffinityTerm {
        selector: term.label_selector.clone(),
        namespaces: term.namespaces.clone().unwrap_or_default(),
        namespace_selector: term.namespace_selector.clone(),
        topology_key: term.topology_key.clone(),
    }
}

fn toleration(toleration: &core::Toleration) -> Tolerated {
    Tolerated {
        key: toleration.key.clone().unwrap_or_default(),
        exists: toleration.operator.as_deref() == Some("Exists"),
        value: toleration.value.clone().unwrap_or_default(),
        effect: toleration.effect.clone().unwrap_or_default(),
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        // In the host's network every port is the host's.
        let host_port = if spec.host_network == Some(true) { Some(port.container_port) } else { port.host_port };
        Some(HostPort {
            ip: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into()),
            protocol: port.protocol.clone().filter(|word| !word.is_empty()).unwrap_or_else(|| "TCP".into()),
            port: port.host_port.filter(|port| *port > 0).or(host_port).filter(|port| *port > 0)?,
        })
    });
    taken.collect()
}

fn claims(pod_name: &str, spec: &PodSpec) -> Vec<String> {
    let volumes = spec.volumes.iter().flatten();
    let names = volumes.filter_map(|volume| {
        let named = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
        named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{pod_name}-{}", volume.name)))
    });
    names.collect()
}

/// Data on the node's disk that would be lost; memory is lost with the pod anyway.
fn has_local_storage(metadata: &ObjectMeta, spec: &PodSpec) -> bool {
    let safe: Vec<&str> =
        annotation(metadata, SAFE_VOLUMES).into_iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    spec.volumes.iter().flatten().any(|volume| {
        let on_disk = volume.empty_dir.as_ref().is_some_and(|dir| dir.medium.as_deref() != Some("Memory"));
        (on_disk || volume.host_path.is_some()) && !safe.contains(&volume.name.as_str())
    })
}

/// What the scheduler reserves for a pod: its containers and sidecars together, or what a step of its beginning needs if
/// that is more; what is said for the pod as a whole goes before that; and its runtime's overhead.
fn requests(spec: &PodSpec, status: Option<&core::PodStatus>) -> Resources {
    let running = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let beginning = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&of_container(container, running));
    }
    let (mut sidecars, mut most) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container, beginning);
        if is_sidecar(container) {
            total.add(&own);
            sidecars.add(&own);
            most.raise_to(&sidecars);
        } else {
            let mut step = sidecars.clone();
            step.add(&own);
            most.raise_to(&step);
        }
    }
    total.raise_to(&most);
    let of_pod = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    for (name, quantity) in of_pod.into_iter().flatten() {
        total.set(name, amount(name, &quantity.0));
    }
    total.add(&Resources::of(spec.overhead.as_ref()));
    total.set(PODS, 1);
    total
}

/// A container that is being resized counts with the larger of what it has and what it shall have.
fn of_container(container: &Container, statuses: &[ContainerStatus]) -> Resources {
    let asked: Option<&BTreeMap<_, _>> = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let mut resources = Resources::of(asked);
    if let Some(status) = statuses.iter().find(|status| status.name == container.name) {
        resources.raise_to(&Resources::of(status.allocated_resources.as_ref()));
        let actual = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        resources.raise_to(&Resources::of(actual));
    }
    resources
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::autoscale::model::{CPU, MEMORY};

    fn read(value: Value) -> Pod {
        pod(&serde_json::from_value(value).unwrap())
    }

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn requests_follow_the_schedulers_rules() {
        let check = |what: &str, spec: Value, expected: i64| {
            let pod = read(json!({"metadata": {"name": "p"}, "spec": spec}));
            assert_eq!((pod.requests.get(CPU), pod.requests.get(PODS)), (expected, 1), "{what}");
        };
        let sidecar =
            |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        let two = json!([container("a", "100m"), container("b", "200m")]);
        check("the sum", json!({"containers": two}), 300);
        check("a small beginning", json!({"containers": two, "initContainers": [container("i", "250m")]}), 300);
        check("a large beginning", json!({"containers": two, "initContainers": [container("i", "1")]}), 1000);
        check("a sidecar stays", json!({"containers": two, "initContainers": [sidecar("100m")]}), 400);
        check(
            "a step beside a sidecar",
            json!({"containers": two, "initContainers": [sidecar("100m"), container("i", "500m")]}),
            600,
        );
        check(
            "a step before a sidecar",
            json!({"containers": two, "initContainers": [container("i", "350m"), sidecar("100m")]}),
            400,
        );
        check("overhead", json!({"containers": two, "overhead": {"cpu": "50m"}}), 350);
        check("the pod's own", json!({"containers": two, "resources": {"requests": {"cpu": "2"}}}), 2000);
    }

    #[test]
    fn a_resized_container_counts_with_the_larger() {
        let pod = read(json!({
            "spec": {"containers": [container("a", "100m")], "nodeName": "n"},
            "status": {"containerStatuses": [{
                "name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                "allocatedResources": {"cpu": "300m", "memory": "1Gi"},
            }]},
        }));
        assert_eq!((pod.requests.get(CPU), pod.requests.get(MEMORY)), (300, 1 << 30));
    }

    #[test]
    fn conditions_and_owners() {
        let with = |reason: &str, node: Option<&str>| {
            read(json!({
                "spec": {"containers": [], "nodeName": node},
                "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": reason}]},
            }))
        };
        assert!(with("Unschedulable", None).unschedulable && !with("Unschedulable", Some("n")).unschedulable);
        assert!(with("SchedulingGated", None).gated && !with("SchedulingGated", None).unschedulable);
        let owned = |kind: &str| {
            let owner = json!({"kind": kind, "controller": true, "name": "x", "uid": "u", "apiVersion": "v1"});
            read(json!({"metadata": {"ownerReferences": [owner]}, "spec": {"containers": []}})).owner
        };
        assert_eq!(owned("ReplicaSet"), Owner::Controller);
        assert_eq!(owned("DaemonSet"), Owner::DaemonSet);
        assert_eq!(owned("CloneSet"), Owner::Custom);
        assert_eq!(read(json!({"spec": {"containers": []}})).owner, Owner::Nobody);
        let mirror = read(json!({"metadata": {"annotations": {MIRROR: "x"}}, "spec": {"containers": []}}));
        assert!(mirror.is_bound_to_node());
    }

    #[test]
    fn local_storage_and_its_exceptions() {
        let with = |volumes: Value, annotations: Value| {
            read(json!({"metadata": {"annotations": annotations}, "spec": {"containers": [], "volumes": volumes}}))
        };
        let scratch = json!([{"name": "scratch", "emptyDir": {}}]);
        assert!(with(scratch.clone(), json!({})).local_storage);
        assert!(!with(scratch, json!({SAFE_VOLUMES: "other, scratch"})).local_storage);
        assert!(!with(json!([{"name": "m", "emptyDir": {"medium": "Memory"}}]), json!({})).local_storage);
        assert!(with(json!([{"name": "h", "hostPath": {"path": "/x"}}]), json!({})).local_storage);
        assert!(!with(json!([{"name": "c", "configMap": {"name": "c"}}]), json!({})).local_storage);
    }

    #[test]
    fn ports_of_the_host() {
        let ports = |spec: Value| read(json!({"spec": spec})).host_ports;
        let of = |port: Value| json!([{"name": "a", "ports": [port]}]);
        assert!(ports(json!({"containers": of(json!({"containerPort": 80}))})).is_empty());
        let host = ports(json!({"containers": of(json!({"containerPort": 80, "hostPort": 8080}))}));
        assert_eq!(host, [HostPort { ip: "0.0.0.0".into(), protocol: "TCP".into(), port: 8080 }]);
        let all =
            ports(json!({"hostNetwork": true, "containers": of(json!({"containerPort": 80, "protocol": "UDP"}))}));
        assert_eq!(all, [HostPort { ip: "0.0.0.0".into(), protocol: "UDP".into(), port: 80 }]);
    }

    #[test]
    fn daemon_sets_tolerate_what_kubernetes_adds() {
        let set = serde_json::from_value(json!({
            "metadata": {"name": "d", "namespace": "kube-system", "uid": "u"},
            "spec": {"selector": {}, "template": {"spec": {"hostNetwork": true, "containers": [container("a", "10m")]}}},
        }));
        let pod = daemon(&set.unwrap()).unwrap();
        assert_eq!((pod.tolerations.len(), pod.requests.get(CPU), pod.title()), (7, 10, "kube-system/d".to_owned()));
        assert!(pod.is_bound_to_node());
    }
}
