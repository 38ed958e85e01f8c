//! Swarm clusters: what is different about them.

use std::{net::SocketAddr, time::Duration};

use sampan_store::model::{Cluster, ClusterState, Machine, MachineState, MachineWanted, Retain, StageState, TaskState};

use crate::{
    bench::{Bench, LIMITS},
    orders::{self, Order},
    world::inventory,
};

async fn running(nodes: u8) -> (Bench, Order) {
    let (mut bench, order) = (Bench::started().await, Order::swarm(1, nodes));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    (bench, order)
}

fn backends(bench: &Bench, order: &Order, name: &str) -> Vec<String> {
    let balancer = bench.world.state().balancer.clone();
    let name = format!("{}/{name}", order.cluster_id());
    let listener = balancer.listeners.into_iter().find(|listener| listener.name == name);
    let listener = listener.expect("such a listener");
    listener.backends.iter().map(SocketAddr::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cluster_comes_up_with_its_doors() {
    let (bench, order) = running(2).await;
    assert_eq!(bench.cluster(&order).version, "20.10.24", "as its nodes say");
    let task = bench.task(&order.creation_task());
    assert!(task.stages.iter().all(|stage| stage.state == StageState::Success), "{task:?}");
    assert_eq!(task.results.len(), 2, "the master's machine is no node");
    assert_eq!(backends(&bench, &order, "api/public"), ["10.200.16.10:2376"]);
    for routing in ["routing/public", "routing/internal"] {
        assert_eq!(backends(&bench, &order, routing), ["10.200.16.11:9080", "10.200.16.12:9080"]);
    }
    let volumes = inventory(&bench.world).await.volumes;
    assert!(volumes.contains(&bench.world.names.shared_volume(&order.cluster_id())), "{volumes:?}");
    assert_eq!(volumes.iter().filter(|volume| volume.ends_with("-docker")).count(), 3);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_is_told_to_the_master_first() {
    let (mut bench, order) = running(3).await;
    let task = orders::remove(&bench.store, &order, &[1], MachineWanted::Release, true, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench.quiet().await;
    assert_eq!(bench.world.state().drained, ["cn-hangzhou.10.200.16.11"]);
    assert_eq!(backends(&bench, &order, "routing/public"), ["10.200.16.12:9080", "10.200.16.13:9080"]);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_leave_in_order_leaves_all_the_same() {
    let (mut bench, order) = running(2).await;
    bench.world.state().undrainable.insert("cn-hangzhou.10.200.16.11".into());
    let task = orders::remove(&bench.store, &order, &[1], MachineWanted::Leave, true, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    assert_eq!(bench.machine(&order.worker(1)).wanted, MachineWanted::Keep);
    assert_eq!(bench.told("DrainIncomplete").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_reset_node_is_new_and_has_its_place() {
    let (mut bench, order) = running(2).await;
    let before = bench.machine(&order.worker(1));
    let made = |bench: &Bench| {
        let name = bench.world.names.machine(&order.worker(1));
        bench.world.provider.machines().iter().find(|machine| machine.spec.name == name).map(|machine| machine.starts)
    };
    bench.world.kill_machine(&order.worker(1));
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!(made(&bench), Some(2), "it was started again");
    let task = orders::reset(&bench.store, &order, 1, bench.now()).await;
    bench
        .until("it leaves", Duration::from_secs(60), |bench| bench.cluster(&order).state == ClusterState::Scaling)
        .await;
    bench.until_task(&task, TaskState::Success).await;
    let after = bench.machine(&order.worker(1));
    assert_eq!((after.state, after.wanted, after.ip), (MachineState::Running, MachineWanted::Run, before.ip));
    let index = |machine: &Machine| machine.membership.as_ref().and_then(|member| member.node_index);
    assert_eq!((index(&after), after.repairs, made(&bench)), (index(&before), 0, Some(1)));
    assert_eq!(bench.world.state().drained, ["cn-hangzhou.10.200.16.11"]);
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_node_that_is_removed_ends_the_reset() {
    let (mut bench, order) = running(2).await;
    bench.world.state().sick.insert(order.worker(1));
    let reset = orders::reset(&bench.store, &order, 1, bench.now()).await;
    let id = order.worker(1);
    bench
        .until("it joins again", Duration::from_secs(600), |bench| bench.machine(&id).wanted == MachineWanted::Run)
        .await;
    let removal = orders::remove(&bench.store, &order, &[1], MachineWanted::Release, true, bench.now()).await;
    bench.until_task(&reset, TaskState::Fail).await;
    bench.until_task(&removal, TaskState::Success).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn connections_go_to_nodes_in_service() {
    let (mut bench, order) = running(2).await;
    bench.world.state().sick.insert(order.worker(1));
    bench.world.stir();
    bench
        .until("only the other one", Duration::from_secs(60), |bench| {
            backends(bench, &order, "routing/public") == ["10.200.16.12:9080"]
        })
        .await;
    bench.world.state().sick.clear();
    bench.world.stir();
    bench
        .until("both again", Duration::from_secs(60), |bench| backends(bench, &order, "routing/public").len() == 2)
        .await;
    bench.world.state().sick.extend([order.worker(1), order.worker(2)]);
    bench.pass(Duration::from_secs(10)).await;
    assert_eq!(backends(&bench, &order, "routing/public").len(), 2, "any is better than none");
}

#[tokio::test(start_paused = true)]
async fn applications_get_listeners_that_they_keep() {
    let (mut bench, order) = running(1).await;
    let wanted = vec![("db".to_owned(), 3306), ("web".to_owned(), 80)];
    bench.world.state().listeners.insert(order.cluster_id(), wanted);
    bench.world.stir();
    bench
        .until("it has one", Duration::from_secs(120), |bench| {
            bench.cluster(&order).swarm.is_some_and(|options| options.listeners.len() == 1)
        })
        .await;
    bench.quiet().await;
    let port = |bench: &Bench| bench.cluster(&order).swarm.map(|options| options.listeners["db"].public_port);
    let first = port(&bench);
    assert!(first.is_some() && first != Some(order.port()) && first != Some(order.routing_port()), "{first:?}");
    assert_eq!(backends(&bench, &order, "tcp/db/public"), ["10.200.16.11:3306"]);
    assert_eq!(backends(&bench, &order, "tcp/db/internal"), ["10.200.16.11:3306"]);
    assert_eq!(bench.told("ListenerRefused").await, 1, "the port of HTTP is taken");
    bench.kill().await;
    bench.start();
    bench.pass(Duration::from_secs(61)).await;
    assert_eq!(port(&bench), first);
    bench.world.state().listeners.clear();
    bench.world.stir();
    bench
        .until("it has none", Duration::from_secs(120), |bench| {
            bench.cluster(&order).swarm.is_some_and(|options| options.listeners.is_empty())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_is_left_before_anybody_knows_it() {
    let (mut bench, order) = (Bench::started().await, Order::swarm(1, 1));
    bench.world.state().taken_ports.insert(order.routing_port());
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    let cluster: Cluster = bench.cluster(&order);
    let options = cluster.swarm.expect("a Swarm cluster");
    assert_eq!(cluster.network.api_public_port, Some(order.port()));
    assert_ne!(options.routing_public_port, Some(order.routing_port()));
    assert_eq!(bench.told("EndpointMoved").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_fails_gives_everything_back() {
    let (mut bench, order) = (Bench::started().await, Order::swarm(1, 2));
    bench.world.state().sick.insert(order.worker(2));
    orders::create(&bench.store, &Order { timeout_minutes: 5, ..order.clone() }, bench.now()).await;
    bench.until_state(&order, ClusterState::Failed).await;
    let reason = bench.cluster(&order).state_reason.expect("a reason");
    assert!(reason.contains("1 of 2 nodes"), "{reason}");
    bench.pass(Duration::from_secs(30)).await;
    let found = inventory(&bench.world).await;
    assert!(found.machines.is_empty() && found.volumes.is_empty() && found.networks.is_empty(), "{found:?}");
    assert!(bench.world.state().balancer.listeners.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_keeps_ending_is_replaced_at_its_place() {
    let (mut bench, order) = running(2).await;
    let before = bench.machine(&order.worker(1));
    for _ in 0..=LIMITS.repairs_max {
        let id = order.worker(1);
        let serves = |bench: &Bench| bench.world.runs(&id) || bench.store.get::<Machine>(&id).is_none();
        bench.until("it runs or is gone", Duration::from_secs(600), serves).await;
        if bench.world.runs(&order.worker(1)) {
            bench.world.kill_machine(&order.worker(1));
            bench.pass(Duration::from_secs(10)).await;
        }
    }
    let id = order.worker(1);
    bench.until("it is given up", Duration::from_secs(900), |bench| bench.store.get::<Machine>(&id).is_none()).await;
    bench.pass(Duration::from_secs(30)).await;
    let machines = bench.store.list_of::<Machine>(&order.cluster_id());
    let after = machines.iter().find(|machine| machine.ip == before.ip).expect("a successor").value.clone();
    let place = |machine: &Machine| machine.membership.as_ref().map(|m| (m.node_name.clone(), m.node_index));
    assert_eq!((place(&after), after.state), (place(&before), MachineState::Running));
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_deleted_cluster() {
    let (mut bench, order) = running(2).await;
    let task = orders::delete(&bench.store, &order, Retain::default(), bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench.quiet().await;
    let found = inventory(&bench.world).await;
    assert!(found.machines.is_empty() && found.volumes.is_empty() && found.networks.is_empty(), "{found:?}");
    assert!(bench.store.secret(&format!("cluster/{}/pki", order.cluster_id())).await.expect("read").is_none());
    bench.check_world().await;
}
