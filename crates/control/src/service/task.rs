//! Tasks, as users ask for them.

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{Event, Fault, Outcome, Task},
};

use super::{RequestContext, Service};

/// Stages of a cluster's creation, in order.
pub const CREATE_STAGES: [&str; 5] = ["network", "control_plane", "nodes", "components", "endpoint"];
/// Stages of adding nodes.
pub const SCALE_OUT_STAGES: [&str; 1] = ["nodes"];
/// Stages of removing nodes.
pub const REMOVE_STAGES: [&str; 2] = ["drain", "release"];
/// Stages of making a node from scratch.
pub const RESET_STAGES: [&str; 1] = ["node"];
/// Stages of a change of settings.
pub const MODIFY_STAGES: [&str; 1] = ["settings"];
/// Stages of a change of a node pool that changes its size, too.
pub const POOL_STAGES: [&str; 2] = ["settings", "nodes"];
/// Stages of a repair.
pub const REPAIR_STAGES: [&str; 1] = ["repair"];
/// Stages of an upgrade, in order.
pub const UPGRADE_STAGES: [&str; 5] = ["precheck", "snapshot", "control_plane", "components", "nodes"];
/// Stages of giving a cluster a highly available control plane, in order.
pub const MIGRATE_STAGES: [&str; 4] = ["certificates", "members", "control_plane", "endpoint"];
/// Stages of a stop, in order.
pub const STOP_STAGES: [&str; 2] = ["nodes", "control_plane"];
/// Stages of a start, in order.
pub const START_STAGES: [&str; 3] = ["control_plane", "nodes", "endpoint"];
/// Stages of a backup.
pub const BACKUP_STAGES: [&str; 1] = ["snapshot"];
/// Stages of a return to a backup, in order.
pub const RESTORE_STAGES: [&str; 4] = ["check", "receive", "replace", "control_plane"];
/// Stages of a deletion, in order.
pub const DELETE_STAGES: [&str; 2] = ["nodes", "network"];

/// Events of a task that are shown with it.
const EVENTS_MAX: u32 = 100;

impl Service {
    /// A task of the caller's account.
    ///
    /// # Errors
    /// NotFound.
    pub fn task(&self, ctx: &RequestContext, id: &str) -> Outcome<Arc<Versioned<Task>>> {
        self.store
            .get::<Task>(id)
            .filter(|task| task.account_id == ctx.account_id)
            .ok_or_else(|| Fault::not_found("Task", id))
    }

    /// Events of the task's cluster and type since the task began, oldest first.
    ///
    /// # Errors
    /// Unavailable when the disk does not answer.
    pub async fn task_events(&self, ctx: &RequestContext, task: &Task) -> Outcome<Vec<Event>> {
        let query = sampan_store::EventQuery {
            account_id: ctx.account_id.clone(),
            cluster_id: Some(task.cluster_id.clone()),
            event_type: Some(task.task_type.as_str().to_owned()),
            offset: 0,
            limit: EVENTS_MAX,
        };
        let page = self.store.events(&query).await?;
        let ended = task.state != sampan_store::model::TaskState::Running;
        let mine = |event: &Event| event.time >= task.created && !(ended && event.time > task.updated);
        Ok(page.items.into_iter().filter(mine).rev().collect())
    }
}
