//! The tunnel between a hub and agents, through a real Unix socket.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::{Machine, Server, TOKEN, eventually, soon, spec};
use sampan_agents::tunnel::TunnelError;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
};

/// Echoes what every connection sends.
async fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn an_agent_connects_and_answers() {
    let server = Server::new();
    assert!(!server.hub.is_connected("i-1") && server.hub.agent("i-1").is_none());
    let mut machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    assert_eq!(agent.spec_hash().await.unwrap(), "");
    let spec = spec(vec![]);
    let status = agent.put_spec(&spec).await.unwrap();
    assert_eq!(status.spec_hash, spec.hash());
    assert_eq!(agent.spec_hash().await.unwrap(), spec.hash());
    // The hub learns of it by itself.
    let cached = server.status("i-1", "the spec is in force", |status| status.spec_hash == spec.hash()).await;
    assert_eq!(agent.status().await.unwrap(), cached);
    machine.stop().await;
    eventually("the hub notices", || !server.hub.is_connected("i-1")).await;
    assert!(server.hub.status("i-1").is_none());
    let lost = agent.status().await.unwrap_err();
    assert!(matches!(lost, TunnelError::Disconnected { .. } | TunnelError::Transport { .. }), "{lost}");
    assert!(lost.to_string().contains("i-1"));
}

#[tokio::test]
async fn a_wrong_token_is_not_let_in() {
    let server = Server::new();
    let _stranger = Machine::with(&server, "i-bad", |options| options.token = "guess".into());
    let _machine = Machine::new(&server, "i-good");
    server.connected("i-good").await;
    assert!(!server.hub.is_connected("i-bad"));
}

#[tokio::test]
async fn agents_come_back_after_a_restart_of_the_server() {
    let mut server = Server::new();
    let _machines: Vec<Machine> = (0..5).map(|number| Machine::new(&server, &format!("i-{number}"))).collect();
    for round in 0..3 {
        for number in 0..5 {
            let agent = server.connected(&format!("i-{number}")).await;
            soon(&format!("an answer in round {round}"), agent.status()).await.unwrap();
        }
        server.restart().await;
    }
}

#[tokio::test]
async fn an_agent_started_before_the_server_finds_it() {
    let mut server = Server::new();
    server.hub.shutdown().await;
    let _machine = Machine::new(&server, "i-1");
    tokio::task::yield_now().await;
    server.restart().await;
    server.connected("i-1").await.status().await.unwrap();
}

#[tokio::test]
async fn a_newer_connection_replaces_the_older() {
    let server = Server::new();
    let _first = Machine::new(&server, "i-1");
    let first = server.connected("i-1").await.status().await.unwrap();
    let _second = Machine::new(&server, "i-1");
    server.status("i-1", "the second agent is the one", |status| status.boot_id != first.boot_id).await;
}

#[tokio::test]
async fn megabytes_are_dialled_both_ways_at_once() {
    let server = Server::new();
    let _machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let echo = echo_server().await;
    let content: Vec<u8> = (0..8_000_000_u32).map(|number| (number % 253) as u8).collect();
    let streams = (0..4).map(|_| {
        let (agent, echo, content) = (agent.clone(), echo.clone(), content.clone());
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(agent.dial(&echo).await.unwrap());
            let sent = content.clone();
            let sender = tokio::spawn(async move {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
                writer
            });
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.unwrap();
            sender.await.unwrap();
            assert!(received == content);
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        soon("the bytes come back", stream).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_only_its_own_stream() {
    let server = Server::new();
    let _machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // A source without end, and nobody who reads it.
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(&[7; 65536]).await.is_ok() {}
    });
    let mut full = agent.dial(&address).await.unwrap();
    let mut echo = agent.dial(&echo_server().await).await.unwrap();
    for _ in 0..200 {
        echo.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        soon("the other stream goes on", echo.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"ping");
    }
    let mut some = vec![0; 4_000_000];
    soon("what waited arrives", full.read_exact(&mut some)).await.unwrap();
    assert!(some.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn more_streams_than_allowed_wait_their_turn() {
    let server = Server::new();
    let _machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let asked = (0..600).map(|_| {
        let agent = agent.clone();
        tokio::spawn(async move { agent.status().await })
    });
    for answer in asked.collect::<Vec<_>>() {
        soon("an answer", answer).await.unwrap().unwrap();
    }
    assert!(server.hub.is_connected("i-1"));
}

#[tokio::test]
async fn dialling_what_does_not_answer_is_refused_in_words() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    // Of a loopback address of this test alone: on 127.0.0.1 another one may be given the port.
    let unused = TcpListener::bind("127.93.61.8:0").await.unwrap().local_addr().unwrap().to_string();
    let refused = agent.dial(&unused).await.unwrap_err();
    assert!(
        matches!(&refused, TunnelError::Refused { status: 502, reason, .. } if reason.contains(&unused)),
        "{refused}"
    );
    assert!(matches!(agent.dial("nonsense").await, Err(TunnelError::Transport { .. })));
    let socket = machine.path("echo.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut stream = agent.dial(&format!("unix:{}", socket.display())).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    accepted.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    soon("the greeting", stream.read_exact(&mut hello)).await.unwrap();
    drop(stream);
    soon("the other end sees the close", accepted.read(&mut hello)).await.unwrap();
}

#[tokio::test]
async fn strangers_that_say_nothing_keep_nobody_out() {
    let server = Server::new();
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(tokio::net::UnixStream::connect(server.socket()).await.unwrap());
    }
    let mut rude = tokio::net::UnixStream::connect(server.socket()).await.unwrap();
    rude.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("the refusal", rude.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("error") && !answer.contains(TOKEN), "{answer}");
    let _machine = Machine::new(&server, "i-1");
    server.connected("i-1").await;
}
