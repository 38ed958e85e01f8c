//! Control planes of several machines as a whole: stopped and started, put back to a backup, certificates renewed.

use std::time::Duration;

use sampan_store::model::{ClusterState, Machine, MachineState, RestorePhase, TaskState};

use crate::{
    bench::Bench,
    orders::{self, Order},
    world::{CERTIFICATES, LIFETIME, RENEW_BEFORE},
};

const MASTERS: u8 = 3;

async fn dedicated() -> (Bench, Order) {
    let (mut bench, order) = (Bench::started().await, Order::dedicated(1, MASTERS, 2));
    orders::create(&bench.store, &order, bench.now()).await;
    bench.until_state(&order, ClusterState::Running).await;
    bench.quiet().await;
    (bench, order)
}

fn masters(order: &Order) -> Vec<String> {
    (0..MASTERS).map(|index| order.part(index)).collect()
}

fn in_service(bench: &Bench, id: &str) -> bool {
    let machine = bench.machine(id);
    machine.state == MachineState::Running && machine.not_ready_since.is_none() && bench.world.runs(id)
}

async fn stop(bench: &mut Bench, order: &Order) {
    let task = orders::power(&bench.store, order, true, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench.quiet().await;
}

async fn start(bench: &mut Bench, order: &Order) -> Duration {
    let begun = bench.now();
    let task = orders::power(&bench.store, order, false, begun).await;
    bench.until_task(&task, TaskState::Success).await;
    bench.until_state(order, ClusterState::Running).await;
    bench
        .until("all masters serve", Duration::from_secs(600), |bench| {
            masters(order).iter().all(|id| in_service(bench, id))
        })
        .await;
    let took = bench.now().duration_since(begun);
    bench.quiet().await;
    took.unsigned_abs()
}

#[tokio::test(start_paused = true)]
async fn all_masters_go_off_after_the_workers_and_come_up_together() {
    let (mut bench, order) = dedicated().await;
    stop(&mut bench, &order).await;
    assert_eq!(bench.cluster(&order).state, ClusterState::Stopped);
    let stops: Vec<String> = bench
        .world
        .provider
        .calls()
        .into_iter()
        .filter(|call| call.op == "stop_machine" && call.fault.is_none())
        .filter_map(|call| bench.world.names.id_of(&call.name).map(str::to_owned))
        .collect();
    assert_eq!(stops.len(), 5, "{stops:?}");
    assert!(stops[2..].iter().all(|id| masters(&order).contains(id)), "workers first: {stops:?}");
    // Nobody waits for the turn of another: a member alone has no quorum, and is not in service.
    let took = start(&mut bench, &order).await;
    assert!(took < Duration::from_secs(120), "{took:?}");
    assert!(masters(&order).iter().all(|id| bench.machine(id).repairs == 0), "a start is no repair");
    assert_eq!(bench.told("MachineReplaced").await, 0);
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_node_image_does_not_make_masters_wait_for_each_other_at_a_start() {
    let (mut bench, order) = dedicated().await;
    stop(&mut bench, &order).await;
    bench.kill().await;
    bench.node_image = "sampan-node:newer".into();
    bench.start();
    let took = start(&mut bench, &order).await;
    assert!(took < Duration::from_secs(120), "{took:?}");
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn a_master_whose_disks_vanish_while_it_is_off_is_replaced_at_the_start() {
    let (mut bench, order) = dedicated().await;
    stop(&mut bench, &order).await;
    bench.world.lose_machine(&order.part(1)).await;
    let task = orders::power(&bench.store, &order, false, bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench.quiet().await;
    assert_eq!(bench.told("MachineReplaced").await, 1);
    assert_eq!(bench.world.state().violations, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn all_members_go_back_to_a_backup_even_if_the_server_dies_on_the_way() {
    for kills in [false, true] {
        let (mut bench, order) = dedicated().await;
        let task = orders::backup(&bench.store, &order, "manual-1", bench.now()).await;
        bench.until_task(&task, TaskState::Success).await;
        if kills {
            bench.world.gate.kill_after(5);
        }
        let task = orders::restore(&bench.store, &order, "manual-1", bench.now()).await;
        bench
            .until("the members are recorded", Duration::from_secs(600), |bench| {
                let restore = bench.cluster(&order).restore;
                restore.is_none_or(|restore| restore.phase == RestorePhase::Check || restore.members.len() == 3)
            })
            .await;
        bench.until_task(&task, TaskState::Success).await;
        bench.until_state(&order, ClusterState::Running).await;
        bench.quiet().await;
        assert_eq!(bench.world.state().lifecycle.replaced[&order.cluster_id()], (3, 0));
        assert_eq!(bench.cluster(&order).restores, 1);
        assert_eq!(bench.told("MachineReplaced").await, 0);
        bench.check_world().await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_most_members_are_lost_a_backup_brings_the_cluster_back() {
    let (mut bench, order) = dedicated().await;
    let task = orders::backup(&bench.store, &order, "manual-1", bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    let lost = [order.part(0), order.part(1)];
    for id in &lost {
        bench.world.lose_machine(id).await;
    }
    bench
        .until("both are given up", Duration::from_secs(600), |bench| {
            lost.iter().all(|id| bench.store.get::<Machine>(id).is_none())
        })
        .await;
    let task = orders::restore(&bench.store, &order, "manual-1", bench.now()).await;
    bench.until_task(&task, TaskState::Success).await;
    bench
        .until("three members again", Duration::from_secs(1200), |bench| {
            let etcd = bench.world.state().etcd[&order.cluster_id()].clone();
            let machines = bench.store.list_of::<Machine>(&order.cluster_id());
            etcd.members.len() == 3
                && etcd.members.iter().all(|member| !member.learner && member.machine.is_some())
                && machines.iter().all(|machine| machine.state == MachineState::Running)
        })
        .await;
    bench.quiet().await;
    assert_eq!(bench.world.state().lifecycle.replaced[&order.cluster_id()], (1, 0), "the one that was left");
    bench.check_world().await;
}

#[tokio::test(start_paused = true)]
async fn when_all_members_are_lost_with_their_disks_a_backup_brings_the_cluster_back() {
    for kills in [false, true] {
        let (mut bench, order) = dedicated().await;
        let task = orders::backup(&bench.store, &order, "manual-1", bench.now()).await;
        bench.until_task(&task, TaskState::Success).await;
        let lost = masters(&order);
        for id in &lost {
            bench.world.lose_machine(id).await;
        }
        bench
            .until("all are given up", Duration::from_secs(600), |bench| {
                lost.iter().all(|id| bench.store.get::<Machine>(id).is_none())
            })
            .await;
        if kills {
            bench.world.gate.kill_after(5);
        }
        let task = orders::restore(&bench.store, &order, "manual-1", bench.now()).await;
        bench.until_task(&task, TaskState::Success).await;
        bench
            .until("three members again", Duration::from_secs(1200), |bench| {
                let etcd = bench.world.state().etcd[&order.cluster_id()].clone();
                etcd.members.len() == 3 && etcd.members.iter().all(|member| !member.learner && member.machine.is_some())
            })
            .await;
        bench.until_state(&order, ClusterState::Running).await;
        bench.quiet().await;
        assert_eq!(bench.world.state().lifecycle.replaced[&order.cluster_id()], (1, 0), "one began, the others joined");
        assert_eq!(bench.world.state().violations, Vec::<String>::new());
        bench.check_world().await;
    }
}

#[tokio::test(start_paused = true)]
async fn renewed_certificates_reach_masters_one_at_a_time() {
    let (mut bench, order) = dedicated().await;
    let held = |bench: &Bench| -> Vec<String> {
        let state = bench.world.state();
        let own = |id: &String| state.specs[id].files.iter().find(|file| file.path == CERTIFICATES);
        masters(&order).iter().map(|id| own(id).expect("certificates").content.clone()).collect()
    };
    bench.world.move_clock(LIFETIME - RENEW_BEFORE + Duration::from_secs(86_400));
    bench.pass(Duration::from_secs(1300)).await;
    assert_eq!(held(&bench), ["2", "2", "2"]);
    assert_eq!(bench.told("CertificatesRenewed").await, 1);
    assert_eq!(bench.cluster(&order).state, ClusterState::Running);
    bench.check_world().await;
}
