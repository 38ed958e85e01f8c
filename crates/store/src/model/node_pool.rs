//! A node pool: machines of one shape. Every worker belongs to one from the first day.

use serde::{Deserialize, Serialize};

use super::{Tag, Timestamp};

/// A Kubernetes taint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value, may be empty.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `NoExecute` or `PreferNoSchedule`.
    pub effect: String,
}

/// `state` of a node pool (catalogue 11.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodePoolState {
    /// As wanted.
    Active,
    /// Machines are being added.
    Scaling,
    /// Machines are being removed.
    Removing,
    /// Being deleted.
    Deleting,
    /// Being changed.
    Updating,
}

/// A node pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePool {
    /// `np…`.
    pub id: String,
    /// Its cluster.
    pub cluster_id: String,
    /// Name.
    pub name: String,
    /// The pool that is made with the cluster.
    pub is_default: bool,
    /// State that users see.
    pub state: NodePoolState,
    /// When it was asked for.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// Region.
    pub region_id: String,
    /// Instance types of new machines, first choice first.
    pub instance_types: Vec<String>,
    /// vSwitches of new machines, used in turn; empty: the cluster's.
    pub vswitch_ids: Vec<String>,
    /// Labels of its nodes.
    #[serde(default)]
    pub labels: Vec<Tag>,
    /// Taints of its nodes.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Tags of its machines.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// `cpu_policy`: `none` or `static`.
    #[serde(default)]
    pub cpu_policy: Option<String>,
    /// Text that runs at the first boot (decoded).
    #[serde(default)]
    pub user_data: Option<String>,
    /// The runtime named in the request.
    #[serde(default)]
    pub runtime_requested: Option<String>,
    /// Resource group.
    #[serde(default)]
    pub resource_group_id: String,
    /// The request as sent, without secrets: what is stored and returned but has no effect of its own.
    #[serde(default)]
    pub request: serde_json::Value,
    /// Set when it shall go away.
    #[serde(default)]
    pub deleting: bool,
}
