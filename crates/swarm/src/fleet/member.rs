//! One node's engine: watched, listened to, looked at.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use rand::Rng as _;
use sampan_agents::master::{ENGINE_PORT, MasterNode};
use serde_json::Value;
use tokio::{sync::Notify, time};

use super::{
    cache::Cache,
    client::{Client, SharedTls, Target, json_request},
    observe,
    wire::Messages,
};
use crate::model::{Container, Refusal};

/// Time between two questions whether the engine lives, and how long each may take. Two must fail: with these a dead
/// node is noticed within 9 s.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an engine may take to describe one container.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(10);
const PINGS_LOST_MAX: u32 = 2;
/// Everything is looked at again this often, in case an event was lost.
const RESYNC_EVERY: Duration = Duration::from_secs(60);
/// The engine's own state (its place in the swarm among others), which has no events.
const INFO_EVERY: Duration = Duration::from_secs(15);
/// Containers that are looked at at the same time.
const LOOKS_MAX: usize = 8;
/// Pauses between two tries to reach the engine: the first and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// A node and its engine.
#[derive(Debug)]
pub(crate) struct Member {
    spec: RwLock<MasterNode>,
    /// Its name, which never changes.
    pub(crate) name: String,
    pub(crate) client: Client,
    cache: Mutex<Cache>,
    dirty: Mutex<Dirty>,
    wake: Notify,
    /// Held by who brings an image here: one at a time, so that the same one is not brought twice.
    transfers: tokio::sync::Mutex<()>,
    /// Wakes who publishes the view.
    changed: Arc<Notify>,
    /// Wakes who looks after the swarm.
    reached: Arc<Notify>,
}

/// What has to be looked at.
#[derive(Debug, Default)]
struct Dirty {
    containers: BTreeSet<String>,
    all: bool,
    info: bool,
    images: bool,
    volumes: bool,
}

impl Member {
    pub(crate) fn new(spec: MasterNode, tls: SharedTls, changed: Arc<Notify>, reached: Arc<Notify>) -> Self {
        let address = SocketAddr::from((spec.ip, ENGINE_PORT));
        Self {
            name: spec.name.clone(),
            client: Client::new(spec.name.clone(), Target::Tls { address, tls }),
            spec: RwLock::new(spec),
            cache: Mutex::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
            transfers: tokio::sync::Mutex::default(),
            changed,
            reached,
        }
    }

    pub(crate) fn spec(&self) -> MasterNode {
        self.spec.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub(crate) fn set_spec(&self, spec: MasterNode) {
        *self.spec.write().unwrap_or_else(PoisonError::into_inner) = spec;
        self.changed.notify_one();
    }
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Waits for the turn to bring an image here.
    pub(crate) async fn transfer(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.transfers.lock().await
    }
    pub(crate) fn is_reachable(&self) -> bool {
        self.cache().is_reachable()
    }

    /// Keeps in touch with the engine for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = self.session().await;
            self.client.forget();
            let was_reachable = self.is_reachable();
            self.cache().set_reachable(Err(error.message.clone()));
            self.changed.notify_one();
            if was_reachable {
                tracing::warn!(node = self.name, error = error.message, "lost the engine of a node");
                pause = FIRST_PAUSE;
            }
            time::sleep(pause.mul_f64(jitter())).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// One uninterrupted contact with the engine; answers why it ended.
    async fn session(&self) -> Refusal {
        let began = async {
            time::timeout(PING_TIMEOUT, self.client.get("/_ping"))
                .await
                .map_err(|_| self.client.failed(&"no answer in time"))??;
            // First listen, then look: nothing is missed between the two.
            let events = time::timeout(PING_TIMEOUT, self.client.send(json_request(Method::GET, "/events", None)?))
                .await
                .map_err(|_| self.client.failed(&"no stream of events in time"))??;
            Ok::<_, Refusal>(Messages::new(self.client.accepted(events).await?.into_body()))
        };
        let events = match began.await {
            Ok(events) => events,
            Err(error) => return error,
        };
        *self.dirty() = Dirty { all: true, info: true, images: true, volumes: true, ..Dirty::default() };
        self.wake.notify_one();
        tokio::select! {
            error = self.heartbeat() => error,
            error = self.listen(events) => error,
            error = self.work() => error,
            error = self.remind() => error,
        }
    }

    async fn heartbeat(&self) -> Refusal {
        let mut lost = 0;
        loop {
            time::sleep(PING_EVERY).await;
            loop {
                match time::timeout(PING_TIMEOUT, self.client.get("/_ping")).await {
                    Ok(Ok(_)) => {
                        lost = 0;
                        break;
                    }
                    other => {
                        lost += 1;
                        if lost >= PINGS_LOST_MAX {
                            let late = || self.client.failed(&"no answer in time");
                            return other.ok().and_then(Result::err).unwrap_or_else(late);
                        }
                    }
                }
            }
        }
    }

    /// Notes what events say has changed.
    async fn listen(&self, mut events: Messages) -> Refusal {
        loop {
            match events.next().await {
                Ok(Some(event)) => {
                    if self.note(&event) {
                        self.wake.notify_one();
                    }
                }
                Ok(None) => return self.client.failed(&"its events have ended"),
                Err(error) => return self.client.failed(&error),
            }
        }
    }

    fn note(&self, event: &Value) -> bool {
        let id = observe::text(event, "/Actor/ID");
        let action = observe::text(event, "/Action");
        let mut dirty = self.dirty();
        match observe::text(event, "/Type") {
            "container" if changes_container(action) => dirty.containers.insert(id.to_owned()),
            "network" if matches!(action, "connect" | "disconnect") => {
                let container = observe::text(event, "/Actor/Attributes/container");
                !container.is_empty() && dirty.containers.insert(container.to_owned())
            }
            "image" => {
                dirty.images = true;
                true
            }
            "volume" if matches!(action, "create" | "destroy") => {
                dirty.volumes = true;
                true
            }
            "daemon" => {
                dirty.info = true;
                true
            }
            _ => false,
        }
    }

    async fn remind(&self) -> Refusal {
        let mut resync = time::interval(RESYNC_EVERY);
        let mut info = time::interval(INFO_EVERY);
        resync.tick().await;
        info.tick().await;
        loop {
            tokio::select! {
                _ = resync.tick() => {
                    *self.dirty() = Dirty { all: true, info: true, images: true, volumes: true, ..Dirty::default() };
                }
                _ = info.tick() => self.dirty().info = true,
            }
            self.wake.notify_one();
        }
    }

    /// Looks at what is dirty.
    async fn work(&self) -> Refusal {
        let mut first = true;
        loop {
            self.wake.notified().await;
            let dirty = std::mem::take(&mut *self.dirty());
            if let Err(error) = self.look(dirty).await {
                return error;
            }
            if first {
                self.cache().set_reachable(Ok(()));
                tracing::info!(node = self.name, "the engine of a node answers");
                self.reached.notify_one();
                first = false;
            }
            self.changed.notify_one();
        }
    }

    async fn look(&self, dirty: Dirty) -> Result<(), Refusal> {
        if dirty.info {
            self.refresh_info().await?;
        }
        if dirty.images {
            self.refresh_images().await?;
        }
        if dirty.volumes {
            self.refresh_volumes().await?;
        }
        let mut containers = dirty.containers;
        if dirty.all {
            containers.extend(self.list().await?);
        }
        let looks = containers.into_iter().map(|id| async move { self.refresh(&id).await });
        let results: Vec<Result<(), Refusal>> = stream::iter(looks).buffer_unordered(LOOKS_MAX).collect().await;
        results.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    async fn list(&self) -> Result<BTreeSet<String>, Refusal> {
        let ticket = self.cache().look();
        let listed = self.client.get("/containers/json?all=1").await?;
        let listed = listed.as_array().map(Vec::as_slice).unwrap_or_default();
        let ids: BTreeSet<String> = listed.iter().map(|one| observe::text(one, "/Id").to_owned()).collect();
        self.cache().retain(ticket, &ids);
        Ok(ids)
    }

    /// Looks at one container.
    pub(crate) async fn refresh(&self, id: &str) -> Result<(), Refusal> {
        let ticket = self.cache().look();
        // While an engine mounts volumes for a container it does not answer for it; that says nothing of the engine.
        let Ok(seen) = time::timeout(INSPECT_TIMEOUT, self.inspect(id)).await else {
            tracing::info!(node = self.name, id, "a container cannot be looked at just now");
            // With the next round.
            self.dirty().containers.insert(id.to_owned());
            return Ok(());
        };
        match seen {
            Ok(container) => self.cache().put(ticket, id, Some(container)),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => self.cache().put(ticket, id, None),
            // The engine is busy with it (being removed, for one); an event will tell how it ends.
            Err(refusal) if refusal.status != StatusCode::SERVICE_UNAVAILABLE => {
                tracing::debug!(node = self.name, id, error = refusal.message, "a container could not be inspected");
            }
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }

    async fn inspect(&self, id: &str) -> Result<Container, Refusal> {
        let seen = self.client.get(&format!("/containers/{id}/json")).await?;
        observe::container(&self.name, Arc::new(seen))
            .ok_or_else(|| Refusal::internal(format!("{} inspected {id} without an id", self.name)))
    }

    pub(crate) async fn refresh_info(&self) -> Result<(), Refusal> {
        let info = self.client.get("/info").await?;
        self.cache().set_info(info);
        Ok(())
    }

    pub(crate) async fn refresh_images(&self) -> Result<(), Refusal> {
        let images = self.client.get("/images/json").await?;
        self.cache().set_images(&into_array(images));
        Ok(())
    }

    pub(crate) async fn refresh_volumes(&self) -> Result<(), Refusal> {
        let mut volumes = self.client.get("/volumes").await?;
        self.cache().set_volumes(into_array(volumes["Volumes"].take()));
        Ok(())
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A factor that keeps those who wait from coming back together.
pub(crate) fn jitter() -> f64 {
    rand::rng().random_range(0.5..1.5)
}

/// Whether an event of this kind changes what an inspection shows. Health checks run commands all the time: those do not.
fn changes_container(action: &str) -> bool {
    let quiet =
        ["exec_", "top", "attach", "detach", "resize", "archive-path", "extract-to-dir", "copy", "export", "commit"];
    !quiet.iter().any(|prefix| action.starts_with(prefix))
}

pub(crate) fn into_array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}
