//! Clusters as answers show them, and the queries that list them.

use std::collections::BTreeMap;

use super::common::{
    AutoMode, ControlPlaneConfig, ControlPlaneEndpointsConfig, MaintenanceWindow, OperationPolicy, PageInfo, Tag,
};

wire! {
    /// Query of `GET /api/v1/clusters`.
    pub struct DescribeClustersV1Query {
        /// Only the cluster with this name.
        pub name: Option<String>,
        /// Only the cluster with this id.
        pub cluster_id: Option<String>,
        /// Only clusters of this type.
        pub cluster_type: Option<String>,
        /// Only clusters of this specification; empty does not filter.
        pub cluster_spec: Option<String>,
        /// Only clusters of this profile; empty does not filter.
        pub profile: Option<String>,
        /// Only clusters in this region.
        pub region_id: Option<String>,
        /// Entries per page.
        pub page_size: Option<i64>,
        /// The page, counted from 1.
        pub page_number: Option<i64>,
    }

    /// Answer of `GET /api/v1/clusters`.
    pub struct DescribeClustersV1Response {
        /// The clusters of this page.
        pub clusters: Vec<Cluster>,
        /// Which page it is.
        pub page_info: PageInfo,
    }

    /// Query of `GET /clusters`.
    pub struct DescribeClustersQuery {
        /// Only clusters with this name.
        pub name: Option<String>,
        /// Only clusters of this type.
        #[serde(rename = "clusterType")]
        pub cluster_type: Option<String>,
        /// Only clusters of this resource group.
        pub resource_group_id: Option<String>,
        /// Only clusters in this region.
        pub region_id: Option<String>,
    }

    /// A cluster: the fields of all editions.
    ///
    /// Fields that are not optional are documented for every Kubernetes cluster; they are empty, not absent,
    /// when there is nothing to say.
    pub struct Cluster {
        /// The id: 33 characters, starting with `c`.
        pub cluster_id: String,
        /// The name.
        pub name: String,
        /// `ManagedKubernetes`, `Kubernetes`, `Ask`, `ExternalKubernetes`, or `aliyun` for a Swarm cluster.
        pub cluster_type: String,
        /// `ack.standard`, `ack.pro.small`, or empty.
        pub cluster_spec: String,
        /// `Default`, `Serverless` or `Edge`.
        pub profile: String,
        /// `initial` (Swarm: `launching`), `running`, `failed`, `updating`, `scaling`, `deleting`, ….
        pub state: String,
        /// The region.
        pub region_id: String,
        /// The zone of the first vSwitch.
        pub zone_id: String,
        /// Nodes, masters included.
        pub size: i64,
        /// When it was created: RFC 3339.
        pub created: String,
        /// When it was last changed: RFC 3339.
        pub updated: String,
        /// The Kubernetes version it was created with.
        pub init_version: String,
        /// The Kubernetes version it has.
        pub current_version: String,
        /// The Kubernetes version it can be upgraded to, or empty.
        pub next_version: String,
        /// The version of Docker, or empty.
        pub docker_version: String,
        /// Whether it is protected from deletion.
        pub deletion_protection: bool,
        /// The load balancer of the ingress, or empty.
        pub external_loadbalancer_id: String,
        /// Kubernetes: the API server's addresses as a JSON document. Swarm: a URL.
        pub master_url: String,
        /// A JSON document about the cluster.
        pub meta_data: String,
        /// `vpc`, `classic`, `overlay` or `calico`.
        pub network_mode: String,
        /// Whether a private zone is used.
        pub private_zone: bool,
        /// The resource group.
        pub resource_group_id: String,
        /// The security group.
        pub security_group_id: String,
        /// Addresses of pods.
        pub subnet_cidr: String,
        /// The tags.
        pub tags: Vec<Tag>,
        /// The VPC.
        pub vpc_id: String,
        /// vSwitches, comma separated.
        pub vswitch_id: String,
        /// The RAM role of workers.
        pub worker_ram_role_name: String,
        /// When maintenance may happen.
        pub maintenance_window: MaintenanceWindow,

        /// Version of the agent (older editions).
        pub agent_version: Option<String>,
        /// Why the cluster is in a failed state.
        pub failed_message: Option<String>,
        /// vSwitches.
        pub vswitch_ids: Option<Vec<String>>,
        /// Addresses of the vSwitch.
        pub vswitch_cidr: Option<String>,
        /// Addresses of pods.
        pub container_cidr: Option<String>,
        /// Addresses of services.
        pub service_cidr: Option<String>,
        /// Prefix length of one node's pod addresses, as text.
        pub node_cidr_mask: Option<String>,
        /// `ipv4` or `dual`.
        pub ip_stack: Option<String>,
        /// `iptables` or `ipvs`.
        pub proxy_mode: Option<String>,
        /// The domain of services.
        pub cluster_domain: Option<String>,
        /// More names in the API server's certificate.
        pub extra_sans: Option<Vec<String>>,
        /// The time zone.
        pub timezone: Option<String>,
        /// The kind of the nodes' data disk.
        pub data_disk_category: Option<String>,
        /// Its size in GiB.
        pub data_disk_size: Option<i64>,
        /// Parameters it was made with.
        pub parameters: Option<BTreeMap<String, String>>,
        /// RAM roles for service accounts.
        pub rrsa_config: Option<RrsaConfig>,
        /// What the service may do without being asked.
        pub operation_policy: Option<OperationPolicy>,
        /// Whether the service manages the nodes.
        pub auto_mode: Option<AutoMode>,
        /// Nodes of the control plane.
        pub control_plane_config: Option<ControlPlaneConfig>,
        /// Endpoints of the API server.
        pub control_plane_endpoints_config: Option<ControlPlaneEndpointsConfig>,
        /// Swarm: where the cluster's load balancer takes HTTP for the applications.
        pub routing_url: Option<String>,
        /// Swarm: address of the installation's image registry, the same on the host and on every node.
        pub registry: Option<String>,
        /// Swarm: addresses of the further listeners that applications asked for, by name.
        pub listeners: Option<BTreeMap<String, String>>,
    }

    /// RAM roles for service accounts.
    pub struct RrsaConfig {
        /// Whether service accounts can take roles.
        pub enabled: Option<bool>,
        /// The issuer of tokens.
        pub issuer: Option<String>,
        /// The audience of tokens.
        pub audience: Option<String>,
        /// The name of the identity provider.
        pub oidc_name: Option<String>,
        /// Its resource name.
        pub oidc_arn: Option<String>,
        /// Where its keys are.
        pub jwks_url: Option<String>,
        /// Where its configuration is.
        pub open_api_configuration_url: Option<String>,
        /// The longest life of a token.
        pub max_oidc_token_expiration: Option<String>,
    }
}
