//! Public endpoints whose ports somebody else on the host has. A cluster that was never running moves to another port:
//! nobody knows the old one yet. One that was keeps its port, because users know it, and waits until it is free.

use std::collections::BTreeMap;

use sampan_store::{
    Batch, Versioned,
    model::{Cluster, Fault, FaultKind, Level, Outcome},
};

use super::{
    allocation::Guard,
    context::Context,
    doors::{self, Door},
    journal::Journal,
    scope::{Life, life},
};
use crate::service::network::allocate::Ledger;

/// Gives other ports to the new clusters among those whose public endpoints could not be opened (`troubles`, by listener).
pub(super) async fn evade(ctx: &Context, troubles: &BTreeMap<String, String>) -> Outcome<()> {
    for cluster in ctx.store.list::<Cluster>() {
        let is_new = cluster.first_running.is_none() && life(&cluster) == Life::Alive;
        let closed = doors::public(&cluster).find_map(|door| Some((troubles.get(&door.name)?, door)));
        if let (true, Some((why, door))) = (is_new, closed) {
            match give_another(ctx, &cluster, &door, why).await {
                // Something else was recorded at the same moment; the next look decides anew.
                Err(fault) if fault.kind == FaultKind::Conflict => {}
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

async fn give_another(ctx: &Context, cluster: &Versioned<Cluster>, door: &Door, why: &str) -> Outcome<()> {
    let ports = &ctx.settings.public_ports;
    let guard = Guard::read(&ctx.store);
    // A port that can be opened by now, or for another reason cannot be opened at all, is not left.
    if ports.is_free(door.port) {
        return Ok(());
    }
    let Ok(port) = Ledger::load(&ctx.store).take_port(ports.range(), |port| ports.is_free(port)) else {
        return Ok(());
    };
    let moved = doors::moved(cluster, &door.name, port);
    let mut journal = Journal::of(cluster, ctx.now());
    let what = if door.name == doors::api_public(&cluster.id) { "API" } else { "applications'" };
    let former = door.port;
    let text =
        format!("the public {what} endpoint moves from port {former}, which could not be opened ({why}), to {port}");
    journal.cluster_event("cluster_create", Level::Info, "EndpointMoved", text);
    let mut batch = Batch::new();
    batch.update(cluster.revision, &moved);
    guard.rewrite(&mut batch);
    journal.write_to(&mut batch);
    ctx.store.commit(batch).await.map_err(Fault::from)
}
