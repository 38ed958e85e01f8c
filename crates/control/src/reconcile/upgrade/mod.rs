//! Upgrades: a cluster goes to another version under running workloads.
//!
//! `decide` says what comes next, from the records and what was seen; `perform` does it and drafts the records; `draft`
//! writes them. So each step is recorded before the next begins, and a killed server goes on where the records are.
//! `checks`, `window` and `stages` are pure, too. Order: pre-checks, a snapshot of etcd, the machines of the control plane
//! one at a time, what every cluster has, the nodes pool by pool.

mod auto;
mod checks;
mod decide;
mod draft;
mod perform;
mod stages;
mod surge;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sampan_agents::spec::{NodeStatus, ProcessState};
use sampan_store::model::{Outcome, Upgrade, UpgradePhase, UpgradeState};

use self::{decide::Sight, perform::perform};
pub(super) use self::{
    draft::Draft,
    stages::{advance, cluster_state},
};
use super::{
    context::{Context, within},
    scope::Scope,
    settings::{ACCESS_CALL_MAX, AGENT_CALL_MAX},
    status::{Facts, Step},
};

/// Goes one step on with the cluster's upgrade, or begins one that nobody has to ask for. Answers whether the records have
/// changed.
pub(super) async fn step(ctx: &Context, scope: &Scope, facts: &Facts) -> Outcome<bool> {
    if scope.cluster.first_running.is_none() || scope.cluster.is_swarm() {
        return Ok(false);
    }
    let Some(upgrade) = scope.cluster.upgrade.as_ref().filter(|upgrade| upgrade.state == UpgradeState::Running) else {
        return auto::begin(ctx, scope, facts.now).await;
    };
    let sight = look(ctx, scope, upgrade, facts).await;
    let mut draft = Draft::of(scope, facts.now);
    perform(ctx, scope, &sight, decide::next(upgrade, &sight), &mut draft).await;
    draft.commit(ctx, scope).await
}

async fn look<'a>(ctx: &Context, scope: &'a Scope, upgrade: &Upgrade, facts: &'a Facts) -> Sight<'a> {
    let mut asked: Vec<String> =
        upgrade.turns.iter().filter(|turn| turn.switched).map(|turn| turn.machine_id.clone()).collect();
    let mut versions = BTreeMap::new();
    if upgrade.phase == UpgradePhase::ControlPlane {
        let switched =
            scope.running_control_planes().into_iter().filter(|machine| machine.version(&scope.cluster) == upgrade.to);
        for machine in switched {
            asked.push(machine.id.clone());
            if facts.api == Step::Done && facts.in_force.contains(&machine.id) {
                let call = ctx.access.server_version(&scope.cluster, &machine.id);
                if let Ok(version) = within(ACCESS_CALL_MAX, "asking the API server", call).await {
                    versions.insert(machine.id.clone(), version);
                }
            }
        }
    }
    let window = scope.cluster.maintenance_window.as_ref();
    Sight {
        now: facts.now,
        scope,
        nodes: facts.nodes.as_deref(),
        api: &facts.api,
        in_force: &facts.in_force,
        processes: processes(ctx, &asked).await,
        versions,
        may_touch: !upgrade.automatic || window.is_some_and(|window| window::open_since(window, facts.now).is_some()),
        drain_max: ctx.settings.limits.drain,
    }
}

/// What is not ready on these machines, as far as their agents answer; `None`: everything is.
pub(super) async fn processes(ctx: &Context, machine_ids: &[String]) -> BTreeMap<String, Option<String>> {
    let mut processes = BTreeMap::new();
    for id in machine_ids.iter().filter(|id| ctx.agents.is_connected(id)) {
        if let Ok(status) = within(AGENT_CALL_MAX, "asking the machine's agent", ctx.agents.status(id)).await {
            processes.insert(id.clone(), unready(&status));
        }
    }
    processes
}

fn unready(status: &NodeStatus) -> Option<String> {
    let process = status.processes.iter().find(|process| process.state != ProcessState::Ready)?;
    let name = &process.name;
    Some(match (&process.last_exit, process.state) {
        (Some(how), _) => format!("{name} ended: {how}"),
        (None, ProcessState::Waiting) => format!("{name} waits for others"),
        (None, _) => format!("{name} is starting"),
    })
}
