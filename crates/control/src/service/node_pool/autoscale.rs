//! What the autoscaler asks of a pool that scales by itself: more nodes, fewer nodes. Within one batch it is seen to that
//! the pool stays between its bounds, whoever else changes it at the same time.

use std::sync::Arc;

use sampan_store::{
    Store, Versioned,
    model::{Cluster, Fault, FaultKind, Level, Machine, MachineWanted, NodePool, Outcome, TaskType},
};

use super::scale::More;
use crate::service::{
    RequestContext, Service,
    change::{About, Change},
    node::{NodesRemove, refuse_prepaid},
};

/// Source of machines that a pool made itself; others are their owners' to remove.
pub(crate) const MADE_BY_POOL: &str = "ess";

/// More nodes for a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolGrow {
    /// How many; fewer if the pool would become too large.
    pub(crate) count: u32,
    /// Only in these vSwitches; empty: where the pool puts them.
    pub(crate) vswitch_ids: Vec<String>,
    /// One word for the event.
    pub(crate) reason: &'static str,
    /// Why, in words.
    pub(crate) message: String,
}

/// Fewer nodes for a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolShrink {
    /// Which machines; fewer if the pool would become too small.
    pub(crate) machine_ids: Vec<String>,
    /// They never came into service: others will take their place.
    pub(crate) broken: bool,
    /// One word for the event.
    pub(crate) reason: &'static str,
    /// Why, in words.
    pub(crate) message: String,
}

impl Service {
    /// Adds nodes to a pool that scales by itself, as far as it may grow; answers how many.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, QuotaExceeded, and InvalidParameter when there is no address left.
    pub(crate) async fn node_pool_grow(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        pool_id: &str,
        input: &PoolGrow,
    ) -> Outcome<u32> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let Some(pool) = scaling_pool(change, &cluster, pool_id) else { return Ok(0) };
            let room = room(change.store, &pool);
            let count = input.count.min(room);
            if count == 0 {
                return Ok(0);
            }
            let more = More {
                count,
                instance_types: None,
                vswitch_ids: &input.vswitch_ids,
                tags: &[],
                notices: Vec::new(),
                timeout_minutes: self.settings.task_timeout_minutes,
            };
            let about = About::NodePool { cluster_id: &cluster.id, id: &pool.id };
            change.event(about, TaskType::ClusterScaleout, Level::Info, input.reason, input.message.clone());
            self.plan_more(change, &cluster, &pool, &more).map(|_| count)
        })
        .await
    }

    /// Removes nodes of a pool that scales by itself, with a drain, as far as it may shrink; answers which machines.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, DeletionProtected, and InvalidParameter when the pool's machines are prepaid.
    pub(crate) async fn node_pool_shrink(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        pool_id: &str,
        input: &PoolShrink,
    ) -> Outcome<Vec<String>> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let Some(pool) = scaling_pool(change, &cluster, pool_id) else { return Ok(Vec::new()) };
            if cluster.instance_deletion_protection {
                let text = "the cluster's instances are protected from being released";
                return Err(Fault::new(FaultKind::DeletionProtected, text));
            }
            let fewest = pool.scales().map_or(0, |scaling| scaling.min_instances) as usize;
            let staying = staying(change.store, &pool);
            let most = if input.broken { staying.len() } else { staying.len().saturating_sub(fewest) };
            let is_meant = |machine: &&Arc<Versioned<Machine>>| {
                machine.source == MADE_BY_POOL && input.machine_ids.contains(&machine.id)
            };
            let leaving: Vec<_> = staying.iter().filter(is_meant).take(most).cloned().collect();
            if leaving.is_empty() {
                return Ok(Vec::new());
            }
            refuse_prepaid(change, &leaving)?;
            let about = About::NodePool { cluster_id: &cluster.id, id: &pool.id };
            change.event(about, TaskType::ClusterNodeDelete, Level::Info, input.reason, input.message.clone());
            let how = NodesRemove { drain: true, release: true, ..NodesRemove::default() };
            self.plan_removal(change, &cluster, &leaving, &how);
            Ok(leaving.iter().map(|machine| machine.id.clone()).collect())
        })
        .await
    }

    /// Tells the users of a cluster what the autoscaler cannot do.
    ///
    /// # Errors
    /// ClusterNotFound; whatever the store says.
    pub(crate) async fn autoscaling_event(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        reason: &'static str,
        message: &str,
    ) -> Outcome<()> {
        let cluster = self.cluster(ctx, cluster_id)?;
        self.change(ctx, |change| {
            let about = About::Cluster(&cluster.id);
            change.event(about, TaskType::ClusterScaleout, Level::Warning, reason, message);
            Ok(())
        })
        .await
    }
}

/// The pool, if it scales by itself.
fn scaling_pool(change: &Change<'_>, cluster: &Cluster, pool_id: &str) -> Option<Arc<Versioned<NodePool>>> {
    change.store.get::<NodePool>(pool_id).filter(|pool| pool.cluster_id == cluster.id && pool.scales().is_some())
}

/// Machines of a pool that are to stay.
fn staying(store: &Store, pool: &NodePool) -> Vec<Arc<Versioned<Machine>>> {
    let mut machines = store.list_of::<Machine>(&pool.cluster_id);
    machines.retain(|machine| {
        machine.wanted == MachineWanted::Run
            && machine.membership.as_ref().is_some_and(|member| member.node_pool_id.as_ref() == Some(&pool.id))
    });
    machines
}

/// Nodes that a pool may still get; any number, if it does not scale by itself.
fn room(store: &Store, pool: &NodePool) -> u32 {
    let Some(scaling) = pool.scales() else { return u32::MAX };
    let present = u32::try_from(staying(store, pool).len()).unwrap_or(u32::MAX);
    scaling.max_instances.saturating_sub(present)
}
