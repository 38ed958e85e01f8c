//! A fleet over engines of the tests: each is a Unix socket and a function that answers.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex, RwLock},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use sampan_agents::master::{MasterConfig, MasterNode, Strategy, TlsFiles};
use serde_json::Value;
use tokio::{
    net::UnixListener,
    sync::{Notify, watch},
};

use super::{Fleet, Member, Watched, cache::Membership, client::Client, client::Target, kept, wire};

/// What an engine of the tests answers: to method, path with query, and JSON body.
pub(crate) type Answers = Arc<dyn Fn(&Method, &str, Value) -> BoxFuture<'static, (StatusCode, Value)> + Send + Sync>;

/// Engines answer with this, one after the other, and note what they were asked.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
    /// Those that change something.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| !line.contains(" GET ")).collect()
    }
}

fn serve(socket: &Path, name: String, log: Log, answers: Answers) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (name, log, answers) = (name.clone(), log.clone(), answers.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (name, log, answers) = (name.clone(), log.clone(), answers.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body: Bytes = body.collect().await.unwrap().to_bytes();
                    let path = head.uri.path_and_query().unwrap().as_str().to_owned();
                    log.note(format!("{name} {} {path}", head.method));
                    let body = serde_json::from_slice(&body).unwrap_or_default();
                    let (status, value) = answers(&head.method, &path, body).await;
                    let answer = match value.is_null() {
                        true => wire::empty(status),
                        false => wire::answer(status, &value),
                    };
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

fn config(dir: &Path, nodes: Vec<MasterNode>) -> MasterConfig {
    let files = TlsFiles { ca: String::new(), cert: String::new(), key: String::new() };
    MasterConfig {
        cluster_id: "c1".to_owned(),
        region_id: "cn-x".to_owned(),
        advertise: Ipv4Addr::LOCALHOST,
        router_ca: String::new(),
        engines_tls: files.clone(),
        endpoint_tls: files,
        subnet: "172.18.0.0/16".parse().unwrap(),
        address_pool: "172.28.0.0/14".parse().unwrap(),
        routing_suffix: "example.test".to_owned(),
        strategy: Strategy::Spread,
        nodes,
        state_dir: dir.join("state").to_str().unwrap().to_owned(),
    }
}

/// A fleet whose nodes `n1`, `n2`, … are healthy engines that answer so. Their sockets and the fleet's state are in `dir`.
pub(crate) async fn fleet(dir: &Path, log: &Log, engines: Vec<Answers>) -> Arc<Fleet> {
    let nodes = (1..).zip(&engines).map(|(index, _)| MasterNode {
        id: format!("i-{index}"),
        name: format!("n{index}"),
        ip: Ipv4Addr::new(10, 0, 0, u8::try_from(index).unwrap()),
        index,
        leaving: false,
        labels: [].into(),
    });
    let config = Arc::new(config(dir, nodes.collect()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let (changed, swarm_wake) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let mut members = std::collections::BTreeMap::new();
    for (node, answers) in config.nodes.iter().zip(engines) {
        let socket = dir.join(&node.name);
        serve(&socket, node.name.clone(), log.clone(), answers);
        let tls = Arc::new(RwLock::new(Arc::new(tls.clone())));
        let mut member = Member::new(node.clone(), tls, changed.clone(), swarm_wake.clone());
        member.client = Client::new(node.name.clone(), Target::Unix(socket));
        member.cache().set_reachable(Ok(()));
        member.cache().set_membership(Membership::Member);
        let task = tokio::spawn(std::future::pending());
        members.insert(node.id.clone(), Watched { member: Arc::new(member), task });
    }
    let fleet = Fleet {
        settings: watch::Sender::new(config.clone()).subscribe(),
        tls: Arc::new(RwLock::new(Arc::new(tls))),
        manager: Client::new("the manager", Target::Unix(dir.join("n1"))),
        members: RwLock::new(members),
        view: RwLock::default(),
        revision: watch::Sender::new(0),
        publishing: Mutex::default(),
        changed,
        reservations: Mutex::default(),
        swarm: Mutex::default(),
        swarm_wake,
        execs: Mutex::default(),
        samples: Mutex::default(),
        kept: kept::Kept::open(&config.state_dir),
        late: tokio::sync::Mutex::default(),
    };
    fleet.publish();
    Arc::new(fleet)
}

/// A function as an engine's answers.
pub(crate) fn answers<F>(answer: F) -> Answers
where
    F: Fn(&Method, &str, Value) -> (StatusCode, Value) + Send + Sync + 'static,
{
    Arc::new(move |method, path, body| {
        let answered = answer(method, path, body);
        Box::pin(async move { answered })
    })
}

/// What engines say of what is not there.
pub(crate) fn missing(what: &str) -> (StatusCode, Value) {
    (StatusCode::NOT_FOUND, serde_json::json!({ "message": format!("No such {what}") }))
}
