//! What exists though nothing wants it: VPCs that stayed for a machine that has gone since, or because the engine kept their
//! network, and what is in the engine without a record, left by a run that was killed between a record's end and the end of
//! what it stood for. Intent is stored before anything is made, so what has no record is surely unwanted.

use std::{collections::BTreeSet, time::Duration};

use sampan_provider::ProviderError;
use sampan_store::model::{Cluster, Fault, Machine, Outcome, Vpc};
use tracing::{info, warn};

use super::{
    context::{Context, engine},
    driver::Status,
    network,
    scope::{Life, life},
};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(300);

/// Removes what nothing wants.
pub(super) async fn collect(ctx: &Context) -> Outcome<Status> {
    // First the inventory, then the records: what is made in between is not in the inventory yet.
    let inventory = engine("looking for leftovers", ctx.provider.inventory()).await.map_err(unavailable)?;
    let by_container = inventory.machines.iter().filter_map(|machine| ctx.names.id_of(&machine.name));
    let by_volume = inventory.volumes.iter().filter_map(|volume| ctx.names.machine_id_of_volume(volume));
    let machine_ids: BTreeSet<&str> = by_container.chain(by_volume).collect();
    // What cannot be removed now does not keep anything else.
    let mut outcome = Ok(());
    let mut note = |removed: Outcome<()>| {
        if let Err(fault) = removed {
            warn!(error = %fault, "a leftover stays for now");
            outcome = Err(fault);
        }
    };
    for id in machine_ids.into_iter().filter(|id| !is_machine_wanted(ctx, id)) {
        note(collect_machine(ctx, id).await);
    }
    for volume in &inventory.volumes {
        if let Some(cluster_id) = ctx.names.cluster_id_of_volume(volume)
            && !is_cluster_wanted(ctx, cluster_id)
        {
            note(collect_volume(ctx, volume).await);
        }
    }
    let vpc_ids = inventory.networks.iter().filter_map(|network| ctx.names.id_of(network));
    for id in vpc_ids.filter(|id| ctx.store.get::<Vpc>(id).is_none()) {
        note(collect_network(ctx, id).await);
    }
    for vpc in ctx.store.list::<Vpc>().iter().filter(|vpc| network::is_leftover(ctx, vpc)) {
        note(network::collect(ctx, vpc).await);
    }
    outcome.map(|()| Status::again(INTERVAL, "looks for leftovers from time to time"))
}

fn unavailable(error: ProviderError) -> Fault {
    Fault::unavailable(error.to_string())
}

/// Whether a record wants the machine's container: one that is in a cluster, even while it leaves.
fn is_machine_wanted(ctx: &Context, machine_id: &str) -> bool {
    let Some(machine) = ctx.store.get::<Machine>(machine_id) else { return false };
    if machine.host.as_ref().is_some_and(|host| host.bare) {
        return true;
    }
    let cluster = machine.cluster_id().and_then(|id| ctx.store.get::<Cluster>(id));
    cluster.is_some_and(|cluster| life(&cluster) != Life::Gone)
}

/// Whether there is still a cluster whose machines might share something.
fn is_cluster_wanted(ctx: &Context, cluster_id: &str) -> bool {
    ctx.store.get::<Cluster>(cluster_id).is_some_and(|cluster| life(&cluster) != Life::Gone)
}

async fn collect_machine(ctx: &Context, machine_id: &str) -> Outcome<()> {
    let _alone = ctx.memory.lock(machine_id).await;
    if is_machine_wanted(ctx, machine_id) {
        return Ok(());
    }
    let name = ctx.names.machine(machine_id);
    info!(machine = name, "removing a machine that no record wants");
    engine("removing the machine", ctx.provider.delete_machine(&name)).await.map_err(unavailable)
}

async fn collect_volume(ctx: &Context, volume: &str) -> Outcome<()> {
    info!(volume, "removing a volume that no cluster wants");
    engine("removing a volume", ctx.provider.delete_volume(volume)).await.map_err(unavailable)
}

async fn collect_network(ctx: &Context, vpc_id: &str) -> Outcome<()> {
    let name = ctx.names.network(vpc_id);
    let _alone = ctx.memory.lock(&name).await;
    if ctx.store.get::<Vpc>(vpc_id).is_some() {
        return Ok(());
    }
    info!(network = name, "removing a network that no record wants");
    ctx.memory.set_network(vpc_id, false);
    engine("removing the network", ctx.provider.delete_network(&name)).await.map_err(unavailable)
}
