//! From requests to engines' bodies, from inspections to nouns, streams of messages, connections.
#![allow(clippy::unwrap_used)]

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::{
    client::{Client, Target, json_request},
    hide_superseded, images,
    kept::Kept,
    observe, prepare, reschedule, usage, wire,
};
use crate::model::{CLUSTER_NETWORK, ContainerState, Image, Refusal, View, labels};

fn inspection(id: &str, name: &str) -> Value {
    json!({
        "Id": id, "Name": format!("/{name}"), "Created": "2026-01-01T00:00:00.5Z", "Image": "sha256:aa",
        "Path": "sh", "Args": ["-c", "sleep 1"],
        "State": {"Status": "running", "Running": true, "ExitCode": 0, "StartedAt": "2026-01-01T00:00:01Z",
            "FinishedAt": "0001-01-01T00:00:00Z", "Health": {"Status": "healthy"}},
        "Config": {"Image": "web:1", "Env": ["A=b"], "Labels": {"x": "y", "com.docker.swarm.id": "same"},
            "Hostname": id.get(..12), "ExposedPorts": {"80/tcp": {}}},
        "HostConfig": {"NetworkMode": CLUSTER_NETWORK, "Memory": 1024, "NanoCpus": 500_000_000,
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/udp": null},
            "Networks": {"multi-host-network": {"IPAddress": "172.18.0.7", "NetworkID": "n1", "Links": ["shop_db:db"],
                "IPAMConfig": {"IPv4Address": "172.18.0.7"}, "Aliases": ["shop_web", id.get(..12)]}}},
        "Mounts": [{"Type": "volume", "Name": "data"}, {"Type": "bind", "Source": "/x"}],
    })
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn container(id: &str, name: &str) -> crate::model::Container {
    observe::container("n1", Arc::new(inspection(id, name))).unwrap()
}

fn view_of(containers: Vec<crate::model::Container>) -> View {
    View { containers: containers.into_iter().map(Arc::new).collect(), ..View::default() }
}

#[test]
fn an_inspection_becomes_a_container() {
    let seen = container(ID, "shop_web_1");
    assert_eq!(
        (seen.name.as_str(), seen.state, seen.health.as_deref()),
        ("shop_web_1", ContainerState::Running, Some("healthy"))
    );
    assert_eq!(seen.overlay_ip(), Some(Ipv4Addr::new(172, 18, 0, 7)));
    assert_eq!(seen.host_ports, [("tcp".to_owned(), String::new(), 8080)].into());
    assert_eq!(seen.exposed_ports, [("tcp".to_owned(), 80)].into());
    assert_eq!((seen.memory, seen.nano_cpus), (1024, 500_000_000));
    assert_eq!(seen.volumes, ["data".to_owned()].into());
    assert!(observe::container("n1", Arc::new(json!({}))).is_none());
}

#[test]
fn expressions_leave_the_environment_and_stay_in_labels() {
    let body = json!({"Image": "web", "Env": ["A=b", "constraint:zone==a", "affinity:container!=x", "reschedule:on-node-failure"],
        "Labels": {labels::CONSTRAINTS: "[\"region==r\"]"}});
    let plan = prepare::plan(&View::default(), body, None).unwrap();
    assert_eq!(plan.body["Env"], json!(["A=b"]));
    assert_eq!(plan.body["Labels"][labels::CONSTRAINTS], json!(r#"["region==r","zone==a"]"#));
    assert_eq!(plan.body["Labels"][labels::RESCHEDULE], json!(r#"["on-node-failure"]"#));
    assert!(plan.request.expressions.reschedule);
    assert_eq!(plan.request.expressions.constraints.len(), 2);
    assert!(prepare::plan(&View::default(), json!({"Env": ["constraint:nonsense"]}), None).is_err());
    assert!(prepare::plan(&View::default(), json!({"Env": ["reschedule:sometimes"]}), None).is_err());
    assert!(prepare::plan(&View::default(), Value::Null, None).is_err());
    assert!(prepare::plan(&View::default(), json!({"HostConfig": 3}), None).is_err());
}

#[test]
fn the_default_network_is_the_overlay() {
    let view = view_of(vec![container(ID, "db")]);
    for mode in ["", "default", "bridge"] {
        let body = json!({"Image": "web", "HostConfig": {"NetworkMode": mode, "Links": ["db:mysql", "/db:/web/other"]},
            "NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["a"]}}}});
        let plan = prepare::plan(&view, body, None).unwrap();
        assert_eq!(plan.body["HostConfig"]["NetworkMode"], CLUSTER_NETWORK);
        let endpoint = &plan.body["NetworkingConfig"]["EndpointsConfig"][CLUSTER_NETWORK];
        assert_eq!(endpoint["Aliases"], json!(["a"]));
        assert_eq!(endpoint["Links"], json!(["db:mysql", "db:other"]));
        assert_eq!(plan.body["HostConfig"].get("Links"), None);
        assert_eq!(plan.request.dependencies.len(), 2);
    }
    for mode in ["host", "none", "mynet"] {
        let plan = prepare::plan(&view, json!({"Image": "web", "HostConfig": {"NetworkMode": mode}}), None).unwrap();
        assert_eq!(plan.body["HostConfig"]["NetworkMode"], mode);
    }
    let shared = json!({"Image": "web", "HostConfig": {"NetworkMode": "container:db", "VolumesFrom": ["db:ro"]}});
    let plan = prepare::plan(&view, shared, None).unwrap();
    assert_eq!(plan.body["HostConfig"]["NetworkMode"], format!("container:{ID}"));
    assert_eq!(plan.body["HostConfig"]["VolumesFrom"], json!([format!("{ID}:ro")]));
    let missing = json!({"Image": "web", "HostConfig": {"NetworkMode": "container:nobody"}});
    assert_eq!(prepare::plan(&view, missing, None).unwrap_err().status, StatusCode::NOT_FOUND);
}

#[test]
fn small_cpu_shares_are_processors() {
    let plan =
        |shares: u64| prepare::plan(&View::default(), json!({"HostConfig": {"CpuShares": shares}}), None).unwrap();
    assert_eq!(plan(2).request.nano_cpus, 2_000_000_000);
    assert_eq!(plan(2).body_for(4)["HostConfig"]["CpuShares"], 512);
    assert_eq!(plan(512).request.nano_cpus, 0);
    assert_eq!(plan(512).body_for(4)["HostConfig"]["CpuShares"], 512);
}

#[test]
fn a_container_is_made_anew_as_it_was() {
    let body = reschedule::body_of(&container(ID, "shop_web_1"));
    assert_eq!(body["Hostname"], Value::Null, "the invented host name was the old container's id");
    assert_eq!(body["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
    let endpoint = &body["NetworkingConfig"]["EndpointsConfig"][CLUSTER_NETWORK];
    assert_eq!(endpoint["Aliases"], json!(["shop_web"]));
    assert_eq!(endpoint["Links"], json!(["shop_db:db"]));
    assert_eq!(endpoint.get("IPAMConfig"), None, "its address is the network's to choose anew");
}

#[test]
fn of_two_with_one_identity_the_newer_is_shown() {
    let old = container(ID, "web");
    let mut new = container(&ID.replace('0', "f"), "web");
    new.node = "n2".to_owned();
    new.created = "2026-01-02T00:00:00Z".parse().unwrap();
    let mut view = view_of(vec![old, new.clone()]);
    hide_superseded(&mut view);
    assert_eq!(view.containers.len(), 1);
    assert_eq!(view.containers[0].id, new.id);
}

#[test]
fn containers_are_found_by_name_node_and_prefix() {
    let mut view = view_of(vec![container(ID, "web"), container(&format!("0123{}", &ID[4..].replace('4', "f")), "db")]);
    view.nodes.push(Arc::new(super::cache::Cache::default().node(&sampan_agents::master::MasterNode {
        id: "i-1".to_owned(),
        name: "n1".to_owned(),
        ip: Ipv4Addr::LOCALHOST,
        index: 1,
        leaving: false,
        labels: [].into(),
    })));
    for key in ["web", "/web", "n1/web", "/n1/web", "i-1/web", ID, "012345678"] {
        assert_eq!(
            view.find(key).map(|found| found.name.clone()).map_err(|error| error.message),
            Ok("web".to_owned()),
            "{key}"
        );
    }
    assert_eq!(view.find("0123").unwrap_err().status, StatusCode::BAD_REQUEST);
    for key in ["", "/", "nobody", "n2/web", "ffff"] {
        assert_eq!(view.find(key).unwrap_err().status, StatusCode::NOT_FOUND, "{key}");
    }
}

#[test]
fn images_are_found_by_every_name() {
    let images = [
        Image { id: "sha256:abcdef01".to_owned(), tags: vec!["busybox:latest".to_owned(), "h:5000/a/b:2".to_owned()] },
        Image { id: "sha256:99".to_owned(), tags: vec!["r@sha256:77".to_owned()] },
    ];
    for name in [
        "busybox",
        "busybox:latest",
        "docker.io/library/busybox",
        "library/busybox:latest",
        "h:5000/a/b:2",
        "abcdef",
        "sha256:abcdef01",
    ] {
        assert_eq!(images::find_image(&images, name).map(|image| image.id.as_str()), Some("sha256:abcdef01"), "{name}");
    }
    for name in ["busybox:1", "h:5000/a/b", "box", "", "fff0"] {
        assert_eq!(images::find_image(&images, name), None, "{name}");
    }
    assert!(images::find_image(&images, "r@sha256:77").is_some());
    assert_eq!(images::split_tag("h:5000/a"), ("h:5000/a", "latest"));
}

#[test]
fn statistics_become_usage() {
    let stats = json!({"read": "2026-01-01T00:00:02Z", "preread": "2026-01-01T00:00:01Z",
        "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000u64}}, "precpu_stats": {"cpu_usage": {"total_usage": 1_000_000_000u64}},
        "memory_stats": {"usage": 100, "limit": 1000, "stats": {"total_inactive_file": 40}},
        "networks": {"eth0": {"rx_bytes": 5, "tx_bytes": 6}, "eth1": {"rx_bytes": 1, "tx_bytes": 1}},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 7}, {"op": "write", "value": 8}]}});
    let measured = usage::usage(&stats).unwrap();
    assert!((measured.cpu_percent - 50.0).abs() < 0.001);
    assert_eq!((measured.memory, measured.memory_limit), (60, 1000));
    assert_eq!((measured.network, measured.block), ((6, 7), (7, 8)));
    assert_eq!(usage::usage(&json!({"read": "0001-01-01T00:00:00Z", "preread": "0001-01-01T00:00:00Z"})), None);
}

#[test]
fn what_is_kept_survives_and_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let kept = Kept::open(path);
    kept.put_volume("oss", &json!({"Name": "oss", "DriverOpts": {"ak_secret": "geheim"}})).unwrap();
    assert!(kept.put_volume("../oss", &json!({})).is_err());
    assert!(!format!("{kept:?}").contains("geheim"));
    let again = Kept::open(path);
    assert_eq!(again.volume_names(), ["oss"]);
    again.remove_volume("oss").unwrap();
    again.remove_volume("oss").unwrap();
    assert!(Kept::open(path).volume_names().is_empty());
    again.put_moving(&[json!({"Id": "x"})]).unwrap();
    assert_eq!(Kept::open(path).moving(), [json!({"Id": "x"})]);
    again.change_replaced(|replaced| drop(replaced.insert("c1".to_owned(), "n1".to_owned()))).unwrap();
    assert!(Kept::open(path).is_replaced("c1"));
}

#[tokio::test]
async fn messages_come_whole_however_they_are_cut() {
    let (sink, body) = wire::stream();
    tokio::spawn(async move {
        for piece in ["{\"a\":", "1}\r\n{\"a\"", ":2}", "\n\n{\"a\":3}"] {
            sink.send(piece.into()).await;
        }
    });
    let mut messages = wire::Messages::new(body);
    for number in 1..=3 {
        assert_eq!(messages.next().await.unwrap(), Some(json!({"a": number})));
    }
    assert_eq!(messages.next().await.unwrap(), None);
    let mut broken = wire::Messages::new(wire::full("{\"a\": nonsense}"));
    assert!(broken.next().await.is_err());
}

/// A small engine: counts connections, and closes each after `per_connection` answers.
async fn engine(path: PathBuf, per_connection: usize) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let answered = Arc::new(AtomicUsize::new(0));
            let service = service_fn(move |request: Request<Incoming>| {
                let last = answered.fetch_add(1, Ordering::SeqCst) + 1 == per_connection;
                async move {
                    let mut response = match request.uri().path() {
                        "/missing" => wire::refused(&Refusal::missing("No such thing: x")),
                        _ => wire::answer(StatusCode::OK, &json!({"path": request.uri().path()})),
                    };
                    if last {
                        response.headers_mut().insert("connection", "close".parse().unwrap());
                    }
                    Ok::<Response<wire::Body>, std::convert::Infallible>(response)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    connections
}

#[tokio::test]
async fn connections_are_kept_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine");
    let connections = engine(path.clone(), 3).await;
    let client = Client::new("n1", Target::Unix(path));
    for number in 0..6 {
        assert_eq!(client.get(&format!("/{number}")).await.unwrap()["path"], format!("/{number}"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2, "three answers over each connection");
    let refusal = client.get("/missing").await.unwrap_err();
    assert_eq!((refusal.status, refusal.message.as_str()), (StatusCode::NOT_FOUND, "No such thing: x"));
    client.delete("/missing").await.unwrap();
    assert!(json_request(Method::GET, "/a b", None).is_err());
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unavailable() {
    let client = Client::new("n1", Target::Unix("/nonexistent/engine".into()));
    let refusal = client.get("/_ping").await.unwrap_err();
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refusal.message.contains("the engine of n1 does not answer"), "{}", refusal.message);
}
