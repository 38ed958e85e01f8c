//! Autoscaling configurations.

use sampan_api::types;
use sampan_store::model::AutoscalingConfig;

/// What is in force after a configuration was given.
pub fn configured(cluster_id: &str, config: &AutoscalingConfig) -> types::CreateAutoscalingConfigResponse {
    types::CreateAutoscalingConfigResponse {
        cluster_id: cluster_id.to_owned(),
        request_id: String::new(),
        cool_down_duration: duration(config.cool_down_seconds),
        unneeded_duration: duration(config.unneeded_seconds),
        utilization_threshold: config.utilization_threshold.to_string(),
        gpu_utilization_threshold: config.gpu_utilization_threshold.to_string(),
        scan_interval: format!("{}s", config.scan_interval_seconds),
        scale_down_enabled: config.scale_down_enabled,
        expander: config.expander.as_str().to_owned(),
    }
}

/// `10m`, or `90s`.
fn duration(seconds: u32) -> String {
    if seconds > 0 && seconds.is_multiple_of(60) { format!("{}m", seconds / 60) } else { format!("{seconds}s") }
}
