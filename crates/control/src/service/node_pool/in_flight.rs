//! What goes on in a pool, which may not be disturbed by something else.

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{
        Cluster, Fault, Level, Machine, MachineState, MachineWanted, NodePool, Outcome, ResultStatus, StageState, Task,
        TaskError, TaskState, TaskType,
    },
};

use super::query::charge_type;
use crate::service::change::{About, Change};

impl Change<'_> {
    /// A pool of the cluster that shall stay.
    pub(in crate::service) fn living_pool(
        &self,
        cluster: &Cluster,
        pool_id: &str,
    ) -> Outcome<Arc<Versioned<NodePool>>> {
        let pool = self.any_pool(cluster, pool_id)?;
        if pool.deleting {
            let task = pool.deletion_task_id.as_deref().unwrap_or("another request");
            return Err(Fault::state(format!("node pool {} is being deleted by {task}", pool.name)));
        }
        Ok(pool)
    }

    /// A pool of the cluster, also one that is being deleted.
    pub(super) fn any_pool(&self, cluster: &Cluster, pool_id: &str) -> Outcome<Arc<Versioned<NodePool>>> {
        let pool = self.store.get::<NodePool>(pool_id).filter(|pool| pool.cluster_id == cluster.id);
        pool.ok_or_else(|| Fault::not_found("NodePool", pool_id))
    }

    /// The pool's machines.
    pub(super) fn members(&self, pool: &NodePool) -> Vec<Arc<Versioned<Machine>>> {
        let mut machines = self.store.list_of::<Machine>(&pool.cluster_id);
        machines.retain(|machine| {
            machine.membership.as_ref().is_some_and(|member| member.node_pool_id.as_ref() == Some(&pool.id))
        });
        machines.sort_by_key(|machine| (machine.created, machine.ip));
        machines
    }

    /// Tasks that work on the pool or on one of its machines now.
    pub(super) fn tasks_of_pool(
        &self,
        pool: &NodePool,
        members: &[Arc<Versioned<Machine>>],
    ) -> Vec<Arc<Versioned<Task>>> {
        let works_on_member = |task: &Task| {
            members.iter().any(|machine| {
                let is_coming = !matches!(machine.state, MachineState::Running | MachineState::Kept);
                let brings = machine.membership.as_ref().is_some_and(|member| is_coming && member.task_id == task.id);
                brings
                    || machine.removal_task_id.as_ref() == Some(&task.id)
                    || machine.repair.as_ref().is_some_and(|order| order.task_id == task.id)
            })
        };
        let mut tasks = self.store.list_of::<Task>(&pool.cluster_id);
        tasks.retain(|task| {
            task.state == TaskState::Running && (task.node_pool_id.as_ref() == Some(&pool.id) || works_on_member(task))
        });
        tasks
    }

    /// Ends a task that something else makes pointless.
    pub(super) fn end_task(&mut self, task: &Versioned<Task>, why: &str) {
        let mut ended = task.value.clone();
        ended.state = TaskState::Fail;
        ended.updated = self.now;
        ended.lease = None;
        ended.error = Some(TaskError { code: "ErrorClusterState".into(), message: why.to_owned() });
        for result in ended.results.iter_mut().filter(|result| result.status == ResultStatus::Initial) {
            result.status = ResultStatus::Failed;
        }
        for stage in ended.stages.iter_mut().filter(|stage| stage.state != StageState::Success) {
            stage.state = StageState::Fail;
            stage.finished = Some(self.now);
            why.clone_into(&mut stage.message);
        }
        self.update(task, &ended);
        let text = format!("task {} ends: {why}", task.id);
        self.event(About::Cluster(&task.cluster_id), task.task_type, Level::Error, "Failed", text);
    }
}

/// Refuses while any of these kinds of tasks is at work in the pool.
pub(super) fn refuse_busy(
    pool: &NodePool,
    tasks: &[Arc<Versioned<Task>>],
    kinds: &[TaskType],
    wish: &str,
) -> Outcome<()> {
    let Some(task) = tasks.iter().find(|task| kinds.contains(&task.task_type)) else { return Ok(()) };
    let what = match task.task_type {
        TaskType::ClusterScaleout => "nodes are being added to it",
        TaskType::ClusterNodeDelete => "nodes are being removed from it",
        TaskType::NodepoolUpdate => "it is being changed",
        TaskType::NodepoolRepair => "nodes of it are being repaired",
        _ => "it is being worked on",
    };
    let text = format!(
        "node pool {} cannot be {wish} now: {what} by task {}; try again when that has ended",
        pool.name, task.id
    );
    Err(Fault::state(text))
}

/// A machine as it begins to leave its pool for a task. What was there before the pool, and what is paid for in advance,
/// goes back to the inventory; so does what was leaving for it already.
pub(super) fn leaving(pool: &NodePool, machine: &Machine, drain: bool, task_id: &str) -> Machine {
    let is_given_back = machine.source == super::workers::ATTACHED
        || charge_type(pool) == "PrePaid"
        || machine.wanted == MachineWanted::Leave;
    Machine {
        wanted: if is_given_back { MachineWanted::Leave } else { MachineWanted::Release },
        drain,
        removal_task_id: Some(task_id.to_owned()),
        state: MachineState::Removing,
        repair: None,
        ..machine.clone()
    }
}
