//! The simulation: does this pod fit that node, by the rules of Kubernetes' scheduler? No clock, no I/O.
//!
//! A rule that cannot be followed exactly refuses: a node too few is made a moment later, a node that helps nobody is
//! never given back by the pods that still wait.

mod fit;
mod pack;
mod topology;

use std::sync::Arc;

pub(crate) use fit::{Misfit, admits};
pub(crate) use pack::{Group, Growth, NODES_PER_PASS_MAX, Offer, Plan, Template, Unhelped, grow};

use super::model::{Namespaces, Node, Pod, Resources};
use topology::Topology;

/// A node with its pods, as they are or would be.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) node: Arc<Node>,
    pub(crate) pods: Vec<Arc<Pod>>,
    used: Resources,
    /// It takes no more pods, though those that it has still count.
    pub(crate) closed: bool,
    /// It is gone in the simulation.
    gone: bool,
}

impl Slot {
    /// What its pods ask for.
    pub(crate) fn used(&self) -> &Resources {
        &self.used
    }
}

/// Nodes and pods of a cluster, in the simulation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    slots: Vec<Slot>,
    namespaces: Arc<Namespaces>,
}

impl Snapshot {
    pub(crate) fn new(namespaces: Arc<Namespaces>) -> Self {
        Self { slots: Vec::new(), namespaces }
    }

    /// Adds a node; answers its number.
    pub(crate) fn add(&mut self, node: Arc<Node>, pods: Vec<Arc<Pod>>) -> usize {
        let mut used = Resources::default();
        pods.iter().for_each(|pod| used.add(&pod.requests));
        self.slots.push(Slot { closed: false, gone: false, node, pods, used });
        self.slots.len() - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slot(&self, number: usize) -> Option<&Slot> {
        self.slots.get(number)
    }

    /// The number of the node with that name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.node.name == name)
    }

    /// The node takes no more pods.
    pub(crate) fn close(&mut self, number: usize) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.closed = true;
        }
    }

    /// Puts the pod there, whether it fits or not.
    pub(crate) fn place(&mut self, number: usize, pod: Arc<Pod>) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.used.add(&pod.requests);
            slot.pods.push(pod);
        }
    }

    /// Whether the pod fits there.
    pub(crate) fn fits(&self, pod: &Pod, number: usize) -> Result<(), Misfit> {
        let topology = Topology::of(self, pod);
        self.slots.get(number).map_or(Err(Misfit::Closed), |slot| fit::check(pod, slot, &topology))
    }

    /// The first of these nodes that the pod fits on.
    fn first_fit(&self, pod: &Pod, numbers: impl IntoIterator<Item = usize>) -> Option<usize> {
        let mut topology = None;
        numbers.into_iter().find(|number| {
            self.slots.get(*number).is_some_and(|slot| {
                // What is known without looking at other nodes first; it is much cheaper.
                fit::check_alone(pod, slot).is_ok()
                    && fit::check_others(slot, topology.get_or_insert_with(|| Topology::of(self, pod))).is_ok()
            })
        })
    }

    /// Puts the pod on the first node that it fits on.
    pub(crate) fn schedule(&mut self, pod: &Arc<Pod>) -> Option<usize> {
        let number = self.first_fit(pod, 0..self.slots.len())?;
        self.place(number, Arc::clone(pod));
        Some(number)
    }

    /// Takes the node away and puts those of its pods elsewhere that must not be lost; `Err` names the first that fits
    /// nowhere, and then everything is as before.
    pub(crate) fn evacuate(&mut self, number: usize, movable: &[Arc<Pod>]) -> Result<(), Arc<Pod>> {
        let Some(slot) = self.slots.get_mut(number) else { return Ok(()) };
        slot.gone = true;
        let mut moved: Vec<(usize, Resources)> = Vec::with_capacity(movable.len());
        for pod in movable {
            match self.schedule(pod) {
                Some(to) => moved.push((to, pod.requests.clone())),
                None => {
                    for (to, requests) in moved.iter().rev() {
                        if let Some(slot) = self.slots.get_mut(*to) {
                            slot.pods.pop();
                            slot.used.subtract(requests);
                        }
                    }
                    if let Some(slot) = self.slots.get_mut(number) {
                        slot.gone = false;
                    }
                    return Err(Arc::clone(pod));
                }
            }
        }
        Ok(())
    }

    /// Forgets the nodes that were added after the first `len`.
    fn truncate(&mut self, len: usize) {
        self.slots.truncate(len);
    }

    /// Nodes that are there in the simulation.
    fn present(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| !slot.gone)
    }
}
