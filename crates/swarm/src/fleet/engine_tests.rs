//! The fleet before engines of the tests.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Fleet,
    kept::Kept,
    testing::{Answers, Log, answers, fleet, missing},
};

/// An engine that has volumes of a plug-in, and nothing else.
fn with_volumes(names: &[&str]) -> (Arc<Mutex<BTreeSet<String>>>, Answers) {
    let volumes: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    volumes.lock().unwrap().extend(names.iter().map(|name| (*name).to_owned()));
    let kept = volumes.clone();
    let engine = answers(move |method, path, body| {
        let mut volumes = kept.lock().unwrap();
        match (method.as_str(), path) {
            ("GET", "/volumes") => {
                let list: Vec<Value> = volumes.iter().map(|name| json!({"Name": name, "Driver": "ossfs"})).collect();
                (StatusCode::OK, json!({ "Volumes": list }))
            }
            ("POST", "/volumes/create") => {
                volumes.insert(body["Name"].as_str().unwrap().to_owned());
                (StatusCode::CREATED, body)
            }
            ("DELETE", path) if volumes.remove(path.trim_start_matches("/volumes/")) => {
                (StatusCode::NO_CONTENT, Value::Null)
            }
            _ => missing("volume"),
        }
    });
    (volumes, engine)
}

fn set_reachable(fleet: &Fleet, node: &str, reachable: bool) {
    let outcome = if reachable { Ok(()) } else { Err("it is down".to_owned()) };
    fleet.member(node).unwrap().cache().set_reachable(outcome);
    fleet.publish();
}

fn state(dir: &Path) -> Kept {
    Kept::open(dir.join("state").to_str().unwrap())
}

#[tokio::test]
async fn a_nodes_own_volume_is_not_removed_behind_its_back() {
    let dir = tempfile::tempdir().unwrap();
    let (_, one) = with_volumes(&[]);
    let (there, two) = with_volumes(&["data"]);
    let fleet = fleet(dir.path(), &Log::default(), vec![one, two]).await;
    fleet.member("n2").unwrap().refresh_volumes().await.unwrap();
    set_reachable(&fleet, "n2", false);
    let refused = fleet.delete_volume("data", None, false).await.unwrap_err();
    assert_eq!(refused.status, http::StatusCode::NOT_FOUND);
    set_reachable(&fleet, "n2", true);
    assert!(fleet.volumes_round().await);
    assert_eq!(there.lock().unwrap().len(), 1, "who was told that it is not there still has it");
}

#[tokio::test]
async fn a_volume_removed_while_a_node_is_away_goes_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (_, one) = with_volumes(&[]);
    let (there, two) = with_volumes(&[]);
    let fleet = fleet(dir.path(), &Log::default(), vec![one, two]).await;
    let body = |name: &str| json!({"Name": name, "Driver": "ossfs", "DriverOpts": {}});
    for name in ["gone", "again", "stays"] {
        fleet.create_volume(&body(name)).await.unwrap();
    }
    set_reachable(&fleet, "n2", false);
    fleet.delete_volume("gone", None, false).await.unwrap();
    fleet.delete_volume("again", None, false).await.unwrap();
    fleet.create_volume(&body("again")).await.unwrap();
    let waiting = [("n2".to_owned(), "gone".to_owned()), ("n2".to_owned(), "again".to_owned())];
    assert_eq!(state(dir.path()).removed_volumes(), waiting, "it is on disk");
    assert_eq!(there.lock().unwrap().len(), 3);

    set_reachable(&fleet, "n2", true);
    assert!(fleet.volumes_round().await);
    assert_eq!(there.lock().unwrap().iter().collect::<Vec<_>>(), ["again", "stays"]);
    assert!(state(dir.path()).removed_volumes().is_empty());
}
