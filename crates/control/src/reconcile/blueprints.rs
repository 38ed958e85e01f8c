//! What a machine of a cluster has to be: asked from Kubernetes' room, so that the controllers know no command line.

use async_trait::async_trait;
use sampan_agents::spec::NodeSpec;
use sampan_store::model::{Cluster, Machine, NodePool, Outcome};

/// Makes specs from documents. Equal documents give equal specs, else machines would be told the same thing for ever.
///
/// A fault that is not retryable says that the cluster can never be made as asked; its creation fails at once.
#[async_trait]
pub trait Blueprints: Send + Sync + 'static {
    /// Makes the cluster's certificates and keys as far as they are missing, and keeps them. Idempotent; never called
    /// twice at the same time for one cluster. Called again from time to time, so that what expires can be renewed.
    async fn ensure_pki(&self, cluster: &Cluster, control_plane: &Machine) -> Outcome<()>;

    /// The machine that runs the control plane; `workers` are the cluster's machines that run pods.
    async fn control_plane(&self, cluster: &Cluster, machine: &Machine, workers: &[Machine]) -> Outcome<NodeSpec>;

    /// A worker; `peers` are all other machines of the cluster, the control plane's included.
    async fn worker(
        &self,
        cluster: &Cluster,
        pool: &NodePool,
        machine: &Machine,
        peers: &[Machine],
    ) -> Outcome<NodeSpec>;
}
