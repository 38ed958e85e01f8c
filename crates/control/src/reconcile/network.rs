//! The network of a VPC. Several clusters and machines may need it at the same time: making and removing it is done under
//! a lock of its name, and it goes only when nothing uses it any more.

use std::time::Duration;

use sampan_provider::{NetworkSpec, ProviderError};
use sampan_store::{
    Batch,
    model::{Cluster, Fault, FaultKind, Machine, MachineState, Outcome, VSwitch, Vpc},
};
use tracing::{info, warn};

use super::{
    allocation::Guard,
    context::{Context, Key, engine},
    memory::Note,
    scope::{Life, life},
};

/// An engine that does not let go of an empty network holds up its cluster's deletion for so long: Docker may keep an
/// endpoint of a container that it has removed until it is started anew. Then [`collect`] goes on trying.
const REFUSALS_MAX: Duration = Duration::from_secs(60);

/// Makes the VPC's network, or finds it.
pub(super) async fn ensure(ctx: &Context, vpc_id: &str) -> Result<(), Note> {
    if ctx.memory.network_is_up(vpc_id) {
        return Ok(());
    }
    let name = ctx.names.network(vpc_id);
    let _alone = ctx.memory.lock(&name).await;
    if ctx.memory.network_is_up(vpc_id) {
        return Ok(());
    }
    let Some(vpc) = ctx.store.get::<Vpc>(vpc_id) else {
        let message = format!("the VPC {vpc_id} is not recorded; delete the cluster and create it again");
        return Err(Note { reason: "NetworkMissing", message, permanent: true });
    };
    let labels = [("io.sampan.vpc".to_owned(), vpc_id.to_owned())].into();
    let spec = NetworkSpec { name, cidr: vpc.cidr, bridge: ctx.names.bridge(vpc_id), labels };
    if let Err(error) = engine("making the network", ctx.provider.ensure_network(&spec)).await {
        return Err(refusal(ctx, &vpc, &error).await.unwrap_or_else(|| error.into()));
    }
    ctx.memory.set_network(vpc_id, true);
    ctx.memory.forget_refusals(vpc_id);
    ctx.waker.wake(Key::Balancer);
    Ok(())
}

/// Why the network can never be made: somebody else has its range, and nothing has ever run in the VPC that would be
/// worth waiting for. A leftover of our own in its place is only waited for.
async fn refusal(ctx: &Context, vpc: &Vpc, error: &ProviderError) -> Option<Note> {
    let ProviderError::Conflict(why) = error else { return None };
    let has_run = |machine: &Machine| {
        machine.vpc_id == vpc.id && !matches!(machine.state, MachineState::Pending | MachineState::Kept)
    };
    if ctx.store.list::<Machine>().iter().any(|machine| has_run(machine)) {
        return None;
    }
    let foreign = engine("looking for other networks", ctx.provider.foreign_ranges()).await.ok()?;
    let Some(range) = foreign.iter().find(|range| range.contains(&vpc.cidr) || vpc.cidr.contains(*range)) else {
        ctx.waker.wake(Key::Garbage);
        return None;
    };
    let message = format!(
        "the range {} of VPC {} is in use by something else on this host ({range}): {why}. Create the cluster again, \
         with a new VPC, and it gets another range; or free this one first",
        vpc.cidr, vpc.id
    );
    Some(Note { reason: "AddressConflict", message, permanent: true })
}

/// The next [`ensure`] asks the engine again: something failed that may be the network's fault.
pub(super) fn doubt(ctx: &Context, vpc_id: &str) {
    ctx.memory.set_network(vpc_id, false);
}

/// Leave to remove a VPC's records, as of the moment when it was seen to be unused.
pub(super) struct Leave {
    guard: Guard,
}

/// What becomes of a deleted cluster's VPC.
pub(super) enum Released {
    /// It goes, with its records.
    Removed(Leave),
    /// It stays: others use it, or it shall stay.
    Stays,
    /// Nobody uses it, and the engine does not let go of its network, for this reason; it is removed later.
    LeftOver(String),
}

/// Removes the network of an ephemeral VPC that only `cluster` used.
pub(super) async fn release(ctx: &Context, cluster: &Cluster) -> Result<Released, Note> {
    let vpc_id = &cluster.network.vpc_id;
    let name = ctx.names.network(vpc_id);
    let _alone = ctx.memory.lock(&name).await;
    if !is_unused(ctx, cluster) {
        return Ok(Released::Stays);
    }
    ctx.memory.set_network(vpc_id, false);
    match engine("removing the network", ctx.provider.delete_network(&name)).await {
        Ok(()) => ctx.memory.forget_refusals(vpc_id),
        Err(error @ ProviderError::Failed(_)) => {
            if ctx.memory.network_refused_for(vpc_id) < REFUSALS_MAX || is_retained(ctx, vpc_id) {
                return Err(error.into());
            }
            return Ok(Released::LeftOver(error.to_string()));
        }
        // A silent engine, or a conflict about which somebody can do something: that is waited for.
        Err(error) => return Err(error.into()),
    }
    // A cluster that was recorded in the meantime makes it again; its VPC then stays.
    let guard = Guard::read(&ctx.store);
    Ok(if is_unused(ctx, cluster) { Released::Removed(Leave { guard }) } else { Released::Stays })
}

/// Whether the VPC exists for its clusters only, and none but `cluster` is left. A retained VPC counts as used.
fn is_unused(ctx: &Context, cluster: &Cluster) -> bool {
    let vpc_id = &cluster.network.vpc_id;
    let Some(vpc) = ctx.store.get::<Vpc>(vpc_id) else { return false };
    let retained = cluster
        .deletion
        .as_ref()
        .is_some_and(|deletion| deletion.retain.all || deletion.retain.resources.contains(vpc_id));
    vpc.ephemeral && !retained && !is_used(ctx, vpc_id, Some(&cluster.id))
}

/// Whether a machine, or a cluster other than `except`, is in the VPC.
fn is_used(ctx: &Context, vpc_id: &str, except: Option<&str>) -> bool {
    let by_cluster = |cluster: &Cluster| {
        let holds_nothing = matches!(life(cluster), Life::RolledBack | Life::Gone);
        Some(cluster.id.as_str()) != except && cluster.network.vpc_id == vpc_id && !holds_nothing
    };
    ctx.store.list::<Cluster>().iter().any(|cluster| by_cluster(cluster))
        || ctx.store.list::<Machine>().iter().any(|machine| machine.vpc_id == vpc_id)
}

/// Whether the VPC was to go with its last cluster and stayed only for a machine that has gone since, or because the engine
/// did not let go of its network. One that a deletion named to be retained stays.
pub(super) fn is_leftover(ctx: &Context, vpc: &Vpc) -> bool {
    vpc.ephemeral && !is_used(ctx, &vpc.id, None) && !is_retained(ctx, &vpc.id)
}

/// Whether a deletion named the VPC to be retained.
fn is_retained(ctx: &Context, vpc_id: &str) -> bool {
    let names = |cluster: &Cluster| {
        cluster.deletion.as_ref().is_some_and(|deletion| deletion.retain.resources.iter().any(|id| id == vpc_id))
    };
    ctx.store.list::<Cluster>().iter().any(|cluster| names(cluster))
}

/// Removes a VPC that is left over: its network and its records.
pub(super) async fn collect(ctx: &Context, vpc: &Vpc) -> Outcome<()> {
    let name = ctx.names.network(&vpc.id);
    let _alone = ctx.memory.lock(&name).await;
    if !is_leftover(ctx, vpc) {
        return Ok(());
    }
    info!(vpc = vpc.id, "removing a VPC that nothing uses any more");
    ctx.memory.set_network(&vpc.id, false);
    match engine("removing the network", ctx.provider.delete_network(&name)).await {
        Ok(()) => ctx.memory.forget_refusals(&vpc.id),
        // To be looked at again from time to time, and not more often: that may last until the engine is started anew.
        Err(error @ ProviderError::Failed(_)) => {
            warn!(vpc = vpc.id, %error, "the network of a VPC that nothing uses cannot be removed now");
            return Ok(());
        }
        Err(error) => return Err(Fault::unavailable(error.to_string())),
    }
    let leave = Leave { guard: Guard::read(&ctx.store) };
    if !is_leftover(ctx, vpc) {
        return Ok(());
    }
    let mut batch = Batch::new();
    forget(ctx, &vpc.id, &leave, &mut batch);
    match ctx.store.commit(batch).await.map_err(Fault::from) {
        // Somebody has just been given a place, maybe in it. If not, the next look removes it.
        Err(fault) if fault.kind == FaultKind::Conflict => Ok(()),
        outcome => outcome,
    }
}

/// Removes the records of a VPC and its vSwitches, in the given batch.
pub(super) fn forget(ctx: &Context, vpc_id: &str, leave: &Leave, batch: &mut Batch) {
    leave.guard.rewrite(batch);
    batch.delete::<Vpc>(vpc_id);
    for vswitch in ctx.store.list_of::<VSwitch>(vpc_id) {
        batch.delete::<VSwitch>(&vswitch.id);
    }
}
