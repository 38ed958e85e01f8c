//! Control planes of several machines: made, broken, mended, widened; and the server dies while that goes on.

use std::time::Duration;

use sampan_store::model::{ClusterState, EtcdStage, Machine, MachineRole, MachineState, TaskState};

use crate::{
    bench::{Bench, LIMITS},
    gate::Chance,
    orders::{self, Order},
};

/// Machines of the control plane, oldest first.
fn parts(bench: &Bench, order: &Order) -> Vec<Machine> {
    let machines = bench.store.list_of::<Machine>(&order.cluster_id());
    let mut parts: Vec<Machine> = machines
        .iter()
        .filter(|machine| machine.is_control_plane_of(&order.cluster_id()))
        .map(|machine| machine.value.clone())
        .collect();
    parts.sort_by_key(|machine| (machine.created, machine.ip));
    parts
}

fn in_service(bench: &Bench, machine: &Machine) -> bool {
    machine.state == MachineState::Running && machine.not_ready_since.is_none() && bench.world.runs(&machine.id)
}

/// So many machines, all in service, and each of them, and nobody else, a member with a vote.
fn is_whole(bench: &Bench, order: &Order, count: usize) -> bool {
    let parts = parts(bench, order);
    let mut ips: Vec<_> = parts.iter().map(|machine| machine.ip).collect();
    ips.sort();
    let etcd = bench.world.state().etcd.get(&order.cluster_id()).cloned().unwrap_or_default();
    let mut members: Vec<_> = etcd.members.iter().filter(|member| !member.learner).map(|member| member.ip).collect();
    members.sort();
    let data = |machine: &Machine| etcd.members.iter().any(|member| member.machine.as_ref() == Some(&machine.id));
    parts.len() == count
        && ips == members
        && etcd.members.len() == count
        && parts.iter().all(|machine| in_service(bench, machine) && data(machine))
}

async fn until_whole(bench: &mut Bench, order: &Order, count: usize) {
    let what = format!("{count} members");
    bench.until(&what, Duration::from_secs(1200), |bench| is_whole(bench, order, count)).await;
    bench.quiet().await;
}

async fn dedicated(masters: u8, workers: u8) -> (Bench, Order) {
    let (mut bench, order) = (Bench::started().await, Order::dedicated(1, masters, workers));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    (bench, order)
}

#[tokio::test(start_paused = true)]
async fn masters_are_nodes_with_labels_and_a_taint() {
    let (bench, order) = dedicated(3, 1).await;
    assert!(is_whole(&bench, &order, 3), "{}", bench.describe().await);
    let nodes = bench.world.state().nodes[&order.cluster_id()].clone();
    assert_eq!(nodes.len(), 4);
    for (name, node) in &nodes {
        let is_master = bench.machine(&node.machine_id).membership.expect("a member").role == MachineRole::Master;
        let labels: Vec<&str> = node.wanted.labels.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(labels.contains(&"node-role.kubernetes.io/control-plane"), is_master, "{name}");
        assert_eq!(labels.contains(&"node-role.kubernetes.io/master"), is_master, "{name}");
        assert_eq!(node.wanted.taints.len(), usize::from(is_master), "{name}");
        assert!(labels.contains(&"topology.kubernetes.io/zone") && labels.contains(&"topology.kubernetes.io/region"));
    }
    let held = bench.world.state().balancer.clone();
    for listener in &held.listeners {
        assert_eq!((listener.backends.len(), listener.check.is_some()), (3, true), "{}", listener.name);
    }
    let results = bench.task(&order.creation_task()).results;
    assert_eq!(results.len(), 4, "masters are nodes that were made");
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_master_that_ends_is_started_again_and_the_cluster_runs_on() {
    let (mut bench, order) = dedicated(3, 1).await;
    let id = order.part(1);
    bench.world.kill_machine(&id);
    bench.until("it is noticed", Duration::from_secs(30), |bench| bench.machine(&id).repairs == 1).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    until_whole(&mut bench, &order, 3).await;
    assert!(parts(&bench, &order).iter().any(|machine| machine.id == id), "the same one");
    assert_eq!((bench.told("MachineExited").await, bench.told("MachineReplaced").await), (1, 0));
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_master_that_is_lost_with_its_disks_is_replaced_and_so_is_its_member() {
    let (mut bench, order) = dedicated(3, 1).await;
    let (id, ip) = (order.part(1), order.part_ip(1));
    bench.world.lose_machine(&id).await;
    bench.until("it is given up", Duration::from_secs(60), |bench| bench.store.get::<Machine>(&id).is_none()).await;
    until_whole(&mut bench, &order, 3).await;
    let successor = parts(&bench, &order).into_iter().find(|machine| machine.ip == ip).expect("at the same address");
    assert_ne!(successor.id, id);
    assert_eq!(successor.etcd().expect("a member").stage, EtcdStage::Joined);
    assert_eq!(successor.membership.expect("a member").role, MachineRole::Master);
    assert_eq!(bench.told("MachineReplaced").await, 1);
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn two_of_five_masters_may_be_lost_at_once() {
    let (mut bench, order) = dedicated(5, 1).await;
    for index in [0, 3] {
        bench.world.lose_machine(&order.part(index)).await;
    }
    bench.pass(Duration::from_secs(5)).await;
    until_whole(&mut bench, &order, 5).await;
    assert_eq!(bench.told("MachineReplaced").await, 2);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_no_member_is_removed() {
    let (mut bench, order) = dedicated(3, 1).await;
    for index in [0, 1] {
        bench.world.lose_machine(&order.part(index)).await;
    }
    bench.pass(Duration::from_secs(900)).await;
    let etcd = bench.world.state().etcd[&order.cluster_id()].clone();
    assert_eq!(etcd.members.len(), 3, "{}", bench.describe().await);
    assert_eq!(bench.world.state().violations, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_master_that_does_not_recover_is_replaced_only_while_the_others_are_well() {
    let (mut bench, order) = dedicated(3, 1).await;
    let (sick, other) = (order.part(0), order.part(1));
    bench.world.state().sick.insert(sick.clone());
    bench.world.state().silent.insert(other.clone());
    bench.world.stir();
    bench.pass(LIMITS.not_ready * (LIMITS.repairs_max + 4)).await;
    assert_eq!(bench.told("MachineReplaced").await, 0, "{}", bench.describe().await);
    bench.world.state().silent.clear();
    bench.world.stir();
    bench.until("it is replaced", Duration::from_secs(3600), |bench| bench.store.get::<Machine>(&sick).is_none()).await;
    until_whole(&mut bench, &order, 3).await;
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_of_everything_is_survived() {
    let (mut bench, order) = dedicated(3, 2).await;
    bench.world.provider.restart_engine(true);
    until_whole(&mut bench, &order, 3).await;
    assert_eq!(bench.told("MachineReplaced").await, 0);
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_image_renews_masters_one_at_a_time() {
    let (mut bench, order) = dedicated(3, 1).await;
    bench.stop().await;
    bench.node_image = "sampan-node-of-today".into();
    bench.start();
    let renewed = |bench: &Bench| {
        let machines = bench.world.provider.machines();
        let names: Vec<String> = parts(bench, &order).iter().map(|part| bench.world.names.machine(&part.id)).collect();
        let own: Vec<_> = machines.iter().filter(|machine| names.contains(&machine.spec.name)).cloned().collect();
        own.iter().filter(|machine| machine.spec.image == "sampan-node-of-today").count()
    };
    let begun = bench.now();
    while renewed(&bench) < 3 || !is_whole(&bench, &order, 3) {
        bench.pass(Duration::from_millis(200)).await;
        let out = parts(&bench, &order).iter().filter(|machine| !in_service(&bench, machine)).count();
        assert!(out <= 1, "{out} at once\n{}", bench.describe().await);
        assert!(bench.now().duration_since(begun).as_secs() < 600, "{}", bench.describe().await);
    }
    bench.check_world().await;
}

async fn migrated(bench: &mut Bench, order: &Order) {
    let task = orders::migrate(&bench.store, order, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    until_whole(bench, order, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_of_one_machine_becomes_one_of_three() {
    let (mut bench, order) = (Bench::started().await, Order::new(1, 1));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    migrated(&mut bench, &order).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    let parts = parts(&bench, &order);
    assert_eq!(parts[0].id, order.control_plane(), "its first machine, with its data, is still there");
    let held = bench.world.state().balancer.clone();
    assert!(held.listeners.iter().all(|listener| listener.backends.len() == 3 && listener.check.is_some()));
    let stages: Vec<String> = bench.task("T-migrate0001").stages.into_iter().map(|stage| stage.name).collect();
    assert_eq!(stages, ["certificates", "members", "control_plane", "endpoint"]);
    bench.check_world().await;
}

/// The whole life of both kinds, with a server that dies in between.
async fn story(bench: &mut Bench, chance: &mut Chance) {
    let mut trouble = |bench: &Bench| bench.world.gate.kill_after(1 + chance.below(120));
    let (own, managed) = (Order::dedicated(1, 3, 1), Order::new(2, 1));
    trouble(bench);
    orders::create(&bench.store, &own, bench.now()).await;
    orders::create(&bench.store, &managed, bench.now()).await;
    for order in [&own, &managed] {
        bench.until_state(order, ClusterState::Running).await;
    }
    trouble(bench);
    let task = orders::migrate(&bench.store, &managed, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    until_whole(bench, &managed, 3).await;
    for (order, index) in [(&own, 0), (&own, 2), (&managed, 0)] {
        let id = parts(bench, order)[index].id.clone();
        bench.world.gate.never_kill();
        // One that died at the very end must not be asked to take part.
        while !bench.quiet().await {
            bench.kill().await;
            bench.start();
        }
        bench.world.lose_machine(&id).await;
        trouble(bench);
        bench
            .until("it is given up", Duration::from_secs(300), |bench| bench.store.get::<Machine>(&id).is_none())
            .await;
        until_whole(bench, order, 3).await;
    }
    bench.world.gate.never_kill();
    bench.pass(Duration::from_secs(90)).await;
    bench.check_world().await;
}

#[test]
fn killed_at_external_calls_while_masters_come_and_go() {
    let rounds = std::env::var("SAMPAN_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    for seed in 0..rounds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let deaths = runtime.expect("a runtime").block_on(async {
            let (mut bench, mut chance) = (Bench::new(seed).await, Chance::new(seed));
            bench.start();
            eprintln!("seed {seed}");
            story(&mut bench, &mut chance).await;
            bench.deaths
        });
        assert!(deaths > 0, "seed {seed}: too few deaths to prove anything");
    }
}
