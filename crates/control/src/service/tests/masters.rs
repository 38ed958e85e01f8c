//! Dedicated clusters, Pro clusters, and the way from one kind of control plane to the other.

use std::{collections::BTreeSet, net::Ipv4Addr};

use sampan_store::model::{ClusterState, EtcdStage, FaultKind, MachineRole, TaskState, TaskType};

use super::*;
use crate::service::{
    cluster::{MastersWanted, ZoneWanted},
    node::NodesRemove,
    node_pool::{Charge, NodePoolCreate, NodePoolOptions},
};

fn dedicated(name: &str) -> ClusterCreate {
    ClusterCreate { cluster_type: Some("Kubernetes".into()), num_of_nodes: Some(1), ..minimal(name) }
}

fn masters(count: i64) -> MastersWanted {
    MastersWanted { count: Some(count), ..MastersWanted::default() }
}

fn list(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Machines of the control plane, oldest first.
fn parts(world: &World, cluster_id: &str) -> Vec<Machine> {
    let mut parts: Vec<Machine> = world
        .store
        .list_of::<Machine>(cluster_id)
        .iter()
        .filter(|machine| machine.is_control_plane_of(cluster_id))
        .map(|machine| machine.value.clone())
        .collect();
    parts.sort_by_key(|machine| (machine.created, machine.ip));
    parts
}

fn peers(machine: &Machine) -> &[Ipv4Addr] {
    &machine.etcd().expect("one of several").peers
}

#[tokio::test]
async fn masters_are_nodes_in_the_given_vswitches() {
    let world = World::new().await;
    let wanted = NodePoolOptions {
        vswitch_ids: list(&["vsw-a", "vsw-b", "vsw-c"]),
        instance_types: list(&["ecs.g6.large", "ecs.g6.xlarge"]),
        ..NodePoolOptions::default()
    };
    let input = ClusterCreate {
        vpc_id: Some("vpc-d".into()),
        masters: MastersWanted { count: None, options: wanted },
        ..dedicated("dedicated")
    };
    let made = world.create(&input).await.expect("accepted");
    let cluster = world.cluster(&made.cluster_id);
    assert!(cluster.is_dedicated() && cluster.spec.is_empty());
    let masters = parts(&world, &cluster.id);
    let ips: Vec<Ipv4Addr> = masters.iter().map(|machine| machine.ip).collect();
    assert_eq!(masters.len(), 3, "the default");
    for machine in &masters {
        let membership = machine.membership.as_ref().expect("a member");
        assert_eq!((membership.role, membership.node_pool_id.as_ref()), (MachineRole::Master, None));
        assert!(membership.pod_cidr.is_some() && machine.is_node_of(&cluster.id) && !machine.is_worker_of(&cluster.id));
        assert_eq!(machine.etcd().expect("one of several").stage, EtcdStage::Founder);
        assert_eq!(peers(machine).iter().collect::<BTreeSet<_>>(), ips.iter().collect::<BTreeSet<_>>());
    }
    let zones: BTreeSet<&str> = masters.iter().map(|machine| machine.zone_id.as_str()).collect();
    assert_eq!(zones.len(), 3);
    let types: BTreeSet<&str> = masters.iter().map(|machine| machine.instance_type.as_str()).collect();
    assert_eq!(types, ["ecs.g6.large", "ecs.g6.xlarge"].into());
    assert_eq!(world.service.worker_count(&cluster.id), 4, "masters count as nodes");
    assert_eq!(world.task(&made.task_id).results.len(), 4);
}

#[tokio::test]
async fn without_a_place_masters_get_three_zones() {
    let world = World::new().await;
    let made = world.create(&ClusterCreate { masters: masters(5), ..dedicated("five") }).await.expect("accepted");
    let masters = parts(&world, &made.cluster_id);
    let zones: BTreeSet<&str> = masters.iter().map(|machine| machine.zone_id.as_str()).collect();
    assert_eq!((masters.len(), zones.len()), (5, 3));
}

#[tokio::test]
async fn a_body_by_zones_is_followed() {
    let world = World::new().await;
    let zone = |letter: &str, nodes: i64| ZoneWanted {
        vswitch_id: Some(format!("vsw-{letter}")),
        master_instance_type: Some("ecs.g6.large".into()),
        worker_instance_type: Some(format!("ecs.g6.{}xlarge", if letter == "a" { "2" } else { "4" })),
        num_of_nodes: Some(nodes),
    };
    let input = ClusterCreate {
        vpc_id: Some("vpc-z".into()),
        num_of_nodes: None,
        zones: vec![zone("a", 2), zone("b", 0), zone("c", 1)],
        ..dedicated("zones")
    };
    let made = world.create(&input).await.expect("accepted");
    let managed = ClusterCreate { vpc_id: input.vpc_id.clone(), zones: input.zones.clone(), ..minimal("managed") };
    for made in [&made, &world.create(&managed).await.expect("accepted")] {
        let workers = world.workers(&made.cluster_id);
        let mut placed: Vec<(&str, &str)> =
            workers.iter().map(|worker| (worker.vswitch_id.as_str(), worker.instance_type.as_str())).collect();
        placed.sort_unstable();
        assert_eq!(placed, [("vsw-a", "ecs.g6.2xlarge"), ("vsw-a", "ecs.g6.2xlarge"), ("vsw-c", "ecs.g6.4xlarge")]);
    }
    let places: BTreeSet<String> =
        parts(&world, &made.cluster_id).into_iter().map(|machine| machine.vswitch_id).collect();
    assert_eq!(places.len(), 3);
}

#[tokio::test]
async fn zones_say_how_many_workers_only_where_nothing_else_does() {
    let world = World::new().await;
    let zones = |nodes: i64| vec![ZoneWanted { num_of_nodes: Some(nodes), ..ZoneWanted::default() }];
    let three = ClusterCreate { num_of_nodes: Some(3), zones: zones(0), ..minimal("three") };
    let made = world.create(&three).await.expect("a client may fill what it does not use with zeros");
    assert_eq!(world.workers(&made.cluster_id).len(), 3);
    let same = ClusterCreate { num_of_nodes: Some(3), zones: zones(3), ..minimal("same") };
    assert_eq!(world.workers(&world.create(&same).await.expect("both say three").cluster_id).len(), 3);
    let pool = NodePoolCreate { name: Some("own".into()), count: Some(2), ..NodePoolCreate::default() };
    let pools = ClusterCreate { node_pools: vec![pool], num_of_nodes: None, zones: zones(0), ..minimal("pools") };
    assert_eq!(world.workers(&world.create(&pools).await.expect("a pool of two").cluster_id).len(), 2);
    let both = ClusterCreate { num_of_nodes: Some(3), zones: zones(10), ..minimal("both") };
    let refusal = world.create(&both).await.expect_err("they contradict each other");
    assert!(refusal.message.contains("num_of_nodes is 3") && refusal.message.contains("make 10"), "{refusal:?}");
}

#[tokio::test]
async fn what_no_dedicated_cluster_can_be_is_refused() {
    let world = World::new().await;
    let options = |options: NodePoolOptions| MastersWanted { count: None, options };
    let prepaid = Charge { charge_type: Some("PrePaid".into()), ..Charge::default() };
    let four = list(&["vsw-1", "vsw-2", "vsw-3", "vsw-4"]);
    let cases: Vec<(&str, ClusterCreate)> = [-1, 0, 1, 2, 4, 6, 7, 9]
        .into_iter()
        .map(|count| ("master_count", ClusterCreate { masters: masters(count), ..dedicated("d") }))
        .chain([
            (
                "vpcid",
                ClusterCreate {
                    masters: options(NodePoolOptions { vswitch_ids: list(&["vsw-1"]), ..NodePoolOptions::default() }),
                    ..dedicated("d")
                },
            ),
            (
                "master_vswitch_ids",
                ClusterCreate {
                    vpc_id: Some("vpc-1".into()),
                    masters: options(NodePoolOptions { vswitch_ids: four, ..NodePoolOptions::default() }),
                    ..dedicated("d")
                },
            ),
            (
                "master_instance_types",
                ClusterCreate {
                    masters: options(NodePoolOptions { instance_types: list(&["big"]), ..NodePoolOptions::default() }),
                    ..dedicated("d")
                },
            ),
            (
                "master_period_unit",
                ClusterCreate {
                    masters: options(NodePoolOptions { charge: prepaid, ..NodePoolOptions::default() }),
                    ..dedicated("d")
                },
            ),
            ("zone_ids", ClusterCreate { zone_ids: list(&["cn-nowhere-a"]), ..dedicated("d") }),
            ("zone_ids", ClusterCreate { zone_ids: list(&["cn-beijing-zone"]), ..dedicated("d") }),
            ("cluster_spec", ClusterCreate { cluster_spec: Some("ack.pro.small".into()), ..dedicated("d") }),
        ])
        .collect();
    for (name, input) in cases {
        let fault = world.create(&input).await.expect_err(name);
        assert_eq!(field(&fault), name, "{fault}");
    }
    assert!(world.store.list::<Cluster>().is_empty() && world.store.list::<Machine>().is_empty());
}

#[tokio::test]
async fn no_master_is_removed() {
    let world = World::new().await;
    let made = world.create(&dedicated("stay")).await.expect("accepted");
    world.settle(&made).await;
    let master = parts(&world, &made.cluster_id).remove(0);
    for name in [master.id.clone(), master.membership.expect("a member").node_name] {
        let input = NodesRemove { nodes: vec![name], release: true, ..NodesRemove::default() };
        let fault = world.service.nodes_remove(&context("1001"), &made.cluster_id, &input).await.expect_err("refused");
        assert_eq!(field(&fault), "nodes");
        assert!(fault.message.contains("master"), "{fault}");
    }
}

#[tokio::test]
async fn a_pro_cluster_has_three_hidden_machines() {
    let world = World::new().await;
    let input = ClusterCreate { cluster_spec: Some("ack.pro.small".into()), num_of_nodes: Some(1), ..minimal("pro") };
    let made = world.create(&input).await.expect("accepted");
    let parts = parts(&world, &made.cluster_id);
    assert_eq!(parts.len(), 3);
    assert!(parts.iter().all(|machine| !machine.is_node_of(&made.cluster_id) && peers(machine).len() == 3));
    assert_eq!(world.service.worker_count(&made.cluster_id), 1);
}

#[tokio::test]
async fn a_standard_cluster_becomes_a_pro_one_once() {
    let world = World::new().await;
    let made = world.create(&ClusterCreate { num_of_nodes: Some(1), ..minimal("standard") }).await.expect("accepted");
    let (ctx, id) = (context("1001"), made.cluster_id.clone());
    let fault = world.service.cluster_migrate(&ctx, &id).await.expect_err("it is being made");
    assert_eq!(fault.kind, FaultKind::ClusterState);
    world.settle(&made).await;
    let first = parts(&world, &id).remove(0);
    assert!(first.etcd().is_none());

    let migration = world.service.cluster_migrate(&ctx, &id).await.expect("accepted");
    let cluster = world.cluster(&id);
    assert_eq!((cluster.spec.as_str(), cluster.state), ("ack.pro.small", ClusterState::Updating));
    let task = world.task(&migration.task_id);
    assert_eq!((task.task_type, task.state, task.results.len()), (TaskType::ClusterMigrate, TaskState::Running, 2));
    let stages: Vec<(String, Vec<Ipv4Addr>)> = parts(&world, &id)
        .iter()
        .map(|machine| (format!("{:?}", machine.etcd().expect("one of several").stage), peers(machine).to_vec()))
        .collect();
    assert_eq!(stages[0], ("Founder".to_owned(), vec![first.ip]));
    assert_eq!(stages[1..], [("Adding".to_owned(), vec![]), ("Adding".to_owned(), vec![])]);
    let again = world.service.cluster_migrate(&ctx, &id).await.expect("the same");
    assert_eq!((again.task_id, parts(&world, &id).len()), (migration.task_id.clone(), 3));

    world.settle(&migration).await;
    let fault = world.service.cluster_migrate(&ctx, &id).await.expect_err("done");
    assert_eq!(fault.kind, FaultKind::ClusterState);
}

#[tokio::test]
async fn only_managed_clusters_are_migrated() {
    let world = World::new().await;
    let made = world.create(&dedicated("dedicated")).await.expect("accepted");
    world.settle(&made).await;
    let fault = world.service.cluster_migrate(&context("1001"), &made.cluster_id).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Unsupported);
    let fault = world.service.cluster_migrate(&context("1001"), "cnone").await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::ClusterNotFound);
}
