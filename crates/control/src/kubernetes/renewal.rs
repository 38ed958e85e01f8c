//! When certificates are issued again, and a list of all of them.
//!
//! Authorities are not renewed: everybody who trusts one would have to be told. Users' certificates have ends of their own.

use std::net::Ipv4Addr;

use jiff::SignedDuration;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sampan_store::model::{Cluster, Fault, Machine, Outcome, Timestamp};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    pki::{self, Pki},
    vault::Vault,
};
use crate::{certificate::CertifiedKey, reconcile::Renewal, service::credentials::CertificateView};

/// Certificates are issued again so long before they expire; those that live for less than three times as long when a third
/// of their life is left.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Users are warned so long before an authority expires.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// When what expires then, and was issued for `lifetime`, is issued again.
pub(super) fn renewed_at(expires: Timestamp, lifetime: SignedDuration) -> Timestamp {
    let before = RENEW_BEFORE.min(lifetime / 3);
    expires.checked_sub(before).unwrap_or(Timestamp::MIN)
}

/// Whether it is time.
pub(super) fn is_due(expires: Timestamp, now: Timestamp, lifetime: SignedDuration) -> bool {
    now >= renewed_at(expires, lifetime)
}

/// A certificate of a cluster: what it is called, who uses it, and the certificate.
type Named<'a> = (&'static str, &'static str, &'a CertifiedKey);

fn authorities(pki: &Pki) -> [Named<'_>; 3] {
    [
        ("cluster-ca", "signs servers, users and nodes", &pki.cluster_ca),
        ("front-proxy-ca", "signs the API server towards aggregated APIs", &pki.front_proxy_ca),
        ("etcd-ca", "signs etcd and its clients", &pki.etcd_ca),
    ]
}

fn leaves(pki: &Pki) -> [Named<'_>; 11] {
    [
        ("apiserver", "kube-apiserver as a server", &pki.api_server),
        ("kubelet-client", "kube-apiserver towards kubelets", &pki.kubelet_client),
        ("front-proxy-client", "kube-apiserver towards aggregated APIs", &pki.front_proxy_client),
        ("etcd-client", "kube-apiserver towards etcd", &pki.etcd_client),
        ("etcd-server", "etcd as a server", &pki.etcd_server),
        ("etcd-peer", "etcd towards other members", &pki.etcd_peer),
        ("controller-manager", "kube-controller-manager towards kube-apiserver", &pki.controller_manager),
        ("scheduler", "kube-scheduler towards kube-apiserver", &pki.scheduler),
        ("local-server", "kube-controller-manager and kube-scheduler as servers", &pki.local_server),
        ("metrics-server", "metrics-server as a server", &pki.metrics_server),
        ("admin", "this installation's server towards kube-apiserver", &pki.admin),
    ]
}

impl Vault {
    /// Issues the certificates of a cluster's control plane again, if the end of one is near. Idempotent.
    ///
    /// # Errors
    /// As [`pki::reissue`]; whatever the store says.
    pub async fn renew(&self, cluster: &Cluster, control_plane_ips: &[Ipv4Addr], now: Timestamp) -> Outcome<Renewal> {
        let pki = self.pki(&cluster.id).await?;
        let warned_at = now.checked_add(WARN_BEFORE).unwrap_or(Timestamp::MAX);
        let ending = authorities(&pki).into_iter().filter(|(.., pair)| pair.expires <= warned_at);
        let ending = ending.map(|(name, _, pair)| (name.to_owned(), pair.expires)).collect();
        let is_due = |name: &str, pair: &CertifiedKey| {
            // No certificate outlives its authority: issuing it again would change nothing.
            is_due(pair.expires, now, self.lifetime()) && pair.expires < authority_of(&pki, name).expires
        };
        if !leaves(&pki).into_iter().any(|(name, _, pair)| is_due(name, pair)) {
            return Ok(Renewal { renewed: None, ending });
        }
        let renewed = pki::reissue(&pki, cluster, control_plane_ips, now, self.lifetime())?;
        self.put_pki(&cluster.id, &renewed).await?;
        Ok(Renewal { renewed: Some(renewed.expires()), ending })
    }

    /// Every certificate of a cluster and of these machines, authorities first. Without keys.
    ///
    /// # Errors
    /// Internal, when a stored certificate cannot be read; whatever the store says.
    pub async fn certificates(&self, cluster: &Cluster, machines: &[Machine]) -> Outcome<Vec<CertificateView>> {
        let pki = self.pki(&cluster.id).await?;
        let mut views = Vec::new();
        for (name, consumer, pair) in authorities(&pki) {
            views.push(view(name, consumer, pair, None, None)?);
        }
        for (name, consumer, pair) in leaves(&pki) {
            views.push(view(name, consumer, pair, None, Some(self.lifetime()))?);
        }
        for machine in machines {
            let Some(own) = self.node_certificates(&cluster.id, &machine.id).await? else { continue };
            // The kubelet renews its two itself and keeps them on the machine.
            for (name, consumer, pair, is_ours) in [
                ("kubelet-start", "kubelet towards kube-apiserver, at its first start", &own.kubelet_client, true),
                ("kubelet-server-start", "kubelet as a server, at its first start", &own.kubelet_server, true),
                ("kube-proxy", "kube-proxy towards kube-apiserver", &own.kube_proxy, true),
            ] {
                views.push(view(name, consumer, pair, Some(&machine.id), is_ours.then_some(self.lifetime()))?);
            }
        }
        Ok(views)
    }
}

fn authority_of<'a>(pki: &'a Pki, name: &str) -> &'a CertifiedKey {
    match name {
        "etcd-client" | "etcd-server" | "etcd-peer" => &pki.etcd_ca,
        "front-proxy-client" => &pki.front_proxy_ca,
        _ => &pki.cluster_ca,
    }
}

fn view(
    name: &str,
    consumer: &str,
    pair: &CertifiedKey,
    machine_id: Option<&str>,
    lifetime: Option<SignedDuration>,
) -> Outcome<CertificateView> {
    let unreadable =
        |error: &dyn std::fmt::Display| Fault::internal(format!("the certificate {name} cannot be read: {error}"));
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).map_err(|error| unreadable(&error))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| unreadable(&error))?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
    let validity = certificate.validity();
    Ok(CertificateView {
        name: name.to_owned(),
        machine_id: machine_id.map(str::to_owned),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: time(validity.not_before),
        not_after: time(validity.not_after),
        consumer: consumer.to_owned(),
        is_ca: certificate.is_ca(),
        renewed_at: lifetime.map(|lifetime| renewed_at(pair.expires, lifetime)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sampan_store::{Batch, Store};

    use super::*;
    use crate::kubernetes::tests::{now, sample_cluster, sample_pki, sample_worker};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    async fn vault(lifetime: SignedDuration) -> (Vault, Cluster) {
        let store = Store::open_temporary().await.unwrap();
        (Vault::new(store).with_lifetime(lifetime), sample_cluster())
    }

    #[test]
    fn short_lives_are_renewed_when_a_third_is_left() {
        let minute = SignedDuration::from_mins(1);
        for (lifetime, left, due) in [
            (DAY * 365, DAY * 31, false),
            (DAY * 365, DAY * 30, true),
            (DAY * 60, DAY * 21, false),
            (DAY * 60, DAY * 20, true),
            (minute * 3, minute + SignedDuration::from_secs(1), false),
            (minute * 3, minute, true),
            (minute * 3, -DAY, true),
        ] {
            assert_eq!(is_due(now() + left, now(), lifetime), due, "{lifetime} {left}");
        }
    }

    #[tokio::test]
    async fn a_control_plane_is_renewed_before_its_end_under_the_same_authorities() {
        let (vault, cluster) = vault(DAY * 365).await;
        let ips = ["10.200.0.5".parse().unwrap()];
        let first = vault.ensure_pki(&cluster, &ips, now()).await.unwrap();
        assert_eq!(vault.renew(&cluster, &ips, now() + DAY * 334).await.unwrap(), Renewal::default());
        let late = now() + DAY * 336;
        let renewal = vault.renew(&cluster, &ips, late).await.unwrap();
        assert_eq!(renewal.renewed, Some(late + DAY * 365));
        let second = vault.pki(&cluster.id).await.unwrap();
        assert_eq!((&first.cluster_ca, &first.etcd_ca), (&second.cluster_ca, &second.etcd_ca));
        assert_eq!(first.encryption_key, second.encryption_key);
        assert!(first.service_account == second.service_account);
        for ((name, _, before), (_, _, after)) in leaves(&first).into_iter().zip(leaves(&second)) {
            assert!(before.key != after.key && after.expires == late + DAY * 365, "{name}");
        }
        assert_eq!(vault.renew(&cluster, &ips, late).await.unwrap().renewed, None, "once");
    }

    #[tokio::test]
    async fn an_authority_that_ends_is_told_of_and_ends_renewals() {
        let (vault, cluster) = vault(DAY * 365).await;
        let mut pki = sample_pki();
        pki.cluster_ca = crate::certificate::authority("ours", now(), now() + DAY * 80).unwrap();
        let ips = ["10.200.0.5".parse().unwrap()];
        let pki = pki::reissue(&pki, &cluster, &ips, now(), DAY * 365).unwrap();
        let mut batch = Batch::new();
        Vault::record_pki(&mut batch, &cluster.id, &pki).unwrap();
        vault.put_pki(&cluster.id, &pki).await.unwrap();
        let renewal = vault.renew(&cluster, &ips, now() + DAY * 79).await.unwrap();
        assert_eq!(renewal, Renewal { renewed: None, ending: vec![("cluster-ca".into(), now() + DAY * 80)] });
    }

    #[tokio::test]
    async fn all_certificates_are_listed_without_keys() {
        let (vault, cluster) = vault(DAY * 365).await;
        let ips = ["10.200.0.5".parse().unwrap()];
        vault.ensure_pki(&cluster, &ips, now()).await.unwrap();
        let mut worker = sample_worker(1);
        worker.membership.as_mut().unwrap().cluster_id.clone_from(&cluster.id);
        vault.ensure_node_certificates(&worker, now()).await.unwrap();
        let views = vault.certificates(&cluster, &[worker.clone()]).await.unwrap();
        assert_eq!(views.iter().filter(|view| view.is_ca).count(), 3);
        assert_eq!(views.iter().filter(|view| view.machine_id.as_ref() == Some(&worker.id)).count(), 3);
        let api = views.iter().find(|view| view.name == "apiserver").unwrap();
        assert_eq!((api.subject.as_str(), api.issuer.as_str()), ("CN=kube-apiserver", "CN=kubernetes"));
        assert_eq!(api.not_after.as_second(), (now() + DAY * 365).as_second());
        assert_eq!(api.renewed_at, Some(now() + DAY * 335));
        assert!(!format!("{views:?}").contains("PRIVATE"));
    }
}
