//! What belongs to the account or the service.

use sampan_api::{Refusal, types};
use sampan_control::service::metadata::VersionsWanted;

use crate::{
    call::{Call, Reply},
    faults::refusal,
};

pub(super) async fn open_service(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::OpenAckServiceQuery>()?.value;
    let order_id = call.service.open_service(&call.context, query.kind.as_deref()).await.map_err(refusal)?;
    Reply::new(&types::OpenAckServiceResponse { request_id: String::new(), order_id })
}

pub(super) async fn api_version(_call: Call) -> Result<Reply, Refusal> {
    let version = sampan_api::API_VERSION.to_owned();
    Reply::new(&types::DescribeApiVersionResponse { version, request_id: String::new() })
}

pub(super) async fn quota(call: Call) -> Result<Reply, Refusal> {
    let quotas = call.service.quotas(&call.context);
    Reply::new(&types::DescribeUserQuotaResponse {
        amk_cluster_quota: quotas.managed_clusters.into(),
        ask_cluster_quota: quotas.serverless_clusters.into(),
        cluster_nodepool_quota: quotas.node_pools_per_cluster.into(),
        cluster_quota: quotas.clusters.into(),
        node_quota: quotas.nodes_per_cluster.into(),
        ..types::DescribeUserQuotaResponse::default()
    })
}

pub(super) async fn versions(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DescribeKubernetesVersionMetadataQuery>()?.value;
    let wanted = VersionsWanted {
        region: query.region,
        cluster_type: query.cluster_type,
        kubernetes_version: query.kubernetes_version,
        profile: query.profile,
        runtime: query.runtime,
    };
    let offers = call.service.kubernetes_versions(&call.context, &wanted).map_err(refusal)?;
    let settings = call.service.settings();
    let image = types::VersionImage {
        image_id: settings.node_image.id.clone(),
        image_name: settings.node_image.name.clone(),
        platform: settings.node_image.platform.clone(),
        os_version: settings.node_image.os_version.clone(),
        image_type: settings.node_image.id.clone(),
        os_type: "Linux".into(),
        image_category: "system".into(),
        architecture: None,
    };
    let runtime =
        types::Runtime { name: Some("containerd".into()), version: Some(settings.containerd_version.clone()) };
    let versions: Vec<_> = offers
        .into_iter()
        .map(|offer| types::KubernetesVersionMetadata {
            version: offer.version.to_string(),
            images: vec![image.clone()],
            runtimes: vec![runtime.clone()],
            multi_az: "true".into(),
            creatable: Some(true),
            upgradable_versions: query
                .query_upgradable_version
                .unwrap_or_default()
                .then(|| offer.upgrades.iter().map(ToString::to_string).collect()),
            ..types::KubernetesVersionMetadata::default()
        })
        .collect();
    Reply::new(&versions)
}
