//! Requests that change or delete a cluster.

use super::common::{
    ControlPlaneConfig, ControlPlaneEndpointsConfig, DataDisk, MaintenanceWindow, OperationPolicy, Runtime, Tag, Taint,
};
use crate::Secret;

wire! {
    /// Body of `PUT /api/v2/clusters/{ClusterId}`. A field that is absent stays as it is.
    pub struct ModifyClusterRequest {
        /// Whether the API server can be reached from outside the VPC.
        pub api_server_eip: Option<bool>,
        /// The public address to use; only with `api_server_eip`.
        pub api_server_eip_id: Option<String>,
        /// True keeps the cluster from being deleted.
        pub deletion_protection: Option<bool>,
        /// True keeps its nodes from being released.
        pub instance_deletion_protection: Option<bool>,
        /// Whether the test domain is bound anew; text in the editions.
        pub ingress_domain_rebinding: Option<bool>,
        /// The load balancer of the ingress.
        pub ingress_loadbalancer_id: Option<String>,
        /// The resource group.
        pub resource_group_id: Option<String>,
        /// When maintenance may happen.
        pub maintenance_window: Option<MaintenanceWindow>,
        /// Whether service accounts can take RAM roles.
        pub enable_rrsa: Option<bool>,
        /// Addresses that may use the API server.
        pub access_control_list: Option<Vec<String>>,
        /// More names in the API server's certificate.
        pub api_server_custom_cert_sans: Option<CustomCertSans>,
        /// Makes repeated requests with the same token one request.
        pub client_token: Option<String>,
        /// The new name.
        pub cluster_name: Option<String>,
        /// The new specification.
        pub cluster_spec: Option<String>,
        /// Nodes of the control plane.
        pub control_plane_config: Option<ControlPlaneConfig>,
        /// Endpoints of the API server.
        pub control_plane_endpoints_config: Option<ControlPlaneEndpointsConfig>,
        /// What the service may do without being asked.
        pub operation_policy: Option<OperationPolicy>,
        /// The security group.
        pub security_group_id: Option<String>,
        /// Where events of the system go.
        pub system_events_logging: Option<SystemEventsLogging>,
        /// The time zone.
        pub timezone: Option<String>,
        /// vSwitches of the control plane.
        pub vswitch_ids: Option<Vec<String>>,
    }

    /// A change of the names in the API server's certificate.
    pub struct CustomCertSans {
        /// `append` or `overwrite`.
        pub action: Option<String>,
        /// The names.
        pub subject_alternative_names: Option<Vec<String>>,
    }

    /// Where events of the system go.
    pub struct SystemEventsLogging {
        /// Whether they are collected.
        pub enabled: Option<bool>,
        /// The project they go to.
        pub logging_project: Option<String>,
    }

    /// Body of `POST /api/v2/clusters/{ClusterId}`: adds workers.
    pub struct ScaleOutClusterRequest {
        /// How many workers are added.
        pub count: i64,
        /// Their vSwitches.
        pub vswitch_ids: Option<Vec<String>>,
        /// Their instance types.
        pub worker_instance_types: Option<Vec<String>>,
        /// The key pair for logging in.
        pub key_pair: Option<String>,
        /// The password for logging in.
        pub login_password: Option<Secret>,
        /// Kind of their system disk.
        pub worker_system_disk_category: Option<String>,
        /// Its size in GiB.
        pub worker_system_disk_size: Option<i64>,
        /// Whether they have a data disk (older bodies).
        pub worker_data_disk: Option<bool>,
        /// Its kind (older bodies).
        pub worker_data_disk_category: Option<String>,
        /// Its size in GiB (older bodies).
        pub worker_data_disk_size: Option<i64>,
        /// Their data disks.
        pub worker_data_disks: Option<Vec<DataDisk>>,
        /// Tags.
        pub tags: Option<Vec<Tag>>,
        /// Taints.
        pub taints: Option<Vec<Taint>>,
        /// Whether the monitoring agent is installed.
        pub cloud_monitor_flags: Option<bool>,
        /// `static` or `none`.
        pub cpu_policy: Option<String>,
        /// The image.
        pub image_id: Option<String>,
        /// Databases that let the nodes in.
        pub rds_instances: Option<Vec<String>>,
        /// The container runtime.
        pub runtime: Option<Runtime>,
        /// A script that runs on every node, in Base64.
        pub user_data: Option<String>,
        /// `PrePaid` or `PostPaid`.
        pub worker_instance_charge_type: Option<String>,
        /// Prepaid periods.
        pub worker_period: Option<i64>,
        /// Unit of the period.
        pub worker_period_unit: Option<String>,
        /// Whether prepaid workers renew themselves.
        pub worker_auto_renew: Option<bool>,
        /// Months of one renewal.
        pub worker_auto_renew_period: Option<i64>,
        /// True leaves the resources of a failed expansion alone.
        pub disable_rollback: Option<bool>,
        /// Minutes after which the expansion counts as failed.
        pub timeout_mins: Option<i64>,
    }

    /// Body of `PUT /clusters/{ClusterId}`: sets how many nodes the cluster has. The bodies of Kubernetes and of
    /// Swarm clusters in one struct.
    pub struct UpdateClusterSizeByIdRequest {
        /// Kubernetes: the new total of workers.
        pub num_of_nodes: Option<i64>,
        /// Swarm: the new total of nodes.
        pub size: Option<i64>,
        /// Kubernetes: the instance type of new workers.
        pub worker_instance_type: Option<String>,
        /// Kubernetes: instance types of new workers, as newer bodies name them.
        pub worker_instance_types: Option<Vec<String>>,
        /// Kubernetes: the password for logging in.
        pub login_password: Option<Secret>,
        /// Kubernetes: the key pair for logging in.
        pub key_pair: Option<String>,
        /// True leaves the resources of a failed expansion alone.
        pub disable_rollback: Option<bool>,
        /// Minutes after which the expansion counts as failed.
        pub timeout_mins: Option<i64>,
        /// Swarm: the instance type of new nodes.
        pub instance_type: Option<String>,
        /// Swarm: the password for logging in.
        pub password: Option<Secret>,
        /// Swarm: kind of the data disk.
        pub data_disk_category: Option<String>,
        /// Swarm: its size in GiB.
        pub data_disk_size: Option<i64>,
        /// Swarm: the image.
        pub ecs_image_id: Option<String>,
        /// Swarm: `none` or `optimized`.
        pub io_optimized: Option<String>,
        /// Swarm: whether public addresses are released after the set-up.
        pub release_eip_flag: Option<bool>,
    }

    /// Query of `DELETE /clusters/{ClusterId}`.
    pub struct DeleteClusterQuery {
        /// True keeps every resource.
        pub retain_all_resources: Option<bool>,
        /// True keeps load balancers.
        pub keep_slb: Option<bool>,
        /// Resources to keep; on the wire one JSON array as text.
        pub retain_resources: Option<Vec<String>>,
        /// What becomes of kinds of resources; on the wire one JSON array as text.
        pub delete_options: Option<Vec<DeleteOption>>,
    }

    /// What becomes of one kind of resources.
    pub struct DeleteOption {
        /// `SLB`, `ALB`, `SLS_Data`, `SLS_ControlPlane`, `PrivateZone`, ….
        pub resource_type: Option<String>,
        /// `delete` or `retain`.
        pub delete_mode: Option<String>,
    }
}
