//! Probes over real connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    apps::{health::attempt, tests::world::World},
    compose::template::{Probe, ProbeCheck},
    door::OverlayDialer,
};

#[derive(Debug)]
struct To(SocketAddr);

#[async_trait]
impl OverlayDialer for To {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if address.port() == 80 {
            TcpStream::connect(self.0).await
        } else {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }
}

/// Answers every path `/<status>` with that status, and never any other.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                if path.parse::<u16>().is_ok() {
                    let answer = format!("HTTP/1.1 {path} Word\r\ncontent-length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                } else {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn statuses_from_200_to_399_are_well() {
    let dialer = Arc::new(To(serve().await));
    let world = World::with_dialer(1, dialer.clone());
    world.create("app", "web: {image: web}").await;
    world.state("app", "running").await;
    let container = world.engines.container("app_web_1").unwrap();
    let view = crate::model::Engines::view(&*world.engines);
    let ask = async |check: ProbeCheck| {
        let probe = Probe { check, initial_delay_seconds: 0, timeout_seconds: 1 };
        attempt(&*world.engines, &*dialer, &view, &container, &probe).await
    };
    let http = |path: &str| ProbeCheck::Http { port: 80, path: path.into() };
    assert_eq!(ask(http("/200")).await, Ok(()));
    assert_eq!(ask(http("/302")).await, Ok(()));
    assert_eq!(ask(http("/404")).await, Err("app_web_1 answered GET /404 with 404 Not Found".into()));
    assert_eq!(ask(http("/slow")).await, Err("the probe of app_web_1 did not end within 1 s".into()));
    assert_eq!(ask(ProbeCheck::Tcp { port: 80 }).await, Ok(()));
    assert!(
        ask(ProbeCheck::Tcp { port: 81 })
            .await
            .unwrap_err()
            .starts_with("app_web_1 does not accept connections at 172.")
    );
}
