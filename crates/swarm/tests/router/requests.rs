use http::Request;

use crate::common::{Client, Container, Router, exchange, full, group, route, table, text};

#[tokio::test]
async fn hosts_and_paths_find_their_service() {
    let (root, api, other) =
        (Container::saying("root").await, Container::saying("api").await, Container::saying("other").await);
    let router = Router::with(&table(
        1,
        vec![
            route("web.test", "/", vec![group("p_root", 100, &[&root])]),
            route("web.test", "/api", vec![group("p_api", 100, &[&api])]),
            route("Other.Test", "/only/", vec![group("p_other", 100, &[&other])]),
            route("empty.test", "/", vec![group("p_empty", 100, &[])]),
            route("off.test", "/", vec![group("p_root", 0, &[&root])]),
        ],
    ))
    .await;
    let ask = async |host: &str, path: &str| {
        let request = Request::get(path).header("host", host).body(full("")).unwrap();
        text(router.client().await.send(request).await).await
    };
    for (host, path, answer) in [
        ("web.test", "/", "root GET / "),
        ("WEB.test:9080", "/apix", "root GET /apix "),
        ("web.test", "/api", "api GET /api "),
        ("web.test.", "/api/x?y=1", "api GET /api/x "),
        ("other.test", "/only/x", "other GET /only/x "),
    ] {
        assert_eq!(ask(host, path).await, (200, answer.to_owned()), "{host}{path}");
    }
    let (status, words) = ask("other.test", "/").await;
    assert_eq!(status, 404);
    assert!(words.contains("no service has a route for host other.test and path /"), "{words}");
    assert_eq!(ask("foreign.test", "/").await.0, 404);
    let (status, words) = ask("empty.test", "/").await;
    assert!(status == 503 && words.contains("no container of this route is healthy"), "{status} {words}");
    let (status, words) = ask("off.test", "/").await;
    assert!(status == 503 && words.contains("weight"), "{status} {words}");
    assert_eq!(ask("we/b.test", "/").await.0, 400);
    let status = router.status("counters", |status| status["unrouted"] == 2).await;
    assert_eq!(status["services"]["p_api"]["requests"], 2);
}

#[tokio::test]
async fn the_head_reaches_the_backend_as_it_should() {
    let mirror = Container::mirror("m").await;
    let router = Router::to(&[&mirror]).await;
    let request = Request::get("/a%2Fb/../c?q=1&q=%20")
        .header("host", "Web.Test:8080")
        .header("connection", "keep-alive, X-Private")
        .header("x-private", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-authorization", "secret")
        .header("te", "gzip;q=0.5, trailers")
        .header("x-forwarded-for", "192.0.2.1")
        .header("x-forwarded-proto", "https")
        .header("cookie", "a=1; b=2")
        .body(full(""))
        .unwrap();
    let (status, head) = text(router.client().await.send(request).await).await;
    assert_eq!(status, 200);
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], "GET /a%2Fb/../c?q=1&q=%20 HTTP/1.1");
    for line in [
        "host: Web.Test:8080",
        "te: trailers",
        "cookie: a=1; b=2",
        "x-forwarded-for: 192.0.2.1, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: Web.Test:8080",
        "x-forwarded-port: 8080",
    ] {
        assert!(lines.contains(&line), "{line} is not in {head}");
    }
    for name in ["connection", "x-private", "keep-alive", "proxy-authorization", "transfer-encoding", "content-length"]
    {
        assert!(!lines.iter().any(|line| line.starts_with(&format!("{name}:"))), "{name} is in {head}");
    }
}

#[tokio::test]
async fn plain_requests_get_their_forwarding_headers() {
    let mirror = Container::mirror("m").await;
    let router = Router::to(&[&mirror]).await;
    let (_, head) = router.get("/").await;
    for line in
        ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-forwarded-port: 80", "x-forwarded-host: web.test"]
    {
        assert!(head.lines().any(|one| one == line), "{line} is not in {head}");
    }
}

#[tokio::test]
async fn the_absolute_form_goes_before_the_host() {
    let mirror = Container::mirror("m").await;
    let router = Router::to(&[&mirror]).await;
    let request = "GET http://web.test:81/x?y HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n";
    let answer = exchange(router.address, request).await;
    assert!(answer.contains("GET /x?y HTTP/1.1") && answer.contains("host: web.test:81"), "{answer}");
    assert!(!answer.contains("evil"), "{answer}");
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    for head in [
        "POST / HTTP/1.1\r\nhost: web.test\r\ncontent-length: 6\r\ncontent-length: 7\r\n\r\nabcdef",
        "POST / HTTP/1.1\r\nhost: web.test\r\ntransfer-encoding: gzip\r\n\r\nabcdef",
        "POST / HTTP/1.0\r\nhost: web.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: web.test\r\nx-a : b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: web.test\r\nhost: other.test\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
        "GARBAGE\r\n\r\n",
    ] {
        let answer = exchange(router.address, head).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{head:?}: {answer}");
    }
    assert_eq!(web.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
}

/// Two lengths: the chunks count, the other length does not reach the backend, and nothing follows on the connection.
#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on() {
    let mirror = Container::mirror("m").await;
    let router = Router::to(&[&mirror]).await;
    for lengths in
        ["content-length: 6\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 6"]
    {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: web.test\r\n{lengths}\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nhost: web.test\r\n\r\n"
        );
        let answer = exchange(router.address, &request).await;
        let (head, mirrored) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("connection: close"), "{answer}");
        assert!(!mirrored.contains("content-length: 6") && !mirrored.contains("GET /x"), "{answer}");
    }
    assert_eq!(mirror.requests.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn connect_is_refused_and_options_of_the_server_pass() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let answer =
        exchange(router.address, "CONNECT web.test:80 HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let answer = exchange(router.address, "OPTIONS * HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("w OPTIONS * "), "{answer}");
}

#[tokio::test]
async fn large_heads_pass_up_to_the_limit() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let with = async |bytes: usize, count: usize| {
        let mut request = Request::get("/").header("x-large", "x".repeat(bytes));
        for index in 0..count {
            request = request.header(format!("x-{index}"), "1");
        }
        let mut client = Client::connect(router.address).await;
        client.send(request.body(full("")).unwrap()).await.status().as_u16()
    };
    assert_eq!(with(60 * 1024, 0).await, 200);
    assert_eq!(with(10, 80).await, 200);
    assert_eq!(with(70 * 1024, 0).await, 431);
    assert_eq!(with(10, 120).await, 431);
}

#[tokio::test]
async fn every_kind_of_body_arrives() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let mut client = router.client().await;
    assert_eq!(client.post("/p", "hello").await, (200, "w POST /p hello".to_owned()));
    assert_eq!(client.post("/p", "").await, (200, "w POST /p ".to_owned()));
    let chunked = "PUT /c HTTP/1.1\r\nhost: web.test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                   3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n";
    assert!(exchange(router.address, chunked).await.ends_with("w PUT /c abcde"));
    let head = "HEAD / HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n";
    let answer = exchange(router.address, head).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("content-length: 9"), "{answer}");
    let old = "GET /old HTTP/1.0\r\nhost: web.test\r\n\r\n";
    let answer = exchange(router.address, old).await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("w GET /old "), "{answer}");
    let waiting = "POST /e HTTP/1.1\r\nhost: web.test\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    let answer = exchange(router.address, waiting).await;
    assert!(answer.starts_with("HTTP/1.1 100") && answer.ends_with("w POST /e ok"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let mut requests: String =
        (0..20).map(|index| format!("GET /{index} HTTP/1.1\r\nhost: web.test\r\n\r\n")).collect();
    requests.push_str("GET /last HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n");
    let answer = exchange(router.address, &requests).await;
    let mut from = 0;
    for index in 0..20 {
        let found = answer[from..].find(&format!("w GET /{index} ")).unwrap();
        from += found;
    }
    assert!(answer.ends_with("w GET /last "));
    assert_eq!(web.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}
