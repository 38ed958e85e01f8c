//! Quotas: what an account may have, and whether it has it already.

use sampan_store::{
    Store,
    model::{Cluster, ClusterType, Fault, FaultKind, Machine, MachineWanted, NodePool, Outcome, Setting},
};

use super::{Quotas, RequestContext, Service};

fn setting_id(account_id: &str) -> String {
    format!("quota/{account_id}")
}

impl Service {
    /// The quotas of the caller's account: its own, or else the installation's.
    pub fn quotas(&self, ctx: &RequestContext) -> Quotas {
        self.store
            .get::<Setting>(&setting_id(&ctx.account_id))
            .and_then(|setting| serde_json::from_value(setting.value.value.clone()).ok())
            .unwrap_or(self.settings.quotas)
    }

    /// Gives the caller's account quotas of its own. What exists already stays.
    ///
    /// # Errors
    /// Forbidden for others than the account itself.
    pub async fn quotas_set(&self, ctx: &RequestContext, quotas: Quotas) -> Outcome<()> {
        if !ctx.is_root {
            return Err(Fault::new(FaultKind::Forbidden, "only the account itself may change its quotas"));
        }
        let value =
            serde_json::to_value(quotas).map_err(|e| Fault::internal(format!("quotas cannot be stored: {e}")))?;
        self.change(ctx, |change| {
            change.put(&Setting { id: setting_id(&change.ctx.account_id), value: value.clone() });
            Ok(())
        })
        .await
    }

    /// Room for one more cluster of that type.
    pub(super) fn check_cluster_quota(&self, ctx: &RequestContext, cluster_type: ClusterType) -> Outcome<()> {
        let quotas = self.quotas(ctx);
        let clusters = self.store.list::<Cluster>();
        let mine = || clusters.iter().filter(|c| c.account_id == ctx.account_id && c.is_live());
        let (all, managed) =
            (mine().count(), mine().filter(|c| c.cluster_type == ClusterType::ManagedKubernetes).count());
        refuse_above("Cluster", "clusters", all + 1, quotas.clusters)?;
        match cluster_type {
            ClusterType::ManagedKubernetes => {
                refuse_above("ManagedCluster", "managed clusters", managed + 1, quotas.managed_clusters)
            }
            ClusterType::Kubernetes | ClusterType::Swarm => Ok(()),
        }
    }

    /// Room for `more` node pools in a cluster that has `present`.
    pub(super) fn check_node_pool_quota(&self, ctx: &RequestContext, present: usize, more: usize) -> Outcome<()> {
        refuse_above("NodePool", "node pools in this cluster", present + more, self.quotas(ctx).node_pools_per_cluster)
    }

    /// Room for `more` nodes in a cluster that has `present`.
    pub(super) fn check_node_quota(&self, ctx: &RequestContext, present: usize, more: usize) -> Outcome<()> {
        refuse_above("Node", "nodes in this cluster", present + more, self.quotas(ctx).nodes_per_cluster)
    }
}

fn refuse_above(quota: &str, what: &str, wanted: usize, limit: u32) -> Outcome<()> {
    if wanted <= limit as usize {
        return Ok(());
    }
    Err(Fault::new(
        FaultKind::QuotaExceeded(quota.into()),
        format!("{wanted} {what} would be more than the quota of {limit}; delete some, or raise the quota"),
    ))
}

/// Workers of a cluster that are to stay.
pub(super) fn staying_workers(store: &Store, cluster_id: &str) -> usize {
    store
        .list_of::<Machine>(cluster_id)
        .iter()
        .filter(|machine| machine.is_worker_of(cluster_id) && machine.wanted == MachineWanted::Run)
        .count()
}

/// Node pools of a cluster that are to stay.
pub(super) fn staying_pools(store: &Store, cluster_id: &str) -> usize {
    store.list_of::<NodePool>(cluster_id).iter().filter(|pool| !pool.deleting).count()
}
