//! The controller on a real store and the real use cases, before a cluster that is made up.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sampan_store::{
    Batch, Store,
    model::{
        AutoScaling, AutoscalingConfig, Cluster, ClusterState, Expander, Machine, MachineState, MachineWanted,
        NodePool, NodePoolState, Outcome, Timestamp, new_node_pool_id,
    },
};
use serde_json::json;
use tokio::sync::broadcast;

use super::*;
use crate::{
    autoscale::{
        controller::{Memory, Work},
        model::Budget,
        observe::{About, Eyes, News, View},
    },
    kubernetes::HostFacts,
    ports::Clock,
    reconcile::{Reconcile as _, Status},
    service::{
        Quotas, RequestContext, Service, Settings,
        cluster::ClusterCreate,
        credentials::{Credentials, Issued},
        node_pool::ScaleOut,
    },
};

#[derive(Default)]
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_704_067_200 + self.0.load(Ordering::SeqCst)).unwrap()
    }
}

struct NoCredentials;

#[async_trait]
impl Credentials for NoCredentials {
    async fn issue(&self, _: &Cluster, _: &str, _: &[String], not_after: Timestamp) -> Outcome<Issued> {
        Ok(Issued { certificate_pem: String::new(), key_pem: String::new(), ca_pem: String::new(), expires: not_after })
    }
}

/// A cluster's API that shows what the test says.
struct FakeEyes {
    view: Mutex<Option<View>>,
    news: Mutex<Vec<News>>,
    priorities: Mutex<Option<String>>,
    changes: broadcast::Sender<String>,
}

#[async_trait]
impl Eyes for FakeEyes {
    fn follow(&self, _: &str) {}
    fn forget(&self, _: &str) {}
    fn view(&self, _: &str) -> Option<View> {
        self.view.lock().unwrap().clone()
    }
    fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }
    async fn priorities(&self, _: &str) -> Outcome<Option<String>> {
        Ok(self.priorities.lock().unwrap().clone())
    }
    async fn tell(&self, _: &str, news: &News) -> Outcome<()> {
        self.news.lock().unwrap().push(news.clone());
        Ok(())
    }
}

struct World {
    work: Arc<Work>,
    store: Store,
    clock: Arc<ManualClock>,
    eyes: Arc<FakeEyes>,
    cluster_id: String,
    ctx: RequestContext,
}

impl World {
    /// A running cluster of one node in its default pool.
    async fn new() -> Self {
        let store = Store::open_temporary().await.unwrap();
        let clock = Arc::new(ManualClock::default());
        let settings =
            Settings { quotas: Quotas { nodes_per_cluster: 20, ..Quotas::default() }, ..Settings::default() };
        let service =
            Arc::new(Service::new(store.clone(), settings, Arc::clone(&clock) as Arc<_>, Arc::new(NoCredentials)));
        let ctx = RequestContext {
            account_id: "1001".into(),
            principal: "1001".into(),
            is_root: true,
            request_id: "r".into(),
            region_id: "cn-beijing".into(),
            nonce: None,
        };
        let input = ClusterCreate {
            name: Some("demo".into()),
            cluster_type: Some("ManagedKubernetes".into()),
            num_of_nodes: Some(1),
            request: json!({"name": "demo"}),
            ..ClusterCreate::default()
        };
        let made = service.cluster_create(&ctx, &input).await.unwrap();
        let eyes = Arc::new(FakeEyes {
            view: Mutex::new(Some(View::default())),
            news: Mutex::default(),
            priorities: Mutex::default(),
            changes: broadcast::channel(8).0,
        });
        let host = HostFacts {
            can_lower_oom_score: true,
            ipvs: false,
            cpus: 16,
            memory_bytes: 64 << 30,
            name_servers: Vec::new(),
        };
        let work = Arc::new(Work {
            store: store.clone(),
            service,
            eyes: Arc::clone(&eyes) as Arc<_>,
            clock: Arc::clone(&clock) as Arc<_>,
            host: Arc::new(host),
            memory: Memory::default(),
            started: clock.now(),
        });
        let world = Self { work, store, clock, eyes, cluster_id: made.cluster_id, ctx };
        world.settle().await;
        world
    }

    fn cluster(&self) -> Cluster {
        self.store.get::<Cluster>(&self.cluster_id).unwrap().value.clone()
    }

    async fn put<T: sampan_store::Document>(&self, value: &T) {
        let mut batch = Batch::new();
        batch.put(value);
        self.store.commit(batch).await.unwrap();
    }

    async fn configure(&self, change: impl FnOnce(&mut AutoscalingConfig)) {
        let mut cluster = self.cluster();
        let mut config = AutoscalingConfig { cool_down_seconds: 60, unneeded_seconds: 60, ..Default::default() };
        change(&mut config);
        cluster.autoscaling = Some(config);
        self.put(&cluster).await;
    }

    /// A pool that scales by itself.
    async fn pool(&self, name: &str, instance_type: &str, min_instances: u32, max_instances: u32) -> String {
        let pools = self.store.list_of::<NodePool>(&self.cluster_id);
        let pool = NodePool {
            id: new_node_pool_id(),
            name: name.into(),
            is_default: false,
            instance_types: vec![instance_type.into()],
            state: NodePoolState::Active,
            auto_scaling: Some(AutoScaling { enable: true, min_instances, max_instances, ..AutoScaling::default() }),
            ..pools[0].value.clone()
        };
        self.put(&pool).await;
        pool.id
    }

    fn members(&self, pool_id: &str) -> Vec<Machine> {
        let mut machines: Vec<Machine> =
            self.store.list_of::<Machine>(&self.cluster_id).iter().map(|machine| machine.value.clone()).collect();
        machines.retain(|machine| machine.membership.as_ref().unwrap().node_pool_id.as_deref() == Some(pool_id));
        machines
    }

    fn staying(&self, pool_id: &str) -> usize {
        self.members(pool_id).iter().filter(|machine| machine.wanted == MachineWanted::Run).count()
    }

    fn view(&self) -> MutexGuard<'_, Option<View>> {
        self.eyes.view.lock().unwrap()
    }

    /// The controllers did their work: machines are nodes, and those that shall go are gone.
    async fn settle(&self) {
        let mut batch = Batch::new();
        let mut nodes = BTreeMap::new();
        for machine in self.store.list_of::<Machine>(&self.cluster_id) {
            if machine.wanted != MachineWanted::Run {
                batch.delete::<Machine>(&machine.id);
                continue;
            }
            let running =
                Machine { state: MachineState::Running, node_status: Some("Ready".into()), ..machine.value.clone() };
            batch.put(&running);
            if machine.is_worker_of(&self.cluster_id) {
                let name = machine.membership.as_ref().unwrap().node_name.clone();
                let cores = if machine.instance_type.ends_with("xlarge") { 4 } else { 2 };
                let mut ready = node(&name, cores, 4 * cores, &machine.zone_id);
                ready.labels.insert("pool".into(), machine.membership.as_ref().unwrap().node_pool_id.clone().unwrap());
                nodes.insert(name, Arc::new(ready));
            }
        }
        batch.put(&Cluster { state: ClusterState::Running, first_running: Some(self.clock.now()), ..self.cluster() });
        self.store.commit(batch).await.unwrap();
        let mut view = self.view();
        let view = view.as_mut().unwrap();
        // What ran on nodes that are gone waits again.
        let pods = view.pods.values().map(|pod| {
            let lost = pod.node.as_ref().is_some_and(|node| !nodes.contains_key(node));
            let mut pod = Pod::clone(pod);
            if lost {
                (pod.node, pod.unschedulable) = (None, true);
            }
            (pod.uid.clone(), Arc::new(pod))
        });
        view.pods = Arc::new(pods.collect());
        view.nodes = Arc::new(nodes);
    }

    /// The scheduler's turn, by a simple rule: the first node that fits.
    fn schedule(&self) {
        let mut view = self.view();
        let view = view.as_mut().unwrap();
        let mut world = snapshot([]);
        for node in view.nodes.values() {
            let mine = view.pods.values().filter(|pod| pod.node.as_ref() == Some(&node.name)).cloned().collect();
            world.add(Arc::clone(node), mine);
        }
        let mut pods = BTreeMap::clone(&view.pods);
        for pod in pods.values_mut().filter(|pod| pod.node.is_none()) {
            if let Some(number) = world.schedule(pod) {
                let name = world.slot(number).unwrap().node.name.clone();
                *pod = Arc::new(Pod { node: Some(name), unschedulable: false, ..Pod::clone(pod) });
            }
        }
        view.pods = Arc::new(pods);
    }

    fn add_pods(&self, pods: impl IntoIterator<Item = Arc<Pod>>) {
        let mut view = self.view();
        let all = Arc::make_mut(&mut view.as_mut().unwrap().pods);
        all.extend(pods.into_iter().map(|pod| (pod.uid.clone(), pod)));
    }

    fn clear_pods(&self) {
        self.view().as_mut().unwrap().pods = Arc::default();
    }

    /// One look, after so many seconds.
    async fn look(&self, seconds: i64) -> Status {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
        self.work.reconcile(&self.cluster_id).await.unwrap()
    }

    /// Looks until a burst of pods has been waited for.
    async fn look_twice(&self, seconds: i64) -> Status {
        self.look(seconds).await;
        self.look(1).await
    }

    fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut self.eyes.news.lock().unwrap())
    }

    async fn events(&self, reason: &str) -> Vec<String> {
        let query = sampan_store::EventQuery { account_id: "1001".into(), limit: 1000, ..Default::default() };
        let page = self.store.events(&query).await.unwrap();
        page.items.into_iter().filter(|event| event.reason == reason).map(|event| event.message).collect()
    }
}

/// Pods of a deployment that wants this pool.
fn pods(pool_id: &str, count: usize, millicores: i64) -> Vec<Arc<Pod>> {
    let more = json!({"spec": {"nodeSelector": {"alibabacloud.com/nodepool-id": pool_id}}});
    (0..count).map(|number| pod(&format!("p{number}"), millicores, 64, more.clone())).collect()
}

fn anywhere(name: &str, millicores: i64) -> Arc<Pod> {
    pod(name, millicores, 64, json!({}))
}

#[tokio::test]
async fn a_pool_grows_to_its_maximum_and_shrinks_to_its_minimum() {
    let world = World::new().await;
    world.configure(|_| {}).await;
    let pool = world.pool("auto", "ecs.g6.large", 1, 4).await;
    assert_eq!(world.look(0).await, Status::Settled);
    assert_eq!(world.staying(&pool), 1, "filled");
    assert_eq!(world.events("ScaleUpToMinimum").await.len(), 1);
    world.settle().await;
    world.add_pods((0..8).map(|number| anywhere(&format!("p{number}"), 1500)));
    world.look(31).await;
    assert_eq!(world.staying(&pool), 1, "a burst is waited for");
    world.look(1).await;
    assert_eq!(world.staying(&pool), 4);
    let news = world.take_news();
    let told = |reason: &str| news.iter().filter(|one| one.reason == reason).count();
    // One pod fits on the default pool's node, one on the pool's first; three bring nodes, three get none.
    assert_eq!((told("TriggeredScaleUp"), told("NotTriggerScaleUp")), (3, 3));
    let text = &news.iter().find(|one| one.reason == "TriggeredScaleUp").unwrap().message;
    assert_eq!(text, "pod triggered scale-up: [{auto 1->4 (max: 4)}]");
    let text = &news.iter().find(|one| one.reason == "NotTriggerScaleUp").unwrap().message;
    assert_eq!(text, "pod didn't trigger scale-up: 1 max node group size reached");
    assert!(world.events("TriggeredScaleUp").await[0].contains("auto gets 3 nodes"));
    // Nodes that come count: nothing more is asked for.
    for _ in 0..3 {
        world.look(31).await;
    }
    assert_eq!((world.staying(&pool), world.take_news().len()), (4, 0));
    world.settle().await;
    world.schedule();
    world.look(31).await;
    assert_eq!(world.staying(&pool), 4);
    world.clear_pods();
    let status = world.look(31).await;
    assert!(matches!(status, Status::Again { after, .. } if after <= Duration::from_secs(60)), "{status:?}");
    world.look(59).await;
    assert_eq!(world.staying(&pool), 4, "not yet");
    world.look(31).await;
    assert_eq!(world.staying(&pool), 1);
    assert_eq!(world.take_news().iter().filter(|one| one.reason == "ScaleDown").count(), 3);
    assert!(world.members(&pool).iter().filter(|machine| machine.wanted == MachineWanted::Release).all(|m| m.drain));
    world.settle().await;
    assert_eq!(world.look(31).await, Status::Settled, "nothing is left to do");
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_makes_no_node() {
    let world = World::new().await;
    let pool = world.pool("auto", "ecs.g6.large", 0, 4).await;
    world.add_pods([anywhere("huge", 64_000)]);
    world.look_twice(31).await;
    let news = world.take_news();
    assert_eq!((world.staying(&pool), news.len()), (0, 1));
    assert_eq!(
        (news[0].reason, news[0].message.as_str()),
        ("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 Insufficient cpu")
    );
    assert!(matches!(&news[0].about, About::Pod { uid, .. } if uid == "uid-huge"));
    world.look(31).await;
    assert!(world.take_news().is_empty(), "it knows");
}

#[tokio::test]
async fn nothing_is_decided_before_everything_is_known() {
    let world = World::new().await;
    let pool = world.pool("auto", "ecs.g6.large", 0, 4).await;
    *world.view() = None;
    assert_eq!(world.look_twice(31).await, Status::Settled);
    *world.view() = Some(View { overflows: true, ..View::default() });
    world.look(31).await;
    world.look(31).await;
    assert_eq!((world.staying(&pool), world.events("AutoscalingOverflow").await.len()), (0, 1));
}

#[tokio::test]
async fn users_and_the_autoscaler_together_stay_within_the_bounds() {
    let world = World::new().await;
    let pool = world.pool("auto", "ecs.g6.large", 0, 3).await;
    world.add_pods(pods(&pool, 9, 1500));
    world.look(31).await;
    world.clock.0.fetch_add(1, Ordering::SeqCst);
    let (service, ctx, id) = (&world.work.service, &world.ctx, &world.cluster_id);
    let (looked, ..) = tokio::join!(
        world.work.reconcile(id),
        service.node_pool_scale(ctx, id, &pool, 1),
        service.node_pool_scale(ctx, id, &pool, 2),
        service.node_pool_scale(ctx, id, &pool, 3),
    );
    looked.unwrap();
    assert_eq!(world.staying(&pool), 3);
    let fault = service.node_pool_scale(ctx, id, &pool, 1).await.unwrap_err();
    assert!(fault.message.contains("auto_scaling.max_instances 3"), "{}", fault.message);
    // The default pool has no bounds.
    service.scale_out(ctx, id, &ScaleOut { count: 1, ..ScaleOut::default() }).await.unwrap();
}

#[tokio::test]
async fn a_pool_that_cannot_grow_is_left_alone_for_a_while() {
    let world = World::new().await;
    // 20 nodes are allowed, one is there.
    let pool = world.pool("auto", "ecs.g6.large", 0, 50).await;
    world.add_pods(pods(&pool, 25, 1500));
    world.look_twice(31).await;
    assert_eq!((world.staying(&pool), world.events("ScaleUpFailed").await.len()), (0, 1));
    world.look(31).await;
    assert_eq!(world.events("ScaleUpFailed").await.len(), 1);
    let news = world.take_news();
    assert!(news.iter().any(|one| one.message.contains("in backoff after failed scale-up")), "{news:?}");
    world.clear_pods();
    world.add_pods(pods(&pool, 2, 1500));
    world.look_twice(200).await;
    assert_eq!(world.staying(&pool), 0);
    world.look(100).await;
    assert_eq!(world.staying(&pool), 2, "the pause is over");
}

#[tokio::test]
async fn machines_that_never_serve_are_given_up() {
    let world = World::new().await;
    let pool = world.pool("auto", "ecs.g6.large", 0, 4).await;
    world.add_pods(pods(&pool, 1, 1500));
    world.look_twice(31).await;
    assert_eq!(world.staying(&pool), 1);
    world.look(14 * 60).await;
    assert_eq!(world.staying(&pool), 1);
    world.look(61).await;
    assert_eq!(world.staying(&pool), 0);
    assert_eq!(world.events("ScaleUpTimedOut").await.len(), 1);
    world.look(31).await;
    assert_eq!(world.staying(&pool), 0, "in back-off");
    world.look(300).await;
    assert_eq!(world.staying(&pool), 1, "another try");
}

#[tokio::test]
async fn new_nodes_and_forbidden_removals_stay() {
    let world = World::new().await;
    world.configure(|config| (config.cool_down_seconds, config.unneeded_seconds) = (600, 30)).await;
    let pool = world.pool("auto", "ecs.g6.large", 0, 4).await;
    world.add_pods(pods(&pool, 2, 1500));
    world.look_twice(31).await;
    world.settle().await;
    world.clear_pods();
    world.look(31).await;
    world.look(400).await;
    assert_eq!(world.staying(&pool), 2, "they are too new");
    world.configure(|config| config.scale_down_enabled = false).await;
    world.look(1000).await;
    assert_eq!(world.staying(&pool), 2, "it is forbidden");
    world.configure(|_| {}).await;
    world.put(&Cluster { instance_deletion_protection: true, ..world.cluster() }).await;
    world.look(31).await;
    world.look(100).await;
    assert_eq!(world.staying(&pool), 2, "instances are protected");
    world.put(&Cluster { instance_deletion_protection: false, ..world.cluster() }).await;
    world.look(31).await;
    world.look(100).await;
    assert_eq!(world.staying(&pool), 0);
}

#[tokio::test]
async fn used_nodes_leave_one_after_another_and_budgets_hold() {
    let world = World::new().await;
    world.configure(|_| {}).await;
    let pool = world.pool("auto", "ecs.g6.xlarge", 0, 4).await;
    world.add_pods((0..3).map(|number| anywhere(&format!("big{number}"), 3900)));
    world.look_twice(31).await;
    world.settle().await;
    world.schedule();
    assert_eq!(world.staying(&pool), 3);
    // Each node has a small pod left.
    let names: Vec<String> =
        world.members(&pool).iter().map(|machine| machine.membership.as_ref().unwrap().node_name.clone()).collect();
    world.clear_pods();
    let small = |name: &str, node: &str| {
        Arc::new(Pod { node: Some(node.into()), unschedulable: false, ..Pod::clone(&anywhere(name, 300)) })
    };
    world.add_pods(names.iter().enumerate().map(|(number, node)| small(&format!("s{number}"), node)));
    let selector = serde_json::from_value(json!({"matchLabels": {"app": "web"}})).unwrap();
    let budget = |allowed: i32| Budget {
        namespace: "default".into(),
        name: "b".into(),
        selector: Some(Clone::clone(&selector)),
        allowed,
    };
    world.view().as_mut().unwrap().budgets = Arc::new(BTreeMap::from([("default/b".to_owned(), budget(0))]));
    world.look(31).await;
    world.look(100).await;
    assert_eq!(world.staying(&pool), 3, "the budget forbids it");
    world.view().as_mut().unwrap().budgets = Arc::new(BTreeMap::from([("default/b".to_owned(), budget(1))]));
    world.look(31).await;
    world.look(61).await;
    assert_eq!(world.staying(&pool), 2, "one at a time");
    world.look(31).await;
    assert_eq!(world.staying(&pool), 2, "that one is still being emptied");
    world.settle().await;
    world.schedule();
    world.look(31).await;
    assert_eq!(world.staying(&pool), 1);
}

#[tokio::test]
async fn pools_are_chosen_by_the_expander() {
    for (expander, priorities, expected) in [
        (Expander::LeastWaste, None, [1, 0]),
        (Expander::MostPods, None, [0, 1]),
        (Expander::Priority, Some("1: ['small']\n9: ['large']"), [0, 1]),
        (Expander::Priority, Some("nonsense"), [1, 0]),
    ] {
        let world = World::new().await;
        world.configure(|config| config.expander = expander).await;
        let small = world.pool("small", "ecs.g6.large", 0, 1).await;
        let large = world.pool("large", "ecs.g6.8xlarge", 0, 1).await;
        *world.eyes.priorities.lock().unwrap() = priorities.map(str::to_owned);
        let count = if expander == Expander::MostPods { 2 } else { 1 };
        // More than the default pool's node takes.
        world.add_pods((0..count + 1).map(|number| anywhere(&format!("p{number}"), 1500)));
        world.look_twice(31).await;
        assert_eq!([world.staying(&small), world.staying(&large)], expected, "{expander:?} {priorities:?}");
        let complaints = usize::from(priorities == Some("nonsense"));
        assert_eq!(world.events("PrioritiesInvalid").await.len(), complaints);
    }
}

#[tokio::test]
async fn attached_machines_and_clusters_that_change_are_left_alone() {
    let world = World::new().await;
    world.configure(|_| {}).await;
    let pool = world.pool("auto", "ecs.g6.large", 0, 4).await;
    world.add_pods(pods(&pool, 1, 1500));
    world.put(&Cluster { state: ClusterState::Updating, ..world.cluster() }).await;
    assert_eq!(world.look_twice(31).await, Status::Settled);
    assert_eq!(world.staying(&pool), 0);
    world.settle().await;
    world.look_twice(31).await;
    world.settle().await;
    world.clear_pods();
    let attached = Machine { source: "ess_attach".into(), ..world.members(&pool)[0].clone() };
    world.put(&attached).await;
    world.look(31).await;
    world.look(1000).await;
    assert_eq!(world.staying(&pool), 1);
}
