use sampan_swarm::router::table::RouteTable;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::common::{Container, Router, free_port, soon, table, tcp_route};

/// Says its id, then everything that it was told, when the other end has finished.
async fn parrot(id: &str) -> Container {
    let name = id.to_owned();
    Container::raw(id, move |mut stream| {
        let name = name.clone();
        Box::pin(async move {
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            let _ = stream.write_all(name.as_bytes()).await;
            let _ = stream.write_all(&heard).await;
        })
    })
    .await
}

async fn talk(port: u16, words: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn tcp_routes_open_carry_and_close() {
    let (a, b) = (parrot("a").await, parrot("b").await);
    let (first, second) = (free_port().await, free_port().await);
    let router = Router::with(&RouteTable { tcp: vec![tcp_route(first, &[&a])], ..table(1, vec![]) }).await;
    assert_eq!(talk(first, "hello").await, "ahello");
    let mut routes = vec![tcp_route(first, &[&b]), tcp_route(second, &[&a, &b])];
    routes[1].backends.insert(0, Container::gone("gone").await);
    router.install(&RouteTable { tcp: routes, ..table(2, vec![]) }).await;
    assert_eq!(talk(first, "").await, "b");
    let answers: std::collections::BTreeSet<String> =
        [talk(second, "x").await, talk(second, "x").await, talk(second, "x").await].into();
    assert_eq!(answers, ["ax".to_owned(), "bx".to_owned()].into());
    let mut open = TcpStream::connect(("127.0.0.1", second)).await.unwrap();
    router.status("it is under way", |status| status["services"]["p_tcp"]["in_flight"] == 1).await;
    router.install(&RouteTable { tcp: vec![tcp_route(first, &[&b])], ..table(3, vec![]) }).await;
    assert!(TcpStream::connect(("127.0.0.1", second)).await.is_err());
    // What was open by it is cut.
    assert!(matches!(soon("the end", open.read(&mut [0; 1])).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_tried_again() {
    let web = parrot("a").await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let router = Router::with(&RouteTable { tcp: vec![tcp_route(port, &[&web])], ..table(1, vec![]) }).await;
    let status = router.status("it is told", |status| status["tcp_failures"][0]["port"] == port).await;
    assert!(status["tcp_failures"][0]["message"].as_str().unwrap().contains("in use"), "{status}");
    drop(taken);
    router.status("it is open", |status| status["tcp_ports"][0] == port).await;
    assert_eq!(talk(port, "x").await, "ax");
}
