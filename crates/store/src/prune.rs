//! Forgetting: what is kept in memory and on disk stays bounded over the years.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use crate::backend::RawChange;
use crate::document::{Document, Versioned};
use crate::model::{Cluster, ClusterState, KubeCredential, NodePool, Task, TaskState, Timestamp, Trigger};
use crate::{Batch, Store, StoreError};

/// Documents deleted in one batch: the writer is free again soon.
const DOCUMENTS_PER_BATCH_MAX: usize = 200;

impl Store {
    /// Forgets nonces that expired before `now`, finished tasks, deleted clusters, events and log lines beyond the
    /// limits of [`crate::StoreOptions`]. To be called now and then, e.g. every few minutes; doing it more often
    /// costs little.
    ///
    /// # Errors
    /// As [`Store::commit`]. What was forgotten before the error stays forgotten.
    pub async fn prune(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.raw(RawChange::ForgetNonces { before: now.as_millisecond() });
        batch.raw(RawChange::TrimEvents { keep: self.options().events_max });
        self.commit(batch).await?;
        self.prune_clusters(now).await?;
        self.prune_tasks(now).await?;
        self.prune_logs().await
    }

    /// Deleted clusters past their time go with everything that belongs to them; one batch each.
    async fn prune_clusters(&self, now: Timestamp) -> Result<(), StoreError> {
        let horizon = now.saturating_sub(self.options().deleted_cluster_retention).unwrap_or(Timestamp::MIN);
        for cluster in self.list::<Cluster>() {
            if cluster.state != ClusterState::Deleted || cluster.updated > horizon {
                continue;
            }
            let mut batch = Batch::new();
            delete(&mut batch, &cluster);
            self.list_of::<NodePool>(&cluster.id).iter().for_each(|pool| delete(&mut batch, pool));
            self.list_of::<KubeCredential>(&cluster.id).iter().for_each(|credential| delete(&mut batch, credential));
            self.list_of::<Trigger>(&cluster.id).iter().for_each(|trigger| delete(&mut batch, trigger));
            let tasks = self.list_of::<Task>(&cluster.id);
            tasks.iter().filter(|task| is_finished(task)).for_each(|task| delete(&mut batch, task));
            batch.raw(RawChange::TrimLogs { cluster_id: cluster.id.clone(), keep: 0 });
            self.commit_unless_changed(batch).await?;
        }
        Ok(())
    }

    async fn prune_tasks(&self, now: Timestamp) -> Result<(), StoreError> {
        let horizon = now.saturating_sub(self.options().task_retention).unwrap_or(Timestamp::MIN);
        // These are looked up for as long as the cluster is there: why it failed, what a second DELETE answers.
        let named: HashSet<String> = self.list::<Cluster>().iter().flat_map(|cluster| named_tasks(cluster)).collect();
        let mut finished: Vec<Arc<Versioned<Task>>> =
            self.list::<Task>().into_iter().filter(|task| is_finished(task) && !named.contains(&task.id)).collect();
        finished.sort_by_key(|task| Reverse(task.updated));
        let mut batch = Batch::new();
        let mut length = 0;
        for (index, task) in finished.iter().enumerate() {
            if index < self.options().finished_tasks_max && task.updated > horizon {
                continue;
            }
            delete(&mut batch, task);
            length += 1;
            if length == DOCUMENTS_PER_BATCH_MAX {
                self.commit_unless_changed(std::mem::take(&mut batch)).await?;
                length = 0;
            }
        }
        self.commit_unless_changed(batch).await
    }

    /// One cluster at a time, for the same reason.
    async fn prune_logs(&self) -> Result<(), StoreError> {
        for cluster_id in self.backend().log_owners().await? {
            let known = self.get::<Cluster>(&cluster_id).is_some();
            let keep = if known { self.options().log_lines_per_cluster_max } else { 0 };
            let mut batch = Batch::new();
            batch.raw(RawChange::TrimLogs { cluster_id, keep });
            self.commit(batch).await?;
        }
        Ok(())
    }

    /// What somebody changed in this very moment is still of use; the next round looks at it again.
    async fn commit_unless_changed(&self, batch: Batch) -> Result<(), StoreError> {
        match self.commit(batch).await {
            Err(StoreError::Conflict { kind, id }) => {
                tracing::debug!(%kind, id, "not forgotten now: it was changed meanwhile");
                Ok(())
            }
            other => other,
        }
    }
}

fn delete<T: Document>(batch: &mut Batch, document: &Versioned<T>) {
    let id = document.value.id();
    batch.expect_revision::<T>(id, Some(document.revision)).delete::<T>(id);
}

fn is_finished(task: &Task) -> bool {
    task.state != TaskState::Running
}

fn named_tasks(cluster: &Cluster) -> impl Iterator<Item = String> + use<> {
    let deletion = cluster.deletion.as_ref().map(|deletion| deletion.task_id.clone());
    std::iter::once(cluster.creation_task_id.clone()).chain(deletion)
}
