//! Node pools: what they give their nodes, and how far repairs go.

use std::time::Duration;

use sampan_store::{
    Batch,
    model::{
        ClusterState, Machine, MachineState, Management, NodeConfig, NodePool, RepairOrder, ResultStatus, Retired, Tag,
        Taint, Task, TaskResult, TaskState, TaskType,
    },
};

use crate::{
    bench::{Bench, LIMITS},
    orders::{self, Order},
};

const NODE: &str = "cn-hangzhou.10.200.16.11";

async fn running(workers: u8) -> (Bench, Order) {
    let (mut bench, order) = (Bench::started().await, Order::new(1, workers));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    (bench, order)
}

fn is_well(bench: &Bench, id: &str) -> bool {
    bench.store.get::<Machine>(id).is_some_and(|machine| {
        machine.state == MachineState::Running && machine.not_ready_since.is_none() && bench.world.runs(id)
    })
}

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.into(), value: value.into() }
}

/// A task about the pool, as the use cases record it.
fn task(bench: &Bench, order: &Order, kind: TaskType, id: &str) -> Task {
    let mut task = bench.task(&order.creation_task());
    task.id = id.into();
    task.task_type = kind;
    task.state = TaskState::Running;
    task.node_pool_id = Some(order.pool_id());
    (task.created, task.updated) = (bench.now(), bench.now());
    task.deadline = bench.now() + Duration::from_secs(3600);
    task.stages.clear();
    task.results.clear();
    task
}

async fn edit(bench: &Bench, id: &str, change: impl Fn(&mut Machine) + Send + Sync) {
    let write = |machine: &mut Machine| {
        change(machine);
        true
    };
    bench.store.modify::<Machine>(id, write).await.expect("changed");
}

async fn make_sick(bench: &mut Bench, ids: &[String]) {
    bench.world.state().sick.extend(ids.iter().cloned());
    bench.world.stir();
    let noticed = |bench: &Bench| ids.iter().all(|id| bench.machine(id).not_ready_since.is_some());
    bench.until("it is noticed", Duration::from_secs(90), noticed).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_pool_no_longer_has_vanishes_from_live_nodes() {
    let (mut bench, order) = running(2).await;
    let mut batch = Batch::new();
    batch.create(&task(&bench, &order, TaskType::NodepoolUpdate, "T-update"));
    let pool = bench.store.get::<NodePool>(&order.pool_id()).expect("the pool");
    batch.update(pool.revision, &NodePool { labels: vec![tag("new", "1")], ..pool.value.clone() });
    let taint = Taint { key: "dedicated".into(), value: String::new(), effect: "NoSchedule".into() };
    // One of them keeps what it has.
    let kept = bench.store.get::<Machine>(&order.worker(2)).expect("there");
    let pinned = NodeConfig { labels: vec![tag("old", "1")], ..NodeConfig::default() };
    batch.update(kept.revision, &Machine { pinned: Some(pinned), ..kept.value.clone() });
    let changed = bench.store.get::<Machine>(&order.worker(1)).expect("there");
    let retired = Retired { labels: vec!["old".into()], taints: vec![taint] };
    batch.update(changed.revision, &Machine { retired: Some(retired), ..changed.value.clone() });
    bench.store.commit(batch).await.expect("recorded");
    bench.until_task("T-update", TaskState::Success).await;
    bench.quiet().await;
    assert_eq!(bench.machine(&order.worker(1)).retired, None, "it is taken away once");
    let state = bench.world.state();
    let gone: Vec<_> = state.retired.iter().cloned().collect();
    assert_eq!(gone, [(NODE.to_owned(), "dedicated".to_owned()), (NODE.to_owned(), "old".to_owned())]);
    let nodes = &state.nodes[&order.cluster_id()];
    let has = |node: &str, key: &str| nodes[node].wanted.labels.iter().any(|(name, _)| name == key);
    assert!(has(NODE, "new") && !has(NODE, "old"));
    assert!(has("cn-hangzhou.10.200.16.12", "old") && !has("cn-hangzhou.10.200.16.12", "new"));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_not_ready_are_repaired_one_after_another() {
    let (mut bench, order) = running(4).await;
    let sick = [order.worker(1), order.worker(2)];
    make_sick(&mut bench, &sick).await;
    let begun = |bench: &Bench| sick.iter().filter(|id| bench.machine(id).repairs > 0).count();
    bench.until("a repair begins", LIMITS.not_ready * 2, |bench| begun(bench) > 0).await;
    bench.pass(LIMITS.not_ready).await;
    assert_eq!(begun(&bench), 1, "a fifth of four is none, so one at once");
    assert_eq!(bench.told("RepairHeld").await, 1, "said once");
    let (first, second) = if bench.machine(&sick[0]).repairs > 0 { (&sick[0], &sick[1]) } else { (&sick[1], &sick[0]) };
    bench.world.state().sick.remove(first);
    bench.world.stir();
    bench.until("the first is well", Duration::from_secs(120), |bench| is_well(bench, first)).await;
    assert_eq!(bench.machine(first).mending, None);
    bench.until("it is the second's turn", LIMITS.not_ready, |bench| bench.machine(second).repairs > 0).await;
    bench.world.state().sick.remove(second);
    bench.world.stir();
    bench.until("both are well", Duration::from_secs(120), |bench| sick.iter().all(|id| is_well(bench, id))).await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repaired_when_most_nodes_are_not_ready() {
    let (mut bench, order) = running(3).await;
    let sick = [order.worker(1), order.worker(2)];
    make_sick(&mut bench, &sick).await;
    bench.pass(LIMITS.not_ready * 4).await;
    assert!(sick.iter().all(|id| bench.machine(id).repairs == 0), "{}", bench.describe().await);
    assert_eq!(bench.told("RepairHeld").await, 2);
    let error = bench.machine(&sick[0]).error.unwrap_or_default();
    assert!(error.contains("NotReady"), "what is wrong with it is shown: {error}");
    // What ended is started all the same.
    bench.world.kill_machine(&sick[0]);
    bench.until("it is started", Duration::from_secs(60), |bench| bench.world.runs(&sick[0])).await;
    bench.world.state().sick.remove(&sick[0]);
    bench.world.stir();
    bench.until("the other's turn", LIMITS.not_ready, |bench| bench.machine(&sick[1]).repairs > 0).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repaired_while_the_api_is_down() {
    let (mut bench, order) = running(2).await;
    make_sick(&mut bench, &[order.worker(1)]).await;
    bench.world.state().api_down.insert(order.cluster_id());
    bench.world.stir();
    bench.pass(LIMITS.not_ready * 3).await;
    assert_eq!(bench.machine(&order.worker(1)).repairs, 0);
    bench.world.state().api_down.clear();
    bench.world.stir();
    bench.until("it is repaired", LIMITS.not_ready, |bench| bench.machine(&order.worker(1)).repairs > 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_auto_repair_only_has_its_machines_started() {
    let (mut bench, order) = running(2).await;
    let write = |pool: &mut NodePool| {
        pool.management = Some(Management { auto_repair: Some(false), ..Management::default() });
        true
    };
    bench.store.modify::<NodePool>(&order.pool_id(), write).await.expect("changed");
    let id = order.worker(1);
    make_sick(&mut bench, std::slice::from_ref(&id)).await;
    bench.pass(LIMITS.not_ready * 4).await;
    assert_eq!(bench.machine(&id).repairs, 0);
    for _ in 0..LIMITS.repairs_max + 2 {
        bench.world.kill_machine(&id);
        bench.until("it runs again", Duration::from_secs(120), |bench| bench.world.runs(&id)).await;
    }
    assert_eq!(bench.told("MachineReplaced").await, 0);
    assert!(bench.machine(&id).repairs > LIMITS.repairs_max);
}

/// Orders the repair of a worker, as the use case does.
async fn order_repair(bench: &Bench, order: &Order, index: u8) {
    let mut repair = task(bench, order, TaskType::NodepoolRepair, "T-repair");
    repair.results = vec![TaskResult { data: NODE.into(), status: ResultStatus::Initial }];
    let mut batch = Batch::new();
    batch.create(&repair);
    bench.store.commit(batch).await.expect("recorded");
    edit(bench, &order.worker(index), |machine| {
        machine.repair = Some(RepairOrder { task_id: "T-repair".into(), restarted: false });
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_ordered_repair_restarts_at_once_whatever_the_limits_say() {
    let (mut bench, order) = running(2).await;
    make_sick(&mut bench, &[order.worker(1), order.worker(2)]).await;
    order_repair(&bench, &order, 1).await;
    bench.until("it is restarted", Duration::from_secs(10), |bench| bench.machine(&order.worker(1)).repairs == 1).await;
    let (_, message) = bench.stage("T-repair", "repair");
    assert!(message.contains("1 of 1 nodes"), "{message}");
    assert_eq!(bench.told("RepairOrdered").await, 1);
    bench.world.state().sick.clear();
    bench.world.stir();
    bench.until_task("T-repair", TaskState::Success).await;
    let machine = bench.machine(&order.worker(1));
    assert_eq!((machine.repair, machine.mending), (None, None));
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn an_ordered_repair_replaces_what_a_restart_does_not_mend() {
    let (mut bench, order) = running(2).await;
    let id = order.worker(1);
    make_sick(&mut bench, std::slice::from_ref(&id)).await;
    order_repair(&bench, &order, 1).await;
    bench.until("it is replaced", LIMITS.not_ready * 2, |bench| bench.store.get::<Machine>(&id).is_none()).await;
    bench.until_task("T-repair", TaskState::Success).await;
    let task = bench.task("T-repair");
    assert_eq!(task.results, [TaskResult { data: NODE.into(), status: ResultStatus::Success }], "by the node's name");
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn an_ordered_repair_ends_with_its_task() {
    let (mut bench, order) = running(2).await;
    make_sick(&mut bench, &[order.worker(1)]).await;
    order_repair(&bench, &order, 1).await;
    let write = |task: &mut Task| {
        task.deadline = task.created;
        true
    };
    bench.store.modify::<Task>("T-repair", write).await.expect("changed");
    bench.until_task("T-repair", TaskState::Fail).await;
    bench
        .until("the order is gone", Duration::from_secs(60), |bench| bench.machine(&order.worker(1)).repair.is_none())
        .await;
    assert_eq!(bench.task("T-repair").results[0].status, ResultStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_size_ends_when_all_are_there() {
    let (mut bench, order) = running(1).await;
    let mut resize = task(&bench, &order, TaskType::NodepoolUpdate, "T-resize");
    resize.stages = ["settings", "nodes"]
        .map(|name| sampan_store::model::Stage {
            name: name.into(),
            state: sampan_store::model::StageState::Waiting,
            started: None,
            finished: None,
            message: String::new(),
        })
        .into();
    resize.results = vec![TaskResult { data: order.worker(2), status: ResultStatus::Initial }];
    let mut batch = Batch::new();
    batch.create(&resize).create(&orders::machine(&order, 2, "T-resize", bench.now()));
    bench.store.commit(batch).await.expect("recorded");
    bench.until_task("T-resize", TaskState::Success).await;
    assert!(is_well(&bench, &order.worker(2)));
    assert_eq!(bench.task("T-resize").results[0].status, ResultStatus::Success);
}
