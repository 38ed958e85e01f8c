//! Use of resources, as the engines measure it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{MutexGuard, PoisonError},
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Fleet, Member,
    observe::{number, text, time},
};
use crate::model::Usage;

/// Container → when its processor time was read, and what it was in billionths of a second.
pub(crate) type Samples = HashMap<String, (Timestamp, u64)>;

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
            let usage = self.measure_one(&member, &id).await;
            (id, usage)
        });
        let results: Vec<_> = stream::iter(measures).buffer_unordered(MEASURED_MAX).collect().await;
        let measured: BTreeMap<String, Usage> =
            results.into_iter().filter_map(|(id, usage)| Some((id, usage?))).collect();
        self.samples().retain(|id, _| view.containers.iter().any(|container| container.id == *id));
        measured
    }

    /// Against the sample of the last look; without one the engine takes two itself, which needs a second or two.
    async fn measure_one(&self, member: &Member, id: &str) -> Option<Usage> {
        let last = self.samples().get(id).copied();
        let once = if last.is_some() { "&one-shot=1" } else { "" };
        let mut stats = member.client.get(&format!("/containers/{id}/stats?stream=0{once}")).await.ok()?;
        let now = (time(text(&stats, "/read"))?, number(&stats, "/cpu_stats/cpu_usage/total_usage"));
        self.samples().insert(id.to_owned(), now);
        if let Some((then, used)) = last {
            stats["preread"] = json!(then.to_string());
            stats["precpu_stats"]["cpu_usage"]["total_usage"] = json!(used);
        }
        usage(&stats)
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
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
