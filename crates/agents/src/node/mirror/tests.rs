use std::{fs, path::Path};

use bytes::Bytes;
use http_body_util::Full;
use sha2::Digest as _;
use tokio::net::TcpStream;

use super::*;

/// An image layout under construction.
struct Store {
    directory: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        Self { directory }
    }

    fn blob(&self, content: &[u8]) -> String {
        let hex: String = sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(self.directory.path().join("blobs/sha256").join(&hex), content).unwrap();
        format!("sha256:{hex}")
    }

    fn index(&self, entries: &[(&str, &str)]) {
        let manifests: Vec<_> = entries
            .iter()
            .map(|(name, digest)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest,
                    "size": 1,
                    "annotations": { "org.opencontainers.image.ref.name": name },
                })
            })
            .collect();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        write_atomically(&self.directory.path().join("index.json"), &index.to_string());
    }

    async fn mirror(&self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mirror = Mirror::serve(listener, self.directory.path().into());
        Running { address, _mirror: mirror }
    }
}

struct Running {
    address: SocketAddr,
    _mirror: Mirror,
}

fn write_atomically(path: &Path, content: &str) {
    fs::write(path.with_extension("new"), content).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

async fn ask(mirror: &Running, method: Method, path: &str, range: Option<&str>) -> (http::response::Parts, Bytes) {
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(mirror.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "mirror");
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts, body.collect().await.unwrap().to_bytes())
}

fn header_of<'a>(parts: &'a http::response::Parts, name: &str) -> &'a str {
    parts.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_image_is_pulled() {
    let store = Store::new();
    let layer = store.blob(b"layer");
    let manifest_content = format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{layer}"}}]}}"#);
    let manifest = store.blob(manifest_content.as_bytes());
    store.index(&[("docker.io/library/nginx:alpine", &manifest)]);
    let mirror = store.mirror().await;

    assert_eq!(ask(&mirror, Method::GET, "/v2/", None).await.0.status, StatusCode::OK);
    for path in ["/v2/library/nginx/manifests/alpine?ns=docker.io", "/v2/library/nginx/manifests/alpine"] {
        let (head, body) = ask(&mirror, Method::HEAD, path, None).await;
        assert_eq!((head.status, body.len()), (StatusCode::OK, 0));
        assert_eq!(header_of(&head, "docker-content-digest"), manifest);
        assert_eq!(header_of(&head, "content-length"), manifest_content.len().to_string());
        assert_eq!(header_of(&head, "content-type"), "application/vnd.oci.image.manifest.v1+json");
    }
    let (_, body) =
        ask(&mirror, Method::GET, &format!("/v2/library/nginx/manifests/{manifest}?ns=docker.io"), None).await;
    assert_eq!(body, manifest_content);
    let blob = format!("/v2/library/nginx/blobs/{layer}?ns=docker.io");
    let (parts, body) = ask(&mirror, Method::GET, &blob, None).await;
    assert_eq!((header_of(&parts, "content-length"), &body[..]), ("5", &b"layer"[..]));
    let (parts, body) = ask(&mirror, Method::HEAD, &blob, None).await;
    assert_eq!((header_of(&parts, "content-length"), body.len()), ("5", 0));
    let (parts, body) = ask(&mirror, Method::GET, &blob, Some("bytes=1-2")).await;
    assert_eq!((parts.status, &body[..]), (StatusCode::PARTIAL_CONTENT, &b"ay"[..]));
    assert_eq!(header_of(&parts, "content-range"), "bytes 1-2/5");
    let (parts, _) = ask(&mirror, Method::GET, &blob, Some("bytes=9-")).await;
    assert_eq!(parts.status, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn what_is_not_there_has_the_registrys_error() {
    let store = Store::new();
    let layer = store.blob(b"\x1f\x8bnot json");
    let mirror = store.mirror().await;
    let none = "0".repeat(64);
    for (path, status, code) in [
        ("/v2/a/b/manifests/latest?ns=docker.io".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/a/manifests/{layer}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/a/blobs/sha256:{none}"), 404, "BLOB_UNKNOWN"),
        ("/v2/a/blobs/sha256:..%2f..%2findex.json".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/../../etc/blobs/passwd".to_owned(), 404, "NAME_UNKNOWN"),
        ("/etc/passwd".to_owned(), 404, "NAME_UNKNOWN"),
    ] {
        let (parts, body) = ask(&mirror, Method::GET, &path, None).await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((parts.status.as_u16(), body["errors"][0]["code"].as_str()), (status, Some(code)), "{path}");
    }
    let (parts, _) = ask(&mirror, Method::PUT, "/v2/a/manifests/x", None).await;
    assert_eq!(parts.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_changed_index_is_read_again_and_registries_are_told_apart() {
    let store = Store::new();
    let mirror = store.mirror().await;
    let path = "/v2/pause/manifests/3?ns=registry.k8s.io";
    assert_eq!(ask(&mirror, Method::GET, path, None).await.0.status, StatusCode::NOT_FOUND);
    let manifest = store.blob(br#"{"layers":[]}"#);
    store.index(&[("registry.k8s.io/pause:3", &manifest)]);
    assert_eq!(ask(&mirror, Method::GET, path, None).await.0.status, StatusCode::OK);
    let other = "/v2/pause/manifests/3?ns=docker.io";
    assert_eq!(ask(&mirror, Method::GET, other, None).await.0.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn large_blobs_are_streamed_whole() {
    let store = Store::new();
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let digest = store.blob(&content);
    let mirror = store.mirror().await;
    let (_, body) = ask(&mirror, Method::GET, &format!("/v2/a/blobs/{digest}"), None).await;
    assert!(body == content);
}

#[test]
fn ranges() {
    let part = |start, length| Range::Part { start, length };
    for (text, expected) in [
        ("bytes=0-", part(0, 10)),
        ("bytes=3-5", part(3, 3)),
        ("bytes=3-99", part(3, 7)),
        ("bytes=-4", part(6, 4)),
        ("bytes=-40", part(0, 10)),
        ("bytes=-0", Range::Unsatisfiable),
        ("bytes=10-", Range::Unsatisfiable),
        ("bytes=5-3", Range::Ignored),
        ("bytes=0-1,4-5", Range::Ignored),
        ("lines=1-2", Range::Ignored),
        ("bytes=0-18446744073709551615", part(0, 10)),
    ] {
        assert_eq!(range(text, 10), expected, "{text}");
    }
}

#[test]
fn paths() {
    let manifest = Target::Manifest { name: "a/b/c", reference: "v1" };
    assert_eq!(target("/v2/a/b/c/manifests/v1"), Some(manifest));
    assert_eq!(target("/v2/a/blobs/x"), Some(Target::Blob { digest: "x" }));
    assert_eq!(target("/v2"), Some(Target::Base));
    for bad in ["/", "/v1/", "/v2/a", "/v2/manifests/x", "/v2//manifests/x", "/v2/a//b/blobs/x", "/v2/../blobs/x"] {
        assert_eq!(target(bad), None, "{bad}");
    }
}
