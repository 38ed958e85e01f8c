//! Node pools.

use sampan_api::types;
use sampan_control::service::node_pool::{NodePoolCounts, charge_type};
use sampan_store::model::{NodePool, NodePoolState};
use serde_json::Value;

use super::{tags, time};

/// A node pool: what is in force, and around it what was asked for at its creation.
pub fn node_pool(pool: &NodePool, counts: NodePoolCounts) -> types::Nodepool {
    types::Nodepool {
        nodepool_info: types::NodepoolInfo {
            name: Some(pool.name.clone()),
            resource_group_id: Some(pool.resource_group_id.clone()),
            kind: Some("ess".into()),
            nodepool_id: Some(pool.id.clone()),
            region_id: Some(pool.region_id.clone()),
            is_default: Some(pool.is_default),
            created: Some(time(pool.created)),
            updated: Some(time(pool.updated)),
        },
        scaling_group: types::ScalingGroup {
            instance_types: Some(pool.instance_types.clone()),
            vswitch_ids: Some(pool.vswitch_ids.clone()),
            instance_charge_type: Some(charge_type(pool).to_owned()),
            tags: Some(tags(&pool.tags)),
            ..requested(pool, "scaling_group")
        },
        kubernetes_config: types::NodepoolKubernetesConfig {
            labels: Some(tags(&pool.labels)),
            taints: Some(pool.taints.iter().map(taint).collect()),
            runtime: Some("containerd".into()),
            cpu_policy: Some(pool.cpu_policy.clone().unwrap_or_else(|| "none".into())),
            ..requested(pool, "kubernetes_config")
        },
        auto_scaling: requested(pool, "auto_scaling"),
        management: requested(pool, "management"),
        tee_config: requested(pool, "tee_config"),
        status: status(pool, counts),
        ..types::Nodepool::default()
    }
}

/// A part of the request as it was sent, without secrets; its default when it was not sent or cannot be read any more.
fn requested<T: serde::de::DeserializeOwned + Default>(pool: &NodePool, part: &str) -> T {
    match &pool.request[part] {
        Value::Null => T::default(),
        value => serde_json::from_value(value.clone()).unwrap_or_default(),
    }
}

fn taint(taint: &sampan_store::model::Taint) -> types::Taint {
    types::Taint { key: taint.key.clone(), value: Some(taint.value.clone()), effect: Some(taint.effect.clone()) }
}

fn status(pool: &NodePool, counts: NodePoolCounts) -> types::NodepoolStatus {
    let state = match pool.state {
        NodePoolState::Active => "active",
        NodePoolState::Scaling => "scaling",
        NodePoolState::Removing => "removing",
        NodePoolState::Deleting => "deleting",
        NodePoolState::Updating => "updating",
    };
    types::NodepoolStatus {
        failed_nodes: counts.failed.into(),
        healthy_nodes: counts.healthy.into(),
        initial_nodes: counts.initial.into(),
        offline_nodes: counts.offline.into(),
        removing_nodes: counts.removing.into(),
        serving_nodes: counts.serving.into(),
        state: state.into(),
        total_nodes: counts.total.into(),
    }
}
