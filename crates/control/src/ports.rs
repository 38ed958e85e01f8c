//! How the controllers reach the world. The real ones are in [`crate::kubernetes`], [`crate::swarm`] and the binary; the tests' fakes
//! are beside the tests. Machines have a contract of their own, [`sampan_provider::MachineProvider`].

use std::{io, net::Ipv4Addr, path::Path, time::Duration};

use async_trait::async_trait;
use sampan_agents::spec::{NodeSpec, NodeStatus};
use sampan_store::model::{Cluster, Fault, FaultKind, Health, Outcome, Timestamp};
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
    /// Makes a host forget us: everything is stopped and removed, the agent last. Answers what could not be removed.
    async fn leave(&self, machine_id: &str) -> Outcome<Vec<String>>;
    /// Stops all processes of a host and starts them again.
    async fn restart(&self, machine_id: &str) -> Outcome<()>;
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
    pub heard: Option<Timestamp>,
    /// Why not, in words.
    pub message: String,
    /// Id of its machine, as its labels say; `None` for a node that is not one of ours.
    pub machine_id: Option<String>,
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

/// How messages of a drain begin to tell of a budget that forbids an eviction; its namespace and name follow.
pub const BLOCKED_BY: &str = "PodDisruptionBudget ";

/// How a drain went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// No evictable pods are left.
    Done,
    /// Pods are still there; says which, and which PodDisruptionBudget blocks them ([`BLOCKED_BY`]).
    Waiting(String),
}

/// A cluster's own API (that of Kubernetes, or of a Swarm cluster's master), reached through the tunnel of its control
/// plane's machine.
#[async_trait]
pub trait ClusterAccess: Send + Sync + 'static {
    /// How far the API server is, by `/readyz`; an error when it does not answer.
    async fn readiness(&self, cluster: &Cluster) -> Outcome<ApiReadiness>;
    /// The same of the API server on one of its machines. What answers last is what all other calls go to.
    async fn readiness_on(&self, cluster: &Cluster, _machine_id: &str) -> Outcome<ApiReadiness> {
        self.readiness(cluster).await
    }
    /// Other calls shall not go through that machine while there is another.
    fn avoid(&self, _cluster: &Cluster, _machine_id: &str) {}
    /// The members of its etcd, as those of them that answer know them.
    async fn etcd_members(&self, cluster: &Cluster) -> Outcome<Vec<EtcdMemberView>> {
        Err(only_kubernetes(cluster))
    }
    /// Changes the members of its etcd. Idempotent but for an addition, before which the members must be looked at.
    async fn change_etcd(&self, cluster: &Cluster, _change: EtcdChange) -> Outcome<()> {
        Err(Fault::internal(format!("cluster {} has no etcd of several members", cluster.id)))
    }
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
    /// Makes the node schedulable; fine when it is, or is gone.
    async fn uncordon(&self, cluster: &Cluster, _node: &str) -> Outcome<()> {
        Err(only_kubernetes(cluster))
    }
    /// What decides whether the cluster can be upgraded.
    async fn survey(&self, cluster: &Cluster) -> Outcome<Survey> {
        Err(only_kubernetes(cluster))
    }
    /// Version of the API server on this machine of the control plane, `v1.36.3`.
    async fn server_version(&self, cluster: &Cluster, _machine_id: &str) -> Outcome<String> {
        Err(only_kubernetes(cluster))
    }
    /// Cluster ids whose nodes changed. Lagging means: look at all.
    fn changes(&self) -> broadcast::Receiver<String>;
    /// Begins to watch the cluster's nodes (idempotent), so that `changes` speaks of it.
    fn watch(&self, cluster: &Cluster);
    /// Forgets connections and watches of a cluster.
    fn forget(&self, cluster_id: &str);
    /// Makes a backup of everything that the cluster's API holds: a file at `to` (see [`crate::backup`]), which is complete
    /// or not there; answers the size of the snapshot in it. Unsupported for clusters that have none.
    async fn snapshot(&self, _cluster: &Cluster, _to: &Path) -> Outcome<u64> {
        Err(Fault::new(FaultKind::Unsupported, "clusters of this kind have no backups"))
    }
    /// Sends the snapshot in the backup's file to a machine of the control plane that waits for it. Sent again, it is
    /// refused by a machine that has it: only an error then says nothing.
    async fn send_snapshot(&self, _cluster: &Cluster, _machine_id: &str, _from: &Path) -> Outcome<()> {
        Err(Fault::new(FaultKind::Unsupported, "clusters of this kind have no backups"))
    }
    /// How the parts behind the cluster's API are: etcd, the controllers, DNS. Parts that do not answer are unhealthy.
    async fn components(&self, _cluster: &Cluster) -> Outcome<Vec<ComponentView>> {
        Ok(Vec::new())
    }
    /// All conditions of all nodes.
    async fn node_conditions(&self, _cluster: &Cluster) -> Outcome<Vec<NodeConditionsView>> {
        Ok(Vec::new())
    }
}

/// How a part of a cluster is, as seen now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentView {
    /// Which, as in [`sampan_store::model::Condition`].
    pub component: &'static str,
    /// How it is.
    pub health: Health,
    /// In words.
    pub message: String,
}

/// A member of a cluster's etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdMemberView {
    /// Its number.
    pub id: u64,
    /// Its name; empty before it has started.
    pub name: String,
    /// Where it speaks to others.
    pub ip: Option<Ipv4Addr>,
    /// It has no vote yet.
    pub learner: bool,
    /// It answers, and knows a leader.
    pub healthy: bool,
    /// It leads.
    pub leader: bool,
    /// Size of its data in bytes.
    pub db_size: i64,
    /// Part of that in use.
    pub db_size_in_use: i64,
    /// Version.
    pub version: String,
    /// What is wrong with it, in words.
    pub problems: Vec<String>,
}

/// All conditions of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConditionsView {
    /// The node.
    pub node: String,
    /// New pods keep away from it.
    pub unschedulable: bool,
    /// Its conditions.
    pub conditions: Vec<NodeConditionView>,
}

/// A condition of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConditionView {
    /// `Ready`, …
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// In words.
    pub message: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

fn only_kubernetes(cluster: &Cluster) -> Fault {
    Fault::new(FaultKind::Unsupported, format!("cluster {} is no Kubernetes cluster", cluster.id))
}

/// What decides whether a cluster can be upgraded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// APIs that somebody asked for since the API server started, and that will be removed.
    pub deprecated: Vec<DeprecatedApi>,
    /// Disruption budgets.
    pub budgets: Vec<Budget>,
    /// Room on the nodes.
    pub rooms: Vec<NodeRoom>,
}

/// An API that will be removed, and is still asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeprecatedApi {
    /// `policy/v1beta1`.
    pub group_version: String,
    /// `podsecuritypolicies`.
    pub resource: String,
    /// Minor version that does not have it any more, `1.36`; empty: not decided.
    pub removed_in: String,
}

/// A disruption budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `namespace/name`.
    pub name: String,
    /// Pods that may be evicted now.
    pub allowed: i32,
    /// Pods that must be healthy.
    pub desired: i32,
    /// Pods that there should be.
    pub expected: i32,
}

/// How full a node is, by what its pods ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRoom {
    /// Name.
    pub node: String,
    /// Not schedulable.
    pub cordoned: bool,
    /// CPU that pods can have, in thousandths.
    pub cpu_millis: u64,
    /// Memory that pods can have.
    pub memory_bytes: u64,
    /// CPU that its pods ask for.
    pub used_cpu_millis: u64,
    /// Memory that its pods ask for.
    pub used_memory_bytes: u64,
    /// CPU of those that must move when it is emptied.
    pub moving_cpu_millis: u64,
    /// Memory of those.
    pub moving_memory_bytes: u64,
}

/// A change of the members of a cluster's etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdChange {
    /// A member at that address, without a vote.
    Add(Ipv4Addr),
    /// The member gets a vote; refused until it has caught up.
    Promote(u64),
    /// The member goes.
    Remove(u64),
    /// The member is at that address.
    Move(u64, Ipv4Addr),
}

/// What the server settles on a node object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeWanted {
    /// `spec.podCIDR`.
    pub pod_cidr: Option<String>,
    /// Labels (added or changed).
    pub labels: Vec<(String, String)>,
    /// Taints that must be there: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// Keys of labels that must not be there.
    pub retired_labels: Vec<String>,
    /// Taints that must not be there: key, effect.
    pub retired_taints: Vec<(String, String)>,
    /// It shall take no pods. It is never made schedulable: somebody may have cordoned it.
    pub unschedulable: bool,
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
    fn now(&self) -> Timestamp;
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
