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
    addresses::Memory,
    cache::Membership,
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

fn state_of(dir: &Path) -> Kept {
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
    assert_eq!(state_of(dir.path()).removed_volumes(), waiting, "it is on disk");
    assert_eq!(there.lock().unwrap().len(), 3);

    set_reachable(&fleet, "n2", true);
    assert!(fleet.volumes_round().await);
    assert_eq!(there.lock().unwrap().iter().collect::<Vec<_>>(), ["again", "stays"]);
    assert!(state_of(dir.path()).removed_volumes().is_empty());
}

/// An engine with a running container in an overlay, where it took an address by itself, and in a network of the engine's own.
#[derive(Default)]
struct Taken {
    /// How often the container was put back into the overlay.
    connected: u32,
    out: bool,
    /// So often that fails.
    refusals: u32,
    /// So often the engine takes an address by itself once more.
    taken: u32,
}

impl Taken {
    fn engine(state: Arc<Mutex<Self>>) -> Answers {
        answers(move |method, path, body| {
            let mut state = state.lock().unwrap();
            match (method.as_str(), path) {
                ("GET", "/containers/c1/json") => (StatusCode::OK, state.inspect()),
                ("GET", "/networks/overlay1") => (StatusCode::OK, json!({"Scope": "swarm"})),
                ("GET", "/networks/local1") => (StatusCode::OK, json!({"Scope": "local"})),
                ("POST", "/networks/multi-host-network/disconnect") if !state.out => {
                    state.out = true;
                    (StatusCode::OK, Value::Null)
                }
                ("POST", "/networks/multi-host-network/connect") if state.refusals == 0 => {
                    assert_eq!(body["EndpointConfig"]["Aliases"], json!(["web"]), "by the names that it had");
                    (state.out, state.connected) = (false, state.connected + 1);
                    (StatusCode::OK, Value::Null)
                }
                ("POST", "/networks/multi-host-network/connect") => {
                    state.refusals -= 1;
                    (StatusCode::INTERNAL_SERVER_ERROR, json!({"message": "attaching to network failed"}))
                }
                _ => missing("thing"),
            }
        })
    }

    fn inspect(&self) -> Value {
        let given = self.connected > self.taken;
        let address = if given { "172.18.0.9" } else { "172.18.0.2" };
        let asked = given.then(|| json!({"IPv4Address": address}));
        let mut networks = json!({"own": {"NetworkID": "local1", "IPAddress": "10.9.0.2", "IPAMConfig": null}});
        if !self.out {
            networks["multi-host-network"] =
                json!({"NetworkID": "overlay1", "IPAddress": address, "IPAMConfig": asked, "Aliases": ["web"]});
        }
        json!({"Id": "c1", "Name": "/web", "State": {"Status": "running"}, "NetworkSettings": {"Networks": networks}})
    }
}

const OUT: &str = "n1 POST /networks/multi-host-network/disconnect";
const IN: &str = "n1 POST /networks/multi-host-network/connect";

#[tokio::test]
async fn who_took_an_address_by_itself_gets_another() {
    let dir = tempfile::tempdir().unwrap();
    let (log, state) = (Log::default(), Arc::<Mutex<Taken>>::default());
    let fleet = fleet(dir.path(), &log, vec![Taken::engine(state.clone())]).await;
    fleet.refresh(&fleet.member("n1").unwrap(), "c1").await;
    fleet.addresses_round(&mut Memory::default()).await;
    assert_eq!(log.changes(), [OUT, IN]);
    fleet.addresses_round(&mut Memory::default()).await;
    assert_eq!(log.changes(), [OUT, IN], "and the engine's own networks are its own business");
    // It happens again at once, and again: it is left alone for a while each time.
    state.lock().unwrap().taken = 3;
    fleet.refresh(&fleet.member("n1").unwrap(), "c1").await;
    let mut memory = Memory::default();
    for _ in 0..3 {
        fleet.addresses_round(&mut memory).await;
    }
    assert_eq!(log.changes(), [OUT, IN, OUT, IN]);
}

#[tokio::test]
async fn who_was_taken_out_of_an_overlay_is_put_back_even_by_the_next_master() {
    let dir = tempfile::tempdir().unwrap();
    let (log, state) = (Log::default(), Arc::<Mutex<Taken>>::default());
    state.lock().unwrap().refusals = 1;
    let begun = fleet(dir.path(), &log, vec![Taken::engine(state.clone())]).await;
    begun.refresh(&begun.member("n1").unwrap(), "c1").await;
    begun.addresses_round(&mut Memory::default()).await;
    assert_eq!(log.changes(), [OUT, IN]);
    assert!(state.lock().unwrap().out && state_of(dir.path()).reconnecting().contains_key("c1"), "it is on disk");
    std::fs::remove_file(dir.path().join("n1")).unwrap();
    let next = fleet(dir.path(), &log, vec![Taken::engine(state.clone())]).await;
    next.refresh(&next.member("n1").unwrap(), "c1").await;
    next.addresses_round(&mut Memory::default()).await;
    assert_eq!(log.changes(), [OUT, IN, IN]);
    assert!(!state.lock().unwrap().out && state_of(dir.path()).reconnecting().is_empty());
}

#[tokio::test]
async fn only_who_is_nobody_is_forgotten_by_the_manager() {
    let dir = tempfile::tempdir().unwrap();
    let (_, one) = with_volumes(&[]);
    let fleet = fleet(dir.path(), &Log::default(), vec![one]).await;
    let (here, there) = ("10.0.0.1", "10.0.0.7");
    // A master that has just begun does not know yet which member the node is.
    assert!(fleet.is_expected("a", "down", here) && !fleet.is_expected("a", "ready", there));
    fleet.member("n1").unwrap().cache().set_info(json!({"Swarm": {"NodeID": "a"}}));
    assert!(fleet.is_expected("a", "down", here) && fleet.is_expected("b", "ready", here));
    assert!(!fleet.is_expected("b", "down", here), "what the node was before");
    set_reachable(&fleet, "n1", false);
    assert!(fleet.is_expected("b", "down", here));
    fleet.member("n1").unwrap().cache().set_membership(Membership::Left);
    set_reachable(&fleet, "n1", true);
    assert!(!fleet.is_expected("a", "down", here));
}
