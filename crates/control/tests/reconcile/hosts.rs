//! Hosts that people bring, and bare ones that containers play.

use std::{net::Ipv4Addr, time::Duration};

use sampan_store::{
    Batch,
    model::{ClusterState, HostMachine, HostReport, Machine, MachineState, MachineWanted, Task, TaskState, TaskType},
};

use crate::{
    bench::Bench,
    orders::{self, Order},
};

async fn running() -> (Bench, Order) {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 1));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    (bench, order)
}

/// What the use case records when a host joins, as machine number 5.
async fn join(bench: &Bench, order: &Order, bare: bool) -> (String, String) {
    let scale = orders::scale_out(&bench.store, order, 5..6, bench.now()).await;
    let id = order.worker(5);
    let task = Task { task_type: TaskType::ClusterAttach, ..bench.task(&scale) };
    let report = Some(HostReport { hostname: "db7".into(), ..HostReport::default() });
    let host = Some(HostMachine { bare, report, on_link: true, left: false });
    let mut batch = Batch::new();
    batch.put(&task).put(&Machine { host, source: "ess_attach".into(), ..bench.machine(&id) });
    bench.store.commit(batch).await.expect("written");
    (id, scale)
}

#[tokio::test(start_paused = true)]
async fn a_host_is_waited_for_and_nothing_is_made_for_it() {
    let (mut bench, order) = running().await;
    bench.stop().await;
    let (id, task) = join(&bench, &order, false).await;
    bench.start();
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(bench.machine(&id).state, MachineState::Pending);
    assert!(bench.world.provider.machines().iter().all(|machine| !machine.spec.name.ends_with(&id)));
    bench.world.state().hosts.insert(id.clone());
    bench.world.stir();
    bench.until_task(&task, TaskState::Success).await;
    assert_eq!(bench.machine(&id).state, MachineState::Running);
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_sick_host_is_restarted_and_never_replaced() {
    let (mut bench, order) = running().await;
    bench.stop().await;
    let (id, task) = join(&bench, &order, false).await;
    bench.world.state().hosts.insert(id.clone());
    bench.start();
    bench.until_task(&task, TaskState::Success).await;
    bench.world.state().sick.insert(id.clone());
    bench.world.stir();
    let is_restarted = |bench: &Bench| !bench.world.state().restarted.is_empty();
    bench.until("what runs on it is started again", Duration::from_secs(1200), is_restarted).await;
    let is_well = |bench: &Bench| bench.machine(&id).not_ready_since.is_none();
    bench.until("it is Ready again", Duration::from_secs(600), is_well).await;
    // Switched off for a day, it is still the same machine.
    bench.world.state().hosts.remove(&id);
    bench.world.stir();
    bench.pass(Duration::from_secs(3600)).await;
    assert_eq!(bench.machine(&id).wanted, MachineWanted::Run);
    assert_eq!(bench.told("MachineReplaced").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_leaves_is_cleaned_and_forgotten() {
    let (mut bench, order) = running().await;
    bench.stop().await;
    let (id, task) = join(&bench, &order, false).await;
    bench.world.state().hosts.insert(id.clone());
    bench.start();
    bench.until_task(&task, TaskState::Success).await;
    bench.world.state().leftovers = vec!["/opt/thing".into()];
    // Nobody's inventory has it: kept or released is the same.
    let removal = orders::remove(&bench.store, &order, &[5], MachineWanted::Leave, true, bench.now()).await;
    bench.until_task(&removal, TaskState::Success).await;
    assert_eq!(bench.world.state().left, std::slice::from_ref(&id));
    assert!(bench.store.get::<Machine>(&id).is_none());
    assert_eq!(bench.told("HostLeftovers").await, 1);
    assert_eq!(bench.world.state().drained.len(), 1);
    bench.until_state(&order, ClusterState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_is_let_go_with_words() {
    let (mut bench, order) = running().await;
    bench.stop().await;
    let (id, task) = join(&bench, &order, false).await;
    bench.world.state().hosts.insert(id.clone());
    bench.start();
    bench.until_task(&task, TaskState::Success).await;
    bench.world.state().hosts.remove(&id);
    bench.world.stir();
    let removal = orders::remove(&bench.store, &order, &[5], MachineWanted::Release, true, bench.now()).await;
    bench.until_task(&removal, TaskState::Success).await;
    assert_eq!(bench.told("HostUnreachable").await, 1);
    assert!(bench.world.state().left.is_empty() && bench.store.get::<Machine>(&id).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_bare_host_runs_in_the_inventory_and_survives_its_cluster() {
    let (mut bench, order) = running().await;
    let id = "i-bare".to_owned();
    let like = bench.machine(&order.worker(1));
    let bare = Machine {
        id: id.clone(),
        ip: Ipv4Addr::new(10, 200, 16, 77),
        mac: "02:00:00:00:00:77".into(),
        host: Some(HostMachine::bare()),
        ..like.kept()
    };
    let mut batch = Batch::new();
    batch.create(&bare);
    bench.store.commit(batch).await.expect("written");
    let runs = |bench: &Bench| bench.world.runs(&id);
    bench.until("its container runs", Duration::from_secs(60), runs).await;
    let container = bench.world.provider.machines().into_iter().find(|m| m.spec.name.ends_with("i-bare"));
    let spec = container.expect("there").spec;
    assert_eq!(spec.image, "sampan-bare");
    assert!(spec.env.is_empty() && spec.mounts.is_empty(), "nothing of ours is on it");
    bench.world.kill_machine(&id);
    bench.until("it is started again", Duration::from_secs(60), runs).await;
    // It joins, leaves, and is there as before.
    let membership = like.membership.clone().map(|member| sampan_store::model::Membership {
        node_name: "cn-hangzhou.10.200.16.77".into(),
        pod_cidr: Some("172.20.9.0/25".parse().expect("a range")),
        ..member
    });
    let host = Some(HostMachine { report: Some(HostReport::default()), on_link: true, ..HostMachine::bare() });
    let current = bench.store.get::<Machine>(&id).expect("there");
    let mut batch = Batch::new();
    batch.update(current.revision, &Machine { host, ..current.joining(membership.expect("a member")) });
    bench.store.commit(batch).await.expect("written");
    let serves = |bench: &Bench| bench.machine(&id).state == MachineState::Running;
    bench.until("it serves", Duration::from_secs(60), serves).await;
    let current = bench.store.get::<Machine>(&id).expect("there");
    let mut batch = Batch::new();
    batch.update(current.revision, &Machine { wanted: MachineWanted::Leave, ..current.value.clone() });
    bench.store.commit(batch).await.expect("written");
    let is_back = |bench: &Bench| bench.machine(&id).state == MachineState::Kept;
    bench.until("it is back in the inventory", Duration::from_secs(120), is_back).await;
    assert_eq!(bench.machine(&id).host, Some(HostMachine::bare()));
    assert_eq!(bench.world.state().left, std::slice::from_ref(&id));
    assert!(bench.world.runs(&id));
    // Given up, its container goes with its record.
    let current = bench.store.get::<Machine>(&id).expect("there");
    let mut batch = Batch::new();
    batch.update(current.revision, &Machine { wanted: MachineWanted::Release, ..current.value.clone() });
    bench.store.commit(batch).await.expect("written");
    let is_gone = |bench: &Bench| bench.store.get::<Machine>(&id).is_none();
    bench.until("it is gone", Duration::from_secs(60), is_gone).await;
    assert!(!bench.world.runs(&id));
    bench.check_world().await;
}
