//! The Docker API before engines of the tests.
#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1 as client, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::Docker;
use crate::fleet::{
    Fleet,
    testing::{Answers, Log, answers, fleet, missing},
    wire,
};

/// A connection to the API.
async fn connect(fleet: &Arc<Fleet>) -> client::SendRequest<Full<Bytes>> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let docker = Arc::new(Docker::new(fleet.clone()));
    let service = service_fn(move |request: Request<Incoming>| {
        let docker = docker.clone();
        async move {
            let answer = docker.answer(None, request).await.unwrap_or_else(|refusal| wire::refused(&refusal));
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades());
    let (sender, connection) = client::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: Method, path: &str, body: Value) -> Request<Full<Bytes>> {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    Request::builder().method(method).uri(path).header("host", "x").body(Full::from(body)).unwrap()
}

async fn ask(fleet: &Arc<Fleet>, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let response = connect(fleet).await.send_request(request(method, path, body)).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn container(id: &str, name: &str, volume: &str) -> Value {
    json!({
        "Id": id, "Name": format!("/{name}"), "Created": "2026-01-01T00:00:00Z", "Image": "sha256:aa",
        "State": {"Status": "running", "Running": true}, "Config": {"Image": "web:1", "Labels": {}},
        "HostConfig": {"NetworkMode": "multi-host-network"},
        "NetworkSettings": {"Networks": {"multi-host-network": {"NetworkID": "overlay1", "IPAddress": "172.18.0.5"}}},
        "Mounts": [{"Type": "volume", "Name": volume}],
    })
}

/// An engine with one container, which can be taken away.
fn with_container(there: &Arc<AtomicBool>, also: Answers) -> Answers {
    let there = there.clone();
    Arc::new(move |method, path, body| match (method.as_str(), path) {
        ("GET", "/containers/c1/json") => {
            let answer = match there.load(Ordering::SeqCst) {
                true => (StatusCode::OK, container("c1", "web", "data")),
                false => missing("container: c1"),
            };
            Box::pin(async move { answer })
        }
        ("GET", "/volumes") => {
            let volumes = json!({"Volumes": [{"Name": "data", "Driver": "local"}]});
            Box::pin(async move { (StatusCode::OK, volumes) })
        }
        _ => also(method, path, body),
    })
}

async fn look(fleet: &Arc<Fleet>, id: &str) {
    for member in fleet.members() {
        member.refresh(id).await.unwrap();
        member.refresh_volumes().await.unwrap();
    }
    fleet.publish();
}

#[tokio::test]
async fn a_volume_is_free_as_soon_as_its_last_container_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (log, there) = (Log::default(), Arc::new(AtomicBool::new(true)));
    let other = answers(|method, path, _| match (method.as_str(), path) {
        ("DELETE", "/volumes/data") => (StatusCode::NO_CONTENT, Value::Null),
        _ => missing("thing"),
    });
    let fleet = fleet(dir.path(), &log, vec![with_container(&there, other)]).await;
    look(&fleet, "c1").await;
    let (status, answer) = ask(&fleet, Method::DELETE, "/volumes/data", Value::Null).await;
    assert_eq!(
        (status, answer["message"].as_str()),
        (StatusCode::CONFLICT, Some("remove data: volume is in use by web"))
    );
    // Its container goes, and no event has told so yet.
    there.store(false, Ordering::SeqCst);
    assert_eq!(ask(&fleet, Method::DELETE, "/volumes/data", Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(log.changes(), ["n1 DELETE /volumes/data"]);
}

/// Waits until a line is in the log.
async fn noted(log: &Log, wanted: &str) {
    while !log.lines().iter().any(|line| line.contains(wanted)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_rename_is_finished_though_its_client_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (log, there) = (Log::default(), Arc::new(AtomicBool::new(true)));
    let (held, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (hold, free) = (held.clone(), release.clone());
    let other: Answers = Arc::new(move |_, path, _| {
        let (path, hold, free) = (path.to_owned(), hold.clone(), free.clone());
        Box::pin(async move {
            if path.ends_with("/disconnect") {
                hold.notify_one();
                free.notified().await;
            }
            (StatusCode::OK, json!({"Scope": "swarm"}))
        })
    });
    let fleet = fleet(dir.path(), &log, vec![with_container(&there, other)]).await;
    look(&fleet, "c1").await;
    let mut client = connect(&fleet).await;
    let asked = tokio::spawn(async move {
        client.send_request(request(Method::POST, "/containers/web/rename?name=shop", Value::Null)).await
    });
    held.notified().await;
    asked.abort();
    assert!(asked.await.is_err());
    // The server notices and forgets what it was doing for the connection.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    release.notify_one();
    noted(&log, "/connect").await;
    let changes = [
        "n1 POST /networks/multi-host-network/disconnect",
        "n1 POST /containers/c1/rename?name=shop",
        "n1 POST /networks/multi-host-network/connect",
    ];
    assert_eq!(log.changes(), changes);
}

#[test]
fn what_flows_ends_with_its_client() {
    let finished = |method: Method, path: &str| super::finish::is_to_be_finished(&method, path);
    for path in [
        "/containers/create",
        "/containers/n1/web/restart",
        "/containers/attach/rename",
        "/containers/web/exec",
        "/images/a/b/tag",
        "/build/prune",
        "/commit",
        "/networks/x/connect",
        "/volumes/create",
    ] {
        assert!(finished(Method::POST, path), "{path}");
    }
    for path in ["/containers/attach", "/images/a/b", "/networks/x", "/volumes/n1/x"] {
        assert!(finished(Method::DELETE, path), "{path}");
    }
    for path in [
        "/containers/web/attach",
        "/containers/web/attach/ws",
        "/containers/web/wait",
        "/exec/e1/start",
        "/images/create",
        "/images/load",
        "/images/h:5000/a/push",
        "/build",
        "/auth",
    ] {
        assert!(!finished(Method::POST, path), "{path}");
    }
    assert!(!finished(Method::GET, "/containers/json") && !finished(Method::PUT, "/containers/web/archive"));
}

#[tokio::test]
async fn a_network_is_free_as_soon_as_its_last_container_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (log, there) = (Log::default(), Arc::new(AtomicBool::new(true)));
    let mine = json!({"Name": "mine", "Id": "overlay1", "Scope": "swarm"});
    let other = answers(move |method, path, _| match (method.as_str(), path) {
        ("GET", "/networks") => (StatusCode::OK, json!([mine])),
        ("GET", "/networks/overlay1") => (StatusCode::OK, mine.clone()),
        ("DELETE", "/networks/overlay1") => (StatusCode::NO_CONTENT, Value::Null),
        _ => missing("thing"),
    });
    let fleet = fleet(dir.path(), &log, vec![with_container(&there, other)]).await;
    look(&fleet, "c1").await;
    assert_eq!(ask(&fleet, Method::DELETE, "/networks/mine", Value::Null).await.0, StatusCode::FORBIDDEN);
    there.store(false, Ordering::SeqCst);
    assert_eq!(ask(&fleet, Method::DELETE, "/networks/mine", Value::Null).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn containers_of_a_committed_image_are_nobodys() {
    let dir = tempfile::tempdir().unwrap();
    let made: Arc<std::sync::Mutex<Value>> = Arc::default();
    let kept = made.clone();
    let engine = answers(move |method, path, body| match (method.as_str(), path.split('?').next().unwrap()) {
        ("GET", "/images/snapshot/json") => {
            let labels = json!({"io.sampan.application": "uid", "aliyun.project.id": "shop", "colour": "blue"});
            (StatusCode::OK, json!({"Id": "sha256:aa", "Config": {"Labels": labels}}))
        }
        ("POST", "/containers/create") => {
            *kept.lock().unwrap() = body;
            (StatusCode::CREATED, json!({"Id": "c1"}))
        }
        ("GET", "/containers/c1/json") => {
            // As engines do: what the request does not say is the image's.
            let mut labels = json!({"io.sampan.application": "uid", "aliyun.project.id": "shop", "colour": "blue"});
            for (key, value) in kept.lock().unwrap()["Labels"].as_object().unwrap() {
                labels[key] = value.clone();
            }
            let mut seen = container("c1", "web", "data");
            seen["Config"]["Labels"] = labels;
            (StatusCode::OK, seen)
        }
        _ => missing("thing"),
    });
    let fleet = fleet(dir.path(), &Log::default(), vec![engine]).await;
    let (status, answer) = ask(&fleet, Method::POST, "/containers/create?name=web", json!({"Image": "snapshot"})).await;
    assert_eq!((status, &answer["Id"]), (StatusCode::CREATED, &json!("c1")));
    let labels = fleet.current().find("c1").unwrap().labels.clone();
    assert_eq!(labels.get("colour").map(String::as_str), Some("blue"));
    assert!(!labels.contains_key("io.sampan.application") && !labels.contains_key("aliyun.project.id"), "{labels:?}");
    // What a request says itself is the user's own decision.
    assert!(made.lock().unwrap()["Labels"].get("colour").is_none());
}

/// An engine with an image `web:1`; a pull brings it `pulled`, or fails.
fn with_image(id: &str, pulled: Option<&'static str>) -> Answers {
    let image = std::sync::Mutex::new(id.to_owned());
    answers(move |method, path, _| {
        let mut image = image.lock().unwrap();
        match (method.as_str(), path.split('?').next().unwrap()) {
            ("GET", "/images/json") => (StatusCode::OK, json!([{"Id": *image, "RepoTags": ["web:1"]}])),
            ("GET", "/images/web:1/json") => (StatusCode::OK, json!({"Id": *image})),
            ("GET", "/images/web:1/get") => (StatusCode::OK, json!({"archive": true})),
            ("POST", "/images/create") => match pulled {
                Some(id) => {
                    *image = id.to_owned();
                    (StatusCode::OK, json!({"status": "Downloaded newer image", "id": "web"}))
                }
                None => (StatusCode::OK, json!({"error": "no route to the registry"})),
            },
            ("POST", "/images/load") => {
                *image = "sha256:bb".to_owned();
                (StatusCode::OK, json!({"stream": "Loaded image: web:1\n"}))
            }
            ("POST", "/containers/create") => (StatusCode::CREATED, json!({"Id": "c1"})),
            ("GET", "/containers/c1/json") => (StatusCode::OK, container("c1", "web", "data")),
            _ => missing("thing"),
        }
    })
}

#[tokio::test]
async fn a_node_where_a_pull_failed_gets_the_image_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::default();
    let engines = vec![with_image("sha256:aa", Some("sha256:bb")), with_image("sha256:aa", None)];
    let fleet = fleet(dir.path(), &log, engines).await;
    for member in fleet.members() {
        member.refresh_images().await.unwrap();
    }
    fleet.publish();
    let pull = request(Method::POST, "/images/create?fromImage=web&tag=1", Value::Null);
    let response = connect(&fleet).await.send_request(pull).await.unwrap();
    let told = response.into_body().collect().await.unwrap().to_bytes();
    let told = String::from_utf8(told.to_vec()).unwrap();
    assert!(told.contains(r#""error":"n2: no route to the registry""#), "{told}");

    let body = json!({"Image": "web:1", "Env": ["constraint:node==n2"]});
    let (status, answer) = ask(&fleet, Method::POST, "/containers/create?name=web", body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let changes = log.changes();
    let load = changes.iter().position(|line| line.starts_with("n2 POST /images/load")).unwrap();
    let create = changes.iter().position(|line| line.starts_with("n2 POST /containers/create")).unwrap();
    assert!(load < create, "{changes:?}");
    assert!(log.lines().contains(&"n1 GET /images/web:1/get".to_owned()));
}
