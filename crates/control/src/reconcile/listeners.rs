//! Listeners that the applications of a Swarm cluster ask its load balancer for: each gets a port of the host, which it keeps
//! for as long as it is asked for.

use std::collections::{BTreeMap, BTreeSet};

use sampan_agents::{master::ROUTER_PORT, node::MIRROR_PORT};
use sampan_store::{
    Batch, Versioned,
    model::{Cluster, Fault, FaultKind, Outcome, SwarmListener},
};

use super::{
    allocation::Guard,
    context::{Context, within},
    journal::Journal,
    memory::Note,
    scope::Scope,
    settings::ACCESS_CALL_MAX,
};
use crate::{service::network::allocate::Ledger, swarm};

/// Listeners of one cluster.
const LISTENERS_MAX: usize = 64;
/// Longest name.
const NAME_LENGTH_MAX: usize = 63;

/// Asks the cluster what it wants and records it. Answers what cannot be had, for users to be told.
pub(super) async fn settle(ctx: &Context, scope: &Scope) -> Outcome<Option<Note>> {
    let Some(options) = &scope.cluster.swarm else { return Ok(None) };
    let asked = within(ACCESS_CALL_MAX, "asking for listeners", ctx.access.listeners(&scope.cluster)).await?;
    let (wanted, refused) = choose(asked, ctx.settings.registry_port);
    let note = (!refused.is_empty()).then(|| Note {
        reason: "ListenerRefused",
        message: format!("the load balancer cannot have these listeners: {}", refused.join("; ")),
        permanent: false,
    });
    let present = options.listeners.iter().map(|(name, listener)| (name, listener.port));
    if !present.eq(wanted.iter().map(|(name, port)| (name, *port))) {
        match record(ctx, &scope.cluster, &wanted).await {
            // Somebody else allocated at the same moment; the next look decides anew.
            Err(fault) if fault.kind == FaultKind::Conflict => ctx.wake_cluster(&scope.cluster.id),
            outcome => outcome?,
        }
    }
    Ok(note)
}

/// Ports of the virtual IP, or of the nodes, that are in use.
const TAKEN: [u16; 8] = [
    swarm::ROUTING_PORT,
    swarm::MASTER_PORT,
    swarm::REGISTRY_PORT,
    ROUTER_PORT,
    MIRROR_PORT,
    // The swarm's own: management, gossip; and engines without TLS, which others could take for one.
    2377,
    7946,
    2375,
];

/// Those that can be had, by name, and what is wrong with the others.
fn choose(asked: Vec<(String, u16)>, registry_port: Option<u16>) -> (BTreeMap<String, u16>, Vec<String>) {
    let (mut wanted, mut refused) = (BTreeMap::new(), Vec::new());
    let mut taken: BTreeSet<u16> = TAKEN.into_iter().chain(registry_port).collect();
    for (name, port) in asked {
        let is_name = (1..=NAME_LENGTH_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        let why = if !is_name {
            "its name cannot be used"
        } else if wanted.contains_key(&name) {
            "its name is used twice"
        } else if port == 0 || taken.contains(&port) {
            "its port is taken"
        } else if wanted.len() >= LISTENERS_MAX {
            "there are too many"
        } else {
            taken.insert(port);
            wanted.insert(name, port);
            continue;
        };
        refused.push(format!("{}:{port} ({why})", name.escape_default()));
    }
    (wanted, refused)
}

async fn record(ctx: &Context, cluster: &Versioned<Cluster>, wanted: &BTreeMap<String, u16>) -> Outcome<()> {
    let guard = Guard::read(&ctx.store);
    let mut ledger = Ledger::load(&ctx.store);
    let mut changed = cluster.value.clone();
    let Some(options) = &mut changed.swarm else { return Ok(()) };
    let mut journal = Journal::of(cluster, ctx.now());
    let former = std::mem::take(&mut options.listeners);
    let ports = &ctx.settings.public_ports;
    for (name, port) in wanted {
        let public_port = match former.get(name) {
            Some(listener) => listener.public_port,
            None => {
                let public_port = ledger.take_port(ports.range(), |port| ports.is_free(port))?;
                journal.log(format!("the load balancer listens for {name}: port {port}, on the host {public_port}"));
                public_port
            }
        };
        options.listeners.insert(name.clone(), SwarmListener { port: *port, public_port });
    }
    for name in former.keys().filter(|name| !wanted.contains_key(*name)) {
        journal.log(format!("the load balancer does not listen for {name} any more"));
    }
    let mut batch = Batch::new();
    batch.update(cluster.revision, &changed);
    guard.rewrite(&mut batch);
    journal.write_to(&mut batch);
    ctx.store.commit(batch).await.map_err(Fault::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_had() {
        let asked = [("db", 3306), ("db", 3307), ("a b", 5000), ("web", 80), ("x", 3306), ("y", 0), ("z", 9000)];
        let (wanted, refused) = choose(asked.map(|(name, port)| (name.to_owned(), port)).into(), Some(5000));
        assert_eq!(wanted, [("db".to_owned(), 3306), ("z".to_owned(), 9000)].into());
        assert_eq!(refused.len(), 5, "{refused:?}");
        let many = (0..100).map(|n| (format!("l{n}"), 10_000 + n)).collect();
        assert_eq!(choose(many, None).0.len(), LISTENERS_MAX);
    }
}
