//! [`ClusterAccess`] of Swarm clusters: their masters say how everything is. What the master shall do is in its
//! configuration, which the machine's specification carries; so nothing here changes anything.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sampan_agents::master::{MasterNodeStatus, MasterStatus};
use sampan_store::model::{Cluster, Fault, Outcome};
use tokio::{sync::broadcast, task::AbortHandle};

use super::client;
use crate::ports::{ApiReadiness, BasePart, ClusterAccess, Dialer, DrainOutcome, NodeReadiness, NodeView, NodeWanted};

/// First pause after a failure; a master that is just starting is asked again soon.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What access needs to know about clusters.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Id of the machine that the master runs on.
    fn manager(&self, cluster_id: &str) -> Option<String>;
    /// Name of the node that this machine is in the cluster.
    fn node_name(&self, cluster_id: &str, machine_id: &str) -> Option<String>;
}

/// Asks the masters of clusters.
pub struct SwarmAccess {
    directory: Arc<dyn Directory>,
    dialer: Arc<dyn Dialer>,
    watches: Mutex<HashMap<String, AbortHandle>>,
    changes: broadcast::Sender<String>,
}

impl fmt::Debug for SwarmAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwarmAccess").field("watched", &self.watches().len()).finish_non_exhaustive()
    }
}

impl SwarmAccess {
    /// `changes` is told of clusters whose nodes changed.
    pub fn new(
        directory: Arc<dyn Directory>,
        dialer: Arc<dyn Dialer>,
        changes: broadcast::Sender<String>,
    ) -> Arc<Self> {
        Arc::new(Self { directory, dialer, watches: Mutex::default(), changes })
    }

    async fn status(&self, cluster: &Cluster) -> Outcome<MasterStatus> {
        let machine = manager(&*self.directory, &cluster.id)?;
        client::status(&*self.dialer, &machine, None).await
    }

    /// Whether the node has left, as the master sees it.
    async fn departure(&self, cluster: &Cluster, name: &str) -> Outcome<DrainOutcome> {
        let status = self.status(cluster).await?;
        let is_it = |node: &&MasterNodeStatus| self.directory.node_name(&cluster.id, &node.id).as_deref() == Some(name);
        Ok(match status.nodes.iter().find(is_it) {
            Some(node) if node.drained => DrainOutcome::Done,
            Some(node) if node.message.is_empty() => DrainOutcome::Waiting("its containers are being moved".to_owned()),
            Some(node) => DrainOutcome::Waiting(node.message.clone()),
            // A master that has just started knows nobody yet.
            None if !status.ready => DrainOutcome::Waiting(starting(&status)),
            None => DrainOutcome::Done,
        })
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        // Handles are put in and taken out whole.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn manager(directory: &dyn Directory, cluster_id: &str) -> Outcome<String> {
    directory
        .manager(cluster_id)
        .ok_or_else(|| Fault::unavailable(format!("cluster {cluster_id} has no machine for its master yet")))
}

#[async_trait]
impl ClusterAccess for SwarmAccess {
    async fn readiness(&self, cluster: &Cluster) -> Outcome<ApiReadiness> {
        let status = self.status(cluster).await?;
        Ok(if status.ready { ApiReadiness::Ready } else { ApiReadiness::Starting(starting(&status)) })
    }

    async fn apply_base(&self, _cluster: &Cluster, _part: BasePart) -> Outcome<()> {
        // A Swarm cluster has nothing that is installed into it.
        Ok(())
    }

    async fn dns_ready(&self, _cluster: &Cluster) -> Outcome<()> {
        // Each engine answers for its own containers.
        Ok(())
    }

    async fn default_account_ready(&self, _cluster: &Cluster) -> Outcome<()> {
        Ok(())
    }

    async fn nodes(&self, cluster: &Cluster) -> Outcome<Vec<NodeView>> {
        let nodes = self.status(cluster).await?.nodes.into_iter();
        let named = nodes.filter_map(|node| Some((self.directory.node_name(&cluster.id, &node.id)?, node)));
        Ok(named.map(|(name, node)| view(name, node)).collect())
    }

    async fn listeners(&self, cluster: &Cluster) -> Outcome<Vec<(String, u16)>> {
        Ok(self.status(cluster).await?.tcp_listeners)
    }

    async fn settle_node(&self, _cluster: &Cluster, _node: &str, _wanted: &NodeWanted) -> Outcome<()> {
        // Labels are in the master's configuration.
        Ok(())
    }

    async fn drain(&self, cluster: &Cluster, node: &str) -> Outcome<DrainOutcome> {
        self.departure(cluster, node).await
    }

    async fn delete_node(&self, cluster: &Cluster, node: &str) -> Outcome<()> {
        match self.departure(cluster, node).await? {
            DrainOutcome::Done => Ok(()),
            DrainOutcome::Waiting(what) => Err(Fault::unavailable(format!("{node} is still in the swarm: {what}"))),
        }
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    fn watch(&self, cluster: &Cluster) {
        let mut watches = self.watches();
        if watches.get(&cluster.id).is_some_and(|watch| !watch.is_finished()) {
            return;
        }
        let watcher = Watcher {
            cluster_id: cluster.id.clone(),
            directory: Arc::clone(&self.directory),
            dialer: Arc::clone(&self.dialer),
            changes: self.changes.clone(),
        };
        watches.insert(cluster.id.clone(), tokio::spawn(watcher.run()).abort_handle());
    }

    fn forget(&self, cluster_id: &str) {
        if let Some(watch) = self.watches().remove(cluster_id) {
            watch.abort();
        }
    }
}

fn starting(status: &MasterStatus) -> String {
    if status.message.is_empty() { "the swarm is being set up".to_owned() } else { status.message.clone() }
}

fn view(name: String, node: MasterNodeStatus) -> NodeView {
    NodeView {
        machine_id: None,
        name,
        ready: if node.healthy { NodeReadiness::Ready } else { NodeReadiness::NotReady },
        heard: None,
        message: node.message,
        cordoned: false,
        pod_cidr: None,
        kubelet_version: node.engine_version,
    }
}

/// Waits for news of one master, and tells.
struct Watcher {
    cluster_id: String,
    directory: Arc<dyn Directory>,
    dialer: Arc<dyn Dialer>,
    changes: broadcast::Sender<String>,
}

impl Watcher {
    /// Runs until it is aborted.
    async fn run(self) {
        let (mut seen, mut pause) = (None, PAUSE_MIN);
        loop {
            match self.next(seen).await {
                Ok(status) => {
                    pause = PAUSE_MIN;
                    if seen != Some(status.revision) {
                        seen = Some(status.revision);
                        // Nobody listens: nobody wants to know.
                        let _ = self.changes.send(self.cluster_id.clone());
                    }
                }
                Err(error) => {
                    tracing::debug!(cluster = self.cluster_id, %error, "cluster {} is not being watched", self.cluster_id);
                    // Another master counts anew.
                    seen = None;
                    tokio::time::sleep(pause.mul_f64(0.5 + rand_fraction() / 2.0)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn next(&self, seen: Option<u64>) -> Outcome<MasterStatus> {
        let machine = manager(&*self.directory, &self.cluster_id)?;
        client::status(&*self.dialer, &machine, seen).await
    }
}

/// Between 0 and 1.
fn rand_fraction() -> f64 {
    let mut byte = [0u8];
    // Without randomness the pause is only less spread.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
