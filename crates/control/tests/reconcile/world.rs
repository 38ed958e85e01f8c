//! A world for the controllers: machines that become what they are told, APIs that begin to answer, a balancer. What it
//! does follows from the calls alone, so a killed and restarted server finds it as it left it.

mod access;
mod blueprints;
mod lifecycle;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sampan_agents::{
    balancer::{Config, Failure, Report},
    spec::{File, NodeSpec, NodeStatus, ProcessState, ProcessStatus, Route},
};
use sampan_control::{
    backup::Shelf,
    ports::{
        Agents, ApiReadiness, Balancing, BasePart, Clock, ClusterAccess, DrainOutcome, EtcdChange, EtcdMemberView,
        NodeReadiness, NodeView, NodeWanted, Survey,
    },
    reconcile::{Blueprints, Names, PublicPorts, Renewal},
};
use sampan_provider::{
    MachinePower, MachineProvider as _,
    memory::{Fault as Injected, FaultPlan, FaultPoint, MemoryProvider},
};
use sampan_store::{
    Batch, Store,
    model::{Cluster, Fault, Machine, MachineWanted, NodePool, Outcome, Timestamp},
};
use tokio::{sync::broadcast, time::Instant};

use crate::{
    etcd::{ETCD, FakeEtcd},
    gate::Gate,
};
pub(crate) use lifecycle::{CERTIFICATES, LIFETIME, RENEW_BEFORE};
use lifecycle::{Lifecycle, RESTORE};

/// Polls until an API server that has all it needs answers.
const POLLS_UNTIL_READY: u32 = 3;
/// Where a Swarm cluster's master is told of its nodes.
const MASTER: &str = "/master";
/// Where a machine of Kubernetes is told its version.
const VERSION: &str = "/version";
/// Where a control plane is told its parameters.
const PARAMETERS: &str = "/parameters";
/// Rounds until a drain is done.
const DRAIN_ROUNDS: u32 = 2;

/// A node object.
#[derive(Clone, Debug)]
pub(crate) struct FakeNode {
    pub(crate) machine_id: String,
    pub(crate) wanted: NodeWanted,
    pub(crate) cordoned: bool,
    drain_rounds: u32,
}

#[derive(Default)]
pub(crate) struct State {
    /// What machines were told, on their disks.
    pub(crate) specs: HashMap<String, NodeSpec>,
    /// Clusters and the parts of the base that were applied.
    pub(crate) base: BTreeSet<(String, BasePart)>,
    /// Node objects by cluster and name.
    pub(crate) nodes: BTreeMap<String, BTreeMap<String, FakeNode>>,
    /// Ports of the host that somebody else has.
    pub(crate) taken_ports: BTreeSet<u16>,
    /// What the balancer holds.
    pub(crate) balancer: Config,
    /// Blueprints refuse with this message.
    pub(crate) refusal: Option<String>,
    /// Machines whose agents do not connect.
    pub(crate) silent: BTreeSet<String>,
    /// Machines whose kubelets report that they are not ready.
    pub(crate) sick: BTreeSet<String>,
    /// Nodes with a pod that cannot be evicted.
    pub(crate) undrainable: BTreeSet<String>,
    /// Clusters whose controller manager has made no service accounts yet.
    pub(crate) without_account: BTreeSet<String>,
    /// APIs that do not answer.
    pub(crate) api_down: BTreeSet<String>,
    /// Labels and taints that were taken off nodes: node and key.
    pub(crate) retired: BTreeSet<(String, String)>,
    /// Nodes that were drained, in order.
    pub(crate) drained: Vec<String>,
    /// Nodes that the masters of Swarm clusters have let go of: machine ids.
    pub(crate) let_go: BTreeSet<String>,
    /// Listeners that applications of Swarm clusters ask for.
    pub(crate) listeners: BTreeMap<String, Vec<(String, u16)>>,
    /// Hosts whose agents were told to leave, in order.
    pub(crate) left: Vec<String>,
    /// What they say that they could not remove.
    pub(crate) leftovers: Vec<String>,
    /// Hosts on which everything was started again.
    pub(crate) restarted: Vec<String>,
    /// Hosts that are no containers of ours and are switched on.
    pub(crate) hosts: BTreeSet<String>,
    /// Members of the etcd of clusters that have several.
    pub(crate) etcd: BTreeMap<String, FakeEtcd>,
    /// Versions with which nothing comes up.
    pub(crate) broken: BTreeSet<String>,
    /// What the surveys of clusters find.
    pub(crate) survey: Survey,
    /// Nodes that were made schedulable, in order.
    pub(crate) admitted: Vec<String>,
    /// Snapshots that were taken.
    pub(crate) snapshots: BTreeSet<PathBuf>,
    /// What must never happen, and did.
    pub(crate) violations: Vec<String>,
    polls: HashMap<String, u32>,
    /// What happens to clusters as a whole.
    pub(crate) lifecycle: Lifecycle,
}

pub(crate) struct World {
    pub(crate) provider: MemoryProvider,
    pub(crate) gate: Arc<Gate>,
    pub(crate) names: Names,
    pub(crate) store: Store,
    state: Mutex<State>,
    started: Instant,
    /// Seconds by which the clock was moved ahead.
    ahead: AtomicU64,
    /// Where backups are.
    pub(crate) shelf: Shelf,
    folder: PathBuf,
    agents: broadcast::Sender<String>,
    clusters: broadcast::Sender<String>,
}

pub(crate) const INSTALLATION: &str = "k3x9";

impl World {
    pub(crate) fn new(store: Store, seed: u64) -> Arc<Self> {
        let (gate, provider) = (Gate::new(seed), MemoryProvider::new(INSTALLATION));
        let hook = Arc::clone(&gate);
        provider.set_faults(FaultPlan::hook(move |_, _| hook.next(true)));
        let folder = std::env::temp_dir().join(format!("sampan-world-{}", sampan_store::model::new_token(8)));
        Arc::new(Self {
            ahead: AtomicU64::new(0),
            shelf: Shelf::new(folder.clone(), store.master_key().clone()),
            folder,
            provider,
            gate,
            names: Names::new(INSTALLATION),
            store,
            state: Mutex::default(),
            started: Instant::now(),
            agents: broadcast::channel(256).0,
            clusters: broadcast::channel(256).0,
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    /// The ports that [`State::taken_ports`] leaves.
    pub(crate) fn public_ports(self: &Arc<Self>) -> PublicPorts {
        let world = Arc::downgrade(self);
        PublicPorts::probed(20_000..=20_009, move |port| {
            world.upgrade().is_some_and(|world| !world.state().taken_ports.contains(&port))
        })
    }

    /// Somebody outside changed the world: everything is looked at again.
    pub(crate) fn stir(&self) {
        self.provider.restart_engine(false);
    }

    pub(crate) fn kill_machine(&self, machine_id: &str) {
        assert!(self.provider.kill_machine(&self.names.machine(machine_id)), "{machine_id} runs");
    }

    pub(crate) fn runs(&self, machine_id: &str) -> bool {
        let name = self.names.machine(machine_id);
        let is_on = self.state().hosts.contains(machine_id);
        is_on || self.provider.machines().iter().any(|m| m.spec.name == name && m.status.power == MachinePower::Running)
    }

    pub(crate) fn connected(&self, machine_id: &str) -> bool {
        self.runs(machine_id) && !self.state().silent.contains(machine_id)
    }

    /// One call: passes the gate, then has its effect, unless it fails or the server dies.
    async fn call<T>(&self, effect: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
        tokio::task::yield_now().await;
        match self.gate.next(false) {
            None => effect(),
            Some(Injected::Hang(FaultPoint::Before)) => std::future::pending().await,
            Some(Injected::Hang(_)) => {
                drop(effect());
                std::future::pending().await
            }
            Some(Injected::Fail(point)) => {
                if point != FaultPoint::Before {
                    effect()?;
                }
                Err(Fault::unavailable("an injected fault"))
            }
        }
    }

    /// The machine of the control plane that answers, or would.
    fn control_plane(&self, cluster_id: &str) -> Option<String> {
        let machines = self.store.list_of::<Machine>(cluster_id);
        let mut parts: Vec<_> = machines.iter().filter(|m| m.is_control_plane_of(cluster_id)).collect();
        parts.sort_by_key(|m| !(self.connected(&m.id) && self.state().specs.contains_key(&m.id)));
        parts.first().map(|m| m.id.clone())
    }

    fn api(&self, cluster: &Cluster) -> Outcome<()> {
        let machine = self.control_plane(&cluster.id).filter(|id| self.connected(id));
        let machine = machine.ok_or_else(|| Fault::unavailable("no tunnel to the control plane"))?;
        if !self.etcd_has_quorum(&cluster.id) {
            return Err(Fault::unavailable("etcd has no quorum"));
        }
        let mut state = self.state();
        let is_away = state.lifecycle.is_away(&machine, state.specs.get(&machine));
        if is_away || state.api_down.contains(&cluster.id) || !state.specs.contains_key(&machine) {
            return Err(Fault::unavailable("the API server does not answer"));
        }
        let polls = state.polls.entry(cluster.id.clone()).or_default();
        *polls += 1;
        if *polls < POLLS_UNTIL_READY {
            return Err(Fault::unavailable("the API server is starting"));
        }
        Ok(())
    }

    /// A process that does not like what its machine was told.
    fn processes(&self, spec: &NodeSpec) -> Vec<ProcessStatus> {
        let content = |path: &str| spec.files.iter().find(|file| file.path == path).map(|file| file.content.as_str());
        let broken = content(PARAMETERS).is_some_and(|text| text.contains("Unknown"))
            || content(VERSION).is_some_and(|version| self.state().broken.contains(version));
        let ended = || ProcessStatus {
            name: "kube-apiserver".into(),
            state: ProcessState::BackOff,
            pid: None,
            restarts: 7,
            last_exit: Some("exit code 1\nunrecognized".into()),
        };
        broken.then(ended).into_iter().collect()
    }

    /// Version that a machine runs, as it was told.
    pub(crate) fn version(&self, machine_id: &str) -> String {
        let state = self.state();
        let file = state.specs.get(machine_id).and_then(|spec| spec.files.iter().find(|file| file.path == VERSION));
        file.map_or_else(String::new, |file| format!("v{}", file.content))
    }

    /// Running kubelets register their nodes.
    fn register(&self, cluster_id: &str) {
        let running: Vec<String> = self
            .provider
            .machines()
            .iter()
            .filter(|m| m.status.power == MachinePower::Running)
            .filter_map(|m| self.names.id_of(&m.spec.name).map(str::to_owned))
            .chain(self.state().hosts.iter().cloned())
            .collect();
        let mut state = self.state();
        let marks: Vec<(String, String)> = running
            .iter()
            .filter_map(|id| Some((id.clone(), state.specs.get(id)?.files.first()?.content.clone())))
            .collect();
        let is_restored = state.lifecycle.replaced.contains_key(cluster_id);
        for (machine_id, mark) in marks {
            let Some((cluster, node)) = mark.split_once('/') else { continue };
            if cluster != cluster_id || node == "control-plane" {
                continue;
            }
            let nodes = state.nodes.entry(cluster_id.to_owned()).or_default();
            let fresh = FakeNode {
                machine_id: machine_id.clone(),
                wanted: NodeWanted::default(),
                cordoned: false,
                drain_rounds: 0,
            };
            let known = nodes.entry(node.to_owned()).or_insert(fresh);
            // A backup also brings back the nodes of machines that have had successors since.
            if is_restored {
                known.machine_id.clone_from(&machine_id);
            }
            let known = known.machine_id.clone();
            if known != machine_id {
                state
                    .violations
                    .push(format!("node {node} belongs to {known}, but {machine_id} registers with its name"));
            }
        }
    }

    /// What a Swarm cluster's master was told of its nodes: machine id, name, whether it leaves.
    fn told(&self, cluster_id: &str) -> Vec<(String, String, bool)> {
        let manager = self.control_plane(cluster_id).unwrap_or_default();
        let state = self.state();
        let file = state.specs.get(&manager).and_then(|spec| spec.files.iter().find(|file| file.path == MASTER));
        file.map(|file| serde_json::from_str(&file.content).expect("what the blueprint wrote")).unwrap_or_default()
    }

    /// Nodes as a Swarm cluster's master sees them.
    fn engines(&self, cluster_id: &str) -> Vec<NodeView> {
        let view = |(id, name, leaving): (String, String, bool)| {
            let serves = self.runs(&id) && self.state().specs.contains_key(&id);
            let is_well = serves && !self.state().sick.contains(&id);
            if !leaving {
                self.state().let_go.remove(&id);
            }
            NodeView {
                name,
                machine_id: None,
                ready: if is_well { NodeReadiness::Ready } else { NodeReadiness::NotReady },
                heard: None,
                message: "as told".into(),
                cordoned: leaving,
                pod_cidr: None,
                kubelet_version: "20.10.24".into(),
            }
        };
        self.told(cluster_id).into_iter().map(view).collect()
    }

    /// One look of a Swarm cluster's master at a node that shall leave.
    fn depart(&self, cluster_id: &str, node: &str) -> DrainOutcome {
        let told = self.told(cluster_id).into_iter().find(|(_, name, _)| name == node);
        let mut state = self.state();
        match told {
            None => DrainOutcome::Done,
            Some((id, ..)) if state.let_go.contains(&id) => DrainOutcome::Done,
            Some((_, _, false)) => DrainOutcome::Waiting("it was not told to leave".into()),
            Some(_) if state.undrainable.contains(node) => DrainOutcome::Waiting("web_db_1 cannot be moved".into()),
            Some((id, name, true)) => {
                let rounds = state.polls.entry(format!("departure of {id}")).or_default();
                *rounds += 1;
                if *rounds < DRAIN_ROUNDS {
                    return DrainOutcome::Waiting("its containers are being moved".into());
                }
                *rounds = 0;
                state.let_go.insert(id);
                state.drained.push(name);
                DrainOutcome::Done
            }
        }
    }

    fn views(&self, cluster: &Cluster) -> Vec<NodeView> {
        let cluster_id = &cluster.id;
        if cluster.is_swarm() {
            return self.engines(cluster_id);
        }
        self.register(cluster_id);
        let nodes = self.state().nodes.get(cluster_id).cloned().unwrap_or_default();
        let view = |(name, node): (String, FakeNode)| {
            let kubelet = self.runs(&node.machine_id) && self.state().specs.contains_key(&node.machine_id);
            let ready = match (kubelet, self.state().sick.contains(&node.machine_id)) {
                (true, false) => NodeReadiness::Ready,
                (true, true) => NodeReadiness::NotReady,
                (false, _) => NodeReadiness::Unknown,
            };
            let (pod_cidr, cordoned) = (node.wanted.pod_cidr, node.cordoned);
            let kubelet_version = self.version(&node.machine_id);
            NodeView {
                name,
                machine_id: Some(node.machine_id),
                ready,
                heard: None,
                message: "as told".into(),
                cordoned,
                pod_cidr,
                kubelet_version,
            }
        };
        nodes.into_iter().map(view).collect()
    }
}

/// The world as one run of the server sees it.
pub(crate) struct Session {
    pub(crate) world: Arc<World>,
}

impl Clock for Session {
    fn now(&self) -> Timestamp {
        now(&self.world)
    }
}

/// Virtual time.
pub(crate) fn now(world: &World) -> Timestamp {
    let start: Timestamp = "2024-01-01T00:00:00Z".parse().expect("a time");
    let elapsed = Duration::from_millis(u64::try_from(world.started.elapsed().as_millis()).expect("not for ever"));
    start + elapsed + Duration::from_secs(world.ahead.load(Ordering::SeqCst))
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[async_trait]
impl Agents for Session {
    fn is_connected(&self, machine_id: &str) -> bool {
        self.world.connected(machine_id)
    }

    async fn put_spec(&self, machine_id: &str, spec: &NodeSpec) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                if !world.connected(machine_id) {
                    return Err(Fault::unavailable("not connected"));
                }
                world.state().specs.insert(machine_id.to_owned(), spec.clone());
                let _ = world.agents.send(machine_id.to_owned());
                Ok(())
            })
            .await
    }

    async fn status(&self, machine_id: &str) -> Outcome<NodeStatus> {
        let world = &self.world;
        world
            .call(|| {
                if !world.connected(machine_id) {
                    return Err(Fault::unavailable("not connected"));
                }
                let spec = world.state().specs.get(machine_id).cloned();
                let mut processes: Vec<ProcessStatus> = spec.iter().flat_map(|spec| world.processes(spec)).collect();
                processes.extend(world.restore_process(machine_id));
                let spec_hash = spec.as_ref().map(NodeSpec::hash).unwrap_or_default();
                Ok(NodeStatus { spec_hash, processes, ..NodeStatus::default() })
            })
            .await
    }

    async fn leave(&self, machine_id: &str) -> Outcome<Vec<String>> {
        let world = &self.world;
        world
            .call(|| {
                if !world.connected(machine_id) {
                    return Err(Fault::unavailable("not connected"));
                }
                let mut state = world.state();
                state.specs.remove(machine_id);
                state.left.push(machine_id.to_owned());
                Ok(state.leftovers.clone())
            })
            .await
    }

    async fn restart(&self, machine_id: &str) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                let mut state = world.state();
                state.restarted.push(machine_id.to_owned());
                state.sick.remove(machine_id);
                Ok(())
            })
            .await
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.world.agents.subscribe()
    }
}

#[async_trait]
impl Balancing for Session {
    async fn apply(&self, config: &Config) -> Outcome<Report> {
        let world = &self.world;
        world
            .call(|| {
                let taken = world.state().taken_ports.clone();
                let failures =
                    config.listeners.iter().filter(|listener| taken.contains(&listener.listen.port())).map(
                        |listener| Failure { name: listener.name.clone(), message: "address already in use".into() },
                    );
                let report = Report { failures: failures.collect() };
                world.state().balancer = config.clone();
                Ok(report)
            })
            .await
    }
}

/// What of ours exists in the engine.
pub(crate) async fn inventory(world: &World) -> sampan_provider::Inventory {
    world.provider.inventory().await.expect("the engine answers")
}
