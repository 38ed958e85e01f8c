//! Clusters, their resources and their logs.

use std::collections::BTreeMap;

use sampan_api::types;
use sampan_control::service::{
    cluster::{Resource, ResourceKind},
    cluster_state_word,
};
use sampan_store::model::{Cluster, LogLine, MaintenanceWindow, ProxyMode};
use serde_json::{Value, json};

use super::{tags, time};

/// A cluster; `workers` are its nodes, `next_version` what it can be upgraded to, `public_host` where public ports listen.
pub fn cluster(cluster: &Cluster, workers: usize, next_version: &str, public_host: &str) -> types::Cluster {
    let network = &cluster.network;
    let cidrs = (network.pod_cidr.to_string(), network.service_cidr.to_string());
    types::Cluster {
        cluster_id: cluster.id.clone(),
        name: cluster.name.clone(),
        cluster_type: "ManagedKubernetes".into(),
        cluster_spec: cluster.spec.clone(),
        profile: "Default".into(),
        state: cluster_state_word(cluster.state).into(),
        region_id: cluster.region_id.clone(),
        zone_id: cluster.zone_id.clone(),
        size: i64::try_from(workers).unwrap_or(i64::MAX),
        created: time(cluster.created),
        updated: time(cluster.updated),
        init_version: cluster.init_version.clone(),
        current_version: cluster.version.clone(),
        next_version: next_version.to_owned(),
        deletion_protection: cluster.deletion_protection,
        master_url: master_url(cluster, public_host),
        meta_data: meta_data(cluster),
        network_mode: "vpc".into(),
        resource_group_id: cluster.resource_group_id.clone(),
        security_group_id: network.security_group_id.clone(),
        subnet_cidr: cidrs.0.clone(),
        tags: tags(&cluster.tags),
        vpc_id: network.vpc_id.clone(),
        vswitch_id: network.vswitch_ids.join(","),
        maintenance_window: maintenance_window(cluster.maintenance_window.as_ref()),
        failed_message: cluster.state_reason.clone(),
        vswitch_ids: Some(network.vswitch_ids.clone()),
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
        parameters: Some(parameters(&cluster.request)),
        // No Docker, no ingress, no private zone and no RAM role stand behind a cluster here.
        ..types::Cluster::default()
    }
}

/// The API server's addresses as the JSON document that `master_url` is.
fn master_url(cluster: &Cluster, public_host: &str) -> String {
    let network = &cluster.network;
    let public = network.api_public_port.map_or_else(String::new, |port| format!("https://{public_host}:{port}"));
    let internal = format!("https://{}:{}", network.api_vip, sampan_control::kubernetes::API_PORT);
    json!({ "api_server_endpoint": public, "intranet_api_server_endpoint": internal }).to_string()
}

fn meta_data(cluster: &Cluster) -> String {
    let addons: Vec<Value> = cluster
        .addons
        .iter()
        .map(|addon| {
            json!({
                "name": addon.name, "version": addon.version, "config": addon.config, "disabled": addon.disabled,
                "installed": addon.installed,
            })
        })
        .collect();
    json!({
        "Addons": addons, "KubernetesVersion": cluster.version, "Runtime": "containerd",
        "RuntimeRequested": cluster.runtime_requested,
    })
    .to_string()
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
