//! Clusters: listed, shown, changed, deleted, and how users get into them.

use std::collections::BTreeMap;

use sampan_api::{Refusal, types};
use sampan_control::service::{
    cluster::{ClusterDelete, ClusterFilter, ClusterModify, keeps_load_balancer},
    credentials::{self, KubeconfigWanted},
    event::Paging,
    version,
};
use sampan_store::model::Cluster;

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
    views,
};

fn view(call: &Call, cluster: &Cluster) -> types::Cluster {
    let settings = call.service.settings();
    let facts = views::cluster::ClusterFacts {
        workers: call.service.worker_count(&cluster.id),
        next_version: version::next_version(settings, &cluster.version).map(|v| v.to_string()).unwrap_or_default(),
        public_url: credentials::public_url(settings, cluster),
        routing_url: credentials::routing_url(settings, cluster),
        listeners: listeners(settings, cluster),
        registry: settings.registry_port.map(|port| format!("127.0.0.1:{port}")),
        containerd_version: settings.containerd_version.clone(),
    };
    views::cluster::cluster(cluster, &facts)
}

/// Where the listeners are that applications of a Swarm cluster asked for.
fn listeners(settings: &sampan_control::service::Settings, cluster: &Cluster) -> BTreeMap<String, String> {
    let listeners = cluster.swarm.iter().flat_map(|options| &options.listeners);
    let place = |port: u16| credentials::on_host(settings, port).to_string();
    listeners.map(|(name, listener)| (name.clone(), place(listener.public_port))).collect()
}

pub(super) async fn list_v1(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DescribeClustersV1Query>()?.value;
    let paging = Paging::check(("page_number", query.page_number), ("page_size", query.page_size), 50, 100);
    let paging = paging.map_err(refusal)?;
    let filter = ClusterFilter {
        name: query.name,
        cluster_id: query.cluster_id,
        cluster_type: query.cluster_type,
        spec: query.cluster_spec,
        profile: query.profile,
        region_id: query.region_id,
        resource_group_id: None,
    };
    let page = paging.cut(call.service.clusters(&call.context, &filter).map_err(refusal)?);
    Reply::new(&types::DescribeClustersV1Response {
        clusters: page.items.iter().map(|cluster| view(&call, cluster)).collect(),
        page_info: views::page_info(paging, page.total),
    })
}

pub(super) async fn list(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DescribeClustersQuery>()?.value;
    let filter = ClusterFilter {
        name: query.name,
        cluster_type: query.cluster_type,
        region_id: query.region_id,
        resource_group_id: query.resource_group_id,
        ..ClusterFilter::default()
    };
    let clusters = call.service.clusters(&call.context, &filter).map_err(refusal)?;
    Reply::new(&clusters.iter().map(|cluster| view(&call, cluster)).collect::<Vec<_>>())
}

pub(super) async fn detail(call: Call) -> Result<Reply, Refusal> {
    let cluster = call.service.cluster(&call.context, call.path("ClusterId")).map_err(refusal)?;
    Reply::new(&view(&call, &cluster))
}

pub(super) async fn modify(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::ModifyClusterRequest>()?;
    let request = sampan_api::decode::redacted(&body.value);
    let value = body.value;
    let input = ClusterModify {
        api_server_eip: value.api_server_eip,
        api_server_eip_id: value.api_server_eip_id,
        deletion_protection: value.deletion_protection,
        instance_deletion_protection: value.instance_deletion_protection,
        ingress_loadbalancer_id: value.ingress_loadbalancer_id,
        ingress_domain_rebinding: value.ingress_domain_rebinding,
        resource_group_id: value.resource_group_id,
        maintenance_window: value.maintenance_window.map(convert::maintenance_window),
        enable_rrsa: value.enable_rrsa,
        name: value.cluster_name,
        spec: value.cluster_spec,
        timezone: value.timezone,
        security_group_id: value.security_group_id,
        vswitch_ids: value.vswitch_ids,
        request,
        unknown_fields: body.unknown_fields,
    };
    let id = call.path("ClusterId");
    convert::started(call.service.cluster_modify(&call.context, id, &input).await.map_err(refusal)?)
}

pub(super) async fn migrate(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    convert::started(call.service.cluster_migrate(&call.context, id).await.map_err(refusal)?)
}

pub(super) async fn delete(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DeleteClusterQuery>()?.value;
    let options = query.delete_options.unwrap_or_default().into_iter();
    let options: Vec<_> = options.map(|option| (option.resource_type, option.delete_mode)).collect();
    let input = ClusterDelete {
        retain_all: query.retain_all_resources.unwrap_or_default(),
        keep_load_balancer: keeps_load_balancer(&options).map_err(refusal)? || query.keep_slb.unwrap_or_default(),
        retain_resources: query.retain_resources.unwrap_or_default(),
    };
    let id = call.path("ClusterId");
    convert::started(call.service.cluster_delete(&call.context, id, &input).await.map_err(refusal)?)
}

pub(super) async fn user_config(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DescribeClusterUserKubeconfigQuery>()?.value;
    let wanted = KubeconfigWanted {
        private: query.private_ip_address.unwrap_or_default(),
        minutes: query.temporary_duration_minutes,
    };
    let id = call.path("ClusterId");
    let kubeconfig = call.service.kubeconfig(&call.context, id, wanted).await.map_err(refusal)?;
    Reply::new(&types::DescribeClusterUserKubeconfigResponse {
        config: kubeconfig.text.into(),
        expiration: views::time(kubeconfig.issued.expires),
    })
}

pub(super) async fn certs(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    if call.service.cluster(&call.context, id).map_err(refusal)?.is_swarm() {
        let issued = call.service.swarm_certs(&call.context, id).await.map_err(refusal)?;
        return Reply::new(&types::DescribeClusterCertsResponse {
            ca: Some(issued.ca_pem),
            cert: Some(issued.certificate_pem),
            key: Some(issued.key_pem.into()),
            config: None,
        });
    }
    let kubeconfig = call.service.cluster_certs(&call.context, call.path("ClusterId")).await.map_err(refusal)?;
    Reply::new(&types::DescribeClusterCertsResponse {
        ca: Some(kubeconfig.issued.ca_pem),
        cert: Some(kubeconfig.issued.certificate_pem),
        key: Some(kubeconfig.issued.key_pem.into()),
        config: Some(kubeconfig.text.into()),
    })
}
