//! A cluster with its applications, that can be killed and started again.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::fake::Fake;
use crate::{
    apps::{Apps, RouteHub, Settings},
    door::OverlayDialer,
};

/// Everybody answers, but for some. Without waiting: time that is paused would run on meanwhile.
#[derive(Debug)]
pub(super) struct Wire {
    listener: std::net::TcpListener,
    pub(super) refusing: Mutex<BTreeSet<u16>>,
}

impl Default for Wire {
    fn default() -> Self {
        Self { listener: std::net::TcpListener::bind("127.0.0.1:0").unwrap(), refusing: Mutex::default() }
    }
}

#[async_trait]
impl OverlayDialer for Wire {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if self.refusing.lock().unwrap().contains(&address.port()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let stream = std::net::TcpStream::connect(self.listener.local_addr()?)?;
        self.listener.accept()?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

pub(in crate::apps) struct World {
    pub(super) engines: Arc<Fake>,
    pub(super) directory: TempDir,
    pub(in crate::apps) apps: Arc<Apps>,
    pub(super) wire: Arc<Wire>,
    dialer: Arc<dyn OverlayDialer>,
    /// That of the present master.
    pub(super) hub: watch::Sender<Arc<RouteHub>>,
    run: Option<JoinHandle<()>>,
}

/// What a request was answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) body: String,
}

impl Answered {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn open(engines: &Arc<Fake>, dialer: &Arc<dyn OverlayDialer>, directory: &TempDir) -> Arc<Apps> {
    let settings = Settings {
        state_dir: directory.path().to_owned(),
        cluster_id: "c1".into(),
        region_id: "cn-test".into(),
        routing_suffix: "example.com".into(),
    };
    Arc::new(Apps::new(engines.clone(), dialer.clone(), settings).unwrap())
}

impl World {
    pub(super) fn new(nodes: u8) -> Self {
        let wire = Arc::<Wire>::default();
        let dialer = wire.clone();
        Self { wire, ..Self::with_dialer(nodes, dialer) }
    }

    /// With another way into the overlay.
    pub(in crate::apps) fn with_dialer(nodes: u8, dialer: Arc<dyn OverlayDialer>) -> Self {
        let engines = Fake::new(nodes);
        let directory = tempfile::tempdir().unwrap();
        let wire = Arc::<Wire>::default();
        let apps = open(&engines, &dialer, &directory);
        let hub = watch::Sender::new(apps.hub());
        let mut world = Self { engines, directory, apps, wire, dialer, hub, run: None };
        world.start();
        world
    }

    /// Starts the master again, from what is on disk.
    pub(super) fn start(&mut self) {
        self.apps = open(&self.engines, &self.dialer, &self.directory);
        self.hub.send_replace(self.apps.hub());
        self.run = Some(tokio::spawn(self.apps.clone().run(CancellationToken::new())));
    }

    /// `kill -9`.
    pub(super) async fn kill(&mut self) {
        if let Some(run) = self.run.take() {
            run.abort();
            let _ = run.await;
            self.apps.inner.store.idle().await;
        }
    }

    pub(super) async fn request(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answered {
        let (parts, ()) = Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
        let response = self.apps.handle(&parts, body.into()).await;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, location, content_type) = (response.status(), header("location"), header("content-type"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answered { status, location, content_type, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let answered = self.request("GET", path, "").await;
        assert_eq!(answered.status, StatusCode::OK, "{}", answered.body);
        answered.json()
    }

    pub(super) async fn post(&self, path: &str, body: Value, expected: u16) -> Answered {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answered = self.request("POST", path, body).await;
        assert_eq!(answered.status.as_u16(), expected, "{}", answered.body);
        answered
    }

    pub(in crate::apps) async fn create(&self, name: &str, template: &str) {
        self.post("/projects/", json!({"name": name, "template": template}), 201).await;
    }

    pub(super) async fn update(&self, name: &str, version: &str, template: &str) {
        self.post(&format!("/projects/{name}/update"), json!({"template": template, "version": version}), 202).await;
    }

    pub(super) async fn blue_green(&self, name: &str, version: &str, template: &str) {
        let body = json!({"template": template, "version": version, "update_method": "blue-green"});
        self.post(&format!("/projects/{name}/update"), body, 202).await;
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..12_000 {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let all = self.request("GET", "/projects", "").await.body;
        panic!(
            "never: {what}\ncontainers: {:?}\nlog: {:#?}\nprojects: {all}",
            self.engines.names(),
            self.engines.log()
        );
    }

    /// Waits until an application is in a state and stays so for a while.
    pub(in crate::apps) async fn state(&self, project: &str, state: &str) {
        let mut steady = 0;
        for _ in 0..12_000 {
            let now = self.request("GET", &format!("/projects/{project}"), "").await;
            let is = now.status == StatusCode::OK && now.json()["current_state"] == state;
            steady = if is { steady + 1 } else { 0 };
            if steady > 10 {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let all = self.request("GET", "/projects", "").await.body;
        panic!(
            "never {state}\ncontainers: {:?}\nlog: {:#?}\nprojects: {all}",
            self.engines.names(),
            self.engines.log()
        );
    }

    /// Backends of a route, as names of containers with the weight of their group.
    pub(super) fn route(&self, host: &str, path: &str) -> Vec<(String, u32, Vec<String>)> {
        let table = self.apps.route_table().borrow().clone();
        let Some(route) = table.routes.iter().find(|route| route.host == host && route.path == path) else {
            return Vec::new();
        };
        let state = self.engines.state();
        let name = |id: &str| {
            state
                .containers
                .iter()
                .find(|container| container.id == id)
                .map_or_else(|| id.to_owned(), |found| found.name.clone())
        };
        let group = |group: &crate::router::table::Group| {
            let mut names: Vec<String> = group.backends.iter().map(|backend| name(&backend.id)).collect();
            names.sort();
            (group.service.clone(), group.weight, names)
        };
        route.groups.iter().map(group).collect()
    }
}
