//! What users see of an upgrade: the stages of its task, and the state of its cluster. Pure.

use sampan_store::model::{
    ClusterState, MachineState, ResultStatus, Task, TaskState, Upgrade, UpgradePhase, UpgradeState,
};

use crate::reconcile::{
    progress,
    status::{Facts, Step, Verdict},
};

/// Stages, in order.
pub(super) const STAGES: [(&str, UpgradePhase); 5] = [
    ("precheck", UpgradePhase::Precheck),
    ("snapshot", UpgradePhase::Snapshot),
    ("control_plane", UpgradePhase::ControlPlane),
    ("components", UpgradePhase::Components),
    ("nodes", UpgradePhase::Nodes),
];

/// What an upgrade means for its cluster's state, and why; `None`: nothing.
pub(in crate::reconcile) fn cluster_state(upgrade: &Upgrade) -> Option<(ClusterState, Option<String>)> {
    match upgrade.state {
        UpgradeState::Running | UpgradeState::Paused => Some((ClusterState::Updating, None)),
        UpgradeState::Failed => Some((ClusterState::UpdatingFailed, upgrade.error.clone())),
        UpgradeState::Cancelled | UpgradeState::Success => None,
    }
}

/// Brings the task of an upgrade to where the upgrade is; it may end. No deadline: an upgrade may be paused for long, and
/// each of its steps has a limit of its own.
pub(in crate::reconcile) fn advance(task: &mut Task, facts: &Facts, verdict: &mut Verdict) -> Step {
    let what = "the upgrade";
    let Some(upgrade) = verdict.cluster.upgrade.clone().filter(|upgrade| upgrade.task_id == task.id) else {
        let why = "another upgrade has taken its place";
        progress::end(task, Some(("ErrorClusterState", why)), what, facts.now, &mut verdict.journal);
        return Step::Refused(why.to_owned());
    };
    set_results(task, &upgrade, facts, verdict);
    let stages = stages(&upgrade);
    progress::set_stages(task, &stages, facts.now, &mut verdict.journal);
    match upgrade.state {
        UpgradeState::Running | UpgradeState::Paused => Step::Waiting(upgrade.message),
        UpgradeState::Success => {
            progress::end(task, None, what, facts.now, &mut verdict.journal);
            Step::Done
        }
        UpgradeState::Failed | UpgradeState::Cancelled => {
            let why = upgrade.error.unwrap_or_else(|| "no reason known".to_owned());
            progress::end(task, Some(("ErrorClusterState", &why)), what, facts.now, &mut verdict.journal);
            Step::Refused(why)
        }
    }
}

fn stages(upgrade: &Upgrade) -> Vec<(&'static str, Step)> {
    let error = || upgrade.error.clone().unwrap_or_default();
    let step = |phase: UpgradePhase| match upgrade.state {
        UpgradeState::Success => Step::Done,
        _ if phase < upgrade.phase => Step::Done,
        _ if phase > upgrade.phase => Step::Blocked("waits for what comes before".to_owned()),
        UpgradeState::Failed | UpgradeState::Cancelled => Step::Refused(error()),
        UpgradeState::Running | UpgradeState::Paused => Step::Waiting(upgrade.message.clone()),
    };
    STAGES.map(|(name, phase)| (name, step(phase))).to_vec()
}

/// One result for each node that the task is for.
fn set_results(task: &mut Task, upgrade: &Upgrade, facts: &Facts, verdict: &Verdict) {
    let mut changed = false;
    for result in task.results.iter_mut().filter(|result| result.data.starts_with("i-")) {
        let machine = verdict.machines.iter().find(|machine| machine.id == result.data);
        let status = match machine {
            Some(machine) => {
                let has_turn = upgrade.turns.iter().any(|turn| turn.machine_id == machine.id);
                let is_done = machine.version(&verdict.cluster) == upgrade.to
                    && verdict.cluster.version == upgrade.to
                    && !has_turn
                    && machine.state == MachineState::Running;
                if is_done { ResultStatus::Success } else { ResultStatus::Initial }
            }
            None => ResultStatus::Failed,
        };
        changed |= std::mem::replace(&mut result.status, status) != status;
    }
    if changed && task.state == TaskState::Running {
        task.updated = facts.now;
    }
}
