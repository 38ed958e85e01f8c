//! Triggers of applications.

use sampan_api::{Refusal, types};
use sampan_control::service::trigger::{TriggerCreate, TriggersWanted};

use crate::{
    call::{Call, Reply},
    faults::refusal,
    views,
};

pub(super) async fn create(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::CreateTriggerRequest>()?.value;
    let input = TriggerCreate {
        cluster_id: call.path("ClusterId").to_owned(),
        project_id: body.project_id,
        action: body.action,
        kind: body.kind,
        service: body.service,
        on_image_update: body.image_update.unwrap_or_default(),
    };
    let shown = call.service.trigger_create(&call.context, &input).await.map_err(refusal)?;
    Reply::new(&views::trigger::trigger(&shown, &call.service.settings().endpoint_url))
}

pub(super) async fn list(call: Call) -> Result<Reply, Refusal> {
    let query = call.query::<types::DescribeTriggerQuery>()?.value;
    let wanted =
        TriggersWanted { namespace: query.namespace, name: query.name, kind: query.kind, action: query.action };
    let shown = call.service.triggers(&call.context, call.path("ClusterId"), &wanted).await.map_err(refusal)?;
    let endpoint = &call.service.settings().endpoint_url;
    Reply::new(&shown.iter().map(|shown| views::trigger::trigger(shown, endpoint)).collect::<Vec<_>>())
}

pub(super) async fn delete(call: Call) -> Result<Reply, Refusal> {
    let (cluster_id, id) = (call.path("ClusterId"), call.path("Id"));
    call.service.trigger_delete(&call.context, cluster_id, id).await.map_err(refusal)?;
    Reply::new(&types::DeleteTriggerResponse {
        id: id.to_owned(),
        cluster_id: cluster_id.to_owned(),
        request_id: String::new(),
    })
}
