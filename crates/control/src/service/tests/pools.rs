//! Node pools for their whole life: made with every field, changed, repaired, deleted, and what is refused meanwhile.

use sampan_store::model::{
    MachineWanted, Management, MultiAzPolicy, NodePool, NodePoolState, Retired, Tag, Taint, TaskState, TaskType,
};

use super::*;
use crate::service::{
    cluster::ClusterModify,
    machine::MachineCreate,
    node::NodesRemove,
    node_pool::{
        AutoScalingWish, Charge, ManagementWish, NodePoolCreate, NodePoolDelete, NodePoolModify, NodePoolOptions,
        NodePoolRepair,
    },
};

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.into(), value: value.into() }
}

fn taint(key: &str, effect: &str) -> Taint {
    Taint { key: key.into(), value: String::new(), effect: effect.into() }
}

fn named(name: &str, count: i64) -> NodePoolCreate {
    NodePoolCreate { name: Some(name.into()), count: Some(count), ..NodePoolCreate::default() }
}

struct Pools {
    world: World,
    cluster_id: String,
}

impl Pools {
    async fn new() -> Self {
        let world = World::new().await;
        let cluster_id = world.running("demo", 1).await;
        Self { world, cluster_id }
    }

    /// A pool with nodes in service.
    async fn pool(&self, input: NodePoolCreate) -> String {
        let made =
            self.world.service.node_pool_create(&self.world.ctx, &self.cluster_id, &input).await.expect("accepted");
        self.settle(&made.task_id).await;
        made.node_pool_id
    }

    async fn settle(&self, task_id: &str) {
        let work = ClusterTask { cluster_id: self.cluster_id.clone(), task_id: task_id.to_owned() };
        self.world.settle(&work).await;
    }

    fn record(&self, id: &str) -> NodePool {
        self.world.store.get::<NodePool>(id).expect("a pool").value.clone()
    }

    fn members(&self, id: &str) -> Vec<Machine> {
        let mut machines = self.world.workers(&self.cluster_id);
        machines.retain(|m| m.membership.as_ref().is_some_and(|s| s.node_pool_id.as_deref() == Some(id)));
        machines.sort_by_key(|m| m.ip);
        machines
    }

    async fn modify(&self, id: &str, input: &NodePoolModify) -> Outcome<Task> {
        let done = self.world.service.node_pool_modify(&self.world.ctx, &self.cluster_id, id, input).await?;
        assert_eq!(done.node_pool_id, id);
        Ok(self.world.task(&done.task_id))
    }

    async fn delete(&self, id: &str, force: bool) -> Outcome<Task> {
        let input = NodePoolDelete { force, ..NodePoolDelete::default() };
        let task = self.world.service.node_pool_delete(&self.world.ctx, &self.cluster_id, id, &input).await?;
        Ok(self.world.task(&task.task_id))
    }

    async fn repair(&self, id: &str, nodes: &[&str]) -> Outcome<Task> {
        let input = NodePoolRepair { nodes: nodes.iter().map(|n| (*n).to_owned()).collect(), ..Default::default() };
        let task = self.world.service.node_pool_repair(&self.world.ctx, &self.cluster_id, id, &input).await?;
        Ok(self.world.task(&task.task_id))
    }

    async fn scale(&self, id: &str, count: i64) -> Outcome<ClusterTask> {
        self.world.service.node_pool_scale(&self.world.ctx, &self.cluster_id, id, count).await
    }

    async fn put(&self, machine: Machine) {
        let mut batch = Batch::new();
        batch.put(&machine);
        self.world.store.commit(batch).await.expect("written");
    }
}

/// A change of labels and taints, as a request has it.
fn relabel(labels: &[Tag], taints: &[Taint], update_nodes: bool) -> NodePoolModify {
    NodePoolModify {
        options: NodePoolOptions { labels: labels.to_vec(), taints: taints.to_vec(), ..NodePoolOptions::default() },
        update_nodes,
        request: json!({"kubernetes_config": {"labels": labels, "taints": taints}}),
        ..NodePoolModify::default()
    }
}

fn state(fault: Fault) -> String {
    assert_eq!(fault.kind, FaultKind::ClusterState, "{}", fault.message);
    fault.message
}

#[tokio::test]
async fn every_field_is_kept_or_told_of() {
    let pools = Pools::new().await;
    let input = NodePoolCreate {
        management: Some(ManagementWish {
            enable: Some(true),
            auto_repair: Some(false),
            surge: Some(2),
            max_unavailable: Some(3),
            ..ManagementWish::default()
        }),
        auto_scaling: Some(AutoScalingWish {
            enable: Some(true),
            min_instances: Some(2),
            max_instances: Some(4),
            ..AutoScalingWish::default()
        }),
        options: NodePoolOptions {
            node_name_mode: Some("customized,test.,8,.com".into()),
            labels: vec![tag("env", "prod")],
            cpu_policy: Some("static".into()),
            ..NodePoolOptions::default()
        },
        request: json!({
            "scaling_group": {"multi_az_policy": "PRIORITY", "spot_strategy": "SpotAsPriceGo"},
            "kubernetes_config": {"unschedulable": true, "pre_user_data": "eA=="},
        }),
        ..named("blue", 1)
    };
    let id = pools.pool(input).await;
    let pool = pools.record(&id);
    let management = pool.management.clone().expect("management");
    assert!(!pool.repairs() && management.upgrades() && pool.unschedulable);
    assert_eq!((management.surge_of(9), management.unavailable_max()), (2, 3));
    assert_eq!(pool.multi_az_policy, MultiAzPolicy::Priority);
    assert_eq!(pool.scales().map(|s| (s.min_instances, s.max_instances)), Some((2, 4)));
    let members = pools.members(&id);
    assert_eq!(members.len(), 2, "as many as its fewest");
    for machine in &members {
        let [a, b, c, d] = machine.ip.octets();
        let digits = format!("{a:03}{b:03}{c:03}{d:03}");
        assert_eq!(machine.membership.as_ref().expect("a member").node_name, format!("test.{}.com", &digits[4..]));
    }
    let told: Vec<String> =
        pools.world.events().await.into_iter().filter(|(r, _)| r == "NotApplied").map(|e| e.1).collect();
    assert!(told.iter().any(|text| text.contains("spot_strategy") && text.contains("pre_user_data")), "{told:?}");
    // No more than its most.
    assert_eq!(field(&pools.scale(&id, 3).await.expect_err("five")), "count");
    pools.scale(&id, 2).await.expect("four");
    let too_many = NodePoolCreate {
        auto_scaling: Some(AutoScalingWish {
            enable: Some(true),
            min_instances: Some(0),
            max_instances: Some(1),
            ..AutoScalingWish::default()
        }),
        ..named("green", 2)
    };
    let refused = pools.world.service.node_pool_create(&pools.world.ctx, &pools.cluster_id, &too_many).await;
    assert_eq!(field(&refused.expect_err("above the most")), "count");
}

#[tokio::test]
async fn node_names_that_would_be_the_same_are_refused() {
    let pools = Pools::new().await;
    let short = |name: &str, vswitch: &str| NodePoolCreate {
        options: NodePoolOptions {
            node_name_mode: Some("customized,n,5,".into()),
            vswitch_ids: vec![vswitch.into()],
            ..NodePoolOptions::default()
        },
        ..named(name, 0)
    };
    let (a, b) = (pools.pool(short("a", "vsw-a")).await, pools.pool(short("b", "vsw-b")).await);
    pools.scale(&a, 1).await.expect("the first one of that name");
    let [one] = &pools.members(&a)[..] else { panic!("one node") };
    let name = one.membership.as_ref().expect("a member").node_name.clone();
    let refused = pools.scale(&b, 1).await;
    // vSwitches are ranges side by side: their third numbers end in different digits, unless there are many.
    match refused {
        Err(fault) => assert!(fault.message.contains(&name), "{}", fault.message),
        Ok(_) => assert_ne!(pools.members(&b)[0].membership.as_ref().expect("a member").node_name, name),
    }
    let wrong = NodePoolCreate {
        options: NodePoolOptions { node_name_mode: Some("customized,a,4,b".into()), ..NodePoolOptions::default() },
        ..named("c", 0)
    };
    let refused = pools.world.service.node_pool_create(&pools.world.ctx, &pools.cluster_id, &wrong).await;
    assert_eq!(field(&refused.expect_err("four digits")), "kubernetes_config.node_name_mode");
}

#[tokio::test]
async fn without_update_nodes_only_new_nodes_change() {
    let pools = Pools::new().await;
    let options = NodePoolOptions {
        labels: vec![tag("env", "prod"), tag("old", "1")],
        taints: vec![taint("k", "NoSchedule")],
        user_data: Some("IyEvYmluL3NoCg==".into()),
        ..NodePoolOptions::default()
    };
    let id = pools.pool(NodePoolCreate { options, ..named("blue", 2) }).await;
    let (before, state) = (pools.record(&id).node_config(), pools.record(&id).state);
    let task = pools.modify(&id, &relabel(&[tag("env", "test")], &[], false)).await.expect("accepted");
    assert_eq!((task.task_type, task.state), (TaskType::NodepoolUpdate, TaskState::Success), "nothing to carry");
    assert_eq!(pools.record(&id).state, state, "as it was");
    for machine in pools.members(&id) {
        assert_eq!(machine.pinned.as_ref(), Some(&before));
        assert_eq!(pools.record(&id).seen_by(&machine).labels, before.labels);
        assert_eq!(machine.retired, None);
    }
    let more = pools.scale(&id, 1).await.expect("one more");
    pools.settle(&more.task_id).await;
    let new = pools.members(&id).into_iter().find(|m| m.pinned.is_none()).expect("the new one");
    assert_eq!(pools.record(&id).seen_by(&new).labels, [tag("env", "test")]);

    // Later the live ones get it, too: what they formerly had goes, also what only they still had.
    let carried = relabel(&[tag("env", "test"), tag("x", "y")], &[taint("n", "NoExecute")], true);
    let task = pools.modify(&id, &carried).await.expect("accepted");
    assert_eq!((task.state, task.results.len()), (TaskState::Running, 2), "{:?}", task.results);
    assert_eq!(pools.record(&id).state, NodePoolState::Updating);
    let pool = pools.record(&id);
    for machine in pools.members(&id) {
        let shape = pool.seen_by(&machine);
        assert_eq!((shape.labels.clone(), shape.taints.clone()), (pool.labels.clone(), pool.taints.clone()));
        assert_eq!(shape.user_data.as_deref(), Some("#!/bin/sh\n"));
        let expected = Retired { labels: vec!["old".into()], taints: vec![taint("k", "NoSchedule")] };
        assert_eq!(machine.retired, (machine.id != new.id).then_some(expected));
    }
}

#[tokio::test]
async fn what_a_change_leaves_out_stays() {
    let pools = Pools::new().await;
    let options = NodePoolOptions {
        labels: vec![tag("env", "prod")],
        instance_types: vec!["ecs.c6.large".into()],
        cpu_policy: Some("static".into()),
        ..NodePoolOptions::default()
    };
    let request =
        json!({"scaling_group": {"key_pair": "k", "platform": "AliyunLinux"}, "tee_config": {"tee_enable": false}});
    let id = pools.pool(NodePoolCreate { options, request, ..named("blue", 1) }).await;
    let rename = NodePoolModify {
        name: Some("green".into()),
        management: Some(ManagementWish { enable: Some(true), ..ManagementWish::default() }),
        request: json!({"scaling_group": {"platform": "CentOS"}}),
        ..NodePoolModify::default()
    };
    pools.modify(&id, &rename).await.expect("accepted");
    let pool = pools.record(&id);
    assert_eq!((pool.name.as_str(), pool.cpu_policy.as_deref()), ("green", Some("static")));
    assert_eq!(
        (&pool.labels[..], &pool.instance_types[..]),
        (&[tag("env", "prod")][..], &["ecs.c6.large".to_owned()][..])
    );
    assert_eq!(pool.management, Some(Management { enable: true, ..Management::default() }));
    assert_eq!(pool.request["scaling_group"], json!({"key_pair": "k", "platform": "CentOS"}));
    let policy = NodePoolModify {
        options: NodePoolOptions { cpu_policy: Some("none".into()), ..NodePoolOptions::default() },
        request: json!({"kubernetes_config": {"cpu_policy": "none", "labels": []}}),
        ..NodePoolModify::default()
    };
    pools.modify(&id, &policy).await.expect("accepted");
    let pool = pools.record(&id);
    assert_eq!((pool.cpu_policy.as_deref(), pool.labels.len()), (Some("none"), 0), "an empty list is a list");
    assert_eq!(pool.seen_by(&pools.members(&id)[0]).cpu_policy.as_deref(), Some("static"), "live nodes keep theirs");
}

#[tokio::test]
async fn desired_size_adds_and_removes() {
    let pools = Pools::new().await;
    let id = pools.pool(named("blue", 2)).await;
    let size = |n: i64| NodePoolModify { desired_size: Some(n), request: json!({}), ..NodePoolModify::default() };
    let task = pools.modify(&id, &size(3)).await.expect("one more");
    assert_eq!((task.task_type, task.stages.len(), task.results.len()), (TaskType::NodepoolUpdate, 2, 1));
    assert_eq!(pools.members(&id).len(), 3);
    assert!(state(pools.modify(&id, &size(4)).await.expect_err("busy")).contains(&task.id));
    pools.settle(&task.id).await;
    let sick = pools.members(&id)[0].clone();
    let now = pools.world.clock.now();
    pools.put(Machine { not_ready_since: Some(now), node_status: Some("NotReady".into()), ..sick.clone() }).await;
    let task = pools.modify(&id, &size(1)).await.expect("two fewer");
    let gone: Vec<Machine> = pools.members(&id).into_iter().filter(|m| m.wanted == MachineWanted::Release).collect();
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().any(|m| m.id == sick.id), "what is not in service goes first");
    assert!(gone.iter().all(|m| m.drain && m.removal_task_id.as_ref() == Some(&task.id)));
    let same = NodePoolModify { desired_size: Some(-1), ..NodePoolModify::default() };
    assert_eq!(field(&pools.modify(&id, &same).await.expect_err("negative")), "scaling_group.desired_size");
}

#[tokio::test]
async fn changes_that_cannot_be() {
    let pools = Pools::new().await;
    let (id, other) = (pools.pool(named("blue", 1)).await, pools.pool(named("green", 0)).await);
    let elsewhere = pools.world.running("elsewhere", 0).await;
    let refused = async |input: NodePoolModify| field(&pools.modify(&id, &input).await.expect_err("refused"));
    assert_eq!(
        refused(NodePoolModify { name: Some("green".into()), ..Default::default() }).await,
        "nodepool_info.name"
    );
    assert_eq!(refused(NodePoolModify { name: Some("-x".into()), ..Default::default() }).await, "nodepool_info.name");
    let edge = NodePoolModify { pool_type: Some("edge".into()), ..Default::default() };
    assert_eq!(refused(edge).await, "nodepool_info.type");
    let moved = NodePoolModify { vpc_id: Some("vpc-elsewhere".into()), ..Default::default() };
    assert_eq!(refused(moved).await, "scaling_group.vpc_id");
    let bounds = AutoScalingWish {
        enable: Some(true),
        min_instances: Some(5),
        max_instances: Some(4),
        ..AutoScalingWish::default()
    };
    let input = NodePoolModify { auto_scaling: Some(bounds.clone()), ..Default::default() };
    assert_eq!(refused(input).await, "auto_scaling.max_instances");
    let input = NodePoolModify {
        auto_scaling: Some(AutoScalingWish { max_instances: Some(6), ..bounds }),
        desired_size: Some(2),
        request: json!({}),
        ..Default::default()
    };
    assert_eq!(refused(input).await, "scaling_group.desired_size");
    let input = NodePoolModify {
        request: json!({"scaling_group": {"multi_az_policy": "NEAREST"}}),
        ..NodePoolModify::default()
    };
    assert_eq!(refused(input).await, "scaling_group.multi_az_policy");
    assert_eq!(refused(relabel(&[tag("a b", "c")], &[], true)).await, "kubernetes_config.labels");
    assert_eq!(refused(relabel(&[], &[taint("k", "Sometimes")], true)).await, "kubernetes_config.taints");
    let service = &pools.world.service;
    let strange = service.node_pool_modify(&pools.world.ctx, &elsewhere, &id, &NodePoolModify::default()).await;
    assert_eq!(strange.expect_err("another cluster").kind, FaultKind::NotFound("NodePool".into()));
    pools.delete(&other, false).await.expect("accepted");
    assert!(state(pools.modify(&other, &NodePoolModify::default()).await.expect_err("gone")).contains("being deleted"));
    assert!(state(pools.scale(&other, 1).await.expect_err("gone")).contains("being deleted"));
    assert!(state(pools.repair(&other, &[]).await.expect_err("gone")).contains("being deleted"));
}

#[tokio::test]
async fn a_masked_password_is_none() {
    let pools = Pools::new().await;
    let id = pools.pool(named("blue", 0)).await;
    let login = |password: &str| NodePoolModify {
        options: NodePoolOptions {
            login: crate::service::node_pool::Login { key_pair: None, password: Some(password.into()) },
            ..NodePoolOptions::default()
        },
        request: json!({"scaling_group": {"login_password": password}}),
        ..NodePoolModify::default()
    };
    pools.modify(&id, &login("******")).await.expect("as an answer has it");
    let name = format!("cluster/{}/node-pool/{id}/login-password", pools.cluster_id);
    assert!(pools.world.store.secret(&name).await.expect("readable").is_none());
    pools.modify(&id, &login("Hello1234")).await.expect("a new one");
    assert!(pools.world.store.secret(&name).await.expect("readable").is_some());
    assert_eq!(pools.record(&id).request["scaling_group"]["login_password"], "******");
    assert_eq!(field(&pools.modify(&id, &login("weak")).await.expect_err("weak")), "scaling_group.login_password");
}

#[tokio::test]
async fn a_pool_is_deleted_with_its_nodes() {
    let pools = Pools::new().await;
    let id = pools.pool(named("blue", 2)).await;
    let task = pools.delete(&id, false).await.expect("accepted");
    assert_eq!((task.task_type, task.node_pool_id.as_deref()), (TaskType::ClusterNodeDelete, Some(id.as_str())));
    assert_eq!(task.results.len(), 2);
    let pool = pools.record(&id);
    assert_eq!((pool.deleting, pool.state), (true, NodePoolState::Deleting));
    assert!(pools.members(&id).iter().all(|m| m.wanted == MachineWanted::Release && m.drain));
    assert_eq!(pools.world.cluster(&pools.cluster_id).state, ClusterState::Scaling);
    assert_eq!(pools.delete(&id, false).await.expect("again").id, task.id);
    // With force afterwards: nobody waits for the pods any longer.
    assert_eq!(pools.delete(&id, true).await.expect("by force").id, task.id);
    assert!(pools.members(&id).iter().all(|m| !m.drain));
    // The name is free again.
    pools.pool(named("blue", 0)).await;
}

#[tokio::test]
async fn deletions_that_cannot_be() {
    let pools = Pools::new().await;
    let default = pools.world.store.list_of::<NodePool>(&pools.cluster_id)[0].id.clone();
    assert_eq!(field(&pools.delete(&default, true).await.expect_err("the default pool")), "NodepoolId");
    let id = pools.pool(named("blue", 1)).await;
    let elsewhere = pools.world.running("elsewhere", 0).await;
    let strange =
        pools.world.service.node_pool_delete(&pools.world.ctx, &elsewhere, &id, &NodePoolDelete::default()).await;
    assert_eq!(strange.expect_err("another cluster").kind, FaultKind::NotFound("NodePool".into()));
    // While nodes are added.
    let more = pools.scale(&id, 1).await.expect("one more");
    let message = state(pools.delete(&id, false).await.expect_err("scaling"));
    assert!(message.contains(&more.task_id) && message.contains("being added"), "{message}");
    pools.settle(&more.task_id).await;
    // While nodes are removed, though that task names no pool.
    let node = pools.members(&id)[0].id.clone();
    let input = NodesRemove { nodes: vec![node], release: true, ..NodesRemove::default() };
    let fewer = pools.world.service.nodes_remove(&pools.world.ctx, &pools.cluster_id, &input).await.expect("removed");
    assert!(state(pools.delete(&id, false).await.expect_err("removing")).contains(&fewer.task_id));
    // With force what goes on ends.
    let task = pools.delete(&id, true).await.expect("by force");
    let ended = pools.world.task(&fewer.task_id);
    assert_eq!(ended.state, TaskState::Fail);
    assert!(ended.error.is_some_and(|error| error.message.contains("by force")));
    assert!(pools.members(&id).iter().all(|m| m.removal_task_id.as_ref() == Some(&task.id) && !m.drain));
}

#[tokio::test]
async fn protected_and_given_machines() {
    let pools = Pools::new().await;
    let id = pools.pool(named("blue", 1)).await;
    let protect =
        |on| ClusterModify { instance_deletion_protection: Some(on), request: json!({}), ..Default::default() };
    pools.world.service.cluster_modify(&pools.world.ctx, &pools.cluster_id, &protect(true)).await.expect("protected");
    assert_eq!(pools.delete(&id, true).await.expect_err("protected").kind, FaultKind::DeletionProtected);
    assert_eq!(pools.members(&id)[0].wanted, MachineWanted::Run, "nothing was written");
    pools.world.service.cluster_modify(&pools.world.ctx, &pools.cluster_id, &protect(false)).await.expect("free");
    // What is paid for in advance, and what was there before, goes back to the inventory.
    let paid = NodePoolCreate {
        options: NodePoolOptions {
            charge: Charge {
                charge_type: Some("PrePaid".into()),
                period: Some(1),
                period_unit: Some("Month".into()),
                ..Charge::default()
            },
            ..NodePoolOptions::default()
        },
        request: json!({"scaling_group": {"instance_charge_type": "PrePaid"}}),
        ..named("paid", 1)
    };
    let paid = pools.pool(paid).await;
    pools.delete(&paid, false).await.expect("accepted");
    assert_eq!(pools.members(&paid)[0].wanted, MachineWanted::Leave);
    let cluster = pools.world.cluster(&pools.cluster_id);
    let kept = MachineCreate {
        instance_type: Some("ecs.c6.large".into()),
        vpc_id: Some(cluster.network.vpc_id.clone()),
        vswitch_id: cluster.network.vswitch_ids.first().cloned(),
        ..MachineCreate::default()
    };
    let kept = pools.world.service.machine_create(&pools.world.ctx, &kept).await.expect("made")[0].clone();
    let options = NodePoolOptions { instance_types: vec!["ecs.c6.large".into()], ..NodePoolOptions::default() };
    let used = pools.pool(NodePoolCreate { options, ..named("used", 1) }).await;
    assert_eq!(pools.members(&used)[0].id, kept.id, "the inventory goes first");
    pools.delete(&used, true).await.expect("accepted");
    assert_eq!(pools.members(&used)[0].wanted, MachineWanted::Leave);
    assert!(
        pools.world.events().await.iter().any(|(reason, text)| reason == "MachinesKept" && text.contains(&kept.id))
    );
}

#[tokio::test]
async fn repairs() {
    let pools = Pools::new().await;
    let id = pools.pool(named("blue", 3)).await;
    let input = NodePoolRepair { may_restart: Some(false), ..Default::default() };
    let refusal = pools.world.service.node_pool_repair(&pools.world.ctx, &pools.cluster_id, &id, &input).await;
    assert_eq!(field(&refusal.expect_err("refused")), "auto_restart");
    let well = pools.repair(&id, &[]).await.expect("nothing to do");
    assert_eq!((well.task_type, well.state, well.results.len()), (TaskType::NodepoolRepair, TaskState::Success, 3));
    let members = pools.members(&id);
    let names: Vec<String> =
        members.iter().map(|m| m.membership.as_ref().expect("a member").node_name.clone()).collect();
    let now = pools.world.clock.now();
    let sick = Machine { not_ready_since: Some(now), node_status: Some("NotReady".into()), ..members[1].clone() };
    pools.put(sick.clone()).await;
    let task = pools.repair(&id, &[]).await.expect("one to repair");
    assert_eq!(task.state, TaskState::Running);
    assert_eq!(task.results.iter().map(|r| r.data.clone()).collect::<Vec<_>>(), names);
    let orders: Vec<bool> = pools.members(&id).iter().map(|m| m.repair.is_some()).collect();
    assert_eq!(orders, [false, true, false], "those that are well are left alone");
    assert_eq!(pools.record(&id).state, NodePoolState::Updating);
    assert!(state(pools.repair(&id, &[&names[1]]).await.expect_err("twice")).contains(&task.id));
    assert!(state(pools.delete(&id, false).await.expect_err("repairing")).contains("repaired"));
    assert_eq!(field(&pools.repair(&id, &["cn-beijing.10.0.0.1"]).await.expect_err("unknown")), "nodes");
    // Of the default pool.
    let other = pools.world.workers(&pools.cluster_id).into_iter().find(|m| !members.iter().any(|o| o.id == m.id));
    assert_eq!(field(&pools.repair(&id, &[&other.expect("one").id]).await.expect_err("another pool")), "nodes");
    pools.put(Machine { wanted: MachineWanted::Release, ..members[0].clone() }).await;
    assert!(state(pools.repair(&id, &[&names[0]]).await.expect_err("leaving")).contains("leaving"));
}
