//! Clusters: made, shown, changed, deleted. [`swarm`] has what only Swarm clusters are asked.

mod autoscaling;
mod backup;
mod check;
pub mod create;
mod delete;
mod health;
mod masters;
mod migrate;
mod modify;
mod power;
mod query;
mod recorded;
mod site;
pub mod swarm;

pub use autoscaling::AutoscalingInput;
pub use backup::BackupTask;
pub use create::ClusterCreate;
pub use delete::{ClusterDelete, keeps_load_balancer};
pub use health::{ClusterHealth, NodeHealth};
pub use masters::{MastersWanted, ZoneWanted};
pub use modify::ClusterModify;
pub(super) use power::refuse_while_tasks_run;
pub use query::{ClusterFilter, Resource, ResourceKind, worker_count};

/// Ids of accepted work on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTask {
    /// Cluster.
    pub cluster_id: String,
    /// Task.
    pub task_id: String,
}
