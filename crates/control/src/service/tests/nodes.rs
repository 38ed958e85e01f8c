//! Adding and removing nodes, node pools, and the inventory.

use sampan_store::model::{MachineWanted, NodePool, NodePoolState, Tag, TaskState, TaskType};

use super::*;
use crate::service::{
    Quotas,
    cluster::ClusterModify,
    machine::MachineCreate,
    node::NodesRemove,
    node_pool::{Charge, NodePoolCreate, NodePoolOptions, ScaleOut, ScaleTo},
};

fn total(nodes: i64) -> ScaleTo {
    ScaleTo { num_of_nodes: Some(nodes), ..ScaleTo::default() }
}

fn remove(nodes: &[&str], release: bool) -> NodesRemove {
    NodesRemove { nodes: nodes.iter().map(|n| (*n).to_owned()).collect(), release, ..NodesRemove::default() }
}

#[tokio::test]
async fn put_means_a_new_total() {
    let world = World::new().await;
    let id = world.running("demo", 2).await;
    let more = world.service.scale_to(&world.ctx, &id, &total(5)).await.expect("three more");
    assert_eq!(world.task(&more.task_id).results.len(), 3);
    assert_eq!(world.cluster(&id).state, ClusterState::Scaling);
    assert_eq!(world.workers(&id).len(), 5);
    world.settle(&more).await;
    let same = world.service.scale_to(&world.ctx, &id, &total(5)).await.expect("nothing to do");
    assert_eq!(world.task(&same.task_id).state, TaskState::Success);
    assert_eq!(world.cluster(&id).state, ClusterState::Running);
    let fault = world.service.scale_to(&world.ctx, &id, &total(4)).await.expect_err("fewer");
    assert_eq!(field(&fault), "num_of_nodes");
    assert_eq!(
        field(&world.service.scale_to(&world.ctx, &id, &total(301)).await.expect_err("too many")),
        "num_of_nodes"
    );
    let none = ScaleTo::default();
    assert_eq!(field(&world.service.scale_to(&world.ctx, &id, &none).await.expect_err("none")), "num_of_nodes");
    assert_eq!(world.workers(&id).len(), 5);
}

#[tokio::test]
async fn scale_out_takes_what_is_different() {
    let world = World::new().await;
    let id = world.running("demo", 1).await;
    let options = NodePoolOptions {
        instance_types: vec!["ecs.c5.xlarge".into()],
        vswitch_ids: vec!["vsw-uf684tfrpwup8gcsw****".into()],
        tags: vec![Tag { key: "team".into(), value: "a".into() }],
        ..NodePoolOptions::default()
    };
    let input = ScaleOut { count: 1, options, ..ScaleOut::default() };
    world.service.scale_out(&world.ctx, &id, &input).await.expect("accepted");
    let new = world.workers(&id).into_iter().find(|m| m.state == MachineState::Pending).expect("a new one");
    assert_eq!(new.instance_type, "ecs.c5.xlarge");
    assert_eq!(new.vswitch_id, "vsw-uf684tfrpwup8gcsw****");
    assert_eq!(new.tags.len(), 1);
    // Another one may begin while this goes on, with the pool's own values.
    let input = ScaleOut { count: 2, ..ScaleOut::default() };
    let second = world.service.scale_out(&world.ctx, &id, &input).await.expect("accepted");
    let members = world.workers(&id);
    let mine = members.iter().filter(|m| m.membership.as_ref().is_some_and(|s| s.task_id == second.task_id));
    assert!(mine.clone().count() == 2 && mine.into_iter().all(|m| m.instance_type == "ecs.g6.large"));
    for (expected, count) in [("count", 0), ("count", 501), ("quota Node", 100)] {
        let fault = world.service.scale_out(&world.ctx, &id, &ScaleOut { count, ..input.clone() }).await;
        assert_eq!(field(&fault.expect_err(expected)), expected);
    }
}

#[tokio::test]
async fn only_running_clusters_are_scaled() {
    let world = World::new().await;
    let made = world.create(&minimal("demo")).await.expect("made");
    let fault = world.service.scale_to(&world.ctx, &made.cluster_id, &total(1)).await.expect_err("initial");
    assert_eq!(fault.kind, FaultKind::ClusterState);
    let fault = world.service.scale_to(&world.ctx, "c0", &total(1)).await.expect_err("none");
    assert_eq!(fault.kind, FaultKind::ClusterNotFound);
}

#[tokio::test]
async fn pools() {
    let world = World::new().await;
    let id = world.running("demo", 0).await;
    let create = async |input: NodePoolCreate| world.service.node_pool_create(&world.ctx, &id, &input).await;
    let named =
        |name: &str, count: i64| NodePoolCreate { name: Some(name.into()), count: Some(count), ..Default::default() };
    let pool = create(NodePoolCreate {
        options: NodePoolOptions {
            labels: vec![Tag { key: "env".into(), value: "prod".into() }],
            user_data: Some("dGhpcyBpcyBhIGV4YW1wbGU=".into()),
            vswitch_ids: vec!["vsw-pool".into()],
            ..Default::default()
        },
        request: json!({"scaling_group": {"login_password": "Hello1234"}, "auto_scaling": {"enable": true, "max_instances": 10, "min_instances": 1}}),
        ..named("blue", 2)
    })
    .await
    .expect("accepted");
    let recorded = world.store.get::<NodePool>(&pool.node_pool_id).expect("a pool");
    assert_eq!((recorded.state, recorded.user_data.as_deref()), (NodePoolState::Scaling, Some("this is a example")));
    assert_eq!(recorded.request["scaling_group"]["login_password"], "******");
    assert_eq!(world.task(&pool.task_id).task_type, TaskType::ClusterScaleout);
    assert!(world.workers(&id).iter().all(|m| m.vswitch_id == "vsw-pool"));
    let (_, counts) = world.service.node_pool(&world.ctx, &id, &pool.node_pool_id).expect("shown");
    assert_eq!((counts.total, counts.initial, counts.healthy), (2, 2, 0));

    let empty = create(named("green", 0)).await.expect("accepted");
    assert_eq!(world.task(&empty.task_id).state, TaskState::Success);
    let scaled = world.service.node_pool_scale(&world.ctx, &id, &empty.node_pool_id, 1).await.expect("accepted");
    assert_eq!(world.task(&scaled.task_id).node_pool_id.as_deref(), Some(empty.node_pool_id.as_str()));

    assert_eq!(field(&create(named("blue", 0)).await.expect_err("taken")), "nodepool_info.name");
    assert_eq!(field(&create(named("", 0)).await.expect_err("no name")), "nodepool_info.name");
    assert_eq!(field(&create(named("x", -1)).await.expect_err("negative")), "count");
    let edge = NodePoolCreate { pool_type: Some("edge".into()), ..named("x", 0) };
    assert_eq!(field(&create(edge).await.expect_err("edge")), "nodepool_info.type");
    let elsewhere = NodePoolCreate { vpc_id: Some("vpc-other".into()), ..named("x", 0) };
    assert_eq!(field(&create(elsewhere).await.expect_err("elsewhere")), "scaling_group.vpc_id");
    let fault = world.service.node_pool_scale(&world.ctx, &id, "np0", 1).await.expect_err("no pool");
    assert_eq!(fault.kind, FaultKind::NotFound("NodePool".into()));
    world.service.quotas_set(&world.ctx, Quotas { node_pools_per_cluster: 3, ..Quotas::default() }).await.expect("set");
    assert_eq!(field(&create(named("x", 0)).await.expect_err("full")), "quota NodePool");
}

#[tokio::test]
async fn nodes_leave_by_name_or_id() {
    let world = World::new().await;
    let id = world.running("demo", 3).await;
    let workers = world.workers(&id);
    let name = |m: &Machine| m.membership.as_ref().expect("a member").node_name.clone();
    let (a, b) = (&workers[0], &workers[1]);
    let both = NodesRemove { drain: true, ..remove(&[&a.id, &name(a), &name(b)], true) };
    let task = world.service.nodes_remove(&world.ctx, &id, &both).await.expect("accepted");
    assert_eq!(world.task(&task.task_id).results.len(), 2);
    let leaving = world.store.get::<Machine>(&a.id).expect("still there");
    assert_eq!((leaving.wanted, leaving.drain, leaving.state), (MachineWanted::Release, true, MachineState::Removing));
    let again = world.service.nodes_remove(&world.ctx, &id, &remove(&[&a.id], false)).await.expect("leaving already");
    assert_eq!(again.task_id, task.task_id);
    // The third one stays in the inventory.
    let c = name(&workers[2]);
    world.service.nodes_remove(&world.ctx, &id, &remove(&[&c, &a.id], false)).await.expect("accepted");
    assert_eq!(world.store.get::<Machine>(&workers[2].id).expect("there").wanted, MachineWanted::Leave);
    assert_eq!(world.store.get::<Machine>(&a.id).expect("there").wanted, MachineWanted::Release);
    // A total counts only those that stay.
    let more = world.service.scale_to(&world.ctx, &id, &total(1)).await.expect("one more");
    assert_eq!(world.task(&more.task_id).results.len(), 1);
}

#[tokio::test]
async fn removals_that_are_refused() {
    let world = World::new().await;
    let id = world.running("demo", 1).await;
    let node = world.workers(&id)[0].id.clone();
    let control_plane = world.store.list_of::<Machine>(&id).iter().find(|m| m.id != node).expect("hidden").id.clone();
    let refuse =
        async |input: NodesRemove| world.service.nodes_remove(&world.ctx, &id, &input).await.expect_err("refused");
    assert_eq!(field(&refuse(remove(&[], false)).await), "nodes");
    assert_eq!(field(&refuse(remove(&[" "], false)).await), "nodes");
    assert_eq!(field(&refuse(remove(&["cn-beijing.1.2.3.4"], false)).await), "nodes");
    assert_eq!(field(&refuse(remove(&[&control_plane], true)).await), "nodes");
    let protect = ClusterModify { instance_deletion_protection: Some(true), request: json!({}), ..Default::default() };
    world.service.cluster_modify(&world.ctx, &id, &protect).await.expect("protected");
    assert_eq!(refuse(remove(&[&node], true)).await.kind, FaultKind::DeletionProtected);
    let prepaid = NodePoolCreate {
        name: Some("prepaid".into()),
        count: Some(1),
        options: NodePoolOptions {
            charge: Charge {
                charge_type: Some("PrePaid".into()),
                period: Some(1),
                period_unit: Some("Month".into()),
                ..Default::default()
            },
            ..Default::default()
        },
        request: json!({"scaling_group": {"instance_charge_type": "PrePaid"}}),
        ..Default::default()
    };
    let protect = ClusterModify { instance_deletion_protection: Some(false), request: json!({}), ..Default::default() };
    world.service.cluster_modify(&world.ctx, &id, &protect).await.expect("no longer protected");
    let pool = world.service.node_pool_create(&world.ctx, &id, &prepaid).await.expect("accepted");
    let bought = world
        .workers(&id)
        .into_iter()
        .find(|m| m.membership.as_ref().and_then(|s| s.node_pool_id.clone()) == Some(pool.node_pool_id.clone()));
    assert_eq!(field(&refuse(remove(&[&bought.expect("one").id], true)).await), "release_node");
}

#[tokio::test]
async fn the_inventory() {
    let world = World::new().await;
    let input =
        MachineCreate { count: Some(2), instance_type: Some("ecs.c6.large".into()), ..MachineCreate::default() };
    let made = world.service.machine_create(&world.ctx, &input).await.expect("made");
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|m| m.wanted == MachineWanted::Keep && m.instance_name == m.id));
    let again = world.service.machine_create(&world.ctx, &MachineCreate::default()).await.expect("made");
    assert_eq!(again[0].vpc_id, made[0].vpc_id);
    assert_eq!(world.service.machines(&world.ctx, true).len(), 3);
    world.service.machine_delete(&world.ctx, &made[0].id).await.expect("deleted");
    assert_eq!(world.service.machines(&world.ctx, true).len(), 2);
    // Its address is given out again.
    let next = world.service.machine_create(&world.ctx, &MachineCreate::default()).await.expect("made");
    assert_eq!(next[0].ip, made[0].ip);
    let id = world.running("demo", 1).await;
    assert_eq!(world.service.machines(&world.ctx, false).len(), 4, "the control plane is not shown");
    let member = world.workers(&id)[0].id.clone();
    assert_eq!(
        world.service.machine_delete(&world.ctx, &member).await.expect_err("member").kind,
        FaultKind::ClusterState
    );
    let fault = world.service.machine_delete(&context("1002"), &made[1].id).await.expect_err("not theirs");
    assert_eq!(fault.kind, FaultKind::NotFound("Machine".into()));
    for (expected, input) in [
        ("count", MachineCreate { count: Some(0), ..MachineCreate::default() }),
        ("instance_type", MachineCreate { instance_type: Some("big".into()), ..MachineCreate::default() }),
    ] {
        assert_eq!(field(&world.service.machine_create(&world.ctx, &input).await.expect_err(expected)), expected);
    }
}

/// A cluster in `vpc-shared`, with one worker.
async fn in_shared_vpc(world: &World) -> String {
    let vswitch_ids = vec!["vsw-cluster".to_owned()];
    let (vpc_id, num_of_nodes) = (Some("vpc-shared".into()), Some(1));
    let input = ClusterCreate { vpc_id, vswitch_ids, num_of_nodes, ..minimal("demo") };
    let made = world.create(&input).await.expect("accepted");
    world.settle(&made).await;
    made.cluster_id
}

#[tokio::test]
async fn machines_of_the_inventory_are_used_first() {
    let world = World::new().await;
    let kept = |kind: &str, vpc: Option<&str>| MachineCreate {
        instance_type: Some(kind.into()),
        vpc_id: vpc.map(str::to_owned),
        tags: vec![Tag { key: "rack".into(), value: "7".into() }, Tag { key: "team".into(), value: "old".into() }],
        ..MachineCreate::default()
    };
    let make = async |kind: &str, vpc| world.service.machine_create(&world.ctx, &kept(kind, vpc)).await.expect("made");
    let first = make("ecs.g6.large", Some("vpc-shared")).await.remove(0);
    let id = in_shared_vpc(&world).await;
    let member = world.workers(&id).remove(0);
    assert_eq!((&member.id, member.ip, member.source.as_str()), (&first.id, first.ip, "ess_attach"), "at creation");
    let good = make("ecs.g6.large", Some("vpc-shared")).await.remove(0);
    let other_type = make("ecs.c5.xlarge", Some("vpc-shared")).await.remove(0);
    let elsewhere = make("ecs.g6.large", None).await.remove(0);
    let stranger = context("1002");
    let theirs = world.service.machine_create(&stranger, &kept("ecs.g6.large", None)).await.expect("made").remove(0);
    let tags = vec![Tag { key: "team".into(), value: "new".into() }];
    let options = NodePoolOptions { tags, ..NodePoolOptions::default() };
    let input = ScaleOut { count: 2, options, ..ScaleOut::default() };
    let task = world.service.scale_out(&world.ctx, &id, &input).await.expect("accepted");
    let used = world.store.get::<Machine>(&good.id).expect("there");
    assert_eq!((used.ip, &used.mac, used.created), (good.ip, &good.mac, good.created));
    assert_eq!((used.wanted, used.state), (MachineWanted::Run, MachineState::Pending));
    let membership = used.membership.as_ref().expect("a member");
    assert_eq!((&membership.cluster_id, &membership.task_id), (&id, &task.task_id));
    assert_eq!(membership.node_name, format!("{}.{}", world.cluster(&id).region_id, good.ip));
    let tags: Vec<(&str, &str)> = used.tags.iter().map(|t| (t.key.as_str(), t.value.as_str())).collect();
    assert_eq!(tags, [("rack", "7"), ("team", "new")]);
    for unused in [&other_type.id, &elsewhere.id, &theirs.id] {
        assert_eq!(world.store.get::<Machine>(unused).expect("there").membership, None);
    }
    let results = world.task(&task.task_id).results;
    assert!(results.len() == 2 && results[0].data == good.id, "{results:?}");
    let mut ranges: Vec<_> = world.workers(&id).iter().map(|m| m.membership.clone().and_then(|s| s.pod_cidr)).collect();
    ranges.sort();
    ranges.dedup();
    assert_eq!(ranges.len(), 3, "each has its own part of the pod network");
}

#[tokio::test]
async fn a_machine_that_left_serves_again_once() {
    let world = World::new().await;
    let id = world.running("demo", 2).await;
    let old = world.workers(&id).remove(0);
    let mut batch = Batch::new();
    batch.put(&Machine { membership: None, wanted: MachineWanted::Keep, state: MachineState::Kept, ..old.clone() });
    world.store.commit(batch).await.expect("written");
    let named = |name: &str, vswitch_ids: &[&str], count: i64| NodePoolCreate {
        name: Some(name.into()),
        count: Some(count),
        options: NodePoolOptions {
            vswitch_ids: vswitch_ids.iter().map(|id| (*id).to_owned()).collect(),
            ..NodePoolOptions::default()
        },
        ..NodePoolCreate::default()
    };
    let elsewhere = named("elsewhere", &["vsw-other"], 1);
    world.service.node_pool_create(&world.ctx, &id, &elsewhere).await.expect("accepted");
    assert_eq!(world.store.get::<Machine>(&old.id).expect("there").membership, None, "another vSwitch was named");
    // Two requests at once: one of them gets it.
    let (a, b) = (named("a", &[], 1), named("b", &[&old.vswitch_id], 1));
    let (a, b) = tokio::join!(
        world.service.node_pool_create(&world.ctx, &id, &a),
        world.service.node_pool_create(&world.ctx, &id, &b)
    );
    let tasks = [a.expect("accepted").task_id, b.expect("accepted").task_id].map(|task_id| world.task(&task_id));
    assert_eq!(tasks.iter().flat_map(|t| &t.results).filter(|result| result.data == old.id).count(), 1);
    assert_eq!(world.workers(&id).len(), 4);
}
