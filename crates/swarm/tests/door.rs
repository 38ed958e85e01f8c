//! A door with a real namespace and an engine of the tests. Each test runs itself again within `unshare`, which takes root;
//! without root it says so and does nothing.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use sampan_swarm::door::{Door, DoorSettings, OverlayDialer as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::task::AbortOnDropHandle;

const INSIDE: &str = "SAMPAN_TEST_INSIDE_NAMESPACES";
const NETWORK: &str = "overlay";
/// Nothing here takes so long unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether this already is the inner run; the outer one starts it and checks how it went.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("{test}: skipped, it needs root to make namespaces");
        return false;
    }
    let status = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespaces");
    false
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// A container of the tests: a process in a network namespace of its own that is tied to this one.
struct Process {
    child: Child,
    number: u32,
    address: String,
}

impl Process {
    fn start(number: u32) -> Self {
        let script = "echo; exec sleep 100000";
        let mut child =
            Command::new("unshare").args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        // It is inside when it has said something.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
        let (pid, address) = (child.id(), format!("10.99.{number}.2"));
        ip(&format!("link add outer{number} type veth peer name inner netns {pid}"));
        ip(&format!("addr add 10.99.{number}.1/24 dev outer{number}"));
        ip(&format!("link set outer{number} up"));
        let inside = format!("ip addr add {address}/24 dev inner && ip link set inner up");
        let status =
            Command::new("nsenter").args(["--net", "--target", &pid.to_string(), "sh", "-c", &inside]).status();
        assert!(status.unwrap().success());
        Self { child, number, address }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // As engines do; the namespace itself lives for as long as somebody is in it. When nobody is, the link goes with it,
        // sooner or later than here.
        let link = format!("outer{}", self.number);
        let output = Command::new("ip").args(["link", "del", &link]).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || words.contains("Cannot find device"), "{link}: {words}");
    }
}

/// What the engine of the tests has.
#[derive(Default)]
struct Has {
    image: bool,
    container: Option<Value>,
    process: Option<Process>,
    started: u32,
    /// This run's address was not asked for at the swarm's manager.
    self_given: Option<u32>,
    calls: Vec<String>,
}

#[derive(Clone, Default)]
struct Engine(Arc<Mutex<Has>>);

impl Engine {
    fn serve(&self, socket: &Path) -> AbortOnDropHandle<()> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let engine = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let engine = engine.clone();
                tasks.spawn(async move {
                    let service = service_fn(|request| {
                        let answer = engine.clone().answer(request);
                        async move { Ok::<_, std::convert::Infallible>(answer.await) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }))
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = head.uri.path().to_owned();
        if path.ends_with("/wait") {
            while self.lock().process.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let mut has = self.lock();
        if head.method != Method::GET && !path.ends_with("/wait") {
            has.calls.push(format!("{} {}", head.method, path.replace("/c1", "/ID")));
        }
        let (status, value) = has.act(&head.method, &path, &body);
        let mut response = Response::new(Full::from(value.to_string()));
        *response.status_mut() = status;
        response
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Has> {
        self.0.lock().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }
}

impl Has {
    fn act(&mut self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let missing = (StatusCode::NOT_FOUND, json!({ "message": "no such thing" }));
        match (method.as_str(), path) {
            ("GET", "/images/sampan/door:1/json") if self.image => (StatusCode::OK, json!({})),
            ("POST", "/images/create") => {
                assert!(tar::Archive::new(body).entries().unwrap().count() > 0);
                self.image = true;
                (StatusCode::OK, json!({ "status": "sha256:0" }))
            }
            ("POST", "/containers/create") => {
                assert!(self.image && self.container.is_none());
                self.container = Some(serde_json::from_slice(body).unwrap());
                (StatusCode::CREATED, json!({ "Id": "c1" }))
            }
            ("POST", "/containers/c1/start") => {
                self.started += 1;
                self.process = Some(Process::start(self.started));
                (StatusCode::NO_CONTENT, Value::Null)
            }
            ("DELETE", "/containers/c1") => {
                self.process = None;
                self.container = None;
                (StatusCode::NO_CONTENT, Value::Null)
            }
            ("GET", "/containers/door/json") => self.inspect().map_or(missing, |found| (StatusCode::OK, found)),
            (_, path) if path.ends_with("/wait") => (StatusCode::OK, json!({ "StatusCode": 0 })),
            _ => missing,
        }
    }

    fn inspect(&self) -> Option<Value> {
        let wanted = self.container.as_ref()?;
        let (pid, address) = self.process.as_ref().map_or((0, ""), |one| (one.child.id(), one.address.as_str()));
        Some(json!({
            "Id": "c1",
            "State": { "Running": pid > 0, "Pid": pid, "StartedAt": format!("run {}", self.started) },
            "Config": { "Labels": wanted["Labels"] },
            "NetworkSettings": { "Networks": { NETWORK: {
                "IPAddress": address,
                "IPAMConfig": (self.self_given != Some(self.started)).then(|| json!({ "IPv4Address": address })),
            } } },
        }))
    }
}

fn settings(socket: &Path) -> DoorSettings {
    DoorSettings {
        engine_socket: socket.to_owned(),
        network: NETWORK.to_owned(),
        name: "door".to_owned(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        program: Some(PathBuf::from("/bin/true")),
    }
}

/// Connects to this namespace through the door; answers from which address the connection came.
async fn through(door: &Door, run: u32) -> String {
    let listener = TcpListener::bind((format!("10.99.{run}.1"), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, accepted) = tokio::join!(door.connect(address), listener.accept());
    connected.unwrap();
    accepted.unwrap().1.ip().to_string()
}

/// Threads that are in namespaces.
fn door_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "door\n")).count()
}

const MADE: [&str; 3] = ["POST /images/create", "POST /containers/create", "POST /containers/ID/start"];

#[tokio::test]
async fn a_door_is_made_and_made_again() {
    if !is_inside("a_door_is_made_and_made_again") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("engine.sock");
    let engine = Engine::default();
    let serving = engine.serve(&socket);
    let door = Door::open(settings(&socket));
    soon("it opens", door.opened()).await;
    assert_eq!(engine.calls(), MADE);
    let wanted = engine.lock().container.clone().unwrap();
    assert_eq!(wanted["Labels"]["io.sampan.system"], "door");
    assert_eq!(wanted["HostConfig"]["NetworkMode"], NETWORK);
    assert_eq!(wanted["HostConfig"]["Binds"][0], "/bin/true:/sampan:ro");
    assert_eq!(through(&door, 1).await, "10.99.1.2");

    // Others in the overlay reach what listens behind the door, at ports that may be taken here.
    let _taken = TcpListener::bind("0.0.0.0:80").await.unwrap();
    let inside = door.listen(80).await.unwrap();
    let client = soon("a connection", tokio::net::TcpStream::connect("10.99.1.2:80")).await.unwrap();
    let (_, peer) = soon("it arrives", inside.accept()).await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());

    // The container ends: it is started again, with another process, address and namespace.
    let before = door.generation();
    let moved = door.moved(before);
    engine.lock().process = None;
    soon("the end is noticed", moved).await;
    soon("it opens again", door.opened()).await;
    assert_eq!(engine.calls(), ["POST /containers/ID/start"]);
    assert_eq!(through(&door, 2).await, "10.99.2.2");
    let _inside = door.listen(80).await.unwrap();
    soon("a connection", tokio::net::TcpStream::connect("10.99.2.2:80")).await.unwrap();
    assert_ne!(door.generation(), before);
    soon("the thread of before ends", async {
        while door_threads() != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // The engine goes away: what is open stays open.
    drop(serving);
    std::fs::remove_file(&socket).unwrap();
    assert_eq!(through(&door, 2).await, "10.99.2.2");
    // Its end is noticed without the engine.
    engine.lock().process = None;
    let unreachable = "10.99.2.1:1".parse().unwrap();
    let error = soon("an answer", door.connect(unreachable)).await.unwrap_err();
    assert!(error.to_string().contains("no way into the overlay"), "{error}");
    assert!(!door.is_open());
    let _serving = engine.serve(&socket);
    soon("it opens again", door.opened()).await;
    assert_eq!(through(&door, 3).await, "10.99.3.2");
}

#[tokio::test]
async fn a_container_of_another_make_is_replaced() {
    if !is_inside("a_container_of_another_make_is_replaced") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("engine.sock");
    let engine = Engine::default();
    let _serving = engine.serve(&socket);
    drop({
        let door = Door::open(settings(&socket));
        soon("it opens", door.opened()).await;
        door
    });
    engine.calls();
    // The same again: nothing is done.
    drop({
        let door = Door::open(settings(&socket));
        soon("it opens", door.opened()).await;
        door
    });
    assert!(engine.calls().is_empty());
    let door = Door::open(DoorSettings { program: Some(PathBuf::from("/bin/false")), ..settings(&socket) });
    soon("it opens", door.opened()).await;
    let expected = ["DELETE /containers/ID", "POST /containers/create", "POST /containers/ID/start"];
    assert_eq!(engine.calls(), expected);
    assert_eq!(through(&door, 2).await, "10.99.2.2");
}

#[tokio::test]
async fn a_container_with_an_address_of_somebody_elses_is_replaced() {
    if !is_inside("a_container_with_an_address_of_somebody_elses_is_replaced") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("engine.sock");
    let engine = Engine::default();
    engine.lock().self_given = Some(1);
    let _serving = engine.serve(&socket);
    let door = Door::open(settings(&socket));
    soon("it opens", door.opened()).await;
    let again = ["DELETE /containers/ID", "POST /containers/create", "POST /containers/ID/start"];
    assert_eq!(engine.calls(), [MADE.as_slice(), &again].concat());
    assert_eq!(through(&door, 2).await, "10.99.2.2");
}
