//! A cluster is stopped, which frees what its machines use, and started again as it was.

use sampan_store::{
    Versioned,
    model::{Cluster, ClusterState, Fault, Halted, Level, Machine, Outcome, Power, TaskType, new_task_id},
};

use super::ClusterTask;
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask},
    cluster_state_word, task,
};

/// Hosts are not listed beyond this number.
const NAMED_MAX: usize = 3;

impl Service {
    /// Records that a cluster shall go off. Asking again while it goes off answers the same task.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Swarm cluster; ClusterState unless it is running and nothing is being changed.
    pub async fn cluster_stop(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            if let Some(task) = in_progress(change, &cluster, true) {
                return Ok(task);
            }
            if cluster.state == ClusterState::Stopped {
                return Err(Fault::state(format!("cluster {cluster_id} is stopped already")));
            }
            if !cluster.is_settled() && !gave_up_starting(&cluster) {
                let state = cluster_state_word(&cluster);
                return Err(Fault::state(format!(
                    "cluster {cluster_id} is {state}; it can be stopped when it is running"
                )));
            }
            refuse_while_tasks_run(change, cluster_id, "stopped")?;
            refuse_hosts(change, &cluster)?;
            Ok(self.record_power(change, &cluster, true))
        })
        .await
    }

    /// Records that a stopped cluster shall come up. Asking again while it comes up answers the same task.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Swarm cluster; ClusterState unless it is stopped.
    pub async fn cluster_start(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            if let Some(task) = in_progress(change, &cluster, false) {
                return Ok(task);
            }
            let gave_up = cluster.power.is_some() && cluster.state == ClusterState::UpdatingFailed;
            if cluster.state != ClusterState::Stopped && !gave_up {
                let state = cluster_state_word(&cluster);
                return Err(Fault::state(format!(
                    "cluster {cluster_id} is {state}; only a stopped one can be started"
                )));
            }
            Ok(self.record_power(change, &cluster, false))
        })
        .await
    }

    fn record_power(&self, change: &mut Change<'_>, cluster: &Versioned<Cluster>, stop: bool) -> ClusterTask {
        let task_id = new_task_id();
        // Off: workers first. On: all but the workers first.
        let power = Power { stop, task_id: task_id.clone(), requested: change.now, halted: Halted::Workers };
        let wanted = Cluster {
            state: ClusterState::Updating,
            state_reason: None,
            updated: change.now,
            power: Some(power),
            ..cluster.value.clone()
        };
        change.update(cluster, &wanted);
        let (task_type, stages, verb): (_, &[&str], _) = match stop {
            true => (TaskType::ClusterStop, &task::STOP_STAGES, "stop"),
            false => (TaskType::ClusterStart, &task::START_STAGES, "start"),
        };
        let text = format!("Start to {verb} cluster {}", cluster.name);
        change.event(About::Cluster(&cluster.id), task_type, Level::Info, "Started", text);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type,
            stages,
            resources: vec![cluster.id.clone()],
            node_pool_id: None,
            deadline_minutes: self.settings.task_timeout_minutes,
            done: false,
        });
        ClusterTask { cluster_id: cluster.id.clone(), task_id }
    }
}

/// Whether the cluster did not come up after it was stopped. It may be stopped again, or put back to a backup.
pub(super) fn gave_up_starting(cluster: &Cluster) -> bool {
    let starts = cluster.power.as_ref().is_some_and(|power| !power.stop);
    starts && cluster.state == ClusterState::UpdatingFailed && cluster.restore.is_none() && cluster.deletion.is_none()
}

/// The task that stops, or starts, the cluster this moment.
fn in_progress(change: &Change<'_>, cluster: &Cluster, stop: bool) -> Option<ClusterTask> {
    let wanted = if stop { TaskType::ClusterStop } else { TaskType::ClusterStart };
    let running = change.running_task(&cluster.id, |task_type| task_type == wanted)?;
    Some(ClusterTask { cluster_id: cluster.id.clone(), task_id: running.id.clone() })
}

/// Nobody but their owner switches hosts off, and a cluster whose nodes go on is not stopped.
fn refuse_hosts(change: &Change<'_>, cluster: &Cluster) -> Outcome<()> {
    let machines = change.store.list_of::<Machine>(&cluster.id);
    let hosts: Vec<String> = machines
        .iter()
        .filter(|machine| machine.host.is_some())
        .take(NAMED_MAX)
        .map(|machine| format!("{} ({})", machine.id, machine.ip))
        .collect();
    if hosts.is_empty() {
        return Ok(());
    }
    Err(Fault::state(format!(
        "cluster {} cannot be stopped while hosts of yours are nodes of it: {}; they cannot be switched off from here, so \
         remove these nodes first",
        cluster.id,
        hosts.join(", ")
    )))
}

/// What is in progress would stand still, or lose the API in its middle.
pub(in crate::service) fn refuse_while_tasks_run(change: &Change<'_>, cluster_id: &str, what: &str) -> Outcome<()> {
    match change.running_task(cluster_id, |_| true) {
        None => Ok(()),
        Some(task) => Err(Fault::state(format!(
            "cluster {cluster_id} cannot be {what} while task {} ({}) is in progress; wait until it has ended",
            task.id,
            task.task_type.as_str()
        ))),
    }
}
