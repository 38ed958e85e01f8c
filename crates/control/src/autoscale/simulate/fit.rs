//! The scheduler's filters for one pod and one node.

use std::fmt;

use super::{Slot, topology::Topology};
use crate::autoscale::model::NodeTaint;
use crate::autoscale::model::{HostPort, Node, Pod, node_requirements_match, node_terms_match, tolerates, untolerated};

/// Taint of nodes that are not schedulable.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// An address that stands for all.
const ANY_ADDRESS: &str = "0.0.0.0";

/// Why a pod does not fit, in the scheduler's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Misfit {
    /// The node takes no more pods.
    Closed,
    /// A taint that the pod does not tolerate.
    Taint(String),
    /// Node selector or node affinity.
    Affinity,
    /// Too little is left of a resource.
    Insufficient(String),
    /// A port of the host is taken.
    Ports,
    /// Its volumes are elsewhere.
    Volumes,
    /// A pod that must not be beside it, by its own word.
    AntiAffinity,
    /// A pod that must not be beside it, by the other's word.
    OthersAntiAffinity,
    /// No pod is there that it must be beside.
    PodAffinity,
    /// It would be spread unevenly.
    Spread,
    /// It can run nowhere.
    Hindered(String),
}

impl fmt::Display for Misfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => out.write_str("node(s) were unschedulable"),
            Self::Taint(key) => write!(out, "node(s) had untolerated taint {{{key}}}"),
            Self::Affinity => out.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::Insufficient(resource) => write!(out, "Insufficient {resource}"),
            Self::Ports => out.write_str("node(s) didn't have free ports for the requested pod ports"),
            Self::Volumes => out.write_str("node(s) had volume node affinity conflict"),
            Self::AntiAffinity => out.write_str("node(s) didn't match pod anti-affinity rules"),
            Self::OthersAntiAffinity => out.write_str("node(s) didn't satisfy existing pods anti-affinity rules"),
            Self::PodAffinity => out.write_str("node(s) didn't match pod affinity rules"),
            Self::Spread => out.write_str("node(s) didn't match pod topology spread constraints"),
            Self::Hindered(why) => out.write_str(why),
        }
    }
}

/// All filters.
pub(super) fn check(pod: &Pod, slot: &Slot, topology: &Topology<'_>) -> Result<(), Misfit> {
    check_alone(pod, slot)?;
    check_others(slot, topology)
}

/// The filters that need only the pod and the node.
pub(super) fn check_alone(pod: &Pod, slot: &Slot) -> Result<(), Misfit> {
    if let Some(why) = &pod.hindrance {
        return Err(Misfit::Hindered(why.clone()));
    }
    if slot.closed || slot.gone {
        return Err(Misfit::Closed);
    }
    admits(&slot.node, pod)?;
    for (resource, wanted) in pod.requests.iter().filter(|(_, wanted)| *wanted > 0) {
        let left = slot.node.allocatable.get(resource).saturating_sub(slot.used.get(resource));
        if wanted > left {
            return Err(Misfit::Insufficient(resource.to_owned()));
        }
    }
    let taken = slot.pods.iter().flat_map(|other| &other.host_ports);
    if !pod.host_ports.is_empty() && taken.clone().any(|other| pod.host_ports.iter().any(|own| clash(own, other))) {
        return Err(Misfit::Ports);
    }
    Ok(())
}

/// The filters that look at pods of other nodes, too.
pub(super) fn check_others(slot: &Slot, topology: &Topology<'_>) -> Result<(), Misfit> {
    topology.check(&slot.node)
}

/// Whether the node would take the pod if it were empty and large enough.
pub(crate) fn admits(node: &Node, pod: &Pod) -> Result<(), Misfit> {
    let unschedulable = NodeTaint { key: UNSCHEDULABLE.into(), value: String::new(), effect: "NoSchedule".into() };
    if node.unschedulable && !tolerates(&pod.tolerations, &unschedulable) {
        return Err(Misfit::Closed);
    }
    if let Some(taint) = untolerated(&node.taints, &pod.tolerations) {
        return Err(Misfit::Taint(taint.key.clone()));
    }
    if !node_requirements_match(pod, node) {
        return Err(Misfit::Affinity);
    }
    if !pod.volume_terms.iter().all(|terms| node_terms_match(terms, node)) {
        return Err(Misfit::Volumes);
    }
    Ok(())
}

fn clash(one: &HostPort, other: &HostPort) -> bool {
    let same_address = one.ip == other.ip || one.ip == ANY_ADDRESS || other.ip == ANY_ADDRESS;
    one.port == other.port && one.protocol == other.protocol && same_address
}
