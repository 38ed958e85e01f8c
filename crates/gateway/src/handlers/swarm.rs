//! What only Swarm clusters are asked.

use sampan_api::{Refusal, types};
use sampan_control::service::cluster::swarm::SwarmReset;

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
};

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
