//! The network of a VPC. Several clusters and machines may need it at the same time: making and removing it is done under
//! a lock of its name, and it goes only when nothing uses it any more.

use std::sync::Arc;

use sampan_provider::NetworkSpec;
use sampan_store::{
    Batch, Versioned,
    model::{Cluster, Machine, Setting, VSwitch, Vpc},
};

use super::{
    context::{Context, Key, engine},
    memory::Note,
    scope::{Life, life},
};

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
    engine("making the network", ctx.provider.ensure_network(&spec)).await?;
    ctx.memory.set_network(vpc_id, true);
    ctx.waker.wake(Key::Balancer);
    Ok(())
}

/// The next [`ensure`] asks the engine again: something failed that may be the network's fault.
pub(super) fn doubt(ctx: &Context, vpc_id: &str) {
    ctx.memory.set_network(vpc_id, false);
}

/// The record that every allocation of addresses rewrites (the use cases write it too). Removing a VPC does so as well, so
/// that nothing can be placed in a VPC that goes at the same moment: one of the two transactions is refused.
const ALLOCATION_GUARD: &str = "allocation-guard";

/// Leave to remove a VPC's records, as of the moment when it was seen to be unused.
pub(super) struct Leave {
    guard: Option<Arc<Versioned<Setting>>>,
}

/// Removes the network of an ephemeral VPC that only `cluster` used. `Some` when the VPC's records shall go too.
pub(super) async fn release(ctx: &Context, cluster: &Cluster) -> Result<Option<Leave>, Note> {
    let vpc_id = &cluster.network.vpc_id;
    let name = ctx.names.network(vpc_id);
    let _alone = ctx.memory.lock(&name).await;
    if !is_unused(ctx, cluster) {
        return Ok(None);
    }
    ctx.memory.set_network(vpc_id, false);
    engine("removing the network", ctx.provider.delete_network(&name)).await?;
    // A cluster that was recorded in the meantime makes it again; its VPC then stays.
    let guard = ctx.store.get::<Setting>(ALLOCATION_GUARD);
    Ok(is_unused(ctx, cluster).then_some(Leave { guard }))
}

/// Whether the VPC exists for its clusters only, and none but `cluster` is left. A retained VPC counts as used.
fn is_unused(ctx: &Context, cluster: &Cluster) -> bool {
    let vpc_id = &cluster.network.vpc_id;
    let Some(vpc) = ctx.store.get::<Vpc>(vpc_id) else { return false };
    let retained = cluster
        .deletion
        .as_ref()
        .is_some_and(|deletion| deletion.retain.all || deletion.retain.resources.contains(vpc_id));
    let by_cluster = |other: &Cluster| {
        let holds_nothing = matches!(life(other), Life::RolledBack | Life::Gone);
        other.id != cluster.id && other.network.vpc_id == *vpc_id && !holds_nothing
    };
    let by_machine = |machine: &Machine| machine.vpc_id == *vpc_id;
    vpc.ephemeral
        && !retained
        && !ctx.store.list::<Cluster>().iter().any(|other| by_cluster(other))
        && !ctx.store.list::<Machine>().iter().any(|machine| by_machine(machine))
}

/// Removes the records of a VPC and its vSwitches, in the given batch.
pub(super) fn forget(ctx: &Context, vpc_id: &str, leave: &Leave, batch: &mut Batch) {
    let count = leave.guard.as_ref().and_then(|guard| guard.value.value.as_u64()).unwrap_or(0);
    let next = Setting { id: ALLOCATION_GUARD.to_owned(), value: (count + 1).into() };
    match &leave.guard {
        Some(guard) => batch.update(guard.revision, &next),
        None => batch.create(&next),
    };
    batch.delete::<Vpc>(vpc_id);
    for vswitch in ctx.store.list_of::<VSwitch>(vpc_id) {
        batch.delete::<VSwitch>(&vswitch.id);
    }
}
