//! How far the tasks of node pools are: repairs that were asked for, and changes. Pure.

use sampan_store::model::{Machine, MachineState, MachineWanted, ResultStatus, Task, TaskState};

use super::{
    machines::title,
    progress::{hindrance, in_service},
    scope::Scope,
    status::{Facts, Step},
};

/// Names of what hinders machines are not listed beyond this number.
const NAMED_MAX: usize = 3;

fn node_name(machine: &Machine) -> &str {
    machine.membership.as_ref().map_or(machine.id.as_str(), |member| member.node_name.as_str())
}

fn is_mended_by(machine: &Machine, task: &Task) -> bool {
    machine.repair.as_ref().is_some_and(|order| order.task_id == task.id)
}

/// The stage of a repair, and its results: one for each node's name, which a machine in its place bears, too.
pub(super) fn repair(task: &mut Task, facts: &Facts, machines: &[Machine]) -> Step {
    let left: Vec<&Machine> = machines.iter().filter(|machine| is_mended_by(machine, task)).collect();
    let mut results = task.results.clone();
    for result in &mut results {
        let is_left = left.iter().any(|machine| node_name(machine) == result.data);
        let is_there = machines.iter().any(|machine| node_name(machine) == result.data);
        result.status = match (is_left, is_there) {
            (true, _) => ResultStatus::Initial,
            (false, true) => ResultStatus::Success,
            (false, false) => ResultStatus::Failed,
        };
    }
    if results != task.results {
        task.results = results;
        task.updated = facts.now;
    }
    if left.is_empty() {
        return Step::Done;
    }
    let of = task.results.len();
    let why = |machine: &Machine| hindrance(machine, facts).unwrap_or_else(|| "is being repaired".to_owned());
    let details: Vec<String> =
        left.iter().take(NAMED_MAX).map(|machine| format!("{} {}", title(machine), why(machine))).collect();
    Step::Waiting(format!("{} of {of} nodes are not in service yet; {}", left.len(), details.join("; ")))
}

/// The stage of a change of a pool that changes its size: what is added is in service, what goes is gone.
pub(super) fn resize(task: &mut Task, scope: &Scope, facts: &Facts, machines: &[Machine]) -> Step {
    let task_id = task.id.clone();
    let is_added = |machine: &Machine| machine.membership.as_ref().is_some_and(|member| member.task_id == task_id);
    let going: Vec<&Machine> =
        machines.iter().filter(|machine| machine.removal_task_id.as_ref() == Some(&task_id)).collect();
    let mut results = task.results.clone();
    for result in &mut results {
        let waits = machines.iter().any(|machine| {
            let comes = is_added(machine) && machine.state != MachineState::Running;
            machine.id == result.data && (comes || machine.removal_task_id.as_ref() == Some(&task_id))
        });
        result.status = if waits { ResultStatus::Initial } else { ResultStatus::Success };
    }
    if results != task.results {
        task.results = results;
        task.updated = facts.now;
    }
    let note = |machine: &&Machine| Some(format!("{} {}", title(machine), facts.notes.get(&machine.id)?.message));
    let gone = match going.len() {
        0 => Step::Done,
        n => {
            let details: Vec<String> = going.iter().filter_map(note).take(NAMED_MAX).collect();
            Step::Waiting(format!("{n} machines are still there; {}", details.join("; ")))
        }
    };
    Step::all([gone, in_service(scope, facts, machines, is_added)])
}

/// An order whose task has ended holds no longer, nor does one for a machine that was asked to leave.
pub(super) fn forget_ended<'a>(machine: &mut Machine, mut tasks: impl Iterator<Item = &'a Task>) {
    let Some(order) = &machine.repair else { return };
    // A task that is not known may have been recorded a moment ago.
    let has_ended = tasks.any(|task| task.id == order.task_id && task.state != TaskState::Running);
    let leaves = machine.wanted != MachineWanted::Run && machine.removal_task_id.is_some();
    if has_ended || leaves {
        machine.repair = None;
    }
}
