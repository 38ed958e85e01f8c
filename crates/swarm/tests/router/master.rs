//! A master of the tests, and routers that follow it.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use sampan_swarm::router::table::RouteTable;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::common::{Body, Container, Router, free_port, full, group, route, soon, table, tcp_route};

/// How long the master of the tests holds a question.
const HOLD: Duration = Duration::from_millis(300);

pub(crate) struct Master {
    pub(crate) table: watch::Sender<RouteTable>,
    /// What each router has acknowledged, and what it could not open.
    pub(crate) seen: watch::Receiver<BTreeMap<String, (u64, Value)>>,
    pub(crate) address: String,
    _task: AbortOnDropHandle<()>,
}

impl Master {
    pub(crate) async fn start(files: &Path, port: u16, first: RouteTable) -> Self {
        let config = certificates(files);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (sender, tables) = watch::channel(first);
        let (seen_sender, seen) = watch::channel(BTreeMap::new());
        let seen_sender = Arc::new(seen_sender);
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, tables, seen) =
                    (TlsAcceptor::from(Arc::clone(&config)), tables.clone(), Arc::clone(&seen_sender));
                tasks.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| {
                        let answer = answer(request, tables.clone(), Arc::clone(&seen));
                        async move { Ok::<_, std::convert::Infallible>(answer.await) }
                    });
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    let _ = connection.await;
                });
            }
        });
        Self { table: sender, seen, address: format!("127.0.0.1:{port}"), _task: AbortOnDropHandle::new(task) }
    }

    /// Waits until the router has a revision in force.
    pub(crate) async fn acknowledged(&mut self, revision: u64) {
        let seen = self.seen.wait_for(|seen| seen.values().any(|(acknowledged, _)| *acknowledged >= revision));
        soon("the revision is in force", seen).await.unwrap();
    }
}

async fn answer(
    request: Request<Incoming>,
    mut tables: watch::Receiver<RouteTable>,
    seen: Arc<watch::Sender<BTreeMap<String, (u64, Value)>>>,
) -> Response<Body> {
    assert_eq!(request.uri().path(), "/internal/routes");
    let query: BTreeMap<&str, &str> =
        request.uri().query().unwrap().split('&').map(|pair| pair.split_once('=').unwrap()).collect();
    let after: u64 = query["after"].parse().unwrap();
    let failures = request
        .headers()
        .get("x-sampan-tcp-failures")
        .map_or(Value::Null, |told| serde_json::from_slice(told.as_bytes()).unwrap());
    seen.send_modify(|seen| {
        seen.insert(query["router"].to_owned(), (after, failures));
    });
    match timeout(HOLD, tables.wait_for(|table| table.revision > after)).await {
        Ok(table) => Response::new(full(serde_json::to_vec(&*table.unwrap()).unwrap())),
        Err(_) => {
            let mut nothing = Response::new(full(""));
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            nothing
        }
    }
}

/// An authority for both sides, the server's end, and the files of a router.
fn certificates(directory: &Path) -> Arc<ServerConfig> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |usage, name: &str| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        std::fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(directory.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
        (CertificateDer::from(certificate.der().to_vec()), key.serialize_pem())
    };
    std::fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    issue(ExtendedKeyUsagePurpose::ClientAuth, "client");
    let (certificate, key) = issue(ExtendedKeyUsagePurpose::ServerAuth, "server");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    Arc::new(config)
}

pub(crate) fn settings(files: &Path, master: &str) -> Value {
    let path = |name: &str| files.join(name);
    json!({
        "master": master,
        "tls": { "ca": path("ca.pem"), "cert": path("client.pem"), "key": path("client-key.pem") },
    })
}

#[tokio::test]
async fn tables_come_from_the_master_are_acknowledged_and_outlive_it() {
    let files = tempfile::tempdir().unwrap();
    let (a, b) = (Container::saying("a").await, Container::saying("b").await);
    let to =
        |revision, one: &Container| table(revision, vec![route("web.test", "/", vec![group("p_web", 100, &[one])])]);
    let port = free_port().await;
    let mut master = Master::start(files.path(), port, to(7, &a)).await;
    let router = Router::start(tempfile::tempdir().unwrap(), settings(files.path(), &master.address)).await;
    master.acknowledged(7).await;
    assert_eq!(router.get("/").await.1, "a GET / ");
    master.table.send_replace(to(8, &b));
    master.acknowledged(8).await;
    assert_eq!(router.get("/").await.1, "b GET / ");
    let status = router.status("connected", |status| status["master_connected"] == true).await;
    assert_eq!(status["acknowledged"], 8);
    // The router is started again while there is no master.
    drop(master);
    let directory = router.stop().await;
    let router = Router::start(directory, settings(files.path(), &format!("127.0.0.1:{port}"))).await;
    assert_eq!(router.get("/").await.1, "b GET / ");
    // The master is there again, with a history of its own.
    let mut master = Master::start(files.path(), port, to(2, &a)).await;
    // Its authority is another one; the files are read anew.
    master.acknowledged(2).await;
    assert_eq!(router.get("/").await.1, "a GET / ");
    router.stop().await;
}

#[tokio::test]
async fn ports_that_cannot_be_opened_are_told_to_the_master() {
    let files = tempfile::tempdir().unwrap();
    let web = Container::saying("a").await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let wanted = RouteTable { tcp: vec![tcp_route(port, &[&web])], ..table(3, vec![]) };
    let mut master = Master::start(files.path(), free_port().await, wanted).await;
    let _router = Router::start(tempfile::tempdir().unwrap(), settings(files.path(), &master.address)).await;
    let told = master.seen.wait_for(|seen| seen.values().any(|(_, failures)| failures[0]["port"] == port));
    let seen = soon("it is told", told).await.unwrap();
    assert_eq!(seen.keys().next().unwrap(), "cn-hangzhou.10.0.0.1");
}
