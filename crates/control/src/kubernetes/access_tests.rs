//! Access against a fake API server behind real TLS: what is asked, and what is made of the answers.

use std::{
    collections::VecDeque,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sampan_store::model::{FaultKind, Outcome, Taint};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::{
    Pki,
    access::{Directory, TunnelAccess},
    generate,
    tests::{sample_cluster, sample_control_plane, sample_images},
};
use crate::ports::{ApiReadiness, ClusterAccess as _, Dialer, DrainOutcome, NodeReadiness, Stream};

/// Answers for requests in the order in which they are expected: method and path, status, body.
type Script = Arc<Mutex<VecDeque<(&'static str, u16, Value)>>>;

struct World {
    pki: Arc<Pki>,
    tls: TlsAcceptor,
    script: Script,
    dials: Mutex<u32>,
}

fn world(script: Vec<(&'static str, u16, Value)>) -> Arc<World> {
    // Certificates are checked against the real clock here.
    let now = jiff::Timestamp::now();
    let pki = Arc::new(generate(&sample_cluster(), &[sample_control_plane().ip], now, None).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.cluster_ca.certificate.as_bytes()).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pki.api_server.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(pki.api_server.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    Arc::new(World { pki, tls, script: Arc::new(Mutex::new(script.into())), dials: Mutex::default() })
}

async fn answer(script: Script, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let asked = format!("{} {}", request.method(), request.uri());
    request.into_body().collect().await?;
    let (wanted, status, body) =
        script.lock().unwrap().pop_front().unwrap_or(("nothing more", 599, json!({"message": "unexpected"})));
    assert!(asked.starts_with(wanted), "asked {asked}, expected {wanted}");
    let mut response = Response::new(Full::from(body.as_str().map_or_else(|| body.to_string(), str::to_owned)));
    *response.status_mut() = status.try_into().unwrap();
    Ok(response)
}

#[async_trait]
impl Dialer for World {
    async fn dial(&self, machine_id: &str, address: &str) -> io::Result<Box<dyn Stream>> {
        assert_eq!((machine_id, address), ("i-cp", "127.0.0.1:6443"));
        *self.dials.lock().unwrap() += 1;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (tls, script) = (self.tls.clone(), Arc::clone(&self.script));
        tokio::spawn(async move {
            let stream = tls.accept(far).await.unwrap();
            let service = service_fn(move |request| answer(Arc::clone(&script), request));
            // The client may go away at any time.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        Ok(Box::new(near))
    }
}

#[async_trait]
impl Directory for World {
    async fn pki(&self, _: &str) -> Outcome<Arc<Pki>> {
        Ok(Arc::clone(&self.pki))
    }
    fn control_planes(&self, _: &str) -> Vec<String> {
        vec!["i-cp".into()]
    }
    fn node_ip(&self, _: &str, _: &str) -> Option<Ipv4Addr> {
        None
    }
    fn taints(&self, _: &str) -> Vec<Taint> {
        Vec::new()
    }
}

fn access(world: &Arc<World>) -> Arc<TunnelAccess> {
    let (directory, dialer): (Arc<dyn Directory>, Arc<dyn Dialer>) = (world.clone(), world.clone());
    TunnelAccess::new(directory, dialer, sample_images(), Vec::new())
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message})
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let node = json!({"metadata": {"name": "n", "resourceVersion": "1"}, "status": {"conditions": [
        {"type": "Ready", "status": "False", "message": "starting"}], "nodeInfo": {
        "kubeletVersion": "v1.36.3", "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
        "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}}});
    let world = world(vec![
        ("GET /readyz", 200, json!("ok")),
        ("GET /api/v1/nodes", 200, json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": [node]})),
    ]);
    let access = access(&world);
    assert_eq!(access.readiness(&sample_cluster()).await.unwrap(), ApiReadiness::Ready);
    let nodes = access.nodes(&sample_cluster()).await.unwrap();
    assert_eq!((nodes[0].name.as_str(), nodes[0].ready), ("n", NodeReadiness::NotReady));
    assert_eq!(nodes[0].message, "starting");
    assert_eq!(*world.dials.lock().unwrap(), 1);
}

#[tokio::test]
async fn refusals_keep_their_kind_and_reason() {
    let world = world(vec![
        ("GET /readyz", 500, json!("[+]etcd ok\n[-]poststarthook/rbac failed")),
        ("GET /readyz", 500, json!("[-]etcd failed\n[-]poststarthook/rbac failed")),
        ("GET /api/v1/nodes/n", 404, status(404, "nodes \"n\" not found")),
        ("DELETE /api/v1/nodes/n", 404, status(404, "nodes \"n\" not found")),
    ]);
    let access = access(&world);
    let cluster = sample_cluster();
    let starting = ApiReadiness::Starting("the API server still has to do: rbac".into());
    assert_eq!(access.readiness(&cluster).await.unwrap(), starting);
    let unready = access.readiness(&cluster).await.unwrap_err();
    assert_eq!(unready.kind, FaultKind::Unavailable);
    assert!(unready.message.contains("etcd, rbac"), "{unready}");
    let missing = access.settle_node(&cluster, "n", &Default::default()).await.unwrap_err();
    assert!(matches!(missing.kind, FaultKind::NotFound(_)) && missing.message.contains("nodes \"n\" not found"));
    access.delete_node(&cluster, "n").await.unwrap();
}

#[tokio::test]
async fn dns_needs_a_ready_endpoint() {
    let slices = |ready: bool| {
        json!({"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": {}, "items": [
            {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [
                {"addresses": ["172.20.1.2"], "conditions": {"ready": ready}}]}]})
    };
    const ASKED: &str = "GET /apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices";
    let world = world(vec![(ASKED, 200, slices(false)), (ASKED, 200, slices(true))]);
    let access = access(&world);
    assert!(access.dns_ready(&sample_cluster()).await.unwrap_err().retryable());
    access.dns_ready(&sample_cluster()).await.unwrap();
}

#[tokio::test]
async fn pods_need_the_default_service_account() {
    const PATH: &str = "GET /api/v1/namespaces/default/serviceaccounts/default";
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    let mut missing = status(404, "not found");
    missing["reason"] = json!("NotFound");
    let world = world(vec![(PATH, 404, missing), (PATH, 200, account)]);
    let access = access(&world);
    assert!(access.default_account_ready(&sample_cluster()).await.unwrap_err().retryable());
    access.default_account_ready(&sample_cluster()).await.unwrap();
}

#[tokio::test]
async fn a_drain_names_the_budget_that_blocks_it() {
    let pod = |name: &str, owner: &str| {
        json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": name}, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "u", "controller": true}]}})
    };
    let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
        pod("a", "ReplicaSet"), pod("b", "ReplicaSet"), pod("d", "DaemonSet")]});
    let mut blocked = status(429, "Cannot evict pod as it would violate the pod's disruption budget.");
    blocked["details"] = json!({"causes": [
        {"reason": "DisruptionBudget", "message": "The disruption budget web needs 2 healthy pods and has 2 currently"}]});
    let budget = |name: &str, app: &str| json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": app}}}});
    let budgets = json!({"kind": "PodDisruptionBudgetList", "apiVersion": "policy/v1", "metadata": {},
        "items": [budget("other", "a"), budget("web", "b")]});
    let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}});
    let evicted = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201});
    let world = world(vec![
        ("PATCH /api/v1/nodes/n", 200, node.clone()),
        ("GET /api/v1/pods?&fieldSelector=spec.nodeName%3Dn", 200, pods),
        ("POST /api/v1/namespaces/default/pods/a/eviction", 201, evicted),
        ("POST /api/v1/namespaces/default/pods/b/eviction", 429, blocked),
        ("GET /apis/policy/v1/namespaces/default/poddisruptionbudgets", 200, budgets),
        ("PATCH /api/v1/nodes/n", 404, status(404, "gone")),
    ]);
    let access = access(&world);
    let DrainOutcome::Waiting(text) = access.drain(&sample_cluster(), "n").await.unwrap() else { panic!("done") };
    assert!(text.contains("default/a is ending") && text.contains("The disruption budget web needs 2"), "{text}");
    assert!(!text.contains("default/d") && !text.contains("other"));
    assert!(
        text.starts_with("default/b must stay for now: PodDisruptionBudget default/web forbids its eviction"),
        "{text}"
    );
    assert_eq!(access.drain(&sample_cluster(), "n").await.unwrap(), DrainOutcome::Done);
}
