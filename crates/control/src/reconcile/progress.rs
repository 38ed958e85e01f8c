//! Tasks: stages, results and ends, computed from the same observations as everything else. Pure.

use std::collections::{BTreeMap, HashSet};

use sampan_store::model::{
    Level, Machine, MachineRole, MachineState, MachineWanted, ResultStatus, Stage, StageState, Task, TaskError,
    TaskResult, TaskState, TaskType, Timestamp,
};

use super::{
    journal::Journal,
    machines::title,
    nodes, parameters, power, repair, repairs,
    scope::{Fate, Scope, fate, role},
    status::{Facts, Step, Verdict},
    upgrade,
};
use crate::ports::NodeReadiness;

/// Names of what hinders machines are not listed beyond this number.
const NAMED_MAX: usize = 3;

/// Stages of a creation.
pub(super) fn creation_stages(scope: &Scope, facts: &Facts, machines: &[Machine]) -> Vec<(&'static str, Step)> {
    let blocked = |step: &Step| match step {
        Step::Done => None,
        _ => Some(Step::Blocked("waits for the control plane".to_owned())),
    };
    let components = blocked(&facts.api).unwrap_or_else(|| facts.components.clone());
    let refused = facts.notes.iter().find(|(_, note)| note.permanent);
    let nodes = match refused {
        Some((id, note)) => Step::Refused(format!("machine {id}: {}", note.message)),
        None => in_service(scope, facts, machines, |_| true),
    };
    vec![
        ("network", facts.network.clone()),
        ("control_plane", Step::all([facts.certificates.clone(), facts.api.clone(), facts.etcd.clone()])),
        ("nodes", nodes),
        ("components", components),
        ("endpoint", facts.endpoint.clone()),
    ]
}

/// Whether the nodes that shall run, and that are meant, are in service.
pub(super) fn in_service(
    scope: &Scope,
    facts: &Facts,
    machines: &[Machine],
    is_meant: impl Fn(&Machine) -> bool,
) -> Step {
    let meant = machines.iter().filter(|machine| {
        role(machine).is_some_and(MachineRole::is_node)
            && fate(&scope.cluster, machine) == Fate::Run
            && is_meant(machine)
    });
    let (up, down): (Vec<&Machine>, Vec<&Machine>) = meant.partition(|machine| machine.state == MachineState::Running);
    if down.is_empty() {
        return Step::Done;
    }
    let hindered = down
        .iter()
        .filter_map(|machine| Some(format!("{}: {}", title(machine), facts.notes.get(&machine.id)?.message)));
    let details: Vec<String> = hindered.take(NAMED_MAX).collect();
    let count = format!("{} of {} nodes are Ready", up.len(), up.len() + down.len());
    Step::Waiting(if details.is_empty() { count } else { format!("{count}; {}", details.join("; ")) })
}

/// What hinders a machine: its node's own words if it has one, else its controller's.
pub(super) fn hindrance(machine: &Machine, facts: &Facts) -> Option<String> {
    let node = facts.nodes.as_ref().and_then(|nodes| nodes::view(nodes, machine));
    let not_ready = node.filter(|node| node.ready != NodeReadiness::Ready);
    let note = facts.notes.get(&machine.id).map(|note| note.message.clone());
    not_ready.map(|node| format!("its node is not Ready: {}", node.message)).or(note)
}

/// Brings a task that is not a creation or deletion forward; it may end.
pub(super) fn advance(task: &mut Task, scope: &Scope, facts: &Facts, verdict: &mut Verdict) -> Step {
    if task.task_type == TaskType::ClusterUpgrade {
        return upgrade::advance(task, facts, verdict);
    }
    let machines = &verdict.machines;
    let (stages, what) = match task.task_type {
        TaskType::ClusterScaleout | TaskType::ClusterAttach => {
            set_results(task, machines, facts.now);
            let task_id = task.id.clone();
            (vec![("nodes", in_service(scope, facts, machines, |machine| added_by(machine, &task_id)))], "adding nodes")
        }
        TaskType::ClusterNodeDelete => (removal_stages(task, scope, facts, machines), "removing nodes"),
        TaskType::ClusterNodeReset => (vec![("node", reset(task, facts, machines))], "resetting the node"),
        TaskType::ClusterConfigurationModify => {
            (vec![("settings", parameters::progress(task, &verdict.cluster))], "changing the parameters")
        }
        TaskType::ClusterMigrate => {
            (migration_stages(scope, facts, machines), "giving the cluster a Pro control plane")
        }
        TaskType::NodepoolUpdate => (pool_stages(task, scope, facts, machines), "changing the node pool"),
        TaskType::NodepoolRepair => (vec![("repair", repairs::repair(task, facts, machines))], "repairing nodes"),
        TaskType::ClusterStart => {
            let nodes = in_service(scope, facts, machines, |_| true);
            (power::start_stages(scope, facts, nodes), "starting the cluster")
        }
        TaskType::ClusterBackup | TaskType::ClusterRestore | TaskType::ClusterStop => return Step::Done,
        TaskType::ClusterModify | TaskType::ClusterCreate | TaskType::ClusterDelete | TaskType::ClusterUpgrade => {
            (vec![("settings", settings(task, scope, facts, machines))], "applying the change")
        }
    };
    set_stages(task, &stages, facts.now, &mut verdict.journal);
    let all = Step::all(stages.into_iter().map(|(_, step)| step));
    if all == Step::Done {
        end(task, None, what, facts.now, &mut verdict.journal);
    } else if let Step::Refused(why) = &all {
        end(task, Some(("ErrorClusterState", why)), what, facts.now, &mut verdict.journal);
    } else if facts.now >= task.deadline {
        let why = format!("{what} did not end in time: {}", all.message());
        end(task, Some(("OperationTimeout", &why)), what, facts.now, &mut verdict.journal);
    }
    all
}

fn added_by(machine: &Machine, task_id: &str) -> bool {
    machine.membership.as_ref().is_some_and(|member| member.task_id == task_id)
}

/// Stages of a removal, and its results.
fn removal_stages(task: &mut Task, scope: &Scope, facts: &Facts, machines: &[Machine]) -> Vec<(&'static str, Step)> {
    let is_named = |machine: &Machine, data: &str| {
        machine.id == data || machine.membership.as_ref().is_some_and(|member| member.node_name == data)
    };
    let is_meant = |machine: &&Machine| {
        machine.removal_task_id.as_ref() == Some(&task.id)
            // One that was kept may serve again already, under the same name.
            || machine.wanted != MachineWanted::Run
                && task.results.iter().any(|result| is_named(machine, &result.data))
    };
    let left: Vec<&Machine> = machines.iter().filter(is_meant).collect();
    let pool_left = task.node_pool_id.as_ref().is_some_and(|id| {
        scope.pool(id).is_some_and(|pool| pool.deleting) && machines.iter().any(|machine| is_in_pool(machine, id))
    });
    let mut changed = false;
    for result in &mut task.results {
        let is_left = left.iter().any(|machine| is_named(machine, &result.data));
        let status = if is_left { ResultStatus::Initial } else { ResultStatus::Success };
        changed |= std::mem::replace(&mut result.status, status) != status;
    }
    if changed {
        task.updated = facts.now;
    }
    if left.is_empty() && !pool_left {
        return vec![("drain", Step::Done), ("release", Step::Done)];
    }
    let messages =
        left.iter().filter_map(|machine| Some(format!("{} {}", title(machine), facts.notes.get(&machine.id)?.message)));
    let messages: Vec<String> = messages.take(NAMED_MAX).collect();
    let message = format!("{} machines are still there; {}", left.len(), messages.join("; "));
    let drains = left.iter().any(|machine| {
        machine.drain && facts.notes.get(&machine.id).is_none_or(|note| note.message.contains("drained"))
    });
    if drains {
        let blocked = Step::Blocked("waits until the nodes are drained".to_owned());
        vec![("drain", Step::Waiting(message)), ("release", blocked)]
    } else {
        vec![("drain", Step::Done), ("release", Step::Waiting(message))]
    }
}

/// Stages of a change of a pool; only one that changes its size has a stage for that.
fn pool_stages(task: &mut Task, scope: &Scope, facts: &Facts, machines: &[Machine]) -> Vec<(&'static str, Step)> {
    let mut stages = vec![("settings", settings(task, scope, facts, machines))];
    if task.stages.iter().any(|stage| stage.name == "nodes") {
        stages.push(("nodes", repairs::resize(task, scope, facts, machines)));
    }
    stages
}

/// How far the node is that a task makes from scratch.
fn reset(task: &Task, facts: &Facts, machines: &[Machine]) -> Step {
    let meant = machines.iter().find(|machine| task.results.iter().any(|result| result.data == machine.id));
    let Some(machine) = meant.filter(|machine| matches!(machine.wanted, MachineWanted::Run | MachineWanted::Reset))
    else {
        return Step::Refused("the machine has left the cluster".to_owned());
    };
    if machine.wanted == MachineWanted::Run && machine.state == MachineState::Running {
        return Step::Done;
    }
    let why = hindrance(machine, facts).unwrap_or_else(|| "is being made from scratch".to_owned());
    Step::Waiting(format!("{} {why}", title(machine)))
}

fn is_in_pool(machine: &Machine, pool_id: &str) -> bool {
    machine.membership.as_ref().is_some_and(|member| member.node_pool_id.as_deref() == Some(pool_id))
}

/// Whether every machine in service is what the present records say.
fn settings(task: &Task, scope: &Scope, facts: &Facts, machines: &[Machine]) -> Step {
    let concerned = machines.iter().filter(|machine| {
        fate(&scope.cluster, machine) == Fate::Run
            && machine.state == MachineState::Running
            && task.node_pool_id.as_ref().is_none_or(|id| is_in_pool(machine, id))
    });
    for machine in concerned {
        let is_node = role(machine).is_some_and(MachineRole::is_node);
        let is_settled = !is_node || facts.settled.contains(&machine.id);
        if !is_settled || !facts.in_force.contains(&machine.id) {
            let why = facts.notes.get(&machine.id).map_or("is being changed", |note| &note.message);
            return Step::Waiting(format!("{} {why}", title(machine)));
        }
    }
    Step::all([facts.api.clone(), facts.etcd.clone()])
}

/// Stages of giving a cluster a control plane of several machines.
fn migration_stages(scope: &Scope, facts: &Facts, machines: &[Machine]) -> Vec<(&'static str, Step)> {
    let parts = machines
        .iter()
        .filter(|machine| machine.is_control_plane_of(&scope.cluster.id) && fate(&scope.cluster, machine) == Fate::Run);
    let (up, down): (Vec<&Machine>, Vec<&Machine>) =
        parts.partition(|machine| machine.state == MachineState::Running && machine.not_ready_since.is_none());
    let why = down.first().map(|machine| {
        let hindrance = hindrance(machine, facts).unwrap_or_else(|| "is starting".to_owned());
        let all = up.len() + down.len();
        format!("{} of {all} machines serve the API; {} {hindrance}", up.len(), title(machine))
    });
    vec![
        ("certificates", facts.certificates.clone()),
        ("members", facts.etcd.clone()),
        ("control_plane", why.map_or(Step::Done, Step::Waiting)),
        ("endpoint", facts.endpoint.clone()),
    ]
}

/// Results of a task that adds machines: one per machine.
pub(super) fn set_results(task: &mut Task, machines: &[Machine], now: Timestamp) {
    let mine: BTreeMap<&str, ResultStatus> = machines
        .iter()
        .filter(|machine| added_by(machine, &task.id) && role(machine).is_some_and(MachineRole::is_node))
        .map(|machine| (machine.id.as_str(), result_of(machine)))
        .collect();
    let mut results: Vec<TaskResult> = task.results.clone();
    for result in results.iter_mut().filter(|result| result.data.starts_with("i-")) {
        // A machine that left again before the task ended was not added.
        result.status = mine.get(result.data.as_str()).copied().unwrap_or(ResultStatus::Failed);
    }
    let known: HashSet<String> = results.iter().map(|result| result.data.clone()).collect();
    let new = mine.iter().filter(|(id, _)| !known.contains(**id));
    results.extend(new.map(|(id, status)| TaskResult { data: (*id).to_owned(), status: *status }));
    if results != task.results {
        task.results = results;
        task.updated = now;
    }
}

fn result_of(machine: &Machine) -> ResultStatus {
    match machine.state {
        MachineState::Running => ResultStatus::Success,
        MachineState::Failed | MachineState::Removing | MachineState::Kept | MachineState::Stopped => {
            ResultStatus::Failed
        }
        MachineState::Pending | MachineState::Starting => ResultStatus::Initial,
    }
}

/// A machine whose task failed before it came up is shown as failed; it is still being tried.
pub(super) fn mark_failed(machine: &mut Machine, tasks: &[Task], facts: &Facts) {
    let failed = tasks.iter().find(|task| task.state == TaskState::Fail && added_by(machine, &task.id));
    let Some(task) = failed else { return };
    if matches!(machine.state, MachineState::Pending | MachineState::Starting) {
        machine.state = MachineState::Failed;
        machine.error = hindrance(machine, facts).or_else(|| task.error.as_ref().map(|error| error.message.clone()));
    }
}

/// Writes stages into a task: those it has, and those it does not have yet after them. Only changes count as news.
pub(super) fn set_stages(task: &mut Task, steps: &[(&'static str, Step)], now: Timestamp, journal: &mut Journal) {
    for (name, step) in steps {
        let place = task.stages.iter().position(|stage| stage.name == *name).unwrap_or_else(|| {
            task.stages.push(new_stage(name));
            task.stages.len() - 1
        });
        let stage = &mut task.stages[place];
        let before = stage.clone();
        stage.state = match step {
            Step::Done => StageState::Success,
            Step::Waiting(_) => StageState::Running,
            Step::Blocked(_) => StageState::Waiting,
            Step::Refused(_) => StageState::Fail,
        };
        stage.message = step.message().to_owned();
        if stage.state != StageState::Waiting {
            stage.started.get_or_insert(now);
        }
        let ended = matches!(stage.state, StageState::Success | StageState::Fail);
        stage.finished = ended.then(|| before.finished.unwrap_or(now));
        if ended && before.state != stage.state {
            journal.log(describe_end(task.task_type, stage));
        }
        if *stage != before {
            task.updated = now;
        }
    }
}

fn new_stage(name: &str) -> Stage {
    Stage { name: name.to_owned(), state: StageState::Waiting, started: None, finished: None, message: String::new() }
}

fn describe_end(task_type: TaskType, stage: &Stage) -> String {
    let took = stage.started.zip(stage.finished).map_or(0.0, |(from, to)| repair::span(from, to).as_secs_f64());
    let name = stage.name.replace('_', " ");
    let kind = task_type.as_str();
    match stage.state {
        StageState::Fail => format!("{kind}: {name} failed after {took:.1} s: {}", stage.message),
        _ => format!("{kind}: {name} done after {took:.1} s"),
    }
}

/// Ends a task, well or with `failure` (code and message), and tells.
pub(super) fn end(task: &mut Task, failure: Option<(&str, &str)>, what: &str, now: Timestamp, journal: &mut Journal) {
    let took = repair::span(task.created, now).as_secs_f64();
    task.updated = now;
    task.lease = None;
    let Some((code, why)) = failure else {
        task.state = TaskState::Success;
        task.error = None;
        for result in task.results.iter_mut().filter(|result| result.status == ResultStatus::Initial) {
            result.status = ResultStatus::Success;
        }
        journal.task_event(task, Level::Info, "Succeeded", format!("{what} succeeded after {took:.1} s"));
        return;
    };
    task.state = TaskState::Fail;
    task.error = Some(TaskError { code: code.to_owned(), message: why.to_owned() });
    for result in task.results.iter_mut().filter(|result| result.status == ResultStatus::Initial) {
        result.status = ResultStatus::Failed;
    }
    for stage in task.stages.iter_mut().filter(|stage| stage.state == StageState::Running) {
        stage.state = StageState::Fail;
        stage.finished = Some(now);
    }
    journal.task_event(task, Level::Error, "Failed", format!("{what} failed after {took:.1} s: {why}"));
}
