//! Existing machines and hosts as nodes.

use std::net::{IpAddr, Ipv4Addr};

use sampan_store::model::{
    AutoScaling, FaultKind, HostReport, JOIN_TOKEN_PREFIX, Machine, MachineState, MachineWanted, NodePool, Setting,
    Tag, TaskType,
};

use super::{World, context, field, minimal};
use crate::service::{
    attach::{Attach, AttachScript, HostDoor, join::HostJoin},
    cluster::ClusterCreate,
    machine::MachineCreate,
    node_pool::NodePoolCreate,
};

/// A running cluster in `vpc-shared`, with one worker.
async fn in_vpc(world: &World) -> String {
    let vswitch_ids = vec!["vsw-cluster".to_owned()];
    let (vpc_id, num_of_nodes) = (Some("vpc-shared".into()), Some(1));
    let made = world.create(&ClusterCreate { vpc_id, vswitch_ids, num_of_nodes, ..minimal("demo") }).await;
    let made = made.expect("accepted");
    world.settle(&made).await;
    made.cluster_id
}

async fn kept(world: &World, vpc: &str, bare: bool) -> Machine {
    let input = MachineCreate { vpc_id: Some(vpc.into()), bare, ..MachineCreate::default() };
    world.service.machine_create(&world.ctx, &input).await.expect("made").remove(0)
}

fn door(world: &World) {
    world.service.set_host_door(HostDoor {
        address: Some("10.0.0.1:7443".into()),
        port: 7443,
        fingerprint: "ab".repeat(32),
        trouble: None,
        arch: "amd64".into(),
    });
}

/// The token in a line.
fn token(line: &str) -> String {
    let rest = line.split_once("SAMPAN_TOKEN=").expect("a token").1;
    rest.split(' ').next().expect("a word").to_owned()
}

fn join(token: &str, ip: Ipv4Addr) -> HostJoin {
    let report = HostReport { hostname: "db7".into(), os: "Debian".into(), cpus: 4, ..HostReport::default() };
    HostJoin { token: token.into(), ip: Some(ip), peer: IpAddr::V4(ip), report }
}

fn instances(ids: &[&str]) -> Attach {
    Attach { instances: ids.iter().map(|id| (*id).to_owned()).collect(), ..Attach::default() }
}

#[tokio::test]
async fn machines_of_the_inventory_become_nodes() {
    let world = World::new().await;
    let id = in_vpc(&world).await;
    let good = kept(&world, "vpc-shared", false).await;
    let elsewhere = kept(&world, "vpc-other", false).await;
    let bare = kept(&world, "vpc-shared", true).await;
    let input = Attach {
        tags: vec![Tag { key: "rack".into(), value: "7".into() }],
        cpu_policy: Some("static".into()),
        user_data: Some("IyEvYmluL3NoCg==".into()),
        keep_instance_name: Some(false),
        password: Some("Hello1234".into()),
        ..instances(&[&good.id, &elsewhere.id, &bare.id, "i-unknown", &good.id])
    };
    let (list, task_id) = world.service.attach(&world.ctx, &id, &input).await.expect("accepted");
    let refused: Vec<(&str, bool)> = list.iter().map(|one| (one.instance_id.as_str(), one.refusal.is_some())).collect();
    assert_eq!(
        refused,
        [(good.id.as_str(), false), (&elsewhere.id, true), (&bare.id, true), ("i-unknown", true)],
        "each once, in the order asked for"
    );
    assert!(list[1].refusal.as_ref().expect("refused").message.contains("vpc-other"));
    assert!(list[2].refusal.as_ref().expect("refused").message.contains("attachscript"));
    let machine = world.store.get::<Machine>(&good.id).expect("there").value.clone();
    assert_eq!((machine.wanted, machine.state), (MachineWanted::Run, MachineState::Pending));
    assert_eq!((machine.source.as_str(), machine.tags.len()), ("ess_attach", 1));
    assert_eq!(machine.instance_name, format!("worker-k8s-for-cs-{id}"));
    let own = machine.attached.expect("options of its own");
    assert_eq!((own.cpu_policy.as_deref(), own.user_data.as_deref()), (Some("static"), Some("#!/bin/sh\n")));
    let task = world.task(&task_id);
    assert_eq!((task.task_type, task.results.len()), (TaskType::ClusterAttach, 1));
    let again = world.service.attach(&world.ctx, &id, &instances(&[&good.id])).await.expect_err("it is one");
    assert_eq!(again.kind, FaultKind::ClusterState);
}

#[tokio::test]
async fn attaching_is_refused_with_a_reason() {
    let world = World::new().await;
    let id = in_vpc(&world).await;
    let good = kept(&world, "vpc-shared", false).await;
    let with = |input: Attach| Attach { instances: vec![good.id.clone()], ..input };
    for (expected, input) in [
        ("instances", Attach::default()),
        ("password", with(Attach { password: Some("weak".into()), ..Attach::default() })),
        ("cpu_policy", with(Attach { cpu_policy: Some("fast".into()), ..Attach::default() })),
        ("user_data", with(Attach { user_data: Some("***".into()), ..Attach::default() })),
        ("is_edge_worker", with(Attach { is_edge_worker: Some(true), ..Attach::default() })),
        ("NotFound(\"NodePool\")", with(Attach { node_pool_id: Some("np-none".into()), ..Attach::default() })),
    ] {
        let fault = world.service.attach(&world.ctx, &id, &input).await.expect_err(expected);
        assert_eq!(field(&fault), expected);
    }
    let pool = world.store.list_of::<NodePool>(&id)[0].id.clone();
    let full = |pool: &mut NodePool| {
        pool.auto_scaling = Some(AutoScaling { enable: true, max_instances: 0, ..AutoScaling::default() });
        true
    };
    world.store.modify::<NodePool>(&pool, full).await.expect("written");
    let fault = world.service.attach(&world.ctx, &id, &instances(&[&good.id])).await.expect_err("too many");
    assert!(field(&fault) == "instances" && fault.message.contains("max_instances"), "{fault}");
    let open = |pool: &mut NodePool| {
        pool.auto_scaling = None;
        true
    };
    world.store.modify::<NodePool>(&pool, open).await.expect("written");
    let other = world.running("other", 1).await;
    let pool = NodePoolCreate { name: Some("theirs".into()), ..NodePoolCreate::default() };
    let theirs = world.service.node_pool_create(&world.ctx, &other, &pool).await.expect("made").node_pool_id;
    let input = with(Attach { node_pool_id: Some(theirs), ..Attach::default() });
    let fault = world.service.attach(&world.ctx, &id, &input).await.expect_err("pool of another cluster");
    assert_eq!(fault.kind, FaultKind::NotFound("NodePool".into()));
    let fault = world.service.attach(&context("1002"), &id, &with(Attach::default())).await.expect_err("not theirs");
    assert_eq!(fault.kind, FaultKind::ClusterNotFound);
    assert!(world.store.get::<Machine>(&good.id).expect("there").membership.is_none(), "nothing was written");
}

/// The published example has a pool and everything that is not supported with one.
#[tokio::test]
async fn with_a_pool_its_own_values_hold() {
    let world = World::new().await;
    let id = in_vpc(&world).await;
    let good = kept(&world, "vpc-shared", false).await;
    let pool = world.workers(&id)[0].membership.clone().and_then(|member| member.node_pool_id);
    let input = Attach { node_pool_id: pool, cpu_policy: Some("static".into()), ..instances(&[&good.id]) };
    world.service.attach(&world.ctx, &id, &input).await.expect("accepted");
    assert_eq!(world.store.get::<Machine>(&good.id).expect("there").attached, None);
    assert!(world.events().await.iter().any(|(reason, text)| reason == "NotApplied" && text.contains("nodepool_id")));
}

#[tokio::test]
async fn a_line_is_only_made_where_hosts_can_join() {
    let world = World::new().await;
    let id = in_vpc(&world).await;
    let ask = async |input: AttachScript| world.service.attach_script(&world.ctx, &id, &input).await;
    let off = world.service.attach_script(&world.ctx, &id, &AttachScript::default()).await.expect_err("off");
    assert!(off.kind == FaultKind::Unsupported && off.message.contains("--listen-agents"), "{off}");
    door(&world);
    let line = world.service.attach_script(&world.ctx, &id, &AttachScript::default()).await.expect("a line");
    assert!(line.contains("A=10.0.0.1:7443") && line.contains(&"ab".repeat(32)));
    let stored = world.store.list::<Setting>();
    let tokens: Vec<_> = stored.iter().filter(|setting| setting.id.starts_with(JOIN_TOKEN_PREFIX)).collect();
    assert_eq!(tokens.len(), 1);
    let text = format!("{} {}", tokens[0].id, tokens[0].value.value);
    assert!(!text.contains(&token(&line)), "only the hash is stored");
    assert!(world.events().await.iter().all(|(_, text)| !text.contains(&token(&line))));
    let wrong = AttachScript { arch: Some("arm64".into()), ..AttachScript::default() };
    assert_eq!(field(&ask(wrong).await.expect_err("no such agent")), "arch");
    let wrong = AttachScript { node_pool_id: Some("np-none".into()), ..AttachScript::default() };
    assert_eq!(field(&ask(wrong).await.expect_err("no such pool")), "NotFound(\"NodePool\")");
}

#[tokio::test]
async fn a_host_joins_once_with_its_token() {
    let world = World::new().await;
    door(&world);
    let id = in_vpc(&world).await;
    let bare = kept(&world, "vpc-shared", true).await;
    let line = world.service.attach_script(&world.ctx, &id, &AttachScript::default()).await.expect("a line");
    let joined = world.service.host_join(&join(&token(&line), bare.ip)).await.expect("joined");
    assert_eq!((joined.machine_id.as_str(), joined.hostname), (bare.id.as_str(), None), "the record of the bare host");
    let machine = world.store.get::<Machine>(&bare.id).expect("there").value.clone();
    let host = machine.host.clone().expect("a host");
    assert!(host.bare && host.on_link && !host.left);
    assert_eq!((machine.instance_name.as_str(), machine.source.as_str()), ("db7", "ess_attach"));
    assert!(machine.is_worker_of(&id));
    let used = world.service.host_join(&join(&token(&line), bare.ip)).await.expect_err("used");
    assert!(used.kind == FaultKind::Forbidden && used.message.contains("used already"), "{used}");
    // Left again, it is a bare host of the inventory, as before.
    let left = machine.kept();
    assert_eq!(left.host.expect("a host").report, None);
}

#[tokio::test]
async fn a_host_from_elsewhere_gets_a_record_and_a_warning() {
    let world = World::new().await;
    door(&world);
    let id = in_vpc(&world).await;
    let input = AttachScript { keep_instance_name: Some(false), format_disk: Some(true), ..AttachScript::default() };
    let line = world.service.attach_script(&world.ctx, &id, &input).await.expect("a line");
    let outside = Ipv4Addr::new(192, 0, 2, 7);
    let joined = world.service.host_join(&join(&token(&line), outside)).await.expect("joined");
    assert!(joined.format_disk);
    assert_eq!(joined.hostname, Some(format!("worker-k8s-for-cs-{id}")));
    let machine = world.store.get::<Machine>(&joined.machine_id).expect("there").value.clone();
    let host = machine.host.clone().expect("a host");
    assert!(!host.bare && !host.on_link);
    assert_eq!((machine.ip, machine.instance_type.as_str()), (outside, "host"));
    assert!(world.events().await.iter().any(|(reason, _)| reason == "HostOutsideVpc"));
}

#[tokio::test]
async fn hosts_that_cannot_be_nodes_are_refused() {
    let world = World::new().await;
    door(&world);
    let id = in_vpc(&world).await;
    let line = world.service.attach_script(&world.ctx, &id, &AttachScript::default()).await.expect("a line");
    let good = token(&line);
    let ip = Ipv4Addr::new(192, 0, 2, 7);
    let refused = async |input: HostJoin| world.service.host_join(&input).await.expect_err("refused");
    assert_eq!(refused(join("guessed", ip)).await.kind, FaultKind::Forbidden);
    let translated = HostJoin { peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), ..join(&good, ip) };
    assert!(refused(translated).await.message.contains("translated"));
    assert_eq!(field(&refused(join(&good, Ipv4Addr::LOCALHOST)).await), "ip");
    let taken = world.workers(&id)[0].ip;
    assert!(refused(join(&good, taken)).await.message.contains("belongs to"));
    // None of these used the token up; a day does.
    world.clock.advance(24 * 3600 + 1);
    assert!(refused(join(&good, ip)).await.message.contains("expired"));
    world.service.attach_script(&world.ctx, &id, &AttachScript::default()).await.expect("a line");
    let tokens = world.store.list::<Setting>();
    assert_eq!(tokens.iter().filter(|s| s.id.starts_with(JOIN_TOKEN_PREFIX)).count(), 1, "the old one is forgotten");
}

#[tokio::test]
async fn bare_hosts_are_not_taken_for_pools() {
    let world = World::new().await;
    let bare = kept(&world, "vpc-shared", true).await;
    let id = in_vpc(&world).await;
    assert!(world.workers(&id).iter().all(|machine| machine.id != bare.id));
    world.service.machine_delete(&world.ctx, &bare.id).await.expect("accepted");
    let going = world.store.get::<Machine>(&bare.id).expect("until its container is gone");
    assert_eq!(going.wanted, MachineWanted::Release);
}
