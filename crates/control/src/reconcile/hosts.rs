//! A host's own controller. Nobody made it, so nobody makes it anew: its agent's connection is all there is to see of its
//! power, and all that can be repaired is what its agent runs.
//!
//! A bare host is one that a container of ours plays: that container is made and started, whether the host is in a cluster
//! or in the inventory, and nothing of ours is put on it.

use std::{collections::BTreeMap, time::Duration};

use sampan_provider::{CPU_WEIGHT, MachinePower, MachineSpec};
use sampan_store::{
    Batch, Versioned,
    model::{Fault, FaultKind, HostMachine, Level, Machine, MachineState, MachineWanted, Outcome},
};
use tokio::time::Instant;

use super::{
    context::{Context, engine, within},
    driver::Status,
    machines::title,
    memory::Note,
    network, removal, repair,
    scope::Scope,
    specs,
};

/// Where a bare host has a file system that containers' layers can lie on: everything below, as on a real disk.
const VOLUMES: [(&str, &str); 1] = [("/var/lib", "lib")];
/// A host whose agent is away is looked at again after this time; it wakes us when it is back.
const SILENT_LOOK: Duration = Duration::from_secs(15);
/// A host that is away and shall go is waited for so long. It removes what is on it when it hears of that.
const GONE_AFTER: Duration = Duration::from_secs(60);
/// Stopping and removing everything on a host.
const LEAVE_MAX: Duration = Duration::from_secs(180);
const RESTART_MAX: Duration = Duration::from_secs(40);
const RETRY: Duration = Duration::from_secs(2);

/// Looks at a member of a cluster and does what can be done now.
pub(super) async fn run(ctx: &Context, scope: &Scope, machine: &Versioned<Machine>) -> Result<Status, Note> {
    if is_bare(machine) {
        keep_container(ctx, machine).await?;
    }
    if !ctx.agents.is_connected(&machine.id) {
        ctx.memory.with_machine(&machine.id, |memory| {
            memory.silent_since.get_or_insert_with(Instant::now);
        });
        return Ok(Status::again(SILENT_LOOK, "waits for the agent of the host to connect"));
    }
    ctx.memory.with_machine(&machine.id, |memory| memory.silent_since = None);
    if machine.state == MachineState::Pending {
        ctx.edit_machine(&scope.cluster, &machine.id, |machine, journal| {
            if machine.state != MachineState::Pending {
                return false;
            }
            machine.state = MachineState::Starting;
            journal.log(format!("{} has connected", title(machine)));
            true
        })
        .await?;
    }
    let again = mend(ctx, scope, machine).await?;
    Ok(specs::push(ctx, scope, machine).await?.sooner(again))
}

/// What runs on a host that has been of no use for too long is started again, less often each time.
async fn mend(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<Status, Note> {
    let Some(since) = machine.not_ready_since.filter(|_| machine.state == MachineState::Running) else {
        return heal(ctx, scope, machine).await.map(|()| Status::Settled);
    };
    let patience = ctx.settings.limits.not_ready * (1 + machine.repairs.min(10));
    let last = ctx.memory.machine(&machine.id).repaired.map(|at| at.elapsed());
    let lasts = repair::span(since, ctx.now()).min(ctx.started.elapsed()).min(last.unwrap_or(Duration::MAX));
    if lasts < patience {
        return Ok(Status::again(
            patience - lasts,
            "is not in service; what runs on it is started again if that lasts",
        ));
    }
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, journal| {
        machine.repairs = machine.repairs.saturating_add(1);
        if repair::is_worth_telling(machine.repairs) {
            let text = format!(
                "host {} has been out of service for too long; what runs on it is started again (repair {})",
                machine.ip, machine.repairs
            );
            journal.machine_event(machine, Level::Warning, repair::NOT_READY, text);
        }
        true
    })
    .await?;
    ctx.memory.with_machine(&machine.id, |memory| memory.repaired = Some(Instant::now()));
    within(RESTART_MAX, "restarting what runs on the host", ctx.agents.restart(&machine.id)).await?;
    Ok(Status::again(patience, "was repaired"))
}

/// A host that has been in service for long enough since its last repair starts to count anew.
async fn heal(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<(), Note> {
    let since = ctx.memory.machine(&machine.id).repaired.map_or(repair::HEALED_AFTER, |at| at.elapsed());
    if machine.repairs == 0 || since < repair::HEALED_AFTER {
        return Ok(());
    }
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, _| std::mem::take(&mut machine.repairs) > 0).await?;
    Ok(())
}

/// Makes the host forget us; `Some` while that is not done.
pub(super) async fn leave(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<Option<Status>, Note> {
    if machine.host.as_ref().is_some_and(|host| host.left) {
        return Ok(None);
    }
    if !ctx.agents.is_connected(&machine.id) {
        if removal::elapsed(ctx, machine) < GONE_AFTER {
            return Ok(Some(Status::again(RETRY, "waits for the agent of the host, which shall remove what is on it")));
        }
        let text = format!(
            "host {} is not connected: it removes what is on it as soon as it reaches the server again, or by `sampan host \
             leave` on it",
            machine.ip
        );
        record_left(ctx, scope, machine, Level::Warning, "HostUnreachable", &text).await?;
        return Ok(None);
    }
    let left = within(LEAVE_MAX, "removing what is on the host", ctx.agents.leave(&machine.id)).await;
    match left {
        Ok(left) if left.is_empty() => {
            let text = format!("host {} has left; nothing of ours is on it", machine.ip);
            record_left(ctx, scope, machine, Level::Info, "HostLeft", &text).await?;
            Ok(None)
        }
        Ok(left) => {
            let text = format!("host {} has left; this could not be removed: {}", machine.ip, left.join("; "));
            record_left(ctx, scope, machine, Level::Warning, "HostLeftovers", &text).await?;
            Ok(None)
        }
        Err(fault) => Ok(Some(Status::again(RETRY, format!("is being removed from the host: {}", fault.message)))),
    }
}

async fn record_left(
    ctx: &Context,
    scope: &Scope,
    machine: &Machine,
    level: Level,
    reason: &str,
    text: &str,
) -> Outcome<()> {
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, journal| {
        let host = machine.host.get_or_insert_with(HostMachine::default);
        if std::mem::replace(&mut host.left, true) {
            return false;
        }
        journal.machine_event(machine, level, reason, text);
        true
    })
    .await
    .map(drop)
}

/// Looks at a host that is in no cluster: only a bare one has anything to be done about.
pub(super) async fn keep(ctx: &Context, machine: &Versioned<Machine>) -> Outcome<Status> {
    let _alone = ctx.memory.lock(&machine.id).await;
    if !is_bare(machine) {
        return Ok(Status::Settled);
    }
    if machine.wanted == MachineWanted::Release {
        return release(ctx, machine).await;
    }
    match keep_container(ctx, machine).await {
        Ok(()) => Ok(Status::Settled),
        Err(note) => Err(Fault::unavailable(note.message)),
    }
}

async fn release(ctx: &Context, machine: &Versioned<Machine>) -> Outcome<Status> {
    let name = ctx.names.machine(&machine.id);
    let removed = engine("removing the bare host", ctx.provider.delete_machine(&name)).await;
    removed.map_err(|error| Fault::unavailable(error.to_string()))?;
    let mut batch = Batch::new();
    batch.expect_revision::<Machine>(&machine.id, Some(machine.revision)).delete::<Machine>(&machine.id);
    batch.delete_secrets_under(&format!("machine/{}/", machine.id));
    match ctx.store.commit(batch).await.map_err(Fault::from) {
        // Somebody changed it in this moment, and woke us.
        Err(fault) if fault.kind == FaultKind::Conflict => Ok(Status::Settled),
        outcome => outcome.map(|()| Status::Settled),
    }
}

fn is_bare(machine: &Machine) -> bool {
    machine.host.as_ref().is_some_and(|host| host.bare)
}

/// The container that plays the host runs.
async fn keep_container(ctx: &Context, machine: &Machine) -> Result<(), Note> {
    network::ensure(ctx, &machine.vpc_id).await?;
    let name = ctx.names.machine(&machine.id);
    let seen = engine("looking at the bare host", ctx.provider.machine(&name)).await?;
    let done = match seen.map(|status| status.power) {
        Some(MachinePower::Running) => return Ok(()),
        Some(MachinePower::Created | MachinePower::Exited) => {
            engine("starting the bare host", ctx.provider.restart_machine(&name)).await
        }
        None => {
            let spec = container(ctx, machine)?;
            engine("making the bare host", ctx.provider.ensure_machine(&spec)).await.map(drop)
        }
    };
    if done.is_err() {
        network::doubt(ctx, &machine.vpc_id);
    }
    Ok(done?)
}

fn container(ctx: &Context, machine: &Machine) -> Result<MachineSpec, Note> {
    let image = ctx.settings.bare_image.clone().ok_or_else(|| {
        Fault::unavailable("this installation was built without the image of bare hosts; run cargo xtask build")
    })?;
    let label = |name: &str, value: &str| (format!("io.sampan.{name}"), value.to_owned());
    let size = (ctx.settings.sizes)(machine);
    Ok(MachineSpec {
        name: ctx.names.machine(&machine.id),
        hostname: machine.id.clone(),
        image,
        network: ctx.names.network(&machine.vpc_id),
        ip: machine.ip,
        mac: machine.mac.clone(),
        env: BTreeMap::new(),
        mounts: Vec::new(),
        volumes: VOLUMES.iter().map(|(target, suffix)| ((*target).to_owned(), (*suffix).to_owned())).collect(),
        shared_volumes: BTreeMap::new(),
        cpu_millis: size.cpu_millis,
        cpu_weight: CPU_WEIGHT,
        memory_bytes: size.memory_bytes,
        labels: [label("machine", &machine.id), label("bare", "true")].into(),
    })
}
