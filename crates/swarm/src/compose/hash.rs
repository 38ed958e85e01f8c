//! Whether a container is what its definition says now.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::template::Service;

/// Labels by which the master acts without touching containers; another value of them makes no container out of date.
const WITHOUT_CONTAINERS: [&str; 5] =
    ["aliyun.scale", "aliyun.depends", "aliyun.latest_image", "aliyun.rolling_updates", "aliyun.auto_scaling"];

/// A hash of everything that the service's containers are made from: 64 hexadecimal digits, the same for the same
/// definition in any order of its keys and in any spelling of the format. How many containers there are, the order of starts
/// and how updates roll do not count.
pub fn definition_hash(service: &Service) -> String {
    let mut container = service.container.clone();
    if let Some(Value::Object(labels)) = container.get_mut("Labels") {
        labels.retain(|key, _| !is_kept_without(key));
        if labels.is_empty() {
            container["Labels"] = Value::Null;
        }
    }
    let made_from = json!({
        "container": container,
        "container_name": service.container_name,
        "volumes": service.volumes,
        "volumes_from": service.volumes_from,
        "networks": service.networks,
        "network_of": service.network_of,
        "pid_of": service.pid_of,
        "ipc_of": service.ipc_of,
        "links": service.links,
        "external_links": service.external_links,
    });
    let digest = Sha256::digest(sorted(made_from).to_string().as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

fn is_kept_without(label: &str) -> bool {
    let is = |name: &str| label.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    WITHOUT_CONTAINERS.iter().any(|name| is(name))
}

/// The same value without nulls and with the keys of all maps in order, whichever way maps are kept.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.retain(|(_, value)| !value.is_null());
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
