//! A world for the controllers: machines that become what they are told, APIs that begin to answer, a balancer. What it
//! does follows from the calls alone, so a killed and restarted server finds it as it left it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use sampan_agents::{
    balancer::{Config, Failure, Report},
    spec::{File, NodeSpec, NodeStatus, Route},
};
use sampan_control::{
    ports::{
        Agents, ApiReadiness, Balancing, BasePart, Clock, ClusterAccess, DrainOutcome, NodeReadiness, NodeView,
        NodeWanted,
    },
    reconcile::{Blueprints, Names, PublicPorts},
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

use crate::gate::Gate;

/// Polls until an API server that has all it needs answers.
const POLLS_UNTIL_READY: u32 = 3;
/// Where a Swarm cluster's master is told of its nodes.
const MASTER: &str = "/master";
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
    /// Nodes that were drained, in order.
    pub(crate) drained: Vec<String>,
    /// Nodes that the masters of Swarm clusters have let go of: machine ids.
    pub(crate) let_go: BTreeSet<String>,
    /// Listeners that applications of Swarm clusters ask for.
    pub(crate) listeners: BTreeMap<String, Vec<(String, u16)>>,
    /// What must never happen, and did.
    pub(crate) violations: Vec<String>,
    polls: HashMap<String, u32>,
}

pub(crate) struct World {
    pub(crate) provider: MemoryProvider,
    pub(crate) gate: Arc<Gate>,
    pub(crate) names: Names,
    store: Store,
    state: Mutex<State>,
    started: Instant,
    agents: broadcast::Sender<String>,
    clusters: broadcast::Sender<String>,
}

pub(crate) const INSTALLATION: &str = "k3x9";

impl World {
    pub(crate) fn new(store: Store, seed: u64) -> Arc<Self> {
        let (gate, provider) = (Gate::new(seed), MemoryProvider::new(INSTALLATION));
        let hook = Arc::clone(&gate);
        provider.set_faults(FaultPlan::hook(move |_, _| hook.next(true)));
        Arc::new(Self {
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
        self.provider.machines().iter().any(|m| m.spec.name == name && m.status.power == MachinePower::Running)
    }

    fn connected(&self, machine_id: &str) -> bool {
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

    fn control_plane(&self, cluster_id: &str) -> Option<String> {
        let machines = self.store.list_of::<Machine>(cluster_id);
        machines.iter().find(|m| !m.is_worker_of(cluster_id)).map(|m| m.id.clone())
    }

    fn api(&self, cluster: &Cluster) -> Outcome<()> {
        let machine = self.control_plane(&cluster.id).filter(|id| self.connected(id));
        let machine = machine.ok_or_else(|| Fault::unavailable("no tunnel to the control plane"))?;
        let mut state = self.state();
        if state.api_down.contains(&cluster.id) || !state.specs.contains_key(&machine) {
            return Err(Fault::unavailable("the API server does not answer"));
        }
        let polls = state.polls.entry(cluster.id.clone()).or_default();
        *polls += 1;
        if *polls < POLLS_UNTIL_READY {
            return Err(Fault::unavailable("the API server is starting"));
        }
        Ok(())
    }

    /// Running kubelets register their nodes.
    fn register(&self, cluster_id: &str) {
        let running: Vec<String> = self
            .provider
            .machines()
            .iter()
            .filter(|m| m.status.power == MachinePower::Running)
            .filter_map(|m| self.names.id_of(&m.spec.name).map(str::to_owned))
            .collect();
        let mut state = self.state();
        let marks: Vec<(String, String)> = running
            .iter()
            .filter_map(|id| Some((id.clone(), state.specs.get(id)?.files.first()?.content.clone())))
            .collect();
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
            let known = nodes.entry(node.to_owned()).or_insert(fresh).machine_id.clone();
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
            NodeView {
                name,
                ready,
                heard: None,
                message: "as told".into(),
                cordoned,
                pod_cidr,
                kubelet_version: "v1.36.3".into(),
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
    start + elapsed
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
                let spec_hash = world.state().specs.get(machine_id).map(NodeSpec::hash).unwrap_or_default();
                Ok(NodeStatus { spec_hash, ..NodeStatus::default() })
            })
            .await
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.world.agents.subscribe()
    }
}

#[async_trait]
impl ClusterAccess for Session {
    async fn readiness(&self, cluster: &Cluster) -> Outcome<ApiReadiness> {
        let readiness = || {
            self.world.api(cluster)?;
            // It serves us one poll before it serves everybody.
            let is_first = self.world.state().polls.get(&cluster.id) == Some(&POLLS_UNTIL_READY);
            Ok(if is_first { ApiReadiness::Starting("roles".to_owned()) } else { ApiReadiness::Ready })
        };
        self.world.call(readiness).await
    }

    async fn apply_base(&self, cluster: &Cluster, part: BasePart) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster).map(|()| {
                    let _ = world.state().base.insert((cluster.id.clone(), part));
                })
            })
            .await
    }

    async fn dns_ready(&self, cluster: &Cluster) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                let has_node =
                    cluster.is_swarm() || world.views(cluster).iter().any(|node| node.ready == NodeReadiness::Ready);
                match world.state().base.contains(&(cluster.id.clone(), BasePart::Essentials)) && has_node {
                    true => Ok(()),
                    false => Err(Fault::unavailable("the DNS service has no ready endpoint")),
                }
            })
            .await
    }

    async fn default_account_ready(&self, cluster: &Cluster) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                match world.state().without_account.contains(&cluster.id) {
                    true => Err(Fault::unavailable("the default service account is not there yet")),
                    false => Ok(()),
                }
            })
            .await
    }

    async fn nodes(&self, cluster: &Cluster) -> Outcome<Vec<NodeView>> {
        let world = &self.world;
        world.call(|| world.api(cluster).map(|()| world.views(cluster))).await
    }

    async fn settle_node(&self, cluster: &Cluster, node: &str, wanted: &NodeWanted) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                if cluster.is_swarm() {
                    return Ok(());
                }
                let mut state = world.state();
                let found = state.nodes.get_mut(&cluster.id).and_then(|nodes| nodes.get_mut(node));
                let found = found.ok_or_else(|| Fault::unavailable("no such node"))?;
                if found.wanted.pod_cidr.is_some() && found.wanted.pod_cidr != wanted.pod_cidr {
                    let text = format!("the pod network of {node} cannot be changed");
                    state.violations.push(text);
                    return Ok(());
                }
                found.wanted = wanted.clone();
                Ok(())
            })
            .await
    }

    async fn drain(&self, cluster: &Cluster, node: &str) -> Outcome<DrainOutcome> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                if cluster.is_swarm() {
                    return Ok(world.depart(&cluster.id, node));
                }
                let mut state = world.state();
                if state.undrainable.contains(node) {
                    return Ok(DrainOutcome::Waiting("pod default/web: blocked by the disruption budget web".into()));
                }
                let Some(found) = state.nodes.get_mut(&cluster.id).and_then(|nodes| nodes.get_mut(node)) else {
                    return Ok(DrainOutcome::Done);
                };
                found.cordoned = true;
                found.drain_rounds += 1;
                if found.drain_rounds < DRAIN_ROUNDS {
                    return Ok(DrainOutcome::Waiting("pod default/web is ending".into()));
                }
                state.drained.push(node.to_owned());
                Ok(DrainOutcome::Done)
            })
            .await
    }

    async fn delete_node(&self, cluster: &Cluster, node: &str) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                if cluster.is_swarm() {
                    return match world.depart(&cluster.id, node) {
                        DrainOutcome::Done => Ok(()),
                        DrainOutcome::Waiting(why) => Err(Fault::unavailable(why)),
                    };
                }
                let mut state = world.state();
                let removed = state.nodes.get_mut(&cluster.id).and_then(|nodes| nodes.remove(node));
                drop(state);
                let machine = removed.map(|node| node.machine_id);
                let wanted = machine.and_then(|id| world.store.get::<Machine>(&id));
                if wanted.is_some_and(|m| m.wanted == MachineWanted::Run) {
                    world.state().violations.push(format!("the node {node} of a wanted machine was deleted"));
                }
                Ok(())
            })
            .await
    }

    async fn listeners(&self, cluster: &Cluster) -> Outcome<Vec<(String, u16)>> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                Ok(world.state().listeners.get(&cluster.id).cloned().unwrap_or_default())
            })
            .await
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.world.clusters.subscribe()
    }

    fn watch(&self, _cluster: &Cluster) {}

    fn forget(&self, _cluster_id: &str) {}
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

#[async_trait]
impl Blueprints for Session {
    async fn ensure_pki(&self, cluster: &Cluster, _control_plane: &Machine) -> Outcome<()> {
        let world = &self.world;
        let name = format!("cluster/{}/pki", cluster.id);
        if world.store.secret(&name).await?.is_none() {
            world.call(|| Ok(())).await?;
            let mut batch = Batch::new();
            batch.secret(&name, b"keys");
            world.store.commit(batch).await?;
        }
        world.call(|| Ok(())).await
    }

    async fn control_plane(&self, cluster: &Cluster, _machine: &Machine, workers: &[Machine]) -> Outcome<NodeSpec> {
        let mut spec = self.spec(cluster, "control-plane", workers).await?;
        if cluster.is_swarm() {
            let tell = |machine: &Machine| {
                let member = machine.membership.as_ref().expect("a member");
                (machine.id.clone(), member.node_name.clone(), machine.wanted != MachineWanted::Run)
            };
            let told: Vec<(String, String, bool)> = workers.iter().map(tell).collect();
            let content = serde_json::to_string(&told).expect("plain data");
            spec.files.push(File { path: MASTER.into(), mode: 0o600, content });
        }
        Ok(spec)
    }

    async fn worker(
        &self,
        cluster: &Cluster,
        _pool: &NodePool,
        machine: &Machine,
        peers: &[Machine],
    ) -> Outcome<NodeSpec> {
        let node = &machine.membership.as_ref().expect("a member").node_name;
        self.spec(cluster, node, peers).await
    }
}

impl Session {
    async fn spec(&self, cluster: &Cluster, mark: &str, peers: &[Machine]) -> Outcome<NodeSpec> {
        if let Some(message) = &self.world.state().refusal {
            return Err(Fault::invalid("kubernetes_version", message));
        }
        let name = format!("cluster/{}/pki", cluster.id);
        if self.world.store.secret(&name).await?.is_none() {
            self.world.state().violations.push(format!("a spec was asked for before {} had certificates", cluster.id));
        }
        let route = |peer: &Machine| Some(Route { destination: peer.membership.as_ref()?.pod_cidr?, via: peer.ip });
        let content = format!("{}/{mark}", cluster.id);
        let file = File { path: "/mark".into(), mode: 0o600, content };
        Ok(NodeSpec { files: vec![file], routes: peers.iter().filter_map(route).collect(), ..NodeSpec::default() })
    }
}

/// What of ours exists in the engine.
pub(crate) async fn inventory(world: &World) -> sampan_provider::Inventory {
    world.provider.inventory().await.expect("the engine answers")
}
