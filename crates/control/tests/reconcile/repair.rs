//! Machines break and are repaired.

use std::time::Duration;

use sampan_store::model::{ClusterState, Machine, MachineState};

use crate::{
    bench::{Bench, LIMITS},
    orders::{self, Order},
};

async fn running(workers: u8) -> (Bench, Order) {
    let (mut bench, order) = (Bench::started().await, Order::new(1, workers));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    (bench, order)
}

fn in_service(bench: &Bench, id: &str) -> bool {
    let machine = bench.machine(id);
    machine.state == MachineState::Running && machine.not_ready_since.is_none() && bench.world.runs(id)
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_is_started_again() {
    let (mut bench, order) = running(2).await;
    let id = order.worker(1);
    bench.world.kill_machine(&id);
    bench.until("it is repaired", Duration::from_secs(60), |bench| in_service(bench, &id)).await;
    assert_eq!(bench.machine(&id).repairs, 1);
    assert_eq!(bench.told("MachineExited").await, 1);
    bench.check_world().await;
    bench.pass(Duration::from_secs(900)).await;
    assert_eq!(bench.machine(&id).repairs, 0, "after a while in service it counts anew");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_died_while_the_server_was_down_is_found() {
    let (mut bench, order) = running(1).await;
    bench.stop().await;
    bench.world.kill_machine(&order.worker(1));
    bench.world.kill_machine(&order.control_plane());
    bench.start();
    bench
        .until("both are repaired", Duration::from_secs(60), |bench| {
            in_service(bench, &order.worker(1)) && in_service(bench, &order.control_plane())
        })
        .await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_is_survived_at_the_same_addresses() {
    let (mut bench, order) = running(3).await;
    let before: Vec<_> = bench.world.provider.machines().into_iter().map(|m| m.spec).collect();
    bench.world.provider.restart_engine(true);
    bench
        .until("all are back", Duration::from_secs(60), |bench| (0..=3).all(|i| in_service(bench, &order.worker(i))))
        .await;
    let after: Vec<_> = bench.world.provider.machines().into_iter().map(|m| m.spec).collect();
    assert_eq!(before, after);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_not_ready_for_too_long_is_restarted_then_replaced() {
    let (mut bench, order) = running(2).await;
    let id = order.worker(1);
    let old = bench.machine(&id);
    bench.world.state().sick.insert(id.clone());
    bench.world.stir();
    bench
        .until("it is noticed", Duration::from_secs(90), |bench| {
            bench.machine(&id).node_status.as_deref() == Some("NotReady")
        })
        .await;
    assert_eq!(bench.told("NodeNotReady").await, 1);
    let limit = LIMITS.not_ready * (LIMITS.repairs_max + 2);
    bench.until("it is given up", limit, |bench| bench.store.get::<Machine>(&id).is_none()).await;
    assert_eq!(bench.told("MachineReplaced").await, 1);
    let is_new = |machine: &Machine| machine.is_worker_of(&order.cluster_id()) && machine.id != order.worker(2);
    let new = bench.store.list::<Machine>().iter().find(|m| is_new(m)).expect("a successor").value.clone();
    assert_eq!((new.ip, &new.mac, &new.membership), (old.ip, &old.mac, &old.membership), "at the same addresses");
    bench.until("the successor is in service", Duration::from_secs(60), |bench| in_service(bench, &new.id)).await;
    assert_eq!(bench.machine(&new.id).repairs, 0);
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_whose_agent_is_silent_is_restarted() {
    for (index, patience) in [(0, LIMITS.not_ready), (1, LIMITS.not_ready * 5)] {
        let (mut bench, order) = running(1).await;
        let id = order.worker(index);
        bench.world.state().silent.insert(id.clone());
        bench.world.stir();
        let begun = bench.now();
        bench.until("it is restarted", patience * 2, |bench| bench.machine(&id).repairs == 1).await;
        let waited = Duration::try_from(bench.now().duration_since(begun)).expect("time goes forward");
        assert!(waited >= patience, "a node that is Ready all the same is given more time: {waited:?}");
        bench.world.state().silent.clear();
        bench.until("it is back", Duration::from_secs(300), |bench| in_service(bench, &id)).await;
        assert_eq!(bench.told("AgentSilent").await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_keeps_dying_is_never_given_up_and_not_talked_about_for_ever() {
    let (mut bench, order) = running(1).await;
    let id = order.control_plane();
    for _ in 0..12 {
        bench.until("it runs", Duration::from_secs(120), |bench| bench.world.runs(&id)).await;
        bench.world.kill_machine(&id);
    }
    bench.until("it is back", Duration::from_secs(300), |bench| in_service(bench, &id)).await;
    assert_eq!(bench.machine(&id).repairs, 12);
    assert_eq!(bench.told("MachineExited").await, 5, "1, 2, 3, 4, 8");
    bench.until("its workers too", Duration::from_secs(300), |bench| in_service(bench, &order.worker(1))).await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_somebody_removed_is_made_again() {
    let (mut bench, order) = running(1).await;
    let (id, name) = (order.worker(1), bench.world.names.machine(&order.worker(1)));
    use sampan_provider::MachineProvider as _;
    bench.world.provider.delete_machine(&name).await.expect("deleted");
    bench.world.state().specs.remove(&id);
    bench.world.stir();
    bench.until("it is back", Duration::from_secs(60), |bench| in_service(bench, &id)).await;
    assert_eq!(bench.told("MachineLost").await, 1);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_image_renews_the_control_plane_and_leaves_the_workers() {
    let (mut bench, order) = running(2).await;
    let image_of = |bench: &Bench, id: &str| {
        let name = bench.world.names.machine(id);
        let machines = bench.world.provider.machines();
        machines.into_iter().find(|machine| machine.spec.name == name).map(|machine| machine.spec.image)
    };
    // The first of the new servers dies in the middle of it.
    for server in 1..=2 {
        bench.stop().await;
        bench.node_image = "sampan-node-of-today".into();
        bench.start();
        if server == 1 {
            bench.kill_after_looks(20);
            bench.quiet().await;
            bench.kill().await;
            bench.start();
        }
    }
    let id = order.control_plane();
    bench.until("it is made anew", Duration::from_secs(300), |bench| in_service(bench, &id)).await;
    assert_eq!(image_of(&bench, &id).as_deref(), Some("sampan-node-of-today"));
    assert_eq!(image_of(&bench, &order.worker(1)).as_deref(), Some("sampan-node"));
    assert!(bench.told("MachineRenewed").await >= 1);
    bench
        .until("its workers stay in service", Duration::from_secs(300), |bench| in_service(bench, &order.worker(1)))
        .await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_start_is_not_disturbed() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    bench.world.state().api_down.insert(order.cluster_id());
    orders::create(&bench.store, &order, bench.now()).await;
    bench.pass(LIMITS.not_ready * 4).await;
    assert!((0..=2).all(|index| bench.machine(&order.worker(index)).repairs == 0), "{}", bench.describe().await);
    bench.world.state().api_down.clear();
    bench.until_state(&order, ClusterState::Running).await;
}
