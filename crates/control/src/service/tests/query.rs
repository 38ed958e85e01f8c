//! What users ask for: lists, tasks, events, versions, kubeconfigs.

use sampan_store::model::{KubeCredential, TaskState};

use super::*;
use crate::service::{
    cluster::{ClusterFilter, ResourceKind},
    credentials::KubeconfigWanted,
    event::{EventsWanted, Paging},
    metadata::VersionsWanted,
    node::NodeFilter,
    version::Version,
};

fn paging(number: i64, size: i64) -> Paging {
    Paging::check(("page_number", Some(number)), ("page_size", Some(size)), 10, 100).expect("fine")
}

#[tokio::test]
async fn lists_and_filters() {
    let world = World::new().await;
    let a = world.running("a", 2).await;
    world.clock.advance(1);
    let elsewhere = ClusterCreate { region_id: Some("cn-hangzhou".into()), ..minimal("b") };
    let b = world.create(&elsewhere).await.expect("made").cluster_id;
    let ids = |filter: ClusterFilter| -> Vec<String> {
        let clusters = world.service.clusters(&world.ctx, &filter).expect("a list");
        clusters.iter().map(|c| c.id.clone()).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(ids(ClusterFilter::default()), [b.clone(), a.clone()]);
    assert_eq!(ids(ClusterFilter { name: some("a"), ..Default::default() }), std::slice::from_ref(&a));
    assert_eq!(ids(ClusterFilter { region_id: some("cn-hangzhou"), ..Default::default() }), std::slice::from_ref(&b));
    assert_eq!(ids(ClusterFilter { cluster_type: some("Ask"), ..Default::default() }), Vec::<String>::new());
    assert_eq!(ids(ClusterFilter { spec: some(""), profile: some("Default"), ..Default::default() }).len(), 2);
    let wrong = ClusterFilter { cluster_type: some("Castle"), ..Default::default() };
    assert_eq!(field(&world.service.clusters(&world.ctx, &wrong).expect_err("no type")), "cluster_type");
    assert!(world.service.clusters(&context("1002"), &ClusterFilter::default()).expect("a list").is_empty());

    let resources = world.service.cluster_resources(&world.ctx, &a).expect("resources");
    let count = |kind| resources.iter().filter(|r| r.kind == kind).count();
    assert_eq!((count(ResourceKind::LoadBalancer), count(ResourceKind::Vpc), count(ResourceKind::VSwitch)), (1, 1, 1));
    assert_eq!((count(ResourceKind::SecurityGroup), count(ResourceKind::Instance)), (1, 2));
}

#[tokio::test]
async fn nodes_by_page_and_filter() {
    let world = World::new().await;
    let id = world.running("demo", 3).await;
    let nodes = |filter: NodeFilter, page: Paging| world.service.nodes(&world.ctx, &id, &filter, page);
    let all = nodes(NodeFilter::default(), paging(1, 2)).expect("nodes");
    assert_eq!((all.items.len(), all.total), (2, 3));
    assert_eq!(nodes(NodeFilter::default(), paging(2, 2)).expect("nodes").items.len(), 1);
    assert_eq!(nodes(NodeFilter::default(), paging(9, 2)).expect("nodes").items.len(), 0);
    let one = NodeFilter { instance_ids: vec![all.items[0].id.clone()], ..Default::default() };
    assert_eq!(nodes(one, paging(1, 10)).expect("nodes").total, 1);
    let state = |word: &str| NodeFilter { state: Some(word.into()), ..Default::default() };
    assert_eq!(nodes(state("running"), paging(1, 10)).expect("nodes").total, 3);
    assert_eq!(nodes(state("initial"), paging(1, 10)).expect("nodes").total, 0);
    assert_eq!(field(&nodes(state("lost"), paging(1, 10)).expect_err("no state")), "state");
    for (number, size) in [(0, 10), (1, 0), (1, 101)] {
        Paging::check(("pageNumber", Some(number)), ("pageSize", Some(size)), 10, 100).expect_err("outside");
    }
}

#[tokio::test]
async fn tasks_and_events() {
    let world = World::new().await;
    let made = world.create(&minimal("demo")).await.expect("made");
    let task = world.service.task(&world.ctx, &made.task_id).expect("a task");
    assert_eq!(task.state, TaskState::Running);
    assert_eq!(task.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>()[0], "network");
    let told = world.service.task_events(&world.ctx, &task).await.expect("events");
    assert_eq!(told.first().map(|e| e.reason.as_str()), Some("Started"));
    let fault = world.service.task(&context("1002"), &made.task_id).expect_err("not theirs");
    assert_eq!(fault.kind, FaultKind::NotFound("Task".into()));
    let wanted = EventsWanted { cluster_id: Some(made.cluster_id.clone()), event_type: Some("cluster_create".into()) };
    let page = world.service.events(&world.ctx, wanted, paging(1, 1)).await.expect("events");
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].source, format!("/clusters/{}", made.cluster_id));
    let none = EventsWanted { event_type: Some("cluster_upgrade".into()), ..Default::default() };
    assert_eq!(world.service.events(&world.ctx, none, paging(1, 10)).await.expect("events").total, 0);
    assert!(world.service.cluster_logs(&world.ctx, &made.cluster_id).await.expect("lines").len() >= 2);
}

#[tokio::test]
async fn kubeconfigs() {
    let world = World::new().await;
    let made =
        world.create(&ClusterCreate { endpoint_public_access: Some(false), ..minimal("private") }).await.expect("made");
    let get = async |id: &str, private: bool, minutes: Option<i64>| {
        world.service.kubeconfig(&world.ctx, id, KubeconfigWanted { private, minutes }).await
    };
    assert_eq!(get(&made.cluster_id, true, None).await.err().map(|f| f.kind), Some(FaultKind::ClusterState));
    world.settle(&made).await;
    let internal = get(&made.cluster_id, true, None).await.expect("internal");
    assert!(internal.text.contains("server: https://10.200.15.1:6443"), "{}", internal.text);
    let days = internal.issued.expires.duration_since(world.clock.now()).as_hours() / 24;
    assert_eq!(days, 1095);
    let fault = get(&made.cluster_id, false, None).await.err().expect("no public endpoint");
    assert_eq!(fault.kind, FaultKind::NotFound("Kubeconfig".into()));
    assert!(world.service.cluster_certs(&world.ctx, &made.cluster_id).await.is_ok(), "the internal one then");

    let id = world.running("public", 0).await;
    let port = world.cluster(&id).network.api_public_port.expect("a port");
    let temporary = get(&id, false, Some(15)).await.expect("public");
    assert!(temporary.text.contains(&format!("https://127.0.0.1:{port}")), "{}", temporary.text);
    assert_eq!(temporary.issued.expires.duration_since(world.clock.now()).as_mins(), 15);
    for minutes in [14, 4321, -1] {
        let fault = get(&id, false, Some(minutes)).await.err().expect("outside");
        assert_eq!(field(&fault), "TemporaryDurationMinutes");
    }
    assert_eq!(world.store.list_of::<KubeCredential>(&id).len(), 1);
    let user = RequestContext { is_root: false, principal: "alice".into(), ..world.ctx.clone() };
    let theirs = world.service.kubeconfig(&user, &id, KubeconfigWanted::default()).await.expect("theirs");
    assert_eq!(theirs.issued.certificate_pem, "certificate of alice in sampan:users");
}

#[tokio::test]
async fn versions_quotas_and_the_service() {
    let versions = vec![Version { major: 1, minor: 35, patch: 2 }, Version { major: 1, minor: 36, patch: 3 }];
    let world = World::with(Settings { kubernetes_versions: versions, ..Settings::default() }).await;
    let wanted = |cluster_type: Option<&str>, version: Option<&str>, runtime: Option<&str>| VersionsWanted {
        region: Some("cn-beijing".into()),
        cluster_type: cluster_type.map(String::from),
        kubernetes_version: version.map(String::from),
        runtime: runtime.map(String::from),
        profile: None,
    };
    let list = |w: VersionsWanted| world.service.kubernetes_versions(&world.ctx, &w);
    let managed = list(wanted(Some("ManagedKubernetes"), None, None)).expect("versions");
    assert_eq!(managed.iter().map(|o| o.version.to_string()).collect::<Vec<_>>(), ["1.36.3", "1.35.2"]);
    assert_eq!(managed[1].upgrades.len(), 1);
    assert_eq!(list(wanted(Some("ManagedKubernetes"), Some("1.35"), None)).expect("versions").len(), 1);
    for (runtime, count) in [("docker", 2), ("containerd", 2), ("Sandboxed-Container.runv", 0)] {
        assert_eq!(list(wanted(Some("ManagedKubernetes"), None, Some(runtime))).expect(runtime).len(), count);
    }
    assert_eq!(list(wanted(Some("Ask"), None, None)).expect("none").len(), 0);
    assert_eq!(field(&list(wanted(None, None, None)).expect_err("missing")), "ClusterType");
    assert_eq!(field(&list(VersionsWanted::default()).expect_err("missing")), "Region");
    assert_eq!(world.service.quotas(&world.ctx).managed_clusters, 20);

    let order = world.service.open_service(&world.ctx, Some("propayasgo")).await.expect("opened");
    assert_eq!(order.len(), 16);
    assert_eq!(world.service.open_service(&world.ctx, Some("propayasgo")).await.expect("again"), order);
    assert_ne!(world.service.open_service(&world.ctx, None).await.expect("another"), order);
    assert_eq!(field(&world.service.open_service(&world.ctx, Some("free")).await.expect_err("no type")), "type");
}
