//! A machine's own controller: its container runs, its agent is connected and knows what to be; else it is repaired.

use std::time::Duration;

use sampan_provider::{CPU_WEIGHT, MachinePower, MachineSpec, MachineStatus, Mount, ProviderError};
use sampan_store::Versioned;
use sampan_store::model::{Fault, Level, Machine, MachineRole, MachineState, Outcome};
use tokio::time::Instant;

use super::{
    context::{Context, engine, machine_token},
    driver::Status,
    hosts, lease,
    memory::{EXHAUSTED, Note},
    mending, network, power, removal,
    repair::{self, Step},
    scope::{Fate, Scope, fate, role},
    settings::{AGENTS_TARGET, IMAGES_TARGET},
    specs, turns,
};
use crate::{kubernetes, swarm};

/// An agent that does not report by itself is asked again after this time.
const AGENT_WAIT: Duration = Duration::from_secs(2);
/// A control plane goes before workers: all of its cluster waits for it, when it starts and when pods use all processors.
const CONTROL_PLANE_CPU_WEIGHT: u16 = 16 * CPU_WEIGHT;

/// Looks at one machine and does what can be done now.
pub(super) async fn reconcile(ctx: &Context, machine_id: &str) -> Outcome<Status> {
    let Some(machine) = ctx.store.get::<Machine>(machine_id) else {
        ctx.memory.forget_machine(machine_id);
        return Ok(Status::Settled);
    };
    // A machine in the inventory has no container; one of a cluster whose record is gone is garbage's business.
    let Some(scope) = machine.cluster_id().and_then(|id| Scope::load(&ctx.store, id)) else {
        return if machine.host.is_some() { hosts::keep(ctx, &machine).await } else { Ok(Status::Settled) };
    };
    let now = ctx.now();
    if let Some(until) = lease::hold(&ctx.store, &ctx.identity, &scope.cluster.id, now).await? {
        return Ok(Status::again(repair::span(now, until), "another server works on a task of the cluster"));
    }
    let _alone = ctx.memory.lock(machine_id).await;
    let outcome = match fate(&scope.cluster, &machine) {
        Fate::Run if machine.host.is_some() => hosts::run(ctx, &scope, &machine).await,
        Fate::Run => run(ctx, &scope, &machine).await,
        Fate::Frozen => Ok(Status::Settled),
        Fate::Halt => power::halt(ctx, &scope, &machine).await,
        Fate::Go(departure) => {
            let outcome = removal::go(ctx, &scope, &machine, &departure).await;
            if matches!(outcome, Ok(Status::Settled)) {
                // Its container is gone. If the machine was taken from the inventory in this very moment, what is
                // remembered of its former life does not hold.
                ctx.memory.forget_machine(machine_id);
            }
            outcome
        }
    };
    report(ctx, &scope, machine_id, outcome)
}

/// Remembers what hinders the machine, for the cluster's status, and lets the cluster look when that is news.
fn report(ctx: &Context, scope: &Scope, machine_id: &str, outcome: Result<Status, Note>) -> Outcome<Status> {
    let note = match &outcome {
        Ok(Status::Settled) => None,
        Ok(Status::Again { reason, .. }) => Some(Note::waiting(reason)),
        Err(note) => Some(note.clone()),
    };
    let is_there = ctx.store.get::<Machine>(machine_id).is_some_and(|machine| machine.membership.is_some());
    if !is_there {
        ctx.memory.forget_machine(machine_id);
        ctx.wake_cluster(&scope.cluster.id);
    } else if ctx.memory.set_note(machine_id, note) {
        ctx.wake_cluster(&scope.cluster.id);
    }
    outcome.map_err(|note| Fault::unavailable(note.message))
}

async fn run(ctx: &Context, scope: &Scope, machine: &Versioned<Machine>) -> Result<Status, Note> {
    network::ensure(ctx, &machine.vpc_id).await?;
    let name = ctx.names.machine(&machine.id);
    let status = engine("looking at the machine", ctx.provider.machine(&name)).await?;
    let seen = observe(ctx, scope, machine, status.as_ref());
    let limits = &ctx.settings.limits;
    let step = mending::ordered(machine, &seen, limits).unwrap_or_else(|| repair::decide(machine, &seen, limits));
    let mending::Admitted { step, alone } = mending::admit(ctx, scope, machine, step).await?;
    let next = match step {
        Step::Fine => Status::Settled,
        Step::Wait(after) => Status::again(after, "is not in service; it is started again if that lasts"),
        Step::Make | Step::Start(repair::LOST)
            if was_made(machine) && turns::has_lost_its_data(ctx, machine).await? =>
        {
            removal::replace(ctx, scope, machine, repair::LOST, "has lost its disks").await?;
            return Ok(Status::again(Duration::ZERO, "is replaced"));
        }
        Step::Make => make(ctx, scope, machine).await.map(|()| Status::Settled)?,
        Step::Boot => {
            if status.as_ref().is_some_and(|status| status.power != MachinePower::Running) {
                restart(ctx, machine, "starting the machine").await?;
            }
            make_started(ctx, scope, machine).await?;
            Status::Settled
        }
        Step::Start(reason) => {
            record_repair(ctx, scope, machine, reason, &why(reason, status.as_ref())).await?;
            if reason == repair::LOST {
                make(ctx, scope, machine).await?;
            } else {
                // Not made anew: an older machine's image may be another than today's.
                restart(ctx, machine, "starting the machine").await?;
            }
            Status::Settled
        }
        Step::Restart(reason) => {
            turns::take(ctx, scope, machine).await?;
            record_repair(ctx, scope, machine, reason, &why(reason, status.as_ref())).await?;
            drop(alone);
            restart(ctx, machine, "restarting the machine").await?;
            Status::Settled
        }
        Step::Hold(why) => Status::again(mending::HELD_FOR, format!("is not repaired now: {why}")),
        Step::Renew => {
            turns::take(ctx, scope, machine).await?;
            renew(ctx, scope, machine).await?;
            Status::Settled
        }
        Step::Replace(reason) => {
            turns::take(ctx, scope, machine).await?;
            let why = match machine.repair {
                Some(_) => "is not in service after its restart".to_owned(),
                None => format!("was repaired {} times", machine.repairs),
            };
            removal::replace(ctx, scope, machine, reason, &why).await?;
            return Ok(Status::again(Duration::ZERO, "is replaced"));
        }
    };
    heal(ctx, scope, machine).await?;
    if !ctx.agents.is_connected(&machine.id) {
        return Ok(next.sooner(Status::again(AGENT_WAIT, "waits for the machine's agent to connect")));
    }
    Ok(specs::push(ctx, scope, machine).await?.sooner(next))
}

/// Whether it had a container before.
fn was_made(machine: &Machine) -> bool {
    !matches!(machine.state, MachineState::Pending | MachineState::Kept)
}

fn observe(ctx: &Context, scope: &Scope, machine: &Machine, status: Option<&MachineStatus>) -> repair::Seen {
    let power = status.map(|status| status.power);
    // A cluster whose version the present image lacks could not run on it.
    let cluster = &scope.cluster;
    let has_version = cluster.is_swarm()
        || ctx.settings.node_image_versions.iter().any(|version| version == machine.version(cluster));
    let outdated = has_version && status.is_some_and(|status| status.image != ctx.settings.node_image);
    let starved = ctx.memory.machine(&machine.id).note.is_some_and(|note| note.reason == EXHAUSTED);
    let connected = ctx.agents.is_connected(&machine.id);
    let runs = power == Some(MachinePower::Running);
    let all_silent = !connected && !ctx.store.list::<Machine>().iter().any(|other| ctx.agents.is_connected(&other.id));
    ctx.memory.with_machine(&machine.id, |memory| {
        memory.silent_since = (runs && !connected).then(|| memory.silent_since.unwrap_or_else(Instant::now));
        repair::Seen {
            power,
            outdated,
            starved,
            connected,
            silent: memory.silent_since.map_or(Duration::ZERO, |since| since.elapsed()),
            since_repair: memory.repaired.map(|at| at.elapsed()),
            watched: ctx.started.elapsed(),
            cluster_is_new: scope.cluster.first_running.is_none(),
            all_silent,
            is_upgraded: scope.has_turn(&machine.id),
            replaceable: turns::could_be_replaced(scope, machine),
            now: ctx.now(),
        }
    })
}

/// Makes and starts the container, or finds it.
async fn make(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<(), Note> {
    let spec = machine_spec(ctx, scope, machine);
    if let Err(error) = engine("making the machine", ctx.provider.ensure_machine(&spec)).await {
        network::doubt(ctx, &machine.vpc_id);
        if machine.state == MachineState::Pending && matches!(error, ProviderError::Conflict(_)) {
            // A container of another image, left by a former run: nothing is on it yet.
            engine("removing the machine", ctx.provider.delete_machine(&spec.name)).await?;
        }
        return Err(error.into());
    }
    make_started(ctx, scope, machine).await
}

/// Its container runs, which it did not before.
async fn make_started(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<(), Note> {
    let now = ctx.now();
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, journal| {
        match machine.state {
            MachineState::Pending | MachineState::Kept => {}
            // What Kubernetes says of its node is from before it was stopped.
            MachineState::Stopped => machine.not_ready_since = Some(now),
            _ => return false,
        }
        machine.state = MachineState::Starting;
        journal.log(format!("{} has started", title(machine)));
        true
    })
    .await?;
    Ok(())
}

/// Makes the container anew from the present image; the machine keeps its volumes and its addresses. A server that is
/// killed in between finds the machine lost and makes it.
async fn renew(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<(), Note> {
    let now = ctx.now();
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, journal| {
        machine.not_ready_since = Some(now);
        let text = format!("{} is made anew from the node image of this server; its disks stay", title(machine));
        journal.machine_event(machine, Level::Info, "MachineRenewed", text);
        true
    })
    .await?;
    ctx.memory.with_machine(&machine.id, |memory| memory.sent = None);
    let name = ctx.names.machine(&machine.id);
    engine("ending the machine", ctx.provider.unmake_machine(&name)).await?;
    make(ctx, scope, machine).await
}

/// Stops it, where it runs, and starts it. Its network may be why that fails: the next try makes sure of it first.
async fn restart(ctx: &Context, machine: &Machine, what: &str) -> Result<(), Note> {
    let name = ctx.names.machine(&machine.id);
    let outcome = engine(what, ctx.provider.restart_machine(&name)).await;
    if outcome.is_err() {
        network::doubt(ctx, &machine.vpc_id);
    }
    Ok(outcome?)
}

fn machine_spec(ctx: &Context, scope: &Scope, machine: &Machine) -> MachineSpec {
    let settings = &ctx.settings;
    let token = machine_token(ctx.store.master_key(), &machine.id);
    let mount = |source: &std::path::Path, target: &str| Mount {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: true,
    };
    let is_control_plane = role(machine).is_some_and(MachineRole::is_control_plane);
    let is_swarm = scope.cluster.is_swarm();
    let own: &[(&str, &str)] = match (is_swarm, is_control_plane) {
        (true, _) => &swarm::VOLUMES,
        (false, true) => &kubernetes::CONTROL_PLANE_VOLUMES,
        (false, false) => &kubernetes::WORKER_VOLUMES,
    };
    let volumes = own.iter().chain(&[("/var/lib/sampan", "sampan")]);
    let shared = is_swarm.then(|| (swarm::SHARED_DIR.to_owned(), ctx.names.shared_volume(&scope.cluster.id)));
    let size = (settings.sizes)(machine);
    let label = |name: &str, value: &str| (format!("io.sampan.{name}"), value.to_owned());
    MachineSpec {
        name: ctx.names.machine(&machine.id),
        hostname: machine.membership.as_ref().map_or(machine.id.clone(), |member| member.node_name.clone()),
        image: settings.node_image.clone(),
        network: ctx.names.network(&machine.vpc_id),
        ip: machine.ip,
        mac: machine.mac.clone(),
        env: [("SAMPAN_MACHINE_ID".to_owned(), machine.id.clone()), ("SAMPAN_MACHINE_TOKEN".to_owned(), token)].into(),
        mounts: vec![mount(&settings.agents_dir, AGENTS_TARGET), mount(&settings.images_dir, IMAGES_TARGET)],
        volumes: volumes.map(|(target, suffix)| ((*target).to_owned(), (*suffix).to_owned())).collect(),
        shared_volumes: shared.into_iter().collect(),
        cpu_millis: size.cpu_millis,
        cpu_weight: if is_control_plane { CONTROL_PLANE_CPU_WEIGHT } else { CPU_WEIGHT },
        memory_bytes: size.memory_bytes,
        labels: [label("cluster", &scope.cluster.id), label("machine", &machine.id)].into(),
    }
}

/// Counts the repair before it is done, so that a killed server cannot repair for ever without counting.
async fn record_repair(ctx: &Context, scope: &Scope, machine: &Machine, reason: &str, why: &str) -> Result<(), Note> {
    let now = ctx.now();
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, journal| {
        machine.repairs = machine.repairs.saturating_add(1);
        machine.not_ready_since = Some(now);
        if [repair::NOT_READY, repair::SILENT, repair::ORDERED].contains(&reason) {
            machine.mending = Some(now);
        }
        if let Some(order) = &mut machine.repair {
            order.restarted = true;
        }
        if machine.state == MachineState::Running && role(machine).is_some_and(MachineRole::is_node) {
            machine.node_status = Some("NotReady".to_owned());
        }
        if repair::is_worth_telling(machine.repairs) {
            let text = format!("{} {why}; it is started again (repair {})", title(machine), machine.repairs);
            journal.machine_event(machine, Level::Warning, reason, text);
        }
        true
    })
    .await?;
    ctx.memory.with_machine(&machine.id, |memory| {
        memory.repaired = Some(Instant::now());
        memory.silent_since = None;
        // What it was told may be gone with its disks.
        memory.sent = None;
    });
    Ok(())
}

/// A machine that has been in service for long enough since its last repair starts to count anew.
async fn heal(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<(), Note> {
    let is_well = machine.state == MachineState::Running && machine.not_ready_since.is_none();
    if machine.repairs == 0 || !is_well {
        return Ok(());
    }
    // After a restart of the server the time is counted from now on.
    let since = ctx.memory.with_machine(&machine.id, |memory| *memory.repaired.get_or_insert_with(Instant::now));
    if since.elapsed() < repair::HEALED_AFTER {
        return Ok(());
    }
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, _| std::mem::take(&mut machine.repairs) > 0).await?;
    Ok(())
}

fn why(reason: &str, status: Option<&MachineStatus>) -> String {
    match reason {
        repair::LOST => "has vanished from the engine".to_owned(),
        repair::SILENT => "runs, but its agent does not connect".to_owned(),
        repair::ORDERED => "is not in service, and its repair was asked for".to_owned(),
        repair::NOT_READY => "runs, but has been out of service for too long".to_owned(),
        _ => {
            let code = status.and_then(|status| status.exit_code);
            let error = status.and_then(|status| status.error.clone()).filter(|error| !error.is_empty());
            match (code, error) {
                (_, Some(error)) => format!("ended: {error}"),
                (Some(code), None) => format!("ended with exit code {code}"),
                (None, None) => "ended".to_owned(),
            }
        }
    }
}

/// How log lines and events call a machine.
pub(super) fn title(machine: &Machine) -> String {
    match role(machine) {
        Some(MachineRole::ControlPlane) => format!("control plane machine {} ({})", machine.id, machine.ip),
        Some(MachineRole::Master) => format!("master {} ({})", machine.id, machine.ip),
        _ => format!("machine {} ({})", machine.id, machine.ip),
    }
}
