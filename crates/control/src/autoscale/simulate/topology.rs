//! The filters that compare places: affinity and anti-affinity between pods, and even spreading. They are prepared once for
//! a pod, by one look at all others, and then cost little for each node.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::{Misfit, Snapshot};
use crate::autoscale::model::{
    AffinityTerm, Namespaces, Node, Pod, matches_labels, node_requirements_match, untolerated,
};

/// How many pods each value of a label has.
type Counts<'a> = HashMap<&'a str, u32>;

/// What other pods mean for one pod.
pub(super) struct Topology<'a> {
    /// Places (label and value) that pods there do not share with it.
    forbidden: HashSet<(&'a str, &'a str)>,
    /// Places that it does not want to share: where each term's pods are.
    apart: Vec<(&'a str, Counts<'a>)>,
    /// Places that it needs to share.
    near: Vec<(&'a str, Counts<'a>)>,
    /// Nobody is there yet that it must be near, and it would be one of them itself.
    is_first: bool,
    spread: Vec<Spread<'a>>,
}

struct Spread<'a> {
    constraint: &'a TopologySpreadConstraint,
    counts: Counts<'a>,
    /// Pods in the place that has fewest.
    fewest: u32,
    counts_itself: bool,
}

impl<'a> Topology<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, pod: &'a Pod) -> Self {
        let names = &snapshot.namespaces;
        let apart = pod.anti_affinity.iter().map(|term| (term.topology_key.as_str(), Counts::new())).collect();
        let near = pod.affinity.iter().map(|term| (term.topology_key.as_str(), Counts::new())).collect();
        let mut topology = Self { forbidden: HashSet::new(), apart, near, is_first: false, spread: Vec::new() };
        for slot in snapshot.present() {
            for other in &slot.pods {
                topology.look_at(names, pod, other, &slot.node);
            }
        }
        // The first of a group that wants to be together begins it wherever it may be.
        let nobody = topology.near.iter().all(|(_, counts)| counts.is_empty());
        topology.is_first = nobody && all_match(names, &pod.affinity, pod, pod);
        topology.spread = spread(snapshot, pod);
        topology
    }

    fn look_at(&mut self, names: &Namespaces, pod: &'a Pod, other: &'a Pod, node: &'a Node) {
        for term in &other.anti_affinity {
            if let Some((key, value)) = node.labels.get_key_value(&term.topology_key)
                && selects(names, term, other, pod)
            {
                self.forbidden.insert((key, value));
            }
        }
        for (term, (_, counts)) in pod.anti_affinity.iter().zip(&mut self.apart) {
            if let Some(value) = node.labels.get(&term.topology_key)
                && selects(names, term, pod, other)
            {
                *counts.entry(value).or_default() += 1;
            }
        }
        if !pod.affinity.is_empty() && all_match(names, &pod.affinity, pod, other) {
            for (term, (_, counts)) in pod.affinity.iter().zip(&mut self.near) {
                if let Some(value) = node.labels.get(&term.topology_key) {
                    *counts.entry(value).or_default() += 1;
                }
            }
        }
    }

    pub(super) fn check(&self, node: &Node) -> Result<(), Misfit> {
        let label = |key: &str| node.labels.get(key).map(String::as_str);
        if self.forbidden.iter().any(|(key, value)| label(key) == Some(value)) {
            return Err(Misfit::OthersAntiAffinity);
        }
        let is_there = |key: &str, counts: &Counts<'_>| label(key).is_some_and(|value| counts.contains_key(value));
        if self.apart.iter().any(|(key, counts)| is_there(key, counts)) {
            return Err(Misfit::AntiAffinity);
        }
        let has_keys = self.near.iter().all(|(key, _)| label(key).is_some());
        if !has_keys || !(self.is_first || self.near.iter().all(|(key, counts)| is_there(key, counts))) {
            return Err(Misfit::PodAffinity);
        }
        self.spread.iter().try_for_each(|spread| spread.check(node))
    }
}

impl Spread<'_> {
    fn check(&self, node: &Node) -> Result<(), Misfit> {
        let value = node.labels.get(&self.constraint.topology_key).ok_or(Misfit::Spread)?;
        let there = self.counts.get(value.as_str()).copied().unwrap_or(0);
        let with_it = i64::from(there) + i64::from(self.counts_itself);
        if with_it - i64::from(self.fewest) > i64::from(self.constraint.max_skew) {
            return Err(Misfit::Spread);
        }
        Ok(())
    }
}

/// Whether the term, which is `owner`'s, selects `other`.
fn selects(names: &Namespaces, term: &AffinityTerm, owner: &Pod, other: &Pod) -> bool {
    let by_default = term.namespaces.is_empty() && term.namespace_selector.is_none();
    let in_namespace = if by_default {
        other.namespace == owner.namespace
    } else {
        term.namespaces.contains(&other.namespace)
            || term.namespace_selector.as_ref().is_some_and(|selector| {
                names.get(&other.namespace).is_some_and(|labels| matches_labels(selector, labels))
            })
    };
    in_namespace && term.selector.as_ref().is_some_and(|selector| matches_labels(selector, &other.labels))
}

/// Whether all terms select `other`: only such pods count for affinity.
fn all_match(names: &Namespaces, terms: &[AffinityTerm], owner: &Pod, other: &Pod) -> bool {
    terms.iter().all(|term| selects(names, term, owner, other))
}

/// Counts for each of the pod's constraints.
fn spread<'a>(snapshot: &'a Snapshot, pod: &'a Pod) -> Vec<Spread<'a>> {
    let prepare = |constraint: &'a TopologySpreadConstraint| {
        let counts_itself = matches_constraint(constraint, pod, pod);
        let mut counts = Counts::new();
        for slot in snapshot.present().filter(|slot| counts_for(constraint, pod, &slot.node)) {
            let Some(value) = slot.node.labels.get(&constraint.topology_key) else { continue };
            let matching = slot.pods.iter().filter(|other| {
                !other.terminating && other.namespace == pod.namespace && matches_constraint(constraint, pod, other)
            });
            let count = u32::try_from(matching.count()).unwrap_or(u32::MAX);
            let all = counts.entry(value.as_str()).or_default();
            *all = all.saturating_add(count);
        }
        let places = i32::try_from(counts.len()).unwrap_or(i32::MAX);
        let too_few = places < constraint.min_domains.unwrap_or(1);
        // Without any place the scheduler compares with the greatest number there is.
        let fewest = if too_few && places > 0 { 0 } else { counts.values().copied().min().unwrap_or(u32::MAX) };
        Spread { constraint, counts, fewest, counts_itself }
    };
    pod.spread.iter().map(prepare).collect()
}

/// Whether a node is one of those among which is spread.
fn counts_for(constraint: &TopologySpreadConstraint, pod: &Pod, node: &Node) -> bool {
    let has_keys = pod.spread.iter().all(|each| node.labels.contains_key(&each.topology_key));
    let honors_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let honors_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    has_keys
        && (!honors_affinity || node_requirements_match(pod, node))
        && (!honors_taints || untolerated(&node.taints, &pod.tolerations).is_none())
}

fn matches_constraint(constraint: &TopologySpreadConstraint, owner: &Pod, other: &Pod) -> bool {
    let same_keys = constraint
        .match_label_keys
        .iter()
        .flatten()
        .filter_map(|key| owner.labels.get_key_value(key))
        .all(|(key, value)| other.labels.get(key) == Some(value));
    let selector = constraint.label_selector.as_ref();
    same_keys && selector.is_some_and(|selector| matches_labels(selector, &other.labels))
}
