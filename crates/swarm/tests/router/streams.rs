use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::common::{Body, Container, Router, full, soon, text};

const CHUNK: usize = 64 * 1024;
const TOTAL: usize = 96 * 1024 * 1024;
/// What fits into the buffers of four sockets and the router.
const BUFFERED_MAX: usize = 40 * 1024 * 1024;

/// A long body that counts what was taken from it.
fn counted(taken: &Arc<AtomicUsize>) -> Body {
    let taken = Arc::clone(taken);
    let chunks = stream::iter((0..TOTAL / CHUNK).map(move |_| {
        taken.fetch_add(CHUNK, Ordering::SeqCst);
        Ok(Frame::data(Bytes::from_static(&[7; CHUNK])))
    }));
    StreamBody::new(chunks).boxed_unsync()
}

#[tokio::test]
async fn an_answer_is_not_read_faster_than_its_client_reads() {
    let produced = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&produced);
    let web = Container::answering("w", move |_| {
        let body = counted(&counter);
        Box::pin(async move { Response::new(body) })
    })
    .await;
    let router = Router::to(&[&web]).await;
    let mut client = router.client().await;
    let mut body = client.send(Request::get("/").body(full("")).unwrap()).await.into_body();
    let mut read = 0;
    while let Some(frame) = soon("the next part", body.frame()).await {
        read += frame.unwrap().data_ref().map_or(0, Bytes::len);
        assert!(produced.load(Ordering::SeqCst) - read <= BUFFERED_MAX);
        tokio::task::yield_now().await;
    }
    assert_eq!(read, TOTAL);
}

#[tokio::test]
async fn a_request_is_not_read_faster_than_its_backend_reads() {
    let produced = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&produced);
    let web = Container::answering("w", move |request| {
        let produced = Arc::clone(&counter);
        Box::pin(async move {
            let (mut body, mut read) = (request.into_body(), 0);
            while let Some(frame) = body.frame().await {
                read += frame.unwrap().data_ref().map_or(0, Bytes::len);
                assert!(produced.load(Ordering::SeqCst) - read <= BUFFERED_MAX);
                tokio::task::yield_now().await;
            }
            Response::new(full(read.to_string()))
        })
    })
    .await;
    let router = Router::to(&[&web]).await;
    let request = Request::post("/").body(counted(&produced)).unwrap();
    assert_eq!(text(router.client().await.send(request).await).await, (200, TOTAL.to_string()));
}

/// A body whose parts come when the test says so.
fn spoken() -> (mpsc::Sender<&'static str>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = stream::unfold(receiver, |mut receiver: mpsc::Receiver<&'static str>| async move {
        let part = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from(part))), receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let web = Container::answering("w", |request| {
        Box::pin(async { Response::new(request.into_body().map_err(std::io::Error::other).boxed_unsync()) })
    })
    .await;
    let router = Router::to(&[&web]).await;
    let (say, body) = spoken();
    let request = Request::post("/").body(body).unwrap();
    let mut client = router.client().await;
    say.send("first").await.unwrap();
    let mut echo = client.send(request).await.into_body();
    for part in ["first", "second", "third"] {
        if part != "first" {
            say.send(part).await.unwrap();
        }
        let frame = soon("the echo", echo.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), part);
    }
    drop(say);
    assert!(soon("the end", echo.frame()).await.is_none());
}

#[tokio::test]
async fn an_early_answer_ends_the_upload() {
    let web = Container::answering("w", |_| {
        Box::pin(async {
            let mut refusal = Response::new(full("too large"));
            *refusal.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
            refusal
        })
    })
    .await;
    let router = Router::to(&[&web]).await;
    let (say, body) = spoken();
    say.send("begun").await.unwrap();
    let request = Request::post("/").body(body).unwrap();
    let answer = router.client().await.send(request).await;
    assert_eq!(answer.status(), 413);
    assert_eq!(router.get("/").await.0, 413);
}

#[tokio::test]
async fn small_answers_leave_one_connection_and_many_at_once_take_many() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let mut client = router.client().await;
    for _ in 0..100 {
        client.post("/", "x").await;
    }
    assert_eq!(web.connections.load(Ordering::SeqCst), 1);
    let clients: Vec<_> = (0..64).map(|_| router.get("/")).collect();
    for (status, _) in futures::future::join_all(clients).await {
        assert_eq!(status, 200);
    }
    assert!(web.connections.load(Ordering::SeqCst) <= 65);
}
