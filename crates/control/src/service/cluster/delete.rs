//! DeleteCluster: records that it shall go away, once.

use sampan_store::model::{
    Cluster, ClusterState, Deletion, Fault, FaultKind, Level, Machine, Outcome, Retain, Setting, Task, TaskState,
    TaskType, VSwitch, new_task_id,
};

use super::{ClusterTask, create::CLIENT_TOKENS};
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
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
            let (retain, notices) = plan_retained(change, &cluster, input);
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
            change.notices(About::Cluster(cluster_id), TaskType::ClusterDelete, &notices);
            forget_client_tokens(change, cluster_id);
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

/// What stays, and what users must know about what they wished to stay.
fn plan_retained(change: &Change<'_>, cluster: &Cluster, input: &ClusterDelete) -> (Retain, Vec<Notice>) {
    let network = &cluster.network;
    let mut resources = if input.retain_all { Vec::new() } else { input.retain_resources.clone() };
    let workers = change.store.list_of::<Machine>(&cluster.id);
    let is_worker =
        |id: &str| workers.iter().any(|m| m.is_node_of(&cluster.id) && (m.id == id || m.instance_name == id));
    let is_vswitch = |id: &str| change.store.get::<VSwitch>(id).is_some_and(|v| v.vpc_id == network.vpc_id);
    let (vswitches, others): (Vec<String>, Vec<String>) =
        resources.iter().filter(|id| !is_worker(id) && **id != network.vpc_id).cloned().partition(|id| is_vswitch(id));
    let mut notices = Vec::new();
    if !vswitches.is_empty() {
        let text = format!("retained with their VPC {}: {}", network.vpc_id, vswitches.join(", "));
        notices.push(Notice::new("VpcRetained", text));
        // Its vSwitches last as long as a VPC does.
        resources.push(network.vpc_id.clone());
    }
    let (mut ends, strange): (Vec<String>, Vec<String>) =
        others.into_iter().partition(|id| [&network.api_load_balancer_id, &network.security_group_id].contains(&id));
    if input.keep_load_balancer || input.retain_all {
        ends.push(network.api_load_balancer_id.clone());
    }
    if input.retain_all {
        ends.push(network.security_group_id.clone());
    }
    ends.sort();
    ends.dedup();
    if !ends.is_empty() {
        let text =
            format!("not retained: {}; no load balancer or security group outlives its cluster", ends.join(", "));
        notices.push(Notice::new("NotApplied", text));
    }
    if !strange.is_empty() {
        let text =
            format!("not retained: {}; the cluster has no machine, vSwitch or VPC of that id", strange.join(", "));
        notices.push(Notice::new("NotApplied", text));
    }
    (Retain { all: input.retain_all, load_balancer: input.keep_load_balancer, resources }, notices)
}

/// The tokens with which the cluster was asked for have nothing to answer any more.
fn forget_client_tokens(change: &mut Change<'_>, cluster_id: &str) {
    for token in change.store.list::<Setting>() {
        if token.id.starts_with(CLIENT_TOKENS) && token.value.value["cluster_id"] == cluster_id {
            change.delete(&token);
        }
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
