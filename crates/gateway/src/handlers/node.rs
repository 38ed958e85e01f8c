//! Nodes: listed, removed, added.

use sampan_api::{Refusal, types};
use sampan_control::service::{
    event::Paging,
    node::{NodeFilter, NodesRemove},
    node_pool::{ScaleOut, ScaleTo},
};

use super::convert::{self, comma_list};
use crate::{
    call::{Call, Reply},
    faults::refusal,
    views,
};

pub(super) async fn list(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DescribeClusterNodesQuery>()?.value;
    let paging = Paging::check(("pageNumber", query.page_number), ("pageSize", query.page_size), 10, 100);
    let paging = paging.map_err(refusal)?;
    if query.node_labels.as_deref().is_some_and(|labels| !labels.trim().is_empty()) {
        return Err(Refusal::invalid("nodeLabels", "is not supported as a filter by this release"));
    }
    let filter = NodeFilter {
        instance_ids: comma_list(query.instance_ids),
        node_names: comma_list(query.node_names),
        node_ips: comma_list(query.node_ips),
        node_pool_id: query.nodepool_id,
        state: query.state,
    };
    let id = call.path("ClusterId");
    let page = call.service.nodes(&call.context, id, &filter, paging).map_err(refusal)?;
    let image_id = &call.service.settings().node_image.id;
    let nodes =
        page.items.iter().map(|machine| views::node::node(machine, image_id, &call.service.node_charge_type(machine)));
    Reply::new(&types::DescribeClusterNodesResponse {
        nodes: nodes.collect(),
        page: views::page_info(paging, page.total),
    })
}

pub(super) async fn remove(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::DeleteClusterNodesRequest>()?;
    let input = NodesRemove {
        nodes: body.value.nodes,
        drain: body.value.drain_node.unwrap_or_default(),
        release: body.value.release_node.unwrap_or_default(),
        unknown_fields: body.unknown_fields,
    };
    let task = call.service.nodes_remove(&call.context, call.path("ClusterId"), &input).await.map_err(refusal)?;
    convert::started(task)
}

pub(super) async fn scale_out(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::ScaleOutClusterRequest>()?;
    let input = ScaleOut {
        count: body.value.count,
        timeout_mins: body.value.timeout_mins,
        unknown_fields: body.unknown_fields,
        options: convert::scale_out_options(body.value),
    };
    let task = call.service.scale_out(&call.context, call.path("ClusterId"), &input).await.map_err(refusal)?;
    convert::started(task)
}

pub(super) async fn scale_to(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::UpdateClusterSizeByIdRequest>()?;
    let id = call.path("ClusterId");
    if call.service.cluster(&call.context, id).map_err(refusal)?.is_swarm() {
        let input = convert::swarm_scale(body.value, body.unknown_fields);
        return convert::started(call.service.swarm_scale(&call.context, id, &input).await.map_err(refusal)?);
    }
    let input: ScaleTo = convert::scale_to(body.value, body.unknown_fields);
    convert::started(call.service.scale_to(&call.context, id, &input).await.map_err(refusal)?)
}
