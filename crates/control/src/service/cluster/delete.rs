//! DeleteCluster: records that it shall go away, once.

use sampan_store::model::{
    Cluster, ClusterState, Deletion, Fault, FaultKind, Level, Outcome, Retain, Task, TaskState, TaskType, new_task_id,
};

use super::ClusterTask;
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask},
    fields, task,
};

/// What stays when a cluster goes.
#[derive(Clone, Debug, Default)]
pub struct ClusterDelete {
    /// `retain_all_resources`.
    pub retain_all: bool,
    /// `keep_slb`.
    pub keep_load_balancer: bool,
    /// `retain_resources`; ignored with `retain_all`.
    pub retain_resources: Vec<String>,
}

impl Service {
    /// Records that a cluster shall go away. Asking again answers the same task, until the cluster is gone.
    ///
    /// # Errors
    /// ClusterNotFound, DeletionProtected.
    pub async fn cluster_delete(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        input: &ClusterDelete,
    ) -> Outcome<ClusterTask> {
        self.cluster(ctx, cluster_id)?;
        for resource in &input.retain_resources {
            if resource.is_empty() || resource.chars().count() > 128 {
                return Err(Fault::invalid(
                    "retain_resources",
                    "retain_resources: each entry must have 1 to 128 characters",
                ));
            }
        }
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            if let Some(deletion) = &cluster.deletion
                && in_progress(change, &deletion.task_id)
            {
                return Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id: deletion.task_id.clone() });
            }
            if cluster.deletion_protection {
                return Err(Fault::new(
                    FaultKind::DeletionProtected,
                    format!("cluster {cluster_id} is protected from deletion; set deletion_protection to false first"),
                ));
            }
            let task_id = new_task_id();
            let retain = Retain {
                all: input.retain_all,
                load_balancer: input.keep_load_balancer,
                resources: if input.retain_all { Vec::new() } else { input.retain_resources.clone() },
            };
            let deletion = Deletion { task_id: task_id.clone(), requested: change.now, retain };
            let leaving = Cluster {
                state: ClusterState::Deleting,
                state_reason: None,
                updated: change.now,
                deletion: Some(deletion),
                ..cluster.value.clone()
            };
            change.update(&cluster, &leaving);
            let text = format!("Start to delete cluster {}", cluster.name);
            change.event(About::Cluster(cluster_id), TaskType::ClusterDelete, Level::Info, "Started", text);
            change.task(NewTask {
                id: &task_id,
                cluster_id,
                task_type: TaskType::ClusterDelete,
                stages: &task::DELETE_STAGES,
                resources: vec![cluster.id.clone()],
                node_pool_id: None,
                deadline_minutes: self.settings.task_timeout_minutes,
                done: false,
            });
            Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id })
        })
        .await
    }
}

/// A deletion whose task failed is still being tried, but asking again begins a new task.
fn in_progress(change: &Change<'_>, task_id: &str) -> bool {
    change.store.get::<Task>(task_id).is_some_and(|task| task.state == TaskState::Running)
}

/// `delete_options` of newer clients, for the kinds of resources that exist here: whether the load balancer is kept.
///
/// # Errors
/// InvalidParameter of `delete_options`.
pub fn keeps_load_balancer(options: &[(Option<String>, Option<String>)]) -> Outcome<bool> {
    let mut keeps = false;
    for (kind, mode) in options {
        let mode = fields::required("delete_options.delete_mode", mode.as_deref())?;
        fields::one_of("delete_options.delete_mode", mode, &["delete", "retain"])?;
        keeps |= kind.as_deref() == Some("SLB") && mode == "retain";
    }
    Ok(keeps)
}
