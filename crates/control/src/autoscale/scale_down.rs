//! Which nodes are not needed: little is asked of them, and all their pods that can move have a place elsewhere.

use std::{fmt, sync::Arc};

use super::{
    model::{Budget, CPU, GPUS, MEMORY, Owner, Pod},
    simulate::{Slot, Snapshot},
};

/// Pods of this namespace keep their node, unless somebody says how far they may be disturbed.
const SYSTEM_NAMESPACE: &str = "kube-system";

/// When a node is not needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    pub(crate) utilization: f64,
    pub(crate) gpu_utilization: f64,
}

/// A node that could be removed, as far as machines and pools are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Number in the snapshot.
    pub(crate) number: usize,
    pub(crate) machine_id: String,
    pub(crate) pool_id: String,
}

/// A node that is not needed.
#[derive(Clone, Debug)]
pub(crate) struct Unneeded {
    pub(crate) candidate: Candidate,
    pub(crate) node: String,
    /// Share of what it has that is asked for.
    pub(crate) utilization: f64,
    /// Pods that have to move; none: it is empty.
    pub(crate) pods: Vec<Arc<Pod>>,
}

/// Why a node stays.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Needed {
    /// Its annotation says so.
    Kept,
    /// So much is asked of it.
    Used(f64),
    /// This pod cannot be taken from it.
    Pod { pod: String, why: &'static str },
    /// This pod would have no place.
    NoPlace(String),
    /// This budget does not allow it.
    Budget { pod: String, budget: String },
}

impl fmt::Display for Needed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => out.write_str("its annotation forbids that it is removed"),
            Self::Used(share) => write!(out, "{:.0} % of it is asked for", share * 100.0),
            Self::Pod { pod, why } => write!(out, "pod {pod} {why}"),
            Self::NoPlace(pod) => write!(out, "pod {pod} fits on no other node"),
            Self::Budget { pod, budget } => {
                write!(out, "PodDisruptionBudget {budget} does not allow pod {pod} to be evicted")
            }
        }
    }
}

/// The nodes that are not needed, all of them together: what the first leave behind is not promised to the next. The order
/// of the candidates is the order in which they are looked at.
pub(crate) fn unneeded(
    snapshot: &mut Snapshot,
    candidates: Vec<Candidate>,
    thresholds: Thresholds,
    budgets: &[Budget],
) -> (Vec<Unneeded>, Vec<(Candidate, Needed)>) {
    let (mut unneeded, mut needed) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match look_at(snapshot, &candidate, thresholds, budgets) {
            Ok(found) => unneeded.push(found),
            Err(why) => needed.push((candidate, why)),
        }
    }
    (unneeded, needed)
}

fn look_at(
    snapshot: &mut Snapshot,
    candidate: &Candidate,
    thresholds: Thresholds,
    budgets: &[Budget],
) -> Result<Unneeded, Needed> {
    let slot = snapshot.slot(candidate.number).ok_or(Needed::Kept)?;
    if slot.node.kept {
        return Err(Needed::Kept);
    }
    let (utilization, limit) = utilization(slot, thresholds);
    if utilization >= limit {
        return Err(Needed::Used(utilization));
    }
    let pods = movable(slot, budgets)?;
    let node = slot.node.name.clone();
    snapshot.evacuate(candidate.number, &pods).map_err(|pod| Needed::NoPlace(pod.title()))?;
    Ok(Unneeded { candidate: candidate.clone(), node, utilization, pods })
}

/// The share of the node that is asked for, and the threshold for it. Of a node with GPUs only these count.
pub(crate) fn utilization(slot: &Slot, thresholds: Thresholds) -> (f64, f64) {
    let share = |resource: &str| {
        let all = slot.node.allocatable.get(resource);
        if all > 0 { slot.used().get(resource) as f64 / all as f64 } else { 0.0 }
    };
    match GPUS.iter().find(|gpu| slot.node.allocatable.get(gpu) > 0) {
        Some(gpu) => (share(gpu), thresholds.gpu_utilization),
        None => (share(CPU).max(share(MEMORY)), thresholds.utilization),
    }
}

/// The pods that have to move when the node goes, the largest first; `Err` says which one must not.
fn movable(slot: &Slot, budgets: &[Budget]) -> Result<Vec<Arc<Pod>>, Needed> {
    let moving = slot.pods.iter().filter(|pod| !pod.is_bound_to_node() && !pod.terminating);
    let mut moving: Vec<Arc<Pod>> = moving.cloned().collect();
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    for pod in &moving {
        if let Some(why) = forbids(pod, budgets) {
            return Err(Needed::Pod { pod: pod.title(), why });
        }
        let mut covering = budgets.iter().zip(&mut left).filter(|(budget, _)| budget.covers(pod));
        if let Some((budget, allowed)) = covering.next() {
            // The API server evicts no pod that several budgets cover.
            let several = covering.next().is_some();
            if *allowed < 1 || several {
                let budget = format!("{}/{}", budget.namespace, budget.name);
                return Err(Needed::Budget { pod: pod.title(), budget });
            }
            *allowed -= 1;
        }
    }
    moving.sort_by_key(|pod| std::cmp::Reverse((pod.requests.get(CPU), pod.requests.get(MEMORY))));
    Ok(moving)
}

/// Why the pod must not be taken from its node.
fn forbids(pod: &Pod, budgets: &[Budget]) -> Option<&'static str> {
    match pod.safe_to_evict {
        Some(true) => return None,
        Some(false) => return Some("is annotated as not safe to evict"),
        None => {}
    }
    match pod.owner {
        Owner::Nobody => return Some("has no controller that would make it again"),
        Owner::Custom => return Some("has a controller that is not known to make it again"),
        Owner::Controller | Owner::DaemonSet | Owner::Node => {}
    }
    if pod.local_storage {
        return Some("keeps data on the node");
    }
    let covered = budgets.iter().any(|budget| budget.covers(pod));
    (pod.namespace == SYSTEM_NAMESPACE && !covered).then_some("is the system's, and no PodDisruptionBudget covers it")
}
