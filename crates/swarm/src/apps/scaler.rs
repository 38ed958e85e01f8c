//! Follows the measured use of services (`aliyun.auto_scaling.*`).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    Inner, SCALE_MAX, intake,
    record::{Desired, Record, ServiceRecord},
    scene::{Notes, Scene},
};
use crate::{
    compose::template::AutoScaling,
    model::{Container, Usage},
};

/// Time between two measurements.
pub(crate) const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// Measurements that are averaged; a decision needs as many.
const WINDOW: usize = 3;
/// Rest after a service became larger, before it does again.
const REST_AFTER_GROWTH: Duration = Duration::from_secs(30);
/// Rest after any change, before it becomes smaller.
const REST_BEFORE_SHRINKING: Duration = Duration::from_secs(60);

/// A service without `max_instances` does not grow beyond this.
const INSTANCES_MAX: u32 = 10;

/// A service's use, in percent of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
}

/// Measures for as long as somebody needs it, and scales. Never ends.
pub(crate) async fn run(inner: Arc<Inner>) {
    inner.looked().await;
    let mut memory: HashMap<String, Track> = HashMap::new();
    loop {
        sleep(MEASURE_EVERY).await;
        let records = inner.store.all();
        let needed = records.iter().flat_map(|record| record.services.values()).any(|service| {
            let extensions = &service.service.extensions;
            service.desired == Desired::Running && (extensions.auto_scaling.is_some() || extensions.influxdb.is_some())
        });
        if !needed {
            memory.clear();
            continue;
        }
        let usage = Arc::new(inner.engines.usage().await);
        inner.usage.send_replace(usage.clone());
        memory.retain(|id, _| records.iter().any(|record| record.services.contains_key(id)));
        for record in &records {
            look_at(&inner, record, &usage, &mut memory).await;
        }
    }
}

/// What is remembered of a service.
#[derive(Default)]
pub(crate) struct Track {
    loads: VecDeque<Load>,
    changed: Option<Instant>,
    scale: u32,
}

async fn look_at(inner: &Inner, record: &Record, usage: &BTreeMap<String, Usage>, memory: &mut HashMap<String, Track>) {
    if record.deletion.is_some() {
        return;
    }
    for service in record.services.values() {
        let Some(rules) = &service.service.extensions.auto_scaling else { continue };
        let track = memory.entry(service.id.clone()).or_default();
        let load = measured(inner, record, service, usage);
        let Some(wanted) = track.decide(rules, service.scale, load, Instant::now()) else { continue };
        tracing::info!(
            service = service.id,
            from = service.scale,
            to = wanted,
            "a service is scaled by its measured use"
        );
        if let Err(refusal) = intake::scale_to(inner, &service.id, wanted).await {
            tracing::warn!(service = service.id, %refusal, "a service could not be scaled by its measured use");
        }
    }
}

/// Average over a service's containers; `None` while it is not settled or not measured.
fn measured(inner: &Inner, record: &Record, service: &ServiceRecord, usage: &BTreeMap<String, Usage>) -> Option<Load> {
    let view = inner.engines.view();
    let nodes = inner.sight.look(&view);
    let notes = Notes::default();
    let health = |container: &Container| inner.health.of(container);
    let scene = Scene::new(record, &view, &nodes, &notes, &health);
    let crew = scene.crew(&service.id)?;
    if service.desired != Desired::Running || !crew.settled() || crew.current.is_empty() {
        return None;
    }
    let loads: Option<Vec<Load>> = crew
        .current
        .iter()
        .map(|member| usage.get(&member.container.id).map(|usage| load(member.container, usage)))
        .collect();
    let loads = loads?;
    let count = loads.len() as f64;
    Some(Load {
        cpu: loads.iter().map(|load| load.cpu).sum::<f64>() / count,
        memory: loads.iter().map(|load| load.memory).sum::<f64>() / count,
    })
}

/// Percent of the container's own limit; of one processor, where it has none.
pub(crate) fn load(container: &Container, usage: &Usage) -> Load {
    let number = |name: &str| {
        container
            .inspect
            .pointer(&format!("/HostConfig/{name}"))
            .and_then(serde_json::Value::as_f64)
            .filter(|number| *number > 0.0)
    };
    let quota = number("CpuQuota").map(|quota| quota / number("CpuPeriod").unwrap_or(100_000.0));
    let processors = number("NanoCpus").map(|nano| nano / 1e9).or(quota).unwrap_or(1.0);
    let memory = if usage.memory_limit == 0 { 0.0 } else { usage.memory as f64 * 100.0 / usage.memory_limit as f64 };
    Load { cpu: usage.cpu_percent / processors, memory }
}

impl Track {
    /// The number of containers that a service shall have instead of `scale`.
    pub(crate) fn decide(&mut self, rules: &AutoScaling, scale: u32, load: Option<Load>, now: Instant) -> Option<u32> {
        if self.scale != scale {
            // Whoever changed it: what was measured before says nothing of what is now.
            self.loads.clear();
            self.changed = Some(now);
            self.scale = scale;
        }
        let Some(load) = load else {
            self.loads.clear();
            return None;
        };
        self.loads.push_back(load);
        while self.loads.len() > WINDOW {
            self.loads.pop_front();
        }
        let (lowest, highest) =
            (rules.min_instances.max(1), rules.max_instances.unwrap_or(INSTANCES_MAX.max(scale)).min(SCALE_MAX));
        if scale < lowest || scale > highest {
            return Some(scale.clamp(lowest, highest.max(lowest)));
        }
        if self.loads.len() < WINDOW {
            return None;
        }
        let count = self.loads.len() as f64;
        let cpu = self.loads.iter().map(|load| load.cpu).sum::<f64>() / count;
        let memory = self.loads.iter().map(|load| load.memory).sum::<f64>() / count;
        let rested = |rest: Duration| self.changed.is_none_or(|changed| now.duration_since(changed) >= rest);
        let above = |value: f64, limit: Option<f64>| limit.is_some_and(|limit| value > limit);
        let step = rules.step.max(1);
        if above(cpu, rules.max_cpu) || above(memory, rules.max_memory) {
            let wanted = scale.saturating_add(step).min(highest);
            return (wanted > scale && rested(REST_AFTER_GROWTH)).then_some(wanted);
        }
        let below = |value: f64, limit: Option<f64>| limit.is_none_or(|limit| value < limit);
        let asked = rules.min_cpu.is_some() || rules.min_memory.is_some();
        if asked && below(cpu, rules.min_cpu) && below(memory, rules.min_memory) {
            let wanted = scale.saturating_sub(step).max(lowest);
            return (wanted < scale && rested(REST_BEFORE_SHRINKING)).then_some(wanted);
        }
        None
    }
}
