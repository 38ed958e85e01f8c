//! Follows one cluster: lists each kind page by page, then watches it from there on.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
        policy::v1::PodDisruptionBudget,
        storage::v1::StorageClass,
    },
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Client,
    api::{ListParams, WatchEvent, WatchParams},
};
use sampan_store::model::{Fault, Outcome};
use tokio::sync::broadcast;

use super::view::{ALL_KINDS, View, Watched};
use crate::kubernetes::access::{TunnelAccess, call, fault};

/// Objects of one page of a list.
const PAGE: u32 = 500;
/// First pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The API server ends a watch after this time, and it goes on from where it was.
const WATCH_SECONDS: u32 = 240;
/// The API server's word for: that version is too old, list again.
const GONE: u16 = 410;
/// Pods that have ended need no place.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// What is known of one cluster.
#[derive(Debug, Default)]
pub(super) struct Known {
    view: View,
    /// Kinds that were listed.
    listed: u16,
}

impl Known {
    /// The view, when everything was listed.
    pub(super) fn whole(&self) -> Option<View> {
        (self.listed == ALL_KINDS).then(|| self.view.clone())
    }
}

/// Follows one cluster until it is aborted.
pub(super) struct Follower {
    pub(super) tunnel: Arc<TunnelAccess>,
    pub(super) feed: Feed,
}

/// Takes in what one cluster says.
pub(super) struct Feed {
    pub(super) cluster_id: String,
    pub(super) known: Arc<Mutex<Known>>,
    pub(super) changes: broadcast::Sender<String>,
}

impl Follower {
    pub(super) async fn run(self) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.follow().await {
                Ok(()) => pause = PAUSE_MIN,
                Err(error) => {
                    tracing::debug!(cluster = self.feed.cluster_id, %error, "a cluster is not being followed");
                    let was_whole = std::mem::take(&mut self.feed.known().listed) == ALL_KINDS;
                    pause = if was_whole { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
                    tokio::time::sleep(jittered(pause)).await;
                }
            }
        }
    }

    async fn follow(&self) -> Outcome<()> {
        // Asked for anew each time: the control plane's machine may be another one.
        let client = self.tunnel.client(&self.feed.cluster_id).await?;
        self.feed.all(&client).await
    }
}

impl Feed {
    /// All kinds side by side; ends when the first of them fails.
    async fn all(&self, client: &Client) -> Outcome<()> {
        let watches: Vec<BoxFuture<'_, Outcome<()>>> = vec![
            Box::pin(self.each::<Node>(client, "")),
            Box::pin(self.each::<Pod>(client, NOT_ENDED)),
            Box::pin(self.each::<PodDisruptionBudget>(client, "")),
            Box::pin(self.each::<DaemonSet>(client, "")),
            Box::pin(self.each::<Namespace>(client, "")),
            Box::pin(self.each::<PersistentVolumeClaim>(client, "")),
            Box::pin(self.each::<PersistentVolume>(client, "")),
            Box::pin(self.each::<StorageClass>(client, "")),
        ];
        futures::future::try_join_all(watches).await.map(drop)
    }

    /// Lists and watches a kind, again and again.
    async fn each<K>(&self, client: &Client, fields: &str) -> Outcome<()>
    where
        K: Watched + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let api: Api<K> = Api::all(client.clone());
        loop {
            let mut version = self.list(&api, fields).await?;
            while self.watch(&api, fields, &mut version).await? {
                // An API server that ends watches at once is not asked without a pause.
                tokio::time::sleep(jittered(PAUSE_MIN)).await;
            }
        }
    }

    /// Takes in what is there; answers the version to go on from.
    async fn list<K>(&self, api: &Api<K>, fields: &str) -> Outcome<String>
    where
        K: Watched + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut fresh = View::default();
        let mut params = ListParams::default().fields(fields).limit(PAGE);
        loop {
            let page = call(&K::plural(&()), api.list(&params)).await?;
            page.items.iter().for_each(|item| {
                K::put(&mut fresh, item);
            });
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => {
                    let mut known = self.known();
                    K::adopt(&mut known.view, fresh);
                    known.listed |= K::BIT;
                    let is_whole = known.listed == ALL_KINDS;
                    drop(known);
                    if is_whole {
                        self.announce();
                    }
                    return Ok(page.metadata.resource_version.unwrap_or_default());
                }
            }
        }
    }

    /// Takes in changes until the watch ends; `false`: it must be listed again.
    async fn watch<K>(&self, api: &Api<K>, fields: &str, version: &mut String) -> Outcome<bool>
    where
        K: Watched + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let what = K::plural(&());
        let params = WatchParams::default().fields(fields).timeout(WATCH_SECONDS);
        let events = call(&what, api.watch(&params, version)).await?;
        let mut events = std::pin::pin!(events);
        loop {
            // The API server ends the stream in time; if nothing comes for longer, the connection is dead.
            let limit = Duration::from_secs(u64::from(WATCH_SECONDS) + 15);
            let Ok(event) = tokio::time::timeout(limit, events.next()).await else {
                return Err(Fault::unavailable(format!("the watch of {what} went silent")));
            };
            let (object, gone) = match event {
                None => return Ok(true),
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => (object, false),
                Some(Ok(WatchEvent::Deleted(object))) => (object, true),
                Some(Ok(WatchEvent::Bookmark(mark))) => {
                    *version = mark.metadata.resource_version;
                    continue;
                }
                Some(Ok(WatchEvent::Error(status))) if status.code == GONE => return Ok(false),
                Some(Ok(WatchEvent::Error(status))) => return Err(Fault::unavailable(status.message)),
                Some(Err(error)) => return Err(fault(&what, &error)),
            };
            if let Some(seen) = object.meta().resource_version.clone() {
                *version = seen;
            }
            let mut known = self.known();
            let changed = if gone { K::remove(&mut known.view, &object) } else { K::put(&mut known.view, &object) };
            let is_whole = known.listed == ALL_KINDS;
            drop(known);
            if changed && is_whole {
                self.announce();
            }
        }
    }

    fn announce(&self) {
        // Nobody listens: nobody wants to know.
        let _ = self.changes.send(self.cluster_id.clone());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change of the view is one step, so it is whole after a panic, too.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pause of at least half the given one.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness everybody pauses for as long, which only costs a little.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(byte[0]) / 510.0)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
