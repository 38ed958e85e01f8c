//! A node pool: machines of one shape. Every worker belongs to one from the first day.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Machine, Tag, Timestamp};

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

/// `management`: what the service does with the pool's nodes by itself (catalogue 11.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Management {
    /// A managed pool.
    #[serde(default)]
    pub enable: bool,
    /// `auto_repair`, as given.
    #[serde(default)]
    pub auto_repair: Option<bool>,
    /// `upgrade_config.auto_upgrade`, as given.
    #[serde(default)]
    pub auto_upgrade: Option<bool>,
    /// `upgrade_config.surge`: nodes added during an upgrade.
    #[serde(default)]
    pub surge: Option<u32>,
    /// `upgrade_config.surge_percentage`: the same as a share of the pool's nodes.
    #[serde(default)]
    pub surge_percentage: Option<u32>,
    /// `upgrade_config.max_unavailable`, 1 to 1000.
    #[serde(default)]
    pub max_unavailable: Option<u32>,
}

impl Management {
    /// Whether the pool is upgraded by itself.
    pub fn upgrades(&self) -> bool {
        self.enable && self.auto_upgrade.unwrap_or(true)
    }

    /// Nodes that are added while a pool of so many is upgraded.
    pub fn surge_of(&self, nodes: u32) -> u32 {
        if !self.enable {
            return 0;
        }
        match (self.surge.filter(|n| *n > 0), self.surge_percentage) {
            (Some(surge), _) => surge,
            (None, Some(percentage)) => {
                let extra = (u64::from(nodes) * u64::from(percentage)).div_ceil(100);
                u32::try_from(extra).unwrap_or(u32::MAX)
            }
            (None, None) => 0,
        }
    }

    /// Nodes that may be out of service at once while the pool is upgraded.
    pub fn unavailable_max(&self) -> u32 {
        self.max_unavailable.filter(|n| self.enable && *n > 0).unwrap_or(1)
    }
}

/// `auto_scaling.type`: by the kind of instances that are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalingKind {
    /// Ordinary instances.
    #[default]
    Cpu,
    /// With GPUs.
    Gpu,
    /// With shared GPUs.
    GpuShare,
    /// Preemptible instances.
    Spot,
}

/// `auto_scaling` (catalogue 11.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoScaling {
    /// Without it the other fields have no effect.
    #[serde(default)]
    pub enable: bool,
    /// Fewest nodes.
    #[serde(default)]
    pub min_instances: u32,
    /// Most nodes.
    #[serde(default)]
    pub max_instances: u32,
    /// `type`.
    #[serde(default)]
    pub kind: ScalingKind,
    /// `is_bond_eip`, recorded.
    #[serde(default)]
    pub is_bond_eip: Option<bool>,
    /// `eip_internet_charge_type`, recorded.
    #[serde(default)]
    pub eip_internet_charge_type: Option<String>,
    /// `eip_bandwidth`, recorded.
    #[serde(default)]
    pub eip_bandwidth: Option<i64>,
}

/// `scaling_group.multi_az_policy`: which of its vSwitches a new machine gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MultiAzPolicy {
    /// The first one that has room.
    Priority,
    /// The cheapest; there are no prices here, hence as `Balance`.
    CostOptimized,
    /// The one with the fewest machines of the pool.
    #[default]
    Balance,
}

/// `kubernetes_config.node_name_mode`: `customized,<prefix>,<digits>,<suffix>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNameMode {
    /// In front, may be empty.
    pub prefix: String,
    /// So many of the last digits of the address, whose parts are padded to three digits each; 5 to 12.
    pub digits: u8,
    /// Behind, may be empty.
    pub suffix: String,
}

impl NodeNameMode {
    /// The name of the node with this address.
    pub fn name(&self, ip: std::net::Ipv4Addr) -> String {
        let [a, b, c, d] = ip.octets();
        let digits = format!("{a:03}{b:03}{c:03}{d:03}");
        let start = digits.len().saturating_sub(usize::from(self.digits));
        format!("{}{}{}", self.prefix, digits.get(start..).unwrap_or(&digits), self.suffix)
    }
}

/// What a pool gives its nodes, apart from what they are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Labels.
    #[serde(default)]
    pub labels: Vec<Tag>,
    /// Taints.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Tags, which nodes have as labels too.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// `none` or `static`.
    #[serde(default)]
    pub cpu_policy: Option<String>,
    /// Text that runs at the first boot.
    #[serde(default)]
    pub user_data: Option<String>,
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
    /// `management`, if it was given.
    #[serde(default)]
    pub management: Option<Management>,
    /// `auto_scaling`, if it was given.
    #[serde(default)]
    pub auto_scaling: Option<AutoScaling>,
    /// Which vSwitch a new machine gets.
    #[serde(default)]
    pub multi_az_policy: MultiAzPolicy,
    /// How nodes are named; `None`: `<region>.<address>`.
    #[serde(default)]
    pub node_name_mode: Option<NodeNameMode>,
    /// `kubernetes_config.unschedulable`: new nodes take no pods until somebody allows it.
    #[serde(default)]
    pub unschedulable: bool,
    /// The task that removes it.
    #[serde(default)]
    pub deletion_task_id: Option<String>,
}

impl NodePool {
    /// What its nodes get when they join now.
    pub fn node_config(&self) -> NodeConfig {
        NodeConfig {
            labels: self.labels.clone(),
            taints: self.taints.clone(),
            tags: self.tags.clone(),
            cpu_policy: self.cpu_policy.clone(),
            user_data: self.user_data.clone(),
        }
    }

    /// The pool as it is for this machine, which may keep what it got before the pool was changed.
    pub fn seen_by(&self, machine: &Machine) -> Cow<'_, Self> {
        let Some(own) = &machine.pinned else { return Cow::Borrowed(self) };
        let own = own.clone();
        Cow::Owned(Self {
            labels: own.labels,
            taints: own.taints,
            tags: own.tags,
            cpu_policy: own.cpu_policy,
            user_data: own.user_data,
            ..self.clone()
        })
    }

    /// Whether nodes that are not Ready are restarted and replaced by themselves: always, unless it was refused in words.
    pub fn repairs(&self) -> bool {
        self.management.as_ref().and_then(|management| management.auto_repair) != Some(false)
    }

    /// Its scaling by itself, when it is on.
    pub fn scales(&self) -> Option<&AutoScaling> {
        self.auto_scaling.as_ref().filter(|scaling| scaling.enable && !self.deleting)
    }
}
