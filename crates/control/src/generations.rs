//! Both generations of clusters behind the controllers' ports: each call goes to the one that the cluster is of.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use sampan_agents::spec::NodeSpec;
use sampan_store::model::{Cluster, ClusterType, Machine, NodePool, Outcome, Timestamp};
use tokio::sync::broadcast;

use crate::{
    ports::{
        ApiReadiness, BasePart, ClusterAccess, ComponentView, DrainOutcome, EtcdChange, EtcdMemberView,
        NodeConditionsView, NodeView, NodeWanted, Survey,
    },
    reconcile::{Blueprints, Renewal},
    service::credentials::{CertificateView, Credentials, Issued},
};

/// One thing for each generation.
#[derive(Clone, Debug)]
pub struct ByGeneration<T: ?Sized> {
    /// For Kubernetes clusters.
    pub kubernetes: Arc<T>,
    /// For Swarm clusters.
    pub swarm: Arc<T>,
}

impl<T: ?Sized> ByGeneration<T> {
    fn of(&self, cluster: &Cluster) -> &T {
        match cluster.cluster_type {
            ClusterType::ManagedKubernetes | ClusterType::Kubernetes => &self.kubernetes,
            ClusterType::Swarm => &self.swarm,
        }
    }
}

/// Both must announce on one channel ([`crate::kubernetes::access::TunnelAccess::announcer`]).
#[async_trait]
impl ClusterAccess for ByGeneration<dyn ClusterAccess> {
    async fn readiness(&self, cluster: &Cluster) -> Outcome<ApiReadiness> {
        self.of(cluster).readiness(cluster).await
    }

    async fn readiness_on(&self, cluster: &Cluster, machine_id: &str) -> Outcome<ApiReadiness> {
        self.of(cluster).readiness_on(cluster, machine_id).await
    }

    fn avoid(&self, cluster: &Cluster, machine_id: &str) {
        self.of(cluster).avoid(cluster, machine_id);
    }

    async fn etcd_members(&self, cluster: &Cluster) -> Outcome<Vec<EtcdMemberView>> {
        self.of(cluster).etcd_members(cluster).await
    }

    async fn change_etcd(&self, cluster: &Cluster, change: EtcdChange) -> Outcome<()> {
        self.of(cluster).change_etcd(cluster, change).await
    }

    async fn apply_base(&self, cluster: &Cluster, part: BasePart) -> Outcome<()> {
        self.of(cluster).apply_base(cluster, part).await
    }

    async fn dns_ready(&self, cluster: &Cluster) -> Outcome<()> {
        self.of(cluster).dns_ready(cluster).await
    }

    async fn default_account_ready(&self, cluster: &Cluster) -> Outcome<()> {
        self.of(cluster).default_account_ready(cluster).await
    }

    async fn nodes(&self, cluster: &Cluster) -> Outcome<Vec<NodeView>> {
        self.of(cluster).nodes(cluster).await
    }

    async fn listeners(&self, cluster: &Cluster) -> Outcome<Vec<(String, u16)>> {
        self.of(cluster).listeners(cluster).await
    }

    async fn settle_node(&self, cluster: &Cluster, node: &str, wanted: &NodeWanted) -> Outcome<()> {
        self.of(cluster).settle_node(cluster, node, wanted).await
    }

    async fn drain(&self, cluster: &Cluster, node: &str) -> Outcome<DrainOutcome> {
        self.of(cluster).drain(cluster, node).await
    }

    async fn delete_node(&self, cluster: &Cluster, node: &str) -> Outcome<()> {
        self.of(cluster).delete_node(cluster, node).await
    }

    async fn uncordon(&self, cluster: &Cluster, node: &str) -> Outcome<()> {
        self.of(cluster).uncordon(cluster, node).await
    }

    async fn survey(&self, cluster: &Cluster) -> Outcome<Survey> {
        self.of(cluster).survey(cluster).await
    }

    async fn server_version(&self, cluster: &Cluster, machine_id: &str) -> Outcome<String> {
        self.of(cluster).server_version(cluster, machine_id).await
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.kubernetes.changes()
    }

    fn watch(&self, cluster: &Cluster) {
        self.of(cluster).watch(cluster);
    }

    fn forget(&self, cluster_id: &str) {
        // Which generation it was of is not known any more.
        self.kubernetes.forget(cluster_id);
        self.swarm.forget(cluster_id);
    }

    async fn snapshot(&self, cluster: &Cluster, to: &Path) -> Outcome<u64> {
        self.of(cluster).snapshot(cluster, to).await
    }

    async fn send_snapshot(&self, cluster: &Cluster, machine_id: &str, from: &Path) -> Outcome<()> {
        self.of(cluster).send_snapshot(cluster, machine_id, from).await
    }

    async fn components(&self, cluster: &Cluster) -> Outcome<Vec<ComponentView>> {
        self.of(cluster).components(cluster).await
    }

    async fn node_conditions(&self, cluster: &Cluster) -> Outcome<Vec<NodeConditionsView>> {
        self.of(cluster).node_conditions(cluster).await
    }
}

#[async_trait]
impl Blueprints for ByGeneration<dyn Blueprints> {
    async fn ensure_pki(&self, cluster: &Cluster, control_planes: &[Machine]) -> Outcome<()> {
        self.of(cluster).ensure_pki(cluster, control_planes).await
    }

    async fn renew(&self, cluster: &Cluster, control_planes: &[Machine], now: Timestamp) -> Outcome<Renewal> {
        self.of(cluster).renew(cluster, control_planes, now).await
    }

    async fn control_plane(&self, cluster: &Cluster, machine: &Machine, workers: &[Machine]) -> Outcome<NodeSpec> {
        self.of(cluster).control_plane(cluster, machine, workers).await
    }

    async fn worker(
        &self,
        cluster: &Cluster,
        pool: &NodePool,
        machine: &Machine,
        peers: &[Machine],
    ) -> Outcome<NodeSpec> {
        self.of(cluster).worker(cluster, pool, machine, peers).await
    }
}

#[async_trait]
impl Credentials for ByGeneration<dyn Credentials> {
    async fn issue(
        &self,
        cluster: &Cluster,
        user_name: &str,
        groups: &[String],
        not_after: Timestamp,
    ) -> Outcome<Issued> {
        self.of(cluster).issue(cluster, user_name, groups, not_after).await
    }
    async fn certificates(&self, cluster: &Cluster, machines: &[Machine]) -> Outcome<Vec<CertificateView>> {
        self.of(cluster).certificates(cluster, machines).await
    }
}
