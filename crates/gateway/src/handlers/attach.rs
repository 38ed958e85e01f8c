//! Existing machines as nodes.

use sampan_api::{Refusal, types};
use sampan_control::service::{
    attach::{Attach, AttachScript},
    cluster::swarm::{Attached, SwarmAttach},
};

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
};

pub(super) async fn attach(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::AttachInstancesRequest>()?;
    let id = call.path("ClusterId");
    let is_swarm = call.service.cluster(&call.context, id).map_err(refusal)?.is_swarm();
    let (list, task_id) = if is_swarm {
        let input = swarm(body.value, body.unknown_fields);
        call.service.swarm_attach(&call.context, id, &input).await.map_err(refusal)?
    } else {
        let input = kubernetes(body.value, body.unknown_fields);
        call.service.attach(&call.context, id, &input).await.map_err(refusal)?
    };
    let list = list.into_iter().map(attached).collect();
    Reply::new(&types::AttachInstancesResponse { list, task_id, request_id: String::new() })
}

fn swarm(body: types::AttachInstancesRequest, unknown_fields: Vec<String>) -> SwarmAttach {
    SwarmAttach {
        instances: body.instances.unwrap_or_default(),
        password: convert::password(body.password),
        ecs_image_id: body.ecs_image_id,
        unknown_fields,
    }
}

fn kubernetes(body: types::AttachInstancesRequest, unknown_fields: Vec<String>) -> Attach {
    Attach {
        instances: body.instances.unwrap_or_default(),
        node_pool_id: body.nodepool_id,
        key_pair: body.key_pair,
        password: convert::password(body.password),
        format_disk: body.format_disk,
        release_eip_flag: body.release_eip_flag,
        keep_instance_name: body.keep_instance_name,
        is_edge_worker: body.is_edge_worker,
        image_id: body.image_id.or(body.ecs_image_id),
        cpu_policy: body.cpu_policy,
        user_data: body.user_data,
        rds_instances: body.rds_instances.unwrap_or_default(),
        runtime: body.runtime.and_then(|runtime| runtime.name),
        tags: convert::tags(body.tags),
        unknown_fields,
    }
}

fn attached(attached: Attached) -> types::AttachedInstance {
    let (code, message) = match attached.refusal.map(refusal) {
        None => (200, "successful".to_owned()),
        Some(refusal) => (refusal.status(), refusal.message),
    };
    types::AttachedInstance { code: code.to_string(), instance_id: attached.instance_id, message }
}

pub(super) async fn script(call: Call) -> Result<Reply, Refusal> {
    // Everything in the body may be left out, and so may the body.
    let input = if call.body.is_empty() {
        AttachScript::default()
    } else {
        let body = call.body::<types::DescribeClusterAttachScriptsRequest>()?;
        AttachScript {
            node_pool_id: body.value.nodepool_id,
            format_disk: body.value.format_disk,
            keep_instance_name: body.value.keep_instance_name,
            rds_instances: body.value.rds_instances.unwrap_or_default(),
            arch: body.value.arch,
            options: body.value.options,
            unknown_fields: body.unknown_fields,
        }
    };
    let line = call.service.attach_script(&call.context, call.path("ClusterId"), &input).await.map_err(refusal)?;
    Reply::new(&line)
}
