//! Clusters are created, or not.

use std::time::Duration;

use sampan_provider::{MachineProvider as _, NetworkSpec};
use sampan_store::model::{
    ClusterState, Machine, MachineState, MachineWanted, NodePool, NodePoolState, ResultStatus, StageState, TaskState,
    Vpc,
};

use crate::{
    bench::Bench,
    orders::{self, Order},
    world::inventory,
};

#[tokio::test(start_paused = true)]
async fn a_cluster_comes_up_and_its_task_tells_how() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    let task = bench.task(&order.creation_task());
    assert_eq!(task.state, TaskState::Success);
    assert!(task.stages.iter().all(|stage| stage.state == StageState::Success && stage.finished.is_some()), "{task:?}");
    let results: Vec<(&str, ResultStatus)> = task.results.iter().map(|r| (r.data.as_str(), r.status)).collect();
    assert_eq!(results, [("i-0101", ResultStatus::Success), ("i-0102", ResultStatus::Success)]);
    let seconds = bench.now().duration_since(task.created).as_secs();
    assert!(seconds < 5, "nothing waits longer than it must: {seconds} s of virtual time");
    for index in 0..=2 {
        assert_eq!(bench.machine(&order.worker(index)).state, MachineState::Running);
    }
    let pool = bench.store.get::<NodePool>(&order.pool_id()).expect("the pool");
    assert_eq!(pool.state, NodePoolState::Active);
    bench.quiet().await;
    bench.check_world().await;
    assert_eq!(bench.told("Succeeded").await, 1);
    let log = bench.log(&order).await.join("\n");
    for step in ["has started", "network done", "control plane done", "is Ready", "components done", "succeeded after"]
    {
        assert!(log.contains(step), "{step} is not in the log:\n{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_settled_installation_is_left_alone() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.pass(Duration::from_secs(60)).await;
    let (calls, lines, cluster) = (bench.world.gate.calls(), bench.log(&order).await.len(), bench.cluster(&order));
    bench.pass(Duration::from_secs(600)).await;
    let calls = bench.world.gate.calls() - calls;
    assert!(calls < 10 * 25, "{calls} calls in ten minutes");
    assert_eq!(bench.log(&order).await.len(), lines, "nothing is told when nothing changes");
    assert_eq!(bench.cluster(&order), cluster, "nothing is written either");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_nodes_needs_no_dns() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 0));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn two_clusters_share_a_vpc() {
    let (mut bench, one) = (Bench::started().await, Order::new(1, 1));
    let two = Order { vpc_id: Some(one.vpc()), ..Order::new(2, 1) };
    orders::create(&bench.store, &one, bench.now()).await;
    orders::create(&bench.store, &two, bench.now()).await;
    // The addresses of the second must lie in the first one's VPC.
    for index in 0..=1 {
        let mut machine = bench.machine(&two.worker(index));
        machine.ip = format!("10.200.16.{}", 100 + index).parse().expect("an address");
        let mut batch = sampan_store::Batch::new();
        batch.put(&machine);
        bench.store.commit(batch).await.expect("changed");
    }
    bench.until_state(&one, ClusterState::Running).await;
    bench.until_state(&two, ClusterState::Running).await;
    let task = orders::delete(&bench.store, &one, Default::default(), bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    assert!(bench.store.get::<Vpc>(&one.vpc()).is_some(), "the other cluster is in it");
    let task = orders::delete(&bench.store, &two, Default::default(), bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    assert!(bench.store.get::<Vpc>(&one.vpc()).is_none());
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_takes_too_long_is_rolled_back() {
    let (mut bench, order) = (Bench::started().await, Order { timeout_minutes: 10, ..Order::new(1, 2) });
    bench.world.state().api_down.insert(order.cluster_id());
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Failed).await;
    let reason = bench.cluster(&order).state_reason.expect("a reason");
    assert!(reason.contains("control_plane: the API server does not answer"), "{reason}");
    let task = bench.task(&order.creation_task());
    assert_eq!((task.state, task.error.expect("an error").code.as_str()), (TaskState::Fail, "OperationTimeout"));
    assert!(task.results.iter().all(|result| result.status == ResultStatus::Failed));
    let released = |bench: &Bench| bench.store.list::<Machine>().is_empty() && bench.store.list::<Vpc>().is_empty();
    bench.until("everything is released", Duration::from_secs(60), released).await;
    bench.check_world().await;
    assert!(bench.world.provider.is_empty(), "nothing is left in the engine");
    assert_eq!(bench.cluster(&order).state, ClusterState::Failed, "it stays listed");
    // And it can be deleted.
    let task = orders::delete(&bench.store, &order, Default::default(), bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_can_never_succeed_fails_at_once() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 2));
    bench.world.state().refusal = Some("no such version".into());
    orders::create(&bench.store, &order, bench.now()).await;
    let begun = bench.now();
    bench.until_state(&order, ClusterState::Failed).await;
    assert!(bench.now().duration_since(begun).as_secs() < 10);
    assert!(bench.cluster(&order).state_reason.expect("a reason").contains("no such version"));
}

#[tokio::test(start_paused = true)]
async fn without_rollback_a_failed_creation_keeps_its_machines() {
    let order = Order { timeout_minutes: 10, disable_rollback: true, ..Order::new(1, 1) };
    let mut bench = Bench::started().await;
    bench.world.state().api_down.insert(order.cluster_id());
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Failed).await;
    bench.pass(Duration::from_secs(600)).await;
    assert!(bench.world.runs(&order.control_plane()) && bench.world.runs(&order.worker(1)));
    let worker = bench.machine(&order.worker(1));
    assert_eq!(worker.state, MachineState::Failed);
    assert!(worker.error.is_some());
    bench.check_world().await;
    let task = orders::delete(&bench.store, &order, Default::default(), bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    assert!(bench.world.provider.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rollback_gives_back_machines_that_were_there_before() {
    let (mut bench, order) = (Bench::started().await, Order { timeout_minutes: 10, ..Order::new(1, 1) });
    bench.world.state().api_down.insert(order.cluster_id());
    let before = bench.now();
    bench.pass(Duration::from_secs(10)).await;
    orders::create(&bench.store, &order, bench.now()).await;
    let id = order.worker(1);
    bench
        .store
        .modify::<Machine>(&id, |machine| {
            machine.created = before;
            true
        })
        .await
        .expect("changed");
    bench.until_state(&order, ClusterState::Failed).await;
    let kept =
        |bench: &Bench| bench.store.list::<Machine>().len() == 1 && bench.machine(&id).wanted == MachineWanted::Keep;
    bench.until("the machine is given back", Duration::from_secs(60), kept).await;
    let machine = bench.machine(&id);
    assert_eq!((machine.state, machine.membership), (MachineState::Kept, None));
    assert!(inventory(&bench.world).await.machines.is_empty(), "a kept machine has no container");
}

#[tokio::test(start_paused = true)]
async fn running_means_that_pods_can_be_made() {
    for workers in [0, 1] {
        let (mut bench, order) = (Bench::started().await, Order::new(1, workers));
        bench.world.state().without_account.insert(order.cluster_id());
        orders::create(&bench.store, &order, bench.now()).await;
        bench.pass(Duration::from_secs(60)).await;
        assert_eq!(bench.cluster(&order).state, ClusterState::Initial);
        let (_, message) = bench.stage(&order.creation_task(), "components");
        assert!(message.contains("default service account"), "{message}");
        bench.world.state().without_account.clear();
        bench.until_state(&order, ClusterState::Running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_cluster_moves_away_from_a_taken_port() {
    let (mut bench, one, two) = (Bench::started().await, Order::new(1, 1), Order::new(2, 1));
    bench.world.state().taken_ports.extend([one.port(), 20_000]);
    orders::create(&bench.store, &two, bench.now()).await;
    orders::create(&bench.store, &one, bench.now()).await;
    bench.until_state(&one, ClusterState::Running).await;
    bench.until_state(&two, ClusterState::Running).await;
    let port = |order: &Order| bench.cluster(order).network.api_public_port;
    assert_eq!(port(&two), Some(two.port()));
    assert_eq!(port(&one), Some(20_003), "the lowest that is free, and nobody else's");
    assert_eq!(bench.told("EndpointMoved").await, 1);
    bench.quiet().await;
    let held = bench.world.state().balancer.clone();
    let name = format!("{}/api/public", one.cluster_id());
    let listener = held.listeners.iter().find(|listener| listener.name == name).expect("its listener");
    assert_eq!(listener.listen.port(), 20_003);
}

#[tokio::test(start_paused = true)]
async fn a_taken_port_is_told_and_tried_again_when_no_other_is_free() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 1));
    bench.world.state().taken_ports.extend(20_000..=20_009);
    orders::create(&bench.store, &order, bench.now()).await;
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Initial);
    let (state, message) = bench.stage(&order.creation_task(), "endpoint");
    assert_eq!(state, StageState::Running);
    assert!(message.contains("address already in use"), "{message}");
    assert_eq!(bench.told("EndpointUnavailable").await, 1, "told once");
    bench.world.state().taken_ports.clear();
    bench.until_state(&order, ClusterState::Running).await;
    assert_eq!(bench.cluster(&order).network.api_public_port, Some(order.port()));
    assert!(bench.log(&order).await.iter().any(|line| line.contains("is open now")));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_running_keeps_its_port() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 1));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    // The host is started anew, and somebody else is faster.
    bench.world.state().taken_ports.insert(order.port());
    bench.kill().await;
    bench.start();
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(bench.cluster(&order).network.api_public_port, Some(order.port()));
    assert_eq!((bench.told("EndpointUnavailable").await, bench.told("EndpointMoved").await), (1, 0));
    assert!(bench.log(&order).await.iter().any(|line| line.contains("keeps its port")));
    bench.world.state().taken_ports.clear();
    bench.pass(Duration::from_secs(30)).await;
    assert!(bench.log(&order).await.iter().any(|line| line.contains("is open now")));
}

#[tokio::test(start_paused = true)]
async fn a_range_that_somebody_else_has_fails_a_creation_at_once() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 1));
    let neighbour = bench.world.provider.neighbour("other");
    let taken = NetworkSpec {
        name: "theirs".into(),
        cidr: "10.200.16.0/24".parse().expect("a range"),
        bridge: "br-theirs".into(),
        labels: Default::default(),
    };
    neighbour.ensure_network(&taken).await.expect("made");
    orders::create(&bench.store, &order, bench.now()).await;
    let begun = bench.now();
    bench.until_state(&order, ClusterState::Failed).await;
    assert!(bench.now().duration_since(begun).as_secs() < 10);
    let reason = bench.cluster(&order).state_reason.expect("a reason");
    assert!(reason.contains("10.200.16.0/20") && reason.contains("Create the cluster again"), "{reason}");
    let released = |bench: &Bench| bench.store.list::<Machine>().is_empty() && bench.store.list::<Vpc>().is_empty();
    bench.until("everything is released", Duration::from_secs(60), released).await;
    assert!(bench.world.provider.is_empty(), "nothing of ours is left");
}

#[tokio::test(start_paused = true)]
async fn a_network_in_the_way_of_a_vpc_in_use_is_waited_for() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 1));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.stop().await;
    let ours = bench.world.names.network(&order.vpc());
    for index in 0..=1 {
        bench.world.kill_machine(&order.worker(index));
        let name = bench.world.names.machine(&order.worker(index));
        bench.world.provider.delete_machine(&name).await.expect("deleted");
    }
    bench.world.provider.delete_network(&ours).await.expect("deleted");
    let neighbour = bench.world.provider.neighbour("other");
    let cidr = "10.200.16.0/24".parse().expect("a range");
    let taken = NetworkSpec { name: "theirs".into(), cidr, bridge: "br-theirs".into(), labels: Default::default() };
    neighbour.ensure_network(&taken).await.expect("made");
    bench.start();
    bench.pass(Duration::from_secs(120)).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    neighbour.delete_network("theirs").await.expect("deleted");
    let is_back = |bench: &Bench| (0..=1).all(|index| bench.world.runs(&order.worker(index)));
    bench.until("it comes back", Duration::from_secs(300), is_back).await;
}
