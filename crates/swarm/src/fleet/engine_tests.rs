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
    addresses::Tries,
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

/// An engine with a running container that is in an overlay and in a network of the engine's own.
fn with_container(overlay_address_given: bool) -> Answers {
    let state = Mutex::new((true, overlay_address_given));
    answers(move |method, path, _| {
        let (running, given) = *state.lock().unwrap();
        match (method.as_str(), path) {
            ("GET", "/containers/c1/json") => {
                let status = if running { "running" } else { "exited" };
                let asked = given.then(|| json!({"IPv4Address": "172.18.0.9"}));
                let address = if given { "172.18.0.9" } else { "172.18.0.2" };
                let networks = json!({
                    "multi-host-network": {"NetworkID": "overlay1", "IPAddress": address, "IPAMConfig": asked},
                    "own": {"NetworkID": "local1", "IPAddress": "10.9.0.2", "IPAMConfig": null},
                });
                let seen = json!({"Id": "c1", "Name": "/web", "State": {"Status": status}, "NetworkSettings": {"Networks": networks}});
                (StatusCode::OK, seen)
            }
            ("GET", "/networks/overlay1" | "/networks/multi-host-network") => {
                (StatusCode::OK, json!({"Scope": "swarm", "Containers": {"x": {}}}))
            }
            ("GET", "/networks/local1" | "/networks/own") => (StatusCode::OK, json!({"Scope": "local"})),
            ("POST", "/containers/c1/stop?t=10") => {
                state.lock().unwrap().0 = false;
                (StatusCode::NO_CONTENT, Value::Null)
            }
            ("POST", "/containers/c1/start") => {
                *state.lock().unwrap() = (true, true);
                (StatusCode::NO_CONTENT, Value::Null)
            }
            _ => missing("thing"),
        }
    })
}

#[tokio::test]
async fn who_took_an_address_by_itself_is_restarted() {
    for given in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::default();
        let fleet = fleet(dir.path(), &log, vec![with_container(given)]).await;
        let member = fleet.member("n1").unwrap();
        fleet.refresh(&member, "c1").await;
        let mut tries = Tries::new();
        fleet.addresses_round(&mut tries).await;
        let restart = ["n1 POST /containers/c1/stop?t=10", "n1 POST /containers/c1/start"];
        let expected = if given { [].as_slice() } else { &restart };
        assert_eq!(log.changes(), expected);
        fleet.addresses_round(&mut tries).await;
        assert_eq!(log.changes(), expected, "once is enough, and the engine's own networks are its own business");
    }
}
