//! Whether a repair may begin: nodes that are not Ready are never repaired all at once, and not when the fault is more likely
//! elsewhere. A container that ended is not among them: it is started again always.

use std::time::Duration;

use sampan_store::model::{Machine, MachineState, NodePool, Timestamp};

use super::{context::Context, repair::span, scope::Scope};

/// So many of a hundred nodes of a pool may be in repair at once, and always one.
const IN_REPAIR_PERCENT: usize = 20;
/// A repair that lasts longer than so many times the patience with a node keeps no other from being repaired.
const LASTS_MAX: u32 = 5;

/// How the nodes of a pool are, apart from the one in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PoolHealth {
    /// Nodes that should be in service, that one included.
    nodes: usize,
    /// Those of them that are not Ready, that one included.
    not_ready: usize,
    /// Others that are in repair.
    in_repair: usize,
    /// The cluster's API answers.
    api_serves: bool,
    /// The pool wants it.
    repairs: bool,
}

/// Why the machine must not be restarted or replaced now although its node is not Ready; `None`: it may be.
pub(super) fn hold(ctx: &Context, scope: &Scope, machine: &Machine) -> Option<String> {
    let pool_id = machine.membership.as_ref()?.node_pool_id.as_deref()?;
    let is_ordered = machine.repair.is_some();
    if is_ordered || scope.cluster.is_swarm() || scope.cluster.first_running.is_none() {
        return None;
    }
    let pool = ctx.store.get::<NodePool>(pool_id)?;
    let lasts_max = ctx.settings.limits.not_ready * LASTS_MAX;
    // Read anew: another machine may have begun meanwhile.
    let members: Vec<_> = ctx.store.list_of::<Machine>(&scope.cluster.id);
    let members = members.iter().map(|member| &member.value).filter(|member| is_in(member, pool_id));
    let health = look(&pool, machine, members, (ctx.now(), lasts_max), ctx.memory.api_serves(&scope.cluster.id));
    decide(&health)
}

fn is_in(machine: &Machine, pool_id: &str) -> bool {
    machine.membership.as_ref().is_some_and(|member| member.node_pool_id.as_deref() == Some(pool_id))
}

fn look<'a>(
    pool: &NodePool,
    machine: &Machine,
    members: impl Iterator<Item = &'a Machine>,
    (now, lasts_max): (Timestamp, Duration),
    api_serves: bool,
) -> PoolHealth {
    let mut health = PoolHealth { nodes: 0, not_ready: 0, in_repair: 0, api_serves, repairs: pool.repairs() };
    for member in members {
        let mends = member.mending.is_some_and(|since| span(since, now) < lasts_max);
        // A successor that is still being made stands for the one that it replaces.
        if member.state == MachineState::Running || mends {
            health.nodes += 1;
            health.not_ready += usize::from(member.not_ready_since.is_some() || member.state != MachineState::Running);
        }
        health.in_repair += usize::from(mends && member.id != machine.id);
    }
    health
}

fn decide(health: &PoolHealth) -> Option<String> {
    let allowed = (health.nodes * IN_REPAIR_PERCENT / 100).max(1);
    if !health.repairs {
        Some("auto_repair of its node pool is off".to_owned())
    } else if !health.api_serves {
        Some("the cluster's API does not answer, so nobody knows how its nodes are".to_owned())
    } else if health.not_ready > 1 && health.not_ready * 2 > health.nodes {
        let PoolHealth { nodes, not_ready, .. } = health;
        Some(format!(
            "{not_ready} of {nodes} nodes of its pool are not Ready at once, so the fault is probably not theirs"
        ))
    } else if health.in_repair >= allowed {
        Some(format!(
            "{} other nodes of its pool are being repaired, and at most {allowed} are at once",
            health.in_repair
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(nodes: usize, not_ready: usize, in_repair: usize, expected: Option<&str>) {
        let health = PoolHealth { nodes, not_ready, in_repair, api_serves: true, repairs: true };
        let held = decide(&health);
        match expected {
            None => assert_eq!(held, None, "{health:?}"),
            Some(word) => assert!(held.as_ref().is_some_and(|text| text.contains(word)), "{health:?}: {held:?}"),
        }
    }

    #[test]
    fn never_all_at_once() {
        check(1, 1, 0, None);
        check(2, 1, 0, None);
        check(2, 2, 0, Some("2 of 2"));
        check(3, 2, 0, Some("2 of 3"));
        check(4, 2, 0, None);
        check(4, 2, 1, Some("at most 1"));
        check(10, 5, 1, None);
        check(10, 5, 2, Some("at most 2"));
        check(10, 6, 0, Some("6 of 10"));
        check(100, 30, 19, None);
        check(100, 30, 20, Some("at most 20"));
    }

    #[test]
    fn not_when_nobody_knows_or_nobody_wants() {
        let health = PoolHealth { nodes: 3, not_ready: 1, in_repair: 0, api_serves: true, repairs: true };
        let said = |health: PoolHealth| decide(&health).unwrap_or_default();
        assert!(said(PoolHealth { api_serves: false, ..health }).contains("API"));
        assert!(said(PoolHealth { repairs: false, ..health }).contains("auto_repair"));
        assert_eq!(decide(&health), None);
    }
}
