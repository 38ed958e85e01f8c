//! Swarm clusters, as users ask for them.

use std::collections::HashSet;

use sampan_store::model::{
    Cluster, ClusterState, FaultKind, Machine, MachineState, MachineWanted, NodePool, Task, TaskType,
};
use serde_json::json;

use super::*;
use crate::service::{
    cluster::{
        ClusterFilter,
        swarm::{SwarmAttach, SwarmCreate, SwarmReset, SwarmScale},
    },
    machine::MachineCreate,
    network::cidr::overlap,
};

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn base() -> SwarmCreate {
    SwarmCreate {
        name: some("web"),
        size: Some(2),
        instance_type: some("ecs.n1.small"),
        network_mode: some("vpc"),
        vpc_id: some("vpc-1"),
        vswitch_id: some("vsw-1"),
        subnet_cidr: some("172.28.1.0/24"),
        password: some("TestPwd124"),
        data_disk_category: some("cloud_ssd"),
        data_disk_size: Some(40),
        need_slb: Some(true),
        ecs_image_id: some("centos_7_04_64_20G_alibase_201701015"),
        io_optimized: some("true"),
        request: json!({"name": "web", "size": 2, "password": "TestPwd124"}),
        ..SwarmCreate::default()
    }
}

async fn made(world: &World, input: &SwarmCreate) -> Cluster {
    let answer = world.service.swarm_create(&world.ctx, input).await.expect("accepted");
    world.cluster(&answer.cluster_id)
}

async fn running(world: &World) -> Cluster {
    let answer = world.service.swarm_create(&world.ctx, &base()).await.expect("accepted");
    world.settle(&answer).await;
    world.cluster(&answer.cluster_id)
}

fn nodes(world: &World, cluster: &Cluster) -> Vec<Machine> {
    let mut nodes: Vec<Machine> = world.store.list_of::<Machine>(&cluster.id).iter().map(|m| m.value.clone()).collect();
    nodes.retain(|machine| machine.is_worker_of(&cluster.id));
    nodes.sort_by_key(|machine| machine.membership.as_ref().and_then(|member| member.node_index));
    nodes
}

fn indexes(world: &World, cluster: &Cluster) -> Vec<u32> {
    nodes(world, cluster).iter().filter_map(|node| node.membership.as_ref()?.node_index).collect()
}

#[tokio::test]
async fn a_cluster_is_recorded_whole() {
    let world = World::new().await;
    let cluster = made(&world, &base()).await;
    assert_eq!((cluster.state, cluster.network.vpc_id.as_str()), (ClusterState::Initial, "vpc-1"));
    let options = cluster.swarm.clone().expect("a Swarm cluster");
    let ranges = [cluster.network.pod_cidr, cluster.network.service_cidr, options.bridge_pool];
    assert_eq!(ranges[0].to_string(), "172.28.1.0/24");
    for (index, range) in ranges.iter().enumerate() {
        assert!(ranges.iter().skip(index + 1).all(|other| !overlap(range, other)), "{ranges:?}");
        assert!(!overlap(range, &world.service.settings().machine_pool), "{ranges:?}");
    }
    let ports: HashSet<_> =
        [cluster.network.api_public_port, options.routing_public_port].into_iter().flatten().collect();
    assert_eq!((ports.len(), options.next_node_index, options.routing), (2, 3, true));
    assert_eq!(indexes(&world, &cluster), [1, 2]);
    let machines = world.store.list_of::<Machine>(&cluster.id);
    assert_eq!(machines.len(), 3, "and the master's");
    assert!(machines.iter().all(|machine| machine.membership.as_ref().unwrap().pod_cidr.is_none()));
    assert_eq!(world.store.list_of::<NodePool>(&cluster.id).len(), 1);
    assert_eq!(world.service.machines(&world.ctx, false).len(), 2, "the master's machine is not shown");
    assert!(!serde_json::to_string(&cluster).unwrap().contains("TestPwd124"));
    let other = made(&world, &SwarmCreate { name: some("two"), need_slb: Some(false), ..base() }).await;
    assert_eq!(other.swarm.unwrap().routing_public_port, None);
    assert!(!ports.contains(&other.network.api_public_port.unwrap()));
}

#[tokio::test]
async fn what_is_left_out_has_defaults() {
    let world = World::new().await;
    let input = SwarmCreate {
        name: some("bare"),
        size: Some(1),
        instance_type: some("ecs.g6.large"),
        password: some("TestPwd124"),
        ..SwarmCreate::default()
    };
    let cluster = made(&world, &input).await;
    assert_eq!(cluster.network.pod_cidr.to_string(), "172.28.0.0/16");
    assert_eq!(cluster.network.vswitch_ids.len(), 1);
    assert!(cluster.swarm.unwrap().routing_public_port.is_some());
    let listed = |cluster_type: &str| {
        let filter = ClusterFilter { cluster_type: some(cluster_type), ..ClusterFilter::default() };
        world.service.clusters(&world.ctx, &filter).expect("a list").len()
    };
    assert_eq!((listed("aliyun"), listed("ManagedKubernetes")), (1, 0));
}

#[tokio::test]
async fn creations_that_are_refused() {
    let world = World::new().await;
    let long = "x".repeat(64);
    let cases: Vec<(&str, SwarmCreate)> = vec![
        ("name", SwarmCreate { name: None, ..base() }),
        ("name", SwarmCreate { name: some(&long), ..base() }),
        ("name", SwarmCreate { name: some("a b"), ..base() }),
        ("size", SwarmCreate { size: None, ..base() }),
        ("size", SwarmCreate { size: Some(0), ..base() }),
        ("instance_type", SwarmCreate { instance_type: None, ..base() }),
        ("instance_type", SwarmCreate { instance_type: some("huge"), ..base() }),
        ("network_mode", SwarmCreate { network_mode: some("classic"), ..base() }),
        ("subnet_cidr", SwarmCreate { subnet_cidr: some("172.28.1.0/28"), ..base() }),
        ("subnet_cidr", SwarmCreate { subnet_cidr: some("172.28.1.0/27"), size: Some(20), ..base() }),
        ("subnet_cidr", SwarmCreate { subnet_cidr: some("10.0.0.0/8"), ..base() }),
        ("vswitch_id", SwarmCreate { vswitch_id: None, ..base() }),
        ("vpc_id", SwarmCreate { vpc_id: None, ..base() }),
        ("password", SwarmCreate { password: None, ..base() }),
        ("password", SwarmCreate { password: some("password"), ..base() }),
        ("data_disk_category", SwarmCreate { data_disk_category: some("tape"), ..base() }),
        ("data_disk_size", SwarmCreate { data_disk_size: Some(1), ..base() }),
        ("io_optimized", SwarmCreate { io_optimized: some("maybe"), ..base() }),
        ("ecs_image_id", SwarmCreate { ecs_image_id: some("m-253llee3l"), ..base() }),
        ("region_id", SwarmCreate { region_id: some("Moon"), ..base() }),
    ];
    for (name, input) in cases {
        let fault = world.service.swarm_create(&world.ctx, &input).await.expect_err(name);
        assert_eq!(field(&fault), name, "{fault}");
    }
    let too_many = world.service.swarm_create(&world.ctx, &SwarmCreate { size: Some(101), ..base() }).await;
    let too_many = too_many.expect_err("the subnet or the quota");
    assert!(matches!(too_many.kind, FaultKind::QuotaExceeded(_) | FaultKind::InvalidParameter(_)), "{too_many}");
}

#[tokio::test]
async fn an_overlay_over_the_vpc_is_refused() {
    let world = World::new().await;
    made(&world, &base()).await;
    let input = SwarmCreate { name: some("over"), subnet_cidr: some("10.200.0.0/20"), ..base() };
    let fault = world.service.swarm_create(&world.ctx, &input).await.expect_err("the VPC has it");
    assert_eq!(field(&fault), "subnet_cidr");
    assert!(fault.message.contains("vpc-1"), "{fault}");
}

#[tokio::test]
async fn nodes_become_more_and_numbers_are_never_given_twice() {
    let world = World::new().await;
    let cluster = running(&world).await;
    let scale = |size| SwarmScale { size: Some(size), ..SwarmScale::default() };
    for size in [1, 2] {
        let fault = world.service.swarm_scale(&world.ctx, &cluster.id, &scale(size)).await.expect_err("not more");
        assert_eq!(field(&fault), "size");
    }
    let last = nodes(&world, &cluster)[1].clone();
    world.service.swarm_remove(&world.ctx, &cluster.id, &last.ip.to_string(), true).await.expect("removed");
    let leaving = world.store.get::<Machine>(&last.id).unwrap();
    assert_eq!((leaving.wanted, leaving.drain), (MachineWanted::Release, true));
    let answer = world.service.swarm_scale(&world.ctx, &cluster.id, &scale(3)).await.expect("two more");
    assert_eq!(indexes(&world, &cluster), [1, 2, 3, 4], "one of them leaves");
    assert_eq!(world.cluster(&cluster.id).swarm.unwrap().next_node_index, 5);
    assert_eq!(world.store.get::<Task>(&answer.task_id).unwrap().node_pool_id, None);
    let many = world.service.swarm_scale(&world.ctx, &cluster.id, &scale(101)).await.expect_err("too many");
    assert!(matches!(many.kind, FaultKind::QuotaExceeded(_) | FaultKind::InvalidParameter(_)), "{many}");
}

#[tokio::test]
async fn machines_of_the_inventory_become_nodes() {
    let world = World::new().await;
    let cluster = running(&world).await;
    let create = |vpc: &str| MachineCreate { vpc_id: some(vpc), ..MachineCreate::default() };
    let near = world.service.machine_create(&world.ctx, &create("vpc-1")).await.unwrap().remove(0);
    let far = world.service.machine_create(&world.ctx, &create("vpc-2")).await.unwrap().remove(0);
    let attach = |instances: Vec<String>| SwarmAttach { instances, ..SwarmAttach::default() };
    let both = attach(vec![near.id.clone(), far.id.clone(), near.id.clone()]);
    let (list, task_id) = world.service.swarm_attach(&world.ctx, &cluster.id, &both).await.expect("one of them");
    assert_eq!(list.iter().map(|one| one.refusal.is_none()).collect::<Vec<_>>(), [true, false]);
    let node = world.store.get::<Machine>(&near.id).unwrap();
    assert_eq!((node.state, node.source.as_str()), (MachineState::Pending, "ess_attach"));
    assert_eq!(node.membership.as_ref().unwrap().node_index, Some(3));
    assert_eq!(world.store.get::<Task>(&task_id).unwrap().results.len(), 1);
    let none = world.service.swarm_attach(&world.ctx, &cluster.id, &attach(vec![far.id])).await.expect_err("far");
    assert_eq!(field(&none), "instances");
    let again = world.service.swarm_attach(&world.ctx, &cluster.id, &attach(vec![near.id])).await.expect_err("there");
    assert_eq!(again.kind, FaultKind::ClusterState);
    let empty = world.service.swarm_attach(&world.ctx, &cluster.id, &attach(Vec::new())).await.expect_err("none");
    assert_eq!(field(&empty), "instances");
}

#[tokio::test]
async fn a_node_is_reset_once() {
    let world = World::new().await;
    let cluster = running(&world).await;
    let node = nodes(&world, &cluster)[0].clone();
    let input = SwarmReset { password: some("TestPwd124"), ..SwarmReset::default() };
    let answer = world.service.swarm_reset(&world.ctx, &cluster.id, &node.id, &input).await.expect("accepted");
    let again = world.service.swarm_reset(&world.ctx, &cluster.id, &node.id, &input).await.expect("the same");
    assert_eq!(answer, again);
    let reset = world.store.get::<Machine>(&node.id).unwrap();
    assert_eq!((reset.wanted, reset.drain, reset.ip), (MachineWanted::Reset, true, node.ip));
    let task = world.store.get::<Task>(&answer.task_id).unwrap();
    assert_eq!((task.task_type, task.results[0].data.as_str()), (TaskType::ClusterNodeReset, node.id.as_str()));
    let unknown = world.service.swarm_reset(&world.ctx, &cluster.id, "i-0", &input).await.expect_err("no such node");
    assert_eq!(unknown.kind, FaultKind::NotFound("Node".into()));
    let master = world.store.list_of::<Machine>(&cluster.id);
    let master = master.iter().find(|machine| !machine.is_worker_of(&cluster.id)).unwrap();
    assert!(world.service.swarm_reset(&world.ctx, &cluster.id, &master.id, &input).await.is_err());
    let removed = nodes(&world, &cluster)[1].clone();
    world.service.swarm_remove(&world.ctx, &cluster.id, &removed.ip.to_string(), false).await.expect("removed");
    let late = world.service.swarm_reset(&world.ctx, &cluster.id, &removed.id, &input).await.expect_err("leaving");
    assert_eq!(late.kind, FaultKind::ClusterState);
}

#[tokio::test]
async fn what_has_no_effect_is_said() {
    let world = World::new().await;
    let input = SwarmCreate {
        rds_instances: vec!["rm-1".into()],
        release_eip_flag: Some(true),
        request: json!({"name": "web", "num_of_nodes": 3}),
        unknown_fields: vec!["colour".into()],
        ..base()
    };
    made(&world, &input).await;
    let said: String = world.events().await.iter().map(|(reason, message)| format!("{reason} {message}\n")).collect();
    for word in ["rds_instances", "release_eip_flag", "ImageReplaced", "num_of_nodes", "colour", "password"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}
