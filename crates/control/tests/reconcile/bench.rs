//! A server under test: a real store, real controllers, the world of [`crate::world`], and virtual time.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Weak, mpsc},
    time::Duration,
};

use sampan_control::{
    ports::Limits,
    reconcile::{Backups, CERTIFICATES_FRESH, Controllers, Handle, MachineSize, Pace, Settings},
};
use sampan_store::{
    EventQuery, Store,
    model::{Cluster, ClusterState, Event, Machine, ResultStatus, StageState, Task, TaskState, Timestamp, Vpc},
};
use tokio::time::Instant;

use crate::{
    orders::Order,
    world::{INSTALLATION, Session, World, inventory, now},
};

pub(crate) const LIMITS: Limits =
    Limits { drain: Duration::from_secs(300), not_ready: Duration::from_secs(120), repairs_max: 3 };
/// Looks in a row at which nothing was left to do before nothing is believed to be left.
const CALM_LOOKS: u32 = 6;

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) world: Arc<World>,
    handle: Option<Handle>,
    session: Weak<Session>,
    /// What the next server makes machines of.
    pub(crate) node_image: String,
    /// How often the server died.
    pub(crate) deaths: u64,
    /// Kills the server after so many looks.
    looks_to_live: Option<u64>,
    /// While this is open, virtual time stands still unless it is moved.
    _stand_still: mpsc::Sender<()>,
}

impl Bench {
    /// A server that is not started yet.
    pub(crate) async fn new(seed: u64) -> Self {
        // A blocking task keeps the paused clock from running on while the store's threads work.
        let (stand_still, released) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || released.recv());
        let store = Store::open_temporary().await.expect("a store");
        let world = World::new(store.clone(), seed);
        Self {
            store,
            world,
            handle: None,
            session: Weak::new(),
            looks_to_live: None,
            node_image: "sampan-node".into(),
            deaths: 0,
            _stand_still: stand_still,
        }
    }

    /// A running server.
    pub(crate) async fn started() -> Self {
        let mut bench = Self::new(1).await;
        bench.start();
        bench
    }

    pub(crate) fn start(&mut self) {
        let session = Arc::new(Session { world: Arc::clone(&self.world) });
        self.session = Arc::downgrade(&session);
        let controllers = Controllers {
            store: self.store.clone(),
            provider: Arc::new(self.world.provider.clone()),
            agents: session.clone(),
            access: session.clone(),
            balancing: session.clone(),
            blueprints: session.clone(),
            clock: session,
            settings: Settings {
                installation_id: INSTALLATION.into(),
                instance_id: "here".into(),
                node_image: self.node_image.clone(),
                node_image_versions: ["1.35.2", "1.36.3", "1.37.0"].map(String::from).into(),
                bare_image: Some("sampan-bare".into()),
                agents_dir: "/data/agents".into(),
                images_dir: "/data/images".into(),
                public_ip: Ipv4Addr::LOCALHOST,
                public_ports: self.world.public_ports(),
                registry_port: None,
                limits: LIMITS,
                sizes: Arc::new(|_| MachineSize::default()),
                pace: Pace::default(),
                backups: Some(Backups {
                    shelf: self.world.shelf.clone(),
                    interval: Duration::from_secs(6 * 3600),
                    keep: 2,
                }),
                certificates_fresh: CERTIFICATES_FRESH,
            },
        };
        self.handle = Some(controllers.start());
    }

    /// The server dies, as by a power cut.
    pub(crate) async fn kill(&mut self) {
        drop(self.handle.take());
        self.deaths += 1;
        while self.session.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        self.world.gate.revive();
    }

    pub(crate) async fn stop(&mut self) {
        self.handle.take().expect("it runs").stop().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        now(&self.world)
    }

    /// The server dies after so many looks of [`Self::quiet`], wherever it is then.
    pub(crate) fn kill_after_looks(&mut self, looks: u64) {
        self.looks_to_live = Some(looks);
    }

    /// Lets everything happen that needs no time to pass. Answers whether the server lives.
    pub(crate) async fn quiet(&mut self) -> bool {
        let mut calm = 0;
        while calm < CALM_LOOKS {
            tokio::task::yield_now().await;
            if self.world.gate.is_dead() {
                return false;
            }
            if let Some(looks) = &mut self.looks_to_live {
                if *looks == 0 {
                    self.looks_to_live = None;
                    return false;
                }
                *looks -= 1;
            }
            calm = if self.handle.as_ref().is_none_or(Handle::is_idle) { calm + 1 } else { 0 };
        }
        true
    }

    /// Lets time pass until `done`; a server that dies is started again. Fails when `limit` has passed.
    pub(crate) async fn until(&mut self, what: &str, limit: Duration, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        loop {
            if !self.quiet().await {
                self.kill().await;
                self.start();
                continue;
            }
            if done(self) {
                return;
            }
            let elapsed = begun.elapsed();
            assert!(elapsed < limit, "{what}: not within {limit:?}\n{}", self.describe().await);
            let step = match elapsed.as_secs() {
                0..60 => Duration::from_millis(150),
                60..600 => Duration::from_secs(1),
                _ => Duration::from_secs(5),
            };
            tokio::time::advance(step).await;
        }
    }

    /// Lets so much time pass.
    pub(crate) async fn pass(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        self.until("time passes", duration * 2, |_| Instant::now() >= end).await;
    }

    pub(crate) async fn until_state(&mut self, order: &Order, state: ClusterState) {
        let what = format!("{} becomes {state:?}", order.cluster_id());
        self.until(&what, Duration::from_secs(7200), |bench| bench.cluster(order).state == state).await;
    }

    pub(crate) async fn until_task(&mut self, task_id: &str, state: TaskState) {
        let what = format!("{task_id} becomes {state:?}");
        self.until(&what, Duration::from_secs(7200), |bench| bench.task(task_id).state == state).await;
    }

    pub(crate) fn cluster(&self, order: &Order) -> Cluster {
        self.store.get::<Cluster>(&order.cluster_id()).expect("the cluster is recorded").value.clone()
    }

    pub(crate) fn task(&self, id: &str) -> Task {
        self.store.get::<Task>(id).expect("the task is recorded").value.clone()
    }

    pub(crate) fn machine(&self, id: &str) -> Machine {
        self.store.get::<Machine>(id).expect("the machine is recorded").value.clone()
    }

    pub(crate) fn stage(&self, task_id: &str, name: &str) -> (StageState, String) {
        let task = self.task(task_id);
        let stage = task.stages.iter().find(|stage| stage.name == name).expect("such a stage");
        (stage.state, stage.message.clone())
    }

    /// All events, oldest first.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let accounts = self.store.list::<Cluster>();
        let account_id = accounts.first().map(|cluster| cluster.account_id.clone()).unwrap_or_default();
        let query = EventQuery { account_id, limit: 1000, ..EventQuery::default() };
        let mut events = self.store.events(&query).await.expect("events").items;
        events.reverse();
        events
    }

    /// Number of events with that reason.
    pub(crate) async fn told(&self, reason: &str) -> usize {
        self.events().await.iter().filter(|event| event.reason == reason).count()
    }

    pub(crate) async fn log(&self, order: &Order) -> Vec<String> {
        let lines = self.store.logs(&order.cluster_id(), 1000).await.expect("the log");
        lines.into_iter().map(|line| line.text).collect()
    }

    /// Everything that a person would want to see when a test fails.
    pub(crate) async fn describe(&self) -> String {
        let mut text = String::new();
        for cluster in self.store.list::<Cluster>() {
            text += &format!("cluster {} {:?} {:?}\n", cluster.id, cluster.state, cluster.state_reason);
            for line in self.store.logs(&cluster.id, 60).await.unwrap_or_default() {
                text += &format!("  | {} {}\n", line.created, line.text);
            }
        }
        for machine in self.store.list::<Machine>() {
            text += &format!(
                "machine {} {:?} wanted {:?} {:?} since {:?} repairs {} {:?}\n",
                machine.id,
                machine.state,
                machine.wanted,
                machine.node_status,
                machine.not_ready_since,
                machine.repairs,
                machine.error
            );
        }
        for task in self.store.list::<Task>() {
            text += &format!("task {} {:?} {:?} {:?}\n", task.id, task.state, task.results, task.error);
            for stage in &task.stages {
                text += &format!("  {} {:?} {}\n", stage.name, stage.state, stage.message);
            }
        }
        text + &format!("at {}, violations: {:?}", self.now(), self.world.state().violations)
    }

    /// What must hold whenever nothing is in progress: the world is what the records say, no more and no less.
    pub(crate) async fn check_world(&self) {
        let found = inventory(&self.world).await;
        let members: Vec<String> = self
            .store
            .list::<Machine>()
            .iter()
            .filter(|m| m.membership.is_some())
            .map(|m| self.world.names.machine(&m.id))
            .collect();
        let mut containers: Vec<String> = found.machines.iter().map(|machine| machine.name.clone()).collect();
        containers.sort();
        let mut expected = members.clone();
        expected.sort();
        assert_eq!(containers, expected, "containers\n{}", self.describe().await);
        for volume in &found.volumes {
            let of_member = members.iter().any(|name| volume.starts_with(&format!("{name}-")));
            let cluster = self.world.names.cluster_id_of_volume(volume).and_then(|id| self.store.get::<Cluster>(id));
            let is_shared = cluster.is_some_and(|cluster| cluster.is_swarm() && cluster.state != ClusterState::Deleted);
            assert!(of_member || is_shared, "volume {volume} is left");
        }
        for network in &found.networks {
            let id = self.world.names.id_of(network).expect("a name of ours");
            assert!(self.store.get::<Vpc>(id).is_some(), "network {network} is left");
        }
        self.check_balancer();
        self.check_routes();
        let violations = self.world.state().violations.clone();
        assert_eq!(violations, Vec::<String>::new());
    }

    fn check_balancer(&self) {
        let held = self.world.state().balancer.clone();
        let mut expected: Vec<String> = Vec::new();
        for cluster in self.store.list::<Cluster>() {
            let is_up =
                matches!(cluster.state, ClusterState::Running | ClusterState::Scaling | ClusterState::UpdatingFailed);
            if is_up {
                expected.push(format!("{}/api/internal", cluster.id));
                expected.push(format!("{}/api/public", cluster.id));
            }
            if is_up && cluster.is_swarm() {
                expected.push(format!("{}/routing/internal", cluster.id));
                expected.push(format!("{}/routing/public", cluster.id));
            }
        }
        for name in &expected {
            assert!(held.listeners.iter().any(|listener| listener.name == *name), "listener {name} is missing");
        }
        for listener in &held.listeners {
            let cluster_id = listener.name.split('/').next().expect("a part");
            let cluster = self.store.get::<Cluster>(cluster_id).expect("listeners belong to clusters");
            let is_gone = matches!(cluster.state, ClusterState::Deleted)
                || (cluster.state == ClusterState::Failed && !cluster.disable_rollback);
            assert!(!is_gone, "listener {} is left", listener.name);
        }
    }

    /// Every machine of a running cluster has a route to every other worker's pods.
    fn check_routes(&self) {
        let is_meant = |cluster: &Cluster| cluster.state == ClusterState::Running && !cluster.is_swarm();
        for cluster in self.store.list::<Cluster>().iter().filter(|cluster| is_meant(cluster)) {
            let machines = self.store.list_of::<Machine>(&cluster.id);
            for machine in &machines {
                let spec =
                    self.world.state().specs.get(&machine.id).cloned().expect("every member was told what to be");
                let vias: Vec<Ipv4Addr> = spec.routes.iter().map(|route| route.via).collect();
                let others = machines.iter().filter(|other| other.id != machine.id && other.is_node_of(&cluster.id));
                let expected: Vec<Ipv4Addr> = others.map(|other| other.ip).collect();
                assert_eq!(vias, expected, "routes of {}", machine.id);
            }
        }
    }

    /// What users can see, without times: equal after a kill and without one.
    pub(crate) fn outcome(&self) -> String {
        let mut lines = Vec::new();
        for cluster in self.store.list::<Cluster>() {
            lines.push(format!("cluster {} {:?} {:?}", cluster.id, cluster.state, cluster.state_reason));
            for pool in self.store.list_of::<sampan_store::model::NodePool>(&cluster.id) {
                lines.push(format!("  pool {} {:?}", pool.id, pool.state));
            }
        }
        for machine in self.store.list::<Machine>() {
            let cluster = machine.cluster_id();
            lines.push(format!(
                "machine {} {:?} {:?} {:?} {cluster:?}",
                machine.id, machine.wanted, machine.state, machine.node_status
            ));
        }
        for task in self.store.list::<Task>() {
            let results: BTreeMap<&str, ResultStatus> =
                task.results.iter().map(|r| (r.data.as_str(), r.status)).collect();
            let stages: Vec<_> = task.stages.iter().map(|stage| (&stage.name, stage.state)).collect();
            lines.push(format!("task {} {:?} {:?} {results:?} {stages:?}", task.id, task.state, task.error));
        }
        for (cluster, nodes) in &self.world.state().nodes {
            if self.store.get::<Cluster>(cluster).is_some_and(|cluster| cluster.state != ClusterState::Deleted) {
                let nodes: Vec<_> = nodes.iter().map(|(name, node)| (name, &node.wanted.pod_cidr)).collect();
                lines.push(format!("nodes of {cluster}: {nodes:?}"));
            }
        }
        lines.join("\n")
    }
}
