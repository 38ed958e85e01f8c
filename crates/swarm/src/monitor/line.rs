//! Line protocol of InfluxDB: a measurement with tags, fields, and nanoseconds.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    apps::{
        names,
        record::{Record, ServiceRecord},
    },
    model::{Container, Usage, View, labels},
};

/// Containers of one request: each has four lines.
const CONTAINERS_OF_BATCH: usize = 1000;

/// The figures of all containers, in pieces that a database takes at once.
pub(super) fn batches(
    view: &View,
    records: &[Arc<Record>],
    measured: &BTreeMap<String, Usage>,
    cluster: &str,
    at: Timestamp,
) -> Vec<Bytes> {
    let by_uid: HashMap<&str, &Arc<Record>> = records.iter().map(|record| (record.uid.as_str(), record)).collect();
    let ours = view.containers.iter().filter(|container| !container.labels.contains_key(labels::SYSTEM));
    let known: Vec<(&Arc<Container>, &Usage)> =
        ours.filter_map(|container| Some((container, measured.get(&container.id)?))).collect();
    let pieces = known.chunks(CONTAINERS_OF_BATCH).map(|piece| {
        let mut text = String::new();
        for (container, usage) in piece {
            lines(&mut text, &tags(container, &by_uid, cluster), usage, at);
        }
        Bytes::from(text)
    });
    pieces.collect()
}

/// Tags in the order of their names, which databases like best.
fn tags(container: &Container, records: &HashMap<&str, &Arc<Record>>, cluster: &str) -> String {
    let record = container.labels.get(names::UID).and_then(|uid| records.get(uid.as_str()));
    let service = record.and_then(|record| shown_id(record, container));
    let service = service.or_else(|| container.labels.get(labels::SERVICE).cloned()).unwrap_or_default();
    let label = |name: &str| container.labels.get(name).map_or("", String::as_str);
    let all = [
        ("aliyun.cluster", cluster),
        ("aliyun.project.id", label(labels::PROJECT)),
        ("aliyun.service.id", &service),
        ("container_image", &container.image),
        ("container_name", &container.name),
        ("engine_host", &container.node),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).fold(String::new(), |mut text, (name, value)| {
        let _ = write!(text, ",{name}={}", escaped(value));
        text
    })
}

/// The id that a container's service has now.
fn shown_id(record: &Record, container: &Container) -> Option<String> {
    let origin = names::origin_of(record, container)?;
    record
        .services
        .values()
        .find(|service: &&ServiceRecord| service.origin() == origin)
        .map(|service| service.id.clone())
}

fn lines(text: &mut String, tags: &str, usage: &Usage, at: Timestamp) {
    let at = at.as_nanosecond();
    let percent = if usage.memory_limit == 0 { 0.0 } else { usage.memory as f64 * 100.0 / usage.memory_limit as f64 };
    let cpu = if usage.cpu_percent.is_finite() { usage.cpu_percent } else { 0.0 };
    let (received, sent) = usage.network;
    let (read, written) = usage.block;
    // Writing to a String does not fail.
    let _ = writeln!(text, "docker_container_cpu{tags},cpu=cpu-total usage_percent={cpu} {at}");
    let _ = writeln!(
        text,
        "docker_container_mem{tags} usage={}i,limit={}i,usage_percent={percent} {at}",
        usage.memory, usage.memory_limit
    );
    let _ = writeln!(text, "docker_container_net{tags},network=total rx_bytes={received}i,tx_bytes={sent}i {at}");
    let _ = writeln!(
        text,
        "docker_container_blkio{tags},device=total io_service_bytes_recursive_read={read}i,\
         io_service_bytes_recursive_write={written}i {at}"
    );
}

/// A tag's value: commas, spaces and equals signs are escaped; what cannot be is left out.
pub(super) fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars().filter(|c| !c.is_control()) {
        match c {
            ',' | ' ' | '=' => text.extend(['\\', c]),
            // At the end it would escape what follows.
            '\\' => text.push('/'),
            c => text.push(c),
        }
    }
    text
}
