//! Starting and renaming, where engines need help with overlays.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{self, Instant};

use super::{
    Fleet, Member,
    client::CALL_TIMEOUT,
    member::jitter,
    networks::PREDEFINED,
    observe::{strings, text},
};
use crate::{
    docker::query::encode,
    model::{Container, Refusal},
};

/// How long a start is tried again while the engine is still taking the overlay down that the container needs.
const START_PATIENCE: Duration = Duration::from_secs(20);
const START_PAUSE: Duration = Duration::from_millis(200);
/// How long it is waited for the engine to have taken an overlay down, and between two looks.
const SETTLE_PATIENCE: Duration = Duration::from_secs(3);
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// Whether a start failed because the last container of an overlay has just left this node: the engine removes the
/// network and loses the race against the one that comes. A moment later it works.
pub(crate) fn lost_the_overlay(refusal: &Refusal) -> bool {
    let message = &refusal.message;
    (message.contains("network") && message.contains("not found"))
        || message.contains("after successful attachment")
        || message.contains("unable to get local endpoint")
}

impl Fleet {
    /// What has to be before a container can be started: room in the overlay, and no overlay of it half taken down (a
    /// container with `--rm` does not survive a start that fails).
    pub(crate) async fn prepare_start(&self, member: &Member, container: &Container) -> Result<(), Refusal> {
        if container.is_running() {
            return Ok(());
        }
        self.refuse_full(container)?;
        let networks = container.inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
        for name in networks.into_iter().flatten().map(|(name, _)| name) {
            if !PREDEFINED.contains(&name.as_str()) && !self.is_used_on(&container.node, name) {
                settle(member, name).await;
            }
        }
        Ok(())
    }

    /// Whether an engine would lose an overlay while it restarts a container: nobody else on the node keeps it there. One
    /// with `--rm` would not survive being stopped first.
    pub(crate) fn restarts_in_two_steps(&self, container: &Container) -> bool {
        let auto_remove = container.inspect.pointer("/HostConfig/AutoRemove") == Some(&Value::Bool(true));
        let alone = |name: &&String| !self.is_used_by_others(container, name);
        let mut overlays = container.networks.keys().filter(|name| !PREDEFINED.contains(&name.as_str()));
        container.is_running() && !auto_remove && overlays.any(|name| alone(&name))
    }

    fn is_used_by_others(&self, container: &Container, network: &str) -> bool {
        let view = self.current();
        let others = view.containers.iter().filter(|one| one.id != container.id && one.node == container.node);
        others.filter(|one| one.is_running()).any(|one| one.networks.contains_key(network))
    }

    /// Whether a running container on this node is in a network.
    fn is_used_on(&self, node: &str, network: &str) -> bool {
        let view = self.current();
        let mut running = view.containers.iter().filter(|one| one.node == node && one.is_running());
        running.any(|one| one.networks.contains_key(network))
    }

    /// Starts a container; fine when it runs.
    pub(crate) async fn start_container(&self, member: &Member, container: &Container) -> Result<(), Refusal> {
        let begun = Instant::now();
        let id = &container.id;
        let path = format!("/containers/{id}/start");
        self.prepare_start(member, container).await?;
        loop {
            let started = member.client.call_within(Method::POST, &path, None, 2 * CALL_TIMEOUT).await;
            match started {
                Err(refusal) if lost_the_overlay(&refusal) && begun.elapsed() < START_PATIENCE => {
                    tracing::debug!(node = member.name, id, error = refusal.message, "a start is tried again");
                    time::sleep(START_PAUSE.mul_f64(jitter())).await;
                }
                Err(refusal) => {
                    self.refresh(member, id).await;
                    return Err(self.explain_attaching(container, refusal).await);
                }
                Ok(_) => {
                    self.refresh(member, id).await;
                    return Ok(());
                }
            }
        }
    }

    /// Renames a container. One that runs in an overlay leaves it for a moment: engines cannot rename endpoints there.
    pub(crate) async fn rename_container(&self, key: &str, name: &str) -> Result<(), Refusal> {
        let (container, member) = self.locate(key)?;
        let reserved = self.reserve_name(Some(name), Some(&container.id))?;
        let overlays = if container.is_running() { self.overlays_of(&container).await? } else { Vec::new() };
        let id = &container.id;
        for (network, _) in &overlays {
            disconnect(&member, network, id).await?;
        }
        let path = format!("/containers/{id}/rename?name={}", reserved.name);
        let renamed = member.client.call(Method::POST, &path, None).await;
        let mut joined = Ok(());
        for (network, endpoint) in &overlays {
            joined = joined.and(connect(&member, network, id, endpoint).await);
        }
        self.refresh(&member, id).await;
        renamed?;
        joined
    }

    /// The overlays that a container is in, and how it joins each.
    async fn overlays_of(&self, container: &Container) -> Result<Vec<(String, Value)>, Refusal> {
        let networks = container.inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
        let mut overlays = Vec::new();
        for (name, endpoint) in networks.into_iter().flatten() {
            if self.is_overlay(text(endpoint, "/NetworkID")).await? {
                overlays.push((name.clone(), endpoint_of(container, endpoint)));
            }
        }
        Ok(overlays)
    }

    /// Whether a network is one of the swarm's.
    pub(crate) async fn is_overlay(&self, id: &str) -> Result<bool, Refusal> {
        match self.manager.get(&format!("/networks/{id}")).await {
            Ok(network) => Ok(text(&network, "/Scope") == "swarm"),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Takes a running container out of a network.
pub(super) async fn disconnect(member: &Member, network: &str, id: &str) -> Result<(), Refusal> {
    let body = json!({"Container": id, "Force": false});
    member.client.post(&format!("/networks/{}/disconnect", encode(network)), &body).await.map(drop)
}

/// Puts a container into a network, with the same patience as a start.
pub(super) async fn connect(member: &Member, network: &str, id: &str, endpoint: &Value) -> Result<(), Refusal> {
    let begun = Instant::now();
    let path = format!("/networks/{}/connect", encode(network));
    let body = json!({"Container": id, "EndpointConfig": endpoint});
    loop {
        match member.client.call_within(Method::POST, &path, Some(&body), 2 * CALL_TIMEOUT).await {
            Err(refusal) if lost_the_overlay(&refusal) && begun.elapsed() < START_PATIENCE => {
                time::sleep(START_PAUSE.mul_f64(jitter())).await;
            }
            other => return other.map(drop),
        }
    }
}

/// Waits until an overlay that nobody on this node uses is gone from its engine, or used again.
async fn settle(member: &Member, network: &str) {
    let begun = Instant::now();
    let path = format!("/networks/{}", encode(network));
    while begun.elapsed() < SETTLE_PATIENCE {
        match member.client.get(&path).await {
            Ok(seen) if text(&seen, "/Scope") == "swarm" && is_empty(&seen) => time::sleep(SETTLE_PAUSE).await,
            _ => return,
        }
    }
}

/// Whether no container is in it; the node's own endpoint is there as long as the network is.
fn is_empty(network: &Value) -> bool {
    let mut users = network.get("Containers").and_then(Value::as_object).into_iter().flatten();
    users.all(|(id, _)| id.starts_with("lb-"))
}

/// How a container joins a network, out of its inspection. Its address is the network's to choose anew.
pub(crate) fn endpoint_of(container: &Container, endpoint: &Value) -> Value {
    let short = container.id.get(..12).unwrap_or_default();
    let mut aliases = strings(endpoint.get("Aliases"));
    aliases.retain(|alias| alias != short);
    json!({"Links": endpoint["Links"], "Aliases": aliases, "DriverOpts": endpoint["DriverOpts"]})
}
