use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{Container, Router, full, group, route, table};

/// Takes a request and closes without an answer.
async fn mute(id: &str) -> Container {
    Container::raw(id, |mut stream| {
        Box::pin(async move {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
        })
    })
    .await
}

/// Answers one request on each connection and closes it without having said so.
async fn forgetful(id: &str) -> Container {
    Container::raw(id, |mut stream| {
        Box::pin(async move {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nforgetful").await;
            }
        })
    })
    .await
}

#[tokio::test]
async fn a_backend_that_refuses_is_no_failure_of_any_request() {
    let web = Container::saying("w").await;
    let mut both = group("p_web", 100, &[&web]);
    both.backends.insert(0, Container::gone("gone").await);
    both.backends.push(Container::gone("gone too").await);
    let router = Router::with(&table(1, vec![route("web.test", "/", vec![both])])).await;
    let mut client = router.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("/", "x").await, (200, "w POST / x".to_owned()));
    }
    // Avoided for a while, not tried each time.
    let status = router.status("status", |_| true).await;
    assert!(status["connect_failures"].as_u64().unwrap() < 20, "{status}");
}

/// It comes back without a request having had to wait for it.
#[tokio::test]
async fn a_backend_that_was_gone_comes_back_by_itself() {
    let web = Container::saying("w").await;
    let mut both = group("p_web", 100, &[&web]);
    let gone = Container::gone("gone").await;
    both.backends.push(gone.clone());
    let router = Router::with(&table(1, vec![route("web.test", "/", vec![both])])).await;
    let mut client = router.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.0, 200);
    }
    let status = router.status("status", |_| true).await;
    assert_eq!(status["connect_failures"], 1);
    let listener = tokio::net::TcpListener::bind(gone.address).await.unwrap();
    let (mut tried, _) = crate::common::soon("it is tried again", listener.accept()).await.unwrap();
    assert_eq!(tried.read(&mut [0; 1]).await.unwrap(), 0, "no request was used for it");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nback").await.unwrap();
    });
    crate::common::soon("it gets requests again", async { while client.get("/").await.1 != "back" {} }).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn the_only_backend_is_tried_though_it_was_gone_and_the_failure_has_words() {
    let mut only = group("p_web", 100, &[]);
    only.backends.push(Container::gone("gone").await);
    let router = Router::with(&table(1, vec![route("web.test", "/", vec![only])])).await;
    for attempt in 1..=2 {
        let (status, words) = router.get("/").await;
        assert_eq!(status, 502);
        assert!(words.contains("can be reached") && words.contains("refused"), "{words}");
        router.status("it was tried", |status| status["connect_failures"] == attempt).await;
    }
}

#[tokio::test]
async fn an_unanswered_request_goes_to_another_backend_if_it_may() {
    let (mute, web) = (mute("mute").await, Container::saying("w").await);
    let router = Router::to(&[&mute, &web]).await;
    let mut client = router.client().await;
    for _ in 0..6 {
        assert_eq!(client.get("/").await, (200, "w GET / ".to_owned()));
    }
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS"] {
        for _ in 0..2 {
            let request = Request::builder().method(method).uri("/").body(full("")).unwrap();
            assert_eq!(client.send(request).await.status(), 200, "{method}");
        }
    }
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.post("/", "order").await.0);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    let status = router.status("status", |_| true).await;
    assert!(status["services"]["p_web"]["repeated"].as_u64().unwrap() >= 3, "{status}");
    assert_eq!(status["services"]["p_web"]["failed"], 2);
}

#[tokio::test]
async fn nothing_is_repeated_for_ever() {
    let all = [mute("a").await, mute("b").await, mute("c").await, mute("d").await, mute("e").await];
    let router = Router::to(&all.each_ref()).await;
    let (status, words) = router.get("/").await;
    assert_eq!(status, 502, "{words}");
    let taken: usize = all.iter().map(|one| one.connections.load(Ordering::SeqCst)).sum();
    assert_eq!(taken, 3);
}

#[tokio::test]
async fn connections_that_closed_while_they_waited_fail_nobody() {
    let web = forgetful("f").await;
    let router = Router::to(&[&web]).await;
    let mut client = router.client().await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await, (200, "forgetful".to_owned()));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off() {
    let web = Container::answering("w", |_| {
        Box::pin(async {
            let frames = stream::iter([Ok(Frame::data(Bytes::from("begun"))), Err(std::io::Error::other("broken"))]);
            // The first part goes out before the end is seen.
            let frames = frames.then(|frame| async move {
                tokio::task::yield_now().await;
                frame
            });
            Response::new(StreamBody::new(frames).boxed_unsync())
        })
    })
    .await;
    let router = Router::to(&[&web]).await;
    let answer = router.client().await.try_send(Request::get("/").body(full("")).unwrap()).await;
    if let Ok(answer) = answer {
        // Never a whole answer.
        assert!(answer.status() == 502 || answer.into_body().collect().await.is_err());
    }
    assert_eq!(web.requests.load(Ordering::SeqCst), 1, "an answer that has begun is not asked for again");
    router.status("it is counted", |status| status["services"]["p_web"]["failed"] == 1).await;
    router.status("nothing is left", |status| status["services"]["p_web"]["in_flight"] == 0).await;
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_gateway() {
    let web = Container::raw("w", |mut stream| {
        Box::pin(async move {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await;
        })
    })
    .await;
    let router = Router::to(&[&web]).await;
    let (status, words) = router.get("/").await;
    assert!(status == 502 && words.contains("not HTTP"), "{words}");
    assert_eq!(web.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let (told, mut gone) = tokio::sync::mpsc::channel(1);
    let web = Container::raw("w", move |mut stream| {
        let told = told.clone();
        Box::pin(async move {
            let mut bytes = [0; 4096];
            // The head, and then the end.
            while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
            told.send(()).await.unwrap();
        })
    })
    .await;
    let router = Router::to(&[&web]).await;
    let mut client = router.client().await;
    let asked = tokio::spawn(async move { client.get("/").await });
    router.status("it is under way", |status| status["services"]["p_web"]["in_flight"] == 1).await;
    asked.abort();
    crate::common::soon("the backend sees the end", gone.recv()).await.unwrap();
    router.status("nothing is left", |status| status["services"]["p_web"]["in_flight"] == 0).await;
}
