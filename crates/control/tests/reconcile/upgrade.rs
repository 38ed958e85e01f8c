//! A cluster goes to another version while the server dies, calls fail, and users change their minds.

use std::time::Duration;

use sampan_control::ports::{Budget, DeprecatedApi, Survey};
use sampan_store::{
    Batch,
    model::{
        Cluster, ClusterState, Machine, MachineState, MaintenanceWindow, Management, NewUpgrade, NodePool,
        ParameterChange, ResultStatus, StageState, Task, TaskState, TaskType, Upgrade, UpgradePhase, UpgradeState,
        UpgradeWanted,
    },
};

use crate::{
    bench::Bench,
    gate::Chance,
    orders::{self, Order},
};

const OLD: &str = "1.35.2";
const NEW: &str = "1.36.3";

/// A running cluster of the older version.
async fn running(bench: &mut Bench, workers: u8) -> Order {
    let order = Order::new(1, workers);
    orders::create(&bench.store, &order, bench.now()).await;
    let id = order.cluster_id();
    let older = |cluster: &mut Cluster| {
        (cluster.version, cluster.init_version) = (OLD.into(), OLD.into());
        true
    };
    bench.store.modify::<Cluster>(&id, older).await.expect("written");
    bench.until_state(&order, ClusterState::Running).await;
    assert_eq!(bench.world.version(&order.worker(1)), format!("v{OLD}"));
    order
}

/// Records what UpgradeCluster records.
async fn begin(bench: &Bench, order: &Order, to: &str) -> String {
    let id = "T-upgrade".to_owned();
    let cluster = bench.cluster(order);
    let new = NewUpgrade { task_id: id.clone(), from: cluster.version.clone(), to: to.into(), ..NewUpgrade::default() };
    let upgrade = Some(Upgrade { report_id: "r".into(), ..new.begin(bench.now()) });
    let mut task = orders::task(&id, order, TaskType::ClusterUpgrade, bench.now(), 30);
    for worker in bench.store.list_of::<Machine>(&cluster.id).iter().filter(|m| m.is_worker_of(&cluster.id)) {
        let status = ResultStatus::Initial;
        task.results.push(sampan_store::model::TaskResult { data: worker.id.clone(), status });
    }
    let mut batch = Batch::new();
    batch.put(&Cluster { upgrade, state: ClusterState::Updating, ..cluster }).put(&task);
    bench.store.commit(batch).await.expect("recorded");
    id
}

/// Records what PauseClusterUpgrade and its siblings record.
async fn want(bench: &Bench, order: &Order, wanted: UpgradeWanted) {
    let now = bench.now();
    let change = move |cluster: &mut Cluster| {
        let Some(upgrade) = &mut cluster.upgrade else { return false };
        upgrade.wanted = wanted;
        if wanted != UpgradeWanted::Pause {
            upgrade.state = UpgradeState::Running;
            (upgrade.halt, upgrade.error, upgrade.since) = (None, None, now);
            upgrade.turns.iter_mut().for_each(|turn| turn.since = now);
        }
        cluster.state = ClusterState::Updating;
        true
    };
    bench.store.modify::<Cluster>(&order.cluster_id(), change).await.expect("recorded");
}

impl Bench {
    fn upgrade(&self, order: &Order) -> Upgrade {
        self.cluster(order).upgrade.expect("an upgrade")
    }

    async fn until_upgrade(&mut self, order: &Order, state: UpgradeState) {
        let what = format!("the upgrade becomes {state:?}");
        self.until(&what, Duration::from_secs(7200), |bench| bench.upgrade(order).state == state).await;
    }

    /// Versions that the workers run.
    fn versions(&self, order: &Order, workers: u8) -> Vec<String> {
        (1..=workers).map(|index| self.world.version(&order.worker(index))).collect()
    }

    fn cordoned(&self, order: &Order) -> usize {
        self.world.state().nodes[&order.cluster_id()].values().filter(|node| node.cordoned).count()
    }
}

async fn check_upgraded(bench: &mut Bench, order: &Order, workers: u8) {
    bench.quiet().await;
    let new = format!("v{NEW}");
    assert_eq!(bench.versions(order, workers), vec![new.clone(); usize::from(workers)]);
    assert_eq!(bench.world.version(&order.control_plane()), new);
    assert_eq!((bench.cluster(order).version.as_str(), bench.cluster(order).state), (NEW, ClusterState::Running));
    assert_eq!(bench.cordoned(order), 0, "every node takes pods again");
    let pinned = |machine: &Machine| machine.membership.as_ref().is_some_and(|member| member.version.is_some());
    assert!(!bench.store.list::<Machine>().iter().any(|machine| pinned(machine)), "all follow the cluster");
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn control_plane_first_then_one_node_after_the_other() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 3).await;
    let task = begin(&bench, &order, NEW).await;
    let (new, old) = (format!("v{NEW}"), format!("v{OLD}"));
    let control_plane = order.control_plane();
    bench
        .until("the control plane has it", Duration::from_secs(300), |bench| bench.world.version(&control_plane) == new)
        .await;
    assert_eq!(bench.versions(&order, 3), vec![old; 3], "nodes come later");
    assert_eq!(bench.world.state().snapshots.len(), 1, "etcd was saved before");
    bench.until_task(&task, TaskState::Success).await;
    check_upgraded(&mut bench, &order, 3).await;
    let drained = bench.world.state().drained.clone();
    assert_eq!(drained.len(), 3);
    assert_eq!(drained, bench.world.state().admitted, "each is admitted before the next is emptied");
    let ended = bench.task(&task);
    assert!(ended.results.iter().all(|result| result.status == ResultStatus::Success), "{:?}", ended.results);
    assert!(ended.stages.iter().all(|stage| stage.state == StageState::Success), "{:?}", ended.stages);
    for reason in ["PrecheckPassed", "SnapshotTaken", "ControlPlaneUpgraded", "UpgradeSucceeded"] {
        assert_eq!(bench.told(reason).await, 1, "{reason}");
    }
    assert_eq!(bench.told("NodeUpgraded").await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_paused_upgrade_stops_between_nodes_and_goes_on() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 3).await;
    let task = begin(&bench, &order, NEW).await;
    let first = Duration::from_secs(600);
    bench.until("a node is emptied", first, |bench| !bench.world.state().drained.is_empty()).await;
    want(&bench, &order, UpgradeWanted::Pause).await;
    bench.until_upgrade(&order, UpgradeState::Paused).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Updating);
    assert_eq!(bench.cordoned(&order), 0, "what was begun is ended");
    assert_eq!(bench.world.state().drained.len(), 1);
    bench.pass(Duration::from_secs(3600)).await;
    assert_eq!(bench.world.state().drained.len(), 1, "nothing goes on");
    assert_eq!(bench.task(&task).state, TaskState::Running, "however long it is paused");
    bench.kill().await;
    bench.start();
    want(&bench, &order, UpgradeWanted::Run).await;
    bench.until_task(&task, TaskState::Success).await;
    check_upgraded(&mut bench, &order, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_upgrade_leaves_a_mixed_cluster_that_can_be_upgraded_later() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 3).await;
    let task = begin(&bench, &order, NEW).await;
    bench.until("a node is emptied", Duration::from_secs(600), |bench| !bench.world.state().drained.is_empty()).await;
    want(&bench, &order, UpgradeWanted::Cancel).await;
    bench.until_task(&task, TaskState::Fail).await;
    assert_eq!(bench.upgrade(&order).state, UpgradeState::Cancelled);
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    let mut versions = bench.versions(&order, 3);
    versions.sort();
    assert_eq!(versions, [format!("v{OLD}"), format!("v{OLD}"), format!("v{NEW}")]);
    assert_eq!((bench.cluster(&order).version.as_str(), bench.cordoned(&order)), (NEW, 0));
    assert!(bench.task(&task).error.expect("why").message.contains("cancelled"));
    bench.check_world().await;
    let scaled = orders::scale_out(&bench.store, &order, 4..5, bench.now()).await;
    bench.until_task(&scaled, TaskState::Success).await;
    assert_eq!(bench.world.version(&order.worker(4)), format!("v{NEW}"), "new nodes follow the cluster");
    begin(&bench, &order, NEW).await;
    bench.until_upgrade(&order, UpgradeState::Success).await;
    check_upgraded(&mut bench, &order, 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_before_anything_changed_changes_nothing() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 2).await;
    begin(&bench, &order, NEW).await;
    want(&bench, &order, UpgradeWanted::Cancel).await;
    bench.until_upgrade(&order, UpgradeState::Cancelled).await;
    bench.until_state(&order, ClusterState::Running).await;
    assert_eq!(bench.cluster(&order).version, OLD);
    assert_eq!(bench.versions(&order, 2), vec![format!("v{OLD}"); 2]);
}

#[tokio::test(start_paused = true)]
async fn what_the_pre_checks_find_stops_the_upgrade_before_it_begins() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 2).await;
    bench.world.state().survey = Survey {
        deprecated: vec![DeprecatedApi {
            group_version: "policy/v1beta1".into(),
            resource: "podsecuritypolicies".into(),
            removed_in: "1.36".into(),
        }],
        budgets: vec![Budget { name: "shop/web".into(), allowed: 0, desired: 2, expected: 2 }],
        rooms: Vec::new(),
    };
    let task = begin(&bench, &order, NEW).await;
    bench.until_task(&task, TaskState::Fail).await;
    let cluster = bench.cluster(&order);
    assert_eq!((cluster.version.as_str(), cluster.state), (OLD, ClusterState::UpdatingFailed));
    let why = cluster.state_reason.expect("why");
    assert!(why.contains("podsecuritypolicies") && why.contains("shop/web"), "{why}");
    assert_eq!(bench.upgrade(&order).findings.len(), 2);
    assert_eq!(bench.stage(&task, "precheck").0, StageState::Fail);
    bench.world.state().survey = Survey::default();
    resume_failed(&bench, &order).await;
    bench.until_upgrade(&order, UpgradeState::Success).await;
    check_upgraded(&mut bench, &order, 2).await;
}

/// A failed upgrade gets a new task when it goes on.
async fn resume_failed(bench: &Bench, order: &Order) {
    want(bench, order, UpgradeWanted::Run).await;
    let task = orders::task("T-again", order, TaskType::ClusterUpgrade, bench.now(), 30);
    let cluster = bench.cluster(order);
    let upgrade = cluster.upgrade.clone().map(|upgrade| Upgrade { task_id: task.id.clone(), ..upgrade });
    let mut batch = Batch::new();
    batch.put(&Cluster { upgrade, ..cluster }).put(&task);
    bench.store.commit(batch).await.expect("recorded");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_emptied_fails_the_upgrade_and_is_admitted_again() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 2).await;
    let node = bench.machine(&order.worker(1)).membership.expect("a member").node_name;
    bench.world.state().undrainable.insert(node.clone());
    let task = begin(&bench, &order, NEW).await;
    bench.until_task(&task, TaskState::Fail).await;
    let why = bench.task(&task).error.expect("why").message;
    assert!(why.contains("PodDisruptionBudget default/web"), "{why}");
    assert_eq!(bench.cordoned(&order), 0);
    assert_eq!(bench.cluster(&order).state, ClusterState::UpdatingFailed);
    bench.check_world().await;
    bench.world.state().undrainable.clear();
    resume_failed(&bench, &order).await;
    bench.until_upgrade(&order, UpgradeState::Success).await;
    check_upgraded(&mut bench, &order, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_does_not_come_up_fails_the_upgrade_with_its_last_words() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 2).await;
    bench.world.state().broken.insert(NEW.into());
    let task = begin(&bench, &order, NEW).await;
    bench.until_task(&task, TaskState::Fail).await;
    let why = bench.task(&task).error.expect("why").message;
    assert!(why.contains("unrecognized"), "{why}");
    assert_eq!(bench.versions(&order, 2), vec![format!("v{OLD}"); 2], "nodes were not touched");
    bench.world.state().broken.clear();
    resume_failed(&bench, &order).await;
    bench.until_upgrade(&order, UpgradeState::Success).await;
    check_upgraded(&mut bench, &order, 2).await;
}

async fn manage(bench: &Bench, order: &Order, management: Management) {
    let set = move |pool: &mut NodePool| {
        pool.management = Some(management.clone());
        true
    };
    bench.store.modify::<NodePool>(&order.pool_id(), set).await.expect("written");
}

#[tokio::test(start_paused = true)]
async fn surge_adds_nodes_before_and_takes_them_away_after() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 3).await;
    let management = Management { enable: true, surge: Some(2), max_unavailable: Some(2), ..Management::default() };
    manage(&bench, &order, management).await;
    let task = begin(&bench, &order, NEW).await;
    bench.until("nodes are added", Duration::from_secs(600), |bench| bench.upgrade(&order).surge.len() == 1).await;
    assert!(bench.world.state().drained.is_empty(), "before the first one is emptied");
    assert_eq!(bench.store.list::<Machine>().len(), 6);
    bench.until_task(&task, TaskState::Success).await;
    check_upgraded(&mut bench, &order, 3).await;
    assert_eq!(bench.store.list::<Machine>().len(), 4, "they are gone again");
    assert_eq!(bench.upgrade(&order).surge, []);
}

#[tokio::test(start_paused = true)]
async fn pools_upgrade_themselves_in_the_window() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 2).await;
    begin(&bench, &order, NEW).await;
    bench
        .until("the control plane has it", Duration::from_secs(300), |bench| bench.cluster(&order).version == NEW)
        .await;
    want(&bench, &order, UpgradeWanted::Cancel).await;
    bench.until_upgrade(&order, UpgradeState::Cancelled).await;
    bench.until_state(&order, ClusterState::Running).await;
    manage(&bench, &order, Management { enable: true, auto_upgrade: Some(true), ..Management::default() }).await;
    // The bench begins on a Monday, at midnight.
    let window = |cluster: &mut Cluster| {
        cluster.maintenance_window = Some(MaintenanceWindow {
            enable: true,
            maintenance_time: "03:00:00Z".into(),
            duration: "3h".into(),
            weekly_period: "Monday".into(),
        });
        true
    };
    bench.store.modify::<Cluster>(&order.cluster_id(), window).await.expect("written");
    bench.pass(Duration::from_secs(3600)).await;
    assert_ne!(bench.versions(&order, 2), vec![format!("v{NEW}"); 2], "the window is not open");
    bench.until("the window opens", Duration::from_secs(4 * 3600), |bench| bench.upgrade(&order).automatic).await;
    assert!(bench.now() >= "2024-01-01T03:00:00Z".parse().expect("a time"));
    bench.until_upgrade(&order, UpgradeState::Success).await;
    bench.until_state(&order, ClusterState::Running).await;
    check_upgraded(&mut bench, &order, 2).await;
    let tasks = bench.store.list::<Task>();
    let automatic = tasks.iter().find(|task| task.id == bench.upgrade(&order).task_id).expect("a task");
    assert_eq!((automatic.state, automatic.task_type), (TaskState::Success, TaskType::ClusterUpgrade));
}

async fn configure(bench: &Bench, order: &Order, value: &str) -> String {
    let id = format!("T-configure-{value}");
    let task = orders::task(&id, order, TaskType::ClusterConfigurationModify, bench.now(), 60);
    let mut cluster = bench.cluster(order);
    let options = &mut cluster.control_plane;
    let wanted = [("kube-apiserver".to_owned(), [("feature-gates".to_owned(), value.to_owned())].into())].into();
    options.parameter_change = Some(ParameterChange {
        task_id: id.clone(),
        previous: std::mem::replace(&mut options.parameters, wanted),
        applied: Vec::new(),
        since: bench.now(),
        rolled_back: None,
        done: false,
    });
    cluster.state = ClusterState::Updating;
    let mut batch = Batch::new();
    batch.put(&cluster).create(&task);
    bench.store.commit(batch).await.expect("recorded");
    id
}

#[tokio::test(start_paused = true)]
async fn parameters_are_put_in_force_or_taken_back() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 1).await;
    let told = |bench: &Bench| {
        let state = bench.world.state();
        let spec = state.specs[&order.control_plane()].clone();
        spec.files.iter().find(|file| file.path == "/parameters").map(|file| file.content.clone()).unwrap_or_default()
    };
    let good = configure(&bench, &order, "Good=true").await;
    bench.until_task(&good, TaskState::Success).await;
    assert!(told(&bench).contains("Good=true"));
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    let bad = configure(&bench, &order, "Unknown=true").await;
    bench.until("the bad one is tried", Duration::from_secs(60), |bench| told(bench).contains("Unknown")).await;
    bench.kill().await;
    bench.start();
    bench.until_task(&bad, TaskState::Fail).await;
    let why = bench.task(&bad).error.expect("why").message;
    assert!(why.contains("unrecognized"), "{why}");
    assert!(told(&bench).contains("Good=true"), "the former ones are in force again");
    assert_eq!(bench.cluster(&order).control_plane.parameters["kube-apiserver"]["feature-gates"], "Good=true");
    bench.until_state(&order, ClusterState::Running).await;
    assert_eq!(bench.told("ParametersRolledBack").await, 1);
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_while_it_is_upgraded_does_not_hold_it_up() {
    let mut bench = Bench::started().await;
    let order = running(&mut bench, 3).await;
    let node = bench.machine(&order.worker(1)).membership.expect("a member").node_name;
    bench.world.state().undrainable.insert(node);
    let task = begin(&bench, &order, NEW).await;
    bench.until("its turn comes", Duration::from_secs(600), |bench| !bench.upgrade(&order).turns.is_empty()).await;
    let release = sampan_store::model::MachineWanted::Release;
    orders::remove(&bench.store, &order, &[1], release, false, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    for index in 2..=3 {
        assert_eq!(bench.world.version(&order.worker(index)), format!("v{NEW}"));
        assert_eq!(bench.machine(&order.worker(index)).state, MachineState::Running);
    }
}

/// Upgrades three workers, with that trouble, to its end.
async fn story(seed: u64, faults: u64) -> (String, u64) {
    let (mut bench, mut chance) = (Bench::new(seed).await, Chance::new(seed));
    bench.start();
    let order = running(&mut bench, 3).await;
    manage(&bench, &order, Management { enable: true, surge: Some(1), ..Management::default() }).await;
    let task = begin(&bench, &order, NEW).await;
    bench.world.gate.set_faults(faults);
    if seed > 0 {
        bench.world.gate.kill_after(1 + chance.below(60));
    }
    let begun = bench.now();
    while bench.task(&task).state == TaskState::Running {
        if !bench.quiet().await {
            bench.kill().await;
            bench.start();
            bench.world.gate.kill_after(1 + chance.below(60));
            continue;
        }
        let elapsed = bench.now().duration_since(begun).as_secs();
        assert!(elapsed < 3000, "seed {seed}: it does not end\n{}", bench.describe().await);
        tokio::time::advance(Duration::from_millis(150)).await;
    }
    bench.world.gate.never_kill();
    bench.world.gate.set_faults(0);
    bench.kill().await;
    bench.start();
    bench.pass(Duration::from_secs(90)).await;
    check_upgraded(&mut bench, &order, 3).await;
    assert_eq!(bench.upgrade(&order).phase, UpgradePhase::Nodes);
    (bench.task(&task).error.map(|error| error.message).unwrap_or_default(), bench.deaths)
}

fn lives(seeds: std::ops::Range<u64>, faults: u64) {
    let mut deaths = 0;
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let (error, died) = runtime.expect("a runtime").block_on(story(seed, faults));
        assert_eq!(error, "", "seed {seed}");
        deaths += died;
    }
    assert!(deaths > 20, "too few deaths to prove anything");
}

#[test]
fn killed_at_any_call() {
    lives(1..16, 0);
}

#[test]
fn killed_while_calls_fail() {
    lives(100..110, 50);
}
