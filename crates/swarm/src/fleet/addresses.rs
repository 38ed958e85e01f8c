//! Addresses in overlays that nobody gave.
//!
//! An engine asks the swarm's manager for the address of a container that it attaches to an overlay. When an answer took too
//! long (engines that were killed wait for the manager when they start their containers again), the next start of that
//! container finds the unanswered question, does not ask again, and the engine takes the first address that it believes to
//! be free: one that somebody else has (Docker 20.10). Both are then reached from some nodes only. Engines do not mend this;
//! taking the container out of the overlay and putting it back does, and lets its processes be. An address that the manager
//! gave is in the endpoint's `IPAMConfig`; so is one that the user chose, of which this cannot tell who gave it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde_json::{Map, Value};
use tokio::time::{self, Instant};

use super::{
    Fleet,
    lifecycle::{connect, disconnect, endpoint_of},
    member::jitter,
    networks::PREDEFINED,
    observe::text,
};
use crate::model::{Container, Refusal};

/// Pause between two looks, however much changes, and the longest while nothing does.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Pauses before a container is reconnected once more.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(120);
/// A container that kept its address for so long is begun anew with the first pause.
const STEADY: Duration = Duration::from_secs(600);
/// Containers that are reconnected at the same time.
const RECONNECTS_MAX: usize = 8;

/// What one round remembers for the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Until when a container that was reconnected is left alone, and the pause that this was.
    tries: BTreeMap<String, (Instant, Duration)>,
    /// Networks that are no overlays, by id.
    local: BTreeSet<String>,
}

/// Networks in which a container has an address that it was not told to take, and how it is in each.
fn self_given(container: &Container) -> impl Iterator<Item = (&String, &Value)> {
    let taken = |endpoint: &Value| {
        !text(endpoint, "/IPAddress").is_empty() && text(endpoint, "/IPAMConfig/IPv4Address").is_empty()
    };
    endpoints(container).filter(move |(name, endpoint)| !PREDEFINED.contains(&name.as_str()) && taken(endpoint))
}

fn endpoints(container: &Container) -> impl Iterator<Item = (&String, &Value)> {
    container.inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object).into_iter().flatten()
}

impl Fleet {
    /// Gives containers an address of their own that took somebody else's in an overlay. For ever.
    pub(crate) async fn keep_addresses(self: Arc<Self>) {
        let mut changes = self.revision.subscribe();
        let mut memory = Memory::default();
        loop {
            changes.borrow_and_update();
            self.addresses_round(&mut memory).await;
            time::sleep(LOOK_PAUSE).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    pub(super) async fn addresses_round(&self, memory: &mut Memory) {
        let view = self.current();
        let owed = self.kept.reconnecting();
        let is_there = |id: &String| view.containers.iter().any(|one| one.id == *id);
        if let Err(error) = self.kept.change_reconnecting(|owed| owed.retain(|id, _| is_there(id))) {
            tracing::error!(error = error.message, "which containers are to be put back into overlays is not kept");
        }
        let now = Instant::now();
        memory.tries.retain(|id, (until, _)| is_there(id) && *until + STEADY > now);
        let rests = |id: &String| memory.tries.get(id).is_some_and(|(until, _)| *until > now);
        let mut due = Vec::new();
        for container in view.containers.iter().filter(|one| !rests(&one.id)) {
            if owed.contains_key(&container.id)
                || (container.is_running() && self.has_taken(container, &mut memory.local).await)
            {
                due.push(container.id.clone());
            }
        }
        let reconnects = due.iter().map(|id| async move {
            if let Err(error) = self.readdress(id).await {
                tracing::warn!(id, error = error.message, "a container could not be put back into its overlays");
            }
        });
        stream::iter(reconnects).buffer_unordered(RECONNECTS_MAX).collect::<Vec<()>>().await;
        for id in due {
            let pause = memory.tries.get(&id).map_or(RETRY_PAUSE, |(_, pause)| (*pause * 2).min(RETRY_PAUSE_MAX));
            memory.tries.insert(id, (Instant::now() + pause.mul_f64(jitter()), pause));
        }
    }

    /// Whether one of the networks in which a container took an address is an overlay. Not while the manager is silent.
    async fn has_taken(&self, container: &Container, local: &mut BTreeSet<String>) -> bool {
        for (_, endpoint) in self_given(container) {
            let id = text(endpoint, "/NetworkID");
            match if local.contains(id) { Ok(false) } else { self.is_overlay(id).await } {
                Ok(true) => return true,
                Ok(false) => drop(local.insert(id.to_owned())),
                Err(error) => {
                    tracing::debug!(container = container.name, error = error.message, "its network is not known now");
                }
            }
        }
        false
    }

    /// Takes a container out of the overlays in which it took an address, and puts it back there and wherever a former try
    /// did not end. What is owed is on disk before anything is taken away.
    async fn readdress(&self, id: &str) -> Result<(), Refusal> {
        let (_, member) = self.locate(id)?;
        if !member.is_reachable() {
            return Ok(());
        }
        self.refresh(&member, id).await;
        let (container, _) = self.locate(id)?;
        let mut owed = self.kept.reconnecting().remove(id).unwrap_or_default();
        owed.retain(|name, _| endpoints(&container).all(|(there, _)| there != name));
        let mut out = Vec::new();
        for (name, endpoint) in self_given(&container).filter(|_| container.is_running()) {
            if self.is_overlay(text(endpoint, "/NetworkID")).await? {
                out.push(name);
                owed.insert(name.clone(), endpoint_of(&container, endpoint));
            }
        }
        self.owe(id, &owed)?;
        for name in out {
            tracing::warn!(
                node = member.name,
                container = container.name,
                network = name,
                address = ?container.networks.get(name),
                "a container has an address that the swarm did not give it; it gets another one"
            );
            disconnect(&member, name, id).await?;
        }
        for (name, endpoint) in &owed {
            connect(&member, name, id, endpoint).await?;
        }
        self.refresh(&member, id).await;
        self.owe(id, &Map::new())
    }

    fn owe(&self, id: &str, endpoints: &Map<String, Value>) -> Result<(), Refusal> {
        self.kept.change_reconnecting(|owed| match endpoints.is_empty() {
            true => drop(owed.remove(id)),
            false => drop(owed.insert(id.to_owned(), endpoints.clone())),
        })
    }
}
