//! [`Blueprints`] for the controllers: certificates from the vault, specifications from [`super::control_plane_spec`] and
//! [`super::worker_spec`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use sampan_agents::spec::NodeSpec;
use sampan_store::model::{Cluster, Fault, Machine, MachineRole, NodePool, Outcome};

use super::{ControlPlaneInputs, HostFacts, Images, WorkerInputs, control_plane_spec, vault::Vault, worker_spec};
use crate::{
    ports::Clock,
    reconcile::{Blueprints, Sizes},
};

/// What machines of Kubernetes clusters must be.
pub struct KubernetesBlueprints {
    /// Certificates and keys.
    pub vault: Vault,
    /// Images of the bundle.
    pub images: Images,
    /// The host of the machines.
    pub facts: HostFacts,
    /// How large machines are.
    pub sizes: Sizes,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for KubernetesBlueprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesBlueprints").field("facts", &self.facts).finish_non_exhaustive()
    }
}

#[async_trait]
impl Blueprints for KubernetesBlueprints {
    async fn ensure_pki(&self, cluster: &Cluster, control_plane: &Machine) -> Outcome<()> {
        self.vault.ensure_pki(cluster, &[control_plane.ip], self.clock.now()).await.map(drop)
    }

    async fn control_plane(&self, cluster: &Cluster, machine: &Machine, workers: &[Machine]) -> Outcome<NodeSpec> {
        let pki = self.vault.pki(&cluster.id).await?;
        control_plane_spec(&ControlPlaneInputs { cluster, pki: &pki, machine, workers })
    }

    async fn worker(
        &self,
        cluster: &Cluster,
        pool: &NodePool,
        machine: &Machine,
        peers: &[Machine],
    ) -> Outcome<NodeSpec> {
        let pki = self.vault.pki(&cluster.id).await?;
        let certificates = self.vault.ensure_node_certificates(machine, self.clock.now()).await?;
        let control_plane = peers
            .iter()
            .find(|peer| peer.membership.as_ref().is_some_and(|member| member.role == MachineRole::ControlPlane))
            .ok_or_else(|| Fault::unavailable(format!("cluster {} has no control plane machine", cluster.id)))?;
        let size = (self.sizes)(machine);
        worker_spec(&WorkerInputs {
            cluster,
            pki: &pki,
            certificates: &certificates,
            machine,
            pool: Some(pool),
            control_plane_ip: control_plane.ip,
            workers: peers,
            images: &self.images,
            facts: &self.facts,
            cpu_millis: size.cpu_millis,
            memory_bytes: size.memory_bytes,
        })
    }
}
