//! Node pools.

use sampan_api::types;
use sampan_control::service::node_pool::{NodePoolCounts, charge_type};
use sampan_store::model::{MultiAzPolicy, NodePool, NodePoolState, ScalingKind};

use super::{requested, tags, time};

/// What a pool's record does not say by itself.
#[derive(Clone, Debug, Default)]
pub struct NodePoolFacts {
    /// The image of its machines.
    pub image_id: String,
    /// The distribution of that image.
    pub platform: String,
    /// Version of containerd on its nodes.
    pub containerd_version: String,
    /// The cluster's security group.
    pub security_group_id: String,
    /// The cluster's vSwitches.
    pub vswitch_ids: Vec<String>,
}

/// A node pool: what is in force, and around it what was asked for at its creation, with documented defaults.
pub fn node_pool(pool: &NodePool, counts: NodePoolCounts, facts: &NodePoolFacts) -> types::Nodepool {
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
        scaling_group: scaling_group(pool, counts, facts),
        kubernetes_config: kubernetes_config(pool, facts),
        auto_scaling: auto_scaling(pool),
        management: management(pool),
        tee_config: types::TeeConfig {
            tee_enable: requested::<types::TeeConfig>(&pool.request, "tee_config")
                .and_then(|t| t.tee_enable)
                .or(Some(false)),
        },
        status: status(pool, counts),
        // Only edge pools have a limit of their own.
        max_nodes: Some(0),
        interconnect_mode: requested(&pool.request, "interconnect_mode"),
        interconnect_config: requested(&pool.request, "interconnect_config"),
        auto_mode: requested(&pool.request, "auto_mode"),
        eflo_node_group: requested(&pool.request, "eflo_node_group"),
        node_components: requested(&pool.request, "node_components"),
        node_config: requested(&pool.request, "node_config"),
    }
}

/// There is no money, no spot market and no scaling group behind it; those fields have what was asked for, or nothing.
fn scaling_group(pool: &NodePool, counts: NodePoolCounts, facts: &NodePoolFacts) -> types::ScalingGroup {
    let asked: types::ScalingGroup = requested(&pool.request, "scaling_group").unwrap_or_default();
    let groups = asked
        .security_group_ids
        .clone()
        .filter(|ids| !ids.is_empty())
        .or_else(|| asked.security_group_id.clone().filter(|id| !id.is_empty()).map(|id| vec![id]));
    let groups = groups.unwrap_or_else(|| vec![facts.security_group_id.clone()]);
    let vswitch_ids = if pool.vswitch_ids.is_empty() { &facts.vswitch_ids } else { &pool.vswitch_ids };
    types::ScalingGroup {
        instance_types: Some(pool.instance_types.clone()),
        vswitch_ids: Some(vswitch_ids.clone()),
        instance_charge_type: Some(charge_type(pool).to_owned()),
        tags: Some(tags(&pool.tags)),
        desired_size: Some(i64::from(counts.total - counts.removing)),
        security_group_id: groups.first().cloned(),
        security_group_ids: Some(groups),
        image_id: asked.image_id.clone().or_else(|| Some(facts.image_id.clone())),
        platform: asked.platform.clone().or_else(|| Some(facts.platform.clone())),
        system_disk_category: asked.system_disk_category.clone().or_else(|| Some("cloud_efficiency".into())),
        data_disks: Some(asked.data_disks.clone().unwrap_or_default()),
        period: asked.period.or(Some(0)),
        period_unit: asked.period_unit.clone().or_else(|| Some("Month".into())),
        auto_renew: asked.auto_renew.or(Some(false)),
        auto_renew_period: asked.auto_renew_period.or(Some(0)),
        multi_az_policy: Some(multi_az_policy(pool.multi_az_policy).into()),
        scaling_policy: asked.scaling_policy.clone().or_else(|| Some("release".into())),
        spot_strategy: asked.spot_strategy.clone().or_else(|| Some("NoSpot".into())),
        spot_price_limit: Some(asked.spot_price_limit.clone().unwrap_or_default()),
        spot_instance_pools: asked.spot_instance_pools.or(Some(0)),
        spot_instance_remedy: asked.spot_instance_remedy.or(Some(false)),
        compensate_with_on_demand: asked.compensate_with_on_demand.or(Some(false)),
        on_demand_base_capacity: asked.on_demand_base_capacity.or(Some(0)),
        on_demand_percentage_above_base_capacity: asked.on_demand_percentage_above_base_capacity.or(Some(0)),
        rds_instances: Some(asked.rds_instances.clone().unwrap_or_default()),
        internet_charge_type: asked.internet_charge_type.clone().or_else(|| Some(String::new())),
        internet_max_bandwidth_out: asked.internet_max_bandwidth_out.or(Some(0)),
        deploymentset_id: asked.deploymentset_id.clone().or_else(|| Some(String::new())),
        key_pair: asked.key_pair.clone().or_else(|| Some(String::new())),
        login_password: asked.login_password.clone().or_else(|| Some(String::new().into())),
        ram_policy: asked.ram_policy.clone().or_else(|| Some(String::new())),
        scaling_group_id: Some(String::new()),
        ..asked
    }
}

fn kubernetes_config(pool: &NodePool, facts: &NodePoolFacts) -> types::NodepoolKubernetesConfig {
    let asked: types::NodepoolKubernetesConfig = requested(&pool.request, "kubernetes_config").unwrap_or_default();
    types::NodepoolKubernetesConfig {
        labels: Some(tags(&pool.labels)),
        taints: Some(pool.taints.iter().map(taint).collect()),
        // What runs, whatever was asked for.
        runtime: Some("containerd".into()),
        runtime_version: Some(facts.containerd_version.clone()),
        cpu_policy: Some(pool.cpu_policy.clone().unwrap_or_else(|| "none".into())),
        cms_enabled: asked.cms_enabled.or(Some(false)),
        user_data: asked.user_data.clone().or_else(|| Some(String::new())),
        node_name_mode: asked.node_name_mode.clone().or_else(|| Some("nodeip".into())),
        ..asked
    }
}

fn auto_scaling(pool: &NodePool) -> types::NodepoolAutoScaling {
    let mut asked: types::NodepoolAutoScaling = requested(&pool.request, "auto_scaling").unwrap_or_default();
    if let Some(own) = &pool.auto_scaling {
        asked.enable = Some(own.enable);
        asked.min_instances = Some(own.min_instances.into());
        asked.max_instances = Some(own.max_instances.into());
        asked.kind = Some(scaling_kind(own.kind).into());
    }
    types::NodepoolAutoScaling {
        enable: asked.enable.or(Some(false)),
        max_instances: asked.max_instances.or(Some(0)),
        min_instances: asked.min_instances.or(Some(0)),
        kind: asked.kind.or_else(|| Some("cpu".into())),
        is_bond_eip: asked.is_bond_eip.or(Some(false)),
        eip_internet_charge_type: asked.eip_internet_charge_type.or_else(|| Some("PayByBandwidth".into())),
        eip_bandwidth: asked.eip_bandwidth.or(Some(0)),
    }
}

fn scaling_kind(kind: ScalingKind) -> &'static str {
    match kind {
        ScalingKind::Cpu => "cpu",
        ScalingKind::Gpu => "gpu",
        ScalingKind::GpuShare => "gpushare",
        ScalingKind::Spot => "spot",
    }
}

fn multi_az_policy(policy: MultiAzPolicy) -> &'static str {
    match policy {
        MultiAzPolicy::Priority => "PRIORITY",
        MultiAzPolicy::CostOptimized => "COST_OPTIMIZED",
        MultiAzPolicy::Balance => "BALANCE",
    }
}

fn management(pool: &NodePool) -> types::NodepoolManagement {
    let asked: types::NodepoolManagement = requested(&pool.request, "management").unwrap_or_default();
    let own = pool.management.clone().unwrap_or_default();
    let upgrades = own.auto_upgrade.unwrap_or(own.enable);
    types::NodepoolManagement {
        enable: Some(own.enable),
        // What is in force: sent back as it is, it changes nothing.
        auto_repair: Some(pool.repairs()),
        auto_upgrade: Some(upgrades),
        upgrade_config: Some(types::UpgradeConfig {
            auto_upgrade: Some(upgrades),
            surge: Some(own.surge.unwrap_or(0).into()),
            surge_percentage: Some(own.surge_percentage.unwrap_or(0).into()),
            max_unavailable: Some(own.max_unavailable.unwrap_or(1).into()),
        }),
        ..asked
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
