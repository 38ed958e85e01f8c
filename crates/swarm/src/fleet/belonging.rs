//! Labels that say what a container is to its cluster: whose it is, how it is placed, whether it is hidden.
//!
//! Images have labels too, and containers get them. An image that was committed from an application's container, or brought
//! from another cluster, would make every container of it one of that application's. Engines cannot be told to leave labels of
//! images out; but what a request says goes before what an image says, and for these labels an empty value is none.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Map, Value};

use super::Member;
use crate::model::{Refusal, labels};

/// Beginnings of labels that are this cluster's.
const PREFIXES: [&str; 2] = ["io.sampan.", "com.docker.swarm."];
/// Further ones; those of docker-compose are how applications and compose itself know their containers.
const NAMES: [&str; 8] = [
    labels::PROJECT,
    labels::SERVICE,
    labels::NUMBER,
    labels::VERSION,
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.compose.container-number",
    "com.docker.compose.oneoff",
];

fn says_whose(label: &str) -> bool {
    NAMES.contains(&label) || PREFIXES.iter().any(|prefix| label.starts_with(prefix))
}

/// Labels without those that are empty to say that an image's do not count.
pub(super) fn without_disowned(mut all: BTreeMap<String, String>) -> BTreeMap<String, String> {
    all.retain(|label, value| !value.is_empty() || !says_whose(label));
    all
}

/// Empties in `body` (of a creation) what the image says of belonging and the request does not.
pub(super) fn disown(body: &mut Value, of_image: &Map<String, Value>) {
    let foreign: Vec<&String> =
        of_image.iter().filter(|(label, value)| says_whose(label) && **value != "").map(|(label, _)| label).collect();
    if foreign.is_empty() {
        return;
    }
    if !body["Labels"].is_object() {
        body["Labels"] = Value::Object(Map::new());
    }
    for label in foreign {
        if body["Labels"].get(label).is_none() {
            body["Labels"][label.as_str()] = Value::String(String::new());
        }
    }
}

/// The labels of an image on a node; none if there is no such image, which the creation will say.
pub(super) async fn labels_of(member: &Member, image: &str) -> Result<Map<String, Value>, Refusal> {
    match member.client.get(&format!("/images/{image}/json")).await {
        Ok(seen) => Ok(seen.pointer("/Config/Labels").and_then(Value::as_object).cloned().unwrap_or_default()),
        Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(Map::new()),
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_request_says_counts() {
        let image = json!({"io.sampan.application": "uid", "aliyun.project.id": "shop", "maintainer": "x", "io.sampan.system": "door", "com.docker.swarm.id": "old"});
        let mut body = json!({"Image": "x", "Labels": {"aliyun.project.id": "mine", "com.docker.swarm.id": "new"}});
        disown(&mut body, image.as_object().unwrap());
        let expected = json!({"aliyun.project.id": "mine", "com.docker.swarm.id": "new", "io.sampan.application": "", "io.sampan.system": ""});
        assert_eq!(body["Labels"], expected);
        let mut bare = json!({"Labels": null});
        disown(&mut bare, json!({"maintainer": "x"}).as_object().unwrap());
        assert_eq!(bare["Labels"], Value::Null);
        disown(&mut bare, image.as_object().unwrap());
        assert_eq!(bare["Labels"]["aliyun.project.id"], "");
        let seen = BTreeMap::from(
            [("io.sampan.application", ""), ("empty", ""), ("aliyun.project.id", "mine")]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        assert_eq!(without_disowned(seen).into_keys().collect::<Vec<_>>(), ["aliyun.project.id", "empty"]);
    }
}
