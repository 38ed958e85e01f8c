//! What machines have to be: Kubernetes' pure functions fed with the vault's secrets and the bundle's images.

use std::sync::Arc;

use async_trait::async_trait;
use sampan_agents::spec::NodeSpec;
use sampan_control::{
    kubernetes::{ControlPlaneInputs, HostFacts, Images, WorkerInputs, control_plane_spec, vault::Vault, worker_spec},
    reconcile::Blueprints,
    service::instance_type,
};
use sampan_store::model::{Cluster, Fault, Machine, MachineRole, NodePool, Outcome, Timestamp};

/// Blueprints for the versions and images of the bundle.
pub(crate) struct BundleBlueprints {
    pub(crate) vault: Vault,
    pub(crate) images: Images,
    pub(crate) facts: Arc<HostFacts>,
}

/// Workers among machines.
fn workers(machines: &[Machine]) -> Vec<Machine> {
    let is_worker = |machine: &&Machine| machine.membership.as_ref().is_some_and(|m| m.role == MachineRole::Worker);
    machines.iter().filter(is_worker).cloned().collect()
}

#[async_trait]
impl Blueprints for BundleBlueprints {
    async fn ensure_pki(&self, cluster: &Cluster, control_plane: &Machine) -> Outcome<()> {
        self.vault.ensure_pki(cluster, &[control_plane.ip], Timestamp::now()).await.map(|_| ())
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
        let certificates = self.vault.ensure_node_certificates(machine, Timestamp::now()).await?;
        let shape = instance_type::shape("instance_type", &machine.instance_type)?;
        let (cpu_millis, memory_bytes) = shape.limits(self.facts.cpus, self.facts.memory_bytes);
        let control_plane_ip = peers
            .iter()
            .find(|peer| peer.membership.as_ref().is_some_and(|m| m.role == MachineRole::ControlPlane))
            .map(|peer| peer.ip)
            .ok_or_else(|| Fault::unavailable(format!("cluster {} has no control plane machine yet", cluster.id)))?;
        worker_spec(&WorkerInputs {
            control_plane_ip,
            cluster,
            pki: &pki,
            certificates: &certificates,
            machine,
            pool: Some(pool),
            workers: &workers(peers),
            images: &self.images,
            facts: &self.facts,
            cpu_millis: Some(cpu_millis),
            memory_bytes: Some(memory_bytes),
        })
    }
}
