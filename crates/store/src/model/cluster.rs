//! A cluster: what was asked for, what was decided at its creation, and how far it is.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{AutoscalingConfig, Condition, ParameterChange, Parameters, Power, Restore, Timestamp, Upgrade};

/// `state` of a cluster as the API shows it (catalogue 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterState {
    /// Being created.
    Initial,
    /// Creation failed; `state_reason` says why.
    Failed,
    /// API server answers, nodes are Ready, DNS resolves.
    Running,
    /// Being changed.
    Updating,
    /// A change failed.
    UpdatingFailed,
    /// Nodes are being added or removed.
    Scaling,
    /// Stopped on purpose.
    Stopped,
    /// Being deleted.
    Deleting,
    /// Gone; such a record is only kept for its logs and events.
    Deleted,
    /// Deletion failed; it is still being tried.
    DeleteFailed,
}

/// What kind of cluster it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterType {
    /// The control plane runs in a machine that the user does not see.
    ManagedKubernetes,
    /// The control plane runs on machines that are nodes of the cluster, its masters.
    Kubernetes,
    /// Docker engines behind one endpoint; their manager is a machine that the user does not see.
    Swarm,
}

/// A tag of a cluster, its machines and its Kubernetes nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Name.
    pub key: String,
    /// Value, may be empty.
    pub value: String,
}

/// A component asked for at creation, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// Name, e.g. `flannel`, `coredns`, `metrics-server`.
    pub name: String,
    /// Version asked for, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// JSON text as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The default installation is forbidden.
    #[serde(default)]
    pub disabled: bool,
    /// Whether this installation provides it.
    #[serde(default)]
    pub installed: bool,
}

/// `proxy_mode`; what really runs is nftables where IPVS is missing, and an event says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// iptables rules.
    Iptables,
    /// IPVS.
    Ipvs,
}

/// Addresses of a cluster; decided once, in the transaction that creates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNetwork {
    /// The VPC its machines are in.
    pub vpc_id: String,
    /// vSwitches for new machines, in the order given.
    pub vswitch_ids: Vec<String>,
    /// `security_group_id`, as given or made.
    pub security_group_id: String,
    /// Pod network (`container_cidr`).
    pub pod_cidr: Ipv4Net,
    /// Service network.
    pub service_cidr: Ipv4Net,
    /// Prefix length of each node's part of the pod network (`node_cidr_mask`).
    pub node_cidr_mask: u8,
    /// Cluster IP of the DNS service (tenth address of the service network).
    pub dns_ip: Ipv4Addr,
    /// Virtual IP of the API server inside the VPC; the balancer holds it.
    pub api_vip: Ipv4Addr,
    /// Stable port on the host for the public API endpoint; `None` when `endpoint_public_access` is false.
    pub api_public_port: Option<u16>,
    /// `cluster_domain`.
    pub cluster_domain: String,
    /// `proxy_mode`.
    pub proxy_mode: ProxyMode,
    /// Id of the API server's load balancer (`lb-…`).
    pub api_load_balancer_id: String,
}

/// Control plane options of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlaneOptions {
    /// Extra subject alternative names of the API server's certificate (`custom_san`).
    #[serde(default)]
    pub custom_san: Vec<String>,
    /// `service_account_issuer`.
    #[serde(default)]
    pub service_account_issuer: Option<String>,
    /// `api_audiences`.
    #[serde(default)]
    pub api_audiences: Vec<String>,
    /// `timezone`, an IANA name.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Name of the stored secret with the user's own CA (`user_ca`), if one was given.
    #[serde(default)]
    pub user_ca_secret: Option<String>,
    /// Parameters that users have set (catalogue 14.4): component → name → value.
    #[serde(default)]
    pub parameters: Parameters,
    /// Their change, while it is being put in force.
    #[serde(default)]
    pub parameter_change: Option<ParameterChange>,
}

impl ControlPlaneOptions {
    /// The parameters that this machine of the control plane shall run with.
    pub fn parameters_of(&self, machine_id: &str) -> &Parameters {
        match &self.parameter_change {
            Some(change) if change.done => &self.parameters,
            Some(change) if change.rolled_back.is_none() && change.applied.iter().any(|id| id == machine_id) => {
                &self.parameters
            }
            Some(change) => &change.previous,
            None => &self.parameters,
        }
    }
}

/// `maintenance_window` (structure of section 18).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    /// Whether it is on.
    pub enable: bool,
    /// Start, `15:04:05Z`.
    pub maintenance_time: String,
    /// `3h`.
    pub duration: String,
    /// Comma list of weekdays.
    pub weekly_period: String,
}

/// What only a Swarm cluster has. Of its [`ClusterNetwork`], `pod_cidr` is the overlay that all applications share
/// (`subnet_cidr`), and `service_cidr` is where further overlays take their ranges from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmOptions {
    /// Ranges of the engines' own bridges, the same on every machine: nothing outside a machine sees them.
    pub bridge_pool: Ipv4Net,
    /// The load balancer takes HTTP for the applications (`need_slb`).
    pub routing: bool,
    /// Stable port on the host for that; `None` without it.
    #[serde(default)]
    pub routing_public_port: Option<u16>,
    /// Further listeners of the load balancer, by name, as the applications ask for them.
    #[serde(default)]
    pub listeners: BTreeMap<String, SwarmListener>,
    /// `aliyun.node_index` of the next node; no number is given twice.
    pub next_node_index: u32,
}

/// A TCP listener that an application asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmListener {
    /// Port on the virtual IP and on the nodes.
    pub port: u16,
    /// Stable port on the host.
    pub public_port: u16,
}

/// What is to be kept when a cluster is deleted (catalogue 9.16).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retain {
    /// `retain_all_resources`: machines stay in the inventory, VPC and load balancer stay.
    pub all: bool,
    /// `keep_slb`: the API server's load balancer stays listed.
    pub load_balancer: bool,
    /// `retain_resources`: ids (or names) of single resources.
    pub resources: Vec<String>,
}

/// A wanted deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The task that every DELETE answers.
    pub task_id: String,
    /// When it was asked for.
    pub requested: Timestamp,
    /// What stays.
    pub retain: Retain,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// `c…`.
    pub id: String,
    /// Account that owns it.
    pub account_id: String,
    /// Unique per account among clusters that are not deleted.
    pub name: String,
    /// Region.
    pub region_id: String,
    /// Zone of its first vSwitch.
    pub zone_id: String,
    /// Kind.
    pub cluster_type: ClusterType,
    /// `ack.standard` or `ack.pro.small`; empty for a dedicated cluster.
    pub spec: String,
    /// State that users see.
    pub state: ClusterState,
    /// Why it is failed, updating_failed or delete_failed.
    #[serde(default)]
    pub state_reason: Option<String>,
    /// When the request was accepted.
    pub created: Timestamp,
    /// Last change of anything that users see.
    pub updated: Timestamp,
    /// Kubernetes version at creation, e.g. `1.36.3`.
    pub init_version: String,
    /// Kubernetes version now wanted.
    pub version: String,
    /// Addresses.
    pub network: ClusterNetwork,
    /// Control plane options.
    #[serde(default)]
    pub control_plane: ControlPlaneOptions,
    /// What only a Swarm cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmOptions>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// Deletion protection.
    #[serde(default)]
    pub deletion_protection: bool,
    /// Node deletion protection (9.14 `instance_deletion_protection`).
    #[serde(default)]
    pub instance_deletion_protection: bool,
    /// Components.
    #[serde(default)]
    pub addons: Vec<Addon>,
    /// Maintenance window, if one was set.
    #[serde(default)]
    pub maintenance_window: Option<MaintenanceWindow>,
    /// How its node pools scale by themselves; `None`: as by default.
    #[serde(default)]
    pub autoscaling: Option<AutoscalingConfig>,
    /// Resource group.
    #[serde(default)]
    pub resource_group_id: String,
    /// The runtime named in the request (`docker`, `containerd`); containerd runs.
    #[serde(default)]
    pub runtime_requested: Option<String>,
    /// Creation must reach `running` within this many minutes, or fails.
    pub timeout_minutes: u32,
    /// A failed creation keeps its machines.
    #[serde(default)]
    pub disable_rollback: bool,
    /// The task that creates it.
    pub creation_task_id: String,
    /// Set when it shall go away.
    #[serde(default)]
    pub deletion: Option<Deletion>,
    /// The request as sent, without secrets: what is stored and returned but has no effect of its own.
    #[serde(default)]
    pub request: serde_json::Value,
    /// Set once: creation reached `running`.
    #[serde(default)]
    pub first_running: Option<Timestamp>,
    /// Its latest upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// Set while it is off, goes off or comes up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// Set while it is put back to a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// How often it was put back to a backup.
    #[serde(default)]
    pub restores: u32,
    /// How its parts are, as last seen.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Cluster {
    /// Whether it can be changed by users now.
    pub fn is_settled(&self) -> bool {
        let is_whole = self.power.is_none() && self.restore.is_none();
        is_whole && matches!(self.state, ClusterState::Running | ClusterState::UpdatingFailed)
    }
    /// Whether its masters are nodes of the user's.
    pub fn is_dedicated(&self) -> bool {
        self.cluster_type == ClusterType::Kubernetes
    }
    /// Whether it is one of Docker engines.
    pub fn is_swarm(&self) -> bool {
        self.cluster_type == ClusterType::Swarm
    }
    /// Whether it counts for quotas and names.
    pub fn is_live(&self) -> bool {
        self.state != ClusterState::Deleted
    }
}
