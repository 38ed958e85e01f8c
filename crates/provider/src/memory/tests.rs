use std::collections::BTreeMap;

use futures::FutureExt;

use super::*;
use crate::{CPU_WEIGHT, MachinePower};

fn network() -> NetworkSpec {
    NetworkSpec {
        name: "n".to_owned(),
        cidr: "10.0.0.0/24".parse().unwrap(),
        bridge: "br-n".to_owned(),
        labels: BTreeMap::new(),
    }
}

fn spec(name: &str, ip: &str) -> MachineSpec {
    MachineSpec {
        name: name.to_owned(),
        hostname: name.to_owned(),
        image: "image".to_owned(),
        network: "n".to_owned(),
        ip: ip.parse().unwrap(),
        mac: "02:42:0a:00:00:02".to_owned(),
        env: BTreeMap::new(),
        mounts: Vec::new(),
        volumes: [("/data".to_owned(), "data".to_owned())].into(),
        shared_volumes: BTreeMap::new(),
        cpu_millis: None,
        cpu_weight: CPU_WEIGHT,
        memory_bytes: None,
        labels: BTreeMap::new(),
    }
}

async fn with_network() -> MemoryProvider {
    let provider = MemoryProvider::new("one");
    provider.ensure_network(&network()).await.unwrap();
    provider
}

#[tokio::test]
async fn a_fault_before_leaves_nothing_and_one_after_leaves_all() {
    let provider = with_network().await;
    provider.set_faults(FaultPlan::at_call(0, Fault::Fail(FaultPoint::Before)));
    provider.ensure_machine(&spec("m", "10.0.0.2")).await.unwrap_err();
    assert!(provider.machines().is_empty());
    provider.set_faults(FaultPlan::at_call(0, Fault::Fail(FaultPoint::After)));
    provider.ensure_machine(&spec("m", "10.0.0.2")).await.unwrap_err();
    assert_eq!(provider.machines()[0].status.power, MachinePower::Running);
}

#[tokio::test]
async fn half_a_creation_is_completed_and_half_a_deletion_too() {
    let provider = with_network().await;
    let half = || FaultPlan::at_call(0, Fault::Fail(FaultPoint::Midway));
    provider.set_faults(half());
    provider.ensure_machine(&spec("m", "10.0.0.2")).await.unwrap_err();
    assert_eq!(provider.machines()[0].status.power, MachinePower::Created);
    let status = provider.ensure_machine(&spec("m", "10.0.0.2")).await.unwrap();
    assert_eq!(status.power, MachinePower::Running);
    provider.set_faults(half());
    provider.delete_machine("m").await.unwrap_err();
    assert_eq!(provider.inventory().await.unwrap().volumes, ["m-data"]);
    provider.delete_machine("m").await.unwrap();
    provider.delete_network("n").await.unwrap();
    assert!(provider.is_empty());
}

#[tokio::test]
async fn a_caller_can_be_killed_inside_a_call_and_its_successor_finds_the_work() {
    let provider = with_network().await;
    provider.set_faults(FaultPlan::at_call(0, Fault::Hang(FaultPoint::Midway)));
    let caller = {
        let provider = provider.clone();
        tokio::spawn(async move { provider.ensure_machine(&spec("m", "10.0.0.2")).await })
    };
    provider.hung().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let status = provider.ensure_machine(&spec("m", "10.0.0.2")).await.unwrap();
    assert_eq!(status.power, MachinePower::Running);
    assert_eq!(provider.machines()[0].starts, 1);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    let faults_of = async |seed| {
        let provider = with_network().await;
        provider.clear_calls();
        provider.set_faults(FaultPlan::random(seed, 0.5));
        for _ in 0..64 {
            let _ = provider.capacity().await;
        }
        provider.calls().into_iter().map(|call| call.fault).collect::<Vec<_>>()
    };
    let first = faults_of(7).await;
    assert_eq!(first, faults_of(7).await);
    assert_ne!(first, faults_of(8).await);
    let failed = first.iter().flatten().count();
    assert!((16..=48).contains(&failed), "{failed} of 64");
}

#[tokio::test]
async fn a_killed_machine_is_reported() {
    let provider = with_network().await;
    provider.ensure_machine(&spec("m", "10.0.0.2")).await.unwrap();
    let mut events = provider.events();
    assert!(provider.kill_machine("m"));
    assert!(!provider.kill_machine("m"));
    assert_eq!(events.next().await.unwrap().name, "m");
    assert!(events.next().now_or_never().is_none());
    let status = provider.machine("m").await.unwrap().unwrap();
    assert_eq!((status.power, status.exit_code), (MachinePower::Exited, Some(137)));
}

#[tokio::test]
async fn after_a_power_cut_everything_is_stopped_and_an_event_says_look_again() {
    let provider = with_network().await;
    provider.ensure_machine(&spec("m", "10.0.0.2")).await.unwrap();
    let mut events = provider.events();
    provider.restart_engine(true);
    assert_eq!(events.next().await.unwrap().name, "");
    assert_eq!(provider.machines()[0].status.power, MachinePower::Exited);
}

#[tokio::test]
async fn a_slow_listener_is_told_to_look_at_everything() {
    let provider = with_network().await;
    let mut events = provider.events();
    for _ in 0..=EVENTS_MAX {
        provider.tell("m");
    }
    assert_eq!(events.next().await.unwrap().name, "");
}
