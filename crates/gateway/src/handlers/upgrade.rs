//! Upgrades of clusters, and parameters of their control planes.

use sampan_api::{Refusal, types};
use sampan_control::service::{
    cluster::ClusterTask,
    configuration::{ComponentWish, ConfigurationWish},
    upgrade::UpgradeWish,
};

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
    views,
};

pub(super) async fn begin(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::UpgradeClusterRequest>()?;
    let wish = UpgradeWish {
        component_name: body.value.component_name,
        next_version: body.value.next_version,
        version: body.value.version,
        master_only: body.value.master_only,
        max_parallelism: body.value.rolling_policy.and_then(|policy| policy.max_parallelism),
        unknown_fields: body.unknown_fields,
    };
    let id = call.path("ClusterId");
    convert::started(call.service.cluster_upgrade(&call.context, id, &wish).await.map_err(refusal)?)
}

pub(super) async fn status(call: Call) -> Result<Reply, Refusal> {
    let cluster = call.service.upgrade_status(&call.context, call.path("ClusterId")).map_err(refusal)?;
    Reply::new(&views::upgrade::status(cluster.upgrade.as_ref()))
}

pub(super) async fn pause(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    controlled(call.service.upgrade_pause(&call.context, id).await.map_err(refusal)?)
}

pub(super) async fn resume(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    controlled(call.service.upgrade_resume(&call.context, id).await.map_err(refusal)?)
}

pub(super) async fn cancel(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    controlled(call.service.upgrade_cancel(&call.context, id).await.map_err(refusal)?)
}

fn controlled(task: ClusterTask) -> Result<Reply, Refusal> {
    Reply::new(&types::UpgradeControlResponse {
        cluster_id: task.cluster_id,
        task_id: task.task_id,
        request_id: String::new(),
    })
}

pub(super) async fn configure(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::ModifyClusterConfigurationRequest>()?;
    let component = |config: types::CustomizeConfig| ComponentWish {
        name: config.name,
        configs: config.configs.unwrap_or_default().into_iter().map(|item| (item.key, item.value)).collect(),
    };
    let wish = ConfigurationWish {
        components: body.value.customize_config.unwrap_or_default().into_iter().map(component).collect(),
        unknown_fields: body.unknown_fields,
    };
    let id = call.path("ClusterId");
    convert::started(call.service.cluster_configure(&call.context, id, &wish).await.map_err(refusal)?)
}
