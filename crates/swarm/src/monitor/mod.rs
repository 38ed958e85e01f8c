//! Measures containers and sends the figures to where they are wanted.
//!
//! A service with the label `aliyun.monitoring.addon.influxdb: http://HOST:PORT` gets the figures of all containers, as
//! line protocol of InfluxDB 1.x, into the database `telegraf`. The host is a name inside the cluster and is found in the
//! picture of the cluster, never by the host's resolver.

mod influx;
mod line;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    apps::{Inner, jitter, record::Desired},
    model::{Usage, View},
};
use influx::Sink;
use target::Target;

/// Time between two sets of figures.
const SEND_EVERY: Duration = Duration::from_secs(10);
/// Databases written to at the same time.
const PARALLEL: usize = 8;
/// Pauses after failures.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// Sends for as long as it runs.
pub(crate) async fn run(inner: Arc<Inner>) {
    inner.looked().await;
    let mut usage = inner.usage.subscribe();
    let mut sinks: HashMap<String, Sink> = HashMap::new();
    let mut next = Instant::now();
    while usage.changed().await.is_ok() {
        if Instant::now() < next {
            continue;
        }
        next = Instant::now() + SEND_EVERY - Duration::from_millis(100);
        let measured = usage.borrow_and_update().clone();
        round(&inner, &measured, &mut sinks).await;
    }
}

/// Sends one set of figures to everybody who wants it.
async fn round(inner: &Inner, measured: &BTreeMap<String, Usage>, sinks: &mut HashMap<String, Sink>) {
    let wanted = wanted(inner);
    sinks.retain(|service, sink| wanted.get(service) == Some(sink.address()));
    for (service, address) in &wanted {
        sinks.entry(service.clone()).or_insert_with(|| Sink::new(address.clone()));
    }
    if wanted.is_empty() {
        inner.unsent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        return;
    }
    let view = inner.engines.view();
    let batches = line::batches(&view, &inner.store.all(), measured, &inner.settings.cluster_id, Timestamp::now());
    let now = Instant::now();
    let due: Vec<(&String, &mut Sink)> =
        sinks.iter_mut().filter_map(|(service, sink)| sink.keep(&batches, now).then_some((service, sink))).collect();
    let sending: Vec<_> = due.into_iter().map(|(service, sink)| deliver(inner, &view, service.clone(), sink)).collect();
    let outcomes: Vec<_> = stream::iter(sending).buffer_unordered(PARALLEL).collect().await;
    let mut unsent = inner.unsent.lock().unwrap_or_else(PoisonError::into_inner);
    unsent.retain(|service, _| wanted.contains_key(service));
    for (service, sink, outcome) in outcomes {
        match outcome {
            Ok(()) => {
                unsent.remove(&service);
            }
            Err(words) => {
                let pause = PAUSE_FIRST.saturating_mul(1 << sink.failures().min(5)).min(PAUSE_MAX);
                sink.failed(Instant::now() + jitter(pause));
                if unsent.insert(service.clone(), words.clone()).as_ref() != Some(&words) {
                    tracing::warn!(service, reason = words, "figures of containers do not reach their database");
                }
            }
        }
    }
}

async fn deliver<'a>(
    inner: &Inner,
    view: &View,
    service: String,
    sink: &'a mut Sink,
) -> (String, &'a mut Sink, Result<(), String>) {
    let outcome = match Target::find(inner, view, &service, sink.address()) {
        Ok(target) => sink.send(inner, view, &target).await,
        Err(words) => Err(words),
    };
    (service, sink, outcome)
}

/// Services that want figures, with the address they gave.
fn wanted(inner: &Inner) -> BTreeMap<String, String> {
    let records = inner.store.all();
    let services =
        records.iter().filter(|record| record.deletion.is_none()).flat_map(|record| record.services.values());
    let running = services.filter(|service| service.desired == Desired::Running);
    running.filter_map(|service| Some((service.id.clone(), service.service.extensions.influxdb.clone()?))).collect()
}
