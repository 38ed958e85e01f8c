//! Addresses in overlays that nobody gave.
//!
//! An engine asks the swarm's manager for the address of a container that it attaches to an overlay. When an answer took too
//! long (engines that were killed wait for the manager when they start their containers again), the next start of that
//! container finds the unanswered question, does not ask again, and the engine takes the first address that it believes to
//! be free: one that somebody else has (Docker 20.10). Both are then reached from some nodes only. Engines do not mend this;
//! stopping the container and starting it does. An address that the manager gave is in the endpoint's `IPAMConfig`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::{self, Instant};

use super::{Fleet, Member, member::jitter, networks::PREDEFINED, observe::text};
use crate::model::{Container, Refusal};

/// Pause between two looks, however much changes.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// Pauses before a container is restarted once more, and how often it is looked when nothing changes.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Containers that are restarted at the same time.
const RESTARTS_MAX: usize = 8;

/// Until when a container that was restarted is left alone, and the pause before that.
pub(super) type Tries = BTreeMap<String, (Instant, Duration)>;

/// Networks, by id, in which a running container has an address that it was not told to take.
pub(crate) fn self_given(inspect: &Value) -> BTreeSet<&str> {
    let networks = inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let taken = |endpoint: &Value| {
        !text(endpoint, "/IPAddress").is_empty() && text(endpoint, "/IPAMConfig/IPv4Address").is_empty()
    };
    let networks = networks.into_iter().flatten();
    let suspects = networks.filter(|(name, endpoint)| !PREDEFINED.contains(&name.as_str()) && taken(endpoint));
    suspects.map(|(_, endpoint)| text(endpoint, "/NetworkID")).collect()
}

impl Fleet {
    /// Restarts containers that have an address in an overlay which the manager did not give them. For ever.
    pub(crate) async fn keep_addresses(self: Arc<Self>) {
        let mut changes = self.revision.subscribe();
        let mut tries = Tries::new();
        loop {
            changes.borrow_and_update();
            self.addresses_round(&mut tries).await;
            time::sleep(LOOK_PAUSE).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    pub(super) async fn addresses_round(&self, tries: &mut Tries) {
        let view = self.current();
        let suspects: Vec<&Arc<Container>> =
            view.containers.iter().filter(|one| one.is_running() && !self_given(&one.inspect).is_empty()).collect();
        tries.retain(|id, _| suspects.iter().any(|one| one.id == *id));
        let now = Instant::now();
        let mut due = Vec::new();
        for container in suspects {
            if tries.get(&container.id).is_some_and(|(until, _)| *until > now) {
                continue;
            }
            match (self.took_an_address(container).await, self.member_of(container)) {
                (Ok(true), Ok(member)) if member.is_reachable() => due.push((member, container.clone())),
                (Err(error), _) => {
                    tracing::debug!(container = container.name, error = error.message, "its network is not known now");
                }
                _ => {}
            }
        }
        for (_, container) in &due {
            let pause = tries.get(&container.id).map_or(RETRY_PAUSE, |(_, pause)| (*pause * 2).min(RETRY_PAUSE_MAX));
            tries.insert(container.id.clone(), (now + pause.mul_f64(jitter()), pause));
        }
        let restarts =
            due.into_iter().map(|(member, container)| async move { self.readdress(&member, &container).await });
        stream::iter(restarts).buffer_unordered(RESTARTS_MAX).collect::<Vec<()>>().await;
    }

    /// Whether one of the networks in which it took an address is an overlay of the swarm.
    async fn took_an_address(&self, container: &Container) -> Result<bool, Refusal> {
        for id in self_given(&container.inspect) {
            if self.is_overlay(id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn readdress(&self, member: &Member, container: &Container) {
        tracing::warn!(
            node = member.name,
            container = container.name,
            addresses = ?container.networks,
            "a container has an address that the swarm did not give it; it is restarted to get one"
        );
        if let Err(error) = self.stop_and_start(member, container, None).await {
            tracing::warn!(container = container.name, error = error.message, "it could not be restarted");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_that_nobody_gave_is_seen() {
        let of = |networks: Value| {
            let inspect = json!({"NetworkSettings": {"Networks": networks}});
            self_given(&inspect).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let given = json!({"NetworkID": "a", "IPAddress": "172.18.0.7", "IPAMConfig": {"IPv4Address": "172.18.0.7"}});
        let taken = json!({"NetworkID": "b", "IPAddress": "172.18.0.2", "IPAMConfig": null});
        let none = json!({"NetworkID": "c", "IPAddress": "", "IPAMConfig": null});
        assert!(of(json!({"one": given, "three": none, "bridge": taken})).is_empty());
        assert_eq!(of(json!({"one": given, "two": taken, "three": none})), ["b"]);
        assert!(self_given(&json!({})).is_empty());
    }
}
