//! What is done about members, by tables.

use super::*;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, 0, last)
}

/// A machine at the address that ends with its number.
fn machine(number: u8, stage: EtcdStage, peers: &[u8]) -> Machine {
    let peers: Vec<Ipv4Addr> = peers.iter().map(|number| ip(*number)).collect();
    serde_json::from_value(serde_json::json!({
        "id": format!("i-{number}"), "account_id": "1", "region_id": "r", "zone_id": "z", "vpc_id": "vpc-1",
        "vswitch_id": "vsw-1", "ip": ip(number), "mac": "02:00:00:00:00:01", "instance_type": "t", "instance_name": "n",
        "source": "manual", "created": "2024-01-01T00:00:00Z", "wanted": "Run", "state": "running",
        "membership": {"cluster_id": "c1", "node_pool_id": null, "role": "Master", "node_name": "n", "pod_cidr": null,
            "task_id": "T-1", "etcd": {"stage": stage, "peers": peers}},
    }))
    .expect("a machine")
}

fn founder(number: u8) -> Machine {
    machine(number, EtcdStage::Founder, &[1, 2, 3])
}

fn voter(number: u8, healthy: bool) -> EtcdMemberView {
    EtcdMemberView { id: u64::from(number), ip: Some(ip(number)), learner: false, healthy, ..EtcdMemberView::default() }
}

fn learner(number: u8, healthy: bool) -> EtcdMemberView {
    // It has a name as soon as it has started.
    let name = if healthy { format!("i-{number}") } else { String::new() };
    EtcdMemberView { learner: true, name, ..voter(number, healthy) }
}

fn decide(machines: &[Machine], members: &[EtcdMemberView]) -> Next {
    next(&machines.iter().collect::<Vec<_>>(), members)
}

#[test]
fn when_all_are_well_nothing_is_done() {
    let machines = [founder(1), founder(2), founder(3)];
    let well = [voter(1, true), voter(2, true), voter(3, true)];
    assert_eq!(decide(&machines, &well), Next::Nothing);
    let one_is_ill = [voter(1, true), voter(2, false), voter(3, true)];
    assert_eq!(
        decide(&machines, &one_is_ill),
        Next::Wait("2 of 3 members of etcd are well".into()),
        "it may come back"
    );
    assert!(matches!(decide(&machines, &well[..2]), Next::Wait(why) if why.contains("i-3")));
}

#[test]
fn a_successor_goes_its_way_step_by_step() {
    let with = |stage| [founder(1), founder(2), machine(3, stage, &[])];
    let (old, rest) = ([voter(1, true), voter(2, true), voter(3, false)], [voter(1, true), voter(2, true)]);
    assert_eq!(decide(&with(EtcdStage::Clearing), &old), Next::Change(EtcdChange::Remove(3)));
    let adding = EtcdMember { stage: EtcdStage::Adding, peers: Vec::new() };
    assert_eq!(decide(&with(EtcdStage::Clearing), &rest), Next::Record("i-3".into(), adding));
    assert_eq!(decide(&with(EtcdStage::Adding), &rest), Next::Change(EtcdChange::Add(ip(3))));
    let added = [voter(1, true), voter(2, true), learner(3, false)];
    let joined = EtcdMember { stage: EtcdStage::Joined, peers: vec![ip(1), ip(2), ip(3)] };
    assert_eq!(decide(&with(EtcdStage::Adding), &added), Next::Record("i-3".into(), joined.clone()));
    let told = [founder(1), founder(2), machine(3, EtcdStage::Joined, &[1, 2, 3])];
    assert!(matches!(decide(&told, &added), Next::Wait(_)), "it has not started");
    let stale = [founder(1), founder(2), machine(3, EtcdStage::Joined, &[1, 2, 3, 4])];
    assert_eq!(decide(&stale, &added), Next::Record("i-3".into(), joined), "it would not start with former peers");
    let started = [voter(1, true), voter(2, true), learner(3, true)];
    assert_eq!(decide(&with(EtcdStage::Joined), &started), Next::Change(EtcdChange::Promote(3)));
    let whole = [voter(1, true), voter(2, true), voter(3, true)];
    assert_eq!(decide(&with(EtcdStage::Joined), &whole), Next::Nothing);
    // Its predecessor had been a learner, and one that was just added is not its predecessor.
    assert_eq!(decide(&with(EtcdStage::Clearing), &added), Next::Change(EtcdChange::Remove(3)));
}

#[test]
fn a_member_without_a_machine_goes_only_when_the_rest_is_a_quorum() {
    let machines = [founder(1), founder(2)];
    let members = [voter(1, true), voter(2, true), voter(3, false)];
    assert_eq!(decide(&machines, &members), Next::Change(EtcdChange::Remove(3)));
    for ill in [[voter(1, true), voter(2, false), voter(3, false)], [voter(1, false), voter(2, true), voter(3, true)]] {
        assert!(matches!(decide(&machines, &ill), Next::Endangered(why) if why.contains("10.200.0.3")), "{ill:?}");
    }
    let five = |healthy: [bool; 5]| [1, 2, 3, 4, 5].map(|n: u8| voter(n, healthy[usize::from(n - 1)]));
    let three = [founder(1), founder(2), founder(3)];
    assert_eq!(decide(&three, &five([true, true, true, false, false])), Next::Change(EtcdChange::Remove(4)));
    assert!(matches!(decide(&three, &five([true, true, false, false, false])), Next::Endangered(_)));
}

#[test]
fn newcomers_are_added_one_after_the_other() {
    let machines = [founder(1), machine(2, EtcdStage::Adding, &[]), machine(3, EtcdStage::Adding, &[])];
    assert_eq!(decide(&machines, &[voter(1, true)]), Next::Change(EtcdChange::Add(ip(2))));
    let ill = Next::Wait("0 of 1 members of etcd are well".into());
    assert_eq!(decide(&machines, &[voter(1, false)]), ill);
    let joined = [founder(1), machine(2, EtcdStage::Joined, &[1, 2]), machine(3, EtcdStage::Adding, &[])];
    assert!(matches!(decide(&joined, &[voter(1, true), learner(2, false)]), Next::Wait(_)), "one learner at a time");
    assert_eq!(decide(&joined, &[voter(1, true), voter(2, true)]), Next::Change(EtcdChange::Add(ip(3))));
}

#[test]
fn one_that_spoke_to_nobody_is_to_be_found_by_others() {
    let machines = [machine(1, EtcdStage::Founder, &[1]), machine(2, EtcdStage::Adding, &[])];
    let alone = EtcdMemberView { ip: Some(Ipv4Addr::LOCALHOST), ..voter(1, true) };
    assert_eq!(decide(&machines, &[alone]), Next::Change(EtcdChange::Move(1, ip(1))));
}
