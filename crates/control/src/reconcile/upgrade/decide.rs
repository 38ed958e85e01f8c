//! What comes next in an upgrade, from what is recorded and what was seen. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use sampan_store::model::{
    Machine, MachineState, MachineWanted, Management, NodePool, NodeTurn, Timestamp, Upgrade, UpgradePhase,
    UpgradeState, UpgradeWanted,
};

use crate::{
    ports::{NodeReadiness, NodeView},
    reconcile::{
        machines::title,
        nodes, repair,
        scope::{Fate, Scope, fate},
        status::Step,
    },
};

/// The API must answer within this time for the pre-checks.
const CHECK_MAX: Duration = Duration::from_secs(300);
/// A machine of the control plane must be ready with the new version within this time.
const CONTROL_PLANE_MAX: Duration = Duration::from_secs(600);
/// The same of a node.
const NODE_MAX: Duration = Duration::from_secs(600);
/// Machines that are added for the upgrade must be in service within this time.
const SURGE_MAX: Duration = Duration::from_secs(900);

/// What was seen.
pub(super) struct Sight<'a> {
    pub(super) now: Timestamp,
    pub(super) scope: &'a Scope,
    /// The nodes; `None` when they could not be listed.
    pub(super) nodes: Option<&'a [NodeView]>,
    /// How far the API is.
    pub(super) api: &'a Step,
    /// Machines that are what the present records say.
    pub(super) in_force: &'a HashSet<String>,
    /// What is not ready on machines that were asked; `None`: everything is.
    pub(super) processes: BTreeMap<String, Option<String>>,
    /// Versions of API servers, by machine.
    pub(super) versions: BTreeMap<String, String>,
    /// Whether nodes may be touched now.
    pub(super) may_touch: bool,
    /// How long a drain may take.
    pub(super) drain_max: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing but wait, for this.
    Wait(String),
    /// Look whether the cluster can be upgraded.
    Check,
    /// Take a snapshot of etcd.
    Snapshot,
    /// Tell this machine of the control plane to be of the new version.
    Switch(String),
    /// The whole control plane has the version: the cluster has it, nodes keep theirs for now.
    Adopt,
    /// Apply what every cluster has.
    Components,
    /// Add so many machines to a pool.
    AddSurge { pool_id: String, count: u32 },
    /// These nodes are next.
    Begin(Vec<String>),
    /// Go on with nodes whose turn it is.
    Turns(Vec<(String, Turn)>),
    /// Let these machines go, which were added for the upgrade.
    Release(Vec<String>),
    /// The pool has no added machines any more.
    Released(String),
    /// A step failed.
    Halt(String),
    /// It is over, or stops.
    End(UpgradeState),
}

/// What to do about a node whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing but wait, for this.
    Wait(String),
    /// Another round of its drain.
    Drain,
    /// It shall not be upgraded now: make it schedulable again, as far as it was.
    Undo,
    /// It is ready: make it schedulable again.
    Admit,
    /// It is done.
    Done,
    /// It is no node of the cluster any more.
    Forget,
    /// It does not become ready.
    Fail(String),
}

/// Workers of a pool that shall run.
pub(super) fn workers_of<'a>(scope: &'a Scope, pool_id: &'a str) -> impl Iterator<Item = &'a Machine> {
    scope.workers().filter(move |machine| {
        machine.membership.as_ref().is_some_and(|member| member.node_pool_id.as_deref() == Some(pool_id))
    })
}

/// Decides. Only for upgrades that are running.
pub(super) fn next(upgrade: &Upgrade, sight: &Sight<'_>) -> Act {
    let turns: Vec<(String, Turn)> =
        upgrade.turns.iter().map(|turn| (turn.machine_id.clone(), next_turn(upgrade, turn, sight))).collect();
    if !upgrade.stops() && upgrade.phase == UpgradePhase::Nodes && !turns.is_empty() {
        // There may be room for another node while one is still being emptied.
        let more = pools(upgrade, sight);
        if matches!(more, Act::Begin(_)) {
            return more;
        }
    }
    let begun = turns.iter().any(|(_, turn)| !matches!(turn, Turn::Wait(_)));
    if begun {
        return Act::Turns(turns);
    }
    if let Some(act) = stop(upgrade, sight) {
        return act;
    }
    let act = match upgrade.phase {
        UpgradePhase::Precheck => check(upgrade, sight),
        UpgradePhase::Snapshot => Act::Snapshot,
        UpgradePhase::ControlPlane => control_plane(upgrade, sight),
        UpgradePhase::Components => Act::Components,
        UpgradePhase::Nodes => pools(upgrade, sight),
    };
    match (act, turns.into_iter().next()) {
        // What the nodes wait for whose turn it is says more.
        (Act::Wait(_), Some((_, Turn::Wait(what)))) => Act::Wait(what),
        (act, _) => act,
    }
}

fn check(upgrade: &Upgrade, sight: &Sight<'_>) -> Act {
    match (sight.api, sight.nodes) {
        (Step::Done, Some(_)) => Act::Check,
        (step, _) if lasts(upgrade, sight) >= CHECK_MAX => {
            Act::Halt(format!("the API server does not answer: {}", step.message()))
        }
        (step, _) => Act::Wait(format!("waits for the API server {}", step.message())),
    }
}

/// Since when the present step lasts.
fn lasts(upgrade: &Upgrade, sight: &Sight<'_>) -> Duration {
    repair::span(upgrade.since, sight.now)
}

/// What an upgrade does that shall begin nothing new; `None`: it goes on.
fn stop(upgrade: &Upgrade, sight: &Sight<'_>) -> Option<Act> {
    let switched = |machine: &Machine| machine.version(&sight.scope.cluster) == upgrade.to;
    let in_control_plane =
        upgrade.phase == UpgradePhase::ControlPlane && sight.scope.running_control_planes().into_iter().any(switched);
    if upgrade.halt.is_some() {
        // Nodes that were switched and are not ready stay as they are, for somebody to look at.
        return Some(Act::End(UpgradeState::Failed));
    }
    if upgrade.wanted == UpgradeWanted::Run {
        return None;
    }
    if !upgrade.turns.is_empty() {
        return Some(Act::Wait("ends what was begun".to_owned()));
    }
    match upgrade.wanted {
        // A control plane is not left with two versions.
        UpgradeWanted::Cancel if in_control_plane => None,
        UpgradeWanted::Cancel => Some(release_all(upgrade, sight).unwrap_or(Act::End(UpgradeState::Cancelled))),
        _ => in_control_plane
            .then(|| unready(upgrade, sight).map(|(_, act)| act))
            .flatten()
            .or(Some(Act::End(UpgradeState::Paused))),
    }
}

/// The first machine of the control plane that was switched and is not ready yet, and what to do about it.
fn unready<'a>(upgrade: &Upgrade, sight: &Sight<'a>) -> Option<(&'a Machine, Act)> {
    let cluster = &sight.scope.cluster;
    let switched =
        sight.scope.running_control_planes().into_iter().filter(|machine| machine.version(cluster) == upgrade.to);
    for machine in switched {
        let Some(why) = control_plane_trouble(upgrade, machine, sight) else { continue };
        let title = title(machine);
        let act = if lasts(upgrade, sight) < CONTROL_PLANE_MAX {
            Act::Wait(format!("{title} with {}: {why}", upgrade.to))
        } else {
            let minutes = CONTROL_PLANE_MAX.as_secs() / 60;
            Act::Halt(format!("{title} was not ready with {} within {minutes} min: {why}", upgrade.to))
        };
        return Some((machine, act));
    }
    None
}

fn control_plane_trouble(upgrade: &Upgrade, machine: &Machine, sight: &Sight<'_>) -> Option<String> {
    if let Some(why) = not_as_told(&machine.id, sight) {
        return Some(why);
    }
    if *sight.api != Step::Done {
        return Some(sight.api.message().to_owned());
    }
    match sight.versions.get(&machine.id) {
        Some(version) if *version == format!("v{}", upgrade.to) => None,
        Some(version) => Some(format!("its API server is {version}")),
        None => Some("its API server does not answer".to_owned()),
    }
}

/// Why a machine is not yet what it was told to be, if so.
pub(in crate::reconcile) fn not_as_told(machine_id: &str, sight: &Sight<'_>) -> Option<String> {
    if !sight.in_force.contains(machine_id) {
        return Some("is being told what to be".to_owned());
    }
    match sight.processes.get(machine_id) {
        Some(None) => None,
        Some(Some(why)) => Some(why.clone()),
        None => Some("its agent does not answer".to_owned()),
    }
}

fn control_plane(upgrade: &Upgrade, sight: &Sight<'_>) -> Act {
    if let Some((_, act)) = unready(upgrade, sight) {
        return act;
    }
    let cluster = &sight.scope.cluster;
    match sight.scope.running_control_planes().into_iter().find(|machine| machine.version(cluster) != upgrade.to) {
        Some(machine) => Act::Switch(machine.id.clone()),
        None => sight.scope.control_planes().into_iter().find(|machine| fate(cluster, machine) != Fate::Run).map_or(
            Act::Adopt,
            // Its successor would keep the version that it had.
            |machine| Act::Wait(format!("{} is being replaced", title(machine))),
        ),
    }
}

fn pools(upgrade: &Upgrade, sight: &Sight<'_>) -> Act {
    let scope = sight.scope;
    let mut pools: Vec<&NodePool> = scope.pools.iter().map(|pool| &pool.value).collect();
    pools.retain(|pool| upgrade.concerns(&pool.id) && !pool.deleting);
    pools.sort_by_key(|pool| (pool.created, pool.id.clone()));
    for pool in pools {
        let is_outdated = |machine: &Machine| machine.version(&scope.cluster) != upgrade.to;
        let is_busy = workers_of(scope, &pool.id)
            .any(|machine| is_outdated(machine) || upgrade.turns.iter().any(|turn| turn.machine_id == machine.id));
        if is_busy {
            return in_pool(upgrade, pool, sight);
        }
        if let Some(act) = release(upgrade, &pool.id, sight) {
            return act;
        }
    }
    release_all(upgrade, sight).unwrap_or(Act::End(UpgradeState::Success))
}

/// Machines that were added go again, of all pools.
fn release_all(upgrade: &Upgrade, sight: &Sight<'_>) -> Option<Act> {
    upgrade.surge.iter().find_map(|surge| release(upgrade, &surge.pool_id, sight))
}

/// Machines go again that were added to the pool.
fn release(upgrade: &Upgrade, pool_id: &str, sight: &Sight<'_>) -> Option<Act> {
    let surge = upgrade.surge.iter().find(|surge| surge.pool_id == pool_id)?;
    let added = || sight.scope.machines.iter().filter(|machine| surge.machine_ids.contains(&machine.id));
    let staying: Vec<String> =
        added().filter(|machine| machine.wanted == MachineWanted::Run).map(|machine| machine.id.clone()).collect();
    Some(match added().next() {
        None => Act::Released(pool_id.to_owned()),
        Some(_) if !staying.is_empty() => Act::Release(staying),
        Some(machine) => Act::Wait(format!("{} was added for the upgrade and leaves", title(machine))),
    })
}

fn in_pool(upgrade: &Upgrade, pool: &NodePool, sight: &Sight<'_>) -> Act {
    let scope = sight.scope;
    if !sight.may_touch {
        // It begins anew, for the nodes that are left, when the window opens again. Meanwhile the cluster can be changed.
        return release_all(upgrade, sight).unwrap_or(Act::End(UpgradeState::Cancelled));
    }
    let management = pool.management.clone().unwrap_or_default();
    let surge = upgrade.surge.iter().find(|surge| surge.pool_id == pool.id);
    let is_added = |machine: &Machine| surge.is_some_and(|surge| surge.machine_ids.contains(&machine.id));
    let members: Vec<&Machine> = workers_of(scope, &pool.id).collect();
    match surge {
        None => {
            let count = surge_count(&management, members.len());
            if count > 0 {
                return Act::AddSurge { pool_id: pool.id.clone(), count };
            }
        }
        Some(surge) => {
            let missing = members.iter().find(|machine| is_added(machine) && machine.state != MachineState::Running);
            if let Some(machine) = missing {
                let why = format!("{}, added for the upgrade, is not in service", title(machine));
                let is_late = repair::span(surge.since, sight.now).min(lasts(upgrade, sight)) >= SURGE_MAX;
                return if is_late { Act::Halt(why) } else { Act::Wait(why) };
            }
        }
    }
    let unavailable_max = upgrade.max_parallelism.unwrap_or_else(|| management.unavailable_max());
    let unavailable_max = usize::try_from(unavailable_max).unwrap_or(usize::MAX).max(1);
    begin(upgrade, &members, unavailable_max, sight)
}

fn surge_count(management: &Management, members: usize) -> u32 {
    management.surge_of(u32::try_from(members).unwrap_or(u32::MAX))
}

/// The nodes that are next, as many as may be out of service at once.
fn begin(upgrade: &Upgrade, members: &[&Machine], unavailable_max: usize, sight: &Sight<'_>) -> Act {
    let Some(nodes) = sight.nodes else { return Act::Wait("the API server does not answer".to_owned()) };
    let has_turn = |machine: &Machine| upgrade.turns.iter().any(|turn| turn.machine_id == machine.id);
    let is_ready = |machine: &Machine| {
        machine.state == MachineState::Running
            && nodes::view(nodes, machine).is_some_and(|node| node.ready == NodeReadiness::Ready)
    };
    let away = members.iter().filter(|machine| has_turn(machine) || !is_ready(machine)).count();
    let mut waiting: Vec<&&Machine> = members
        .iter()
        .filter(|machine| {
            machine.version(&sight.scope.cluster) != upgrade.to && !has_turn(machine) && is_ready(machine)
        })
        .collect();
    waiting.sort_by_key(|machine| (machine.created, machine.ip));
    let ids: Vec<String> =
        waiting.iter().take(unavailable_max.saturating_sub(away)).map(|machine| machine.id.clone()).collect();
    if !ids.is_empty() {
        return Act::Begin(ids);
    }
    let sick = members.iter().find(|machine| !has_turn(machine) && !is_ready(machine));
    match sick {
        Some(machine) if lasts(upgrade, sight) >= NODE_MAX && upgrade.turns.is_empty() => {
            Act::Halt(format!("the node of {} is not Ready; no other one is taken out of service", title(machine)))
        }
        Some(machine) => Act::Wait(format!("the node of {} is not Ready", title(machine))),
        None => Act::Wait("nodes are being upgraded".to_owned()),
    }
}

/// What comes next for a node whose turn it is.
fn next_turn(upgrade: &Upgrade, turn: &NodeTurn, sight: &Sight<'_>) -> Turn {
    let scope = sight.scope;
    let machine = scope.workers().find(|machine| machine.id == turn.machine_id);
    let Some(machine) = machine else { return Turn::Forget };
    if !turn.switched {
        return if upgrade.stops() { Turn::Undo } else { Turn::Drain };
    }
    let Some(why) = node_trouble(upgrade, machine, sight) else {
        let is_cordoned = sight.nodes.and_then(|nodes| nodes::view(nodes, machine)).is_some_and(|node| node.cordoned);
        return if is_cordoned && !turn.was_cordoned { Turn::Admit } else { Turn::Done };
    };
    if repair::span(turn.since, sight.now) >= NODE_MAX && upgrade.halt.is_none() {
        if upgrade.wanted == UpgradeWanted::Cancel {
            return Turn::Undo;
        }
        let minutes = NODE_MAX.as_secs() / 60;
        return Turn::Fail(format!("{} was not ready with {} within {minutes} min: {why}", title(machine), upgrade.to));
    }
    Turn::Wait(format!("{} with {}: {why}", title(machine), upgrade.to))
}

fn node_trouble(upgrade: &Upgrade, machine: &Machine, sight: &Sight<'_>) -> Option<String> {
    if let Some(why) = not_as_told(&machine.id, sight) {
        return Some(why);
    }
    let Some(nodes) = sight.nodes else { return Some("the API server does not answer".to_owned()) };
    let Some(node) = nodes::view(nodes, machine) else { return Some("its node is not registered".to_owned()) };
    if node.kubelet_version != format!("v{}", upgrade.to) {
        return Some(format!("its kubelet reports {}", node.kubelet_version));
    }
    (node.ready != NodeReadiness::Ready).then(|| format!("its node is not Ready: {}", node.message))
}
