//! The balancer through its control socket, on the loopback interface.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU8, Ordering},
};

use common::{eventually, soon};
use sampan_agents::balancer::{self, BalancerError, Client, Config, ControlError, Listener};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

struct Balancer {
    directory: TempDir,
    stop: CancellationToken,
    task: Option<JoinHandle<Result<(), BalancerError>>>,
}

impl Balancer {
    async fn start() -> (Self, Client) {
        let directory = tempfile::tempdir().unwrap();
        let mut balancer = Self { directory, stop: CancellationToken::new(), task: None };
        let client = balancer.run().await;
        (balancer, client)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join(balancer::CONTROL_SOCKET)
    }

    async fn run(&mut self) -> Client {
        self.stop = CancellationToken::new();
        let (directory, stop) = (self.directory.path().to_owned(), self.stop.clone());
        self.task = Some(tokio::spawn(async move { balancer::run_until(&directory, stop).await }));
        let client = Client::new(&self.socket());
        soon("the balancer answers", async {
            while client.status().await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        client
    }

    async fn end(&mut self) {
        self.stop.cancel();
        soon("the balancer stops", self.task.take().unwrap()).await.unwrap().unwrap();
    }
}

/// Says its name, then echoes.
async fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
    address
}

/// An address that nobody listens on. Each has a loopback address of its own, so that no other test and no outgoing
/// connection can take it meanwhile.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id().to_le_bytes();
    SocketAddr::from(([127, process[0] | 1, process[1], NEXT.fetch_add(1, Ordering::Relaxed)], 8000))
}

fn listener(name: &str, listen: SocketAddr, backends: &[SocketAddr]) -> Listener {
    Listener { name: name.into(), listen, backends: backends.to_vec(), check: None }
}

fn config(listeners: Vec<Listener>) -> Config {
    Config { listeners, ..Config::default() }
}

async fn connect(address: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut name = [0; 1];
    soon("the backend's name", stream.read_exact(&mut name)).await.unwrap();
    (stream, String::from_utf8(name.into()).unwrap())
}

async fn echo(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    soon("the echo", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn connections_take_turns_and_dead_backends_are_skipped() {
    let (_balancer, client) = Balancer::start().await;
    let (listen, dead) = (free_address(), free_address());
    let backends = [backend("a").await, dead, backend("b").await];
    assert!(client.apply(&config(vec![listener("web", listen, &backends)])).await.unwrap().failures.is_empty());
    let mut names = Vec::new();
    for _ in 0..9 {
        names.push(connect(listen).await.1);
    }
    assert!(names.iter().filter(|name| *name == "a").count() >= 3, "{names:?}");
    assert!(names.iter().filter(|name| *name == "b").count() >= 3, "{names:?}");
    let status = client.status().await.unwrap();
    assert_eq!((status.listeners[0].accepted, status.listeners[0].failed), (9, 0));
}

#[tokio::test]
async fn without_a_living_backend_the_connection_is_closed_and_counted() {
    let (_balancer, client) = Balancer::start().await;
    let (listen, dead) = (free_address(), free_address());
    client.apply(&config(vec![listener("web", listen, &[dead]), listener("none", free_address(), &[])])).await.unwrap();
    let mut stream = TcpStream::connect(listen).await.unwrap();
    let ended = soon("the end", stream.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(0) | Err(_)));
    let failed = client.status().await.unwrap().listeners.iter().map(|listener| listener.failed).sum::<u64>();
    assert_eq!(failed, 1);
}

#[tokio::test]
async fn a_new_configuration_leaves_other_connections_alone() {
    let (_balancer, client) = Balancer::start().await;
    let (kept, moved, removed) = (free_address(), free_address(), free_address());
    let (a, b) = (backend("a").await, backend("b").await);
    let before = vec![listener("kept", kept, &[a]), listener("moved", moved, &[a]), listener("removed", removed, &[a])];
    client.apply(&config(before)).await.unwrap();
    let (mut on_kept, _) = connect(kept).await;
    let (mut on_moved, _) = connect(moved).await;
    let (mut on_removed, _) = connect(removed).await;
    client.apply(&config(vec![listener("kept", kept, &[a]), listener("moved", moved, &[b])])).await.unwrap();
    echo(&mut on_kept).await;
    // Other backends count for new connections only.
    echo(&mut on_moved).await;
    assert_eq!(connect(moved).await.1, "b");
    // What is removed ends.
    assert!(matches!(soon("the end", on_removed.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    assert!(TcpStream::connect(removed).await.is_err());
    let open: u64 = client.status().await.unwrap().listeners.iter().map(|listener| listener.open).sum();
    assert!(open >= 2);
    drop((on_kept, on_moved));
    soon("closed connections are no longer counted", async {
        while client.status().await.unwrap().listeners.iter().any(|listener| listener.open > 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn half_close_and_megabytes() {
    let (_balancer, client) = Balancer::start().await;
    let listen = free_address();
    client.apply(&config(vec![listener("web", listen, &[backend("a").await])])).await.unwrap();
    let (stream, _) = connect(listen).await;
    let content: Vec<u8> = (0..6_000_000_u32).map(|number| (number % 249) as u8).collect();
    let (mut reader, mut writer) = stream.into_split();
    let sent = content.clone();
    let sender = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut received = Vec::new();
    soon("the echo", reader.read_to_end(&mut received)).await.unwrap();
    sender.await.unwrap();
    assert!(received == content);
}

#[tokio::test]
async fn the_last_configuration_is_applied_without_the_server() {
    let (mut balancer, client) = Balancer::start().await;
    let listen = free_address();
    client.apply(&config(vec![listener("web", listen, &[backend("a").await])])).await.unwrap();
    balancer.end().await;
    assert!(TcpStream::connect(listen).await.is_err());
    assert!(matches!(client.status().await, Err(ControlError::NotRunning { .. })));
    balancer.run().await;
    assert_eq!(connect(listen).await.1, "a");
}

#[tokio::test]
async fn a_taken_port_is_reported_and_tried_again() {
    let (_balancer, client) = Balancer::start().await;
    let listen = free_address();
    let taken = TcpListener::bind(listen).await.unwrap();
    let free = free_address();
    let a = backend("a").await;
    let wanted = config(vec![listener("taken", listen, &[a]), listener("free", free, &[a])]);
    let report = client.apply(&wanted).await.unwrap();
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.failures[0].name, "taken");
    assert!(report.failures[0].message.contains(&listen.to_string()), "{report:?}");
    assert_eq!(connect(free).await.1, "a");
    drop(taken);
    soon("it is open after all", async {
        while !client.status().await.unwrap().failures.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(connect(listen).await.1, "a");
}

#[tokio::test]
async fn listeners_can_swap_their_addresses() {
    let (_balancer, client) = Balancer::start().await;
    let (one, two) = (free_address(), free_address());
    let (a, b) = (backend("a").await, backend("b").await);
    client.apply(&config(vec![listener("a", one, &[a]), listener("b", two, &[b])])).await.unwrap();
    let report = client.apply(&config(vec![listener("a", two, &[a]), listener("b", one, &[b])])).await.unwrap();
    assert!(report.failures.is_empty(), "{report:?}");
    assert_eq!((connect(one).await.1, connect(two).await.1), ("b".into(), "a".into()));
}

#[tokio::test]
async fn an_unusable_file_does_not_keep_the_balancer_from_starting() {
    let (mut balancer, _) = Balancer::start().await;
    balancer.end().await;
    std::fs::write(balancer.directory.path().join("config.json"), "half a fi").unwrap();
    let client = balancer.run().await;
    let listen = free_address();
    client.apply(&config(vec![listener("web", listen, &[backend("a").await])])).await.unwrap();
    assert_eq!(connect(listen).await.1, "a");
    eventually("the file is good again", || {
        std::fs::read(balancer.directory.path().join("config.json"))
            .is_ok_and(|json| serde_json::from_slice::<Config>(&json).is_ok())
    })
    .await;
}
