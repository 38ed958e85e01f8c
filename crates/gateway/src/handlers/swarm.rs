//! What only Swarm clusters are asked.

use sampan_api::{Refusal, types};
use sampan_control::service::cluster::swarm::{Attached, SwarmAttach, SwarmReset};

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
};

pub(super) async fn attach(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::AttachInstancesRequest>()?;
    let input = SwarmAttach {
        instances: body.value.instances.unwrap_or_default(),
        password: convert::password(body.value.password),
        ecs_image_id: body.value.ecs_image_id,
        unknown_fields: body.unknown_fields,
    };
    let id = call.path("ClusterId");
    let (list, task_id) = call.service.swarm_attach(&call.context, id, &input).await.map_err(refusal)?;
    let list = list.into_iter().map(attached).collect();
    Reply::new(&types::AttachInstancesResponse { list, task_id, request_id: String::new() })
}

fn attached(attached: Attached) -> types::AttachedInstance {
    let (code, message) = match attached.refusal.map(refusal) {
        None => (200, "successful".to_owned()),
        Some(refusal) => (refusal.status(), refusal.message),
    };
    types::AttachedInstance { code: code.to_string(), instance_id: attached.instance_id, message }
}

pub(super) async fn remove(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::RemoveClusterNodeQuery>()?.value;
    let release = query.release_instance.unwrap_or_default();
    let (id, ip) = (call.path("ClusterId"), call.path("Ip"));
    convert::started(call.service.swarm_remove(&call.context, id, ip, release).await.map_err(refusal)?)
}

pub(super) async fn reset(call: Call) -> Result<Reply, Refusal> {
    // The guide's own request has no body.
    let input = if call.body.is_empty() {
        SwarmReset::default()
    } else {
        let body = call.body::<types::ResetNodeRequest>()?;
        SwarmReset {
            password: convert::password(body.value.password),
            ecs_image_id: body.value.ecs_image_id,
            unknown_fields: body.unknown_fields,
        }
    };
    let (id, instance) = (call.path("ClusterId"), call.path("InstanceId"));
    convert::started(call.service.swarm_reset(&call.context, id, instance, &input).await.map_err(refusal)?)
}

pub(super) async fn images(call: Call) -> Result<Reply, Refusal> {
    let regions = call.service.images(&call.context).into_iter().map(|(region, images)| {
        let items = images.into_iter().map(|image| types::SystemImage { text: image.text, value: image.value });
        (region, types::RegionImages { items: items.collect() })
    });
    Reply::new(&regions.collect::<types::ListImagesResponse>())
}
