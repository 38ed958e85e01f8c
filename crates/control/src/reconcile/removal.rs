//! A machine leaves its cluster: drained if so wished, its node object deleted, its container destroyed; then its record
//! is removed or goes back to the inventory. Converges with any of these missing, and in bounded time.

use std::{sync::Arc, time::Duration};

use sampan_provider::MachinePower;
use sampan_store::{
    Batch, Versioned,
    model::{Cluster, EtcdMember, Level, Machine, MachineState, MachineWanted, Outcome, Setting, Task, new_machine_id},
};
use tokio::time::Instant;

use super::{
    context::{Context, engine, within},
    driver::Status,
    hosts,
    journal::Journal,
    machines::title,
    memory::{MachineMemory, Note},
    repair,
    scope::{Departure, Fate, Life, Scope, fate, life},
    settings::ACCESS_CALL_MAX,
};
use crate::ports::{BLOCKED_BY, DrainOutcome};

/// Pause between two rounds of a drain.
const DRAIN_ROUND: Duration = Duration::from_secs(1);

/// Takes the machine out of its cluster as far as that is possible now.
pub(super) async fn go(
    ctx: &Context,
    scope: &Scope,
    machine: &Versioned<Machine>,
    departure: &Departure,
) -> Result<Status, Note> {
    mark(ctx, scope, machine, departure).await?;
    let name = ctx.names.machine(&machine.id);
    if departure.drain || departure.delete_node {
        let runs = match &machine.host {
            Some(_) => ctx.agents.is_connected(&machine.id),
            None => {
                let status = engine("looking at the machine", ctx.provider.machine(&name)).await?;
                status.is_some_and(|status| status.power == MachinePower::Running)
            }
        };
        // Nothing can be evicted in good order from a machine that does not run.
        if departure.drain
            && runs
            && let Some(wait) = drain(ctx, scope, machine).await?
        {
            return Ok(wait);
        }
    }
    if departure.delete_node {
        delete_node(ctx, scope, machine).await?;
    }
    match &machine.host {
        // A container that plays a host and goes has nobody who would miss what is left on it.
        Some(host) if !host.bare || departure.keep => {
            if let Some(wait) = hosts::leave(ctx, scope, machine).await? {
                return Ok(wait);
            }
        }
        _ => engine("removing the machine", ctx.provider.delete_machine(&name)).await?,
    }
    finish(ctx, scope, &machine.id, departure).await?;
    Ok(Status::Settled)
}

async fn mark(ctx: &Context, scope: &Scope, machine: &Machine, departure: &Departure) -> Outcome<()> {
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, journal| {
        if machine.state == MachineState::Removing {
            return false;
        }
        machine.state = MachineState::Removing;
        let what = if scope.cluster.is_swarm() { "containers are moved" } else { "pods are evicted" };
        let how = if departure.drain { format!(": its {what}") } else { String::new() };
        journal.log(format!("{} leaves the cluster{how}", title(machine)));
        true
    })
    .await?;
    Ok(())
}

/// One round of the drain; `Some` when there must be another one.
async fn drain(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<Option<Status>, Note> {
    let node = node_name(machine);
    let outcome = within(ACCESS_CALL_MAX, "draining the node", ctx.access.drain(&scope.cluster, node)).await;
    let left = match &outcome {
        Ok(DrainOutcome::Done) => return Ok(None),
        Ok(DrainOutcome::Waiting(what)) => what.clone(),
        Err(fault) => fault.message.clone(),
    };
    if elapsed(ctx, machine) < ctx.settings.limits.drain {
        outcome?;
        tell_blocked(ctx, scope, machine, &left).await?;
        return Ok(Some(Status::again(DRAIN_ROUND, format!("is being drained: {left}"))));
    }
    if ctx.memory.with_machine(&machine.id, |memory| std::mem::replace(&mut memory.drain_given_up, true)) {
        return Ok(None);
    }
    let minutes = ctx.settings.limits.drain.as_secs() / 60;
    let text =
        format!("{} could not be drained within {minutes} min and is removed all the same: {left}", title(machine));
    let mut journal = Journal::of(&scope.cluster, ctx.now());
    journal.machine_event(machine, Level::Warning, "DrainIncomplete", text);
    ctx.tell(journal).await?;
    Ok(None)
}

/// Says once which budget keeps pods on the node; what becomes of it is in the task's stage.
async fn tell_blocked(ctx: &Context, scope: &Scope, machine: &Machine, left: &str) -> Outcome<()> {
    let is_news = |memory: &mut MachineMemory| !std::mem::replace(&mut memory.drain_blocked, true);
    if !left.contains(BLOCKED_BY) || !ctx.memory.with_machine(&machine.id, is_news) {
        return Ok(());
    }
    let minutes = ctx.settings.limits.drain.as_secs() / 60;
    let text = format!(
        "the drain of {} is blocked: {left}; after {minutes} min in all the machine is removed nevertheless",
        title(machine)
    );
    let mut journal = Journal::of(&scope.cluster, ctx.now());
    journal.machine_event(machine, Level::Warning, "DrainBlocked", text);
    ctx.tell(journal).await
}

/// The node object goes before the machine. When the API does not answer for as long as a drain may take, the machine goes
/// without: the cluster's controller removes node objects without a machine later. So it does at once when etcd is gone with
/// the disks of all its members, as nobody could answer then.
async fn delete_node(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<(), Note> {
    if !scope.running_control_planes().iter().any(|machine| machine.may_run_etcd()) {
        return Ok(());
    }
    let call = ctx.access.delete_node(&scope.cluster, node_name(machine));
    match within(ACCESS_CALL_MAX, "deleting the node", call).await {
        Err(fault) if elapsed(ctx, machine) < ctx.settings.limits.drain => Err(fault.into()),
        _ => Ok(()),
    }
}

fn node_name(machine: &Machine) -> &str {
    machine.membership.as_ref().map_or("", |member| &member.node_name)
}

/// Time since the removal was asked for, or since we first tried.
pub(super) fn elapsed(ctx: &Context, machine: &Machine) -> Duration {
    let task = machine.removal_task_id.as_deref().and_then(|id| ctx.store.get::<Task>(id));
    match task {
        Some(task) => repair::span(task.created, ctx.now()),
        None => ctx
            .memory
            .with_machine(&machine.id, |memory| memory.draining_since.get_or_insert_with(Instant::now).elapsed()),
    }
}

/// The machine is gone; so goes its record, or its membership.
async fn finish(ctx: &Context, scope: &Scope, machine_id: &str, departure: &Departure) -> Outcome<()> {
    // Read anew: what is wanted may have changed while it was being removed; then that change has woken us again.
    let Some(machine) = ctx.store.get::<Machine>(machine_id) else { return Ok(()) };
    let is_member = machine.cluster_id() == Some(scope.cluster.id.as_str());
    let cluster = ctx.store.get::<Cluster>(&scope.cluster.id).unwrap_or_else(|| Arc::clone(&scope.cluster));
    if !is_member || fate(&cluster, &machine) != Fate::Go(departure.clone()) {
        return Ok(());
    }
    let mut journal = Journal::of(&scope.cluster, ctx.now());
    let mut batch = Batch::new();
    // Its certificates in this cluster.
    batch.delete_secret(&format!("cluster/{}/machine/{machine_id}", scope.cluster.id));
    if departure.rejoin {
        batch.update(machine.revision, &rejoining(&machine));
        journal.log(format!("{} is made from scratch", title(&machine)));
    } else if departure.keep && machine.host.as_ref().is_none_or(|host| host.bare) {
        batch.update(machine.revision, &machine.kept());
        journal.log(format!("{} has left the cluster and is kept", title(&machine)));
    } else {
        batch.expect_revision::<Machine>(machine_id, Some(machine.revision)).delete::<Machine>(machine_id);
        journal.log(format!("{} has been released", title(&machine)));
    }
    let order = replacement_id(machine_id);
    if ctx.store.get::<Setting>(&order).is_some() {
        batch.delete::<Setting>(&order);
        if let Some(successor) = successor(ctx, scope, &machine, departure) {
            journal.log(format!("{} takes its place", title(&successor)));
            batch.create(&successor);
        }
    }
    journal.write_to(&mut batch);
    Ok(ctx.store.commit(batch).await?)
}

/// The machine as it joins its cluster again, at its place, for the task that reset it.
fn rejoining(machine: &Machine) -> Machine {
    let Some(mut membership) = machine.membership.clone() else { return machine.kept() };
    if let Some(task_id) = machine.removal_task_id.clone() {
        membership.task_id = task_id;
    }
    machine.joining(membership)
}

/// Name of the record that says: when this machine is gone, another one takes its place.
fn replacement_id(machine_id: &str) -> String {
    format!("replacement/{machine_id}")
}

/// Gives the machine up: it is released, and a new one takes over its place and its addresses.
pub(super) async fn replace(
    ctx: &Context,
    scope: &Scope,
    machine: &Versioned<Machine>,
    reason: &str,
    why: &str,
) -> Outcome<()> {
    let text = format!("{} {why} and is replaced by a new one", title(machine));
    let mut journal = Journal::of(&scope.cluster, ctx.now());
    journal.machine_event(machine, Level::Error, "MachineReplaced", &text);
    let mut given_up = machine.value.clone();
    given_up.wanted = MachineWanted::Release;
    given_up.drain = false;
    given_up.state = MachineState::Removing;
    given_up.error = Some(text);
    let mut batch = Batch::new();
    batch.update(machine.revision, &given_up);
    batch.put(&Setting { id: replacement_id(&machine.id), value: serde_json::json!({ "reason": reason }) });
    journal.write_to(&mut batch);
    ctx.store.commit(batch).await?;
    ctx.wake_machine(&machine.id);
    Ok(())
}

/// The machine that takes the place of one that was given up; none if it was asked to go in the meantime. It begins only
/// when the old one's record ends, so the addresses never have two owners.
fn successor(ctx: &Context, scope: &Scope, machine: &Machine, departure: &Departure) -> Option<Machine> {
    let asked_to_go = machine.removal_task_id.is_some() || departure.keep;
    let mut membership = machine.membership.clone()?;
    let pool = membership.node_pool_id.as_ref().map(|id| scope.pool(id).is_some_and(|pool| !pool.deleting));
    // One of several machines of a control plane is in no pool.
    let place_stays = pool.unwrap_or(membership.etcd.is_some());
    let lives = matches!(life(&scope.cluster), Life::Alive | Life::Stopping | Life::Restoring);
    // A machine that was added for an upgrade alone: the upgrade goes on without it.
    let is_surge = scope.cluster.upgrade.iter().flat_map(|upgrade| &upgrade.surge);
    let is_surge = is_surge.into_iter().any(|surge| surge.machine_ids.contains(&machine.id));
    if asked_to_go || is_surge || !place_stays || !lives {
        return None;
    }
    // What its predecessor knew is gone: it begins with what the others know.
    membership.etcd = membership.etcd.map(|_| EtcdMember::newcomer(true));
    let (now, repair) = (ctx.now(), machine.repair.clone());
    Some(Machine { id: new_machine_id(), created: now, mending: Some(now), repair, ..machine.joining(membership) })
}
