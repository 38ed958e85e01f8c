//! The body of CreateCluster: all editions and cluster types in one struct.
//!
//! Which fields a cluster needs depends on its type, so none is mandatory here; the handler says what is
//! missing. Fields of cluster types that are not offered are listed too: such a request is refused with a
//! reason instead of being half understood.

use super::common::{
    Addon, AutoMode, ControlPlaneConfig, ControlPlaneEndpointsConfig, DataDisk, MaintenanceWindow, OperationPolicy,
    Runtime, Tag, Taint,
};
use super::node_pool::CreateClusterNodePoolRequest;
use crate::Secret;

wire! {
    /// Body of `POST /clusters`.
    pub struct CreateClusterRequest {
        // What the cluster is.
        /// Name: 1 to 63 letters, digits, Chinese characters and hyphens, not starting with a hyphen.
        pub name: Option<String>,
        /// `ManagedKubernetes`, `Kubernetes`, `Ask`, `ExternalKubernetes`; absent for a Swarm cluster.
        pub cluster_type: Option<String>,
        /// `Default`, `Serverless` or `Edge`.
        pub profile: Option<String>,
        /// `ack.standard` or `ack.pro.small`.
        pub cluster_spec: Option<String>,
        /// The region.
        pub region_id: Option<String>,
        /// The Kubernetes version; the newest when left out.
        pub kubernetes_version: Option<String>,
        /// The container runtime of the nodes.
        pub runtime: Option<Runtime>,
        /// The resource group.
        pub resource_group_id: Option<String>,
        /// Tags of the cluster, its instances and its nodes.
        pub tags: Option<Vec<Tag>>,
        /// The time zone of the nodes.
        pub timezone: Option<String>,
        /// True keeps the cluster from being deleted.
        pub deletion_protection: Option<bool>,
        /// True leaves the resources of a failed creation alone. Absent means that they are released.
        pub disable_rollback: Option<bool>,
        /// Minutes after which the creation counts as failed.
        pub timeout_mins: Option<i64>,
        /// Makes repeated requests with the same token one request.
        pub client_token: Option<String>,
        /// Components to install.
        pub addons: Option<Vec<Addon>>,
        /// When the service may do maintenance.
        pub maintenance_window: Option<MaintenanceWindow>,
        /// What the service may do without being asked.
        pub operation_policy: Option<OperationPolicy>,
        /// Whether the service manages the nodes by itself.
        pub auto_mode: Option<AutoMode>,

        // Network.
        /// The VPC.
        pub vpcid: Option<String>,
        /// vSwitches of the nodes.
        pub vswitch_ids: Option<Vec<String>>,
        /// The one vSwitch of the single zone bodies.
        pub vswitchid: Option<String>,
        /// vSwitches of pods, for the terway network.
        pub pod_vswitch_ids: Option<Vec<String>>,
        /// The one zone of the cluster.
        pub zoneid: Option<String>,
        /// The one zone of the cluster, in newer bodies.
        pub zone_id: Option<String>,
        /// Zones of the cluster.
        pub zone_ids: Option<Vec<String>>,
        /// Addresses of pods.
        pub container_cidr: Option<String>,
        /// Addresses of services.
        pub service_cidr: Option<String>,
        /// Prefix length of one node's pod addresses; text in the editions.
        pub node_cidr_mask: Option<i64>,
        /// `ipv4`, `ipv6` or `dual`.
        pub ip_stack: Option<String>,
        /// `iptables` or `ipvs`.
        pub proxy_mode: Option<String>,
        /// Ports of NodePort services, `30000-32767`.
        pub node_port_range: Option<String>,
        /// The security group of the nodes.
        pub security_group_id: Option<String>,
        /// Whether an enterprise security group is made.
        pub is_enterprise_security_group: Option<bool>,
        /// Whether nodes reach the Internet through a NAT gateway.
        pub snat_entry: Option<bool>,
        /// Whether a NAT gateway is made (registered clusters).
        pub nat_gateway: Option<bool>,
        /// Whether the API server can be reached from outside the VPC.
        pub endpoint_public_access: Option<bool>,
        /// The size of the API server's load balancer.
        pub load_balancer_spec: Option<String>,
        /// An existing load balancer for the API server.
        pub load_balancer_id: Option<String>,
        /// Addresses that may use the API server.
        pub access_control_list: Option<Vec<String>>,
        /// Whether SSH from outside is possible.
        pub ssh_flags: Option<bool>,
        /// Whether a public load balancer is made.
        pub public_slb: Option<bool>,
        /// The domain of services, `cluster.local`.
        pub cluster_domain: Option<String>,
        /// More names in the API server's certificate, comma separated.
        pub custom_san: Option<String>,
        /// More names in the API server's certificate.
        pub extra_sans: Option<Vec<String>>,
        /// How services are found in a serverless cluster.
        pub service_discovery_types: Option<Vec<String>>,
        /// Whether a private zone is used for finding services.
        pub private_zone: Option<bool>,
        /// Endpoints of the API server.
        pub control_plane_endpoints_config: Option<ControlPlaneEndpointsConfig>,

        // Security and audit.
        /// Issuer of service account tokens.
        pub service_account_issuer: Option<String>,
        /// Audiences of service account tokens, comma separated.
        pub api_audiences: Option<String>,
        /// The key that encrypts Kubernetes secrets.
        pub encryption_provider_key: Option<String>,
        /// Whether service accounts can take RAM roles.
        pub enable_rrsa: Option<bool>,
        /// The same, in newer bodies.
        pub rrsa_config: Option<RrsaRequest>,
        /// A certificate authority of the user's: certificate and private key in PEM.
        pub user_ca: Option<Secret>,
        /// Audit of the API server.
        pub audit_log_config: Option<AuditLogConfig>,
        /// Days for which logs of the control plane are kept; text in the editions.
        pub controlplane_log_ttl: Option<i64>,
        /// Where logs of the control plane go.
        pub controlplane_log_project: Option<String>,
        /// Components whose logs are collected.
        pub controlplane_log_components: Option<Vec<String>>,
        /// `SLS` for logs in the log service.
        pub logging_type: Option<String>,
        /// Whether nodes follow the CIS baseline.
        pub cis_enabled: Option<bool>,
        /// Whether the nodes' operating system is hardened.
        pub security_hardening_os: Option<bool>,
        /// Whether nodes follow the classified protection baseline.
        pub soc_enabled: Option<bool>,

        // Nodes, all of them.
        /// The key pair for logging in.
        pub key_pair: Option<String>,
        /// The password for logging in.
        pub login_password: Option<Secret>,
        /// `CentOS`, `AliyunLinux`, ….
        pub image_type: Option<String>,
        /// The image of the nodes.
        pub image_id: Option<String>,
        /// `Linux` or `Windows`.
        pub os_type: Option<String>,
        /// The distribution of the nodes.
        pub platform: Option<String>,
        /// How node names are made.
        pub node_name_mode: Option<String>,
        /// A script that runs on every node, in Base64.
        pub user_data: Option<String>,
        /// `static` or `none`.
        pub cpu_policy: Option<String>,
        /// Taints of the nodes.
        pub taints: Option<Vec<Taint>>,
        /// Databases that let the nodes in.
        pub rds_instances: Option<Vec<String>>,
        /// Whether the monitoring agent is installed.
        pub cloud_monitor_flags: Option<bool>,
        /// Existing instances that become nodes.
        pub instances: Option<Vec<String>>,
        /// Whether such instances keep their names.
        pub keep_instance_name: Option<bool>,
        /// Whether the data disk of such instances is formatted.
        pub format_disk: Option<bool>,
        /// Node pools that are made with the cluster.
        pub nodepools: Option<Vec<CreateClusterNodePoolRequest>>,
        /// `PrePaid` or `PostPaid`, for the cluster's load balancers.
        pub charge_type: Option<String>,
        /// Prepaid periods.
        pub period: Option<i64>,
        /// Unit of the period.
        pub period_unit: Option<String>,
        /// Whether prepaid resources renew themselves.
        pub auto_renew: Option<bool>,
        /// Months of one renewal.
        pub auto_renew_period: Option<i64>,

        // Worker nodes.
        /// How many workers.
        pub num_of_nodes: Option<i64>,
        /// Instance types of workers.
        pub worker_instance_types: Option<Vec<String>>,
        /// The one instance type of workers, in the oldest bodies.
        pub worker_instance_type: Option<String>,
        /// vSwitches of workers.
        pub worker_vswitch_ids: Option<Vec<String>>,
        /// Kind of the workers' system disk.
        pub worker_system_disk_category: Option<String>,
        /// Its size in GiB.
        pub worker_system_disk_size: Option<i64>,
        /// Its performance level.
        pub worker_system_disk_performance_level: Option<String>,
        /// Its snapshot policy.
        pub worker_system_disk_snapshot_policy_id: Option<String>,
        /// Data disks of workers.
        pub worker_data_disks: Option<Vec<DataDisk>>,
        /// Whether workers have a data disk (older bodies; text in the 2019 edition).
        pub worker_data_disk: Option<bool>,
        /// Its kind.
        pub worker_data_disk_category: Option<String>,
        /// Its size in GiB.
        pub worker_data_disk_size: Option<i64>,
        /// `PrePaid` or `PostPaid`.
        pub worker_instance_charge_type: Option<String>,
        /// Prepaid periods of workers.
        pub worker_period: Option<i64>,
        /// Unit of that period.
        pub worker_period_unit: Option<String>,
        /// Whether prepaid workers renew themselves.
        pub worker_auto_renew: Option<bool>,
        /// Months of one renewal.
        pub worker_auto_renew_period: Option<i64>,

        // Master nodes of a dedicated cluster.
        /// How many masters: 3 or 5.
        pub master_count: Option<i64>,
        /// vSwitches of masters.
        pub master_vswitch_ids: Option<Vec<String>>,
        /// Instance types of masters.
        pub master_instance_types: Option<Vec<String>>,
        /// The one instance type of masters, in the oldest bodies.
        pub master_instance_type: Option<String>,
        /// Kind of the masters' system disk.
        pub master_system_disk_category: Option<String>,
        /// Its size in GiB.
        pub master_system_disk_size: Option<i64>,
        /// Its performance level.
        pub master_system_disk_performance_level: Option<String>,
        /// Its snapshot policy.
        pub master_system_disk_snapshot_policy_id: Option<String>,
        /// Whether masters have a data disk.
        pub master_data_disk: Option<bool>,
        /// Its kind.
        pub master_data_disk_category: Option<String>,
        /// Its size in GiB.
        pub master_data_disk_size: Option<i64>,
        /// `PrePaid` or `PostPaid`.
        pub master_instance_charge_type: Option<String>,
        /// Prepaid periods of masters.
        pub master_period: Option<i64>,
        /// Unit of that period.
        pub master_period_unit: Option<String>,
        /// Whether prepaid masters renew themselves.
        pub master_auto_renew: Option<bool>,
        /// Months of one renewal.
        pub master_auto_renew_period: Option<i64>,
        /// Nodes of the control plane, in newer bodies.
        pub control_plane_config: Option<ControlPlaneConfig>,

        // The three zones of the oldest multi-zone body.
        /// Whether the cluster spreads over zones.
        pub multi_az: Option<bool>,
        /// vSwitch of the first zone.
        pub vswitch_id_a: Option<String>,
        /// vSwitch of the second zone.
        pub vswitch_id_b: Option<String>,
        /// vSwitch of the third zone.
        pub vswitch_id_c: Option<String>,
        /// Instance type of the master in the first zone.
        pub master_instance_type_a: Option<String>,
        /// Instance type of the master in the second zone.
        pub master_instance_type_b: Option<String>,
        /// Instance type of the master in the third zone.
        pub master_instance_type_c: Option<String>,
        /// Instance type of workers in the first zone.
        pub worker_instance_type_a: Option<String>,
        /// Instance type of workers in the second zone.
        pub worker_instance_type_b: Option<String>,
        /// Instance type of workers in the third zone.
        pub worker_instance_type_c: Option<String>,
        /// Workers in the first zone.
        pub num_of_nodes_a: Option<i64>,
        /// Workers in the second zone.
        pub num_of_nodes_b: Option<i64>,
        /// Workers in the third zone.
        pub num_of_nodes_c: Option<i64>,

        // Swarm clusters.
        /// How many nodes.
        pub size: Option<i64>,
        /// Their instance type.
        pub instance_type: Option<String>,
        /// `vpc` or `classic`.
        pub network_mode: Option<String>,
        /// The VPC.
        pub vpc_id: Option<String>,
        /// The vSwitch.
        pub vswitch_id: Option<String>,
        /// Addresses of containers.
        pub subnet_cidr: Option<String>,
        /// The password for logging in to nodes.
        pub password: Option<Secret>,
        /// Kind of the nodes' data disk.
        pub data_disk_category: Option<String>,
        /// Its size in GiB.
        pub data_disk_size: Option<i64>,
        /// The image of the nodes.
        pub ecs_image_id: Option<String>,
        /// `none` or `optimized`; examples also print `true`.
        pub io_optimized: Option<String>,
        /// Whether a load balancer is made; absent means yes.
        pub need_slb: Option<bool>,
        /// Whether public addresses are released after the set-up.
        pub release_eip_flag: Option<bool>,
    }

    /// Whether service accounts can take RAM roles.
    pub struct RrsaRequest {
        /// True lets them.
        pub enabled: Option<bool>,
    }

    /// Audit of the API server.
    pub struct AuditLogConfig {
        /// Whether requests are recorded.
        pub enabled: Option<bool>,
        /// Where the records go.
        pub sls_project_name: Option<String>,
    }
}
