//! CreateCluster: all bodies in one.

use sampan_api::{Refusal, types};
use sampan_control::service::cluster::{ClusterCreate, swarm::SwarmCreate};
use sampan_store::model::Addon;

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
};

pub(super) async fn cluster_create(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::CreateClusterRequest>()?;
    if is_swarm(&body.value) {
        let input = swarm(body.value, body.unknown_fields);
        return convert::started(call.service.swarm_create(&call.context, &input).await.map_err(refusal)?);
    }
    let input = input(body.value, body.unknown_fields);
    convert::started(call.service.cluster_create(&call.context, &input).await.map_err(refusal)?)
}

/// The body of a Swarm cluster has no `cluster_type`; today's clients also know a word for it. A body that has nothing of
/// a Swarm cluster either is taken for one of Kubernetes that lacks its type.
fn is_swarm(body: &types::CreateClusterRequest) -> bool {
    match body.cluster_type.as_deref().map(str::trim) {
        None | Some("") => {
            body.size.is_some()
                || body.instance_type.is_some()
                || body.subnet_cidr.is_some()
                || body.password.is_some()
                || body.need_slb.is_some()
        }
        Some(name) => ["aliyun", "swarm"].iter().any(|word| word.eq_ignore_ascii_case(name)),
    }
}

fn swarm(body: types::CreateClusterRequest, unknown_fields: Vec<String>) -> SwarmCreate {
    let request = sampan_api::decode::redacted(&body);
    SwarmCreate {
        name: body.name,
        size: body.size,
        instance_type: body.instance_type,
        network_mode: body.network_mode,
        region_id: body.region_id,
        zone_id: body.zone_id.or(body.zoneid),
        vpc_id: body.vpc_id.or(body.vpcid),
        vswitch_id: body.vswitch_id.or(body.vswitchid),
        subnet_cidr: body.subnet_cidr,
        password: convert::password(body.password),
        data_disk_category: body.data_disk_category,
        data_disk_size: body.data_disk_size,
        ecs_image_id: body.ecs_image_id,
        io_optimized: body.io_optimized,
        need_slb: body.need_slb,
        release_eip_flag: body.release_eip_flag,
        rds_instances: body.rds_instances.unwrap_or_default(),
        tags: convert::tags(body.tags),
        timeout_mins: body.timeout_mins,
        disable_rollback: body.disable_rollback,
        client_token: body.client_token,
        request,
        unknown_fields,
    }
}

fn addon(addon: types::Addon) -> Addon {
    Addon {
        name: addon.name,
        version: addon.version,
        config: addon.config,
        disabled: addon.disabled.unwrap_or_default(),
        installed: false,
    }
}

fn input(body: types::CreateClusterRequest, unknown_fields: Vec<String>) -> ClusterCreate {
    let request = sampan_api::decode::redacted(&body);
    let single = |value: Option<String>| value.map(|value| vec![value]);
    ClusterCreate {
        workers: convert::worker_options(&body),
        masters: convert::masters(&body),
        zones: convert::zones(&body),
        node_pools: body
            .nodepools
            .unwrap_or_default()
            .into_iter()
            .map(|pool| convert::node_pool(pool, Vec::new()))
            .collect(),
        name: body.name,
        cluster_type: body.cluster_type,
        cluster_spec: body.cluster_spec,
        profile: body.profile,
        region_id: body.region_id,
        kubernetes_version: body.kubernetes_version,
        resource_group_id: body.resource_group_id,
        vpc_id: body.vpcid.or(body.vpc_id),
        vswitch_ids: body.vswitch_ids.or(single(body.vswitchid.or(body.vswitch_id))).unwrap_or_default(),
        zone_ids: body.zone_ids.or(single(body.zone_id.or(body.zoneid))).unwrap_or_default(),
        snat_entry: body.snat_entry,
        container_cidr: body.container_cidr,
        service_cidr: body.service_cidr,
        node_cidr_mask: body.node_cidr_mask,
        security_group_id: body.security_group_id,
        endpoint_public_access: body.endpoint_public_access.or(body.public_slb),
        timezone: body.timezone,
        proxy_mode: body.proxy_mode,
        cluster_domain: body.cluster_domain,
        custom_san: body.custom_san,
        extra_sans: body.extra_sans.unwrap_or_default(),
        service_account_issuer: body.service_account_issuer,
        api_audiences: body.api_audiences,
        encryption_provider_key: body.encryption_provider_key,
        user_ca: convert::password(body.user_ca),
        tags: convert::tags(body.tags),
        addons: body.addons.unwrap_or_default().into_iter().map(addon).collect(),
        timeout_mins: body.timeout_mins,
        disable_rollback: body.disable_rollback,
        deletion_protection: body.deletion_protection,
        maintenance_window: body.maintenance_window.map(convert::maintenance_window),
        num_of_nodes: body.num_of_nodes,
        client_token: body.client_token,
        request,
        unknown_fields,
    }
}
