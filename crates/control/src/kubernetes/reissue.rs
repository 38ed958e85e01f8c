//! Certificates of a control plane that has come to have other machines: the same authorities and keys of everybody else,
//! new certificates for those that name addresses. Whatever is about to expire is issued by [`super::renewal`].

use std::net::Ipv4Addr;

use jiff::SignedDuration;
use sampan_store::model::{Cluster, Outcome, Timestamp};

use super::pki::{Pki, api_server_names, etcd_names, later};
use crate::certificate::{CertifiedKey, Leaf, Usage, issue};

/// Whether the certificates name all of these addresses. What was made before addresses were noted had one machine.
pub(crate) fn names_all(pki: &Pki, control_planes: &[Ipv4Addr]) -> bool {
    match pki.control_planes.as_slice() {
        [] => control_planes.len() <= 1,
        named => control_planes.iter().all(|ip| named.contains(ip)),
    }
}

/// The same with certificates that name these addresses.
///
/// # Errors
/// Internal, when the stored authorities are unusable.
pub(crate) fn reissued(
    pki: &Pki,
    cluster: &Cluster,
    control_planes: &[Ipv4Addr],
    now: Timestamp,
    lifetime: SignedDuration,
) -> Outcome<Pki> {
    let expires = later(now, lifetime)?;
    let server = |ca: &CertifiedKey, common_name: &str, names: &[String], usage: Usage| {
        issue(ca, &Leaf { common_name, organization: None, names, usage, now, expires })
    };
    let etcd = etcd_names(control_planes);
    let api = api_server_names(cluster, control_planes)?;
    Ok(Pki {
        etcd_server: server(&pki.etcd_ca, "etcd", &etcd, Usage::Peer)?,
        etcd_peer: server(&pki.etcd_ca, "etcd-peer", &etcd, Usage::Peer)?,
        api_server: server(&pki.cluster_ca, "kube-apiserver", &api, Usage::Server)?,
        control_planes: control_planes.to_vec(),
        ..pki.clone()
    })
}
