//! Containers that move when their node is lost or leaves: made anew elsewhere from what is known of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use tokio::time::{self, Instant};

use super::{
    Fleet, Member, WhenMissing, is_of_application,
    lifecycle::endpoint_of,
    observe::{self, CPUS_LABEL, text},
};
use crate::model::{Container, ContainerState, Refusal, labels};

/// Label with an identity that a container keeps when it is made anew elsewhere; of two that share one the newer counts.
pub(crate) const IDENTITY_LABEL: &str = "com.docker.swarm.id";
/// How long an engine must be silent before its containers are made anew elsewhere.
const LOST_AFTER: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Containers that are moved at the same time.
const MOVES_MAX: usize = 8;
/// How long a container that could not be moved is left alone, doubled with every failure up to the second.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A container that is moved off a living node has this long to end.
const STOP_SECONDS: u32 = 10;

/// Whether a container may be made anew elsewhere.
pub(crate) fn moves(container: &Container) -> bool {
    container.labels.get(labels::RESCHEDULE).is_some_and(|policies| policies.contains("on-node-failure"))
}

/// What failed, until when it is left alone.
type Failures = BTreeMap<String, (Instant, Duration)>;

impl Fleet {
    /// Moves what has to be moved, removes what was replaced, and keeps on disk what could have to be moved. For ever.
    pub(crate) async fn keep_moving(self: Arc<Self>) {
        let mut failures = Failures::new();
        let mut written: BTreeSet<String> = BTreeSet::new();
        self.remember_lost();
        loop {
            self.move_round(&mut failures).await;
            self.remove_doubles().await;
            self.keep_on_disk(&mut written);
            time::sleep(LOOK_EVERY).await;
        }
    }

    async fn move_round(&self, failures: &mut Failures) {
        let now = Instant::now();
        failures.retain(|_, (until, _)| *until + RETRY_PAUSE_MAX > now);
        let mut due = Vec::new();
        for member in self.members() {
            let lost = member.cache().unreachable_since().is_some_and(|since| since.elapsed() >= LOST_AFTER);
            let leaves = member.spec().leaving && member.is_reachable();
            if lost || leaves {
                let stuck = self.still_to_move(&member).into_iter().filter(|container| !is_of_application(container));
                due.extend(stuck.map(|container| (member.clone(), container)));
            }
        }
        due.retain(|(_, container)| failures.get(&container.id).is_none_or(|(until, _)| *until <= now));
        let moved = due.into_iter().map(|(member, container)| async move {
            let result = self.move_container(&member, &container).await;
            (container, result)
        });
        let results: Vec<_> = stream::iter(moved).buffer_unordered(MOVES_MAX).collect().await;
        for (container, result) in results {
            match result {
                Ok(()) => {
                    failures.remove(&container.id);
                }
                Err(error) => {
                    tracing::warn!(container = container.name, error = error.message, "a container could not be moved");
                    let (_, pause) = failures.get(&container.id).copied().unwrap_or((now, RETRY_PAUSE / 2));
                    let pause = (pause * 2).min(RETRY_PAUSE_MAX);
                    failures.insert(container.id.clone(), (Instant::now() + pause, pause));
                }
            }
        }
    }

    async fn move_container(&self, from: &Member, container: &Container) -> Result<(), Refusal> {
        let ran =
            matches!(container.state, ContainerState::Running | ContainerState::Restarting | ContainerState::Paused);
        let created = self.create_replacing(body_of(container), container, WhenMissing::Pull).await?;
        let id = text(&created, "/Id").to_owned();
        tracing::info!(container = container.name, from = from.name, id, "a container was made anew on another node");
        let view = self.current();
        let fresh = view.find(&id)?;
        let member = self.member_of(fresh)?;
        if ran && let Err(error) = self.start_container(&member, fresh).await {
            member.client.delete(&format!("/containers/{id}?force=1")).await?;
            self.refresh(&member, &id).await;
            return Err(error);
        }
        if from.is_reachable() {
            self.discard(from, &container.id).await?;
        }
        Ok(())
    }

    /// Stops and removes a container that lives elsewhere now.
    async fn discard(&self, member: &Member, id: &str) -> Result<(), Refusal> {
        let stop = format!("/containers/{id}/stop?t={STOP_SECONDS}");
        let limit = Duration::from_secs(u64::from(STOP_SECONDS)) + super::client::CALL_TIMEOUT;
        let stopped = member.client.call_within(http::Method::POST, &stop, Some(&Value::Null), limit).await;
        if let Err(error) = stopped {
            tracing::debug!(id, error = error.message, "a container that was moved could not be stopped");
        }
        let removed = member.client.delete(&format!("/containers/{id}?force=1")).await;
        self.refresh(member, id).await;
        removed
    }

    /// Removes from nodes that came back what was made anew elsewhere meanwhile.
    async fn remove_doubles(&self) {
        let shown: BTreeSet<String> = self.current().containers.iter().map(|container| container.id.clone()).collect();
        for member in self.members() {
            if !member.is_reachable() {
                continue;
            }
            let hidden: Vec<_> = {
                let cache = member.cache();
                let replaced = cache.containers().filter(|container| {
                    // One that never ran is what a creation left that was taken for failed.
                    let ours = moves(container) || container.state == ContainerState::Created;
                    container.labels.contains_key(IDENTITY_LABEL) && !shown.contains(&container.id) && ours
                });
                replaced.map(|container| (container.id.clone(), container.name.clone())).collect()
            };
            for (id, name) in hidden {
                if !self.is_superseded(&id) {
                    continue;
                }
                tracing::info!(
                    node = member.name,
                    name,
                    id,
                    "a container that was made anew elsewhere is removed here"
                );
                if let Err(error) = self.discard(&member, &id).await {
                    tracing::warn!(node = member.name, name, error = error.message, "it could not be removed");
                }
            }
        }
    }

    /// Whether a newer container of the same identity is shown.
    fn is_superseded(&self, id: &str) -> bool {
        let members = self.members();
        let old = members.iter().find_map(|member| {
            let cache = member.cache();
            cache.containers().find(|container| container.id == id).cloned()
        });
        let Some(old) = old else { return false };
        let identity = old.labels.get(IDENTITY_LABEL);
        let view = self.current();
        view.containers.iter().any(|other| {
            other.id != old.id && other.labels.get(IDENTITY_LABEL) == identity && other.created > old.created
        })
    }

    /// Puts what is known from before a restart into the caches of nodes that may never answer again.
    fn remember_lost(&self) {
        for inspect in self.kept.moving() {
            let node = text(&inspect, "/Node/Name").to_owned();
            let Some(member) = self.member(&node) else { continue };
            let Some(container) = observe::container(&node, Arc::new(inspect)) else { continue };
            // Ticket 0: whatever is really seen overrides it.
            let id = container.id.clone();
            member.cache().put(0, &id, Some(container));
        }
        self.publish();
    }

    fn keep_on_disk(&self, written: &mut BTreeSet<String>) {
        let view = self.current();
        let moving: Vec<_> = view.containers.iter().filter(|one| moves(one) && !is_of_application(one)).collect();
        let now: BTreeSet<String> =
            moving.iter().map(|one| format!("{} {:?} {}", one.id, one.state, one.name)).collect();
        if now == *written {
            return;
        }
        let list: Vec<Value> = moving
            .iter()
            .map(|container| {
                let mut inspect = (*container.inspect).clone();
                inspect["Node"] = json!({"Name": container.node});
                inspect
            })
            .collect();
        match self.kept.put_moving(&list) {
            Ok(()) => *written = now,
            Err(error) => tracing::error!(error = error.message, "containers that move are not kept"),
        }
    }
}

/// The body that a container was created with, out of its inspection; without what belonged to its life there.
pub(crate) fn body_of(container: &Container) -> Value {
    let inspect = &*container.inspect;
    let mut body = inspect["Config"].clone();
    let short = text(inspect, "/Id").get(..12).unwrap_or_default().to_owned();
    if text(&body, "/Hostname") == short {
        body["Hostname"] = Value::Null;
    }
    body["HostConfig"] = inspect["HostConfig"].clone();
    let cpus = text(inspect, &format!("/Config/Labels/{CPUS_LABEL}")).parse::<u64>().ok();
    if let Some(cpus) = cpus {
        body["HostConfig"]["CpuShares"] = json!(cpus);
    }
    let mut endpoints = Map::new();
    let networks = inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    for (name, endpoint) in networks.into_iter().flatten() {
        endpoints.insert(name.clone(), endpoint_of(container, endpoint));
    }
    let mode = text(inspect, "/HostConfig/NetworkMode");
    if !matches!(mode, "host" | "none") && !mode.starts_with("container:") {
        body["NetworkingConfig"] = json!({"EndpointsConfig": endpoints});
    }
    body
}
