//! Shares of the machine: processors, memory, block devices, limits of processes.

use serde_json::{Map, Value, json};

use super::Draft;
use crate::compose::{error::Result, field::Field};

/// The least memory that an engine accepts as a limit.
const LEAST_MEMORY: i64 = 6 * 1024 * 1024;

pub(super) fn memory(draft: &mut Draft<'_>, field: &Field<'_>, key: &str) -> Result<()> {
    draft.set_host(key, memory_bytes(field)?);
    Ok(())
}

/// Bytes of memory that an engine takes as a limit.
pub(super) fn memory_bytes(field: &Field<'_>) -> Result<i64> {
    let bytes = field.size()?;
    if (1..LEAST_MEMORY).contains(&bytes) {
        return Err(field.wrong(format!("{bytes} bytes are too few; engines want at least 6m")));
    }
    Ok(bytes)
}

/// Memory and swap together; -1 is unlimited swap.
pub(super) fn memory_swap(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let unlimited = field.value.as_i64() == Some(-1) || field.value.as_str().is_some_and(|text| text.trim() == "-1");
    let bytes = if unlimited { -1 } else { field.size()? };
    draft.set_host("MemorySwap", bytes);
    Ok(())
}

pub(super) fn cpus(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    draft.set_host("NanoCpus", nano_cpus(field)?);
    Ok(())
}

/// Billionths of a processor.
pub(super) fn nano_cpus(field: &Field<'_>) -> Result<i64> {
    let cpus = field.number()?;
    if cpus > 65_536.0 {
        return Err(field.wrong(format!("{cpus} processors are more than any machine has")));
    }
    #[allow(clippy::cast_possible_truncation)]
    Ok((cpus * 1e9).round() as i64)
}

/// Microseconds: a number, or a duration.
pub(super) fn microseconds(field: &Field<'_>) -> Result<i64> {
    match field.value {
        Value::String(text) if text.parse::<i64>().is_err() => Ok(field.duration()? / 1000),
        _ => field.integer(0..=i64::MAX),
    }
}

pub(super) fn ulimits(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mut ulimits = Vec::new();
    for (name, entry) in field.entries()? {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(entry.wrong(format!("`{name}` is not a limit; write for example nofile")));
        }
        let (soft, hard) = if entry.value.is_object() {
            entry.keys(&["hard", "soft"])?;
            let limit = |key: &str| match entry.get(key) {
                Some(limit) => limit.integer(-1..=i64::MAX),
                None => Err(entry.wrong(format!("`{key}` is missing"))),
            };
            (limit("soft")?, limit("hard")?)
        } else {
            let limit = entry.integer(-1..=i64::MAX)?;
            (limit, limit)
        };
        if hard != -1 && (soft > hard || soft == -1) {
            return Err(entry.wrong(format!("the soft limit {soft} is above the hard limit {hard}")));
        }
        ulimits.push(json!({"Name": name, "Soft": soft, "Hard": hard}));
    }
    draft.set_host("Ulimits", ulimits);
    Ok(())
}

pub(super) fn blkio_config(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    const LIMITS: [(&str, &str); 4] = [
        ("device_read_bps", "BlkioDeviceReadBps"),
        ("device_read_iops", "BlkioDeviceReadIOps"),
        ("device_write_bps", "BlkioDeviceWriteBps"),
        ("device_write_iops", "BlkioDeviceWriteIOps"),
    ];
    field.keys(&[
        "device_read_bps",
        "device_read_iops",
        "device_write_bps",
        "device_write_iops",
        "weight",
        "weight_device",
    ])?;
    if let Some(weight) = field.get("weight") {
        draft.set_host("BlkioWeight", block_weight(&weight)?);
    }
    if let Some(devices) = field.get("weight_device") {
        let weights = devices.items()?.into_iter().map(|item| {
            item.keys(&["path", "weight"])?;
            let (path, weight) = (needed(&item, "path")?, needed(&item, "weight")?);
            Ok(json!({"Path": path.filled()?, "Weight": block_weight(&weight)?}))
        });
        draft.set_host("BlkioWeightDevice", weights.collect::<Result<Vec<_>>>()?);
    }
    for (key, name) in LIMITS {
        let Some(devices) = field.get(key) else { continue };
        let rates = devices.items()?.into_iter().map(|item| {
            item.keys(&["path", "rate"])?;
            let (path, rate) = (needed(&item, "path")?, needed(&item, "rate")?);
            let mut limit = Map::new();
            limit.insert("Path".to_owned(), json!(path.filled()?));
            limit.insert("Rate".to_owned(), json!(rate.size()?));
            Ok(Value::Object(limit))
        });
        draft.set_host(name, rates.collect::<Result<Vec<_>>>()?);
    }
    Ok(())
}

/// 0 is no weight of its own.
fn block_weight(field: &Field<'_>) -> Result<i64> {
    let weight = field.integer(0..=1000)?;
    if (1..10).contains(&weight) {
        return Err(field.wrong(format!("{weight} is not from 10 to 1000")));
    }
    Ok(weight)
}

/// What has to stand under this key.
pub(super) fn needed<'a>(field: &Field<'a>, key: &str) -> Result<Field<'a>> {
    field.get(key).ok_or_else(|| field.wrong(format!("`{key}` is missing")))
}
