//! A task is the user's view of asynchronous work: stages with times, results per resource, an error in words.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// `state` of a task (catalogue 9.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Not finished.
    Running,
    /// Failed.
    Fail,
    /// Done.
    Success,
}

/// `status` of one result (catalogue 9.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultStatus {
    /// Not there yet.
    Initial,
    /// Done.
    Success,
    /// Failed.
    Failed,
}

/// State of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    /// Not begun.
    Waiting,
    /// In progress.
    Running,
    /// Done.
    Success,
    /// Failed.
    Fail,
}

/// A step of the work in words that a person can follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Stable name, e.g. `network`, `control_plane`, `nodes`.
    pub name: String,
    /// State.
    pub state: StageState,
    /// When it began.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub finished: Option<Timestamp>,
    /// What is waited for now, or why it failed.
    #[serde(default)]
    pub message: String,
}

/// A resource that the task works on, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Resource, e.g. an instance id.
    pub data: String,
    /// Status.
    pub status: ResultStatus,
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// An API error code.
    pub code: String,
    /// In words.
    pub message: String,
}

/// Which work it is. The value is also the `type` of its events (catalogue 9.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    /// Create a cluster.
    ClusterCreate,
    /// Add nodes.
    ClusterScaleout,
    /// Make existing machines nodes.
    ClusterAttach,
    /// Remove nodes.
    ClusterNodeDelete,
    /// Make a node from scratch.
    ClusterNodeReset,
    /// Change a cluster.
    ClusterModify,
    /// Give a cluster a highly available control plane.
    ClusterMigrate,
    /// Delete a cluster.
    ClusterDelete,
    /// Create or change a node pool without adding nodes.
    NodepoolUpdate,
    /// Repair nodes of a pool.
    NodepoolRepair,
    /// Bring a cluster to another version.
    ClusterUpgrade,
    /// Change parameters of the control plane.
    ClusterConfigurationModify,
    /// Stop a cluster.
    ClusterStop,
    /// Start a stopped cluster.
    ClusterStart,
    /// Make a backup of a cluster.
    ClusterBackup,
    /// Put a cluster back to a backup.
    ClusterRestore,
}

impl TaskType {
    /// The API's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterCreate => "cluster_create",
            Self::ClusterScaleout => "cluster_scaleout",
            Self::ClusterAttach => "cluster_attach",
            Self::ClusterNodeDelete => "cluster_node_delete",
            Self::ClusterNodeReset => "cluster_node_reset",
            Self::ClusterModify => "cluster_modify",
            Self::ClusterMigrate => "cluster_migrate",
            Self::ClusterDelete => "cluster_delete",
            Self::NodepoolUpdate => "nodepool_update",
            Self::NodepoolRepair => "nodepool_repair",
            Self::ClusterUpgrade => "cluster_upgrade",
            Self::ClusterConfigurationModify => "cluster_configuration_modify",
            Self::ClusterStop => "cluster_stop",
            Self::ClusterStart => "cluster_start",
            Self::ClusterBackup => "cluster_backup",
            Self::ClusterRestore => "cluster_restore",
        }
    }
}

/// Who works on a task. Another replica may adopt it once the lease has run out, with a higher fencing number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The server's instance id.
    pub owner: String,
    /// Grows with each adoption.
    pub fence: u64,
    /// End of the lease.
    pub expires: Timestamp,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// `T-…`.
    pub id: String,
    /// Account.
    pub account_id: String,
    /// Its cluster.
    pub cluster_id: String,
    /// Which work.
    pub task_type: TaskType,
    /// State.
    pub state: TaskState,
    /// Node pool it is about, if any.
    #[serde(default)]
    pub node_pool_id: Option<String>,
    /// Steps.
    #[serde(default)]
    pub stages: Vec<Stage>,
    /// Resources.
    #[serde(default)]
    pub results: Vec<TaskResult>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<TaskError>,
    /// When it was recorded.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// When it must have ended, else it fails.
    pub deadline: Timestamp,
    /// Who works on it.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// The request that began it.
    #[serde(default)]
    pub request_id: String,
}
