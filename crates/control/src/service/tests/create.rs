//! CreateCluster.

use std::collections::HashSet;

use sampan_store::model::{
    Addon, ClusterState, MachineRole, MachineWanted, MaintenanceWindow, NodePool, Tag, TaskState, VSwitch, Vpc,
};
use serde_json::json;

use super::*;
use crate::service::{
    Nonce, Quotas, UnknownVersion,
    node_pool::{Charge, Disk, Login, NodePoolCreate, NodePoolOptions},
};

fn some(text: &str) -> Option<String> {
    Some(text.into())
}

#[tokio::test]
async fn everything_is_recorded_at_once() {
    let world = World::new().await;
    let input = ClusterCreate { num_of_nodes: Some(2), deletion_protection: Some(true), ..minimal("demo") };
    let made = world.create(&input).await.expect("accepted");

    let cluster = world.cluster(&made.cluster_id);
    assert_eq!(cluster.state, ClusterState::Initial);
    assert_eq!((cluster.version.as_str(), cluster.spec.as_str()), ("1.36.3", "ack.standard"));
    assert_eq!(cluster.network.pod_cidr.to_string(), "172.16.0.0/16");
    assert_eq!(cluster.network.service_cidr.to_string(), "172.19.0.0/20");
    assert_eq!(cluster.network.dns_ip.to_string(), "172.19.0.10");
    assert_eq!(cluster.network.api_vip.to_string(), "10.200.15.1");
    assert!(cluster.network.api_public_port.is_some());
    assert!(cluster.deletion_protection && !cluster.disable_rollback);
    assert_eq!(cluster.zone_id, "cn-beijing-a");

    let vpc = world.store.get::<Vpc>(&cluster.network.vpc_id).expect("a VPC");
    assert_eq!(vpc.cidr.to_string(), "10.200.0.0/20");
    assert_eq!(world.store.list_of::<VSwitch>(&vpc.id).len(), 1);
    let pools = world.store.list_of::<NodePool>(&cluster.id);
    assert_eq!((pools.len(), pools[0].is_default, pools[0].name.as_str()), (1, true, "default-nodepool"));

    let machines = world.store.list_of::<Machine>(&cluster.id);
    let roles: Vec<_> = machines.iter().filter_map(|m| m.membership.as_ref().map(|s| s.role)).collect();
    assert_eq!(roles.iter().filter(|r| **r == MachineRole::ControlPlane).count(), 1);
    let workers = world.workers(&cluster.id);
    let nets: HashSet<_> = workers.iter().filter_map(|w| w.membership.as_ref().and_then(|m| m.pod_cidr)).collect();
    assert_eq!((workers.len(), nets.len()), (2, 2));
    let ips: HashSet<_> = machines.iter().map(|m| m.ip).collect();
    assert_eq!(ips.len(), 3);
    for worker in &workers {
        let membership = worker.membership.as_ref().expect("a member");
        assert_eq!(membership.node_name, format!("cn-beijing.{}", worker.ip));
        assert!(cluster.network.pod_cidr.contains(&membership.pod_cidr.expect("a range")));
    }

    let task = world.task(&made.task_id);
    assert_eq!((task.state, task.results.len()), (TaskState::Running, 2));
    assert_eq!(task.stages.len(), 5);
    let events = world.events().await;
    assert_eq!(events[0].0, "Started");
}

#[tokio::test]
async fn published_examples_are_accepted() {
    let world = World::new().await;
    // 2022 edition, 9.1.2.
    let addon = |name: &str, config: Option<&str>, disabled: bool| Addon {
        name: name.into(),
        version: None,
        config: config.map(String::from),
        disabled,
        installed: false,
    };
    let newer = ClusterCreate {
        name: some("ACK托管版"),
        region_id: some("cn-zhangjiakou"),
        cluster_type: some("ManagedKubernetes"),
        cluster_spec: some("ack.pro.small"),
        kubernetes_version: some("1.18.8-aliyun.1"),
        resource_group_id: some("rg-acfm3mkrure****"),
        vpc_id: some("vpc-8vbh3b9a2f38urhls****"),
        vswitch_ids: vec!["vsw-8vbmoffowsztjaawj****".into()],
        container_cidr: some("172.20.0.0/16"),
        service_cidr: some("172.21.0.0/20"),
        security_group_id: some("sg-8vb7grbyvlb10j0i****"),
        node_cidr_mask: Some(25),
        snat_entry: Some(true),
        endpoint_public_access: Some(true),
        timezone: some("Asia/Shanghai"),
        proxy_mode: some("ipvs"),
        tags: vec![Tag { key: "tag-k".into(), value: "tag-v".into() }],
        cluster_domain: some("cluster.local"),
        custom_san: some("cs.aliyuncs.com"),
        service_account_issuer: some("kubernetes.default.svc"),
        api_audiences: some("kubernetes.default.svc"),
        encryption_provider_key: some("8734596c-c0d6-4a63-a76e-fe72c7b0****"),
        timeout_mins: Some(60),
        disable_rollback: Some(true),
        deletion_protection: Some(true),
        addons: vec![
            addon("flannel", None, false),
            addon("csi-plugin", None, false),
            addon("csi-provisioner", None, false),
            addon("logtail-ds", Some(r#"{"IngressDashboardEnabled":"true"}"#), false),
            addon("ack-node-problem-detector", Some(r#"{"sls_project_name":""}"#), false),
            addon("nginx-ingress-controller", Some(r#"{"IngressSlbNetworkType":"internet"}"#), true),
            addon("arms-prometheus", None, false),
        ],
        request: json!({"pod_vswitch_ids": ["vsw-8vbo5fwyqiw0bbtlq****"], "load_balancer_spec": "slb.s2.small",
            "enable_rrsa": true, "is_enterprise_security_group": true, "snat_entry": true,
            "encryption_provider_key": "8734596c-c0d6-4a63-a76e-fe72c7b0****",
            "controlplane_log_ttl": 30, "controlplane_log_project": "k8s-log-xxx",
            "controlplane_log_components": ["apiserver", "kcm", "scheduler"]}),
        ..ClusterCreate::default()
    };
    let made = world.create(&newer).await.expect("accepted");
    let cluster = world.cluster(&made.cluster_id);
    assert_eq!(cluster.version, "1.36.3");
    assert_eq!((cluster.region_id.as_str(), cluster.zone_id.as_str()), ("cn-zhangjiakou", "cn-zhangjiakou-a"));
    let events = world.events().await;
    let reasons: Vec<&str> = events.iter().map(|(reason, _)| reason.as_str()).collect();
    assert!(reasons.contains(&"VersionReplaced") && reasons.contains(&"NotApplied"), "{reasons:?}");
    assert_eq!(reasons.iter().filter(|r| **r == "AddonNotInstalled").count(), 6);

    // 2019 edition, 2.2 (with the cluster type that both of its templates give).
    let older = ClusterCreate {
        disable_rollback: Some(true),
        timeout_mins: Some(60),
        kubernetes_version: some("1.12.6-aliyun.1"),
        region_id: some("cn-beijing"),
        snat_entry: Some(true),
        endpoint_public_access: Some(false),
        node_cidr_mask: Some(25),
        proxy_mode: some("ipvs"),
        addons: vec![addon("flannel", None, false), addon("nginx-ingress-controller", None, false)],
        num_of_nodes: Some(3),
        vpc_id: some("vpc-2zegvl5etah5requ09nec"),
        container_cidr: some("172.20.0.0/16"),
        service_cidr: some("172.21.0.0/20"),
        vswitch_ids: vec!["vsw-2ze48rkg464rsdts1****".into()],
        workers: NodePoolOptions {
            instance_types: vec!["ecs.hfc5.xlarge".into()],
            system_disk: Disk { category: some("cloud_efficiency"), size: Some(120), ..Disk::default() },
            charge: Charge { charge_type: some("PostPaid"), ..Charge::default() },
            login: Login { password: some("test@19****"), key_pair: None },
            ..NodePoolOptions::default()
        },
        ..minimal("test")
    };
    let made = world.create(&older).await.expect("accepted");
    let cluster = world.cluster(&made.cluster_id);
    assert_eq!(cluster.network.api_public_port, None);
    assert_eq!(world.workers(&cluster.id)[0].instance_type, "ecs.hfc5.xlarge");
    let pool = &world.store.list_of::<NodePool>(&cluster.id)[0];
    let password = world.store.secret(&format!("cluster/{}/node-pool/{}/login-password", cluster.id, pool.id)).await;
    assert_eq!(password.expect("readable").expect("stored").as_str(), Some("test@19****"));
    assert!(!serde_json::to_string(&pool.value).expect("JSON").contains("test@19"));
}

#[tokio::test]
async fn refusals_name_the_field_and_create_nothing() {
    let world = World::new().await;
    let base = || minimal("demo");
    let window = |enable| MaintenanceWindow { enable, maintenance_time: "03:00:00Z".into(), ..Default::default() };
    let pool = |name: &str| NodePoolCreate { name: some(name), count: Some(1), ..NodePoolCreate::default() };
    let cases: Vec<(&str, ClusterCreate)> = vec![
        ("name", ClusterCreate { name: None, ..base() }),
        ("name", ClusterCreate { name: some("-a"), ..base() }),
        ("cluster_type", ClusterCreate { cluster_type: None, ..base() }),
        ("cluster_type", ClusterCreate { cluster_type: some("Ask"), ..base() }),
        ("cluster_type", ClusterCreate { cluster_type: some("my-test-Kubernetes-cluster"), ..base() }),
        ("profile", ClusterCreate { profile: some("Edge"), ..base() }),
        ("cluster_spec", ClusterCreate { cluster_spec: some("ack.huge"), ..base() }),
        ("region_id", ClusterCreate { region_id: some("Beijing!"), ..base() }),
        ("kubernetes_version", ClusterCreate { kubernetes_version: some("latest"), ..base() }),
        ("vswitch_ids", ClusterCreate { vpc_id: some("vpc-1"), ..base() }),
        ("vpcid", ClusterCreate { vswitch_ids: vec!["vsw-1".into()], ..base() }),
        ("vpcid", ClusterCreate { vpc_id: some("vpc 1"), vswitch_ids: vec!["vsw-1".into()], ..base() }),
        (
            "vswitch_ids",
            ClusterCreate {
                vpc_id: some("vpc-1"),
                vswitch_ids: (0..6).map(|n| format!("vsw-{n}")).collect(),
                ..base()
            },
        ),
        ("snat_entry", ClusterCreate { snat_entry: Some(false), ..base() }),
        ("container_cidr", ClusterCreate { container_cidr: some("10.0.0.0/8"), ..base() }),
        ("container_cidr", ClusterCreate { container_cidr: some("172.20.0.0/25"), num_of_nodes: Some(1), ..base() }),
        (
            "service_cidr",
            ClusterCreate { container_cidr: some("172.19.0.0/16"), service_cidr: some("172.19.0.0/20"), ..base() },
        ),
        ("node_cidr_mask", ClusterCreate { node_cidr_mask: Some(30), ..base() }),
        ("timezone", ClusterCreate { timezone: some("Mars/Base"), ..base() }),
        ("proxy_mode", ClusterCreate { proxy_mode: some("ebpf"), ..base() }),
        ("cluster_domain", ClusterCreate { cluster_domain: some("UPPER"), ..base() }),
        ("custom_san", ClusterCreate { custom_san: some("a b"), ..base() }),
        ("service_account_issuer", ClusterCreate { service_account_issuer: some("a b"), ..base() }),
        ("tags", ClusterCreate { tags: vec![Tag { key: "aliyun".into(), value: String::new() }], ..base() }),
        ("timeout_mins", ClusterCreate { timeout_mins: Some(0), ..base() }),
        ("timeout_mins", ClusterCreate { timeout_mins: Some(1441), ..base() }),
        ("num_of_nodes", ClusterCreate { num_of_nodes: Some(301), ..base() }),
        ("num_of_nodes", ClusterCreate { num_of_nodes: Some(-1), ..base() }),
        ("quota Node", ClusterCreate { num_of_nodes: Some(101), ..base() }),
        ("maintenance_window", ClusterCreate { maintenance_window: Some(window(true)), ..base() }),
        ("encryption_provider_key", ClusterCreate { encryption_provider_key: some("key"), ..base() }),
        ("user_ca", ClusterCreate { user_ca: some("not PEM"), ..base() }),
        ("instances", ClusterCreate { request: json!({"instances": ["i-1"]}), ..base() }),
        (
            "runtime",
            ClusterCreate {
                workers: NodePoolOptions { runtime: some("Sandboxed-Container.runv"), ..Default::default() },
                ..base()
            },
        ),
        ("nodepools[0].nodepool_info.name", ClusterCreate { node_pools: vec![pool("")], ..base() }),
        ("nodepools[1].nodepool_info.name", ClusterCreate { node_pools: vec![pool("a"), pool("a")], ..base() }),
    ];
    for (expected, input) in cases {
        let fault = world.create(&input).await.expect_err(expected);
        assert_eq!(field(&fault), expected, "{}", fault.message);
        assert!(expected.starts_with("quota") || fault.message.contains(expected), "{expected}: {}", fault.message);
    }
    assert!(world.store.list::<Cluster>().is_empty());
    assert!(world.store.list::<Vpc>().is_empty() && world.store.list::<Machine>().is_empty());
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn strict_installations_refuse_what_they_do_not_have() {
    let settings =
        Settings { create_referenced: false, unknown_version: UnknownVersion::Refuse, ..Settings::default() };
    let world = World::with(settings).await;
    let check = async |input: ClusterCreate, expected: &str| {
        assert_eq!(field(&world.create(&input).await.expect_err(expected)), expected);
    };
    check(ClusterCreate { kubernetes_version: some("1.22.3-aliyun.1"), ..minimal("a") }, "kubernetes_version").await;
    let vpc = ClusterCreate { vpc_id: some("vpc-1"), vswitch_ids: vec!["vsw-1".into()], ..minimal("a") };
    check(vpc, "vpcid").await;
    let made = world.create(&minimal("a")).await.expect("its own VPC");
    let vpc_id = world.cluster(&made.cluster_id).network.vpc_id;
    check(ClusterCreate { vpc_id: Some(vpc_id), vswitch_ids: vec!["vsw-1".into()], ..minimal("b") }, "vswitch_ids")
        .await;
}

#[tokio::test]
async fn names_are_unique_per_account() {
    let world = World::new().await;
    world.create(&minimal("demo")).await.expect("accepted");
    assert_eq!(field(&world.create(&minimal("demo")).await.expect_err("taken")), "name");
    let other = context("1002");
    world.service.cluster_create(&other, &minimal("demo")).await.expect("another account's");
}

#[tokio::test]
async fn quotas_are_enforced() {
    let quotas = Quotas { clusters: 3, managed_clusters: 2, ..Quotas::default() };
    let world = World::with(Settings { quotas, ..Settings::default() }).await;
    for name in ["a", "b"] {
        world.create(&minimal(name)).await.expect("room");
    }
    assert_eq!(field(&world.create(&minimal("c")).await.expect_err("full")), "quota ManagedCluster");
    world.service.quotas_set(&world.ctx, Quotas { clusters: 2, ..Quotas::default() }).await.expect("set");
    assert_eq!(field(&world.create(&minimal("c")).await.expect_err("full")), "quota Cluster");
    world.service.quotas_set(&world.ctx, Quotas { nodes_per_cluster: 1, ..Quotas::default() }).await.expect("set");
    let two = ClusterCreate { num_of_nodes: Some(2), ..minimal("c") };
    assert_eq!(field(&world.create(&two).await.expect_err("too many")), "quota Node");
    let user = RequestContext { is_root: false, ..world.ctx.clone() };
    let fault = world.service.quotas_set(&user, Quotas::default()).await.expect_err("not root");
    assert_eq!(fault.kind, FaultKind::Forbidden);
}

#[tokio::test]
async fn clusters_in_one_vpc_keep_apart() {
    let world = World::new().await;
    let shared = |name: &str, pods: Option<&str>| ClusterCreate {
        vpc_id: some("vpc-shared"),
        vswitch_ids: vec!["vsw-shared-1".into(), "vsw-shared-2".into()],
        container_cidr: pods.map(String::from),
        num_of_nodes: Some(2),
        ..minimal(name)
    };
    let first = world.create(&shared("a", None)).await.expect("accepted");
    let fault = world.create(&shared("b", Some("172.16.0.0/12"))).await.expect_err("overlaps");
    assert_eq!(field(&fault), "container_cidr");
    let second = world.create(&shared("b", None)).await.expect("another default");
    let (first, second) = (world.cluster(&first.cluster_id), world.cluster(&second.cluster_id));
    assert_eq!(first.network.vpc_id, second.network.vpc_id);
    assert_ne!(first.network.pod_cidr, second.network.pod_cidr);
    assert_ne!(first.network.api_vip, second.network.api_vip);
    assert_ne!(first.network.api_public_port, second.network.api_public_port);
    let zones: HashSet<String> = world.workers(&first.id).into_iter().map(|m| m.zone_id).collect();
    assert_eq!(zones.len(), 2, "workers are spread over the vSwitches");
    let machines = world.store.list::<Machine>();
    let ips: HashSet<_> = machines.iter().map(|m| m.ip).collect();
    let macs: HashSet<_> = machines.iter().map(|m| m.mac.clone()).collect();
    assert_eq!((machines.len(), ips.len(), macs.len()), (6, 6, 6));
}

#[tokio::test]
async fn a_vswitch_of_another_vpc_is_refused() {
    let world = World::new().await;
    let with = |name: &str, vpc: &str, vswitch: &str| ClusterCreate {
        vpc_id: some(vpc),
        vswitch_ids: vec![vswitch.into()],
        ..minimal(name)
    };
    world.create(&with("a", "vpc-1", "vsw-1")).await.expect("accepted");
    assert_eq!(field(&world.create(&with("b", "vpc-2", "vsw-1")).await.expect_err("elsewhere")), "vswitch_ids");
    let elsewhere = ClusterCreate { region_id: some("cn-hangzhou"), ..with("b", "vpc-1", "vsw-2") };
    assert_eq!(field(&world.create(&elsewhere).await.expect_err("other region")), "vpcid");
    let other = context("1002");
    let fault = world.service.cluster_create(&other, &with("b", "vpc-1", "vsw-2")).await.expect_err("other account");
    assert_eq!(field(&fault), "vpcid");
}

#[tokio::test]
async fn pools_are_made_with_the_cluster() {
    let world = World::new().await;
    let pool = |name: &str, count: i64| NodePoolCreate { name: some(name), count: Some(count), ..Default::default() };
    let only = ClusterCreate { node_pools: vec![pool("a", 1), pool("b", 2)], ..minimal("only") };
    let made = world.create(&only).await.expect("accepted");
    let names = |id: &str| -> Vec<(String, bool)> {
        let pools = world.service.node_pools(&world.ctx, id, None).expect("pools");
        pools.iter().map(|(p, _)| (p.name.clone(), p.is_default)).collect()
    };
    assert_eq!(names(&made.cluster_id), [("a".into(), true), ("b".into(), false)]);
    assert_eq!(world.workers(&made.cluster_id).len(), 3);
    let both = ClusterCreate { node_pools: vec![pool("a", 0)], num_of_nodes: Some(1), ..minimal("both") };
    let made = world.create(&both).await.expect("accepted");
    assert_eq!(names(&made.cluster_id), [("default-nodepool".into(), true), ("a".into(), false)]);
}

#[tokio::test]
async fn a_client_token_makes_repetitions_one_request() {
    let world = World::new().await;
    let input = ClusterCreate { client_token: some("token-1"), ..minimal("demo") };
    let first = world.create(&input).await.expect("accepted");
    assert_eq!(world.create(&input).await.expect("the same"), first);
    let other = ClusterCreate { client_token: some("token-1"), ..minimal("other") };
    assert_eq!(field(&world.create(&other).await.expect_err("another request")), "client_token");
    assert_eq!(world.store.list::<Cluster>().len(), 1);
}

#[tokio::test]
async fn a_nonce_is_used_up_with_the_change() {
    let world = World::new().await;
    let expires = world.clock.now().checked_add(jiff::SignedDuration::from_mins(30)).expect("a time");
    let nonce = Nonce { access_key_id: "key".into(), value: "nonce".into(), expires };
    let ctx = RequestContext { nonce: Some(nonce), ..world.ctx.clone() };
    let bad = ClusterCreate { name: some("-"), ..minimal("x") };
    world.service.cluster_create(&ctx, &bad).await.expect_err("refused, so the nonce is still good");
    world.service.cluster_create(&ctx, &minimal("a")).await.expect("accepted");
    let fault = world.service.cluster_create(&ctx, &minimal("b")).await.expect_err("used");
    assert_eq!(fault.kind, FaultKind::NonceUsed);
    assert_eq!(world.store.list::<Cluster>().len(), 1);
}

#[tokio::test]
async fn concurrent_creations_share_nothing() {
    let world = World::new().await;
    let inputs: Vec<ClusterCreate> =
        (0..8).map(|n| ClusterCreate { num_of_nodes: Some(2), ..minimal(&format!("c{n}")) }).collect();
    let made = futures::future::join_all(inputs.iter().map(|input| world.create(input))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let clusters = world.store.list::<Cluster>();
    let ports: HashSet<_> = clusters.iter().filter_map(|c| c.network.api_public_port).collect();
    let vips: HashSet<_> = clusters.iter().map(|c| c.network.api_vip).collect();
    let ips: HashSet<_> = world.store.list::<Machine>().iter().map(|m| m.ip).collect();
    assert_eq!((ports.len(), vips.len(), ips.len()), (8, 8, 24));
}

#[tokio::test]
async fn what_the_host_does_not_have_is_said() {
    let world = World::new().await;
    world.service.set_host(Arc::new(crate::kubernetes::HostFacts {
        can_lower_oom_score: true,
        ipvs: false,
        cpus: 2,
        memory_bytes: 4 << 30,
        name_servers: Vec::new(),
    }));
    world.create(&ClusterCreate { num_of_nodes: Some(1), ..minimal("demo") }).await.expect("accepted");
    let reasons: Vec<String> = world.events().await.into_iter().map(|(reason, _)| reason).collect();
    assert!(reasons.contains(&"InstanceTypeLimited".to_owned()), "{reasons:?}");
    assert!(reasons.contains(&"ProxyModeReplaced".to_owned()), "{reasons:?}");
}

#[tokio::test]
async fn user_ca_and_unknown_fields() {
    let world = World::new().await;
    let input = ClusterCreate { unknown_fields: vec!["colour".into()], ..minimal("demo") };
    world.create(&input).await.expect("accepted");
    let events = world.events().await;
    assert!(events.iter().any(|(reason, text)| reason == "FieldsIgnored" && text.contains("colour")), "{events:?}");
    assert!(world.store.list::<Machine>().iter().all(|m| m.wanted == MachineWanted::Run));
}
