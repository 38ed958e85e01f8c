//! What an engine does not take in one call when it creates a container: several networks, and images' files that a bucket
//! would have to hold.

use http::Method;
use serde_json::{Map, Value, json};

use super::{Member, create::CREATE_TIMEOUT, observe::text};
use crate::model::Refusal;

/// Driver whose volumes are buckets: the engine cannot give files modes and owners there.
const BUCKET_DRIVER: &str = "ossfs";

/// Takes all endpoints but the first out of a definition: an engine creates with one, and is told of the others after.
pub(super) fn further_endpoints(body: &mut Value) -> Map<String, Value> {
    let first = text(body, "/HostConfig/NetworkMode").to_owned();
    let Some(endpoints) = body.pointer_mut("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object_mut) else {
        return Map::new();
    };
    if endpoints.len() < 2 {
        return Map::new();
    }
    let first = if endpoints.contains_key(&first) { Some(first) } else { endpoints.keys().next().cloned() };
    let kept = first.and_then(|first| endpoints.remove_entry(&first));
    std::mem::replace(endpoints, kept.into_iter().collect())
}

/// Connects a container that was just created to further networks; removes it when that cannot be.
pub(super) async fn connect(member: &Member, id: &str, endpoints: &Map<String, Value>) -> Result<(), Refusal> {
    for (network, endpoint) in endpoints {
        let body = json!({ "Container": id, "EndpointConfig": endpoint });
        let path = format!("/networks/{network}/connect");
        if let Err(refusal) = member.client.call_within(Method::POST, &path, Some(&body), CREATE_TIMEOUT).await {
            if let Err(error) = member.client.delete(&format!("/containers/{id}?force=1&v=1")).await {
                tracing::warn!(container = id, error = error.message, "a container without all its networks stays");
            }
            return Err(Refusal::new(refusal.status, format!("network {network}: {}", refusal.message)));
        }
    }
    Ok(())
}

/// Keeps the engine from copying the image's files into buckets.
pub(super) fn spare_buckets(body: &mut Value, definition_of: impl Fn(&str) -> Option<Value>) {
    let is_bucket = |name: &str| {
        definition_of(name).is_some_and(|definition| {
            let driver = definition.get("Driver").or_else(|| definition.get("driver"));
            driver.and_then(Value::as_str) == Some(BUCKET_DRIVER)
        })
    };
    let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) else { return };
    for bind in host.get_mut("Binds").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(written) = bind.as_str() else { continue };
        let mut parts = written.splitn(3, ':');
        let (Some(name), Some(target), modes) = (parts.next(), parts.next(), parts.next()) else { continue };
        if is_bucket(name) && !modes.unwrap_or_default().split(',').any(|mode| mode == "nocopy") {
            let modes = modes.map_or_else(|| "nocopy".to_owned(), |modes| format!("{modes},nocopy"));
            *bind = Value::String(format!("{name}:{target}:{modes}"));
        }
    }
    for mount in host.get_mut("Mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        if mount["Type"] == "volume" && is_bucket(text(mount, "/Source")) {
            mount["VolumeOptions"]["NoCopy"] = Value::Bool(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_of_the_mode_comes_first() {
        let mut body = json!({"HostConfig": {"NetworkMode": "b"}, "NetworkingConfig": {"EndpointsConfig": {"a": {"Aliases": ["x"]}, "b": {}, "c": {}}}});
        let further = further_endpoints(&mut body);
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"], json!({"b": {}}));
        assert_eq!(further.keys().collect::<Vec<_>>(), ["a", "c"]);
        let mut one = json!({"HostConfig": {"NetworkMode": "b"}, "NetworkingConfig": {"EndpointsConfig": {"b": {}}}});
        assert!(further_endpoints(&mut one).is_empty());
        assert!(further_endpoints(&mut json!({})).is_empty());
    }

    #[test]
    fn only_buckets_are_spared() {
        let of = |name: &str| (name == "oss").then(|| json!({"driver": "ossfs"}));
        let mut body = json!({"HostConfig": {
            "Binds": ["oss:/a", "oss:/b:ro", "oss:/c:nocopy", "data:/d", "/host:/e"],
            "Mounts": [{"Type": "volume", "Source": "oss"}, {"Type": "volume", "Source": "data"}, {"Type": "bind", "Source": "/x"}],
        }});
        spare_buckets(&mut body, of);
        assert_eq!(
            body["HostConfig"]["Binds"],
            json!(["oss:/a:nocopy", "oss:/b:ro,nocopy", "oss:/c:nocopy", "data:/d", "/host:/e"])
        );
        assert_eq!(body["HostConfig"]["Mounts"][0]["VolumeOptions"]["NoCopy"], true);
        assert!(body["HostConfig"]["Mounts"][1].get("VolumeOptions").is_none());
    }
}
