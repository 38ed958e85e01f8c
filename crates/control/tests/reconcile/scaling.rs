//! Workers come and go.

use std::time::Duration;

use sampan_provider::memory::{Fault, FaultPlan, FaultPoint};
use sampan_store::{
    Batch,
    model::{
        ClusterState, Machine, MachineState, MachineWanted, NodePool, NodePoolState, ResultStatus, Tag, Task, TaskState,
    },
};

use crate::{
    bench::{Bench, LIMITS},
    orders::{self, Order},
};

async fn running(workers: u8) -> (Bench, Order) {
    let (mut bench, order) = (Bench::started().await, Order::new(1, workers));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    (bench, order)
}

#[tokio::test(start_paused = true)]
async fn scale_out() {
    let (mut bench, order) = running(1).await;
    let task = orders::scale_out(&bench.store, &order, 2..4, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running, "in the same transaction");
    assert!(bench.task(&task).results.iter().all(|result| result.status == ResultStatus::Success));
    assert_eq!(bench.task(&task).results.len(), 2);
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn scale_out_that_fails_is_still_tried() {
    let (mut bench, order) = running(1).await;
    bench.world.state().sick.insert(order.worker(2));
    let task = orders::scale_out(&bench.store, &order, 2..4, bench.now()).await;
    bench.until_task(&task, TaskState::Fail).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    let statuses: Vec<ResultStatus> = bench.task(&task).results.iter().map(|result| result.status).collect();
    assert_eq!(statuses, [ResultStatus::Failed, ResultStatus::Success]);
    let machine = bench.machine(&order.worker(2));
    assert_eq!(machine.state, MachineState::Failed);
    assert!(machine.error.expect("an error").contains("Ready"));
    bench.world.state().sick.clear();
    bench.world.stir();
    let id = order.worker(2);
    bench
        .until("it comes up after all", Duration::from_secs(600), |bench| {
            bench.machine(&id).state == MachineState::Running
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn removed_machines_are_drained_and_released_or_kept() {
    let (mut bench, order) = running(3).await;
    let release = orders::remove(&bench.store, &order, &[1], MachineWanted::Release, true, bench.now()).await;
    let leave = orders::remove(&bench.store, &order, &[2], MachineWanted::Leave, false, bench.now()).await;
    let states = |bench: &Bench| bench.store.get::<NodePool>(&order.pool_id()).map(|pool| pool.state);
    bench.until_task(&release, TaskState::Success).await;
    bench.until_task(&leave, TaskState::Success).await;
    assert_eq!(bench.world.state().drained, ["cn-hangzhou.10.200.16.11"], "only the one that asked for it");
    assert!(bench.store.get::<Machine>(&order.worker(1)).is_none());
    let kept = bench.machine(&order.worker(2));
    assert_eq!((kept.state, kept.wanted, kept.membership), (MachineState::Kept, MachineWanted::Keep, None));
    assert_eq!(bench.world.state().nodes[&order.cluster_id()].len(), 1);
    bench.until("it settles", Duration::from_secs(5), |bench| states(bench) == Some(NodePoolState::Active)).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_blocked_says_by_what_and_ends() {
    let (mut bench, order) = running(2).await;
    bench.world.state().undrainable.insert("cn-hangzhou.10.200.16.11".into());
    let begun = bench.now();
    let task = orders::remove(&bench.store, &order, &[1], MachineWanted::Release, true, begun).await;
    bench.pass(Duration::from_secs(20)).await;
    let pool = bench.store.get::<NodePool>(&order.pool_id()).expect("the pool");
    assert_eq!((pool.state, bench.cluster(&order).state), (NodePoolState::Removing, ClusterState::Scaling));
    let (_, message) = bench.stage(&task, "drain");
    assert!(message.contains("PodDisruptionBudget default/web"), "{message}");
    assert_eq!(bench.told("DrainBlocked").await, 1);
    bench.until_task(&task, TaskState::Success).await;
    let lasted = Duration::try_from(bench.now().duration_since(begun)).expect("time goes forward");
    assert!(lasted >= LIMITS.drain && lasted < LIMITS.drain + Duration::from_secs(60), "{lasted:?}");
    assert_eq!(bench.told("DrainIncomplete").await, 1);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_gone_already_can_be_removed() {
    let (mut bench, order) = running(2).await;
    bench.world.state().undrainable.insert("cn-hangzhou.10.200.16.11".into());
    bench.stop().await;
    bench.world.kill_machine(&order.worker(1));
    let task = orders::remove(&bench.store, &order, &[1], MachineWanted::Release, true, bench.now()).await;
    bench.start();
    let begun = bench.now();
    bench.until_task(&task, TaskState::Success).await;
    assert!(bench.now().duration_since(begun).as_secs() < 60, "nobody waits for pods on a dead machine");
    bench.until_state(&order, ClusterState::Running).await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_goes_though_the_api_is_down_and_its_node_later() {
    let (mut bench, order) = running(2).await;
    bench.world.state().api_down.insert(order.cluster_id());
    let task = orders::remove(&bench.store, &order, &[1], MachineWanted::Release, true, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    assert_eq!(bench.world.state().nodes[&order.cluster_id()].len(), 2, "nobody could delete it");
    bench.world.state().api_down.clear();
    let gone = |bench: &Bench| bench.world.state().nodes[&order.cluster_id()].len() == 1;
    bench.until("the node without a machine is removed", Duration::from_secs(120), gone).await;
    bench
        .until("the state follows", Duration::from_secs(300), |bench| {
            bench.cluster(&order).state == ClusterState::Running
                && bench.machine(&order.worker(2)).not_ready_since.is_none()
        })
        .await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_shall_go_goes_after_its_machines() {
    let (mut bench, order) = running(1).await;
    bench
        .store
        .modify::<NodePool>(&order.pool_id(), |pool| {
            pool.deleting = true;
            true
        })
        .await
        .expect("changed");
    let task = orders::remove(&bench.store, &order, &[1], MachineWanted::Release, false, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench
        .until("the pool goes", Duration::from_secs(10), |bench| {
            bench.store.get::<NodePool>(&order.pool_id()).is_none()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_pool_reaches_its_nodes() {
    let (mut bench, order) = running(2).await;
    let pool = bench.store.get::<NodePool>(&order.pool_id()).expect("the pool");
    let mut changed = pool.value.clone();
    changed.labels.push(Tag { key: "tier".into(), value: "web".into() });
    let mut task = bench.task(&order.creation_task());
    task.id = "T-update".into();
    task.task_type = sampan_store::model::TaskType::NodepoolUpdate;
    task.state = TaskState::Running;
    task.node_pool_id = Some(order.pool_id());
    task.stages.clear();
    let mut batch = Batch::new();
    batch.update(pool.revision, &changed).create(&task);
    bench.store.commit(batch).await.expect("recorded");
    bench.until_task("T-update", TaskState::Success).await;
    for node in bench.world.state().nodes[&order.cluster_id()].values() {
        assert!(node.wanted.labels.contains(&("tier".into(), "web".into())), "{node:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_machine_serves_again() {
    let (mut bench, order) = running(2).await;
    let (id, before) = (order.worker(2), bench.machine(&order.worker(2)));
    for round in 0..3 {
        let begun = bench.now();
        let leave = orders::remove(&bench.store, &order, &[2], MachineWanted::Leave, false, begun).await;
        let is_kept = |bench: &Bench| bench.machine(&id).state == MachineState::Kept;
        bench.until("it is kept", Duration::from_secs(60), is_kept).await;
        assert!(!bench.world.runs(&id), "its container is gone");
        // What was on its disks is gone too.
        bench.world.state().specs.remove(&id);
        let again = orders::attach(&bench.store, &order, 2, bench.now()).await;
        bench.until_task(&again, TaskState::Success).await;
        bench.until_task(&leave, TaskState::Success).await;
        assert!(bench.now().duration_since(begun).as_secs() < 60, "round {round}: nothing waits for its former life");
        let machine = bench.machine(&id);
        assert_eq!((machine.state, machine.repairs, machine.ip), (MachineState::Running, 0, before.ip));
        assert!(bench.world.runs(&id));
        assert_eq!(bench.world.state().nodes[&order.cluster_id()].len(), 2);
        bench.quiet().await;
        bench.check_world().await;
        forget(&bench, &[&leave, &again]).await;
    }
}

/// The next round's tasks have the same names.
async fn forget(bench: &Bench, tasks: &[&str]) {
    let mut batch = Batch::new();
    tasks.iter().for_each(|id| {
        batch.delete::<Task>(id);
    });
    bench.store.commit(batch).await.expect("deleted");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_drain_is_told_once_however_long_the_rest_takes() {
    let (mut bench, order) = running(2).await;
    bench.world.state().undrainable.insert("cn-hangzhou.10.200.16.11".into());
    let task = orders::remove(&bench.store, &order, &[1], MachineWanted::Release, true, bench.now()).await;
    bench
        .world
        .provider
        .set_faults(FaultPlan::hook(|op, _| (op == "delete_machine").then_some(Fault::Fail(FaultPoint::Before))));
    bench.pass(LIMITS.drain * 2).await;
    assert_eq!(bench.told("DrainIncomplete").await, 1);
    bench.world.provider.set_faults(FaultPlan::none());
    bench.until_task(&task, TaskState::Success).await;
}
