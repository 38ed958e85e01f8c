//! Use of resources, as the engines measure it.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use serde_json::Value;

use super::{
    Fleet,
    observe::{number, text, time},
};
use crate::model::{Refusal, Usage};

/// Containers that are measured at the same time.
const MEASURED_MAX: usize = 64;

impl Fleet {
    /// One round over all running containers of healthy nodes.
    pub(crate) async fn measure(&self) -> BTreeMap<String, Usage> {
        let view = self.current();
        let healthy = self.healthy();
        let mut pairs = Vec::new();
        for container in view.containers.iter().filter(|container| container.is_running()) {
            if let Some(member) = healthy.iter().find(|member| member.name == container.node) {
                pairs.push((member.clone(), container.id.clone()));
            }
        }
        let measures = pairs.into_iter().map(|(member, id)| async move {
            // The engine takes two samples, a second apart.
            let path = format!("/containers/{id}/stats?stream=0");
            let stats: Result<Value, Refusal> = member.client.get(&path).await;
            (id, stats)
        });
        let results: Vec<_> = stream::iter(measures).buffer_unordered(MEASURED_MAX).collect().await;
        results.into_iter().filter_map(|(id, stats)| Some((id, usage(&stats.ok()?)?))).collect()
    }
}

/// What the statistics of a container say; nothing if it does not run any more.
pub(crate) fn usage(stats: &Value) -> Option<Usage> {
    let now = time(text(stats, "/read"))?;
    let before = time(text(stats, "/preread"))?;
    let elapsed = now.duration_since(before).as_secs_f64();
    if elapsed <= 0.0 {
        return None;
    }
    let used = number(stats, "/cpu_stats/cpu_usage/total_usage")
        .saturating_sub(number(stats, "/precpu_stats/cpu_usage/total_usage"));
    #[allow(clippy::cast_precision_loss, reason = "a share of a second needs no more than 52 bits")]
    let cpu_percent = used as f64 / 1e9 / elapsed * 100.0;
    let cached = match number(stats, "/memory_stats/stats/total_inactive_file") {
        0 => number(stats, "/memory_stats/stats/inactive_file"),
        cached => cached,
    };
    let networks = stats.get("networks").and_then(Value::as_object);
    let sum = |key: &str| networks.into_iter().flatten().map(|(_, network)| number(network, key)).sum();
    Some(Usage {
        cpu_percent,
        memory: number(stats, "/memory_stats/usage").saturating_sub(cached),
        memory_limit: number(stats, "/memory_stats/limit"),
        network: (sum("/rx_bytes"), sum("/tx_bytes")),
        block: (blocks(stats, "read"), blocks(stats, "write")),
    })
}

fn blocks(stats: &Value, operation: &str) -> u64 {
    let entries = stats.pointer("/blkio_stats/io_service_bytes_recursive").and_then(Value::as_array);
    let entries = entries.map(Vec::as_slice).unwrap_or_default();
    let same = entries.iter().filter(|entry| text(entry, "/op").eq_ignore_ascii_case(operation));
    same.map(|entry| number(entry, "/value")).sum()
}
