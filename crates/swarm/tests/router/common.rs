//! A router, backends and clients.

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http1::SendRequest, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sampan_swarm::router::{
    STATUS_SOCKET, TABLE_FILE, run_until,
    table::{Backend, Group, Route, RouteTable, TcpRoute},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Nothing here takes so long unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A free port, below those that the system gives to connections and to listeners that ask for any port; each one is
/// given to one test of this process.
pub(crate) async fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let start = std::process::id() as usize * 97;
    for _ in 0..FREE_PORTS.len() {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % FREE_PORTS.len();
        let port = FREE_PORTS.start + offset as u16;
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            return port;
        }
    }
    panic!("no free port in {FREE_PORTS:?}");
}

const FREE_PORTS: std::ops::Range<u16> = 18_000..29_000;

/// A container of the tests. Cut when dropped.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    /// Connections that it took.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Requests that it took.
    pub(crate) requests: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Container {
    /// Answers every request by a function.
    pub(crate) async fn answering(
        id: &str,
        answer: impl Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        let requests = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&requests);
        let mut container = Self::raw(id, move |stream| {
            let (answer, counted) = (Arc::clone(&answer), Arc::clone(&counted));
            Box::pin(async move {
                let service = service_fn(|request| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let answer = answer(request);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let mut preface = [0; 3];
                let is_http2 = stream.peek(&mut preface).await.is_ok_and(|length| preface[..length] == *b"PRI");
                let io = TokioIo::new(stream);
                if is_http2 {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await;
                } else {
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
                }
            })
        })
        .await;
        container.requests = requests;
        container
    }

    /// Says its id and what it was asked: `<id> <method> <path> <body>`.
    pub(crate) async fn saying(id: &str) -> Self {
        let name = id.to_owned();
        Self::answering(id, move |request| {
            let name = name.clone();
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body = String::from_utf8_lossy(&body).into_owned();
                Response::new(full(format!("{name} {} {} {body}", head.method, head.uri.path())))
            })
        })
        .await
    }

    /// Tells the head that it got, one header a line.
    pub(crate) async fn mirror(id: &str) -> Self {
        Self::answering(id, |request| {
            Box::pin(async move {
                let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
                for (name, value) in request.headers() {
                    text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
                }
                Response::new(full(text))
            })
        })
        .await
    }

    /// Does anything with each connection.
    pub(crate) async fn raw(
        id: &str,
        serve: impl Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(serve(stream));
            }
        });
        let requests = Arc::default();
        Self { id: id.to_owned(), address, connections, requests, _task: AbortOnDropHandle::new(task) }
    }

    /// One that refuses connections.
    pub(crate) async fn gone(id: &str) -> Backend {
        Backend { id: id.to_owned(), address: SocketAddr::from(([127, 0, 0, 1], free_port().await)) }
    }

    pub(crate) fn backend(&self) -> Backend {
        Backend { id: self.id.clone(), address: self.address }
    }
}

pub(crate) fn group(service: &str, weight: u32, containers: &[&Container]) -> Group {
    Group { service: service.to_owned(), weight, backends: containers.iter().map(|one| one.backend()).collect() }
}

pub(crate) fn route(host: &str, path: &str, groups: Vec<Group>) -> Route {
    Route { host: host.to_owned(), path: path.to_owned(), groups, sticky: false }
}

pub(crate) fn table(revision: u64, routes: Vec<Route>) -> RouteTable {
    RouteTable { revision, routes, tcp: Vec::new() }
}

pub(crate) fn tcp_route(port: u16, containers: &[&Container]) -> TcpRoute {
    TcpRoute { port, service: "p_tcp".into(), backends: containers.iter().map(|one| one.backend()).collect() }
}

/// A router of this process.
pub(crate) struct Router {
    pub(crate) address: SocketAddr,
    pub(crate) directory: tempfile::TempDir,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Router {
    /// One that reads its table from the disk.
    pub(crate) async fn with(table: &RouteTable) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(TABLE_FILE), serde_json::to_vec(table).unwrap()).unwrap();
        Self::start(directory, json!({})).await
    }

    /// A route to these containers for the host `web.test`.
    pub(crate) async fn to(containers: &[&Container]) -> Self {
        Self::with(&table(1, vec![route("web.test", "/", vec![group("p_web", 100, containers)])])).await
    }

    pub(crate) async fn start(directory: tempfile::TempDir, more: Value) -> Self {
        let port = free_port().await;
        let mut config = json!({
            "state_dir": directory.path(), "listen": "127.0.0.1", "http_port": port, "node": "cn-hangzhou.10.0.0.1",
            "direct": true,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = directory.path().join("router.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let stop = CancellationToken::new();
        let inner = stop.clone();
        let task = tokio::spawn(async move { run_until(&path, inner).await.unwrap() });
        let router = Self { address: SocketAddr::from(([127, 0, 0, 1], port)), directory, stop, task };
        soon("the router answers", async {
            while try_status(router.directory.path()).await.is_none() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        router
    }

    /// Puts a table in force by way of the disk.
    pub(crate) async fn install(&self, table: &RouteTable) {
        let path = self.directory.path().join("next");
        std::fs::write(&path, serde_json::to_vec(table).unwrap()).unwrap();
        std::fs::rename(path, self.directory.path().join(TABLE_FILE)).unwrap();
        self.status("the table is in force", |status| status["acknowledged"] == table.revision).await;
    }

    /// Waits for a status.
    pub(crate) async fn status(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        soon(what, async {
            loop {
                if let Some(status) = try_status(self.directory.path()).await
                    && is_wanted(&status)
                {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One GET on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.client().await.get(path).await
    }

    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.task.await.unwrap();
        self.directory
    }
}

async fn try_status(directory: &Path) -> Option<Value> {
    let mut stream = UnixStream::connect(directory.join(STATUS_SOCKET)).await.ok()?;
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// A keep-alive connection of a client.
pub(crate) struct Client {
    pub(crate) sender: SendRequest<Body>,
    _driver: AbortOnDropHandle<()>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(async move {
            let _ = driver.with_upgrades().await;
        });
        Self { sender, _driver: AbortOnDropHandle::new(driver) }
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        soon("an answer", self.try_send(request)).await.unwrap()
    }

    pub(crate) async fn try_send(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", "web.test".parse().unwrap());
        }
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        text(self.send(Request::get(path).body(full("")).unwrap()).await).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &'static str) -> (u16, String) {
        text(self.send(Request::post(path).body(full(body)).unwrap()).await).await
    }
}

pub(crate) async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = soon("the body", response.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Sends bytes as they are and reads until the router closes.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("the end", stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}
