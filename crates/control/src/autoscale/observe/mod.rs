//! How the autoscaler sees clusters: watches while a cluster scales by itself, and of each object only what the
//! simulation needs.

mod access;
mod follow;
mod view;

use async_trait::async_trait;
use sampan_store::model::Outcome;
use tokio::sync::broadcast;

pub(crate) use access::TunnelEyes;
pub(crate) use view::View;

/// What is told to the users of a cluster, as an event of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) about: About,
    /// `TriggeredScaleUp`, `NotTriggerScaleUp`, `ScaleDown`.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) warning: bool,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Pod { namespace: String, name: String, uid: String },
    Node { name: String },
}

/// How clusters are seen and told something.
#[async_trait]
pub(crate) trait Eyes: Send + Sync + 'static {
    /// Begins to follow the cluster (idempotent), so that `changes` speaks of it.
    fn follow(&self, cluster_id: &str);
    /// Ends that.
    fn forget(&self, cluster_id: &str);
    /// The cluster as seen now; `None` while not everything is known.
    fn view(&self, cluster_id: &str) -> Option<View>;
    /// Ids of clusters that changed. Lagging means: look at all.
    fn changes(&self) -> broadcast::Receiver<String>;
    /// The cluster's own order of its pools; `None`: it has none.
    ///
    /// # Errors
    /// When the cluster's API does not answer.
    async fn priorities(&self, cluster_id: &str) -> Outcome<Option<String>>;
    /// Makes an event.
    ///
    /// # Errors
    /// When the cluster's API does not take it.
    async fn tell(&self, cluster_id: &str, news: &News) -> Outcome<()>;
}
