//! The edge over real connections: what is refused before a body is read, and what after.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sampan_api::{
    Secret,
    signature::{OutgoingRequest, SigningKey, sign_acs3},
};
use sampan_control::{
    ports::Clock,
    service::{
        Service, Settings,
        credentials::{Credentials, Issued},
    },
};
use sampan_gateway::{
    edge::{
        Gateway, GatewayParts, Limits,
        keys::{Keys, secret_name},
        listen,
    },
    handlers,
};
use sampan_store::{
    Batch, Store,
    model::{AccessKey, Cluster, Outcome, Timestamp},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

const BODY_BYTES_MAX: usize = 4096;

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

struct NoCredentials;

#[async_trait]
impl Credentials for NoCredentials {
    async fn issue(&self, _: &Cluster, _: &str, _: &[String], _: Timestamp) -> Outcome<Issued> {
        unreachable!("no test here asks for credentials")
    }
}

struct Edge {
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Edge {
    async fn start() -> Self {
        let store = Store::open_temporary().await.unwrap();
        let mut batch = Batch::new();
        batch.create(&AccessKey {
            id: "LTAIknown".into(),
            account_id: "1001".into(),
            principal: "1001".into(),
            is_root: true,
            created: Timestamp::now(),
        });
        batch.secret(&secret_name("LTAIknown"), b"right");
        store.commit(batch).await.unwrap();
        let service = Service::new(store.clone(), Settings::default(), Arc::new(SystemClock), Arc::new(NoCredentials));
        let gateway = Gateway::new(GatewayParts {
            service: Arc::new(service),
            keys: Keys::load(store.clone()).await.unwrap(),
            store,
            routes: handlers::routes(),
            limits: Limits { body_bytes_max: BODY_BYTES_MAX, requests_max: 8, timeout: Duration::from_secs(60) },
            registry_token: Box::new(|token| token == "registry"),
            region_id: "cn-hangzhou".into(),
            gauges: Box::new(Vec::new),
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(listen::serve(listener, None, gateway, stopped));
        Self { address, _stop: stop }
    }

    /// Sends the head of a request that announces and signs `body`, then `sent`; returns the whole answer.
    async fn post(&self, key: (&str, &str), body: &[u8], sent: &[u8], further: &str) -> String {
        let request = OutgoingRequest {
            method: "POST",
            host: "edge",
            path: "/clusters",
            query: "",
            action: None,
            content_type: Some("application/json"),
            headers: &[],
            body,
        };
        let key = SigningKey { access_key_id: key.0.into(), secret: Secret::new(key.1), security_token: None };
        let nonce = sampan_store::model::new_uuid();
        let mut head = "POST /clusters HTTP/1.1\r\nconnection: close\r\n".to_owned();
        for (name, value) in sign_acs3(&request, &key, Timestamp::now(), &nonce) {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n{further}\r\n", body.len());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

impl Edge {
    /// Sends an unsigned request and returns the whole answer.
    async fn plain(&self, request: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

fn check(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(&format!("\"Code\":\"{code}\"")), "{answer}");
}

#[tokio::test]
async fn nobody_who_has_not_signed_is_asked_for_a_body() {
    let edge = Edge::start().await;
    let expect = "expect: 100-continue\r\n";
    // The bodies never come: an edge that read them first would not answer.
    check(&edge.post(("LTAInobody", "x"), b"{\"name\": \"a\"}", b"", expect).await, 404, "InvalidAccessKeyId.NotFound");
    check(&edge.post(("LTAIknown", "wrong"), b"{\"name\": \"a\"}", b"", expect).await, 403, "SignatureDoesNotMatch");
    let large = vec![b' '; 4 << 20];
    check(&edge.post(("LTAIknown", "wrong"), &large, b"", expect).await, 403, "SignatureDoesNotMatch");
}

#[tokio::test]
async fn clients_that_write_before_they_read_get_the_refusal() {
    let edge = Edge::start().await;
    let body = vec![b' '; BODY_BYTES_MAX];
    check(&edge.post(("LTAIknown", "wrong"), &body, &body, "").await, 403, "SignatureDoesNotMatch");
    check(&edge.post(("LTAInobody", "x"), &body, &body, "").await, 404, "InvalidAccessKeyId.NotFound");
}

#[tokio::test]
async fn signed_bodies_are_read_bounded_and_compared() {
    let edge = Edge::start().await;
    let known = ("LTAIknown", "right");
    check(&edge.post(known, b"{}", b"{}", "").await, 400, "MissingParameter");
    check(&edge.post(known, b"{}", b"[]", "").await, 403, "SignatureDoesNotMatch");
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    check(&edge.post(known, &large, &large, "").await, 413, "RequestBodyTooLarge");
}

#[tokio::test]
async fn triggers_need_no_signature_but_their_secret() {
    let edge = Edge::start().await;
    check(&edge.plain("GET /hook/trigger", "", "").await, 400, "MissingParameter");
    let link = "/hook/trigger?triggerUrl=Y2E1Y2UwY2NhOWRhMzQ2ZDY4ZmYyZmYyNGZiYTAyNzdjfHdvcmRwcmVzc3xzY2FsaW5nfDE5dXM1cHZjdjQ4cnN8=&secret=xxx&&type=scale_out&step=5";
    check(&edge.plain(&format!("GET {link}"), "", "").await, 403, "StatusForbidden");
    check(&edge.plain(&format!("POST {link}"), "", "{\"id\": \"cpu_alert\"}").await, 403, "StatusForbidden");
    check(&edge.plain(&format!("DELETE {link}"), "", "").await, 404, "InvalidAction.NotFound");
}

#[tokio::test]
async fn only_the_registry_notifies() {
    let edge = Edge::start().await;
    let post = "POST /hook/registry";
    check(&edge.plain(post, "", "{}").await, 403, "StatusForbidden");
    check(&edge.plain(post, "authorization: Bearer other\r\n", "{}").await, 403, "StatusForbidden");
    let bearer = "authorization: Bearer registry\r\n";
    check(&edge.plain(post, bearer, "[1]").await, 400, "InvalidParameter");
    let large = " ".repeat(BODY_BYTES_MAX + 1);
    check(&edge.plain(post, bearer, &large).await, 413, "RequestBodyTooLarge");
    let pushed = r#"{"events": [{"action": "push", "target": {"repository": "web", "tag": "1"}}, {"action": "pull"}]}"#;
    let answer = edge.plain(post, bearer, pushed).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
