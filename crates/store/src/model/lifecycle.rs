//! What happens to a cluster as a whole after its creation: it is stopped and started, put back to a backup, and how its
//! parts are.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A wanted stop, or a start that is not through its first half. Absent: the cluster is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Power {
    /// Off is wanted; else on.
    pub stop: bool,
    /// The task of it.
    pub task_id: String,
    /// When it was asked for.
    pub requested: Timestamp,
    /// Which machines shall not run now.
    pub halted: Halted,
}

/// Machines of a cluster that shall not run: workers go down before the control plane and come up after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halted {
    /// Those that run pods only.
    Workers,
    /// All.
    All,
}

/// A wanted return to a backup, until it is done or was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The backup.
    pub backup_id: String,
    /// The task of it.
    pub task_id: String,
    /// When it was asked for.
    pub requested: Timestamp,
    /// How far it is.
    pub phase: RestorePhase,
    /// When the phase began.
    pub since: Timestamp,
    /// SHA-256 of the snapshot, hexadecimal, once it has been checked.
    #[serde(default)]
    pub sha256: String,
    /// Addresses of etcd's members, the same for all of them from the moment when they receive the snapshot; empty where the
    /// control plane has one machine.
    #[serde(default)]
    pub members: Vec<Ipv4Addr>,
    /// All members were lost with their disks: etcd begins anew with the backup's data, and there is nothing to go back to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
    /// Why it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Phases of a return to a backup. Until `Replace` nothing has happened to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestorePhase {
    /// The file is read and checked.
    Check,
    /// The control plane's machines receive it.
    Receive,
    /// The API is down; etcd's data is made anew.
    Replace,
    /// The control plane starts with it.
    Start,
    /// It did not come up, or could not be made: the former data is put back.
    TakeBack,
    /// The control plane starts with the former data.
    StartFormer,
}

/// Whether a part of a cluster is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It is.
    Healthy,
    /// It works, but something is wrong with it.
    Degraded,
    /// It is not.
    Unhealthy,
    /// It cannot be known now.
    Unknown,
}

/// How a part of a cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which part: `network`, `certificates`, `api_server`, `etcd`, `controllers`, `scheduler`, `dns`, `endpoint`.
    pub component: String,
    /// How it is.
    pub health: Health,
    /// In words.
    pub message: String,
    /// Since when its health is what it is.
    pub since: Timestamp,
    /// Users were told that something is wrong with it.
    #[serde(default)]
    pub told: bool,
}
