//! A machine: an instance with a private address in a VPC; in a cluster, or kept in the inventory.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Cluster, EtcdMember, HostMachine, NodeConfig, Tag, Taint, Timestamp};

/// What a machine does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineRole {
    /// Runs a managed cluster's control plane, or a Swarm cluster's master; users do not see it as a node.
    ControlPlane,
    /// Runs a part of a dedicated cluster's control plane, and is one of its nodes.
    Master,
    /// Runs pods or containers.
    Worker,
}

impl MachineRole {
    /// Whether it is a node that users see.
    pub fn is_node(self) -> bool {
        self != Self::ControlPlane
    }
    /// Whether the control plane, or a part of it, runs on it.
    pub fn is_control_plane(self) -> bool {
        self != Self::Worker
    }
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
    /// Its container is stopped, with its whole cluster.
    Stopped,
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
    /// Its node pool; `None` for a control plane and for masters.
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
    /// Its part in an etcd of several members; `None` where etcd has one, or none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdMember>,
    /// The task that added it.
    pub task_id: String,
    /// Kubernetes version that it shall run; `None`: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
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
    /// What its pool gave its nodes when it was changed for new nodes only; `None`: what the pool gives now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<NodeConfig>,
    /// What its node was given formerly and shall lose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retired>,
    /// Since when it is being restarted or replaced because its node was not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mending: Option<Timestamp>,
    /// A repair that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairOrder>,
    /// What is only known of a host: a machine that is no container of the node image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostMachine>,
    /// What was asked for it alone when it was attached; it goes before its pool's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<AttachOptions>,
}

/// Labels and taints that a node shall lose, because its pool no longer has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Keys of labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Taints; value does not matter.
    #[serde(default)]
    pub taints: Vec<Taint>,
}

/// A repair that somebody asked for (catalogue 11.8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairOrder {
    /// Its task.
    pub task_id: String,
    /// It was restarted for it.
    #[serde(default)]
    pub restarted: bool,
}

/// What was asked for one machine when it was attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOptions {
    /// `cpu_policy`: `none` or `static`.
    #[serde(default)]
    pub cpu_policy: Option<String>,
    /// Text that runs at the first boot (decoded).
    #[serde(default)]
    pub user_data: Option<String>,
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
            pinned: None,
            retired: None,
            mending: None,
            repair: None,
            host: None,
            attached: None,
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
        let kept = NewMachine {
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
        };
        // A bare host is one in the inventory, too; what its agent reported goes with the agent.
        let host = self.host.as_ref().filter(|host| host.bare).map(|_| HostMachine::bare());
        Self { host, ..kept.kept() }
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
    /// Kubernetes version that it shall run in its cluster.
    pub fn version<'a>(&'a self, cluster: &'a Cluster) -> &'a str {
        self.membership.as_ref().and_then(|member| member.version.as_deref()).unwrap_or(&cluster.version)
    }
    /// Whether it is a node of the cluster that users see.
    pub fn is_node_of(&self, cluster_id: &str) -> bool {
        self.membership.as_ref().is_some_and(|m| m.cluster_id == cluster_id && m.role.is_node())
    }
    /// Whether the cluster's control plane, or a part of it, runs on it.
    pub fn is_control_plane_of(&self, cluster_id: &str) -> bool {
        self.membership.as_ref().is_some_and(|m| m.cluster_id == cluster_id && m.role.is_control_plane())
    }
    /// Its part in an etcd of several members.
    pub fn etcd(&self) -> Option<&EtcdMember> {
        self.membership.as_ref().and_then(|m| m.etcd.as_ref())
    }
    /// Whether it is a member of an etcd of several, and not only to become one.
    pub fn is_etcd_member(&self) -> bool {
        self.etcd().is_some_and(EtcdMember::may_run)
    }
    /// Whether etcd may run on a machine of a control plane: on the only one, and on members, but not on one that is to
    /// become a member.
    pub fn may_run_etcd(&self) -> bool {
        self.etcd().is_none_or(EtcdMember::may_run)
    }
    /// Its cluster, if it is in one.
    pub fn cluster_id(&self) -> Option<&str> {
        self.membership.as_ref().map(|m| m.cluster_id.as_str())
    }
}
