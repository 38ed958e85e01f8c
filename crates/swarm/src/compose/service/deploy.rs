//! `deploy` and what says the same in other words: how many containers, where, with how much, and how they are replaced.

use serde_json::{Map, Value, json};

use super::{Draft, limits};
use crate::compose::{error::Result, expressions, field::Field, field::object, limits::MAX_SCALE};

pub(super) fn scale(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let count = field.count(MAX_SCALE)?;
    draft.scales.push((field.path.clone(), count));
    Ok(())
}

pub(super) fn pull_policy(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    match field.filled()? {
        "always" => draft.service.extensions.latest_image = true,
        "missing" | "if_not_present" => {}
        "build" => return Err(field.wrong("there are no files to build from here")),
        other if other == "never" || other == "daily" || other == "weekly" || other.starts_with("every_") => {
            draft.note(field, "an image is pulled if a node lacks it; write `always` to pull before every deployment");
        }
        other => return Err(field.wrong(format!("`{other}` is none of always, missing, if_not_present, never"))),
    }
    Ok(())
}

pub(super) fn deploy(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    field.keys(&[
        "endpoint_mode",
        "labels",
        "mode",
        "placement",
        "replicas",
        "resources",
        "restart_policy",
        "rollback_config",
        "update_config",
    ])?;
    if let Some(mode) = field.get("mode") {
        match mode.filled()? {
            "replicated" => {}
            "global" => draft.service.extensions.global = true,
            other => return Err(mode.wrong(format!("`{other}` is neither replicated nor global"))),
        }
    }
    if let Some(replicas) = field.get("replicas") {
        scale(draft, &replicas)?;
    }
    if let Some(labels) = field.get("labels") {
        for (key, value) in labels.filled_pairs()? {
            draft.deploy_labels.insert(key, value);
        }
    }
    if let Some(endpoint) = field.get("endpoint_mode") {
        match endpoint.filled()? {
            "dnsrr" => {}
            "vip" => {
                draft.note(&endpoint, "a service's name resolves to the addresses of its containers, as with `dnsrr`")
            }
            other => return Err(endpoint.wrong(format!("`{other}` is neither dnsrr nor vip"))),
        }
    }
    if let Some(resources) = field.get("resources") {
        self::resources(draft, &resources)?;
    }
    if let Some(policy) = field.get("restart_policy") {
        restart_policy(draft, &policy)?;
    }
    if let Some(placement) = field.get("placement") {
        self::placement(draft, &placement)?;
    }
    if let Some(update) = field.get("update_config") {
        update_config(draft, &update)?;
    }
    draft.note_keys(field, &["rollback_config"]);
    Ok(())
}

fn update_config(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    const WITHOUT_EFFECT: [&str; 5] = ["delay", "failure_action", "max_failure_ratio", "monitor", "order"];
    field.keys(&[&["parallelism"], &WITHOUT_EFFECT[..]].concat())?;
    draft.note_keys(field, &WITHOUT_EFFECT);
    draft.service.extensions.rolling_updates = true;
    if let Some(parallelism) = field.get("parallelism") {
        // 0 is all at once there.
        let count = parallelism.count(MAX_SCALE)?;
        draft.service.extensions.parallelism = if count == 0 { MAX_SCALE } else { count };
    }
    Ok(())
}

fn restart_policy(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    field.keys(&["condition", "delay", "max_attempts", "window"])?;
    draft.note_keys(field, &["delay", "window"]);
    let attempts = field.get("max_attempts").map(|attempts| attempts.count(u32::MAX)).transpose()?;
    let condition = field.get("condition").map(|condition| condition.filled().map(str::to_owned)).transpose()?;
    let (name, count) = match condition.as_deref().unwrap_or("any") {
        "none" => ("no", 0),
        "on-failure" => ("on-failure", attempts.unwrap_or(0)),
        "any" => ("always", 0),
        other => return Err(field.wrong(format!("`{other}` is none of the conditions none, on-failure, any"))),
    };
    if name == "always" && attempts.is_some() {
        draft.note_keys(field, &["max_attempts"]);
    }
    once(draft, field, "RestartPolicy", json!({"Name": name, "MaximumRetryCount": count}));
    Ok(())
}

fn resources(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    field.keys(&["limits", "reservations"])?;
    if let Some(limit) = field.get("limits") {
        limit.keys(&["cpus", "memory", "pids"])?;
        if let Some(cpus) = limit.get("cpus") {
            once(draft, &cpus, "NanoCpus", json!(limits::nano_cpus(&cpus)?));
        }
        if let Some(memory) = limit.get("memory") {
            once(draft, &memory, "Memory", json!(limits::memory_bytes(&memory)?));
        }
        if let Some(pids) = limit.get("pids") {
            once(draft, &pids, "PidsLimit", json!(pids.integer(-1..=i64::MAX)?));
        }
    }
    if let Some(reservation) = field.get("reservations") {
        reservation.keys(&["cpus", "devices", "generic_resources", "memory"])?;
        if let Some(memory) = reservation.get("memory") {
            once(draft, &memory, "MemoryReservation", json!(limits::memory_bytes(&memory)?));
        }
        if let Some(devices) = reservation.get("devices") {
            device_requests(draft, &devices)?;
        }
        draft.note_keys(&reservation, &["cpus", "generic_resources"]);
    }
    Ok(())
}

/// Keeps what may be said outside of `deploy` too, until all of that is read.
fn once(draft: &mut Draft<'_>, field: &Field<'_>, key: &'static str, value: Value) {
    draft.deployed.push((field.path.clone(), key, value));
}

pub(super) fn gpus(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    if field.value.is_string() {
        return match field.filled()? {
            "all" => {
                request(draft, json!({"Count": -1, "Capabilities": [["gpu"]]}));
                Ok(())
            }
            other => Err(field.wrong(format!("`{other}` is not `all` or a list of devices"))),
        };
    }
    device_requests(draft, field)
}

fn device_requests(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for item in field.items()? {
        item.keys(&["capabilities", "count", "device_ids", "driver", "options"])?;
        let mut wanted = Map::new();
        let capabilities = item.get("capabilities").map_or(Ok(vec!["gpu".to_owned()]), |field| field.texts())?;
        wanted.insert("Capabilities".to_owned(), json!([capabilities]));
        let ids = item.get("device_ids").map(|ids| ids.texts()).transpose()?;
        let count = item.get("count");
        if let (Some(_), Some(count)) = (&ids, &count) {
            return Err(count.wrong("`count` and `device_ids` exclude each other"));
        }
        match (ids, count) {
            (Some(ids), _) => wanted.insert("DeviceIDs".to_owned(), json!(ids)),
            (None, Some(count)) if count.value == "all" => wanted.insert("Count".to_owned(), json!(-1)),
            (None, Some(count)) => wanted.insert("Count".to_owned(), json!(count.integer(-1..=1024)?)),
            (None, None) => wanted.insert("Count".to_owned(), json!(-1)),
        };
        if let Some(driver) = item.get("driver") {
            wanted.insert("Driver".to_owned(), json!(driver.filled()?));
        }
        if let Some(options) = item.get("options") {
            wanted.insert("Options".to_owned(), object(options.filled_pairs()?));
        }
        request(draft, Value::Object(wanted));
    }
    Ok(())
}

fn request(draft: &mut Draft<'_>, wanted: Value) {
    let requests = draft.host.entry("DeviceRequests").or_insert_with(|| json!([]));
    if let Some(requests) = requests.as_array_mut() {
        requests.push(wanted);
    }
}

fn placement(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    field.keys(&["constraints", "max_replicas_per_node", "preferences"])?;
    if let Some(constraints) = field.get("constraints") {
        for item in constraints.items()? {
            constraint(draft, &item)?;
        }
    }
    if let Some(most) = field.get("max_replicas_per_node") {
        if most.count(MAX_SCALE)? == 1 {
            let entry = format!("affinity:service!={}", draft.name);
            draft.env.insert(entry.clone(), entry);
        } else {
            draft.note(&most, "has no effect here except for 1");
        }
    }
    draft.note_keys(field, &["preferences"]);
    Ok(())
}

/// A constraint of Docker's swarm mode as a scheduling expression.
fn constraint(draft: &mut Draft<'_>, item: &Field<'_>) -> Result<()> {
    let text = item.filled()?;
    let parts = ["==", "!="].iter().find_map(|operator| {
        let (key, value) = text.split_once(operator)?;
        Some((key.trim(), *operator, value.trim()))
    });
    let (key, operator, value) = parts.ok_or_else(|| item.wrong(format!("`{text}` has neither `==` nor `!=`")))?;
    let label = key.strip_prefix("node.labels.").or_else(|| key.strip_prefix("engine.labels."));
    let key = match (key, label) {
        (_, Some(label)) => label,
        ("node.hostname" | "node.id", _) => "node",
        ("node.role", _) if (operator == "==") == (value == "worker") => {
            draft.note(item, "every node is a worker");
            return Ok(());
        }
        ("node.role", _) => {
            return Err(item.wrong("the manager of the cluster runs no containers; take the constraint out"));
        }
        ("node.platform.os", _) if (operator == "==") == value.eq_ignore_ascii_case("linux") => {
            draft.note(item, "every node runs Linux");
            return Ok(());
        }
        _ => {
            let known = "node.labels.NAME, engine.labels.NAME, node.hostname, node.id, node.role";
            return Err(item.wrong(format!("`{key}` is not known here; known: {known}")));
        }
    };
    let entry = format!("constraint:{key}{operator}{value}");
    expressions::check(&entry).map_err(|why| item.wrong(why))?;
    draft.env.insert(entry.clone(), entry);
    Ok(())
}
