//! What hosts ask of the server, answered by the use cases, the bundle and the hub.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use async_trait::async_trait;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use sampan_agents::{
    host::{
        sha256_of_file,
        station::{Desk, Refusal, Stream},
        wire::{JoinAnswer, JoinRequest, RenewAnswer, RenewRequest},
    },
    tunnel::AgentHub,
};
use sampan_control::{
    hosts::{HostAuthority, machine_of},
    service::{Service, attach::join::HostJoin},
};
use sampan_store::{
    Store,
    model::{Fault, FaultKind, HostReport, Machine, MachineRole, Outcome, Timestamp},
};

use crate::bundle::Bundle;

/// Addresses of this host that hosts come to; more are served without being remembered.
const ADDRESSES_MAX: usize = 64;
/// The API server of a control plane, as its machine sees it.
const API_SERVER: &str = "127.0.0.1:6443";
/// The installer; `@…@` are filled in.
const INSTALLER: &str = include_str!("attach.sh");

/// The desk.
pub(crate) struct HostDesk {
    pub(crate) store: Store,
    pub(crate) service: Arc<Service>,
    pub(crate) hub: Arc<AgentHub>,
    pub(crate) authority: HostAuthority,
    pub(crate) bundle: Bundle,
    /// The folder with the images.
    pub(crate) images: PathBuf,
    /// Names by which hosts reach the server, beside the address that they came to.
    pub(crate) names: Vec<String>,
    /// This executable, which is the agent's too.
    pub(crate) executable: PathBuf,
    pub(crate) tls: Mutex<HashMap<IpAddr, Arc<ServerConfig>>>,
    pub(crate) script: OnceLock<String>,
}

impl HostDesk {
    fn server_config(&self, local: IpAddr) -> Outcome<ServerConfig> {
        let failed = |error: &dyn std::fmt::Display| Fault::internal(format!("TLS for hosts: {error}"));
        let mut names = self.names.clone();
        names.push(local.to_canonical().to_string());
        let own = self.authority.server(&names, Timestamp::now())?;
        let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|error| failed(&error))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authority.certificate().as_bytes()) {
            roots.add(certificate.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // Who has no certificate yet may fetch the installer and show a token; a certificate of others is refused.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed(&error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.map_err(|error| failed(&error))?, key)
            .map_err(|error| failed(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn member(&self, machine_id: &str) -> Option<Machine> {
        self.store.get::<Machine>(machine_id).map(|machine| machine.value.clone()).filter(|machine| {
            let has_report = machine.host.as_ref().is_some_and(|host| host.report.is_some() && !host.left);
            machine.membership.is_some() && has_report
        })
    }
}

fn refusal(fault: Fault) -> Refusal {
    let status = match fault.kind {
        FaultKind::Forbidden => 403,
        FaultKind::Conflict | FaultKind::Unavailable | FaultKind::Internal => 503,
        _ => 400,
    };
    if fault.kind == FaultKind::Internal {
        tracing::error!(error = %fault, "a host could not be served");
        return Refusal { status: 500, message: "the server failed; its log says why".into() };
    }
    Refusal { status, message: fault.message }
}

#[async_trait]
impl Desk for HostDesk {
    fn authority(&self) -> String {
        self.authority.certificate().to_owned()
    }

    fn tls(&self, local: IpAddr) -> io::Result<Arc<ServerConfig>> {
        let known = || self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known().get(&local) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.server_config(local).map_err(io::Error::other)?);
        let mut known = known();
        if known.len() < ADDRESSES_MAX {
            known.insert(local, Arc::clone(&config));
        }
        Ok(config)
    }

    fn machine_of(&self, certificate: &[u8]) -> Option<String> {
        machine_of(certificate)
    }

    fn script(&self) -> io::Result<String> {
        if let Some(script) = self.script.get() {
            return Ok(script.clone());
        }
        let script = installer(std::env::consts::ARCH, &sha256_of_file(&self.executable)?);
        Ok(self.script.get_or_init(|| script).clone())
    }

    fn agent(&self) -> PathBuf {
        self.executable.clone()
    }

    async fn join(&self, token: &str, request: JoinRequest, peer: IpAddr) -> Result<JoinAnswer, Refusal> {
        let facts = request.facts;
        if facts.arch != std::env::consts::ARCH {
            let message =
                format!("this host is {}; this installation was built for {}", facts.arch, std::env::consts::ARCH);
            return Err(Refusal { status: 400, message });
        }
        // A request that is none must not use the token up.
        self.authority.sign(&request.csr, "probe", Timestamp::now()).map_err(refusal)?;
        let join = HostJoin {
            token: token.to_owned(),
            ip: facts.ip,
            peer: peer.to_canonical(),
            report: HostReport {
                hostname: facts.hostname,
                os: facts.os,
                cpus: facts.cpus,
                memory_bytes: facts.memory_bytes,
                ipvs: facts.ipvs,
                can_lower_oom_score: facts.can_lower_oom_score,
                name_servers: facts.name_servers,
            },
        };
        let joined = self.service.host_join(&join).await.map_err(refusal)?;
        let certificate = self.authority.sign(&request.csr, &joined.machine_id, Timestamp::now()).map_err(refusal)?;
        Ok(JoinAnswer {
            machine_id: joined.machine_id,
            node_name: joined.node_name,
            certificate,
            hostname: joined.hostname,
            format_disk: joined.format_disk,
        })
    }

    async fn renew(&self, machine: &str, request: RenewRequest) -> Result<RenewAnswer, Refusal> {
        let certificate = self.authority.sign(&request.csr, machine, Timestamp::now()).map_err(refusal)?;
        Ok(RenewAnswer { certificate })
    }

    fn is_member(&self, machine: &str) -> bool {
        self.member(machine).is_some()
    }

    fn payload(&self, name: &str) -> Option<PathBuf> {
        self.bundle.payload_path(name)
    }

    fn images(&self) -> PathBuf {
        self.images.clone()
    }

    async fn api(&self, machine: &str) -> io::Result<Box<dyn Stream>> {
        let cluster = self.member(machine).and_then(|member| member.cluster_id().map(str::to_owned));
        let cluster = cluster.ok_or_else(|| io::Error::other("this machine is in no cluster"))?;
        let machines = self.store.list_of::<Machine>(&cluster);
        let is_control_plane =
            |machine: &Machine| machine.membership.as_ref().is_some_and(|member| member.role != MachineRole::Worker);
        let agents = machines.iter().filter(|machine| is_control_plane(machine));
        let mut problem = io::Error::other("no control plane of the cluster is connected");
        for agent in agents.filter_map(|machine| self.hub.agent(&machine.id)) {
            match agent.dial(API_SERVER).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(error) => problem = io::Error::other(error),
            }
        }
        Err(problem)
    }

    async fn tunnel(&self, machine: &str, io: Box<dyn Stream>) {
        let is_member = self.is_member(machine);
        Arc::clone(&self.hub).serve_proved(io, machine, is_member).await;
    }
}

/// The installer for agents of that architecture and digest.
fn installer(arch: &str, sha256: &str) -> String {
    INSTALLER.replace("@ARCH@", arch).replace("@SHA256@", sha256)
}

/// The architecture of this executable, as the API calls it.
pub(crate) fn api_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installer_is_one_that_a_shell_reads() {
        let script = installer("x86_64", &"ab".repeat(32));
        assert!(!script.contains('@'), "everything is filled in");
        let read = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(read.success());
    }
}
