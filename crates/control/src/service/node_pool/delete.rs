//! DeleteClusterNodepool: the pool goes, after its nodes.

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{
        Cluster, ClusterState, Fault, FaultKind, Level, Machine, MachineWanted, NodePool, NodePoolState, Outcome,
        TaskType, new_task_id,
    },
};

use super::in_flight::{leaving, refuse_busy};
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
    cluster::ClusterTask,
    task,
};

/// What must have ended before a pool is deleted without force.
const DISTURBED: [TaskType; 4] =
    [TaskType::ClusterScaleout, TaskType::ClusterNodeDelete, TaskType::NodepoolUpdate, TaskType::NodepoolRepair];

/// How a pool is to be deleted.
#[derive(Clone, Debug, Default)]
pub struct NodePoolDelete {
    /// Its nodes go without being drained, and what goes on in it ends.
    pub force: bool,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

impl Service {
    /// Records that a pool shall go away, after its nodes. Asking again answers the same task, until the pool is gone; asking
    /// again with force ends a drain.
    ///
    /// # Errors
    /// ClusterNotFound, NotFound for the pool, InvalidParameter for the default pool, ClusterState while something else goes
    /// on in it, DeletionProtected.
    pub async fn node_pool_delete(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        pool_id: &str,
        input: &NodePoolDelete,
    ) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let cluster = self.kubernetes_cluster(change.ctx, cluster_id)?;
            let pool = change.any_pool(&cluster, pool_id)?;
            let members = change.members(&pool);
            if let Some(task_id) = pool.deletion_task_id.clone().filter(|_| pool.deleting) {
                if input.force {
                    stop_drains(change, &members);
                }
                return Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id });
            }
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            if pool.is_default {
                return Err(Fault::invalid(
                    "NodepoolId",
                    format!(
                        "NodepoolId: {} is the default node pool of cluster {cluster_id}, which cannot be deleted; remove its nodes \
                         with POST /clusters/{cluster_id}/nodes, or delete the cluster",
                        pool.name
                    ),
                ));
            }
            self.plan_pool_deletion(change, &cluster, &pool, &members, input)
        })
        .await
    }

    fn plan_pool_deletion(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        pool: &Versioned<NodePool>,
        members: &[Arc<Versioned<Machine>>],
        input: &NodePoolDelete,
    ) -> Outcome<ClusterTask> {
        let tasks = change.tasks_of_pool(pool, members);
        if input.force {
            let why = format!("node pool {} is deleted by force", pool.name);
            tasks.iter().for_each(|task| change.end_task(task, &why));
        } else {
            refuse_busy(pool, &tasks, &DISTURBED, "deleted")?;
        }
        let task_id = new_task_id();
        let gone: Vec<Machine> = members.iter().map(|machine| leaving(pool, machine, !input.force, &task_id)).collect();
        refuse_protected(cluster, &gone)?;
        for (before, machine) in members.iter().zip(&gone) {
            change.update(before, machine);
        }
        let deleted = NodePool {
            deleting: true,
            deletion_task_id: Some(task_id.clone()),
            state: NodePoolState::Deleting,
            updated: change.now,
            ..pool.value.clone()
        };
        change.update(pool, &deleted);
        change.delete_secrets(&format!("cluster/{}/node-pool/{}/", cluster.id, pool.id));
        if members.is_empty() {
            change.rely_on(cluster);
        } else {
            let scaling = Cluster { state: ClusterState::Scaling, updated: change.now, ..cluster.value.clone() };
            change.update(cluster, &scaling);
        }
        tell(change, pool, &gone, input);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::ClusterNodeDelete,
            stages: &task::REMOVE_STAGES,
            resources: gone.into_iter().map(|machine| machine.id).collect(),
            node_pool_id: Some(pool.id.clone()),
            deadline_minutes: self.settings.task_timeout_minutes,
            done: false,
        });
        Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id })
    }
}

/// Machines may be protected from being destroyed.
pub(super) fn refuse_protected(cluster: &Cluster, gone: &[Machine]) -> Outcome<()> {
    let released = gone.iter().filter(|machine| machine.wanted == MachineWanted::Release).count();
    if !cluster.instance_deletion_protection || released == 0 {
        return Ok(());
    }
    let text = format!(
        "the cluster's instances are protected from being released, and {released} would be; set instance_deletion_protection to \
         false first"
    );
    Err(Fault::new(FaultKind::DeletionProtected, text))
}

fn stop_drains(change: &mut Change<'_>, members: &[Arc<Versioned<Machine>>]) {
    for machine in members.iter().filter(|machine| machine.drain) {
        change.update(machine, &Machine { drain: false, ..machine.value.clone() });
    }
}

fn tell(change: &mut Change<'_>, pool: &NodePool, gone: &[Machine], input: &NodePoolDelete) {
    let about = About::NodePool { cluster_id: &pool.cluster_id, id: &pool.id };
    let how = if input.force { " without draining them" } else { "" };
    let text = format!("Start to delete node pool {} and its {} nodes{how}", pool.name, gone.len());
    change.event(about, TaskType::ClusterNodeDelete, Level::Info, "Started", text);
    let kept: Vec<&str> =
        gone.iter().filter(|machine| machine.wanted == MachineWanted::Leave).map(|m| m.id.as_str()).collect();
    let mut notices: Vec<Notice> = Notice::unknown_fields(&input.unknown_fields).into_iter().collect();
    if !kept.is_empty() {
        let text = format!(
            "machines that were there before the pool, or are paid for in advance, go back to the inventory: {}",
            kept.join(", ")
        );
        notices.push(Notice::new("MachinesKept", text));
    }
    change.notices(about, TaskType::ClusterNodeDelete, &notices);
}
