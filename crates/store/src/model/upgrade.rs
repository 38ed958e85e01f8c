//! An upgrade of a cluster: what it goes to, how far it is, and what was found on the way. It stays in the cluster's record
//! after its end, for those who ask how it went.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// How an upgrade stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// In progress.
    Running,
    /// Stopped between two steps, on request; it can be resumed.
    Paused,
    /// A step failed; it can be resumed.
    Failed,
    /// Ended on request; the cluster stays as far as it was upgraded.
    Cancelled,
    /// Everything has the version.
    Success,
}

/// What users want of an upgrade that is in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeWanted {
    /// Goes on.
    #[default]
    Run,
    /// Stops at the next place where it may.
    Pause,
    /// Ends at the next place where it may.
    Cancel,
}

/// Parts of an upgrade, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradePhase {
    /// Whether the cluster can be upgraded.
    Precheck,
    /// A snapshot of etcd.
    Snapshot,
    /// The machines of the control plane, one at a time.
    ControlPlane,
    /// What every cluster has from the start.
    Components,
    /// The nodes, pool by pool.
    Nodes,
}

/// Something that a pre-check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// One word: which check.
    pub check: String,
    /// The upgrade cannot go on with it; else it is a warning.
    pub blocks: bool,
    /// In words.
    pub message: String,
}

/// A snapshot of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeSnapshot {
    /// The backup that holds it.
    pub backup_id: String,
    /// Its size.
    pub bytes: u64,
}

/// A node whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTurn {
    /// Its machine.
    pub machine_id: String,
    /// It was not schedulable before, and stays so.
    #[serde(default)]
    pub was_cordoned: bool,
    /// Since when the present step of it lasts.
    pub since: Timestamp,
    /// It was emptied and told to be of the new version.
    #[serde(default)]
    pub switched: bool,
}

/// Machines that a pool has more while its nodes are upgraded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surge {
    /// The pool.
    pub pool_id: String,
    /// The machines.
    pub machine_ids: Vec<String>,
    /// When they were asked for.
    pub since: Timestamp,
}

/// What an upgrade is from its first record on; the fields are those of [`Upgrade`].
#[derive(Clone, Debug, Default)]
pub struct NewUpgrade {
    /// Its task.
    pub task_id: String,
    /// Version of the control plane now.
    pub from: String,
    /// Version that everything shall have.
    pub to: String,
    /// Id of the report of the pre-checks.
    pub report_id: String,
    /// The service begins it by itself.
    pub automatic: bool,
    /// Only the nodes of these pools.
    pub pools: Vec<String>,
    /// Only the control plane.
    pub control_plane_only: bool,
    /// Nodes of a pool that may be out of service at once.
    pub max_parallelism: Option<u32>,
}

impl NewUpgrade {
    /// The upgrade as it begins.
    pub fn begin(self, now: Timestamp) -> Upgrade {
        Upgrade {
            task_id: self.task_id,
            from: self.from,
            to: self.to,
            started: now,
            ended: None,
            automatic: self.automatic,
            pools: self.pools,
            control_plane_only: self.control_plane_only,
            max_parallelism: self.max_parallelism,
            state: UpgradeState::Running,
            wanted: UpgradeWanted::Run,
            halt: None,
            phase: UpgradePhase::Precheck,
            since: now,
            report_id: self.report_id,
            findings: Vec::new(),
            snapshot: None,
            turns: Vec::new(),
            surge: Vec::new(),
            message: String::new(),
            error: None,
        }
    }
}

/// An upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The task that shows it; a resumed one that had failed has another task.
    pub task_id: String,
    /// Version of the control plane when it began.
    pub from: String,
    /// Version that everything shall have.
    pub to: String,
    /// When it was asked for.
    pub started: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// The service began it by itself; its nodes are only touched while the maintenance window is open.
    #[serde(default)]
    pub automatic: bool,
    /// Only the nodes of these pools; empty: of all.
    #[serde(default)]
    pub pools: Vec<String>,
    /// Only the control plane; nodes keep their version.
    #[serde(default)]
    pub control_plane_only: bool,
    /// Nodes of a pool that may be out of service at once, instead of what the pool says.
    #[serde(default)]
    pub max_parallelism: Option<u32>,
    /// How it stands.
    pub state: UpgradeState,
    /// What users want of it.
    #[serde(default)]
    pub wanted: UpgradeWanted,
    /// A step failed, for this reason: what was begun is ended, then the upgrade has failed.
    #[serde(default)]
    pub halt: Option<String>,
    /// How far it is.
    pub phase: UpgradePhase,
    /// Since when the present step lasts.
    pub since: Timestamp,
    /// Id of the report of the pre-checks.
    pub report_id: String,
    /// What the pre-checks found.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// etcd as it was before.
    #[serde(default)]
    pub snapshot: Option<UpgradeSnapshot>,
    /// Nodes whose turn it is.
    #[serde(default)]
    pub turns: Vec<NodeTurn>,
    /// Machines that are there for the time of the upgrade.
    #[serde(default)]
    pub surge: Vec<Surge>,
    /// What is being done, or waited for.
    #[serde(default)]
    pub message: String,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}

impl Upgrade {
    /// Whether it has not come to an end: it is in progress, or can go on.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, UpgradeState::Success | UpgradeState::Cancelled)
    }

    /// Whether nothing new may begin: it shall stop, or a step has failed.
    pub fn stops(&self) -> bool {
        self.wanted != UpgradeWanted::Run || self.halt.is_some()
    }

    /// Whether it is for the nodes of this pool.
    pub fn concerns(&self, pool_id: &str) -> bool {
        !self.control_plane_only && (self.pools.is_empty() || self.pools.iter().any(|id| id == pool_id))
    }
}

/// Parameters of the control plane's components: component → name → value.
pub type Parameters = BTreeMap<String, BTreeMap<String, String>>;

/// A change of parameters that is being put in force, machine by machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterChange {
    /// The task that shows it.
    pub task_id: String,
    /// What was in force before, and is again if the new ones do no good.
    pub previous: Parameters,
    /// Machines that have been told the new ones, the last one at the end.
    #[serde(default)]
    pub applied: Vec<String>,
    /// Since when the last one of them has known.
    pub since: Timestamp,
    /// The new ones did no good, for this reason; the former ones are put in force again.
    #[serde(default)]
    pub rolled_back: Option<String>,
    /// It is over.
    #[serde(default)]
    pub done: bool,
}
