//! Follows a cluster's nodes, DNS endpoints and certificate signing requests while the cluster exists.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future};
use k8s_openapi::{
    api::{certificates::v1::CertificateSigningRequest, core::v1::Node, discovery::v1::EndpointSlice},
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, WatchEvent, WatchParams},
};
use sampan_store::model::{Fault, Outcome};
use tokio::sync::broadcast;

use super::{
    access::{DNS_SELECTOR, Directory, Preferred, SYSTEM_NAMESPACE, call, fault},
    approval, connect,
};
use crate::ports::Dialer;

/// First pause after a failure; an API server that is just starting is asked again soon.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The API server ends a watch after this time, and it is begun anew.
const WATCH_SECONDS: u32 = 240;

/// Follows one cluster.
pub(crate) struct Watcher {
    pub(crate) cluster_id: String,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) preferred: Arc<Preferred>,
    pub(crate) changes: broadcast::Sender<String>,
}

impl Watcher {
    /// Runs until it is aborted.
    pub(crate) async fn run(self) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.follow().await {
                Ok(()) => pause = PAUSE_MIN,
                Err(error) => {
                    tracing::debug!(cluster = self.cluster_id, %error, "cluster {} is not being watched", self.cluster_id);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Watches until the first of the watches ends. A new client each time: the machine may be another one.
    async fn follow(&self) -> Outcome<()> {
        let machine = self.preferred.choose(&self.cluster_id, &*self.directory)?;
        let pki = self.directory.pki(&self.cluster_id).await?;
        let client = connect::client(Arc::clone(&self.dialer), &machine, &pki)?;
        let nodes = self.each::<Node, _>(Api::all(client.clone()), "", |_| self.announce());
        let dns: Api<EndpointSlice> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let dns = self.each(dns, DNS_SELECTOR, |_| self.announce());
        let requests = self.each(Api::all(client.clone()), "", |request| self.approve(&client, request));
        future::try_select(Box::pin(future::try_select(Box::pin(nodes), Box::pin(dns))), Box::pin(requests))
            .await
            .map(drop)
            .map_err(|either| match either {
                future::Either::Left((inner, _)) => inner.factor_first().0,
                future::Either::Right((error, _)) => error,
            })
    }

    /// Calls `seen` for what is there and for what is added or changed (or, with `None`, deleted).
    async fn each<K, F>(&self, api: Api<K>, selector: &str, mut seen: impl FnMut(Option<K>) -> F) -> Outcome<()>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
        F: Future<Output = ()>,
    {
        let what = std::any::type_name::<K>().rsplit("::").next().unwrap_or_default();
        let list = call(what, api.list(&ListParams::default().labels(selector))).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        if list.items.is_empty() {
            // Also says that the API server answers now.
            seen(None).await;
        }
        for item in list.items {
            seen(Some(item)).await;
        }
        let params = WatchParams::default().labels(selector).timeout(WATCH_SECONDS);
        let events = call(what, api.watch(&params, &version)).await?;
        let mut events = std::pin::pin!(events);
        loop {
            // The API server ends the stream in time; if nothing comes for longer, the connection is dead.
            let limit = Duration::from_secs(u64::from(WATCH_SECONDS) + 15);
            let Ok(event) = tokio::time::timeout(limit, events.next()).await else {
                return Err(Fault::unavailable(format!("the watch of {what} went silent")));
            };
            match event {
                None => return Ok(()),
                Some(Ok(WatchEvent::Added(item) | WatchEvent::Modified(item))) => seen(Some(item)).await,
                Some(Ok(WatchEvent::Deleted(_))) => seen(None).await,
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                // For example: the resource version is too old. The next round lists again.
                Some(Ok(WatchEvent::Error(status))) => return Err(Fault::unavailable(status.message)),
                Some(Err(error)) => return Err(fault(what, &error)),
            }
        }
    }

    fn announce(&self) -> future::Ready<()> {
        // Nobody listens: nobody wants to know.
        let _ = self.changes.send(self.cluster_id.clone());
        future::ready(())
    }

    async fn approve(&self, client: &Client, request: Option<CertificateSigningRequest>) {
        let Some(request) = request else { return };
        let known = |node: &str| self.directory.node_ip(&self.cluster_id, node);
        match approval::check(&request, known) {
            approval::Verdict::NotOurs => {}
            approval::Verdict::Refused(why) => {
                let name = request.metadata.name.as_deref().unwrap_or_default();
                tracing::warn!(
                    cluster = self.cluster_id,
                    request = name,
                    "certificate signing request {name} is left alone: {why}"
                );
            }
            approval::Verdict::Approved => {
                if let Err(error) = approval::approve(client, &request).await {
                    tracing::warn!(
                        cluster = self.cluster_id,
                        %error,
                        "a kubelet's certificate signing request could not be approved"
                    );
                }
            }
        }
    }
}
