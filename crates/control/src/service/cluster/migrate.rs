//! MigrateCluster: a standard managed cluster gets a Pro one's control plane, of several machines, and loses no write.

use sampan_store::{
    Versioned,
    model::{Cluster, ClusterState, ClusterType, Fault, FaultKind, Level, Machine, Outcome, TaskType, new_task_id},
};

use super::{ClusterTask, masters::PRO, power::refuse_while_tasks_run};
use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask},
    task,
    upgrade::refuse_open_upgrade,
};

impl Service {
    /// Gives a managed cluster a highly available control plane. While that goes on, the same task is answered again.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for other kinds of clusters; ClusterState of one that has it already, or is being
    /// changed.
    pub async fn cluster_migrate(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            if cluster.cluster_type != ClusterType::ManagedKubernetes {
                let text =
                    format!("cluster {cluster_id} is not a managed one; its masters are highly available already");
                return Err(Fault::new(FaultKind::Unsupported, text));
            }
            if let Some(task_id) = migration_in_progress(change, cluster_id) {
                change.rely_on(&cluster);
                return Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id });
            }
            if is_wide(change, &cluster) {
                let text = format!("cluster {cluster_id} is of {PRO} already; nothing is to be migrated");
                return Err(Fault::state(text));
            }
            if !cluster.is_settled() {
                self.changeable_cluster(change.ctx, cluster_id)?;
                return Err(Fault::state(format!(
                    "cluster {cluster_id} is being changed; migrate it when that is done"
                )));
            }
            refuse_open_upgrade(&cluster)?;
            refuse_while_tasks_run(change, cluster_id, "migrated")?;
            self.plan_migration(change, &cluster)
        })
        .await
    }

    fn plan_migration(&self, change: &mut Change<'_>, cluster: &Versioned<Cluster>) -> Outcome<ClusterTask> {
        let task_id = new_task_id();
        let machines = change.widen_control_plane(&self.settings, cluster, &task_id)?;
        let migrating = Cluster {
            spec: PRO.to_owned(),
            state: ClusterState::Updating,
            updated: change.now,
            ..cluster.value.clone()
        };
        change.update(cluster, &migrating);
        let text = format!("Start to migrate cluster {} from {} to {PRO}", cluster.name, cluster.spec);
        change.event(About::Cluster(&cluster.id), TaskType::ClusterMigrate, Level::Info, "Started", text);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::ClusterMigrate,
            stages: &task::MIGRATE_STAGES,
            resources: machines,
            node_pool_id: None,
            deadline_minutes: self.settings.task_timeout_minutes,
            done: false,
        });
        Ok(ClusterTask { cluster_id: cluster.id.clone(), task_id })
    }
}

fn migration_in_progress(change: &Change<'_>, cluster_id: &str) -> Option<String> {
    let running = change.running_task(cluster_id, |task_type| task_type == TaskType::ClusterMigrate)?;
    Some(running.id.clone())
}

/// Whether its control plane has several machines. Clusters of older servers may be called Pro without that.
fn is_wide(change: &Change<'_>, cluster: &Cluster) -> bool {
    let machines = change.store.list_of::<Machine>(&cluster.id);
    machines.iter().any(|machine| machine.etcd().is_some())
}
