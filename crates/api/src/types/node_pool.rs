//! Node pools.
//!
//! Requests and answers share their parts: what only answers contain is optional and ignored in requests.

use serde_json::{Map, Value};

use super::common::{AutoMode, DataDisk, Tag, Taint};
use crate::Secret;

wire! {
    /// Body of `POST /clusters/{ClusterId}/nodepools`, and a pool made with a cluster.
    pub struct CreateClusterNodePoolRequest {
        /// What the pool is called.
        pub nodepool_info: Option<NodepoolInfo>,
        /// Its instances.
        pub scaling_group: Option<ScalingGroup>,
        /// What Kubernetes knows of its nodes.
        pub kubernetes_config: Option<NodepoolKubernetesConfig>,
        /// Whether it scales by itself.
        pub auto_scaling: Option<NodepoolAutoScaling>,
        /// Whether the service looks after its nodes.
        pub management: Option<NodepoolManagement>,
        /// Whether its nodes compute confidentially.
        pub tee_config: Option<TeeConfig>,
        /// How many nodes; `scaling_group.desired_size` in newer bodies.
        pub count: Option<i64>,
        /// Edge pools: `basic` or `improved`.
        pub interconnect_mode: Option<String>,
        /// Edge pools: the network to the cloud.
        pub interconnect_config: Option<InterconnectConfig>,
        /// Edge pools: how many nodes at most.
        pub max_nodes: Option<i64>,
        /// The cluster once more, as one published example has it; the path counts.
        #[serde(rename = "ClusterId")]
        pub cluster_id: Option<String>,
        /// Whether the service manages the nodes.
        pub auto_mode: Option<AutoMode>,
        /// Pools of accelerated computing.
        pub eflo_node_group: Option<Map<String, Value>>,
        /// Edge pools: whether pods use the host's network.
        pub host_network: Option<bool>,
        /// Edge pools: whether nodes reach each other.
        pub intranet: Option<bool>,
        /// Components on the nodes.
        pub node_components: Option<Vec<NodeComponent>>,
        /// Configuration of the nodes.
        pub node_config: Option<NodeConfig>,
    }

    /// Answer of `POST /clusters/{ClusterId}/nodepools`.
    pub struct CreateClusterNodePoolResponse {
        /// The new pool.
        pub nodepool_id: String,
        /// The id of this request.
        pub request_id: String,
        /// The task that makes its nodes.
        pub task_id: Option<String>,
    }

    /// Body of `POST /clusters/{ClusterId}/nodepools/{NodepoolId}`.
    pub struct ScaleClusterNodePoolRequest {
        /// How many nodes are added.
        pub count: i64,
    }

    /// Answer of `POST /clusters/{ClusterId}/nodepools/{NodepoolId}`.
    pub struct ScaleClusterNodePoolResponse {
        /// The task that makes the nodes.
        pub task_id: String,
    }

    /// Body of `PUT /clusters/{ClusterId}/nodepools/{NodepoolId}`. What is left out stays as it is.
    pub struct ModifyClusterNodePoolRequest {
        /// What the pool is called.
        pub nodepool_info: Option<NodepoolInfo>,
        /// Its instances.
        pub scaling_group: Option<ScalingGroup>,
        /// What Kubernetes knows of its nodes.
        pub kubernetes_config: Option<NodepoolKubernetesConfig>,
        /// Whether it scales by itself.
        pub auto_scaling: Option<NodepoolAutoScaling>,
        /// Whether the service looks after its nodes.
        pub management: Option<NodepoolManagement>,
        /// Whether its nodes compute confidentially.
        pub tee_config: Option<TeeConfig>,
        /// Whether the nodes that are there get the pool's labels and taints, too.
        pub update_nodes: Option<bool>,
        /// Pools of accelerated computing.
        pub eflo_node_group: Option<Map<String, Value>>,
        /// Whether all present nodes are changed at once; nothing more than labels and taints is changed on them here.
        pub concurrency: Option<bool>,
    }

    /// Answer of `PUT /clusters/{ClusterId}/nodepools/{NodepoolId}`.
    pub struct ModifyClusterNodePoolResponse {
        /// The pool.
        pub nodepool_id: String,
        /// The id of this request.
        pub request_id: String,
        /// The task that carries the change out.
        pub task_id: String,
    }

    /// Body of `POST /clusters/{cluster_id}/nodepools/{nodepool_id}/repair`.
    pub struct RepairClusterNodePoolRequest {
        /// Names of nodes, or ids of instances; none: all nodes of the pool.
        pub nodes: Option<Vec<String>>,
        /// Whether nodes may be restarted for it; `false` is refused.
        pub auto_restart: Option<bool>,
        /// Single steps, as newer clients have them; nodes are restarted, then replaced.
        pub operations: Option<Vec<Map<String, Value>>>,
    }

    /// Answer of `POST /clusters/{cluster_id}/nodepools/{nodepool_id}/repair`.
    pub struct RepairClusterNodePoolResponse {
        /// The id of this request.
        pub request_id: String,
        /// The task that repairs.
        pub task_id: String,
    }

    /// Query of `DELETE /clusters/{ClusterId}/nodepools/{NodepoolId}`.
    pub struct DeleteClusterNodepoolQuery {
        /// Whether nodes go without being drained, and work in progress in the pool is broken off.
        pub force: Option<bool>,
    }

    /// Answer of `DELETE /clusters/{ClusterId}/nodepools/{NodepoolId}`.
    pub struct DeleteClusterNodepoolResponse {
        /// The id of this request.
        pub request_id: String,
        /// The task that removes its nodes.
        pub task_id: Option<String>,
    }

    /// Query of `GET /clusters/{ClusterId}/nodepools`.
    pub struct DescribeClusterNodePoolsQuery {
        /// Only the pool with this name.
        #[serde(rename = "NodepoolName")]
        pub nodepool_name: Option<String>,
    }

    /// Answer of `GET /clusters/{ClusterId}/nodepools`.
    pub struct DescribeClusterNodePoolsResponse {
        /// All pools.
        pub nodepools: Vec<Nodepool>,
    }

    /// A node pool.
    pub struct Nodepool {
        /// What the pool is called.
        pub nodepool_info: NodepoolInfo,
        /// Its instances.
        pub scaling_group: ScalingGroup,
        /// What Kubernetes knows of its nodes.
        pub kubernetes_config: NodepoolKubernetesConfig,
        /// Whether it scales by itself.
        pub auto_scaling: NodepoolAutoScaling,
        /// Whether the service looks after its nodes.
        pub management: NodepoolManagement,
        /// Whether its nodes compute confidentially.
        pub tee_config: TeeConfig,
        /// How its nodes are.
        pub status: NodepoolStatus,
        /// Edge pools: `basic` or `improved`.
        pub interconnect_mode: Option<String>,
        /// Edge pools: the network to the cloud.
        pub interconnect_config: Option<InterconnectConfig>,
        /// Edge pools: how many nodes at most.
        pub max_nodes: Option<i64>,
        /// Whether the service manages the nodes.
        pub auto_mode: Option<AutoMode>,
        /// Pools of accelerated computing.
        pub eflo_node_group: Option<Map<String, Value>>,
        /// Components on the nodes.
        pub node_components: Option<Vec<NodeComponent>>,
        /// Configuration of the nodes.
        pub node_config: Option<NodeConfig>,
    }

    /// What a pool is called.
    pub struct NodepoolInfo {
        /// Its name.
        pub name: Option<String>,
        /// The resource group.
        pub resource_group_id: Option<String>,
        /// `ess` or `edge`.
        #[serde(rename = "type")]
        pub kind: Option<String>,
        /// Its id; only in answers.
        pub nodepool_id: Option<String>,
        /// The region; only in answers.
        pub region_id: Option<String>,
        /// Whether it came with the cluster; only in answers.
        pub is_default: Option<bool>,
        /// When it was made: RFC 3339; only in answers.
        pub created: Option<String>,
        /// When it was last changed: RFC 3339; only in answers.
        pub updated: Option<String>,
    }

    /// How a pool scales by itself.
    pub struct NodepoolAutoScaling {
        /// Whether it does.
        pub enable: Option<bool>,
        /// Nodes at most.
        pub max_instances: Option<i64>,
        /// Nodes at least.
        pub min_instances: Option<i64>,
        /// `cpu`, `gpu`, `gpushare` or `spot`.
        #[serde(rename = "type")]
        pub kind: Option<String>,
        /// Whether nodes get public addresses.
        pub is_bond_eip: Option<bool>,
        /// `PayByBandwidth` or `PayByTraffic`.
        pub eip_internet_charge_type: Option<String>,
        /// Bandwidth of a public address in Mbit/s.
        pub eip_bandwidth: Option<i64>,
    }

    /// What Kubernetes knows of a pool's nodes.
    pub struct NodepoolKubernetesConfig {
        /// Whether the monitoring agent is installed.
        pub cms_enabled: Option<bool>,
        /// `static` or `none`.
        pub cpu_policy: Option<String>,
        /// Labels of the nodes.
        pub labels: Option<Vec<Tag>>,
        /// Taints of the nodes.
        pub taints: Option<Vec<Taint>>,
        /// The container runtime.
        pub runtime: Option<String>,
        /// Its version.
        pub runtime_version: Option<String>,
        /// A script that runs after a node has joined, in Base64.
        pub user_data: Option<String>,
        /// A script that runs before, in Base64.
        pub pre_user_data: Option<String>,
        /// How node names are made.
        pub node_name_mode: Option<String>,
        /// Whether new nodes take no pods.
        pub unschedulable: Option<bool>,
    }

    /// Instances of a pool.
    pub struct ScalingGroup {
        /// vSwitches.
        pub vswitch_ids: Option<Vec<String>>,
        /// The VPC, as one published example has it.
        pub vpc_id: Option<String>,
        /// Instance types.
        pub instance_types: Option<Vec<String>>,
        /// Instance types by properties.
        pub instance_patterns: Option<Vec<Map<String, Value>>>,
        /// How many nodes are wanted.
        pub desired_size: Option<i64>,
        /// `PrePaid` or `PostPaid`.
        pub instance_charge_type: Option<String>,
        /// Prepaid periods.
        pub period: Option<i64>,
        /// Unit of the period.
        pub period_unit: Option<String>,
        /// Whether prepaid instances renew themselves.
        pub auto_renew: Option<bool>,
        /// Months of one renewal.
        pub auto_renew_period: Option<i64>,
        /// Kind of the system disk.
        pub system_disk_category: Option<String>,
        /// Kinds of the system disk, tried in order.
        pub system_disk_categories: Option<Vec<String>>,
        /// Its size in GiB.
        pub system_disk_size: Option<i64>,
        /// Its performance level.
        pub system_disk_performance_level: Option<String>,
        /// Its snapshot policy.
        pub system_disk_snapshot_policy_id: Option<String>,
        /// Whether it may burst.
        pub system_disk_bursting_enabled: Option<bool>,
        /// Its provisioned operations per second.
        pub system_disk_provisioned_iops: Option<i64>,
        /// Whether it is encrypted.
        pub system_disk_encrypted: Option<bool>,
        /// How it is encrypted.
        pub system_disk_encrypt_algorithm: Option<String>,
        /// The key it is encrypted with.
        pub system_disk_kms_key_id: Option<String>,
        /// Data disks.
        pub data_disks: Option<Vec<DataDisk>>,
        /// How disks are prepared.
        pub disk_init: Option<Vec<Map<String, Value>>>,
        /// The image.
        pub image_id: Option<String>,
        /// The kind of image.
        pub image_type: Option<String>,
        /// The distribution.
        pub platform: Option<String>,
        /// The key pair for logging in.
        pub key_pair: Option<String>,
        /// The password for logging in.
        pub login_password: Option<Secret>,
        /// Whether the login is not root.
        pub login_as_non_root: Option<bool>,
        /// The security group.
        pub security_group_id: Option<String>,
        /// Security groups.
        pub security_group_ids: Option<Vec<String>>,
        /// Tags of the instances.
        pub tags: Option<Vec<Tag>>,
        /// Databases that let the nodes in.
        pub rds_instances: Option<Vec<String>>,
        /// `release` or `recycle`.
        pub scaling_policy: Option<String>,
        /// `PRIORITY`, `COST_OPTIMIZED` or `BALANCE`.
        pub multi_az_policy: Option<String>,
        /// `NoSpot`, `SpotWithPriceLimit` or `SpotAsPriceGo`.
        pub spot_strategy: Option<String>,
        /// Price limits.
        pub spot_price_limit: Option<Vec<SpotPriceLimit>>,
        /// How many instance types share the spot instances.
        pub spot_instance_pools: Option<i64>,
        /// Whether spot instances are replaced before they go.
        pub spot_instance_remedy: Option<bool>,
        /// Whether ordinary instances fill in for spot ones.
        pub compensate_with_on_demand: Option<bool>,
        /// Ordinary instances at least.
        pub on_demand_base_capacity: Option<i64>,
        /// Percentage of ordinary instances above that.
        pub on_demand_percentage_above_base_capacity: Option<i64>,
        /// `PayByBandwidth` or `PayByTraffic`.
        pub internet_charge_type: Option<String>,
        /// Public bandwidth in Mbit/s.
        pub internet_max_bandwidth_out: Option<i64>,
        /// The deployment set.
        pub deploymentset_id: Option<String>,
        /// The RAM role of the nodes.
        pub ram_role_name: Option<String>,
        /// The same, as older answers name it; only in answers.
        pub ram_policy: Option<String>,
        /// The id of the scaling group; only in answers.
        pub scaling_group_id: Option<String>,
        /// Processor options.
        pub cpu_options: Option<Map<String, Value>>,
        /// How instances read their metadata.
        pub instance_metadata_options: Option<Map<String, Value>>,
        /// Private pools.
        pub private_pool_options: Option<PrivatePoolOptions>,
        /// Resource pools.
        pub resource_pool_options: Option<ResourcePoolOptions>,
        /// Whether nodes follow the CIS baseline.
        pub cis_enabled: Option<bool>,
        /// Whether nodes follow the classified protection baseline.
        pub soc_enabled: Option<bool>,
        /// Whether the operating system is hardened.
        pub security_hardening_os: Option<bool>,
        /// Whether many pods share a node's network interfaces.
        pub enable_high_density_mode: Option<bool>,
    }

    /// The highest price for an instance type.
    pub struct SpotPriceLimit {
        /// The instance type.
        pub instance_type: Option<String>,
        /// The price for an hour, as text.
        pub price_limit: Option<String>,
    }

    /// Private pools of instances.
    pub struct PrivatePoolOptions {
        /// The pool.
        pub id: Option<String>,
        /// `Open`, `Target` or `None`.
        pub match_criteria: Option<String>,
    }

    /// Resource pools of instances.
    pub struct ResourcePoolOptions {
        /// Private pools.
        pub private_pool_ids: Option<Vec<String>>,
        /// How pools are chosen.
        pub strategy: Option<String>,
    }

    /// Whether nodes compute confidentially.
    pub struct TeeConfig {
        /// True if they do.
        pub tee_enable: Option<bool>,
    }

    /// How the service looks after a pool.
    pub struct NodepoolManagement {
        /// Whether it does.
        pub enable: Option<bool>,
        /// Whether failed nodes are repaired.
        pub auto_repair: Option<bool>,
        /// How they are.
        pub auto_repair_policy: Option<AutoRepairPolicy>,
        /// Whether faults are diagnosed.
        pub auto_fault_diagnosis: Option<bool>,
        /// Whether nodes are upgraded.
        pub auto_upgrade: Option<bool>,
        /// How they are.
        pub auto_upgrade_policy: Option<AutoUpgradePolicy>,
        /// Whether vulnerabilities are fixed.
        pub auto_vul_fix: Option<bool>,
        /// How they are.
        pub auto_vul_fix_policy: Option<AutoVulFixPolicy>,
        /// Whether changed nodes are put right.
        pub drift_enabled: Option<bool>,
        /// How many nodes are upgraded at once.
        pub upgrade_config: Option<UpgradeConfig>,
    }

    /// How failed nodes are repaired.
    pub struct AutoRepairPolicy {
        /// Whether the node may be restarted.
        pub restart_node: Option<bool>,
        /// Whether someone has to agree.
        pub approval_required: Option<bool>,
        /// The policy, in answers.
        pub auto_repair_policy_id: Option<String>,
        /// Nodes at once, a number or a percentage.
        pub max_parallel_repairing_nodes: Option<String>,
        /// Unhealthy nodes above which nothing is repaired, a number or a percentage.
        pub max_unhealthy_nodes_threshold: Option<String>,
    }

    /// What is upgraded.
    pub struct AutoUpgradePolicy {
        /// The kubelet.
        pub auto_upgrade_kubelet: Option<bool>,
        /// The operating system.
        pub auto_upgrade_os: Option<bool>,
        /// The container runtime.
        pub auto_upgrade_runtime: Option<bool>,
    }

    /// How vulnerabilities are fixed.
    pub struct AutoVulFixPolicy {
        /// Whether the node may be restarted.
        pub restart_node: Option<bool>,
        /// `asap`, `later` or `nntf`, comma separated.
        pub vul_level: Option<String>,
        /// Packages that stay as they are.
        pub exclude_packages: Option<String>,
    }

    /// How many nodes are upgraded at once.
    pub struct UpgradeConfig {
        /// Whether nodes are upgraded by themselves.
        pub auto_upgrade: Option<bool>,
        /// Extra nodes while it lasts.
        pub surge: Option<i64>,
        /// The same as a percentage.
        pub surge_percentage: Option<i64>,
        /// Nodes that may be away.
        pub max_unavailable: Option<i64>,
    }

    /// The network between an edge pool and the cloud.
    pub struct InterconnectConfig {
        /// The enterprise network.
        pub cen_id: Option<String>,
        /// The connection.
        pub ccn_id: Option<String>,
        /// The region of the connection.
        pub ccn_region_id: Option<String>,
        /// Bandwidth in Mbit/s.
        pub bandwidth: Option<i64>,
        /// Months, as text.
        pub improved_period: Option<String>,
    }

    /// How a pool's nodes are.
    pub struct NodepoolStatus {
        /// Nodes that failed.
        pub failed_nodes: i64,
        /// Nodes that are ready.
        pub healthy_nodes: i64,
        /// Nodes that are being made.
        pub initial_nodes: i64,
        /// Nodes that do not answer.
        pub offline_nodes: i64,
        /// Nodes that are being removed.
        pub removing_nodes: i64,
        /// Nodes in service.
        pub serving_nodes: i64,
        /// `active`, `scaling`, `removing`, `deleting` or `updating`.
        pub state: String,
        /// All nodes.
        pub total_nodes: i64,
    }

    /// A component on a pool's nodes.
    pub struct NodeComponent {
        /// Its name.
        pub name: Option<String>,
        /// Its version.
        pub version: Option<String>,
        /// Its configuration.
        pub config: Option<Map<String, Value>>,
        /// The revision of the configuration; only in answers.
        pub config_revision: Option<String>,
    }

    /// Configuration of a pool's nodes.
    pub struct NodeConfig {
        /// Fields of the kubelet's configuration file, with its own names.
        pub kubelet_configuration: Option<Map<String, Value>>,
        /// Kernel parameters and huge pages.
        pub node_os_config: Option<Map<String, Value>>,
    }
}
