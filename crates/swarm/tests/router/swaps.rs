//! Tables change while requests flow.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use http::Request;
use http_body_util::BodyExt as _;

use crate::{
    common::{Client, Container, Router, free_port, full, group, route, table},
    master::{Master, settings},
};

const CLIENTS: usize = 16;
const ROUNDS: u64 = 40;

/// Requests of every kind, without a pause, until told to stop; answers how many there were.
async fn load(router: &Router, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<usize>> {
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (address, stop) = (router.address, Arc::clone(stop));
        clients.push(tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut count = 0;
            while !stop.load(Ordering::SeqCst) {
                let method = if (number + count) % 3 == 0 { "POST" } else { "GET" };
                let body = if method == "POST" { "order" } else { "" };
                let request = Request::builder().method(method).uri("/").body(full(body)).unwrap();
                let answer = client.send(request).await;
                let status = answer.status();
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                count += 1;
            }
            count
        }));
    }
    clients
}

/// Containers come and go, each stopped hard as soon as the router has acknowledged that it is out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_containers_are_replaced() {
    let files = tempfile::tempdir().unwrap();
    let mut running = vec![Container::saying("c0").await, Container::saying("c1").await];
    let wanted = |revision, running: &[Container]| {
        let all: Vec<&Container> = running.iter().collect();
        table(revision, vec![route("web.test", "/", vec![group("p_web", 100, &all)])])
    };
    let mut master = Master::start(files.path(), free_port().await, wanted(1, &running)).await;
    let router = Router::start(tempfile::tempdir().unwrap(), settings(files.path(), &master.address)).await;
    master.acknowledged(1).await;
    let stop = Arc::<AtomicBool>::default();
    let clients = load(&router, &stop).await;
    for round in 1..=ROUNDS {
        running.push(Container::saying(&format!("c{}", round + 1)).await);
        let old = running.remove(0);
        master.table.send_replace(wanted(round + 1, &running));
        master.acknowledged(round + 1).await;
        let before = old.requests.load(Ordering::SeqCst);
        let requests = Arc::clone(&old.requests);
        drop(old);
        assert_eq!(requests.load(Ordering::SeqCst), before, "a request came after the acknowledgement");
    }
    stop.store(true, Ordering::SeqCst);
    let mut total = 0;
    for client in clients {
        total += client.await.unwrap();
    }
    assert!(total > ROUNDS as usize);
    router.stop().await;
}

/// A blue-green release: weights move, then the old one goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_weights_move() {
    let (blue, green) = (Container::saying("blue").await, Container::saying("green").await);
    let wanted = |revision, weight| {
        let groups = vec![group("p_blue", 100 - weight, &[&blue]), group("p_green", weight, &[&green])];
        table(revision, vec![route("web.test", "/", groups)])
    };
    let router = Router::with(&wanted(1, 0)).await;
    let stop = Arc::<AtomicBool>::default();
    let clients = load(&router, &stop).await;
    for step in 1..=10_u32 {
        router.install(&wanted(u64::from(step) + 1, step * 10)).await;
    }
    let before = blue.requests.load(Ordering::SeqCst);
    let more = Arc::new(AtomicUsize::new(0));
    while more.fetch_add(1, Ordering::SeqCst) < 50 {
        assert_eq!(router.get("/").await, (200, "green GET / ".to_owned()));
    }
    assert_eq!(blue.requests.load(Ordering::SeqCst), before);
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    drop(blue);
    assert_eq!(router.get("/").await.1, "green GET / ");
}
