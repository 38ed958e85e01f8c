//! Backends that are asked how they are: who is ill gets no connections, and loses those that it has.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::soon;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sampan_agents::balancer::{self, Client, Config, HealthCheck, Listener};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Answers a check by TLS as it is told; to anything else it says its name and keeps the connection.
struct Backend {
    address: SocketAddr,
    is_well: Arc<AtomicBool>,
}

impl Backend {
    async fn start(name: u8) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self { address: listener.local_addr().unwrap(), is_well: Arc::new(AtomicBool::new(true)) };
        let is_well = Arc::clone(&backend.is_well);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, tls.clone(), name, Arc::clone(&is_well)));
            }
        });
        backend
    }
}

async fn serve(mut stream: TcpStream, tls: TlsAcceptor, name: u8, is_well: Arc<AtomicBool>) {
    const HANDSHAKE: u8 = 0x16;
    let mut first = [0];
    if stream.peek(&mut first).await.unwrap_or(0) == 0 {
        return;
    }
    if first[0] != HANDSHAKE {
        let _ = stream.read(&mut first).await;
        let _ = stream.write_all(&[name]).await;
        let _ = stream.read(&mut first).await;
        return;
    }
    let Ok(mut stream) = tls.accept(stream).await else { return };
    let mut request = [0; 1024];
    let length = stream.read(&mut request).await.unwrap_or(0);
    assert!(request[..length].starts_with(b"GET /readyz "), "{:?}", String::from_utf8_lossy(&request[..length]));
    let status = if is_well.load(Ordering::SeqCst) { "200 OK" } else { "500 Internal Server Error" };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn balancer(directory: &Path) -> (Client, DropGuard) {
    let stop = CancellationToken::new();
    let (own, ended) = (directory.to_owned(), stop.clone());
    tokio::spawn(async move { balancer::run_until(&own, ended).await });
    let client = Client::new(&directory.join(balancer::CONTROL_SOCKET));
    soon("the balancer answers", async {
        while client.status().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    (client, stop.drop_guard())
}

async fn connect(listen: SocketAddr) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(listen).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    let mut name = [0];
    soon("the backend's name", stream.read_exact(&mut name)).await.unwrap();
    (stream, name[0])
}

async fn out(client: &Client) -> Vec<SocketAddr> {
    client.status().await.unwrap().listeners[0].out.clone()
}

async fn until_out(client: &Client, count: usize) {
    soon("so many are out", async {
        while out(client).await.len() != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_ill_is_out_and_its_connections_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (client, _stop) = balancer(directory.path()).await;
    let (a, b) = (Backend::start(b'a').await, Backend::start(b'b').await);
    let listen = SocketAddr::from(([127, std::process::id().to_le_bytes()[0] | 1, 77, 1], 8000));
    let check = Some(HealthCheck { path: "/readyz".into() });
    let listener = Listener { name: "api".into(), listen, backends: vec![a.address, b.address], check };
    let config = Config { listeners: vec![listener], ..Config::default() };
    assert!(client.apply(&config).await.unwrap().failures.is_empty());
    let (mut to_a, mut to_b) = (connect(listen).await, connect(listen).await);
    if to_a.1 == b'b' {
        std::mem::swap(&mut to_a, &mut to_b);
    }
    assert_eq!((to_a.1, to_b.1), (b'a', b'b'), "in turn");

    a.is_well.store(false, Ordering::SeqCst);
    let ended = soon("the connection is cut", to_a.0.read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert_eq!(out(&client).await, [a.address]);
    for _ in 0..4 {
        assert_eq!(connect(listen).await.1, b'b', "nobody goes to who is ill");
    }
    to_b.0.write_all(b".").await.unwrap();

    a.is_well.store(true, Ordering::SeqCst);
    until_out(&client, 0).await;
    let names = [connect(listen).await.1, connect(listen).await.1];
    assert!(names.contains(&b'a'), "{names:?}");

    // Where all are ill, all are tried: the check may be what is wrong.
    a.is_well.store(false, Ordering::SeqCst);
    b.is_well.store(false, Ordering::SeqCst);
    until_out(&client, 2).await;
    assert!([b'a', b'b'].contains(&connect(listen).await.1));
}

#[test]
fn a_configuration_from_before_there_were_checks_is_read() {
    let old = r#"{"virtual_ips": [], "listeners": [{"name": "n", "listen": "127.0.0.1:1", "backends": []}]}"#;
    let config: Config = serde_json::from_str(old).unwrap();
    assert_eq!(config.listeners[0].check, None);
    assert_eq!(serde_json::from_str::<Config>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
}
