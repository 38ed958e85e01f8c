//! [`Eyes`] through the tunnels of the clusters' control planes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{Api, api::PostParams};
use sampan_store::model::{Outcome, Timestamp};
use tokio::{sync::broadcast, task::AbortHandle};

use super::{
    About, Eyes, News, View,
    follow::{Feed, Follower, Known},
};
use crate::kubernetes::access::{TunnelAccess, call};

/// Changes that a slow receiver may miss before it must look at everything.
const CHANGES_MAX: usize = 1024;
/// Where a cluster says in which order its pools grow.
const PRIORITIES: &str = "cluster-autoscaler-priority-expander";
/// Its key in there.
const PRIORITIES_KEY: &str = "priorities";
const SYSTEM_NAMESPACE: &str = "kube-system";
/// Events about nodes are in this namespace.
const NODE_EVENTS: &str = "default";
/// Who tells.
const COMPONENT: &str = "cluster-autoscaler";
/// Longest message of an event that Kubernetes takes.
const MESSAGE_BYTES_MAX: usize = 1000;

/// Sees clusters through their tunnels.
pub(crate) struct TunnelEyes {
    tunnel: Arc<TunnelAccess>,
    followed: Mutex<HashMap<String, Followed>>,
    changes: broadcast::Sender<String>,
}

struct Followed {
    known: Arc<Mutex<Known>>,
    task: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TunnelEyes {
    pub(crate) fn new(tunnel: Arc<TunnelAccess>) -> Self {
        Self { tunnel, followed: Mutex::default(), changes: broadcast::channel(CHANGES_MAX).0 }
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<String, Followed>> {
        // Entries are replaced as a whole, so the map is consistent after a panic, too.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Eyes for TunnelEyes {
    fn follow(&self, cluster_id: &str) {
        let mut followed = self.followed();
        if followed.get(cluster_id).is_some_and(|one| !one.task.is_finished()) {
            return;
        }
        let known = Arc::default();
        let feed = Feed { cluster_id: cluster_id.to_owned(), known: Arc::clone(&known), changes: self.changes.clone() };
        let follower = Follower { tunnel: Arc::clone(&self.tunnel), feed };
        let task = tokio::spawn(follower.run()).abort_handle();
        followed.insert(cluster_id.to_owned(), Followed { known, task });
    }

    fn forget(&self, cluster_id: &str) {
        self.followed().remove(cluster_id);
    }

    fn view(&self, cluster_id: &str) -> Option<View> {
        let known = Arc::clone(&self.followed().get(cluster_id)?.known);
        known.lock().unwrap_or_else(PoisonError::into_inner).whole()
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    async fn priorities(&self, cluster_id: &str) -> Outcome<Option<String>> {
        let client = self.tunnel.client(cluster_id).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client, SYSTEM_NAMESPACE);
        let found = call(PRIORITIES, maps.get_opt(PRIORITIES)).await?;
        Ok(found.and_then(|map| map.data).and_then(|mut data| data.remove(PRIORITIES_KEY)))
    }

    async fn tell(&self, cluster_id: &str, news: &News) -> Outcome<()> {
        let client = self.tunnel.client(cluster_id).await?;
        let event = event(news, Timestamp::now());
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client, &namespace);
        call("an event", events.create(&PostParams::default(), &event)).await.map(drop)
    }
}

fn event(news: &News, now: Timestamp) -> Event {
    let (kind, name, uid, namespace) = match &news.about {
        About::Pod { namespace, name, uid } => ("Pod", name, uid.clone(), namespace.as_str()),
        // What nodes are called is also what their events name as their uid.
        About::Node { name } => ("Node", name, name.clone(), NODE_EVENTS),
    };
    let mut message = news.message.clone();
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}.")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some(kind.into()),
            name: Some(name.clone()),
            uid: Some(uid),
            namespace: (kind == "Pod").then(|| namespace.to_owned()),
            ..ObjectReference::default()
        },
        reason: Some(news.reason.into()),
        message: Some(message),
        type_: Some(if news.warning { "Warning" } else { "Normal" }.into()),
        source: Some(EventSource { component: Some(COMPONENT.into()), host: None }),
        reporting_component: Some(COMPONENT.into()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_what_they_are_about() {
        let about = About::Pod { namespace: "shop".into(), name: "web-1".into(), uid: "u1".into() };
        let news = News { about, reason: "NotTriggerScaleUp", message: "é".repeat(900), warning: false };
        let made = event(&news, Timestamp::UNIX_EPOCH);
        assert_eq!(made.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(made.involved_object.uid.as_deref(), Some("u1"));
        assert_eq!(made.message.unwrap().len(), MESSAGE_BYTES_MAX);
        let news = News {
            about: About::Node { name: "n1".into() },
            reason: "ScaleDown",
            message: String::new(),
            warning: true,
        };
        let made = event(&news, Timestamp::UNIX_EPOCH);
        assert_eq!((made.metadata.namespace.as_deref(), made.type_.as_deref()), (Some("default"), Some("Warning")));
    }
}
