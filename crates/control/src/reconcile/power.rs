//! A cluster is stopped and started: its machines' containers do not run, everything they hold stays. Workers go before the
//! control plane and come after it. All machines of a control plane come up together, since none has a quorum alone.

use std::time::Duration;

use sampan_provider::MachinePower;
use sampan_store::{
    Batch, Versioned,
    model::{
        Cluster, ClusterState, Fault, FaultKind, Halted, Machine, MachineRole, MachineState, Outcome, Power, Task,
        TaskState, TaskType,
    },
};

use super::{
    cluster,
    context::{Context, Key, engine},
    driver::Status,
    journal::Journal,
    machines::title,
    memory::Note,
    progress,
    scope::{Fate, Scope, fate, role},
    status::{Facts, Step, Verdict},
};

/// Machines announce their end by the store; this is only for what is lost.
const POLL: Duration = Duration::from_secs(1);
/// Names of machines that are not down yet are not listed beyond this number.
const NAMED_MAX: usize = 3;

/// Stops one machine and keeps everything it has. Under the machine's key.
pub(super) async fn halt(ctx: &Context, scope: &Scope, machine: &Versioned<Machine>) -> Result<Status, Note> {
    let name = ctx.names.machine(&machine.id);
    let status = engine("looking at the machine", ctx.provider.machine(&name)).await?;
    if status.is_some_and(|status| status.power == MachinePower::Running) {
        engine("stopping the machine", ctx.provider.stop_machine(&name)).await?;
    }
    ctx.memory.with_machine(&machine.id, |memory| {
        // A machine that starts again is told anew what to be.
        (memory.sent, memory.in_force, memory.settled) = (None, None, None);
        (memory.silent_since, memory.repaired) = (None, None);
    });
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, journal| {
        // One that was never made is made when the cluster starts.
        if matches!(machine.state, MachineState::Stopped | MachineState::Pending) {
            return false;
        }
        machine.state = MachineState::Stopped;
        machine.not_ready_since = None;
        machine.node_status = machine.node_status.as_ref().map(|_| "Unknown".to_owned());
        journal.log(format!("{} has been stopped", title(machine)));
        true
    })
    .await?;
    Ok(Status::Settled)
}

/// Brings a stop forward: first the workers, then the control plane, then the cluster is off.
pub(super) async fn stop(ctx: &Context, scope: &Scope) -> Outcome<Status> {
    let Some(power) = &scope.cluster.power else { return Ok(Status::Settled) };
    let mut record = scope.cluster.value.clone();
    let mut journal = Journal::of(&scope.cluster, ctx.now());
    let stages = stop_stages(ctx, scope);
    let left = Step::all(stages.iter().map(|(_, step)| step.clone()));
    let mut task = task(scope, &power.task_id);
    if power.halted == Halted::Workers && stages[0].1 == Step::Done {
        // From here on nothing answers: connections and watches are let go.
        ctx.access.forget(&scope.cluster.id);
        record.power = Some(Power { halted: Halted::All, ..power.clone() });
    }
    let what = format!("stopping cluster {}", scope.cluster.name);
    if let Some(task) = task.as_mut().filter(|task| task.state == TaskState::Running) {
        progress::set_stages(task, &stages, ctx.now(), &mut journal);
        if left == Step::Done {
            progress::end(task, None, &what, ctx.now(), &mut journal);
        } else if ctx.now() >= task.deadline {
            let why = format!("{what} did not end in time and is still being tried: {}", left.message());
            progress::end(task, Some(("OperationTimeout", &why)), &what, ctx.now(), &mut journal);
        }
    }
    let failure = task.as_ref().and_then(|task| task.error.as_ref()).map(|error| error.message.clone());
    (record.state, record.state_reason) = match (&left, failure) {
        (Step::Done, _) => (ClusterState::Stopped, None),
        (_, Some(why)) => (ClusterState::UpdatingFailed, Some(why)),
        (_, None) => (ClusterState::Updating, None),
    };
    if left == Step::Done {
        // It is looked at as a stranger when it starts: certificates may have expired meanwhile.
        ctx.memory.forget_cluster(&scope.cluster.id);
        record.conditions.clear();
    }
    commit(ctx, scope, record, task, journal).await?;
    ctx.waker.wake(Key::Balancer);
    Ok(if left == Step::Done { Status::Settled } else { Status::again(POLL, left.message()) })
}

/// A task of the cluster, as read.
pub(super) fn task(scope: &Scope, id: &str) -> Option<Task> {
    scope.tasks.iter().find(|task| task.id == id).map(|task| task.value.clone())
}

/// Writes what differs; somebody else's change meanwhile means that it is looked at again.
pub(super) async fn commit(
    ctx: &Context,
    scope: &Scope,
    mut record: Cluster,
    task: Option<Task>,
    journal: Journal,
) -> Outcome<()> {
    if record != scope.cluster.value {
        record.updated = ctx.now();
    }
    let mut batch = Batch::new();
    cluster::update(&mut batch, std::slice::from_ref(&scope.cluster), &[record]);
    cluster::update(&mut batch, &scope.tasks, &Vec::from_iter(task));
    journal.write_to(&mut batch);
    match ctx.store.commit(batch).await.map_err(Fault::from) {
        // Another look is due anyway.
        Err(fault) if fault.kind == FaultKind::Conflict => {
            ctx.wake_cluster(&scope.cluster.id);
            Ok(())
        }
        outcome => outcome,
    }
}

fn stop_stages(ctx: &Context, scope: &Scope) -> [(&'static str, Step); 2] {
    let workers = down(ctx, scope, true);
    let control_plane = match &workers {
        Step::Done => down(ctx, scope, false),
        _ => Step::Blocked("waits until the nodes are down".to_owned()),
    };
    [("nodes", workers), ("control_plane", control_plane)]
}

/// Whether the workers, or the others, are down.
fn down(ctx: &Context, scope: &Scope, workers: bool) -> Step {
    let is_meant = |machine: &&Machine| (role(machine) == Some(MachineRole::Worker)) == workers;
    let machines = scope.machines.iter().map(|machine| &machine.value).filter(is_meant);
    let is_up = |machine: &&Machine| {
        let is_down = fate(&scope.cluster, machine) == Fate::Halt
            && matches!(machine.state, MachineState::Stopped | MachineState::Pending);
        !is_down
    };
    let up: Vec<&Machine> = machines.filter(is_up).collect();
    if up.is_empty() {
        return Step::Done;
    }
    let words = |machine: &&Machine| {
        let note = ctx.memory.machine(&machine.id).note.map(|note| format!(": {}", note.message));
        format!("{}{}", title(machine), note.unwrap_or_default())
    };
    let names: Vec<String> = up.iter().take(NAMED_MAX).map(words).collect();
    Step::Waiting(format!("{} machines still run: {}", up.len(), names.join("; ")))
}

/// Stages of a start, in the order in which parts come up.
pub(super) fn start_stages(scope: &Scope, facts: &Facts, nodes: Step) -> Vec<(&'static str, Step)> {
    let control_plane = Step::all([facts.network.clone(), facts.certificates.clone(), facts.api.clone()]);
    let nodes = match scope.cluster.power {
        Some(_) => Step::Blocked("waits for the control plane".to_owned()),
        None => nodes,
    };
    vec![("control_plane", control_plane), ("nodes", nodes), ("endpoint", facts.endpoint.clone())]
}

/// Lets the workers of a cluster that starts come up, once its API answers.
pub(super) fn release_workers(facts: &Facts, verdict: &mut Verdict) {
    let waits = verdict.cluster.power.as_ref().is_some_and(|power| !power.stop);
    if waits && facts.api == Step::Done {
        verdict.cluster.power = None;
        verdict.journal.log("the control plane is up; the nodes start");
    }
}

/// Whether the cluster is coming up.
pub(super) fn is_starting(tasks: &[Task]) -> bool {
    tasks.iter().any(|task| task.task_type == TaskType::ClusterStart && task.state == TaskState::Running)
}
