//! Containers that move when their node is lost or leaves: made anew elsewhere from what is known of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use http::Method;
use serde_json::{Map, Value, json};
use tokio::time::{self, Instant};

use super::{
    Fleet, Member, WhenMissing,
    client::CALL_TIMEOUT,
    is_of_application,
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

/// A container and its node.
type Placed = (Arc<Member>, Arc<Container>);

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
        // Whatever becomes of the new one from here on: the old one goes.
        self.kept.change_replaced(|replaced| drop(replaced.insert(container.id.clone(), from.name.clone())))?;
        self.publish();
        if from.is_reachable() { self.discard(from, &container.id, STOP_SECONDS).await } else { Ok(()) }
    }

    /// Stops and removes a container that lives elsewhere now.
    async fn discard(&self, member: &Member, id: &str, stop_seconds: u32) -> Result<(), Refusal> {
        if stop_seconds > 0 {
            let stop = format!("/containers/{id}/stop?t={stop_seconds}");
            let limit = Duration::from_secs(u64::from(stop_seconds)) + CALL_TIMEOUT;
            if let Err(error) = member.client.call_within(Method::POST, &stop, None, limit).await {
                tracing::debug!(id, error = error.message, "a container that was moved could not be stopped");
            }
        }
        member.client.delete(&format!("/containers/{id}?force=1")).await?;
        self.refresh(member, id).await;
        self.kept.change_replaced(|replaced| drop(replaced.remove(id)))
    }

    /// Removes from nodes that came back what was made anew elsewhere meanwhile, and what a creation left that was taken for
    /// failed.
    async fn remove_doubles(&self) {
        let members = self.members();
        let known = |node: &String| members.iter().any(|member| member.name == *node);
        if let Err(error) = self.kept.change_replaced(|replaced| replaced.retain(|_, node| known(node))) {
            tracing::error!(error = error.message, "containers that were replaced are not kept");
        }
        let mut doubles: Vec<(Arc<Member>, String)> = Vec::new();
        for (id, node) in self.kept.replaced() {
            doubles.extend(members.iter().find(|member| member.name == node).map(|member| (member.clone(), id)));
        }
        doubles.extend(self.cut_off(&members));
        doubles.retain(|(member, _)| member.is_reachable());
        let removed = doubles.into_iter().map(|(member, id)| async move {
            tracing::info!(node = member.name, id, "a container that is elsewhere now is removed here");
            if let Err(error) = self.discard(&member, &id, 0).await {
                tracing::warn!(node = member.name, id, error = error.message, "it could not be removed");
            }
        });
        stream::iter(removed).buffer_unordered(MOVES_MAX).collect::<Vec<()>>().await;
    }

    /// Containers of one identity of which one is too many: a move or a creation was cut off in the middle. Moves are awaited
    /// before this is asked, so nothing that is under way is meant.
    fn cut_off(&self, members: &[Arc<Member>]) -> Vec<(Arc<Member>, String)> {
        let mut by_identity: BTreeMap<String, Vec<Placed>> = BTreeMap::new();
        for member in members {
            for one in member.cache().containers().filter(|one| !self.kept.is_replaced(&one.id)) {
                if let Some(identity) = one.labels.get(IDENTITY_LABEL) {
                    by_identity.entry(identity.clone()).or_default().push((member.clone(), one.clone()));
                }
            }
        }
        let mut unwanted = Vec::new();
        for (_, mut same) in by_identity {
            same.sort_by_key(|(_, one)| one.created);
            while let [older, newer, ..] = same.as_slice() {
                let unwanted_one = unwanted_of(&older.1, &newer.1);
                let position = if unwanted_one == older.1.id { 0 } else { 1 };
                let (member, one) = same.remove(position);
                unwanted.push((member, one.id.clone()));
            }
        }
        unwanted
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
        let moving: Vec<_> = view.containers.iter().filter(|one| moves(one) || is_of_application(one)).collect();
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

/// Which of two that share an identity goes: one that moved but was not started yet gives way to the one that ran; else the
/// older one goes.
fn unwanted_of(older: &Container, newer: &Container) -> String {
    let half_moved = newer.state == ContainerState::Created && older.state != ContainerState::Created;
    if half_moved { newer.id.clone() } else { older.id.clone() }
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
