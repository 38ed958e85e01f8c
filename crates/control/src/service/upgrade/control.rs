//! PauseClusterUpgrade, ResumeUpgradeCluster, CancelClusterUpgrade, and how an upgrade stands.

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{
        Cluster, ClusterState, Fault, Level, Outcome, TaskType, Upgrade, UpgradeState, UpgradeWanted, new_task_id,
    },
};

use super::begin::{nodes_of, task_of};
use crate::service::{
    RequestContext, Service,
    change::{About, Change},
    cluster::{ClusterTask, refuse_while_tasks_run},
    cluster_state_word,
};

impl Service {
    /// The cluster whose upgrade is asked for. Its latest upgrade, ended or not, is in its record.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Swarm cluster.
    pub fn upgrade_status(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<Arc<Versioned<Cluster>>> {
        self.kubernetes_cluster(ctx, cluster_id)
    }

    /// Records that the upgrade shall stop at the next place where it may. Asked again, nothing changes.
    ///
    /// # Errors
    /// ClusterNotFound; ClusterState when none is in progress.
    pub async fn upgrade_pause(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<ClusterTask> {
        self.control_upgrade(ctx, cluster_id, |_, _, upgrade| match (upgrade.state, upgrade.wanted) {
            (UpgradeState::Paused, _) | (UpgradeState::Running, UpgradeWanted::Pause) => Ok(None),
            (UpgradeState::Running, UpgradeWanted::Run) => {
                upgrade.wanted = UpgradeWanted::Pause;
                Ok(Some("it stops at the next place where it may"))
            }
            (UpgradeState::Running, UpgradeWanted::Cancel) => Err("is being cancelled"),
            (UpgradeState::Failed, _) => Err("has failed already"),
            (UpgradeState::Success | UpgradeState::Cancelled, _) => Err("has ended"),
        })
        .await
    }

    /// Records that a paused or failed upgrade goes on. Asked again, nothing changes.
    ///
    /// # Errors
    /// ClusterNotFound; ClusterState when none is paused.
    pub async fn upgrade_resume(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<ClusterTask> {
        self.control_upgrade(ctx, cluster_id, |change, cluster, upgrade| match (upgrade.state, upgrade.wanted) {
            (UpgradeState::Running, UpgradeWanted::Run) => Ok(None),
            (UpgradeState::Running, UpgradeWanted::Pause) | (UpgradeState::Paused, _) | (UpgradeState::Failed, _) => {
                go_on(change, cluster, upgrade, UpgradeWanted::Run);
                Ok(Some("it goes on"))
            }
            (UpgradeState::Running, UpgradeWanted::Cancel) => Err("is being cancelled"),
            (UpgradeState::Success | UpgradeState::Cancelled, _) => Err("has ended"),
        })
        .await
    }

    /// Records that the upgrade ends at the next place where it may; what is upgraded stays so. Asked again, nothing changes.
    ///
    /// # Errors
    /// ClusterNotFound; ClusterState when there is none to cancel.
    pub async fn upgrade_cancel(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<ClusterTask> {
        self.control_upgrade(ctx, cluster_id, |change, cluster, upgrade| match (upgrade.state, upgrade.wanted) {
            (UpgradeState::Running, UpgradeWanted::Cancel) => Ok(None),
            (UpgradeState::Running | UpgradeState::Paused | UpgradeState::Failed, _) => {
                go_on(change, cluster, upgrade, UpgradeWanted::Cancel);
                Ok(Some("it ends at the next place where it may"))
            }
            (UpgradeState::Success | UpgradeState::Cancelled, _) => Err("has ended"),
        })
        .await
    }

    /// Changes what is wanted of the upgrade. `decide` answers what to tell, nothing when all is as asked for, or why not.
    async fn control_upgrade(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        decide: impl Fn(&mut Change<'_>, &Cluster, &mut Upgrade) -> Result<Option<&'static str>, &'static str> + Send + Sync,
    ) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            let mut upgrade = cluster
                .upgrade
                .clone()
                .ok_or_else(|| Fault::state(format!("cluster {cluster_id} has no upgrade in progress")))?;
            if cluster.deletion.is_some() {
                return Err(Fault::state(format!("cluster {cluster_id} is being deleted")));
            }
            if cluster.state == ClusterState::Stopped || cluster.power.is_some() || cluster.restore.is_some() {
                return Err(Fault::state(format!(
                    "cluster {cluster_id} is {}; its upgrade can be changed when it runs",
                    cluster_state_word(&cluster)
                )));
            }
            if cluster.upgrade.as_ref().is_some_and(|upgrade| upgrade.state == UpgradeState::Failed) {
                refuse_while_tasks_run(change, cluster_id, "upgraded further")?;
            }
            let told = decide(change, &cluster, &mut upgrade)
                .map_err(|why| Fault::state(format!("the upgrade of cluster {cluster_id} to {} {why}", upgrade.to)))?;
            let task_id = upgrade.task_id.clone();
            let Some(text) = told else {
                change.rely_on(&cluster);
                return Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id });
            };
            let message = format!("the upgrade to {}: {text}", upgrade.to);
            change.event(About::Cluster(&cluster.id), TaskType::ClusterUpgrade, Level::Info, "UpgradeChanged", message);
            let changed = Cluster {
                state: ClusterState::Updating,
                state_reason: None,
                updated: change.now,
                upgrade: Some(upgrade),
                ..cluster.value.clone()
            };
            change.update(&cluster, &changed);
            Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id })
        })
        .await
    }
}

/// The upgrade is in progress again; each step has its whole time. The task of one that failed has ended, so it gets
/// another one.
fn go_on(change: &mut Change<'_>, cluster: &Cluster, upgrade: &mut Upgrade, wanted: UpgradeWanted) {
    let now = change.now;
    let had_failed = upgrade.state == UpgradeState::Failed;
    upgrade.state = UpgradeState::Running;
    upgrade.wanted = wanted;
    (upgrade.halt, upgrade.error, upgrade.ended) = (None, None, None);
    upgrade.since = now;
    upgrade.turns.iter_mut().for_each(|turn| turn.since = now);
    upgrade.surge.iter_mut().for_each(|surge| surge.since = now);
    upgrade.message.clear();
    if had_failed {
        upgrade.task_id = new_task_id();
        let nodes = nodes_of(change, cluster, upgrade);
        task_of(change, cluster, upgrade, &nodes);
    }
}
