//! The cluster's nodes as Kubernetes sees them: read, given their labels and taints, and removed when nothing stands
//! behind them any more.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use futures::future::join_all;
use sampan_store::model::{Machine, MachineRole, MachineState, Outcome};
use tokio::time::Instant;

use super::{
    context::{Context, within},
    journal::Journal,
    scope::{Scope, role},
    settings::ACCESS_CALL_MAX,
};
use crate::{
    kubernetes::{node_labels, role_taint},
    ports::{NodeView, NodeWanted},
};

/// Labels and taints are settled again after this time, in case somebody took them away.
const SETTLED_FOR: Duration = Duration::from_secs(300);

/// What was found.
pub(super) struct Found {
    /// The nodes.
    pub(super) nodes: Vec<NodeView>,
    /// Ids of the machines whose nodes have what they shall have.
    pub(super) settled: HashSet<String>,
}

/// Reads the nodes and settles those of our machines.
pub(super) async fn settle(ctx: &Context, scope: &Scope) -> Outcome<Found> {
    let cluster = &scope.cluster;
    let nodes = within(ACCESS_CALL_MAX, "listing the nodes", ctx.access.nodes(cluster)).await?;
    let known = scope.nodes().filter_map(|machine| Some((machine, view(&nodes, machine)?)));
    let settling = known.map(|(machine, node)| settle_one(ctx, scope, machine, node));
    let mut settled = HashSet::new();
    for (machine_id, outcome) in join_all(settling).await {
        match outcome {
            Ok(()) => {
                settled.insert(machine_id);
            }
            // Looked at again with the next change or poll; the machine does not count as in service before.
            Err(fault) => tracing::warn!(cluster = cluster.id, machine_id, error = %fault, "settling a node failed"),
        }
    }
    remove_orphans(ctx, scope, &nodes).await?;
    Ok(Found { nodes, settled })
}

/// The node of a machine.
pub(super) fn view<'a>(nodes: &'a [NodeView], machine: &Machine) -> Option<&'a NodeView> {
    let name = &machine.membership.as_ref()?.node_name;
    nodes.iter().find(|node| node.name == *name)
}

async fn settle_one(ctx: &Context, scope: &Scope, machine: &Machine, node: &NodeView) -> (String, Outcome<()>) {
    let wanted = wanted(scope, machine);
    let mark = BuildHasherDefault::<DefaultHasher>::default().hash_one(format!("{wanted:?}"));
    let remembered = ctx.memory.machine(&machine.id).settled;
    let is_fresh = remembered.is_some_and(|(hash, at)| hash == mark && at.elapsed() < SETTLED_FOR);
    if is_fresh && node.pod_cidr == wanted.pod_cidr {
        return (machine.id.clone(), Ok(()));
    }
    let call = ctx.access.settle_node(&scope.cluster, &node.name, &wanted);
    let mut outcome = within(ACCESS_CALL_MAX, "settling the node", call).await;
    if outcome.is_ok() {
        outcome = forget_retired(ctx, scope, machine).await;
    }
    if outcome.is_ok() {
        ctx.memory.with_machine(&machine.id, |memory| memory.settled = Some((mark, Instant::now())));
    }
    (machine.id.clone(), outcome)
}

/// What was taken away once may come back: from then on it is somebody else's.
async fn forget_retired(ctx: &Context, scope: &Scope, machine: &Machine) -> Outcome<()> {
    if machine.retired.is_none() {
        return Ok(());
    }
    let taken = machine.retired.clone();
    ctx.edit_machine(&scope.cluster, &machine.id, |machine, _| {
        let is_same = machine.retired == taken;
        if is_same {
            machine.retired = None;
        }
        is_same
    })
    .await
    .map(drop)
}

/// What a machine's node shall have.
fn wanted(scope: &Scope, machine: &Machine) -> NodeWanted {
    let member = machine.membership.as_ref();
    let pool = member.and_then(|member| member.node_pool_id.as_deref()).and_then(|id| scope.pool(id));
    let pool = pool.map(|pool| pool.seen_by(machine));
    let pool = pool.as_deref();
    // Also those that the kubelet registers with: they may have changed since.
    let labels = node_labels(&scope.cluster, pool, machine);
    let labels: Vec<(String, String)> = labels.registered.into_iter().chain(labels.settled).collect();
    let own = machine.is_control_plane_of(&scope.cluster.id).then(role_taint);
    let taints = pool.iter().flat_map(|pool| &pool.taints).chain(&own);
    let retired = machine.retired.clone().unwrap_or_default();
    // A tag may still ask for the label that the pool no longer has.
    let is_wanted = |key: &String| labels.iter().any(|(name, _)| name == key);
    NodeWanted {
        retired_labels: retired.labels.into_iter().filter(|key| !is_wanted(key)).collect(),
        retired_taints: retired.taints.into_iter().map(|taint| (taint.key, taint.effect)).collect(),
        // Only new nodes: later it is for people to say.
        unschedulable: pool.is_some_and(|pool| pool.unschedulable) && machine.state != MachineState::Running,
        pod_cidr: member.and_then(|member| member.pod_cidr).map(|cidr| cidr.to_string()),
        labels,
        taints: taints.map(|taint| (taint.key.clone(), taint.value.clone(), taint.effect.clone())).collect(),
    }
}

/// Deletes node objects that carry names of ours but have no machine: their machine was removed while the API was away.
async fn remove_orphans(ctx: &Context, scope: &Scope, nodes: &[NodeView]) -> Outcome<()> {
    let cluster = &scope.cluster;
    let prefix = format!("{}.", cluster.region_id);
    // Read anew, after the nodes were listed: a node's machine is always recorded before the node can appear.
    let machines = ctx.store.list_of::<Machine>(&cluster.id);
    // Nodes of pools with names of their own are told by their label.
    let is_ours = |node: &NodeView| node.name.starts_with(&prefix) || node.machine_id.is_some();
    let is_known = |node: &NodeView| {
        machines.iter().any(|machine| {
            let is_node = role(machine).is_some_and(MachineRole::is_node);
            is_node && machine.membership.as_ref().is_some_and(|member| member.node_name == node.name)
        })
    };
    for node in nodes.iter().filter(|node| is_ours(node) && !is_known(node)) {
        within(ACCESS_CALL_MAX, "deleting the node", ctx.access.delete_node(cluster, &node.name)).await?;
        let mut journal = Journal::of(cluster, ctx.now());
        journal.log(format!("node {} has no machine any more and was deleted", node.name));
        ctx.tell(journal).await?;
    }
    Ok(())
}
