//! What every controller has at hand.

use std::{future::Future, sync::Arc, time::Duration};

use sampan_provider::{MachineProvider, ProviderError};
use sampan_store::{
    Batch, MasterKey, Store,
    model::{Cluster, Fault, FaultKind, Machine, Outcome, Timestamp},
};

use tokio::time::Instant;

use super::{
    blueprints::Blueprints,
    driver::Waker,
    journal::Journal,
    lease::Identity,
    memory::Memory,
    names::Names,
    settings::{PROVIDER_CALL_MAX, Settings},
};
use crate::ports::{Agents, Balancing, Clock, ClusterAccess};

/// Attempts to change a document that others change at the same time.
const EDIT_ATTEMPTS_MAX: usize = 100;

/// What work is told apart by. Machines have keys of their own, so that one slow container does not hold up the rest of
/// its cluster; everything that touches a machine's container happens under the machine's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A cluster: what its machines are together.
    Cluster(String),
    /// A machine: its container, its spec, its repair, its removal.
    Machine(String),
    /// A cluster's backups.
    Backup(String),
    /// The balancer's configuration, composed from all clusters.
    Balancer,
    /// What exists in the engine though nothing wants it.
    Garbage,
}

/// What a machine's agent proves with that it is that machine: follows from the master key, so it is never stored and can
/// be checked without waiting. That the machine is still a member of a cluster is for the checker to see.
pub fn machine_token(key: &MasterKey, machine_id: &str) -> String {
    let token = key.derive(&format!("machine token of {machine_id}"));
    token.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) struct Context {
    pub(super) store: Store,
    pub(super) provider: Arc<dyn MachineProvider>,
    pub(super) agents: Arc<dyn Agents>,
    pub(super) access: Arc<dyn ClusterAccess>,
    pub(super) balancing: Arc<dyn Balancing>,
    pub(super) blueprints: Arc<dyn Blueprints>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    pub(super) names: Names,
    pub(super) identity: Identity,
    pub(super) memory: Memory,
    pub(super) waker: Waker<Key>,
    /// When this run of the server began to look.
    pub(super) started: Instant,
}

impl Context {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn wake_cluster(&self, cluster_id: &str) {
        self.waker.wake(Key::Cluster(cluster_id.to_owned()));
    }

    pub(super) fn wake_machine(&self, machine_id: &str) {
        self.waker.wake(Key::Machine(machine_id.to_owned()));
    }

    /// Changes a member of the cluster and tells of it in the same transaction. The closure says whether to write; it may
    /// run again. Answers whether it was written; a machine that has left the cluster meanwhile is not touched.
    pub(super) async fn edit_machine(
        &self,
        cluster: &Cluster,
        machine_id: &str,
        change: impl Fn(&mut Machine, &mut Journal) -> bool + Send,
    ) -> Outcome<bool> {
        for _ in 0..EDIT_ATTEMPTS_MAX {
            let Some(current) = self.store.get::<Machine>(machine_id) else { return Ok(false) };
            if current.cluster_id() != Some(cluster.id.as_str()) {
                return Ok(false);
            }
            let mut machine = current.value.clone();
            let mut journal = Journal::of(cluster, self.now());
            if !change(&mut machine, &mut journal) {
                return Ok(false);
            }
            let mut batch = Batch::new();
            batch.update(current.revision, &machine);
            journal.write_to(&mut batch);
            match self.store.commit(batch).await.map_err(Fault::from) {
                Err(fault) if fault.kind == FaultKind::Conflict => {}
                outcome => return outcome.map(|()| true),
            }
        }
        Err(Fault::new(FaultKind::Conflict, format!("machine {machine_id} changes too often to be written")))
    }

    /// Tells something without changing anything.
    pub(super) async fn tell(&self, journal: Journal) -> Outcome<()> {
        let mut batch = Batch::new();
        journal.write_to(&mut batch);
        Ok(self.store.commit(batch).await?)
    }
}

/// Gives a call a limit in time.
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Outcome<T>> + Send,
) -> Outcome<T> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(Fault::unavailable(format!("{what} did not end within {} s", limit.as_secs()))))
}

/// Gives a call of the machine provider a limit in time.
pub(super) async fn engine<T>(
    what: &str,
    call: impl Future<Output = Result<T, ProviderError>> + Send,
) -> Result<T, ProviderError> {
    tokio::time::timeout(PROVIDER_CALL_MAX, call).await.unwrap_or_else(|_| {
        Err(ProviderError::Unavailable(format!("{what} did not end within {} s", PROVIDER_CALL_MAX.as_secs())))
    })
}
