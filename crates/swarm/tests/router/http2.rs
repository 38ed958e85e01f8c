use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Frame, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::common::{Body, Container, Router, full, group, route, soon, table, text};

async fn http2(router: &Router) -> SendRequest<Body> {
    let stream = TcpStream::connect(router.address).await.unwrap();
    let (sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    sender
}

fn request(method: &str, path: &str, body: &'static str) -> Request<Body> {
    let uri = format!("http://web.test{path}");
    Request::builder().method(method).uri(uri).version(Version::HTTP_2).body(full(body)).unwrap()
}

#[tokio::test]
async fn http2_clients_reach_http1_backends() {
    let mirror = Container::mirror("m").await;
    let router = Router::to(&[&mirror]).await;
    let mut client = http2(&router).await;
    let mut asked = request("GET", "/x?y", "");
    asked.headers_mut().append("cookie", "a=1".parse().unwrap());
    asked.headers_mut().append("cookie", "b=2".parse().unwrap());
    let answer = client.send_request(asked).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let (status, head) = text(answer).await;
    assert_eq!(status, 200);
    assert!(head.starts_with("GET /x?y HTTP/1.1\n"), "{head}");
    for line in ["host: web.test", "cookie: a=1; b=2", "x-forwarded-for: 127.0.0.1"] {
        assert!(head.lines().any(|one| one == line), "{line} is not in {head}");
    }
    assert!(!head.contains("transfer-encoding"), "{head}");
    let (status, head) = text(client.send_request(request("POST", "/", "body")).await.unwrap()).await;
    assert_eq!(status, 200);
    assert!(head.contains("content-length: 4"), "{head}");
}

#[tokio::test]
async fn many_requests_at_once_on_one_connection() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let client = http2(&router).await;
    let all = (0..200).map(|index| {
        let mut client = client.clone();
        async move {
            client.ready().await.unwrap();
            let path = format!("/{index}");
            let answer = client.send_request(request("PUT", &path, "x")).await.unwrap();
            assert_eq!(text(answer).await, (200, format!("w PUT {path} x")));
        }
    });
    soon("all", futures::future::join_all(all)).await;
}

fn grpc(path: &str, body: &'static str) -> Request<Body> {
    let mut call = request("POST", path, body);
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    call.headers_mut().insert("te", "trailers".parse().unwrap());
    call
}

/// Echoes a call's body and ends with a status in trailers.
async fn greeter(id: &str) -> Container {
    Container::answering(id, |request| {
        Box::pin(async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.uri().authority().unwrap(), "web.test");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames = stream::iter([Ok(Frame::data(body)), Ok(Frame::trailers(trailers))]);
            let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
            answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            answer
        })
    })
    .await
}

#[tokio::test]
async fn grpc_is_http2_from_end_to_end_with_trailers() {
    let greeter = greeter("g").await;
    let router = Router::to(&[&greeter]).await;
    let client = http2(&router).await;
    let calls = (0..50).map(|_| {
        let mut client = client.clone();
        async move {
            client.ready().await.unwrap();
            let answer = client.send_request(grpc("/hello.Greeter/Say", "hello")).await.unwrap();
            assert_eq!(answer.status(), 200);
            let whole = answer.into_body().collect().await.unwrap();
            assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(whole.to_bytes(), Bytes::from("hello"));
        }
    });
    soon("all", futures::future::join_all(calls)).await;
    assert!(greeter.connections.load(Ordering::SeqCst) <= 50);
    let before = greeter.connections.load(Ordering::SeqCst);
    let mut client = client;
    for _ in 0..20 {
        client.send_request(grpc("/hello.Greeter/Say", "x")).await.unwrap().into_body().collect().await.unwrap();
    }
    assert_eq!(greeter.connections.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn grpc_goes_where_connections_can_be_made() {
    let greeter = greeter("g").await;
    let mut both = group("p_web", 100, &[&greeter]);
    both.backends.insert(0, Container::gone("gone").await);
    let router = Router::with(&table(1, vec![route("web.test", "/", vec![both])])).await;
    let mut client = http2(&router).await;
    for _ in 0..3 {
        assert_eq!(client.send_request(grpc("/x", "y")).await.unwrap().status(), 200);
    }
    let mut foreign = grpc("/x", "y");
    *foreign.uri_mut() = "http://foreign.test/x".parse().unwrap();
    assert_eq!(client.send_request(foreign).await.unwrap().status(), 404);
}
