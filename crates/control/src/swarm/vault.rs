//! Where the secrets of Swarm clusters meet the store: the only file of this module that reads or writes records.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use sampan_store::{
    Batch, Store,
    model::{Cluster, Fault, FaultKind, Machine, MachineRole, Outcome, Timestamp},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    access::Directory,
    pki::{self, NodePki, SwarmPki},
};

/// Clusters whose certificates are held in memory (about 10 KiB each); more are read again when they are needed.
const CACHED_MAX: usize = 256;

/// Certificates and keys of Swarm clusters, in the store.
#[derive(Clone)]
pub struct SwarmVault {
    store: Store,
    /// Public address of endpoints; an unspecified one is in no certificate.
    public_ip: Ipv4Addr,
    cached: Arc<Mutex<HashMap<String, Arc<SwarmPki>>>>,
}

impl std::fmt::Debug for SwarmVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwarmVault").finish_non_exhaustive()
    }
}

impl SwarmVault {
    /// A vault in that store, for endpoints with that public address.
    pub fn new(store: Store, public_ip: Ipv4Addr) -> Self {
        Self { store, public_ip, cached: Arc::default() }
    }

    /// A cluster's certificates and keys.
    ///
    /// # Errors
    /// `NotFound` when it has none; whatever the store says.
    pub async fn pki(&self, cluster_id: &str) -> Outcome<Arc<SwarmPki>> {
        if let Some(pki) = self.cached().get(cluster_id) {
            return Ok(Arc::clone(pki));
        }
        let pki: SwarmPki =
            self.read(&pki_name(cluster_id)).await?.ok_or_else(|| Fault::not_found("Certificates", cluster_id))?;
        Ok(self.keep(cluster_id, pki))
    }

    /// Finds a cluster's certificates and keys, or makes and records them, or renews what is near its end. Idempotent.
    ///
    /// # Errors
    /// As [`pki::generate`]; whatever the store says.
    pub async fn ensure_pki(&self, cluster: &Cluster, manager_ip: Ipv4Addr, now: Timestamp) -> Outcome<()> {
        let names = endpoint_names(cluster, manager_ip, self.public_ip);
        let id = cluster.id.clone();
        let found = match self.pki(&id).await {
            Ok(found) => Some(found),
            Err(Fault { kind: FaultKind::NotFound(_), .. }) => None,
            Err(fault) => return Err(fault),
        };
        let cluster_id = id.clone();
        // RSA keys take long to make.
        let work = tokio::task::spawn_blocking(move || match found {
            Some(found) => pki::renewed(&found, &names, now),
            None => pki::generate(&cluster_id, &names, now).map(Some),
        });
        let made = work.await.map_err(|error| Fault::internal(format!("making certificates: {error}")))??;
        let Some(made) = made else { return Ok(()) };
        let mut batch = Batch::new();
        batch.secret(&pki_name(&id), &to_json(&made)?);
        self.store.commit(batch).await?;
        self.keep(&id, made);
        Ok(())
    }

    /// What a node has: found, or issued and recorded. Idempotent.
    ///
    /// # Errors
    /// Internal when the machine is no member of a cluster; whatever the store says.
    pub async fn ensure_node_pki(&self, machine: &Machine, now: Timestamp) -> Outcome<NodePki> {
        let member = machine
            .membership
            .as_ref()
            .ok_or_else(|| Fault::internal(format!("machine {} is in no cluster", machine.id)))?;
        let name = format!("cluster/{}/machine/{}", member.cluster_id, machine.id);
        let pki = self.pki(&member.cluster_id).await?;
        if let Some(found) = self.read::<NodePki>(&name).await?
            && (!found.is_ending(now) || found.engine.expires >= pki.engine_ca.expires)
        {
            return Ok(found);
        }
        let issued = pki::node_pki(&pki, &member.node_name, machine.ip, now)?;
        let mut batch = Batch::new();
        batch.secret(&name, &to_json(&issued)?);
        self.store.commit(batch).await?;
        Ok(issued)
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Outcome<Option<T>> {
        let Some(bytes) = self.store.secret(name).await? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Fault::internal(format!("the stored secret {name} cannot be read: {error}")))
    }

    fn keep(&self, cluster_id: &str, pki: SwarmPki) -> Arc<SwarmPki> {
        let pki = Arc::new(pki);
        let mut cached = self.cached();
        if cached.len() >= CACHED_MAX {
            cached.clear();
        }
        cached.insert(cluster_id.to_owned(), Arc::clone(&pki));
        pki
    }

    fn cached(&self) -> MutexGuard<'_, HashMap<String, Arc<SwarmPki>>> {
        // A map of finished values is whole after a panic, too.
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Directory for SwarmVault {
    fn manager(&self, cluster_id: &str) -> Option<String> {
        let machines = self.store.list_of::<Machine>(cluster_id);
        let is_manager =
            |machine: &Machine| machine.membership.as_ref().is_some_and(|m| m.role == MachineRole::ControlPlane);
        machines.iter().find(|machine| is_manager(machine)).map(|machine| machine.id.clone())
    }

    fn node_name(&self, cluster_id: &str, machine_id: &str) -> Option<String> {
        let machine = self.store.get::<Machine>(machine_id)?;
        machine.membership.as_ref().filter(|m| m.cluster_id == cluster_id).map(|m| m.node_name.clone())
    }
}

/// Everything that the endpoint is called.
fn endpoint_names(cluster: &Cluster, manager_ip: Ipv4Addr, public_ip: Ipv4Addr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    names.extend([public_ip, cluster.network.api_vip, manager_ip].map(|ip| ip.to_string()));
    names.retain(|name| *name != Ipv4Addr::UNSPECIFIED.to_string());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn pki_name(cluster_id: &str) -> String {
    format!("cluster/{cluster_id}/pki")
}

fn to_json<T: Serialize>(value: &T) -> Outcome<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Fault::internal(format!("a secret cannot be written as JSON: {error}")))
}
