//! Backups of a cluster: asked for, listed, removed, and returned to.

use std::path::PathBuf;

use sampan_store::{
    Versioned,
    model::{Cluster, ClusterState, Fault, FaultKind, Level, Outcome, Restore, RestorePhase, TaskType, new_task_id},
};

use super::{
    ClusterTask,
    power::{gave_up_starting, refuse_while_tasks_run},
};
use crate::{
    backup::{Backup, Kind, Shelf, new_backup_id},
    service::{
        RequestContext, Service,
        change::{About, Change, NewTask},
        cluster_state_word, task, version,
    },
};

/// Minutes within which a cluster must be back, well or not.
const RESTORE_MINUTES: u32 = 60;

/// A backup that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupTask {
    /// Cluster.
    pub cluster_id: String,
    /// The backup's id.
    pub backup_id: String,
    /// The task that makes it.
    pub task_id: String,
}

/// Backups of a cluster that are kept because somebody asked for them; they stay until they are removed.
const MANUAL_MAX: usize = 100;

impl Service {
    fn shelf(&self) -> Outcome<Shelf> {
        let shelf = self.shelf.get().cloned();
        shelf.ok_or_else(|| Fault::unavailable("the server is still starting; try again in a moment"))
    }

    /// Asks for a backup.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Swarm cluster; ClusterState unless it is running.
    pub async fn cluster_backup(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<BackupTask> {
        let kept = self.cluster_backups(ctx, cluster_id).await?;
        if kept.iter().filter(|(backup, _)| backup.kind() == Kind::Manual).count() >= MANUAL_MAX {
            let text =
                format!("cluster {cluster_id} has {MANUAL_MAX} backups that were asked for; remove some of them first");
            return Err(Fault::new(FaultKind::QuotaExceeded("Backup".into()), text));
        }
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            if let Some(task) = change.running_task(cluster_id, |task_type| task_type == TaskType::ClusterBackup) {
                let text = format!(
                    "a backup of cluster {cluster_id} is being made by task {}; wait until it has ended",
                    task.id
                );
                return Err(Fault::state(text));
            }
            let (task_id, backup_id) = (new_task_id(), new_backup_id(Kind::Manual, change.now));
            change.rely_on(&cluster);
            let text = format!("Start to make backup {backup_id} of cluster {}", cluster.name);
            change.event(About::Cluster(cluster_id), TaskType::ClusterBackup, Level::Info, "Started", text);
            change.task(NewTask {
                id: &task_id,
                cluster_id,
                task_type: TaskType::ClusterBackup,
                stages: &task::BACKUP_STAGES,
                resources: vec![backup_id.clone()],
                node_pool_id: None,
                deadline_minutes: self.settings.task_timeout_minutes,
                done: false,
            });
            Ok(BackupTask { cluster_id: cluster.id.clone(), backup_id, task_id })
        })
        .await
    }

    /// The backups of a cluster with their files, the newest first.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Swarm cluster.
    pub async fn cluster_backups(&self, ctx: &RequestContext, cluster_id: &str) -> Outcome<Vec<(Backup, PathBuf)>> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let (shelf, id) = (self.shelf()?, cluster_id.to_owned());
        let list = move || {
            let backups = shelf.list(&id).into_iter();
            Ok(backups
                .filter_map(|backup| Some((shelf.path(&id, &backup.id).ok()?, backup)))
                .map(|(p, b)| (b, p))
                .collect())
        };
        on_disk(list).await
    }

    /// Removes a backup.
    ///
    /// # Errors
    /// ClusterNotFound; NotFound(Backup); ClusterState while the cluster is put back to it.
    pub async fn backup_delete(&self, ctx: &RequestContext, cluster_id: &str, backup_id: &str) -> Outcome<()> {
        let cluster = self.kubernetes_cluster(ctx, cluster_id)?;
        if cluster.restore.as_ref().is_some_and(|restore| restore.backup_id == backup_id) {
            return Err(Fault::state(format!("cluster {cluster_id} is being put back to backup {backup_id}")));
        }
        let (shelf, cluster_id, id) = (self.shelf()?, cluster_id.to_owned(), backup_id.to_owned());
        on_disk(move || {
            if !shelf.path(&cluster_id, &id)?.exists() {
                return Err(Fault::not_found("Backup", &id));
            }
            shelf.remove(&cluster_id, &id)
        })
        .await
    }

    /// Records that a cluster shall go back to a backup.
    ///
    /// # Errors
    /// ClusterNotFound; Unsupported for a Swarm cluster; NotFound(Backup); InvalidParameter of `backup_id` for one that
    /// cannot be used; ClusterState unless the cluster is running and nothing is being changed.
    pub async fn cluster_restore(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        backup_id: &str,
    ) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let (shelf, of, id) = (self.shelf()?, cluster_id.to_owned(), backup_id.to_owned());
        let backup = on_disk(move || shelf.get(&of, &id)).await?;
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            if !cluster.is_settled() && !gave_up_starting(&cluster) {
                let state = cluster_state_word(&cluster);
                return Err(Fault::state(format!(
                    "cluster {cluster_id} is {state}; it can be put back to a backup when it is running"
                )));
            }
            refuse_while_tasks_run(change, cluster_id, "put back to a backup")?;
            refuse_newer(&backup, &cluster)?;
            Ok(record_restore(change, &cluster, &backup))
        })
        .await
    }
}

fn record_restore(change: &mut Change<'_>, cluster: &Versioned<Cluster>, backup: &Backup) -> ClusterTask {
    let task_id = new_task_id();
    let restore = Restore {
        backup_id: backup.id.clone(),
        task_id: task_id.clone(),
        requested: change.now,
        phase: RestorePhase::Check,
        since: change.now,
        sha256: String::new(),
        members: Vec::new(),
        anew: false,
        failure: None,
    };
    let wanted = Cluster {
        state: ClusterState::Updating,
        state_reason: None,
        updated: change.now,
        restore: Some(restore),
        ..cluster.value.clone()
    };
    change.update(cluster, &wanted);
    let text = format!("Start to put cluster {} back to backup {} of {}", cluster.name, backup.id, backup.created);
    change.event(About::Cluster(&cluster.id), TaskType::ClusterRestore, Level::Warning, "Started", text);
    change.task(NewTask {
        id: &task_id,
        cluster_id: &cluster.id,
        task_type: TaskType::ClusterRestore,
        stages: &task::RESTORE_STAGES,
        resources: vec![cluster.id.clone()],
        node_pool_id: None,
        deadline_minutes: RESTORE_MINUTES,
        done: false,
    });
    ClusterTask { cluster_id: cluster.id.clone(), task_id }
}

/// An API server may not know what a newer one has written.
fn refuse_newer(backup: &Backup, cluster: &Cluster) -> Outcome<()> {
    let minor = |text: &str| version::parse("version", text).map(|asked| (asked.major, asked.minor));
    if minor(&backup.kubernetes_version)? <= minor(&cluster.version)? {
        return Ok(());
    }
    Err(Fault::invalid(
        "backup_id",
        format!(
            "backup {} was made by Kubernetes {}, and cluster {} runs {}: it may not be able to read it; upgrade the cluster \
             first",
            backup.id, backup.kubernetes_version, cluster.id, cluster.version
        ),
    ))
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.unwrap_or_else(|error| Err(Fault::unavailable(format!("the backups cannot be looked at: {error}"))))
}
