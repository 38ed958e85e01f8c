//! What machines have to be: the pure functions of both generations, fed with the vaults' secrets and the bundle's images.

use std::{net::Ipv4Addr, sync::Arc};

use async_trait::async_trait;
use sampan_agents::{master::Strategy, spec::NodeSpec};
use sampan_control::{
    kubernetes::{
        ControlPlaneInputs, HostFacts, Images, WorkerInputs, control_plane_spec, master_spec, vault::Vault, worker_spec,
    },
    reconcile::{Blueprints, Renewal},
    service::instance_type,
    swarm::{ManagerInputs, NodeInputs, manager_spec, node_spec, vault::SwarmVault},
};
use sampan_store::model::{Cluster, Fault, Machine, NodePool, Outcome, Timestamp};

use crate::bundle::Bundle;

/// Blueprints for the versions and images of the bundle.
pub(crate) struct BundleBlueprints {
    pub(crate) vault: Vault,
    pub(crate) images: Images,
    pub(crate) facts: Arc<HostFacts>,
    pub(crate) bundle: Bundle,
}

impl BundleBlueprints {
    /// What is known of what the machine runs on: this host, or the one that somebody brought.
    fn facts_of(&self, machine: &Machine) -> HostFacts {
        let Some(report) = machine.host.as_ref().and_then(|host| host.report.as_ref()) else {
            return HostFacts::clone(&self.facts);
        };
        let own = &report.name_servers;
        HostFacts {
            can_lower_oom_score: report.can_lower_oom_score,
            ipvs: report.ipvs,
            cpus: report.cpus,
            memory_bytes: report.memory_bytes,
            name_servers: if own.is_empty() { self.facts.name_servers.clone() } else { own.clone() },
        }
    }

    /// The pool as this machine has it: what was asked for it alone goes before.
    fn pool_of(pool: &NodePool, machine: &Machine) -> NodePool {
        let own = machine.attached.clone().unwrap_or_default();
        NodePool {
            cpu_policy: own.cpu_policy.or_else(|| pool.cpu_policy.clone()),
            user_data: own.user_data.or_else(|| pool.user_data.clone()),
            ..pool.clone()
        }
    }
}

/// Nodes among machines.
fn nodes(cluster: &Cluster, machines: &[Machine]) -> Vec<Machine> {
    machines.iter().filter(|machine| machine.is_node_of(&cluster.id)).cloned().collect()
}

/// At least one, in a stable order.
fn control_plane_ips(cluster: &Cluster, machines: &[Machine]) -> Outcome<Vec<Ipv4Addr>> {
    let parts = machines.iter().filter(|machine| machine.is_control_plane_of(&cluster.id));
    let mut ips: Vec<Ipv4Addr> = parts.map(|machine| machine.ip).collect();
    ips.sort();
    ips.dedup();
    if ips.is_empty() {
        return Err(Fault::unavailable(format!("cluster {} has no control plane machine yet", cluster.id)));
    }
    Ok(ips)
}

impl BundleBlueprints {
    /// What both kinds of nodes are made from.
    async fn node(
        &self,
        cluster: &Cluster,
        pool: Option<&NodePool>,
        machine: &Machine,
        others: (&[Machine], &[Ipv4Addr]),
    ) -> Outcome<NodeSpec> {
        let (nodes, control_planes) = others;
        let pki = self.vault.pki(&cluster.id).await?;
        let certificates = self.vault.ensure_node_certificates(machine, Timestamp::now()).await?;
        let facts = self.facts_of(machine);
        // A host is as large as it is; one that a container plays, as that container.
        let limits = match &machine.host {
            Some(host) if !host.bare => None,
            _ => {
                let shape = instance_type::shape("instance_type", &machine.instance_type)?;
                Some(shape.limits(facts.cpus, facts.memory_bytes))
            }
        };
        let inputs = WorkerInputs {
            control_planes,
            cluster,
            pki: &pki,
            certificates: &certificates,
            machine,
            pool,
            workers: nodes,
            certificate_lifetime: self.vault.lifetime(),
            images: &self.images,
            facts: &facts,
            cpu_millis: limits.map(|(cpu_millis, _)| cpu_millis),
            memory_bytes: limits.map(|(_, memory_bytes)| memory_bytes),
        };
        if machine.is_control_plane_of(&cluster.id) { master_spec(&inputs) } else { worker_spec(&inputs) }
    }
}

#[async_trait]
impl Blueprints for BundleBlueprints {
    async fn ensure_pki(&self, cluster: &Cluster, control_planes: &[Machine]) -> Outcome<()> {
        let ips = control_plane_ips(cluster, control_planes)?;
        self.vault.ensure_pki(cluster, &ips, Timestamp::now()).await.map(|_| ())
    }

    async fn renew(&self, cluster: &Cluster, control_planes: &[Machine], now: Timestamp) -> Outcome<Renewal> {
        let ips = control_plane_ips(cluster, control_planes)?;
        self.vault.renew(cluster, &ips, now).await
    }

    async fn control_plane(&self, cluster: &Cluster, machine: &Machine, nodes: &[Machine]) -> Outcome<NodeSpec> {
        if machine.is_node_of(&cluster.id) {
            // It asks the API server beside it.
            return self.node(cluster, None, machine, (nodes, &[])).await;
        }
        let pki = self.vault.pki(&cluster.id).await?;
        let certificate_lifetime = self.vault.lifetime();
        control_plane_spec(&ControlPlaneInputs { cluster, pki: &pki, machine, workers: nodes, certificate_lifetime })
    }

    async fn worker(
        &self,
        cluster: &Cluster,
        pool: &NodePool,
        machine: &Machine,
        peers: &[Machine],
    ) -> Outcome<NodeSpec> {
        let control_planes = control_plane_ips(cluster, peers)?;
        let pool = Self::pool_of(pool, machine);
        let mut spec = self.node(cluster, Some(&pool), machine, (&nodes(cluster, peers), &control_planes)).await?;
        if machine.host.is_some() {
            let payload = self.bundle.payload_of(machine.version(cluster));
            spec.payload = payload.map_err(|error| Fault::unavailable(format!("the bundle: {error:#}")))?;
        }
        Ok(spec)
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
    async fn ensure_pki(&self, cluster: &Cluster, control_planes: &[Machine]) -> Outcome<()> {
        let ips = control_plane_ips(cluster, control_planes)?;
        let only = ips.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        self.vault.ensure_pki(cluster, only, Timestamp::now()).await
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
            manager_ip: control_plane_ips(cluster, peers)?.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED),
            cluster,
            pki: &pki,
            own: &own,
            machine,
            registry_port: self.registry_port,
            name_servers: &self.facts.name_servers,
        })
    }
}
