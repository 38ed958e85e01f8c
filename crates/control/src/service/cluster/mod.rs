//! Clusters: made, shown, changed, deleted. [`swarm`] has what only Swarm clusters are asked.

mod check;
pub mod create;
mod delete;
mod modify;
mod query;
mod recorded;
mod site;
pub mod swarm;

pub use create::ClusterCreate;
pub use delete::{ClusterDelete, keeps_load_balancer};
pub use modify::ClusterModify;
pub use query::{ClusterFilter, Resource, ResourceKind, worker_count};

/// Ids of accepted work on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTask {
    /// Cluster.
    pub cluster_id: String,
    /// Task.
    pub task_id: String,
}
