//! Clusters are stopped and started, their certificates renewed, their data backed up and put back.

use std::time::Duration;

use sampan_store::model::{Cluster, ClusterState, Health, MachineState, Retain, StageState, TaskState};

use crate::{
    bench::Bench,
    orders::{self, Order},
    world::{CERTIFICATES, LIFETIME, RENEW_BEFORE},
};

async fn running(workers: u8) -> (Bench, Order) {
    let (mut bench, order) = (Bench::started().await, Order::new(1, workers));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    (bench, order)
}

async fn stopped(workers: u8) -> (Bench, Order) {
    let (mut bench, order) = running(workers).await;
    let task = orders::power(&bench.store, &order, true, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench.quiet().await;
    (bench, order)
}

fn nothing_runs(bench: &Bench, order: &Order) -> bool {
    (0..=order.workers).all(|index| !bench.world.runs(&order.worker(index)))
}

/// Names of the calls that ended and started machines, in order.
fn order_of(bench: &Bench, op: &str) -> Vec<String> {
    let calls = bench.world.provider.calls().into_iter().filter(|call| call.op == op && call.fault.is_none());
    calls.filter_map(|call| bench.world.names.id_of(&call.name).map(str::to_owned)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_workers_first_and_frees_everything() {
    let (bench, order) = stopped(2).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Stopped);
    assert!(nothing_runs(&bench, &order));
    let stops = order_of(&bench, "stop_machine");
    assert_eq!((stops.len(), stops.last()), (3, Some(&order.control_plane())), "{stops:?}");
    assert!(bench.world.state().balancer.listeners.is_empty(), "nobody listens for it");
    for index in 0..=2 {
        let machine = bench.machine(&order.worker(index));
        assert_eq!((machine.state, machine.repairs), (MachineState::Stopped, 0));
    }
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_cluster_stays_stopped() {
    let (mut bench, order) = stopped(2).await;
    bench.pass(Duration::from_secs(3600)).await;
    // Somebody starts a container of it by hand; the server is started anew.
    bench.world.provider.restart_engine(false);
    bench.kill().await;
    bench.start();
    bench.pass(Duration::from_secs(600)).await;
    assert!(nothing_runs(&bench, &order));
    assert_eq!(bench.cluster(&order).state, ClusterState::Stopped);
    assert_eq!(bench.told("MachineExited").await, 0, "nothing is repaired");
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_brings_back_the_same_cluster_control_plane_first() {
    let (mut bench, order) = stopped(2).await;
    let before: Vec<_> = bench.world.provider.machines().into_iter().map(|machine| machine.spec).collect();
    bench.world.state().api_down.insert(order.cluster_id());
    let task = orders::power(&bench.store, &order, false, bench.now()).await;
    bench.pass(Duration::from_secs(30)).await;
    assert!(bench.world.runs(&order.control_plane()));
    assert!(!bench.world.runs(&order.worker(1)), "workers wait for the API");
    assert_eq!(bench.stage(&task, "nodes").0, StageState::Waiting);
    assert_eq!(bench.cluster(&order).state, ClusterState::Updating);
    bench.world.state().api_down.clear();
    bench.until_task(&task, TaskState::Success).await;
    bench.until_state(&order, ClusterState::Running).await;
    assert_eq!(bench.cluster(&order).power, None);
    let after: Vec<_> = bench.world.provider.machines().into_iter().map(|machine| machine.spec).collect();
    assert_eq!(before, after);
    for index in 0..=2 {
        assert_eq!(bench.machine(&order.worker(index)).repairs, 0, "a start is no repair");
    }
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_does_not_come_up_in_time_fails_and_is_still_tried() {
    let (mut bench, order) = stopped(1).await;
    bench.world.state().api_down.insert(order.cluster_id());
    let task = orders::power(&bench.store, &order, false, bench.now()).await;
    bench.until_task(&task, TaskState::Fail).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::UpdatingFailed);
    assert!(bench.cluster(&order).state_reason.is_some());
    bench.world.state().api_down.clear();
    bench
        .until("it comes up all the same", Duration::from_secs(600), |bench| {
            bench.cluster(&order).power.is_none() && bench.machine(&order.worker(1)).state == MachineState::Running
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_cluster_can_be_deleted() {
    let (mut bench, order) = stopped(2).await;
    let task = orders::delete(&bench.store, &order, Retain::default(), bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench.quiet().await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Deleted);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_before_they_end_and_reach_every_machine() {
    let (mut bench, order) = running(2).await;
    let held = |bench: &Bench| -> Vec<String> {
        let state = bench.world.state();
        let spec = |index| state.specs[&order.worker(index)].files.iter().find(|file| file.path == CERTIFICATES);
        (0..=2).map(|index| spec(index).expect("certificates").content.clone()).collect()
    };
    bench.world.move_clock(LIFETIME - RENEW_BEFORE - Duration::from_secs(86_400));
    bench.pass(Duration::from_secs(1300)).await;
    assert_eq!((held(&bench), bench.told("CertificatesRenewed").await), (vec!["1".to_owned(); 3], 0));
    bench.world.move_clock(Duration::from_secs(2 * 86_400));
    bench.pass(Duration::from_secs(1300)).await;
    assert_eq!((held(&bench), bench.told("CertificatesRenewed").await), (vec!["2".to_owned(); 3], 1));
    // A server that comes late, and one that is killed all the time, renew them all the same.
    bench.world.move_clock(LIFETIME);
    bench.world.gate.kill_after(3);
    bench.until("they are issued", Duration::from_secs(3600), |bench| held(bench) == ["3", "3", "3"]).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_authority_is_told_once() {
    let (mut bench, order) = running(1).await;
    let end = bench.now() + Duration::from_secs(80 * 86_400);
    bench.world.state().lifecycle.ending.insert(order.cluster_id(), end);
    bench.pass(Duration::from_secs(3000)).await;
    assert_eq!(bench.told("AuthorityEnds").await, 1);
    let conditions = bench.cluster(&order).conditions;
    let certificates = conditions.iter().find(|condition| condition.component == "certificates");
    let certificates = certificates.expect("a condition");
    assert_eq!(certificates.health, Health::Degraded);
    assert!(certificates.message.contains("cluster-ca"), "{certificates:?}");
}

#[tokio::test(start_paused = true)]
async fn conditions_say_since_when_the_api_is_down() {
    let (mut bench, order) = running(1).await;
    bench.pass(Duration::from_secs(120)).await;
    let api = |bench: &Bench| {
        let conditions = bench.cluster(&order).conditions;
        conditions.into_iter().find(|condition| condition.component == "api_server").expect("a condition")
    };
    assert_eq!(api(&bench).health, Health::Healthy);
    bench.world.state().api_down.insert(order.cluster_id());
    let down = bench.now();
    bench.pass(Duration::from_secs(100)).await;
    let seen = api(&bench);
    assert_eq!(seen.health, Health::Unhealthy);
    assert!(seen.since >= down && seen.since.duration_since(down).as_secs() <= 61, "{seen:?}");
    assert!(seen.message.contains("does not answer"), "{seen:?}");
    assert_eq!(bench.told("ComponentUnhealthy").await, 1);
    bench.world.state().api_down.clear();
    bench.pass(Duration::from_secs(100)).await;
    assert_eq!(bench.told("ComponentHealthy").await, 1);
}

async fn backed_up(workers: u8) -> (Bench, Order) {
    let (mut bench, order) = running(workers).await;
    let task = orders::backup(&bench.store, &order, "manual-1", bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    assert_eq!(bench.world.shelf.get(&order.cluster_id(), "manual-1").expect("a backup").revision, 7);
    (bench, order)
}

#[tokio::test(start_paused = true)]
async fn a_backup_waits_for_the_api_and_fails_in_words() {
    let (mut bench, order) = running(1).await;
    bench.world.state().api_down.insert(order.cluster_id());
    let task = orders::backup(&bench.store, &order, "manual-1", bench.now()).await;
    bench.until_task(&task, TaskState::Fail).await;
    let error = bench.task(&task).error.expect("an error");
    assert!(error.message.contains("does not answer"), "{error:?}");
    assert_eq!(bench.world.shelf.list(&order.cluster_id()), []);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_goes_back_to_a_backup() {
    let (mut bench, order) = backed_up(2).await;
    let task = orders::restore(&bench.store, &order, "manual-1", bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    assert_eq!(bench.world.state().lifecycle.replaced[&order.cluster_id()], (1, 0));
    let cluster = bench.cluster(&order);
    assert_eq!((cluster.restore, cluster.restores), (None, 1));
    for stage in bench.task(&task).stages {
        assert_eq!(stage.state, StageState::Success, "{}", stage.name);
    }
    assert_eq!(bench.machine(&order.control_plane()).repairs, 0);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_backup_changes_nothing() {
    let (mut bench, order) = backed_up(1).await;
    let path = bench.world.shelf.path(&order.cluster_id(), "manual-1").expect("a path");
    let mut content = std::fs::read(&path).expect("a file");
    *content.last_mut().expect("content") ^= 1;
    std::fs::write(&path, content).expect("written");
    let task = orders::restore(&bench.store, &order, "manual-1", bench.now()).await;
    bench.until_task(&task, TaskState::Fail).await;
    bench.quiet().await;
    assert!(bench.task(&task).error.expect("an error").message.contains("damaged"));
    assert_eq!(bench.world.state().lifecycle.replaced.get(&order.cluster_id()), None);
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_return_that_fails_half_way_is_taken_back() {
    for api_stays_down in [false, true] {
        let (mut bench, order) = backed_up(1).await;
        // Either the data cannot be made, or the API does not come up with it.
        bench.world.state().lifecycle.unusable_backups = !api_stays_down;
        bench.world.state().lifecycle.spoiled_backups = api_stays_down;
        let task = orders::restore(&bench.store, &order, "manual-1", bench.now()).await;
        bench.until_task(&task, TaskState::Fail).await;
        bench.quiet().await;
        let error = bench.task(&task).error.expect("an error").message;
        let expected = if api_stays_down { "did not end in time" } else { "of another world" };
        assert!(error.contains(expected), "{error}");
        let replaced = bench.world.state().lifecycle.replaced.get(&order.cluster_id()).copied();
        assert_eq!(replaced, api_stays_down.then_some((1, 1)));
        let cluster = bench.cluster(&order);
        assert_eq!((cluster.state, cluster.restore, cluster.restores), (ClusterState::Running, None, 0));
        bench.check_world().await;
    }
}

#[tokio::test(start_paused = true)]
async fn clusters_of_pro_are_backed_up_from_time_to_time() {
    let (mut bench, order) = running(1).await;
    bench.pass(Duration::from_secs(7 * 3600)).await;
    assert_eq!(bench.world.shelf.list(&order.cluster_id()), [], "it is not promised any");
    let current = bench.store.get::<Cluster>(&order.cluster_id()).expect("there");
    let pro = Cluster { spec: "ack.pro.small".into(), ..current.value.clone() };
    let mut batch = sampan_store::Batch::new();
    batch.update(current.revision, &pro);
    bench.store.commit(batch).await.expect("recorded");
    let count = |bench: &Bench| bench.world.shelf.list(&order.cluster_id()).len();
    bench.until("the first one", Duration::from_secs(120), |bench| count(bench) == 1).await;
    bench.pass(Duration::from_secs(5 * 3600)).await;
    assert_eq!(count(&bench), 1, "the next is not due");
    bench.pass(Duration::from_secs(20 * 3600)).await;
    assert_eq!(count(&bench), 2, "older ones go");
    bench.world.state().api_down.insert(order.cluster_id());
    bench.pass(Duration::from_secs(8 * 3600)).await;
    assert_eq!(bench.told("BackupFailed").await, 1, "once");
    bench.world.state().api_down.clear();
    bench.until("it is made", Duration::from_secs(600), |bench| count(bench) == 2).await;
}
