//! What the operator decides for the whole installation.

use std::{net::IpAddr, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::version::Version;

/// What to do with a Kubernetes version that this installation does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownVersion {
    /// Take the nearest one; the real version is returned and an event says so.
    Nearest,
    /// Refuse the request.
    Refuse,
}

/// Limits of an account (catalogue 9.11); also the table `[quota]` of the installation's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Clusters of an account.
    pub clusters: u32,
    /// Managed clusters of an account.
    pub managed_clusters: u32,
    /// Serverless clusters of an account.
    pub serverless_clusters: u32,
    /// Node pools of a cluster.
    pub node_pools_per_cluster: u32,
    /// Nodes of a cluster.
    pub nodes_per_cluster: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            clusters: 50,
            managed_clusters: 20,
            serverless_clusters: 20,
            node_pools_per_cluster: 20,
            nodes_per_cluster: 100,
        }
    }
}

/// The operating system image that machines are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeImage {
    /// Id that is returned for nodes.
    pub id: String,
    /// In words.
    pub name: String,
    /// Distribution.
    pub platform: String,
    /// Version of the distribution.
    pub os_version: String,
}

impl Default for NodeImage {
    fn default() -> Self {
        Self {
            id: "sampan_node_debian_12".into(),
            name: "Sampan node (Debian 12)".into(),
            platform: "Debian".into(),
            os_version: "12".into(),
        }
    }
}

/// Settings of the use cases.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Region of this installation.
    pub region_id: String,
    /// Make VPCs, vSwitches and the like that a request names and that do not exist.
    pub create_referenced: bool,
    /// Ranges of VPCs (a /20 each) come from here.
    pub machine_pool: Ipv4Net,
    /// What to do with an unknown Kubernetes version.
    pub unknown_version: UnknownVersion,
    /// Kubernetes versions that can be run, in any order.
    pub kubernetes_versions: Vec<Version>,
    /// Version of the container runtime on the nodes.
    pub containerd_version: String,
    /// Stable ports for public API endpoints come from here.
    pub ports: RangeInclusive<u16>,
    /// Address on which those ports are opened, and which public kubeconfigs name.
    pub public_address: IpAddr,
    /// Where callers reach the server, `http://host:port`; links of triggers begin with it.
    pub endpoint_url: String,
    /// Port of the installation's image registry on 127.0.0.1, if it has one.
    pub registry_port: Option<u16>,
    /// Limits, unless an account has its own.
    pub quotas: Quotas,
    /// Components that this installation brings to every cluster.
    pub provided_addons: Vec<String>,
    /// Instance type of machines for which none is given.
    pub default_instance_type: String,
    /// Instance type of the machine that runs a managed cluster's control plane; users do not see it.
    pub control_plane_instance_type: String,
    /// Validity of kubeconfigs for which none is asked, in days.
    pub kubeconfig_days: u32,
    /// A task other than a creation must have ended within this many minutes.
    pub task_timeout_minutes: u32,
    /// The image of machines.
    pub node_image: NodeImage,
    /// Names of machines' containers begin with it, their ids follow.
    pub container_prefix: String,
    /// There is an image of bare hosts.
    pub bare_hosts: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region_id: "cn-hangzhou".into(),
            create_referenced: true,
            machine_pool: Ipv4Net::new_assert(Ipv4Addr::new(10, 200, 0, 0), 13),
            unknown_version: UnknownVersion::Nearest,
            kubernetes_versions: vec![Version { major: 1, minor: 36, patch: 3 }],
            containerd_version: String::new(),
            ports: 20000..=20999,
            public_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            endpoint_url: String::new(),
            registry_port: None,
            quotas: Quotas::default(),
            provided_addons: ["coredns", "metrics-server", "kube-proxy"].map(String::from).to_vec(),
            default_instance_type: "ecs.g6.large".into(),
            control_plane_instance_type: "ecs.g6.xlarge".into(),
            // Three years, as long as the service's own long-lived user certificates.
            kubeconfig_days: 3 * 365,
            task_timeout_minutes: 60,
            node_image: NodeImage::default(),
            container_prefix: String::new(),
            bare_hosts: true,
        }
    }
}
