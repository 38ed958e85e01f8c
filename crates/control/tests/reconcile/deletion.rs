//! Clusters go, from any state.

use std::time::Duration;

use sampan_store::{
    Batch,
    model::{
        ClusterState, KubeCredential, Machine, MachineState, MachineWanted, NodePool, Retain, StageState, TaskState,
        VSwitch, Vpc,
    },
};

use crate::{
    bench::Bench,
    gate::Chance,
    orders::{self, Order},
};

fn is_deleted(bench: &Bench, order: &Order) -> bool {
    bench.cluster(order).state == ClusterState::Deleted
}

#[tokio::test(start_paused = true)]
async fn nothing_but_memories_is_left() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    let mut batch = Batch::new();
    let (cluster_id, user_name, expires) = (order.cluster_id(), "1234".into(), bench.now());
    batch.create(&KubeCredential { id: "c/p/k".into(), cluster_id, user_name, expires });
    bench.store.commit(batch).await.expect("recorded");
    let begun = bench.now();
    let task = orders::delete(&bench.store, &order, Retain::default(), begun).await;
    bench.until_task(&task, TaskState::Success).await;
    assert!(is_deleted(&bench, &order), "in the same transaction");
    assert!(bench.now().duration_since(begun).as_secs() < 30, "no drain, no waiting");
    assert!(bench.world.provider.is_empty());
    assert!(bench.store.list::<Machine>().is_empty() && bench.store.list::<NodePool>().is_empty());
    assert!(bench.store.list::<Vpc>().is_empty() && bench.store.list::<VSwitch>().is_empty());
    assert!(bench.store.list::<KubeCredential>().is_empty());
    let secret = bench.store.secret(&format!("cluster/{}/pki", order.cluster_id())).await.expect("readable");
    assert!(secret.is_none());
    assert!(bench.world.state().drained.is_empty());
    assert!(!bench.log(&order).await.is_empty() && bench.task(&order.creation_task()).state == TaskState::Success);
    bench.quiet().await;
    bench.check_world().await;
}

/// Docker may keep an endpoint of a container that it has removed.
#[tokio::test(start_paused = true)]
async fn a_network_that_the_engine_keeps_is_removed_later() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.world.provider.set_stale_endpoints(true);
    let begun = bench.now();
    let task = orders::delete(&bench.store, &order, Retain::default(), begun).await;
    bench.until_task(&task, TaskState::Success).await;
    assert!(is_deleted(&bench, &order));
    let seconds = bench.now().duration_since(begun).as_secs();
    assert!((60..120).contains(&seconds), "waited for a while, not for ever: {seconds} s");
    assert!(bench.store.get::<Vpc>(&order.vpc()).is_some(), "its range is taken as long as the network is there");
    bench.kill().await;
    bench.start();
    bench.pass(Duration::from_secs(900)).await;
    assert!(bench.store.get::<Vpc>(&order.vpc()).is_some());
    assert_eq!(bench.told("NetworkLeftOver").await, 1, "once");
    bench.world.provider.set_stale_endpoints(false);
    bench.until("the network is gone", Duration::from_secs(900), |bench| bench.store.list::<Vpc>().is_empty()).await;
    assert!(bench.world.provider.is_empty());
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn retained_machines_go_to_the_inventory() {
    for retain in
        [Retain { all: true, ..Retain::default() }, Retain { resources: vec!["i-0102".into()], ..Retain::default() }]
    {
        let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
        orders::create(&bench.store, &order, bench.now()).await;
        bench.until_state(&order, ClusterState::Running).await;
        let task = orders::delete(&bench.store, &order, retain.clone(), bench.now()).await;
        bench.until_task(&task, TaskState::Success).await;
        let kept: Vec<String> = bench.store.list::<Machine>().iter().map(|m| m.id.clone()).collect();
        assert_eq!(kept, if retain.all { vec!["i-0101", "i-0102"] } else { vec!["i-0102"] });
        for id in &kept {
            let machine = bench.machine(id);
            assert_eq!(
                (machine.wanted, machine.state, machine.membership),
                (MachineWanted::Keep, MachineState::Kept, None)
            );
        }
        assert!(bench.store.get::<Vpc>(&order.vpc()).is_some(), "their addresses are in it");
        bench.quiet().await;
        bench.check_world().await;
    }
}

#[tokio::test(start_paused = true)]
async fn deletion_at_any_moment_of_a_creation() {
    for moment in 0..40_u64 {
        let (mut bench, order) = (Bench::new(moment).await, Order::new(1, 2));
        bench.start();
        orders::create(&bench.store, &order, bench.now()).await;
        let mut chance = Chance::new(moment);
        let calls = chance.below(60);
        let begun = bench.world.gate.calls();
        bench
            .until("so far", Duration::from_secs(60), |bench| {
                bench.world.gate.calls() - begun >= calls || bench.cluster(&order).state == ClusterState::Running
            })
            .await;
        let task = orders::delete(&bench.store, &order, Retain::default(), bench.now()).await;
        bench.until_task(&task, TaskState::Success).await;
        assert!(bench.world.provider.is_empty(), "moment {moment}");
        assert_ne!(bench.task(&order.creation_task()).state, TaskState::Running, "moment {moment}");
        bench.quiet().await;
        bench.check_world().await;
    }
}

#[tokio::test(start_paused = true)]
async fn deletion_with_everything_missing() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.stop().await;
    use sampan_provider::MachineProvider as _;
    for index in 0..=2 {
        let name = bench.world.names.machine(&order.worker(index));
        bench.world.provider.delete_machine(&name).await.expect("deleted");
    }
    bench.world.provider.delete_network(&bench.world.names.network(&order.vpc())).await.expect("deleted");
    let mut batch = Batch::new();
    batch.delete::<NodePool>(&order.pool_id()).delete::<Machine>(&order.control_plane()).delete::<Vpc>(&order.vpc());
    bench.store.commit(batch).await.expect("deleted");
    let task = orders::delete(&bench.store, &order, Retain::default(), bench.now()).await;
    bench.start();
    bench.until_task(&task, TaskState::Success).await;
    assert!(bench.world.provider.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_cannot_end_says_why_and_ends_later() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 1));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.world.gate.set_engine_down(true);
    let task = orders::delete(&bench.store, &order, Retain::default(), bench.now()).await;
    bench.pass(Duration::from_secs(60)).await;
    let (state, message) = bench.stage(&task, "nodes");
    assert_eq!(state, StageState::Running);
    assert!(message.contains("does not answer"), "{message}");
    bench.until_state(&order, ClusterState::DeleteFailed).await;
    assert_eq!(bench.task(&task).state, TaskState::Fail);
    assert!(bench.cluster(&order).state_reason.is_some());
    bench.world.gate.set_engine_down(false);
    bench.until("it ends after all", Duration::from_secs(120), |bench| is_deleted(bench, &order)).await;
    assert!(bench.world.provider.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_server_left_behind_is_collected() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.kill().await;
    // As if the records' end had been written, and nothing else done.
    let mut batch = Batch::new();
    let mut cluster = bench.cluster(&order);
    cluster.state = ClusterState::Deleted;
    batch.put(&cluster).delete::<Vpc>(&order.vpc());
    (0..=2).for_each(|index| {
        batch.delete::<Machine>(&order.worker(index));
    });
    bench.store.commit(batch).await.expect("recorded");
    bench.start();
    bench.until("it is collected", Duration::from_secs(120), |bench| bench.world.provider.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_vpc_goes_with_the_last_machine_that_was_kept_in_it() {
    for (retained, stays) in
        [(vec!["i-0101".to_owned()], false), (vec!["i-0101".to_owned(), Order::new(1, 1).vpc()], true)]
    {
        let (mut bench, order) = (Bench::started().await, Order::new(1, 1));
        orders::create(&bench.store, &order, bench.now()).await;
        bench.until_state(&order, ClusterState::Running).await;
        let retain = Retain { resources: retained, ..Retain::default() };
        let task = orders::delete(&bench.store, &order, retain, bench.now()).await;
        bench.until_task(&task, TaskState::Success).await;
        bench.pass(Duration::from_secs(700)).await;
        assert!(bench.store.get::<Vpc>(&order.vpc()).is_some(), "the machine's address is in it");
        let mut batch = Batch::new();
        batch.delete::<Machine>(&order.worker(1));
        bench.store.commit(batch).await.expect("deleted");
        bench.pass(Duration::from_secs(700)).await;
        assert_eq!(bench.store.get::<Vpc>(&order.vpc()).is_some(), stays);
        assert_eq!(bench.store.list::<VSwitch>().is_empty(), !stays);
        assert_eq!(bench.world.provider.is_empty(), !stays);
    }
}
