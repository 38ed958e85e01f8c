//! Where the secrets of clusters meet the store: the only file of this module that reads or writes records.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use jiff::SignedDuration;
use sampan_store::{
    Batch, MasterKey, Store,
    model::{Cluster, Fault, Machine, NodePool, Outcome, Taint, Timestamp},
};

use super::{
    access::Directory,
    master::role_taint,
    pki::{self, NodeCertificates, Pki},
    reissue,
    renewal::is_due,
};

/// Clusters whose certificates are held in memory (about 12 KiB each); more are read again when they are needed.
const CACHED_MAX: usize = 256;

/// Certificates and keys of clusters, in the store.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    cached: Arc<Mutex<HashMap<String, Arc<Pki>>>>,
    /// Validity of what it issues for machines.
    lifetime: SignedDuration,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault in that store.
    pub fn new(store: Store) -> Self {
        Self { store, cached: Arc::default(), lifetime: pki::LEAF_VALID }
    }

    /// The same, with another validity of the certificates that it issues for machines.
    #[must_use]
    pub fn with_lifetime(self, lifetime: SignedDuration) -> Self {
        Self { lifetime, ..self }
    }

    /// Validity of the certificates that it issues for machines.
    pub fn lifetime(&self) -> SignedDuration {
        self.lifetime
    }

    pub(super) async fn put_pki(&self, cluster_id: &str, pki: &Pki) -> Outcome<()> {
        let mut batch = Batch::new();
        Self::record_pki(&mut batch, cluster_id, pki)?;
        self.store.commit(batch).await?;
        self.forget(cluster_id);
        Ok(())
    }

    /// A worker's certificates, if it has any yet.
    pub(super) async fn node_certificates(
        &self,
        cluster_id: &str,
        machine_id: &str,
    ) -> Outcome<Option<NodeCertificates>> {
        self.read(&format!("cluster/{cluster_id}/machine/{machine_id}")).await
    }

    /// Adds a cluster's certificates and keys to the batch that records them.
    ///
    /// # Errors
    /// Internal, when they cannot be written as JSON.
    pub fn record_pki(batch: &mut Batch, cluster_id: &str, pki: &Pki) -> Outcome<()> {
        batch.secret(&pki_name(cluster_id), &to_json(pki)?);
        Ok(())
    }

    /// Adds the removal of all secrets of a cluster to the batch that removes it.
    pub fn erase(batch: &mut Batch, cluster_id: &str) {
        batch.delete_secrets_under(&format!("cluster/{cluster_id}/"));
    }

    /// A cluster's certificates and keys.
    ///
    /// # Errors
    /// `NotFound` when it has none; whatever the store says.
    pub async fn pki(&self, cluster_id: &str) -> Outcome<Arc<Pki>> {
        if let Some(pki) = self.lock().get(cluster_id) {
            return Ok(Arc::clone(pki));
        }
        let pki: Arc<Pki> = self
            .read(&pki_name(cluster_id))
            .await?
            .map(Arc::new)
            .ok_or_else(|| Fault::not_found("Certificates", cluster_id))?;
        let mut cached = self.lock();
        if cached.len() >= CACHED_MAX {
            cached.clear();
        }
        cached.insert(cluster_id.to_owned(), Arc::clone(&pki));
        Ok(pki)
    }

    /// Finds a cluster's certificates and keys, or makes and records them. When the control plane has other addresses than
    /// they name, those concerned are issued anew. Idempotent.
    ///
    /// # Errors
    /// As [`pki::generate`]; whatever the store says.
    pub async fn ensure_pki(
        &self,
        cluster: &Cluster,
        control_plane_ips: &[Ipv4Addr],
        now: Timestamp,
    ) -> Outcome<Arc<Pki>> {
        match self.pki(&cluster.id).await {
            Err(fault) if matches!(fault.kind, sampan_store::model::FaultKind::NotFound(_)) => {}
            Ok(found) if !reissue::names_all(&found, control_plane_ips) => {
                let pki = reissue::reissued(&found, cluster, control_plane_ips, now, self.lifetime)?;
                return self.keep_pki(&cluster.id, &pki).await;
            }
            found => return found,
        }
        let user_ca = match &cluster.control_plane.user_ca_secret {
            Some(name) => Some(self.store.secret(name).await?.ok_or_else(|| Fault::not_found("Secret", name))?),
            None => None,
        };
        let user_ca = user_ca
            .as_deref()
            .map(|bytes| {
                std::str::from_utf8(bytes).map_err(|_| Fault::invalid("user_ca", "user_ca must be PEM text in UTF-8"))
            })
            .transpose()?;
        let mut pki = pki::generate(cluster, control_plane_ips, now, user_ca)?;
        if self.lifetime != pki::LEAF_VALID {
            pki = pki::reissue(&pki, cluster, control_plane_ips, now, self.lifetime)?;
        }
        self.keep_pki(&cluster.id, &pki).await
    }

    /// Records what was made, and answers what holds from now on.
    async fn keep_pki(&self, cluster_id: &str, pki: &Pki) -> Outcome<Arc<Pki>> {
        self.put_pki(cluster_id, pki).await?;
        self.pki(cluster_id).await
    }

    /// The certificates that a worker starts with: found, or issued and recorded. Idempotent; some time before they expire
    /// new ones are issued (the kubelet has renewed its own by then, kube-proxy cannot).
    ///
    /// # Errors
    /// Internal when the machine is no member of a cluster; whatever the store says.
    pub async fn ensure_node_certificates(&self, machine: &Machine, now: Timestamp) -> Outcome<NodeCertificates> {
        let membership = machine
            .membership
            .as_ref()
            .ok_or_else(|| Fault::internal(format!("machine {} is in no cluster", machine.id)))?;
        let name = format!("cluster/{}/machine/{}", membership.cluster_id, machine.id);
        let pki = self.pki(&membership.cluster_id).await?;
        // No certificate outlives its authority, and a user's may be near its end: issuing anew would change nothing but
        // restart the node's components, each time somebody looks.
        if let Some(found) = self.read::<NodeCertificates>(&name).await?
            && (!is_due(found.expires(), now, self.lifetime) || found.expires() >= pki.cluster_ca.expires)
        {
            return Ok(found);
        }
        let issued = pki::lasting_node_certificates(&pki, &membership.node_name, machine.ip, now, self.lifetime)?;
        let mut batch = Batch::new();
        batch.secret(&name, &to_json(&issued)?);
        self.store.commit(batch).await?;
        Ok(issued)
    }

    /// Forgets what is held in memory of a cluster.
    pub fn forget(&self, cluster_id: &str) {
        self.lock().remove(cluster_id);
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Outcome<Option<T>> {
        let Some(bytes) = self.store.secret(name).await? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Fault::internal(format!("the stored secret {name} cannot be read: {error}")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Pki>>> {
        // A map of finished values is whole after a panic, too.
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Directory for Vault {
    async fn pki(&self, cluster_id: &str) -> Outcome<Arc<Pki>> {
        Self::pki(self, cluster_id).await
    }

    fn control_planes(&self, cluster_id: &str) -> Vec<String> {
        let mut machines = self.store.list_of::<Machine>(cluster_id);
        machines.retain(|machine| machine.is_control_plane_of(cluster_id));
        // The first one that etcd had, and a stable order.
        machines.sort_by_key(|machine| (machine.created, machine.ip));
        machines.iter().map(|machine| machine.id.clone()).collect()
    }

    fn node_ip(&self, cluster_id: &str, node_name: &str) -> Option<Ipv4Addr> {
        self.store
            .list_of::<Machine>(cluster_id)
            .into_iter()
            .find(|machine| {
                machine.is_node_of(cluster_id) && machine.membership.as_ref().is_some_and(|m| m.node_name == node_name)
            })
            .map(|machine| machine.ip)
    }

    fn master_key(&self) -> Option<MasterKey> {
        Some(self.store.master_key().clone())
    }

    fn taints(&self, cluster_id: &str) -> Vec<Taint> {
        let cluster = self.store.get::<Cluster>(cluster_id);
        let masters = cluster.filter(|cluster| cluster.is_dedicated()).map(|_| role_taint());
        let pools = self.store.list_of::<NodePool>(cluster_id);
        pools.iter().flat_map(|pool| pool.taints.clone()).chain(masters).collect()
    }
}

fn pki_name(cluster_id: &str) -> String {
    format!("cluster/{cluster_id}/pki")
}

fn to_json<T: serde::Serialize>(value: &T) -> Outcome<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Fault::internal(format!("a secret cannot be written as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::authority;
    use crate::kubernetes::tests::{now, sample_pki, sample_worker};

    fn days(n: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * n)
    }

    /// A worker's certificates, asked for now and again so many days later, under an authority of that many days.
    async fn asked_twice(authority_days: i64, later: i64) -> (NodeCertificates, NodeCertificates) {
        let vault = Vault::new(Store::open_temporary().await.unwrap());
        let mut pki = sample_pki();
        pki.cluster_ca = authority("ours", now(), now() + days(authority_days)).unwrap();
        let mut batch = Batch::new();
        Vault::record_pki(&mut batch, "c0123", &pki).unwrap();
        vault.store.commit(batch).await.unwrap();
        let worker = sample_worker(1);
        let first = vault.ensure_node_certificates(&worker, now()).await.unwrap();
        (first, vault.ensure_node_certificates(&worker, now() + days(later)).await.unwrap())
    }

    #[tokio::test]
    async fn node_certificates_are_issued_again_only_when_that_helps() {
        for (authority_days, later, is_same) in
            [(3650, 0, true), (3650, 300, true), (3650, 340, false), (20, 0, true), (20, 19, true), (380, 340, false)]
        {
            let (first, second) = asked_twice(authority_days, later).await;
            assert_eq!(first.kube_proxy.key == second.kube_proxy.key, is_same, "{authority_days} {later}");
            assert_eq!(first.expires() == second.expires(), is_same, "{authority_days} {later}");
        }
    }
}
