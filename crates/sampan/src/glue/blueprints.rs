//! What machines have to be: the pure functions of both generations, fed with the vaults' secrets and the bundle's images.

use std::{net::Ipv4Addr, sync::Arc};

use async_trait::async_trait;
use sampan_agents::{master::Strategy, spec::NodeSpec};
use sampan_control::{
    kubernetes::{ControlPlaneInputs, HostFacts, Images, WorkerInputs, control_plane_spec, vault::Vault, worker_spec},
    reconcile::Blueprints,
    service::instance_type,
    swarm::{ManagerInputs, NodeInputs, manager_spec, node_spec, vault::SwarmVault},
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

fn control_plane_ip(cluster: &Cluster, machines: &[Machine]) -> Outcome<Ipv4Addr> {
    machines
        .iter()
        .find(|machine| machine.membership.as_ref().is_some_and(|m| m.role == MachineRole::ControlPlane))
        .map(|machine| machine.ip)
        .ok_or_else(|| Fault::unavailable(format!("cluster {} has no control plane machine yet", cluster.id)))
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
        let control_plane_ip = control_plane_ip(cluster, peers)?;
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

/// Blueprints for Swarm clusters.
pub(crate) struct SwarmBlueprints {
    pub(crate) vault: SwarmVault,
    pub(crate) routing_suffix: String,
    pub(crate) registry_port: Option<u16>,
    pub(crate) strategy: Strategy,
    pub(crate) facts: Arc<HostFacts>,
}

#[async_trait]
impl Blueprints for SwarmBlueprints {
    async fn ensure_pki(&self, cluster: &Cluster, control_plane: &Machine) -> Outcome<()> {
        self.vault.ensure_pki(cluster, control_plane.ip, Timestamp::now()).await
    }

    async fn control_plane(&self, cluster: &Cluster, machine: &Machine, workers: &[Machine]) -> Outcome<NodeSpec> {
        let pki = self.vault.pki(&cluster.id).await?;
        manager_spec(&ManagerInputs {
            cluster,
            pki: &pki,
            machine,
            nodes: workers,
            routing_suffix: &self.routing_suffix,
            strategy: self.strategy,
            name_servers: &self.facts.name_servers,
        })
    }

    async fn worker(
        &self,
        cluster: &Cluster,
        _pool: &NodePool,
        machine: &Machine,
        peers: &[Machine],
    ) -> Outcome<NodeSpec> {
        let pki = self.vault.pki(&cluster.id).await?;
        let own = self.vault.ensure_node_pki(machine, Timestamp::now()).await?;
        node_spec(&NodeInputs {
            manager_ip: control_plane_ip(cluster, peers)?,
            cluster,
            pki: &pki,
            own: &own,
            machine,
            registry_port: self.registry_port,
            name_servers: &self.facts.name_servers,
        })
    }
}
