//! What the simulation sees of a cluster: of each object only what decides where pods can run.

mod quantity;
mod read;
mod selector;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeSelectorTerm, TopologySpreadConstraint},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use sampan_store::model::Timestamp;

pub(crate) use read::{budget, daemon, node, pod};
pub(crate) use selector::{matches_labels, node_requirements_match, node_terms_match, tolerates, untolerated};
pub(crate) use volumes::{Claim, StorageClass, Volume, Volumes};

/// Processors, in thousandths of one.
pub(crate) const CPU: &str = "cpu";
/// Memory, in bytes.
pub(crate) const MEMORY: &str = "memory";
/// Places for pods.
pub(crate) const PODS: &str = "pods";
/// Resources that count as GPUs.
pub(crate) const GPUS: [&str; 4] = ["nvidia.com/gpu", "amd.com/gpu", "aliyun.com/gpu-mem", "gpu.intel.com/i915"];
/// Label with a node's own name.
pub(crate) const HOST_NAME: &str = "kubernetes.io/hostname";
/// Label with a node's zone.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";

/// Amounts of resources, by name: [`CPU`] in thousandths, all others in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources(BTreeMap<String, i64>);

impl Resources {
    /// As an API object says.
    pub(crate) fn of(quantities: Option<&BTreeMap<String, Quantity>>) -> Self {
        let amounts = quantities.into_iter().flatten();
        Self(amounts.map(|(name, quantity)| (name.clone(), quantity::amount(name, &quantity.0))).collect())
    }

    pub(crate) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, name: &str, amount: i64) {
        self.0.insert(name.to_owned(), amount);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let mine = self.0.entry(name.to_owned()).or_insert(0);
            *mine = mine.saturating_add(amount);
        }
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let mine = self.0.entry(name.to_owned()).or_insert(0);
            *mine = mine.saturating_sub(amount);
        }
    }

    /// The larger of both, resource by resource.
    pub(crate) fn raise_to(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let mine = self.0.entry(name.to_owned()).or_insert(0);
            *mine = (*mine).max(amount);
        }
    }
}

impl<'a> FromIterator<(&'a str, i64)> for Resources {
    fn from_iter<I: IntoIterator<Item = (&'a str, i64)>>(amounts: I) -> Self {
        Self(amounts.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect())
    }
}

/// A taint that keeps pods away (those that only advise are not kept).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeTaint {
    pub(crate) key: String,
    pub(crate) value: String,
    /// `NoSchedule` or `NoExecute`.
    pub(crate) effect: String,
}

/// A toleration of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tolerated {
    /// Empty: any.
    pub(crate) key: String,
    /// `Exists` instead of `Equal`.
    pub(crate) exists: bool,
    pub(crate) value: String,
    /// Empty: any.
    pub(crate) effect: String,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<NodeTaint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Resources,
    pub(crate) ready: bool,
    /// Its annotation says that it is not to be removed.
    pub(crate) kept: bool,
}

/// A required term of (anti-)affinity between pods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AffinityTerm {
    /// `None` selects nothing.
    pub(crate) selector: Option<LabelSelector>,
    /// Namespaces by name; those of the selector beside.
    pub(crate) namespaces: Vec<String>,
    /// Namespaces by their labels; an empty selector is all of them.
    pub(crate) namespace_selector: Option<LabelSelector>,
    pub(crate) topology_key: String,
}

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// `0.0.0.0`: all addresses.
    pub(crate) ip: String,
    pub(crate) protocol: String,
    pub(crate) port: i32,
}

/// What made a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nothing would make it again.
    #[default]
    Nobody,
    /// A controller of Kubernetes itself that makes it again elsewhere.
    Controller,
    /// A controller that is not known.
    Custom,
    /// A daemon set: it belongs to its node.
    DaemonSet,
    /// The kubelet, from a file of the node.
    Node,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// All that it asks for, [`PODS`] included.
    pub(crate) requests: Resources,
    /// Where it runs.
    pub(crate) node: Option<String>,
    /// Where the scheduler makes room for it by ending others.
    pub(crate) nominated: Option<String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    /// Required node affinity: one of these terms.
    pub(crate) node_affinity: Option<Vec<NodeSelectorTerm>>,
    pub(crate) affinity: Vec<AffinityTerm>,
    pub(crate) anti_affinity: Vec<AffinityTerm>,
    /// Those that forbid.
    pub(crate) spread: Vec<TopologySpreadConstraint>,
    pub(crate) tolerations: Vec<Tolerated>,
    pub(crate) host_ports: Vec<HostPort>,
    /// Names of its volume claims.
    pub(crate) claims: Vec<String>,
    /// What its claims ask of a node: of each group one term. Filled in by [`Volumes::resolve`].
    pub(crate) volume_terms: Vec<Vec<NodeSelectorTerm>>,
    /// Why it can run nowhere, whatever the nodes are.
    pub(crate) hindrance: Option<String>,
    pub(crate) priority: i32,
    pub(crate) owner: Owner,
    /// Id of what made it; pods of one owner are alike.
    pub(crate) owner_uid: String,
    /// The annotation `cluster-autoscaler.kubernetes.io/safe-to-evict`.
    pub(crate) safe_to_evict: Option<bool>,
    /// It keeps data on its node's disk, and nobody said that these may go.
    pub(crate) local_storage: bool,
    /// It is ending.
    pub(crate) terminating: bool,
    /// The scheduler found no node for it.
    pub(crate) unschedulable: bool,
    /// It waits for somebody to let it be scheduled.
    pub(crate) gated: bool,
    pub(crate) created: Option<Timestamp>,
}

impl Pod {
    /// `namespace/name`.
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it belongs to its node and goes with it.
    pub(crate) fn is_bound_to_node(&self) -> bool {
        matches!(self.owner, Owner::DaemonSet | Owner::Node)
    }
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Budget {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `None` selects nothing.
    pub(crate) selector: Option<LabelSelector>,
    /// Pods that may be evicted now.
    pub(crate) allowed: i32,
}

impl Budget {
    pub(crate) fn covers(&self, pod: &Pod) -> bool {
        self.namespace == pod.namespace
            && self.selector.as_ref().is_some_and(|selector| matches_labels(selector, &pod.labels))
    }
}

/// A namespace's labels, by its name.
pub(crate) type Namespaces = BTreeMap<String, BTreeMap<String, String>>;
