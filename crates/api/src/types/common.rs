//! Structures that several operations share.

use serde_json::{Map, Value};

wire! {
    /// The answer of an operation whose work goes on in the background.
    pub struct TaskStarted {
        /// The cluster the work is about.
        pub cluster_id: String,
        /// The id of this request.
        pub request_id: String,
        /// The task that reports on the work.
        pub task_id: String,
    }

    /// One page's position in a list.
    pub struct PageInfo {
        /// The page, counted from 1.
        pub page_number: i64,
        /// Entries per page.
        pub page_size: i64,
        /// Entries on all pages.
        pub total_count: i64,
    }

    /// A label on a cluster, node or resource.
    pub struct Tag {
        /// The name of the tag.
        pub key: String,
        /// Its value; empty when left out.
        pub value: Option<String>,
    }

    /// A Kubernetes taint of nodes.
    pub struct Taint {
        /// The name of the taint.
        pub key: String,
        /// Its value.
        pub value: Option<String>,
        /// `NoSchedule`, `NoExecute` or `PreferNoSchedule`.
        pub effect: Option<String>,
    }

    /// A component to install, or not to.
    pub struct Addon {
        /// The name of the component.
        pub name: String,
        /// Its configuration: a JSON document as text.
        pub config: Option<String>,
        /// True keeps a component from being installed that comes by default.
        pub disabled: Option<bool>,
        /// The version; the newest when left out.
        pub version: Option<String>,
    }

    /// A container runtime.
    pub struct Runtime {
        /// `containerd`, `docker` or `Sandboxed-Container.runv`.
        pub name: Option<String>,
        /// Its version; the newest when left out.
        pub version: Option<String>,
    }

    /// When the service may do maintenance by itself.
    pub struct MaintenanceWindow {
        /// Whether the window is in use.
        pub enable: Option<bool>,
        /// Start, for example `03:00:00Z`.
        pub maintenance_time: Option<String>,
        /// Length in hours, for example `3h`.
        pub duration: Option<String>,
        /// Days of the week in English, comma separated.
        pub weekly_period: Option<String>,
        /// A recurrence rule (RFC 5545) that replaces the weekly period.
        pub recurrence: Option<String>,
        /// Times at which nothing is done although the window is open.
        pub exclusions: Option<Vec<MaintenanceExclusion>>,
    }

    /// A time without maintenance.
    pub struct MaintenanceExclusion {
        /// A name for it.
        pub name: Option<String>,
        /// Why it is there.
        pub description: Option<String>,
        /// What is kept from happening.
        pub scope: Option<String>,
        /// Begin of the exclusion.
        pub start_time: Option<String>,
        /// End of the exclusion.
        pub end_time: Option<String>,
    }

    /// A data disk of a node.
    pub struct DataDisk {
        /// Kind of disk, for example `cloud_ssd`.
        pub category: Option<String>,
        /// Size in GiB.
        pub size: Option<i64>,
        /// `true` or `false`, as text in every edition.
        pub encrypted: Option<String>,
        /// The snapshot policy of the disk.
        pub auto_snapshot_policy_id: Option<String>,
        /// Performance level, for example `PL1`.
        pub performance_level: Option<String>,
        /// Whether the disk is formatted and mounted.
        pub auto_format: Option<bool>,
        /// Whether performance may burst.
        pub bursting_enabled: Option<bool>,
        /// The device name.
        pub device: Option<String>,
        /// The name of the disk.
        pub disk_name: Option<String>,
        /// The file system it is formatted with.
        pub file_system: Option<String>,
        /// The key the disk is encrypted with.
        pub kms_key_id: Option<String>,
        /// Where it is mounted.
        pub mount_target: Option<String>,
        /// Provisioned operations per second.
        pub provisioned_iops: Option<i64>,
        /// The snapshot it is made from.
        pub snapshot_id: Option<String>,
    }

    /// A switch with the one field `enable`.
    pub struct AutoMode {
        /// Whether the service manages nodes by itself.
        pub enable: Option<bool>,
    }

    /// What the service may do to a cluster without being asked.
    pub struct OperationPolicy {
        /// Upgrades of the cluster.
        pub cluster_auto_upgrade: Option<ClusterAutoUpgrade>,
    }

    /// Automatic upgrades of a cluster.
    pub struct ClusterAutoUpgrade {
        /// Whether they happen.
        pub enabled: Option<bool>,
        /// How far they go: `patch`, `stable` or `rapid`.
        pub channel: Option<String>,
    }

    /// The endpoints of the API server.
    pub struct ControlPlaneEndpointsConfig {
        /// Its name inside the VPC.
        pub internal_dns_config: Option<InternalDnsConfig>,
        /// Its load balancers.
        pub load_balancers_config: Option<Vec<EndpointLoadBalancer>>,
    }

    /// The VPCs in which the API server's internal name resolves.
    pub struct InternalDnsConfig {
        /// Ids of the VPCs.
        pub bind_vpcs: Option<Vec<String>>,
        /// Whether the name is kept.
        pub enabled: Option<bool>,
    }

    /// A load balancer before the API server.
    pub struct EndpointLoadBalancer {
        /// `internet` or `intranet`.
        pub endpoint_type: Option<String>,
        /// Its id.
        pub load_balancer_id: Option<String>,
        /// Its address; only in answers.
        pub endpoint: Option<String>,
    }

    /// Nodes of a dedicated cluster's control plane.
    pub struct ControlPlaneConfig {
        /// Whether prepaid instances renew themselves.
        pub auto_renew: Option<bool>,
        /// Months of one renewal.
        pub auto_renew_period: Option<i64>,
        /// `PrePaid` or `PostPaid`.
        pub charge_type: Option<String>,
        /// Whether the monitoring agent is installed.
        pub cloud_monitor_flags: Option<bool>,
        /// `static` or `none`.
        pub cpu_policy: Option<String>,
        /// The deployment set.
        pub deploymentset_id: Option<String>,
        /// The image.
        pub image_id: Option<String>,
        /// The kind of image.
        pub image_type: Option<String>,
        /// How instances read their metadata.
        pub instance_metadata_options: Option<Map<String, Value>>,
        /// Instance types.
        pub instance_types: Option<Vec<String>>,
        /// The key pair for logging in.
        pub key_pair: Option<String>,
        /// The password for logging in.
        pub login_password: Option<crate::Secret>,
        /// Ports of NodePort services.
        pub node_port_range: Option<String>,
        /// Prepaid periods.
        pub period: Option<i64>,
        /// Unit of the period.
        pub period_unit: Option<String>,
        /// The container runtime.
        pub runtime: Option<String>,
        /// Whether the operating system is hardened.
        pub security_hardening_os: Option<bool>,
        /// How many nodes.
        pub size: Option<i64>,
        /// Whether the operating system follows the classified protection baseline.
        pub soc_enabled: Option<bool>,
        /// Whether the system disk may burst.
        pub system_disk_bursting_enabled: Option<bool>,
        /// Kind of system disk.
        pub system_disk_category: Option<String>,
        /// Its performance level.
        pub system_disk_performance_level: Option<String>,
        /// Its provisioned operations per second.
        pub system_disk_provisioned_iops: Option<i64>,
        /// Its size in GiB.
        pub system_disk_size: Option<i64>,
        /// Its snapshot policy.
        pub system_disk_snapshot_policy_id: Option<String>,
    }
}
