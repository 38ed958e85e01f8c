//! Ranks the nodes that are left.

use std::cmp::Reverse;

use rand::{Rng, seq::IndexedRandom as _};

use super::{Candidate, Request, Strategy, filters};
use crate::model::{Node, labels};

/// The best node; `None` only if there is none.
pub(crate) fn choose<'a>(
    fit: &[&Candidate<'a>],
    request: &Request,
    strategy: Strategy,
    random: &mut impl Rng,
) -> Option<&'a Node> {
    let best = match strategy {
        Strategy::Random => {
            // In the order of their names, so that only the dice decide.
            let mut sorted = fit.to_vec();
            sorted.sort_by_key(|candidate| (candidate.node.index, &candidate.node.name));
            sorted.choose(random).copied()
        }
        Strategy::Spread => fit.iter().copied().min_by_key(|candidate| {
            let containers = candidate.containers.len();
            let siblings = siblings(candidate, request);
            (weight(candidate, request), containers, siblings, candidate.node.index, &candidate.node.name)
        }),
        Strategy::Binpack => fit.iter().copied().min_by_key(|candidate| {
            let containers = candidate.containers.len();
            (Reverse(weight(candidate, request)), Reverse(containers), candidate.node.index, &candidate.node.name)
        }),
    };
    best.map(|candidate| candidate.node)
}

/// How full the node would be: percent of its memory plus percent of its processors that are promised.
fn weight(candidate: &Candidate<'_>, request: &Request) -> u64 {
    let node = candidate.node;
    let percent = |used: u64, total: u64| match total {
        0 => 0,
        _ => u64::try_from(u128::from(used) * 100 / u128::from(total)).unwrap_or(u64::MAX),
    };
    let memory = percent(candidate.reserved_memory().saturating_add(request.memory), node.memory);
    let cpus = percent(
        candidate.reserved_cpus().saturating_add(request.nano_cpus),
        u64::from(node.cpus).saturating_mul(filters::NANO),
    );
    memory.saturating_add(cpus)
}

fn siblings(candidate: &Candidate<'_>, request: &Request) -> usize {
    let Some(service) = &request.service else { return 0 };
    let same = candidate.containers.iter().filter(|container| container.labels.get(labels::SERVICE) == Some(service));
    same.count()
}
