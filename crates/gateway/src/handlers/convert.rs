//! From wire types to the use cases' inputs, where several handlers need the same.

use sampan_api::{Refusal, Secret, types};
use sampan_control::service::{
    cluster::{ClusterTask, MastersWanted, ZoneWanted, swarm::SwarmScale},
    node_pool::{
        AutoScalingWish, Charge, Disk, Login, ManagementWish, NodePoolCreate, NodePoolModify, NodePoolOptions, ScaleTo,
    },
};
use sampan_store::model::{MaintenanceWindow, Tag, Taint};

use crate::call::Reply;

/// The answer of work that goes on in the background.
pub(super) fn started(task: ClusterTask) -> Result<Reply, Refusal> {
    Reply::new(&types::TaskStarted { cluster_id: task.cluster_id, request_id: String::new(), task_id: task.task_id })
}

/// A comma list; quotes around it or its entries, as one published example has them, do not belong to the values.
pub(super) fn comma_list(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    text.split(',').map(|entry| entry.trim().trim_matches('"').to_owned()).filter(|entry| !entry.is_empty()).collect()
}

pub(super) fn tags(tags: Option<Vec<types::Tag>>) -> Vec<Tag> {
    let tag = |tag: types::Tag| Tag { key: tag.key, value: tag.value.unwrap_or_default() };
    tags.unwrap_or_default().into_iter().map(tag).collect()
}

/// The default effect is `NoSchedule` (structure taint of section 18).
pub(super) fn taints(taints: Option<Vec<types::Taint>>) -> Vec<Taint> {
    let taint = |taint: types::Taint| Taint {
        key: taint.key,
        value: taint.value.unwrap_or_default(),
        effect: taint.effect.filter(|effect| !effect.is_empty()).unwrap_or_else(|| "NoSchedule".into()),
    };
    taints.unwrap_or_default().into_iter().map(taint).collect()
}

/// Absent members have the defaults of structure maintenance_window (section 18).
pub(super) fn maintenance_window(window: types::MaintenanceWindow) -> MaintenanceWindow {
    let or = |value: Option<String>, default: &str| value.filter(|v| !v.is_empty()).unwrap_or_else(|| default.into());
    MaintenanceWindow {
        enable: window.enable.unwrap_or_default(),
        maintenance_time: window.maintenance_time.unwrap_or_default(),
        duration: or(window.duration, "3h"),
        weekly_period: or(window.weekly_period, "Thursday"),
    }
}

pub(super) fn password(secret: Option<Secret>) -> Option<String> {
    secret.map(|secret| secret.expose().to_owned())
}

fn data_disks(disks: Option<Vec<types::DataDisk>>) -> Vec<Disk> {
    let disk = |disk: types::DataDisk| Disk {
        category: disk.category,
        size: disk.size,
        performance_level: disk.performance_level,
        encrypted: disk.encrypted,
    };
    disks.unwrap_or_default().into_iter().map(disk).collect()
}

/// The one data disk of older bodies.
fn old_data_disk(category: Option<String>, size: Option<i64>) -> Option<Disk> {
    (category.is_some() || size.is_some()).then(|| Disk { category, size, ..Disk::default() })
}

/// The `worker_…` fields of CreateCluster.
pub(super) fn worker_options(body: &types::CreateClusterRequest) -> NodePoolOptions {
    let single = body.worker_instance_type.clone().map(|name| vec![name]);
    let mut disks = data_disks(body.worker_data_disks.clone());
    if body.worker_data_disk != Some(false) {
        disks.extend(old_data_disk(body.worker_data_disk_category.clone(), body.worker_data_disk_size));
    }
    let runtime = body.runtime.clone().unwrap_or_default();
    NodePoolOptions {
        instance_types: body.worker_instance_types.clone().or(single).unwrap_or_default(),
        vswitch_ids: body.worker_vswitch_ids.clone().unwrap_or_default(),
        labels: Vec::new(),
        taints: taints(body.taints.clone()),
        tags: tags(body.tags.clone()),
        cpu_policy: body.cpu_policy.clone(),
        user_data: body.user_data.clone(),
        runtime: runtime.name,
        runtime_version: runtime.version,
        login: Login { key_pair: body.key_pair.clone(), password: password(body.login_password.clone()) },
        system_disk: Disk {
            category: body.worker_system_disk_category.clone(),
            size: body.worker_system_disk_size,
            performance_level: body.worker_system_disk_performance_level.clone(),
            encrypted: None,
        },
        data_disks: disks,
        charge: Charge {
            charge_type: body.worker_instance_charge_type.clone(),
            period: body.worker_period,
            period_unit: body.worker_period_unit.clone(),
            auto_renew: body.worker_auto_renew,
            auto_renew_period: body.worker_auto_renew_period,
        },
        image_id: body.image_id.clone(),
        image_type: body.image_type.clone(),
        platform: body.platform.clone(),
        node_name_mode: body.node_name_mode.clone(),
        security_group_ids: Vec::new(),
        rds_instances: body.rds_instances.clone().unwrap_or_default(),
        cms_enabled: body.cloud_monitor_flags,
    }
}

/// The `master_…` fields of CreateCluster.
pub(super) fn masters(body: &types::CreateClusterRequest) -> MastersWanted {
    let single = body.master_instance_type.clone().map(|name| vec![name]);
    let data_disk = (body.master_data_disk != Some(false))
        .then(|| old_data_disk(body.master_data_disk_category.clone(), body.master_data_disk_size))
        .flatten();
    MastersWanted {
        count: body.master_count,
        options: NodePoolOptions {
            instance_types: body.master_instance_types.clone().or(single).unwrap_or_default(),
            vswitch_ids: body.master_vswitch_ids.clone().unwrap_or_default(),
            system_disk: Disk {
                category: body.master_system_disk_category.clone(),
                size: body.master_system_disk_size,
                performance_level: body.master_system_disk_performance_level.clone(),
                encrypted: None,
            },
            data_disks: data_disk.into_iter().collect(),
            charge: Charge {
                charge_type: body.master_instance_charge_type.clone(),
                period: body.master_period,
                period_unit: body.master_period_unit.clone(),
                auto_renew: body.master_auto_renew,
                auto_renew_period: body.master_auto_renew_period,
            },
            ..NodePoolOptions::default()
        },
    }
}

/// The zones of the oldest multi-zone body; none, when it names none.
pub(super) fn zones(body: &types::CreateClusterRequest) -> Vec<ZoneWanted> {
    let zone =
        |vswitch: &Option<String>, master: &Option<String>, worker: &Option<String>, nodes: Option<i64>| ZoneWanted {
            vswitch_id: vswitch.clone(),
            master_instance_type: master.clone(),
            worker_instance_type: worker.clone(),
            num_of_nodes: nodes,
        };
    let zones = vec![
        zone(&body.vswitch_id_a, &body.master_instance_type_a, &body.worker_instance_type_a, body.num_of_nodes_a),
        zone(&body.vswitch_id_b, &body.master_instance_type_b, &body.worker_instance_type_b, body.num_of_nodes_b),
        zone(&body.vswitch_id_c, &body.master_instance_type_c, &body.worker_instance_type_c, body.num_of_nodes_c),
    ];
    if zones.iter().all(|zone| *zone == ZoneWanted::default()) { Vec::new() } else { zones }
}

/// The fields of ScaleOutCluster.
pub(super) fn scale_out_options(body: types::ScaleOutClusterRequest) -> NodePoolOptions {
    let runtime = body.runtime.unwrap_or_default();
    let mut disks = data_disks(body.worker_data_disks);
    if body.worker_data_disk != Some(false) {
        disks.extend(old_data_disk(body.worker_data_disk_category, body.worker_data_disk_size));
    }
    NodePoolOptions {
        instance_types: body.worker_instance_types.unwrap_or_default(),
        vswitch_ids: body.vswitch_ids.unwrap_or_default(),
        taints: taints(body.taints),
        tags: tags(body.tags),
        cpu_policy: body.cpu_policy,
        user_data: body.user_data,
        runtime: runtime.name,
        runtime_version: runtime.version,
        login: Login { key_pair: body.key_pair, password: password(body.login_password) },
        system_disk: Disk {
            category: body.worker_system_disk_category,
            size: body.worker_system_disk_size,
            ..Disk::default()
        },
        data_disks: disks,
        charge: Charge {
            charge_type: body.worker_instance_charge_type,
            period: body.worker_period,
            period_unit: body.worker_period_unit,
            auto_renew: body.worker_auto_renew,
            auto_renew_period: body.worker_auto_renew_period,
        },
        image_id: body.image_id,
        rds_instances: body.rds_instances.unwrap_or_default(),
        cms_enabled: body.cloud_monitor_flags,
        ..NodePoolOptions::default()
    }
}

/// The Kubernetes body of `PUT /clusters/{ClusterId}`.
pub(super) fn scale_to(body: types::UpdateClusterSizeByIdRequest, unknown_fields: Vec<String>) -> ScaleTo {
    let single = body.worker_instance_type.map(|name| vec![name]);
    ScaleTo {
        num_of_nodes: body.num_of_nodes,
        options: NodePoolOptions {
            instance_types: body.worker_instance_types.or(single).unwrap_or_default(),
            login: Login { key_pair: body.key_pair, password: password(body.login_password) },
            ..NodePoolOptions::default()
        },
        timeout_mins: body.timeout_mins,
        unknown_fields,
    }
}

/// The Swarm body of `PUT /clusters/{ClusterId}`.
pub(super) fn swarm_scale(body: types::UpdateClusterSizeByIdRequest, unknown_fields: Vec<String>) -> SwarmScale {
    SwarmScale {
        size: body.size,
        instance_type: body.instance_type,
        password: password(body.password),
        ecs_image_id: body.ecs_image_id,
        data_disk_category: body.data_disk_category,
        data_disk_size: body.data_disk_size,
        io_optimized: body.io_optimized,
        unknown_fields,
    }
}

/// A node pool's own body; `request` is it without secrets.
pub(super) fn node_pool(body: types::CreateClusterNodePoolRequest, unknown_fields: Vec<String>) -> NodePoolCreate {
    let request = sampan_api::decode::redacted(&body);
    let info = body.nodepool_info.unwrap_or_default();
    let mut group = body.scaling_group.unwrap_or_default();
    let config = body.kubernetes_config.unwrap_or_default();
    NodePoolCreate {
        name: info.name,
        pool_type: info.kind,
        resource_group_id: info.resource_group_id,
        count: body.count,
        desired_size: group.desired_size,
        vpc_id: group.vpc_id.take(),
        options: pool_options(group, config),
        management: body.management.map(management),
        auto_scaling: body.auto_scaling.map(auto_scaling),
        request,
        unknown_fields,
    }
}

/// A change of a node pool; `request` is the body without secrets.
pub(super) fn node_pool_change(
    body: types::ModifyClusterNodePoolRequest,
    unknown_fields: Vec<String>,
) -> NodePoolModify {
    let mut request = sampan_api::decode::redacted(&body);
    if let Some(fields) = request.as_object_mut() {
        // What the request does, not what the pool is.
        fields.remove("update_nodes");
        fields.remove("concurrency");
        fields.remove("nodepool_info");
    }
    let info = body.nodepool_info.unwrap_or_default();
    let mut group = body.scaling_group.unwrap_or_default();
    NodePoolModify {
        name: info.name,
        pool_type: info.kind,
        vpc_id: group.vpc_id.take(),
        resource_group_id: info.resource_group_id,
        desired_size: group.desired_size,
        options: pool_options(group, body.kubernetes_config.unwrap_or_default()),
        management: body.management.map(management),
        auto_scaling: body.auto_scaling.map(auto_scaling),
        update_nodes: body.update_nodes.unwrap_or_default(),
        request,
        unknown_fields,
    }
}

/// Newer bodies have `auto_upgrade` beside `upgrade_config`, older ones in it.
fn management(body: types::NodepoolManagement) -> ManagementWish {
    let upgrades = body.upgrade_config.unwrap_or_default();
    ManagementWish {
        enable: body.enable,
        auto_repair: body.auto_repair,
        auto_upgrade: upgrades.auto_upgrade.or(body.auto_upgrade),
        surge: upgrades.surge,
        surge_percentage: upgrades.surge_percentage,
        max_unavailable: upgrades.max_unavailable,
    }
}

fn auto_scaling(body: types::NodepoolAutoScaling) -> AutoScalingWish {
    AutoScalingWish {
        enable: body.enable,
        min_instances: body.min_instances,
        max_instances: body.max_instances,
        kind: body.kind,
        is_bond_eip: body.is_bond_eip,
        eip_internet_charge_type: body.eip_internet_charge_type,
        eip_bandwidth: body.eip_bandwidth,
    }
}

fn pool_options(group: types::ScalingGroup, config: types::NodepoolKubernetesConfig) -> NodePoolOptions {
    let one = group.security_group_id.map(|id| vec![id]);
    NodePoolOptions {
        instance_types: group.instance_types.unwrap_or_default(),
        vswitch_ids: group.vswitch_ids.unwrap_or_default(),
        labels: tags(config.labels),
        taints: taints(config.taints),
        tags: tags(group.tags),
        cpu_policy: config.cpu_policy,
        user_data: config.user_data,
        runtime: config.runtime,
        runtime_version: config.runtime_version,
        login: Login { key_pair: group.key_pair, password: password(group.login_password) },
        system_disk: Disk {
            category: group.system_disk_category,
            size: group.system_disk_size,
            performance_level: group.system_disk_performance_level,
            encrypted: None,
        },
        data_disks: data_disks(group.data_disks),
        charge: Charge {
            charge_type: group.instance_charge_type,
            period: group.period,
            period_unit: group.period_unit,
            auto_renew: group.auto_renew,
            auto_renew_period: group.auto_renew_period,
        },
        image_id: group.image_id,
        image_type: group.image_type,
        platform: group.platform,
        node_name_mode: config.node_name_mode,
        security_group_ids: group.security_group_ids.or(one).unwrap_or_default(),
        rds_instances: group.rds_instances.unwrap_or_default(),
        cms_enabled: config.cms_enabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comma_lists_lose_their_quotes() {
        assert_eq!(comma_list(Some("\"i-1,i-2\"".into())), ["i-1", "i-2"]);
        assert_eq!(comma_list(Some(" i-1 ,, ".into())), ["i-1"]);
        assert!(comma_list(None).is_empty());
    }
}
