//! How the controllers reach the world. The real ones are in [`crate::kubernetes`], [`crate::swarm`] and the binary; the tests' fakes
//! are beside the tests. Machines have a contract of their own, [`sampan_provider::MachineProvider`].

use std::{io, time::Duration};

use async_trait::async_trait;
use sampan_agents::spec::{NodeSpec, NodeStatus};
use sampan_store::model::{Cluster, Outcome};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::broadcast,
};

/// The agents of the machines, as far as they are connected.
#[async_trait]
pub trait Agents: Send + Sync + 'static {
    /// Whether the machine's agent is connected now.
    fn is_connected(&self, machine_id: &str) -> bool;
    /// Tells the agent what to be. Idempotent.
    async fn put_spec(&self, machine_id: &str, spec: &NodeSpec) -> Outcome<()>;
    /// What the agent sees.
    async fn status(&self, machine_id: &str) -> Outcome<NodeStatus>;
    /// The machine ids whose agent connected, disconnected or reported a change. Lagging means: look at all.
    fn changes(&self) -> broadcast::Receiver<String>;
}

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections as a machine would.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to `address` (`127.0.0.1:6443`) as seen by the machine.
    async fn dial(&self, machine_id: &str, address: &str) -> io::Result<Box<dyn Stream>>;
}

/// A node as its cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Name.
    pub name: String,
    /// Status of the condition Ready: `True` → Ready, `False` → NotReady, `Unknown` → Unknown.
    pub ready: NodeReadiness,
    /// When the kubelet last said so.
    pub heard: Option<sampan_store::model::Timestamp>,
    /// Why not, in words.
    pub message: String,
    /// Not schedulable.
    pub cordoned: bool,
    /// `spec.podCIDR`, if set.
    pub pod_cidr: Option<String>,
    /// Version of the kubelet, or of the Docker engine.
    pub kubelet_version: String,
}

/// What every cluster of ours has from the start, in the order in which it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BasePart {
    /// Roles and DNS: what a cluster needs to be one.
    Essentials,
    /// metrics-server: what shall not take processor time from a cluster that has no DNS yet.
    Extras,
}

/// How far a cluster's API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiReadiness {
    /// All is there.
    Ready,
    /// It serves whoever has all rights, while it still makes what others need, such as the system's roles; says what is
    /// missing.
    Starting(String),
}

/// Readiness of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeReadiness {
    /// The kubelet reports Ready.
    Ready,
    /// The kubelet reports that it is not.
    NotReady,
    /// The kubelet has not been heard of.
    Unknown,
}

/// How a drain went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// No evictable pods are left.
    Done,
    /// Pods are still there; says which, and which PodDisruptionBudget blocks them.
    Waiting(String),
}

/// A cluster's own API (that of Kubernetes, or of a Swarm cluster's master), reached through the tunnel of its control
/// plane's machine.
#[async_trait]
pub trait ClusterAccess: Send + Sync + 'static {
    /// How far the API server is, by `/readyz`; an error when it does not answer.
    async fn readiness(&self, cluster: &Cluster) -> Outcome<ApiReadiness>;
    /// Applies a part of what every cluster of ours has from the start. Idempotent.
    async fn apply_base(&self, cluster: &Cluster, part: BasePart) -> Outcome<()>;
    /// `Ok` when the cluster's DNS service has a ready endpoint; else what is missing.
    async fn dns_ready(&self, cluster: &Cluster) -> Outcome<()>;
    /// `Ok` when pods can be made in the namespace `default`: its service account is there, which the controller manager
    /// makes a moment after the API server answers.
    async fn default_account_ready(&self, cluster: &Cluster) -> Outcome<()>;
    /// Nodes as seen now.
    async fn nodes(&self, cluster: &Cluster) -> Outcome<Vec<NodeView>>;
    /// Listeners that the cluster's load balancer shall have for its applications: name and port. Kubernetes clusters have
    /// none.
    async fn listeners(&self, _cluster: &Cluster) -> Outcome<Vec<(String, u16)>> {
        Ok(Vec::new())
    }
    /// Sets `spec.podCIDR`, labels and taints that a kubelet may not set itself. Idempotent.
    async fn settle_node(&self, cluster: &Cluster, node: &str, wanted: &NodeWanted) -> Outcome<()>;
    /// Makes the node unschedulable, evicts what is evictable, one round; ask again until done.
    async fn drain(&self, cluster: &Cluster, node: &str) -> Outcome<DrainOutcome>;
    /// Deletes the node object; fine when it is gone.
    async fn delete_node(&self, cluster: &Cluster, node: &str) -> Outcome<()>;
    /// Cluster ids whose nodes changed. Lagging means: look at all.
    fn changes(&self) -> broadcast::Receiver<String>;
    /// Begins to watch the cluster's nodes (idempotent), so that `changes` speaks of it.
    fn watch(&self, cluster: &Cluster);
    /// Forgets connections and watches of a cluster.
    fn forget(&self, cluster_id: &str);
}

/// What the server settles on a node object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeWanted {
    /// `spec.podCIDR`.
    pub pod_cidr: Option<String>,
    /// Labels (added or changed, never removed).
    pub labels: Vec<(String, String)>,
    /// Taints that must be there: key, value, effect.
    pub taints: Vec<(String, String, String)>,
}

/// The balancer's configuration and control.
#[async_trait]
pub trait Balancing: Send + Sync + 'static {
    /// Makes the balancer hold exactly these listeners and virtual IPs; answers per listener why it could not be opened.
    async fn apply(&self, config: &sampan_agents::balancer::Config) -> Outcome<sampan_agents::balancer::Report>;
}

/// Address ranges that host routes and networks of others use; new VPCs keep away from them.
#[async_trait]
pub trait RangeSource: Send + Sync + 'static {
    /// As they are now.
    async fn foreign_ranges(&self) -> Outcome<Vec<ipnet::Ipv4Net>>;
}

/// A service of an application, as far as triggers need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationService {
    /// Name within the application.
    pub name: String,
    /// Image as the template names it.
    pub image: String,
}

/// Applications of clusters of the Swarm edition, reached through the tunnel of the cluster's master.
#[async_trait]
pub trait Applications: Send + Sync + 'static {
    /// Services of an application; NotFound(Application) when there is none of that name.
    async fn services(&self, cluster: &Cluster, project: &str) -> Outcome<Vec<ApplicationService>>;
    /// Deploys it again, with the newest images.
    async fn redeploy(&self, cluster: &Cluster, project: &str) -> Outcome<()>;
    /// Adds containers to a service (`project_service`), or takes some away.
    async fn scale_by(&self, cluster: &Cluster, service_id: &str, by: i32) -> Outcome<()>;
}

/// Time, so that tests need not wait.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> sampan_store::model::Timestamp;
}

/// How long things may take before they count as failed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A whole drain; after it the node is removed all the same, with an event that names what was left.
    pub drain: Duration,
    /// A node may be NotReady for so long before its machine is restarted.
    pub not_ready: Duration,
    /// Restarts of a machine before it is given up (worker: replaced).
    pub repairs_max: u32,
}
