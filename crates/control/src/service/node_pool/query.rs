//! Node pools, as users ask for them.

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{Fault, Machine, MachineState, MachineWanted, NodePool, Outcome},
};

use crate::service::{RequestContext, Service};

/// How many of a pool's nodes are how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePoolCounts {
    /// Could not be brought up.
    pub failed: u32,
    /// In service and Ready.
    pub healthy: u32,
    /// Being made.
    pub initial: u32,
    /// In service, not Ready.
    pub offline: u32,
    /// Leaving.
    pub removing: u32,
    /// In service.
    pub serving: u32,
    /// All.
    pub total: u32,
}

impl NodePoolCounts {
    /// Counts a pool's machines.
    pub fn of<'a>(machines: impl IntoIterator<Item = &'a Machine>) -> Self {
        let mut counts = Self::default();
        for machine in machines {
            counts.total += 1;
            match (machine.wanted, machine.state) {
                (MachineWanted::Leave | MachineWanted::Release | MachineWanted::Reset, _)
                | (_, MachineState::Removing) => counts.removing += 1,
                (_, MachineState::Failed) => counts.failed += 1,
                (_, MachineState::Stopped) => counts.offline += 1,
                (_, MachineState::Pending | MachineState::Starting | MachineState::Kept) => counts.initial += 1,
                (_, MachineState::Running) => {
                    counts.serving += 1;
                    if machine.node_status.as_deref() == Some("Ready") {
                        counts.healthy += 1;
                    } else {
                        counts.offline += 1;
                    }
                }
            }
        }
        counts
    }
}

/// `PostPaid` or `PrePaid`, as the pool's request says.
pub fn charge_type(pool: &NodePool) -> &str {
    pool.request["scaling_group"]["instance_charge_type"].as_str().filter(|t| !t.is_empty()).unwrap_or("PostPaid")
}

impl Service {
    /// The node pools of a cluster with the state of their nodes, the default pool first; with `name` only the one of that
    /// name.
    ///
    /// # Errors
    /// ClusterNotFound.
    pub fn node_pools(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        name: Option<&str>,
    ) -> Outcome<Vec<(Arc<Versioned<NodePool>>, NodePoolCounts)>> {
        let cluster = self.kubernetes_cluster(ctx, cluster_id)?;
        let mut pools = self.store.list_of::<NodePool>(&cluster.id);
        pools.retain(|pool| name.is_none_or(|n| n.is_empty() || n == pool.name));
        pools.sort_by(|a, b| (!a.is_default, a.created, &a.id).cmp(&(!b.is_default, b.created, &b.id)));
        let machines = self.store.list_of::<Machine>(&cluster.id);
        let counted = |pool: &NodePool| {
            let mine = |m: &&Machine| {
                m.membership.as_ref().is_some_and(|s| s.node_pool_id.as_deref() == Some(pool.id.as_str()))
            };
            NodePoolCounts::of(machines.iter().map(|m| &m.value).filter(mine))
        };
        Ok(pools
            .into_iter()
            .map(|pool| {
                let counts = counted(&pool);
                (pool, counts)
            })
            .collect())
    }

    /// How a node is paid for: as its pool is.
    pub fn node_charge_type(&self, machine: &Machine) -> String {
        let pool = machine.membership.as_ref().and_then(|member| member.node_pool_id.as_deref());
        let pool = pool.and_then(|id| self.store.get::<NodePool>(id));
        pool.map_or_else(|| "PostPaid".to_owned(), |pool| charge_type(&pool).to_owned())
    }

    /// One node pool of a cluster.
    ///
    /// # Errors
    /// ClusterNotFound; NotFound for the pool.
    pub fn node_pool(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        pool_id: &str,
    ) -> Outcome<(Arc<Versioned<NodePool>>, NodePoolCounts)> {
        self.node_pools(ctx, cluster_id, None)?
            .into_iter()
            .find(|(pool, _)| pool.id == pool_id)
            .ok_or_else(|| Fault::not_found("NodePool", pool_id))
    }
}
