//! What a machine of a cluster has to be: asked from Kubernetes' room, so that the controllers know no command line.

use async_trait::async_trait;
use sampan_agents::spec::NodeSpec;
use sampan_store::model::{Cluster, Machine, NodePool, Outcome, Timestamp};

/// What became of a look at the control plane's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// They were issued again, until then.
    pub renewed: Option<Timestamp>,
    /// Authorities whose end is near: they cannot be renewed without everybody's consent. What, and when it ends.
    pub ending: Vec<(String, Timestamp)>,
}

/// Makes specs from documents. Equal documents give equal specs, else machines would be told the same thing for ever.
///
/// A fault that is not retryable says that the cluster can never be made as asked; its creation fails at once.
#[async_trait]
pub trait Blueprints: Send + Sync + 'static {
    /// Makes the cluster's certificates and keys as far as they are missing, and keeps them; those that name the machines of
    /// the control plane are issued anew when it has others. Idempotent; never called
    /// twice at the same time for one cluster. Called again from time to time, so that what expires can be renewed.
    async fn ensure_pki(&self, cluster: &Cluster, control_planes: &[Machine]) -> Outcome<()>;

    /// Issues the control plane's certificates again when their end is near. Idempotent; called after `ensure_pki`, from
    /// time to time, never twice at the same time for one cluster.
    async fn renew(&self, _cluster: &Cluster, _control_planes: &[Machine], _now: Timestamp) -> Outcome<Renewal> {
        Ok(Renewal::default())
    }

    /// A machine that runs the control plane or a part of it, masters included; `nodes` are the cluster's other machines
    /// that run pods.
    async fn control_plane(&self, cluster: &Cluster, machine: &Machine, nodes: &[Machine]) -> Outcome<NodeSpec>;

    /// A worker; `peers` are all other machines of the cluster, the control plane's included.
    async fn worker(
        &self,
        cluster: &Cluster,
        pool: &NodePool,
        machine: &Machine,
        peers: &[Machine],
    ) -> Outcome<NodeSpec>;
}
