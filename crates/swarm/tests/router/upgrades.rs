use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{Container, Router, full, soon, text};

/// Agrees to `echo` and `websocket`, then says everything again until the other end has finished, and goodbye.
async fn echo(id: &str) -> Container {
    Container::answering(id, |mut request| {
        Box::pin(async move {
            let wanted = request.headers().get("upgrade").cloned();
            let is_known = wanted.as_ref().is_some_and(|wanted| wanted == "echo" || wanted == "websocket");
            let Some(wanted) = wanted.filter(|_| is_known) else {
                let mut refusal = Response::new(full(format!("upgrade {:?}", request.headers().get("upgrade"))));
                *refusal.status_mut() = StatusCode::BAD_REQUEST;
                return refusal;
            };
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgraded.await.unwrap());
                let mut bytes = [0; 4096];
                while let Ok(length) = stream.read(&mut bytes).await {
                    if length == 0 {
                        break;
                    }
                    stream.write_all(&bytes[..length]).await.unwrap();
                }
                let _ = stream.write_all(b"goodbye").await;
                let _ = stream.shutdown().await;
            });
            let mut answer = Response::new(full(""));
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            answer.headers_mut().insert("connection", "Upgrade".parse().unwrap());
            answer.headers_mut().insert("upgrade", wanted);
            answer.headers_mut().insert("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".parse().unwrap());
            answer
        })
    })
    .await
}

fn upgrade(protocol: &str) -> Request<crate::common::Body> {
    Request::get("/socket")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", protocol)
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(full(""))
        .unwrap()
}

#[tokio::test]
async fn a_websocket_is_carried_both_ways_to_its_end() {
    let echo = echo("e").await;
    let router = Router::to(&[&echo]).await;
    let mut client = router.client().await;
    let mut answer = client.send(upgrade("websocket")).await;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["upgrade"], "websocket");
    assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    for message in ["hello", "again"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut said = vec![0; message.len()];
        soon("the echo", stream.read_exact(&mut said)).await.unwrap();
        assert_eq!(said, message.as_bytes());
    }
    let status = router.status("it is under way", |_| true).await;
    assert_eq!(status["services"]["p_web"]["in_flight"], 1);
    // Half of it ends; the other half still speaks.
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    soon("the end", stream.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "goodbye");
    router.status("nothing is left", |status| status["services"]["p_web"]["in_flight"] == 0).await;
}

#[tokio::test]
async fn a_large_stream_passes_whole() {
    let echo = echo("e").await;
    let router = Router::to(&[&echo]).await;
    let mut answer = router.client().await.send(upgrade("echo")).await;
    let (mut read, mut write) = tokio::io::split(TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap()));
    let sent: Vec<u8> = (0..4_000_000_u32).map(|index| (index % 251) as u8).collect();
    let expected = [sent.clone(), b"goodbye".to_vec()].concat();
    let writing = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    soon("everything", read.read_to_end(&mut got)).await.unwrap();
    writing.await.unwrap();
    assert!(got == expected);
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let echo = echo("e").await;
    let router = Router::to(&[&echo]).await;
    let (status, words) = text(router.client().await.send(upgrade("unknown")).await).await;
    assert_eq!((status, words.as_str()), (400, "upgrade Some(\"unknown\")"));
    // HTTP/2 is not to be changed to behind a proxy's back.
    let (status, words) = text(router.client().await.send(upgrade("h2c")).await).await;
    assert_eq!((status, words.as_str()), (400, "upgrade None"));
}

#[tokio::test]
async fn upgrades_go_where_connections_can_be_made() {
    let echo = echo("e").await;
    let mut both = crate::common::group("p_web", 100, &[&echo]);
    both.backends.insert(0, Container::gone("gone").await);
    let wanted = crate::common::table(1, vec![crate::common::route("web.test", "/", vec![both])]);
    let router = Router::with(&wanted).await;
    for _ in 0..2 {
        assert_eq!(router.client().await.send(upgrade("echo")).await.status(), StatusCode::SWITCHING_PROTOCOLS);
    }
}
