//! Host and server over real TLS on the loopback interface.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    agent::HostAgent,
    identity::Identity,
    payload,
    remote::Server,
    state::HostState,
    station::{Desk, Refusal, Stream, listen},
    wire::{HostFacts, JoinAnswer, JoinRequest, RenewAnswer, RenewRequest},
};
use crate::{
    node::{NodeOptions, run_until},
    spec::{NodeSpec, Payload, Uplink, UplinkService},
    tunnel::AgentHub,
};

const TOKEN: &str = "good-once";
const LONG: Duration = Duration::from_secs(20);

/// An authority with its key.
struct Authority {
    pem: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { pem: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        Issuer::from_ca_cert_pem(&self.pem, KeyPair::from_pem(&self.key).unwrap()).unwrap()
    }

    fn sign(&self, csr: &str, name: &str) -> String {
        let request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.signed_by(&request.public_key, &self.issuer()).unwrap().pem()
    }
}

/// A desk with one token for one machine.
struct TestDesk {
    authority: Authority,
    folder: PathBuf,
    hub: Arc<AgentHub>,
    used: Mutex<bool>,
    members: Mutex<BTreeSet<String>>,
    api: std::net::SocketAddr,
}

#[async_trait]
impl Desk for TestDesk {
    fn authority(&self) -> String {
        self.authority.pem.clone()
    }

    fn tls(&self, local: IpAddr) -> io::Result<Arc<ServerConfig>> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::IpAddress(local));
        let own = params.signed_by(&key, &self.authority.issuer()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Ok(Arc::new(config.with_client_cert_verifier(verifier).with_single_cert(vec![own.der().clone()], key).unwrap()))
    }

    fn machine_of(&self, certificate: &[u8]) -> Option<String> {
        // The name is in the certificate as it is; nothing here parses it.
        let known = ["i-1", "i-2"];
        known
            .iter()
            .find(|id| certificate.windows(id.len()).any(|part| part == id.as_bytes()))
            .map(|id| (*id).to_owned())
    }

    fn script(&self) -> io::Result<String> {
        Ok("#!/bin/sh\n".into())
    }

    fn agent(&self) -> PathBuf {
        self.folder.join("agent")
    }

    async fn join(&self, token: &str, request: JoinRequest, peer: IpAddr) -> Result<JoinAnswer, Refusal> {
        assert_eq!(peer, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut used = self.used.lock().unwrap();
        if token != TOKEN || std::mem::replace(&mut *used, true) {
            return Err(Refusal { status: 403, message: "this join token was used already".into() });
        }
        self.members.lock().unwrap().insert("i-1".into());
        Ok(JoinAnswer {
            machine_id: "i-1".into(),
            node_name: "r.127.0.0.1".into(),
            certificate: self.authority.sign(&request.csr, "i-1"),
            hostname: None,
            format_disk: false,
        })
    }

    async fn renew(&self, machine: &str, request: RenewRequest) -> Result<RenewAnswer, Refusal> {
        Ok(RenewAnswer { certificate: self.authority.sign(&request.csr, machine) })
    }

    fn is_member(&self, machine: &str) -> bool {
        self.members.lock().unwrap().contains(machine)
    }

    fn payload(&self, name: &str) -> Option<PathBuf> {
        (name == "tool").then(|| self.folder.join("tool"))
    }

    fn images(&self) -> PathBuf {
        self.folder.clone()
    }

    async fn api(&self, _machine: &str) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(tokio::net::TcpStream::connect(self.api).await?))
    }

    async fn tunnel(&self, machine: &str, io: Box<dyn Stream>) {
        let is_member = self.is_member(machine);
        Arc::clone(&self.hub).serve_proved(io, machine, is_member).await;
    }
}

struct Bench {
    desk: Arc<TestDesk>,
    address: String,
    folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

/// A server with an API that sends back what it is sent.
async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tool"), "what hosts fetch").unwrap();
    std::fs::write(folder.path().join("agent"), "the agent").unwrap();
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut io, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = io.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let hub = AgentHub::start(&folder.path().join("agents.sock"), Arc::new(|_, _| false)).unwrap();
    let desk = Arc::new(TestDesk {
        authority: Authority::new(),
        folder: folder.path().to_owned(),
        hub,
        used: Mutex::new(false),
        members: Mutex::default(),
        api,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    tokio::spawn(listen(listener, Arc::clone(&desk), stop.clone()));
    Bench { desk, address, folder, _stop: stop.drop_guard() }
}

impl Bench {
    fn server(&self) -> Server {
        Server::new(&self.address, &self.desk.authority.pem).unwrap()
    }

    async fn join(&self, token: &str) -> Result<(JoinAnswer, String), super::HostError> {
        let identity = Identity::generate("host").unwrap();
        let request = JoinRequest { csr: identity.csr, facts: HostFacts::default() };
        let answer = self.server().call("/v1/join", Some(token), &request).await?;
        Ok((answer, identity.key))
    }

    async fn joined(&self) -> HostState {
        let (answer, key) = self.join(TOKEN).await.unwrap();
        HostState {
            server: self.address.clone(),
            ca: self.desk.authority.pem.clone(),
            machine_id: answer.machine_id,
            certificate: answer.certificate,
            key,
            ..HostState::default()
        }
    }
}

#[tokio::test]
async fn a_token_is_good_once() {
    let bench = bench().await;
    assert!(bench.join("guessed").await.is_err());
    bench.join(TOKEN).await.unwrap();
    let again = bench.join(TOKEN).await.unwrap_err();
    assert_eq!(again.to_string(), "this join token was used already");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let bench = bench().await;
    let foreign = Server::new(&bench.address, &Authority::new().pem).unwrap();
    let request = JoinRequest { csr: String::new(), facts: HostFacts::default() };
    let refused = foreign.call::<JoinAnswer>("/v1/join", Some(TOKEN), &request).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert!(!*bench.desk.used.lock().unwrap(), "the token was not shown to it");
}

#[tokio::test]
async fn a_certificate_of_another_authority_opens_nothing() {
    let bench = bench().await;
    let stranger = bench.server();
    let nobody = stranger.open("/v1/tunnel").await.unwrap_err();
    assert!(nobody.to_string().contains("401"), "{nobody}");
    let identity = Identity::generate("i-1").unwrap();
    stranger.identify(&Authority::new().sign(&identity.csr, "i-1"), &identity.key).unwrap();
    bench.desk.members.lock().unwrap().insert("i-1".into());
    assert!(stranger.open("/v1/tunnel").await.is_err());
    assert!(stranger.open("/v1/api").await.is_err());
    assert!(stranger.fetch("/v1/payload/tool", &bench.folder.path().join("got")).await.is_err());
}

#[tokio::test]
async fn a_member_fetches_its_payload_and_reaches_its_api() {
    let bench = bench().await;
    let state = bench.joined().await;
    let server = bench.server();
    server.identify(&state.certificate, &state.key).unwrap();
    let to = bench.folder.path().join("got");
    let (digest, size) = server.fetch("/v1/payload/tool", &to).await.unwrap();
    assert_eq!(size, 16);
    assert_eq!(digest, super::sha256_of_file(&bench.folder.path().join("tool")).unwrap());
    assert!(server.fetch("/v1/payload/../agents.sock", &to).await.is_err());
    let mut api = server.open("/v1/api").await.unwrap();
    api.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    api.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
    bench.desk.members.lock().unwrap().clear();
    assert!(server.open("/v1/api").await.unwrap_err().to_string().contains("403"));
}

#[tokio::test]
async fn payload_that_is_not_what_was_announced_is_not_kept() {
    let bench = bench().await;
    let state = bench.joined().await;
    let server = bench.server();
    server.identify(&state.certificate, &state.key).unwrap();
    let path = bench.folder.path().join("opt/tool").display().to_string();
    let wanted = Payload { name: "tool".into(), path: path.clone(), sha256: "00".repeat(32), size: 16, links: vec![] };
    let refused = payload::ensure(&server, &[wanted]).await.unwrap_err();
    assert!(refused.contains("is expected"), "{refused}");
    assert_eq!(std::fs::read_dir(bench.folder.path().join("opt")).unwrap().count(), 0);
}

#[tokio::test]
async fn the_tunnel_carries_specs_and_a_removed_host_hears_of_it() {
    let bench = bench().await;
    let state = bench.joined().await;
    let root = bench.folder.path().join("root");
    let agent = HostAgent::new(root.clone(), state).unwrap();
    let stop = CancellationToken::new();
    let options = NodeOptions {
        state_dir: root.join("state"),
        log_dir: root.join("log"),
        images_dir: None,
        pid1: false,
        host: Some(Arc::clone(&agent)),
        ..NodeOptions::new("i-1".into(), String::new())
    };
    let node = tokio::spawn(run_until(options, stop.clone()));
    let hub = &bench.desk.hub;
    let mut changes = hub.changes();
    timeout(LONG, async {
        while hub.agent("i-1").is_none() {
            let _ = changes.recv().await;
        }
    })
    .await
    .unwrap();
    // A port of the host that leads to the API by way of the server, since there is no direct one.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let uplink = Uplink { listen: free, service: UplinkService::Api, direct: None };
    let spec = NodeSpec { uplinks: vec![uplink], ..NodeSpec::default() };
    hub.agent("i-1").unwrap().put_spec(&spec).await.unwrap();
    let mut api = tokio::net::TcpStream::connect(free).await.unwrap();
    api.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    timeout(LONG, api.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"ping");
    // It is removed while it is away, and comes back.
    bench.desk.members.lock().unwrap().clear();
    drop(api);
    let machine = hub.agent("i-1").unwrap();
    drop(machine);
    let other = bench.server();
    let identity = Identity::generate("i-1").unwrap();
    other.identify(&bench.desk.authority.sign(&identity.csr, "i-1"), &identity.key).unwrap();
    let hello = crate::tunnel::handshake::Hello {
        protocol: crate::tunnel::handshake::PROTOCOL,
        machine_id: "i-1".into(),
        token: String::new(),
        boot_id: "b".into(),
    };
    let io = other.open("/v1/tunnel").await.unwrap();
    let removed = crate::tunnel::handshake::introduce(io, &hello).await;
    assert!(matches!(removed, Err(crate::tunnel::handshake::HandshakeError::Removed)));
    stop.cancel();
    timeout(LONG, node).await.unwrap().unwrap().unwrap();
}
