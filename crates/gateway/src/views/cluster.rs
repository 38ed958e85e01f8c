//! Clusters, their resources and their logs.

use std::collections::BTreeMap;

use sampan_api::types;
use sampan_control::service::{
    cluster::{Resource, ResourceKind},
    cluster_state_word,
    credentials::internal_url,
};
use sampan_store::model::{Addon, Cluster, ClusterType, LogLine, MaintenanceWindow, ProxyMode};
use serde::Serialize;
use serde_json::{Value, json};

use super::{requested, tags, time};

/// What a cluster's record does not say by itself.
#[derive(Clone, Debug, Default)]
pub struct ClusterFacts {
    /// Its nodes.
    pub workers: usize,
    /// What it can be upgraded to, or empty.
    pub next_version: String,
    /// Public address of its API server or master, if it has one.
    pub public_url: Option<String>,
    /// Public address at which the applications of a Swarm cluster take HTTP.
    pub routing_url: Option<String>,
    /// Addresses of the further listeners of a Swarm cluster.
    pub listeners: BTreeMap<String, String>,
    /// Address of the installation's image registry, on the host and on every node of a Swarm cluster.
    pub registry: Option<String>,
    /// Version of containerd on its nodes.
    pub containerd_version: String,
}

/// A cluster.
pub fn cluster(cluster: &Cluster, facts: &ClusterFacts) -> types::Cluster {
    match cluster.cluster_type {
        ClusterType::ManagedKubernetes | ClusterType::Kubernetes => kubernetes(cluster, facts),
        ClusterType::Swarm => swarm(cluster, facts),
    }
}

/// What both generations have.
fn common(cluster: &Cluster, facts: &ClusterFacts) -> types::Cluster {
    let network = &cluster.network;
    types::Cluster {
        cluster_id: cluster.id.clone(),
        name: cluster.name.clone(),
        state: cluster_state_word(cluster).into(),
        region_id: cluster.region_id.clone(),
        zone_id: cluster.zone_id.clone(),
        size: i64::try_from(facts.workers).unwrap_or(i64::MAX),
        created: time(cluster.created),
        updated: time(cluster.updated),
        init_version: cluster.init_version.clone(),
        current_version: cluster.version.clone(),
        deletion_protection: cluster.deletion_protection,
        external_loadbalancer_id: load_balancer(cluster).to_owned(),
        network_mode: "vpc".into(),
        resource_group_id: cluster.resource_group_id.clone(),
        security_group_id: network.security_group_id.clone(),
        subnet_cidr: network.pod_cidr.to_string(),
        tags: tags(&cluster.tags),
        vpc_id: network.vpc_id.clone(),
        vswitch_id: network.vswitch_ids.join(","),
        maintenance_window: maintenance_window(cluster.maintenance_window.as_ref()),
        agent_version: Some(env!("CARGO_PKG_VERSION").into()),
        failed_message: cluster.state_reason.clone(),
        vswitch_ids: Some(network.vswitch_ids.clone()),
        parameters: Some(parameters(&cluster.request)),
        ..types::Cluster::default()
    }
}

fn swarm(cluster: &Cluster, facts: &ClusterFacts) -> types::Cluster {
    types::Cluster {
        cluster_type: "aliyun".into(),
        // A plain URL, other than a Kubernetes cluster's.
        master_url: facts.public_url.clone().unwrap_or_else(|| internal_url(cluster)),
        init_version: String::new(),
        current_version: String::new(),
        docker_version: cluster.version.clone(),
        routing_url: facts.routing_url.clone(),
        registry: facts.registry.clone(),
        listeners: (!facts.listeners.is_empty()).then(|| facts.listeners.clone()),
        ..common(cluster, facts)
    }
}

fn kubernetes(cluster: &Cluster, facts: &ClusterFacts) -> types::Cluster {
    let network = &cluster.network;
    let cidrs = (network.pod_cidr.to_string(), network.service_cidr.to_string());
    types::Cluster {
        cluster_type: if cluster.is_dedicated() { "Kubernetes" } else { "ManagedKubernetes" }.into(),
        cluster_spec: cluster.spec.clone(),
        profile: "Default".into(),
        next_version: facts.next_version.clone(),
        master_url: master_url(cluster, facts),
        meta_data: meta_data(cluster, facts),
        container_cidr: Some(cidrs.0),
        service_cidr: Some(cidrs.1),
        node_cidr_mask: Some(network.node_cidr_mask.to_string()),
        ip_stack: Some("ipv4".into()),
        proxy_mode: Some(match network.proxy_mode {
            ProxyMode::Iptables => "iptables".into(),
            ProxyMode::Ipvs => "ipvs".into(),
        }),
        cluster_domain: Some(network.cluster_domain.clone()),
        extra_sans: Some(cluster.control_plane.custom_san.clone()),
        timezone: cluster.control_plane.timezone.clone(),
        rrsa_config: rrsa(&cluster.request),
        operation_policy: requested(&cluster.request, "operation_policy"),
        control_plane_config: requested(&cluster.request, "control_plane_config"),
        control_plane_endpoints_config: Some(endpoints(cluster, facts)),
        // No Docker, no private zone and no RAM role stand behind a cluster here.
        ..common(cluster, facts)
    }
}

/// The load balancer that the user named for the ingress; else the only one there is, the API server's.
fn load_balancer(cluster: &Cluster) -> &str {
    let named = cluster.request["ingress_loadbalancer_id"].as_str().filter(|id| !id.is_empty());
    named.unwrap_or(&cluster.network.api_load_balancer_id)
}

/// The API server's addresses as the JSON document that `master_url` is. URLs need no escapes.
fn master_url(cluster: &Cluster, facts: &ClusterFacts) -> String {
    let public = facts.public_url.as_deref().unwrap_or_default();
    let internal = internal_url(cluster);
    format!(r#"{{"api_server_endpoint":"{public}","intranet_api_server_endpoint":"{internal}"}}"#)
}

/// The same addresses as today's clients read them.
fn endpoints(cluster: &Cluster, facts: &ClusterFacts) -> types::ControlPlaneEndpointsConfig {
    let one = |kind: &str, endpoint: String| types::EndpointLoadBalancer {
        endpoint_type: Some(kind.into()),
        load_balancer_id: Some(cluster.network.api_load_balancer_id.clone()),
        endpoint: Some(endpoint),
    };
    let public = facts.public_url.clone().map(|url| one("internet", url));
    types::ControlPlaneEndpointsConfig {
        internal_dns_config: None,
        load_balancers_config: Some(std::iter::once(one("intranet", internal_url(cluster))).chain(public).collect()),
    }
}

/// Whether roles for service accounts were asked for; nothing else stands behind it.
fn rrsa(request: &Value) -> Option<types::RrsaConfig> {
    let enabled = request["enable_rrsa"].as_bool().or(request["rrsa_config"]["enabled"].as_bool())?;
    Some(types::RrsaConfig { enabled: Some(enabled), ..types::RrsaConfig::default() })
}

/// What `meta_data` is, as a JSON document.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MetaData<'a> {
    addons: Vec<MetaAddon<'a>>,
    kubernetes_version: &'a str,
    runtime: &'a str,
    runtime_version: &'a str,
    runtime_requested: Option<&'a str>,
    cluster_domain: &'a str,
    #[serde(rename = "ServiceCIDR")]
    service_cidr: String,
    timezone: Option<&'a str>,
    #[serde(rename = "VSwitchIds")]
    vswitch_ids: &'a [String],
}

#[derive(Serialize)]
struct MetaAddon<'a> {
    name: &'a str,
    version: Option<&'a str>,
    config: Option<&'a str>,
    disabled: bool,
    installed: bool,
}

fn meta_data(cluster: &Cluster, facts: &ClusterFacts) -> String {
    let document = MetaData {
        addons: cluster.addons.iter().map(meta_addon).collect(),
        kubernetes_version: &cluster.version,
        runtime: "containerd",
        runtime_version: &facts.containerd_version,
        runtime_requested: cluster.runtime_requested.as_deref(),
        cluster_domain: &cluster.network.cluster_domain,
        service_cidr: cluster.network.service_cidr.to_string(),
        timezone: cluster.control_plane.timezone.as_deref(),
        vswitch_ids: &cluster.network.vswitch_ids,
    };
    serde_json::to_string(&document).unwrap_or_default()
}

fn meta_addon(addon: &Addon) -> MetaAddon<'_> {
    MetaAddon {
        name: &addon.name,
        version: addon.version.as_deref(),
        config: addon.config.as_deref(),
        disabled: addon.disabled,
        installed: addon.installed,
    }
}

fn maintenance_window(window: Option<&MaintenanceWindow>) -> types::MaintenanceWindow {
    let off = MaintenanceWindow::default();
    let window = window.unwrap_or(&off);
    types::MaintenanceWindow {
        enable: Some(window.enable),
        maintenance_time: Some(window.maintenance_time.clone()),
        duration: Some(window.duration.clone()),
        weekly_period: Some(window.weekly_period.clone()),
        ..types::MaintenanceWindow::default()
    }
}

/// What was asked for at creation, as text by name.
fn parameters(request: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    request.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// A line of the log.
pub fn log_line(line: &LogLine) -> types::ClusterLog {
    types::ClusterLog {
        id: line.id,
        cluster_id: line.cluster_id.clone(),
        cluster_log: line.text.clone(),
        created: time(line.created),
        updated: time(line.created),
    }
}

/// A part of a cluster.
pub fn resource(cluster_id: &str, resource: &Resource) -> types::ClusterResource {
    let kind = match resource.kind {
        ResourceKind::LoadBalancer => "ALIYUN::SLB::LoadBalancer",
        ResourceKind::Vpc => "ALIYUN::ECS::VPC",
        ResourceKind::VSwitch => "ALIYUN::ECS::VSwitch",
        ResourceKind::SecurityGroup => "ALIYUN::ECS::SecurityGroup",
        ResourceKind::Instance => "ALIYUN::ECS::Instance",
    };
    let info = json!({
        "Id": resource.name, "Name": resource.name, "Type": kind, "Status": resource.state,
        "StatusReason": resource.reason, "Updated": resource.created.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        "PhysicalId": resource.id,
    });
    types::ClusterResource {
        cluster_id: cluster_id.to_owned(),
        created: time(resource.created),
        instance_id: resource.id.clone(),
        resource_info: info.to_string(),
        resource_type: kind.to_owned(),
        state: resource.state.to_owned(),
        auto_create: Some(i64::from(resource.made_here)),
        ..types::ClusterResource::default()
    }
}
