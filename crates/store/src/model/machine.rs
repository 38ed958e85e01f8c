//! A machine: an instance with a private address in a VPC; in a cluster, or kept in the inventory.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Tag, Timestamp};

/// What a machine does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineRole {
    /// Runs a managed cluster's control plane, or a Swarm cluster's master; users do not see it as a node.
    ControlPlane,
    /// Runs pods or containers.
    Worker,
}

/// What is wanted of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineWanted {
    /// Runs, as a member of its cluster.
    Run,
    /// Leaves its cluster (drained first when `drain` is set), then goes back to the inventory.
    Leave,
    /// Leaves its cluster, then is destroyed.
    Release,
    /// In the inventory, in no cluster: no container runs.
    Keep,
    /// Leaves its cluster, is made from scratch under its own id and addresses, and joins again.
    Reset,
}

/// How far a machine is; what users see as `state` of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Recorded; its container may or may not exist yet.
    Pending,
    /// Its container runs, its node is not Ready yet.
    Starting,
    /// In service.
    Running,
    /// Leaving.
    Removing,
    /// In the inventory.
    Kept,
    /// It could not be brought up; `error` says why.
    Failed,
}

/// Membership of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Its cluster.
    pub cluster_id: String,
    /// Its node pool; `None` for a control plane.
    pub node_pool_id: Option<String>,
    /// Role.
    pub role: MachineRole,
    /// Node name: `<region>.<ip>`.
    pub node_name: String,
    /// Its part of the pod network; `None` for a control plane, and in a Swarm cluster.
    pub pod_cidr: Option<Ipv4Net>,
    /// `aliyun.node_index` of a Swarm cluster's node, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_index: Option<u32>,
    /// The task that added it.
    pub task_id: String,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `i-…`.
    pub id: String,
    /// Account that owns it.
    pub account_id: String,
    /// Region.
    pub region_id: String,
    /// Zone of its vSwitch.
    pub zone_id: String,
    /// VPC.
    pub vpc_id: String,
    /// vSwitch.
    pub vswitch_id: String,
    /// Pinned private address.
    pub ip: Ipv4Addr,
    /// Pinned MAC address, `02:…`.
    pub mac: String,
    /// Instance type, e.g. `ecs.g6.large`.
    pub instance_type: String,
    /// Name that users see.
    pub instance_name: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// How it came to be: `manual`, `ess` (pool), `ess_attach`.
    pub source: String,
    /// When it was recorded.
    pub created: Timestamp,
    /// What is wanted.
    pub wanted: MachineWanted,
    /// Drain before leaving.
    #[serde(default)]
    pub drain: bool,
    /// The task that removes it.
    #[serde(default)]
    pub removal_task_id: Option<String>,
    /// Membership, while in a cluster.
    #[serde(default)]
    pub membership: Option<Membership>,
    /// How far it is.
    pub state: MachineState,
    /// Node condition as last seen: `Ready`, `NotReady`, `Unknown`.
    #[serde(default)]
    pub node_status: Option<String>,
    /// Since when the node condition is not Ready.
    #[serde(default)]
    pub not_ready_since: Option<Timestamp>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Times it was restarted or replaced by us.
    #[serde(default)]
    pub repairs: u32,
}

/// What a machine is from its first record on, whatever it does; the fields are those of [`Machine`].
#[derive(Clone, Debug)]
pub struct NewMachine {
    /// `i-…`.
    pub id: String,
    /// Account that owns it.
    pub account_id: String,
    /// Region.
    pub region_id: String,
    /// Zone of its vSwitch.
    pub zone_id: String,
    /// VPC.
    pub vpc_id: String,
    /// vSwitch.
    pub vswitch_id: String,
    /// Pinned private address.
    pub ip: Ipv4Addr,
    /// Pinned MAC address.
    pub mac: String,
    /// Instance type.
    pub instance_type: String,
    /// Name that users see.
    pub instance_name: String,
    /// Tags.
    pub tags: Vec<Tag>,
    /// How it came to be.
    pub source: String,
    /// When it was recorded.
    pub created: Timestamp,
}

impl NewMachine {
    /// A machine of the inventory.
    pub fn kept(self) -> Machine {
        Machine {
            id: self.id,
            account_id: self.account_id,
            region_id: self.region_id,
            zone_id: self.zone_id,
            vpc_id: self.vpc_id,
            vswitch_id: self.vswitch_id,
            ip: self.ip,
            mac: self.mac,
            instance_type: self.instance_type,
            instance_name: self.instance_name,
            tags: self.tags,
            source: self.source,
            created: self.created,
            wanted: MachineWanted::Keep,
            drain: false,
            removal_task_id: None,
            membership: None,
            state: MachineState::Kept,
            node_status: None,
            not_ready_since: None,
            error: None,
            repairs: 0,
        }
    }

    /// A machine that is made for a cluster.
    pub fn joining(self, membership: Membership) -> Machine {
        self.kept().joining(membership)
    }
}

impl Machine {
    /// The machine as it is in the inventory: in no cluster, and nothing of its former life is left.
    #[must_use]
    pub fn kept(&self) -> Self {
        NewMachine {
            id: self.id.clone(),
            account_id: self.account_id.clone(),
            region_id: self.region_id.clone(),
            zone_id: self.zone_id.clone(),
            vpc_id: self.vpc_id.clone(),
            vswitch_id: self.vswitch_id.clone(),
            ip: self.ip,
            mac: self.mac.clone(),
            instance_type: self.instance_type.clone(),
            instance_name: self.instance_name.clone(),
            tags: self.tags.clone(),
            source: self.source.clone(),
            created: self.created,
        }
        .kept()
    }

    /// The machine as it begins in a cluster: it shall run, and nothing of a former life is left.
    #[must_use]
    pub fn joining(&self, membership: Membership) -> Self {
        Self { wanted: MachineWanted::Run, membership: Some(membership), state: MachineState::Pending, ..self.kept() }
    }

    /// Whether it is a worker of the cluster.
    pub fn is_worker_of(&self, cluster_id: &str) -> bool {
        self.membership.as_ref().is_some_and(|m| m.cluster_id == cluster_id && m.role == MachineRole::Worker)
    }
    /// Its cluster, if it is in one.
    pub fn cluster_id(&self) -> Option<&str> {
        self.membership.as_ref().map(|m| m.cluster_id.as_str())
    }
}
