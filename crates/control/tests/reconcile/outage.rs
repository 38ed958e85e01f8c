//! Parts of the world do not answer for a while.

use std::time::Duration;

use sampan_store::model::{ClusterState, StageState};

use crate::{
    bench::Bench,
    orders::{self, Order},
};

#[tokio::test(start_paused = true)]
async fn a_creation_survives_an_engine_that_is_away() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    bench.world.gate.set_engine_down(true);
    orders::create(&bench.store, &order, bench.now()).await;
    bench.pass(Duration::from_secs(300)).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Initial);
    let (state, message) = bench.stage(&order.creation_task(), "network");
    assert_eq!(state, StageState::Running);
    assert!(message.contains("does not answer"), "{message}");
    assert_eq!(bench.told("EngineUnavailable").await, 1, "told once, however often it was tried");
    bench.world.gate.set_engine_down(false);
    let back = bench.now();
    bench.until_state(&order, ClusterState::Running).await;
    assert!(bench.now().duration_since(back).as_secs() < 60, "the longest pause is half a minute");
    assert!(bench.log(&order).await.contains(&"EngineUnavailable is over".to_owned()));
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_cluster_does_not_mind() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.world.gate.set_engine_down(true);
    bench.pass(Duration::from_secs(600)).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    bench.world.gate.set_engine_down(false);
    bench.pass(Duration::from_secs(120)).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    for index in 0..=2 {
        assert_eq!(bench.machine(&order.worker(index)).repairs, 0, "nothing was touched");
    }
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn everything_converges_though_a_fifth_of_all_calls_fail() {
    for seed in 0..20 {
        let (mut bench, order) = (Bench::new(seed).await, Order::new(1, 2));
        bench.start();
        bench.world.gate.set_faults(200);
        orders::create(&bench.store, &order, bench.now()).await;
        bench.until_state(&order, ClusterState::Running).await;
        let task = orders::scale_out(&bench.store, &order, 3..4, bench.now()).await;
        bench.until_task(&task, sampan_store::model::TaskState::Success).await;
        let task = orders::delete(&bench.store, &order, Default::default(), bench.now()).await;
        bench.until_task(&task, sampan_store::model::TaskState::Success).await;
        bench.world.gate.set_faults(0);
        bench.pass(Duration::from_secs(600)).await;
        assert!(bench.world.provider.is_empty(), "seed {seed}");
        bench.check_world().await;
    }
}
