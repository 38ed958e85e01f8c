//! How a cluster's node pools scale by themselves.

use sampan_api::{Refusal, types};
use sampan_control::service::cluster::AutoscalingInput;

use crate::{
    call::{Call, Reply},
    faults::refusal,
    views,
};

pub(super) async fn configure(call: Call) -> Result<Reply, Refusal> {
    let body = call.body::<types::CreateAutoscalingConfigRequest>()?;
    let value = body.value;
    let input = AutoscalingInput {
        cool_down_duration: value.cool_down_duration,
        unneeded_duration: value.unneeded_duration,
        utilization_threshold: value.utilization_threshold,
        gpu_utilization_threshold: value.gpu_utilization_threshold,
        scan_interval: value.scan_interval,
        scale_down_enabled: value.scale_down_enabled,
        expander: value.expander,
        unknown_fields: body.unknown_fields,
    };
    let id = call.path("ClusterId");
    let config = call.service.autoscaling_set(&call.context, id, &input).await.map_err(refusal)?;
    Reply::new(&views::autoscaling::configured(id, &config))
}
