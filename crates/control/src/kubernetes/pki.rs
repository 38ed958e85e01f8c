//! A cluster's own public key infrastructure: three authorities (cluster, front proxy, etcd), everything that they sign for
//! the control plane, the key that signs service account tokens, and the key that encrypts Secrets in etcd.
//!
//! It is made once, when the cluster is created, and kept encrypted as one secret (see [`super::vault`]). Certificates of
//! nodes and users are issued from it on demand and are not part of it.

use std::{fmt, net::Ipv4Addr};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use sampan_store::model::{Cluster, Fault, Outcome, Timestamp};
use serde::{Deserialize, Serialize};

use super::user_ca::{self, UserCa};
use crate::certificate::{CertifiedKey, Leaf, Usage, authority, issue, signing_key_pair};

/// Validity of authorities.
const AUTHORITY_VALID: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Validity of the control plane's and the nodes' certificates, unless the installation says otherwise.
pub const LEAF_VALID: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The group that may do everything.
pub const ADMINISTRATORS: &str = "system:masters";

/// A key pair that signs service account tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// PEM.
    pub private: String,
    /// PEM.
    pub public: String,
}

/// Everything secret about a cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pki {
    /// Signs servers, users, nodes.
    pub cluster_ca: CertifiedKey,
    /// Further authorities (PEM) whose client certificates are trusted.
    #[serde(default)]
    pub trusted_clients: Option<String>,
    /// Signs the API server towards aggregated APIs, and nothing else.
    pub front_proxy_ca: CertifiedKey,
    /// Signs etcd and its clients, and nothing else.
    pub etcd_ca: CertifiedKey,
    /// etcd as a server.
    pub etcd_server: CertifiedKey,
    /// etcd towards other members.
    pub etcd_peer: CertifiedKey,
    /// The API server towards etcd.
    pub etcd_client: CertifiedKey,
    /// The API server as a server.
    pub api_server: CertifiedKey,
    /// The API server towards kubelets.
    pub kubelet_client: CertifiedKey,
    /// The API server towards aggregated APIs.
    pub front_proxy_client: CertifiedKey,
    /// kube-controller-manager.
    pub controller_manager: CertifiedKey,
    /// kube-scheduler.
    pub scheduler: CertifiedKey,
    /// kube-controller-manager and kube-scheduler as servers on the machine itself. Without it each would make an RSA key
    /// at every start, which takes longer than all the rest of its start.
    pub local_server: CertifiedKey,
    /// metrics-server as a server.
    pub metrics_server: CertifiedKey,
    /// Sampan's server itself.
    pub admin: CertifiedKey,
    /// Signs service account tokens.
    pub service_account: TokenKey,
    /// 32 random bytes, base64: encrypts Secrets in etcd.
    pub encryption_key: String,
    /// Addresses of the control plane that the certificates name; empty: those of its one machine.
    #[serde(default)]
    pub control_planes: Vec<Ipv4Addr>,
}

impl fmt::Debug for Pki {
    // Nothing of it may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").field("expires", &self.expires()).finish_non_exhaustive()
    }
}

/// What a worker starts with. The kubelet renews its two certificates itself afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCertificates {
    /// The kubelet towards the API server.
    pub kubelet_client: CertifiedKey,
    /// The kubelet as a server.
    pub kubelet_server: CertifiedKey,
    /// kube-proxy towards the API server.
    pub kube_proxy: CertifiedKey,
}

impl NodeCertificates {
    /// The earliest end of validity.
    pub fn expires(&self) -> Timestamp {
        self.kubelet_client.expires.min(self.kubelet_server.expires).min(self.kube_proxy.expires)
    }
}

impl Pki {
    /// The earliest end of validity of the control plane's certificates.
    pub fn expires(&self) -> Timestamp {
        [
            &self.etcd_server,
            &self.etcd_peer,
            &self.etcd_client,
            &self.api_server,
            &self.kubelet_client,
            &self.front_proxy_client,
            &self.controller_manager,
            &self.scheduler,
            &self.local_server,
            &self.metrics_server,
            &self.admin,
        ]
        .into_iter()
        .map(|pair| pair.expires)
        .fold(self.cluster_ca.expires, Timestamp::min)
    }

    /// Authorities (PEM) whose client certificates the API server and the kubelets trust.
    pub fn client_authorities(&self) -> String {
        format!("{}{}", self.cluster_ca.certificate, self.trusted_clients.as_deref().unwrap_or_default())
    }
}

/// Makes the whole of it for a cluster whose control plane has these addresses.
///
/// # Errors
/// `InvalidParameter` of `user_ca` or `custom_san`; internal when the cryptographic library refuses.
pub fn generate(
    cluster: &Cluster,
    control_plane_ips: &[Ipv4Addr],
    now: Timestamp,
    user_ca: Option<&str>,
) -> Outcome<Pki> {
    let ca_expires = later(now, AUTHORITY_VALID)?;
    let (cluster_ca, trusted_clients) = match user_ca.map(|text| user_ca::parse(text, now)).transpose()? {
        Some(UserCa::Authority(given)) => (given, None),
        Some(UserCa::TrustedClients(bundle)) => (authority("kubernetes", now, ca_expires)?, Some(bundle)),
        None => (authority("kubernetes", now, ca_expires)?, None),
    };
    let front_proxy_ca = authority("kubernetes-front-proxy-ca", now, ca_expires)?;
    let etcd_ca = authority("etcd-ca", now, ca_expires)?;
    let (private, public) = signing_key_pair()?;
    let lasting = Lasting {
        cluster_ca,
        trusted_clients,
        front_proxy_ca,
        etcd_ca,
        service_account: TokenKey { private, public },
        encryption_key: new_encryption_key()?,
    };
    issue_all(lasting, cluster, control_plane_ips, now, LEAF_VALID)
}

/// The same authorities and keys with new certificates under them, for a control plane that has these addresses.
///
/// # Errors
/// As [`generate`].
pub fn reissue(
    pki: &Pki,
    cluster: &Cluster,
    control_plane_ips: &[Ipv4Addr],
    now: Timestamp,
    lifetime: SignedDuration,
) -> Outcome<Pki> {
    let pki = pki.clone();
    let lasting = Lasting {
        cluster_ca: pki.cluster_ca,
        trusted_clients: pki.trusted_clients,
        front_proxy_ca: pki.front_proxy_ca,
        etcd_ca: pki.etcd_ca,
        service_account: pki.service_account,
        encryption_key: pki.encryption_key,
    };
    issue_all(lasting, cluster, control_plane_ips, now, lifetime)
}

/// What stays the same for a cluster's whole life.
struct Lasting {
    cluster_ca: CertifiedKey,
    trusted_clients: Option<String>,
    front_proxy_ca: CertifiedKey,
    etcd_ca: CertifiedKey,
    service_account: TokenKey,
    encryption_key: String,
}

fn issue_all(
    lasting: Lasting,
    cluster: &Cluster,
    control_plane_ips: &[Ipv4Addr],
    now: Timestamp,
    lifetime: SignedDuration,
) -> Outcome<Pki> {
    let expires = later(now, lifetime)?;
    let Lasting { cluster_ca, trusted_clients, front_proxy_ca, etcd_ca, service_account, encryption_key } = lasting;
    let client = |ca: &CertifiedKey, common_name: &str, organization: Option<&str>| {
        issue(ca, &Leaf { common_name, organization, names: &[], usage: Usage::Client, now, expires })
    };
    let server = |ca: &CertifiedKey, common_name: &str, names: &[String], usage: Usage| {
        issue(ca, &Leaf { common_name, organization: None, names, usage, now, expires })
    };
    let etcd_names = etcd_names(control_plane_ips);
    Ok(Pki {
        etcd_server: server(&etcd_ca, "etcd", &etcd_names, Usage::Peer)?,
        etcd_peer: server(&etcd_ca, "etcd-peer", &etcd_names, Usage::Peer)?,
        etcd_client: client(&etcd_ca, "kube-apiserver-etcd-client", None)?,
        api_server: server(
            &cluster_ca,
            "kube-apiserver",
            &api_server_names(cluster, control_plane_ips)?,
            Usage::Server,
        )?,
        kubelet_client: client(&cluster_ca, KUBELET_CLIENT, None)?,
        front_proxy_client: client(&front_proxy_ca, FRONT_PROXY_CLIENT, None)?,
        controller_manager: client(&cluster_ca, "system:kube-controller-manager", None)?,
        scheduler: client(&cluster_ca, "system:kube-scheduler", None)?,
        local_server: server(&cluster_ca, "localhost", &["localhost".into(), "127.0.0.1".into()], Usage::Server)?,
        metrics_server: server(&cluster_ca, "metrics-server", &metrics_server_names(), Usage::Server)?,
        admin: client(&cluster_ca, "sampan-server", Some(ADMINISTRATORS))?,
        service_account,
        encryption_key,
        control_planes: control_plane_ips.to_vec(),
        cluster_ca,
        trusted_clients,
        front_proxy_ca,
        etcd_ca,
    })
}

/// User name of the API server towards kubelets; the base manifests bind it to `system:kubelet-api-admin`.
pub(crate) const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";
/// User name of the API server towards aggregated APIs.
pub(crate) const FRONT_PROXY_CLIENT: &str = "front-proxy-client";

/// Issues what a worker starts with.
///
/// # Errors
/// Internal, when the stored authority is unusable.
pub fn node_certificates(pki: &Pki, node_name: &str, ip: Ipv4Addr, now: Timestamp) -> Outcome<NodeCertificates> {
    lasting_node_certificates(pki, node_name, ip, now, LEAF_VALID)
}

/// The same, valid for `lifetime`.
///
/// # Errors
/// As [`node_certificates`].
pub(super) fn lasting_node_certificates(
    pki: &Pki,
    node_name: &str,
    ip: Ipv4Addr,
    now: Timestamp,
    lifetime: SignedDuration,
) -> Outcome<NodeCertificates> {
    let expires = later(now, lifetime)?;
    let user = format!("system:node:{node_name}");
    // Exactly what the kubelet itself would ask for, or it would renew the certificate at once.
    let names = [node_name.to_owned(), ip.to_string()];
    let make = |common_name: &str, organization: Option<&str>, names: &[String], usage| {
        issue(&pki.cluster_ca, &Leaf { common_name, organization, names, usage, now, expires })
    };
    Ok(NodeCertificates {
        kubelet_client: make(&user, Some("system:nodes"), &[], Usage::Client)?,
        kubelet_server: make(&user, Some("system:nodes"), &names, Usage::Server)?,
        kube_proxy: make("system:kube-proxy", None, &[], Usage::Client)?,
    })
}

/// Issues a user's client certificate.
///
/// # Errors
/// Internal, when the stored authority is unusable.
pub fn user_certificate(
    pki: &Pki,
    user: &str,
    group: Option<&str>,
    now: Timestamp,
    not_after: Timestamp,
) -> Outcome<CertifiedKey> {
    let leaf =
        Leaf { common_name: user, organization: group, names: &[], usage: Usage::Client, now, expires: not_after };
    issue(&pki.cluster_ca, &leaf)
}

/// First address of the service network: the cluster IP of the `kubernetes` service.
pub(crate) fn first_service_ip(cluster: &Cluster) -> Outcome<Ipv4Addr> {
    let network = cluster.network.service_cidr;
    network.hosts().next().ok_or_else(|| Fault::internal(format!("the service network {network} has no address")))
}

pub(super) fn api_server_names(cluster: &Cluster, control_plane_ips: &[Ipv4Addr]) -> Outcome<Vec<String>> {
    let domain = &cluster.network.cluster_domain;
    let mut names: Vec<String> =
        ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .map(String::from)
            .into();
    names.push(format!("kubernetes.default.svc.{domain}"));
    names.push(first_service_ip(cluster)?.to_string());
    names.push(cluster.network.api_vip.to_string());
    names.extend(control_plane_ips.iter().map(Ipv4Addr::to_string));
    names.extend(cluster.control_plane.custom_san.iter().map(|name| name.trim().to_owned()));
    names.retain(|name| !name.is_empty());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

fn metrics_server_names() -> Vec<String> {
    ["metrics-server", "metrics-server.kube-system", "metrics-server.kube-system.svc"].map(String::from).into()
}

pub(super) fn etcd_names(control_plane_ips: &[Ipv4Addr]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend(control_plane_ips.iter().map(Ipv4Addr::to_string));
    names
}

fn new_encryption_key() -> Outcome<String> {
    let mut key = [0u8; 32];
    rand::fill(&mut key).map_err(|_| Fault::internal("the random generator failed"))?;
    Ok(STANDARD.encode(key))
}

pub(super) fn later(now: Timestamp, by: SignedDuration) -> Outcome<Timestamp> {
    now.checked_add(by).map_err(|error| Fault::internal(format!("the clock shows {now}: {error}")))
}
