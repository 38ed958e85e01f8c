//! Does what was decided: calls that may be repeated, and the draft of the records.

use std::time::Duration;

use sampan_store::model::{
    Finding, Level, NodeTurn, Upgrade, UpgradePhase, UpgradeSnapshot, UpgradeState, UpgradeWanted,
};
use tokio::time::Instant;

use super::{
    checks,
    decide::{Act, Sight, Turn},
    draft::Draft,
    surge,
};
use crate::{
    backup::{Backup, upgrade_backup_id},
    ports::{BasePart, DrainOutcome},
    reconcile::{
        backup,
        context::{Context, within},
        machines::title,
        nodes, repair,
        scope::Scope,
        settings::{ACCESS_CALL_MAX, LONG_CALL_MAX},
    },
};

/// Calls of one step are tried for so long.
const STEP_MAX: Duration = Duration::from_secs(300);
/// Pause between two rounds of a drain.
const DRAIN_ROUND: Duration = Duration::from_secs(1);

/// Does it.
pub(super) async fn perform(ctx: &Context, scope: &Scope, sight: &Sight<'_>, act: Act, draft: &mut Draft) {
    match act {
        Act::Wait(what) => draft.say(what),
        Act::Check => check(ctx, scope, sight, draft).await,
        Act::Snapshot => snapshot(ctx, scope, draft).await,
        Act::Switch(machine_id) => switch_control_plane(scope, &machine_id, draft),
        Act::Adopt => adopt(scope, draft),
        Act::Components => components(ctx, scope, draft).await,
        Act::AddSurge { pool_id, count } => surge::add(ctx, scope, &pool_id, count, draft),
        Act::Begin(ids) => begin(&ids, sight, draft),
        Act::Turns(turns) => {
            for (id, turn) in turns {
                take_turn(ctx, sight, &id, turn, draft).await;
            }
        }
        Act::Release(ids) => surge::release(&ids, draft),
        Act::Released(pool_id) => draft.upgrade(|upgrade| upgrade.surge.retain(|surge| surge.pool_id != pool_id)),
        Act::Halt(why) => draft.halt(why),
        Act::End(state) => end(state, draft),
    }
}

/// A call that failed is tried again until the step has lasted for too long.
fn again(draft: &mut Draft, what: &str, why: &str) {
    let lasts = draft.cluster.upgrade.as_ref().map_or(Duration::ZERO, |upgrade| repair::span(upgrade.since, draft.now));
    if lasts >= STEP_MAX {
        draft.halt(format!("{what}: {why}"));
    } else {
        draft.say(format!("{what}: {why}"));
    }
}

async fn check(ctx: &Context, scope: &Scope, sight: &Sight<'_>, draft: &mut Draft) {
    let (Some(nodes), Some(upgrade)) = (sight.nodes, scope.cluster.upgrade.as_ref()) else { return };
    let survey = match within(ACCESS_CALL_MAX, "the survey", ctx.access.survey(&scope.cluster)).await {
        Ok(survey) => survey,
        Err(fault) => return again(draft, "the pre-checks", &fault.message),
    };
    let findings = checks::check(scope, upgrade, nodes, &survey);
    for finding in &findings {
        let level = if finding.blocks { Level::Error } else { Level::Warning };
        draft.tell(level, &format!("Precheck{}", finding.check), finding.message.clone());
    }
    let blocking: Vec<&Finding> = findings.iter().filter(|finding| finding.blocks).collect();
    if blocking.is_empty() {
        let text = format!("the pre-checks for {} found nothing that hinders the upgrade", upgrade.to);
        draft.tell(Level::Info, "PrecheckPassed", text);
        let is_nodes_only = scope.cluster.version == upgrade.to;
        draft.enter(if is_nodes_only { UpgradePhase::Components } else { UpgradePhase::Snapshot });
    } else {
        let texts: Vec<&str> = blocking.iter().map(|finding| finding.message.as_str()).collect();
        draft.halt(format!("the pre-checks found what hinders the upgrade: {}", texts.join("; ")));
    }
    draft.upgrade(|upgrade| upgrade.findings = findings);
}

async fn snapshot(ctx: &Context, scope: &Scope, draft: &mut Draft) {
    let Some(upgrade) = &scope.cluster.upgrade else { return };
    let Some(backups) = &ctx.settings.backups else {
        return draft.halt("this server keeps no backups, and the upgrade begins with one".to_owned());
    };
    // The same id at each try: what a killed server took is found.
    let id = upgrade_backup_id(&upgrade.from, upgrade.started);
    let taken = within(backup::SNAPSHOT_MAX, "the snapshot", backup::ensure(ctx, scope, backups, &id)).await;
    let path = backups.shelf.path(&scope.cluster.id, &id);
    match taken.and_then(|taken| Ok((taken, path?))) {
        Ok((Backup { id, size: bytes, .. }, path)) => {
            let text = format!("a snapshot of etcd was taken: backup {id}, {bytes} bytes, in {}", path.display());
            draft.tell(Level::Info, "SnapshotTaken", text);
            draft.enter(UpgradePhase::ControlPlane);
            draft.upgrade(|upgrade| upgrade.snapshot = Some(UpgradeSnapshot { backup_id: id, bytes }));
        }
        Err(fault) => again(draft, "a snapshot of etcd cannot be taken", &fault.message),
    }
}

fn switch_control_plane(scope: &Scope, machine_id: &str, draft: &mut Draft) {
    let Some(upgrade) = &scope.cluster.upgrade else { return };
    if let Some(machine) = scope.running_control_planes().into_iter().find(|machine| machine.id == machine_id) {
        draft.tell(Level::Info, "ControlPlaneUpgrading", format!("{} goes to {}", title(machine), upgrade.to));
    }
    draft.machine(machine_id, |machine| {
        if let Some(member) = &mut machine.membership {
            member.version = Some(upgrade.to.clone());
        }
    });
    draft.upgrade(|_| ());
}

/// The cluster's version is the control plane's. Nodes that followed the cluster keep theirs.
fn adopt(scope: &Scope, draft: &mut Draft) {
    let Some(upgrade) = &scope.cluster.upgrade else { return };
    let control: Vec<String> = scope.control_planes().into_iter().map(|machine| machine.id.clone()).collect();
    for machine in &mut draft.machines {
        let Some(member) = &mut machine.membership else { continue };
        if control.contains(&machine.id) {
            member.version = None;
        } else {
            member.version.get_or_insert_with(|| scope.cluster.version.clone());
        }
    }
    draft.cluster.version.clone_from(&upgrade.to);
    draft.tell(Level::Info, "ControlPlaneUpgraded", format!("the control plane has {}", upgrade.to));
    draft.enter(UpgradePhase::Components);
}

async fn components(ctx: &Context, scope: &Scope, draft: &mut Draft) {
    for part in [BasePart::Essentials, BasePart::Extras] {
        let call = ctx.access.apply_base(&scope.cluster, part);
        if let Err(fault) = within(LONG_CALL_MAX, "applying the components", call).await {
            return again(draft, "the components cannot be applied", &fault.message);
        }
        ctx.memory.set_base(&scope.cluster.id, part);
    }
    if scope.workers().next().is_some()
        && let Err(fault) =
            within(ACCESS_CALL_MAX, "asking for the DNS service", ctx.access.dns_ready(&scope.cluster)).await
    {
        return again(draft, "the components are not ready", &fault.message);
    }
    draft.journal.log("the components were applied for the new version");
    draft.enter(UpgradePhase::Nodes);
}

fn begin(ids: &[String], sight: &Sight<'_>, draft: &mut Draft) {
    let now = draft.now;
    for machine in sight.scope.workers().filter(|machine| ids.contains(&machine.id)) {
        let node = sight.nodes.and_then(|nodes| nodes::view(nodes, machine));
        let was_cordoned = node.is_some_and(|node| node.cordoned);
        let text = format!("{} is emptied, then upgraded", title(machine));
        draft.tell(Level::Info, "NodeUpgradeStarted", text);
        let turn = NodeTurn { machine_id: machine.id.clone(), was_cordoned, since: now, switched: false };
        draft.upgrade(|upgrade| upgrade.turns.push(turn));
    }
}

async fn take_turn(ctx: &Context, sight: &Sight<'_>, id: &str, turn: Turn, draft: &mut Draft) {
    let scope = sight.scope;
    let machine = scope.workers().find(|machine| machine.id == id);
    let Some((machine, node)) = machine.and_then(|machine| Some((machine, &machine.membership.as_ref()?.node_name)))
    else {
        draft.journal.log(format!("machine {id} is no node of the cluster any more and is not upgraded"));
        return drop_turn(id, draft);
    };
    match turn {
        Turn::Wait(what) => draft.say(what),
        Turn::Drain => drain(ctx, sight, id, draft).await,
        Turn::Undo | Turn::Admit => {
            let was_cordoned = turn_of(draft, id).is_some_and(|turn| turn.was_cordoned);
            if !was_cordoned {
                let call = ctx.access.uncordon(&scope.cluster, node);
                if let Err(fault) = within(ACCESS_CALL_MAX, "making the node schedulable", call).await {
                    if gives_up(id, sight, draft) {
                        let text = format!("{} stays unschedulable: {}", title(machine), fault.message);
                        draft.tell(Level::Warning, "NodeStaysCordoned", text);
                        return drop_turn(id, draft);
                    }
                    return again(draft, &format!("{} cannot be made schedulable", title(machine)), &fault.message);
                }
            }
            if turn == Turn::Undo {
                draft.journal.log(format!("{} is left as it was", title(machine)));
                drop_turn(id, draft);
            }
        }
        Turn::Done => {
            let to = draft.cluster.upgrade.as_ref().map_or_else(String::new, |upgrade| upgrade.to.clone());
            draft.tell(Level::Info, "NodeUpgraded", format!("{} has {to}", title(machine)));
            drop_turn(id, draft);
        }
        Turn::Forget => drop_turn(id, draft),
        Turn::Fail(why) => draft.halt(why),
    }
}

/// Whether a node's turn ends although the node could not be made schedulable again: the upgrade stops, and must not wait for
/// an API that is gone.
fn gives_up(id: &str, sight: &Sight<'_>, draft: &Draft) -> bool {
    let stops = draft.cluster.upgrade.as_ref().is_some_and(Upgrade::stops);
    stops && turn_of(draft, id).is_some_and(|turn| repair::span(turn.since, draft.now) >= sight.drain_max + STEP_MAX)
}

fn turn_of<'a>(draft: &'a Draft, id: &str) -> Option<&'a NodeTurn> {
    draft.cluster.upgrade.as_ref()?.turns.iter().find(|turn| turn.machine_id == id)
}

fn drop_turn(id: &str, draft: &mut Draft) {
    draft.upgrade(|upgrade| {
        upgrade.turns.retain(|turn| turn.machine_id != id);
        upgrade.message.clear();
    });
}

/// A round of the drain; an emptied node is told to be of the new version.
async fn drain(ctx: &Context, sight: &Sight<'_>, id: &str, draft: &mut Draft) {
    let scope = sight.scope;
    let Some(machine) = scope.workers().find(|machine| machine.id == id) else { return };
    let node = machine.membership.as_ref().map_or("", |member| &member.node_name);
    let is_fresh = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < DRAIN_ROUND);
    if is_fresh(ctx.memory.machine(id).drain_round) {
        return;
    }
    let outcome = within(ACCESS_CALL_MAX, "draining the node", ctx.access.drain(&scope.cluster, node)).await;
    ctx.memory.with_machine(id, |memory| memory.drain_round = Some(Instant::now()));
    let left = match outcome {
        Ok(DrainOutcome::Done) => return switch_node(machine, draft),
        Ok(DrainOutcome::Waiting(what)) => what,
        Err(fault) => fault.message,
    };
    let since = turn_of(draft, id).map_or(draft.now, |turn| turn.since);
    if repair::span(since, draft.now) >= sight.drain_max {
        let seconds = sight.drain_max.as_secs();
        draft.halt(format!("{} could not be emptied within {seconds} s: {left}", title(machine)));
    } else {
        draft.say(format!("{} is being emptied: {left}", title(machine)));
    }
}

fn switch_node(machine: &sampan_store::model::Machine, draft: &mut Draft) {
    let (id, now) = (&machine.id, draft.now);
    draft.machine(id, |machine| {
        if let Some(member) = &mut machine.membership {
            member.version = None;
        }
    });
    draft.journal.log(format!("{} is empty and goes to {}", title(machine), draft.cluster.version));
    draft.upgrade(|upgrade| {
        for turn in upgrade.turns.iter_mut().filter(|turn| turn.machine_id == *id) {
            (turn.switched, turn.since) = (true, now);
        }
    });
}

fn end(state: UpgradeState, draft: &mut Draft) {
    let Some(upgrade) = draft.cluster.upgrade.clone() else { return };
    let now = draft.now;
    let took = repair::span(upgrade.started, now).as_secs_f64();
    let to = &upgrade.to;
    let (level, reason, text) = match state {
        UpgradeState::Success => {
            (Level::Info, "UpgradeSucceeded", format!("the upgrade to {to} succeeded after {took:.1} s"))
        }
        UpgradeState::Paused => (Level::Info, "UpgradePaused", format!("the upgrade to {to} is paused")),
        UpgradeState::Cancelled if upgrade.wanted == UpgradeWanted::Run => (
            Level::Info,
            "UpgradeWindowClosed",
            format!("the maintenance window has closed; nodes that do not have {to} yet follow in the next one"),
        ),
        UpgradeState::Cancelled => (
            Level::Warning,
            "UpgradeCancelled",
            format!("the upgrade to {to} was cancelled; the control plane has {}", draft.cluster.version),
        ),
        UpgradeState::Failed | UpgradeState::Running => (
            Level::Error,
            "UpgradeFailed",
            format!(
                "the upgrade to {to} failed: {}; it can be resumed",
                upgrade.halt.as_deref().unwrap_or("no reason known")
            ),
        ),
    };
    draft.tell(level, reason, text.clone());
    draft.upgrade(|upgrade| {
        upgrade.state = state;
        upgrade.ended = (state != UpgradeState::Paused).then_some(now);
        upgrade.error = match state {
            UpgradeState::Failed => upgrade.halt.take(),
            UpgradeState::Cancelled => Some(text.clone()),
            _ => None,
        };
        upgrade.message = text;
    });
}
