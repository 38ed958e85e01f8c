//! Node pools.

use sampan_api::{Refusal, types};
use sampan_control::service::node_pool::{NodePoolDelete, NodePoolRepair};

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
    views,
};

fn facts(call: &Call) -> Result<views::node_pool::NodePoolFacts, Refusal> {
    let cluster = call.service.cluster(&call.context, call.path("ClusterId")).map_err(refusal)?;
    let settings = call.service.settings();
    Ok(views::node_pool::NodePoolFacts {
        image_id: settings.node_image.id.clone(),
        platform: settings.node_image.platform.clone(),
        containerd_version: settings.containerd_version.clone(),
        security_group_id: cluster.network.security_group_id.clone(),
        vswitch_ids: cluster.network.vswitch_ids.clone(),
    })
}

pub(super) async fn create(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::CreateClusterNodePoolRequest>()?;
    let input = convert::node_pool(body.value, body.unknown_fields);
    let created =
        call.service.node_pool_create(&call.context, call.path("ClusterId"), &input).await.map_err(refusal)?;
    Reply::new(&types::CreateClusterNodePoolResponse {
        nodepool_id: created.node_pool_id,
        request_id: String::new(),
        task_id: Some(created.task_id),
    })
}

pub(super) async fn scale(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::ScaleClusterNodePoolRequest>()?.value;
    let (cluster, pool) = (call.path("ClusterId"), call.path("NodepoolId"));
    convert::started(call.service.node_pool_scale(&call.context, cluster, pool, body.count).await.map_err(refusal)?)
}

pub(super) async fn list(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DescribeClusterNodePoolsQuery>()?.value;
    let name = query.nodepool_name.as_deref();
    let pools = call.service.node_pools(&call.context, call.path("ClusterId"), name).map_err(refusal)?;
    let facts = facts(&call)?;
    let nodepools = pools.iter().map(|(pool, counts)| views::node_pool::node_pool(pool, *counts, &facts)).collect();
    Reply::new(&types::DescribeClusterNodePoolsResponse { nodepools })
}

pub(super) async fn detail(call: Call) -> Result<Reply, Refusal> {
    let (cluster, pool) = (call.path("ClusterId"), call.path("NodepoolId"));
    let (pool, counts) = call.service.node_pool(&call.context, cluster, pool).map_err(refusal)?;
    Reply::new(&views::node_pool::node_pool(&pool, counts, &facts(&call)?))
}

pub(super) async fn modify(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::ModifyClusterNodePoolRequest>()?;
    let input = convert::node_pool_change(body.value, body.unknown_fields);
    let (cluster, pool) = (call.path("ClusterId"), call.path("NodepoolId"));
    let modified = call.service.node_pool_modify(&call.context, cluster, pool, &input).await.map_err(refusal)?;
    Reply::new(&types::ModifyClusterNodePoolResponse {
        nodepool_id: modified.node_pool_id,
        request_id: String::new(),
        task_id: modified.task_id,
    })
}

pub(super) async fn repair(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::RepairClusterNodePoolRequest>()?;
    let input = NodePoolRepair {
        nodes: body.value.nodes.unwrap_or_default(),
        may_restart: body.value.auto_restart,
        has_operations: body.value.operations.is_some_and(|operations| !operations.is_empty()),
        unknown_fields: body.unknown_fields,
    };
    let (cluster, pool) = (call.path("ClusterId"), call.path("NodepoolId"));
    let task = call.service.node_pool_repair(&call.context, cluster, pool, &input).await.map_err(refusal)?;
    Reply::new(&types::RepairClusterNodePoolResponse { request_id: String::new(), task_id: task.task_id })
}

pub(super) async fn delete(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DeleteClusterNodepoolQuery>()?;
    let force = query.value.force.unwrap_or_default();
    let input = NodePoolDelete { force, unknown_fields: query.unknown_fields };
    let (cluster, pool) = (call.path("ClusterId"), call.path("NodepoolId"));
    let task = call.service.node_pool_delete(&call.context, cluster, pool, &input).await.map_err(refusal)?;
    Reply::new(&types::DeleteClusterNodepoolResponse { request_id: String::new(), task_id: Some(task.task_id) })
}
