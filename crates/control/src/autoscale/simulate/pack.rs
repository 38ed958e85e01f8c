//! How many nodes of which pool make the waiting pods schedulable: the pods are packed, the largest first, each onto the
//! first new node that it fits on, until they are packed or the pools are full.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Misfit, Snapshot};
use crate::autoscale::model::{CPU, HOST_NAME, MEMORY, Node, Pod};

/// Nodes that one pass adds at most; the next one goes on.
pub(crate) const NODES_PER_PASS_MAX: usize = 50;

/// What a new node would be.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) node: Node,
    /// Pods of daemon sets that it would have from the start.
    pub(crate) daemons: Vec<Arc<Pod>>,
}

/// Nodes that can be added: a pool, or one zone of it.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) pool_id: String,
    /// Only in this zone; else wherever the pool puts them.
    pub(crate) zone: Option<String>,
    /// Templates of the zones, in the order in which new nodes come to them; it begins again at its end.
    pub(crate) order: Vec<Arc<Template>>,
    /// Why it cannot grow now.
    pub(crate) barred: Option<String>,
}

impl Group {
    fn template(&self, number: usize) -> Option<&Arc<Template>> {
        self.order.get(number.checked_rem(self.order.len())?)
    }
}

/// What a group could do for the pods that wait.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Number of the group.
    pub(crate) group: usize,
    pub(crate) pool_id: String,
    /// New nodes.
    pub(crate) nodes: usize,
    /// Pods that would run on them.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Share of the new nodes' processors and memory that would be left, from 0 to 1.
    pub(crate) waste: f64,
}

/// New nodes that are decided on.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    pub(crate) pool_id: String,
    pub(crate) zone: Option<String>,
    pub(crate) nodes: usize,
    /// Pods that they are for.
    pub(crate) pods: Vec<Arc<Pod>>,
}

/// A pod that no new node would help, and why: how many groups say so.
#[derive(Clone, Debug)]
pub(crate) struct Unhelped {
    pub(crate) pod: Arc<Pod>,
    pub(crate) reasons: BTreeMap<String, usize>,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) growths: Vec<Growth>,
    pub(crate) unhelped: Vec<Unhelped>,
}

/// Packs the pods onto new nodes. `choose` picks one of several offers. `room` says how many nodes each pool may still get.
/// First pools grow as they would by themselves; for pods that this does not help, in a particular zone (`zonal`).
pub(crate) fn grow(
    snapshot: &mut Snapshot,
    pods: Vec<Arc<Pod>>,
    pools: &[Group],
    zonal: &[Group],
    room: &mut HashMap<String, usize>,
    choose: &mut dyn FnMut(&[Offer]) -> usize,
) -> Plan {
    let mut left = pods;
    let mut growths = Vec::new();
    let mut total = NODES_PER_PASS_MAX;
    for groups in [pools, zonal] {
        let mut begun = vec![0; groups.len()];
        // Each turn adds at least one node.
        while total > 0 && !left.is_empty() {
            let offers = offers(snapshot, &left, groups, &begun, room, total);
            if offers.is_empty() {
                break;
            }
            let Some(offer) = offers.get(choose(&offers)).or_else(|| offers.first()) else { break };
            let Some(group) = groups.get(offer.group) else { break };
            let start = begun.get(offer.group).copied().unwrap_or(0);
            let packed = pack(snapshot, &left, group, start, offer.nodes);
            if packed.nodes == 0 {
                break;
            }
            if let Some(begun) = begun.get_mut(offer.group) {
                *begun += packed.nodes;
            }
            if let Some(room) = room.get_mut(&group.pool_id) {
                *room = room.saturating_sub(packed.nodes);
            }
            total = total.saturating_sub(packed.nodes);
            left.retain(|pod| !packed.pods.iter().any(|placed| Arc::ptr_eq(placed, pod)));
            growths.push(Growth {
                pool_id: group.pool_id.clone(),
                zone: group.zone.clone(),
                nodes: packed.nodes,
                pods: packed.pods,
            });
        }
    }
    let unhelped = if total == 0 { Vec::new() } else { reasons(snapshot, left, pools, room) };
    Plan { growths, unhelped }
}

fn offers(
    snapshot: &mut Snapshot,
    pods: &[Arc<Pod>],
    groups: &[Group],
    begun: &[usize],
    room: &HashMap<String, usize>,
    total: usize,
) -> Vec<Offer> {
    let mut offers = Vec::new();
    let before = snapshot.len();
    for (number, group) in groups.iter().enumerate().filter(|(_, group)| group.barred.is_none()) {
        let most = room.get(&group.pool_id).copied().unwrap_or(0).min(total);
        let packed = pack(snapshot, pods, group, begun.get(number).copied().unwrap_or(0), most);
        let waste = waste(snapshot, before);
        snapshot.truncate(before);
        if packed.nodes > 0 {
            let (nodes, pods) = (packed.nodes, packed.pods);
            offers.push(Offer { group: number, pool_id: group.pool_id.clone(), nodes, pods, waste });
        }
    }
    offers
}

struct Packed {
    nodes: usize,
    pods: Vec<Arc<Pod>>,
}

/// Adds up to `most` nodes of the group with the pods that fit on them.
fn pack(snapshot: &mut Snapshot, pods: &[Arc<Pod>], group: &Group, start: usize, most: usize) -> Packed {
    let before = snapshot.len();
    let mut placed = Vec::new();
    for pod in largest_first(pods, group) {
        if let Some(number) = snapshot.first_fit(&pod, before..snapshot.len()) {
            snapshot.place(number, Arc::clone(&pod));
            placed.push(pod);
            continue;
        }
        let nodes = snapshot.len() - before;
        let Some(template) = group.template(start + nodes).filter(|_| nodes < most) else { continue };
        let number = open(snapshot, group, template, start + nodes);
        if snapshot.fits(&pod, number).is_ok() {
            snapshot.place(number, Arc::clone(&pod));
            placed.push(pod);
        } else {
            snapshot.truncate(number);
        }
    }
    Packed { nodes: snapshot.len() - before, pods: placed }
}

/// Adds a new node of the group; it is told from its kind only by its name.
fn open(snapshot: &mut Snapshot, group: &Group, template: &Template, number: usize) -> usize {
    let mut node = template.node.clone();
    node.name = format!("{}/{}/{number}", group.pool_id, group.zone.as_deref().unwrap_or_default());
    node.labels.insert(HOST_NAME.to_owned(), node.name.clone());
    snapshot.add(Arc::new(node), template.daemons.clone())
}

/// By the share of an empty node that they take.
fn largest_first(pods: &[Arc<Pod>], group: &Group) -> Vec<Arc<Pod>> {
    let share = |pod: &Pod, resource: &str| {
        let all = group.template(0).map_or(0, |template| template.node.allocatable.get(resource)).max(1);
        pod.requests.get(resource) as f64 / all as f64
    };
    let mut sorted: Vec<(f64, &Arc<Pod>)> =
        pods.iter().map(|pod| (share(pod, CPU) + share(pod, MEMORY), pod)).collect();
    sorted.sort_by(|(one, a), (other, b)| other.total_cmp(one).then_with(|| a.created.cmp(&b.created)));
    sorted.into_iter().map(|(_, pod)| Arc::clone(pod)).collect()
}

/// The share of the nodes from number `from` on that nobody asked for, on average over processors and memory.
fn waste(snapshot: &Snapshot, from: usize) -> f64 {
    let share = |resource: &str| {
        let new = (from..snapshot.len()).filter_map(|number| snapshot.slot(number));
        let (all, used) = new.fold((0i64, 0i64), |(all, used), slot| {
            (all.saturating_add(slot.node.allocatable.get(resource)), used.saturating_add(slot.used().get(resource)))
        });
        if all > 0 { (all.saturating_sub(used)) as f64 / all as f64 } else { 0.0 }
    };
    f64::midpoint(share(CPU), share(MEMORY))
}

/// Why no group helps.
fn reasons(
    snapshot: &mut Snapshot,
    pods: Vec<Arc<Pod>>,
    pools: &[Group],
    room: &HashMap<String, usize>,
) -> Vec<Unhelped> {
    let why = |pod: Arc<Pod>| {
        let mut reasons = BTreeMap::new();
        for group in pools {
            let why = refusal(snapshot, &pod, group, room.get(&group.pool_id).copied().unwrap_or(0));
            *reasons.entry(why).or_default() += 1;
        }
        Unhelped { pod, reasons }
    };
    pods.into_iter().map(why).collect()
}

fn refusal(snapshot: &mut Snapshot, pod: &Pod, group: &Group, room: usize) -> String {
    let mut misfit: Option<Misfit> = None;
    let before = snapshot.len();
    // Each kind once: a pool of one zone has one.
    let is_new = |(number, template): &(usize, &Arc<Template>)| {
        !group.order.iter().take(*number).any(|other| Arc::ptr_eq(other, template))
    };
    for (number, template) in group.order.iter().enumerate().filter(is_new) {
        let slot = open(snapshot, group, template, number);
        let outcome = snapshot.fits(pod, slot);
        snapshot.truncate(before);
        match outcome {
            // The pool itself would do.
            Ok(()) => {
                return match &group.barred {
                    Some(why) => why.clone(),
                    None if room == 0 => "max node group size reached".to_owned(),
                    None => "new nodes would be in another zone".to_owned(),
                };
            }
            Err(why) => misfit = misfit.or(Some(why)),
        }
    }
    misfit.map_or_else(|| "it has no instance type that is known".to_owned(), |misfit| misfit.to_string())
}
