//! UpgradeCluster and its siblings, and ModifyClusterConfiguration.

use sampan_store::model::{
    Management, NodePool, TaskState, TaskType, Upgrade, UpgradePhase, UpgradeState, UpgradeWanted,
};

use super::*;
use crate::service::{
    cluster::ClusterModify,
    configuration::{ComponentWish, ConfigurationWish},
    node_pool::ScaleOut,
    upgrade::UpgradeWish,
};

fn settings() -> Settings {
    let kubernetes_versions = ["1.34.1", "1.35.2", "1.35.6", "1.36.3"].map(|v| v.parse().expect("a version")).into();
    Settings { kubernetes_versions, ..Settings::default() }
}

/// A running cluster of 1.35.2.
async fn world(nodes: i64) -> (World, String) {
    let world = World::with(settings()).await;
    let input =
        ClusterCreate { kubernetes_version: Some("1.35.2".into()), num_of_nodes: Some(nodes), ..minimal("demo") };
    let made = world.create(&input).await.expect("made");
    world.settle(&made).await;
    (world, made.cluster_id)
}

fn to(version: &str) -> UpgradeWish {
    UpgradeWish { next_version: Some(version.into()), ..UpgradeWish::default() }
}

impl World {
    async fn upgrade(&self, id: &str, wish: &UpgradeWish) -> Outcome<ClusterTask> {
        self.service.cluster_upgrade(&self.ctx, id, wish).await
    }

    fn upgrade_of(&self, id: &str) -> Upgrade {
        self.cluster(id).upgrade.expect("an upgrade")
    }

    /// As the controllers leave it.
    async fn leave(&self, id: &str, state: UpgradeState, cluster_state: ClusterState) {
        let change = move |cluster: &mut Cluster| {
            cluster.state = cluster_state;
            cluster.upgrade.as_mut().expect("an upgrade").state = state;
            true
        };
        self.store.modify::<Cluster>(id, change).await.expect("written");
        let task_id = self.upgrade_of(id).task_id;
        if !matches!(state, UpgradeState::Running | UpgradeState::Paused) {
            let end = |task: &mut Task| {
                task.state = TaskState::Fail;
                true
            };
            self.store.modify::<Task>(&task_id, end).await.expect("written");
        }
    }
}

#[tokio::test]
async fn an_upgrade_is_recorded_with_its_task() {
    let (world, id) = world(2).await;
    let wish = UpgradeWish { component_name: Some("k8s".into()), version: Some("1.35.2".into()), ..to("v1.36.3") };
    let begun = world.upgrade(&id, &wish).await.expect("accepted");
    let (cluster, upgrade) = (world.cluster(&id), world.upgrade_of(&id));
    assert_eq!((cluster.state, cluster.version.as_str()), (ClusterState::Updating, "1.35.2"));
    assert_eq!(
        (upgrade.from.as_str(), upgrade.to.as_str(), upgrade.phase),
        ("1.35.2", "1.36.3", UpgradePhase::Precheck)
    );
    let task = world.task(&begun.task_id);
    assert_eq!((task.task_type, task.results.len(), task.stages.len()), (TaskType::ClusterUpgrade, 2, 5));
    assert_eq!(upgrade.task_id, begun.task_id);
    assert_eq!(upgrade.report_id.len(), 32);
}

#[tokio::test]
async fn nothing_else_changes_the_control_plane_while_an_upgrade_can_go_on() {
    let (world, id) = world(1).await;
    world.upgrade(&id, &to("1.36.3")).await.expect("accepted");
    world.leave(&id, UpgradeState::Failed, ClusterState::UpdatingFailed).await;
    let fault = world.service.cluster_migrate(&world.ctx, &id).await.expect_err("refused");
    assert!(fault.kind == FaultKind::ClusterState && fault.message.contains("resume or cancel"), "{fault}");
    let pro = ClusterModify { spec: Some("ack.pro.small".into()), ..ClusterModify::default() };
    let fault = world.service.cluster_modify(&world.ctx, &id, &pro).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::ClusterState, "{fault}");
    // Nor does the upgrade go on while something else is in progress.
    let latest = world.upgrade_of(&id).task_id;
    let busy = |task: &mut Task| {
        (task.task_type, task.state) = (TaskType::ClusterMigrate, TaskState::Running);
        true
    };
    world.store.modify::<Task>(&latest, busy).await.expect("written");
    let fault = world.service.upgrade_resume(&world.ctx, &id).await.expect_err("refused");
    assert!(fault.kind == FaultKind::ClusterState && fault.message.contains(&latest), "{fault}");
}

#[tokio::test]
async fn versions_that_cannot_be_upgraded_to_are_refused() {
    let (world, id) = world(1).await;
    let check = async |wish: UpgradeWish, expected: &str, word: &str| {
        let fault = world.upgrade(&id, &wish).await.expect_err(word);
        assert_eq!(field(&fault), expected, "{}", fault.message);
        assert!(fault.message.contains(word), "{word}: {}", fault.message);
    };
    check(UpgradeWish::default(), "next_version", "required").await;
    check(to("1.37.0"), "next_version", "skips").await;
    check(to("2.0.0"), "next_version", "skips").await;
    check(to("1.34.1"), "next_version", "older").await;
    check(to("1.35.2"), "next_version", "have").await;
    check(to("1.36.9"), "next_version", "1.36.3").await;
    check(to("latest"), "next_version", "version").await;
    check(UpgradeWish { component_name: Some("coredns".into()), ..to("1.36.3") }, "component_name", "k8s").await;
    check(UpgradeWish { version: Some("1.34.1".into()), ..to("1.36.3") }, "version", "1.35.2").await;
    let parallel = UpgradeWish { max_parallelism: Some(0), ..to("1.36.3") };
    check(parallel, "rolling_policy.max_parallelism", "1").await;
    assert_eq!(world.cluster(&id).upgrade, None, "nothing is written when anything is refused");
}

#[tokio::test]
async fn what_is_left_out_has_a_default() {
    for (wish, version) in [
        (UpgradeWish { component_name: Some("k8s".into()), ..UpgradeWish::default() }, "1.36.3"),
        (to("1.35"), "1.35.6"),
        (to("1.36"), "1.36.3"),
        (to("1.35.6-aliyun.1"), "1.35.6"),
    ] {
        let (world, id) = world(1).await;
        world.upgrade(&id, &wish).await.expect("accepted");
        assert_eq!(world.upgrade_of(&id).to, version, "{wish:?}");
    }
}

#[tokio::test]
async fn only_a_cluster_that_runs_and_is_free_is_upgraded() {
    let (world, id) = world(1).await;
    let made = world.create(&minimal("young")).await.expect("made");
    let refused = async |id: &str, word: &str| {
        let fault = world.upgrade(id, &to("1.36.3")).await.expect_err(word);
        assert!(matches!(fault.kind, FaultKind::ClusterState), "{fault:?}");
        assert!(fault.message.contains(word), "{word}: {}", fault.message);
    };
    refused(&made.cluster_id, "initial").await;
    let scale = ScaleOut { count: 1, ..ScaleOut::default() };
    let scaling = world.service.scale_out(&world.ctx, &id, &scale).await.expect("accepted");
    refused(&id, "scaling").await;
    world.settle(&scaling).await;
    world.upgrade(&id, &to("1.36.3")).await.expect("accepted");
    refused(&id, "already").await;
    let fault = world.service.scale_out(&world.ctx, &id, &scale).await.expect_err("it is being upgraded");
    assert_eq!(fault.kind, FaultKind::ClusterState);
    world.leave(&id, UpgradeState::Paused, ClusterState::Updating).await;
    refused(&id, "paused").await;
    world.leave(&id, UpgradeState::Failed, ClusterState::UpdatingFailed).await;
    refused(&id, "failed").await;
    world.leave(&id, UpgradeState::Cancelled, ClusterState::Running).await;
    world.upgrade(&id, &to("1.36.3")).await.expect("another one after a cancelled one");
    let unknown = world.upgrade("c0", &to("1.36.3")).await.expect_err("no such cluster");
    assert_eq!(unknown.kind, FaultKind::ClusterNotFound);
    let others = world.service.cluster_upgrade(&context("1002"), &id, &to("1.36.3")).await.expect_err("not theirs");
    assert_eq!(others.kind, FaultKind::ClusterNotFound);
}

#[tokio::test]
async fn nodes_that_stayed_behind_are_upgraded_to_the_clusters_version() {
    let (world, id) = world(1).await;
    let machine = world.workers(&id).remove(0);
    let older = |machine: &mut Machine| {
        machine.membership.as_mut().expect("a member").version = Some("1.34.1".into());
        true
    };
    world.store.modify::<Machine>(&machine.id, older).await.expect("written");
    world.upgrade(&id, &to("1.35.2")).await.expect("accepted");
    assert_eq!((world.upgrade_of(&id).from, world.upgrade_of(&id).to), ("1.35.2".to_owned(), "1.35.2".to_owned()));
}

#[tokio::test]
async fn room_for_added_nodes_is_asked_for() {
    let (world, id) = world(1).await;
    let pools = world.store.list_of::<NodePool>(&id);
    let many = |pool: &mut NodePool| {
        pool.management = Some(Management { enable: true, surge: Some(100), ..Management::default() });
        true
    };
    world.store.modify::<NodePool>(&pools[0].id, many).await.expect("written");
    let fault = world.upgrade(&id, &to("1.36.3")).await.expect_err("too many");
    assert_eq!(field(&fault), "quota Node");
}

#[tokio::test]
async fn pause_resume_and_cancel() {
    let (world, id) = world(1).await;
    let (service, ctx) = (&world.service, &world.ctx);
    let none = service.upgrade_pause(ctx, &id).await.expect_err("there is none");
    assert_eq!(none.kind, FaultKind::ClusterState);
    let task = world.upgrade(&id, &to("1.36.3")).await.expect("accepted").task_id;
    service.upgrade_resume(ctx, &id).await.expect("it goes on anyway");
    service.upgrade_pause(ctx, &id).await.expect("accepted");
    service.upgrade_pause(ctx, &id).await.expect("asked again");
    assert_eq!(world.upgrade_of(&id).wanted, UpgradeWanted::Pause);
    world.leave(&id, UpgradeState::Paused, ClusterState::Updating).await;
    let resumed = service.upgrade_resume(ctx, &id).await.expect("accepted");
    assert_eq!(resumed.task_id, task, "the same work goes on");
    assert_eq!(
        (world.upgrade_of(&id).state, world.upgrade_of(&id).wanted),
        (UpgradeState::Running, UpgradeWanted::Run)
    );
    service.upgrade_cancel(ctx, &id).await.expect("accepted");
    service.upgrade_cancel(ctx, &id).await.expect("asked again");
    for refused in [service.upgrade_pause(ctx, &id).await, service.upgrade_resume(ctx, &id).await] {
        assert!(refused.expect_err("it is being cancelled").message.contains("cancelled"));
    }
    world.leave(&id, UpgradeState::Cancelled, ClusterState::Running).await;
    for refused in [service.upgrade_cancel(ctx, &id).await, service.upgrade_resume(ctx, &id).await] {
        assert!(refused.expect_err("it is over").message.contains("ended"));
    }
}

#[tokio::test]
async fn a_failed_upgrade_goes_on_with_a_new_task() {
    let (world, id) = world(2).await;
    let task = world.upgrade(&id, &to("1.36.3")).await.expect("accepted").task_id;
    world.leave(&id, UpgradeState::Failed, ClusterState::UpdatingFailed).await;
    let resumed = world.service.upgrade_resume(&world.ctx, &id).await.expect("accepted");
    assert_ne!(resumed.task_id, task);
    assert_eq!(world.task(&resumed.task_id).results.len(), 2);
    assert_eq!((world.upgrade_of(&id).task_id, world.cluster(&id).state), (resumed.task_id, ClusterState::Updating));
}

fn config(component: &str, configs: &[(&str, &str)]) -> ConfigurationWish {
    let configs = configs.iter().map(|(key, value)| (Some((*key).to_owned()), Some((*value).to_owned())));
    let component = ComponentWish { name: Some(component.into()), configs: configs.collect() };
    ConfigurationWish { components: vec![component], unknown_fields: Vec::new() }
}

#[tokio::test]
async fn parameters_are_recorded_and_put_back() {
    let (world, id) = world(0).await;
    let configure = async |wish: ConfigurationWish| {
        let done = world.service.cluster_configure(&world.ctx, &id, &wish).await.expect("accepted");
        let change = |cluster: &mut Cluster| {
            if let Some(change) = &mut cluster.control_plane.parameter_change {
                change.done = true;
            }
            true
        };
        world.store.modify::<Cluster>(&id, change).await.expect("written");
        world.settle(&done).await;
        world.cluster(&id).control_plane
    };
    let options = configure(config("kube-apiserver", &[("MaxRequestsInflight", "100"), ("event-ttl", "2h")])).await;
    assert_eq!(options.parameters["kube-apiserver"]["max-requests-inflight"], "100");
    let options = configure(config("kube-scheduler", &[("kube-api-qps", "50")])).await;
    assert_eq!(options.parameters.len(), 2, "what is not named stays");
    let options = configure(config("kube-apiserver", &[("MaxRequestsInflight", ""), ("event-ttl", "")])).await;
    assert_eq!(options.parameters.len(), 1, "an empty value is the default");
    let wish = config("kube-scheduler", &[("kube-api-qps", "50")]);
    let same = world.service.cluster_configure(&world.ctx, &id, &wish).await.expect("nothing to do");
    assert_eq!(world.task(&same.task_id).state, TaskState::Success);
}

#[tokio::test]
async fn parameters_that_may_not_be_set_are_refused() {
    let (world, id) = world(0).await;
    let check = async |wish: ConfigurationWish, expected: &str| {
        let fault = world.service.cluster_configure(&world.ctx, &id, &wish).await.expect_err(expected);
        assert_eq!(field(&fault), expected, "{}", fault.message);
    };
    check(ConfigurationWish::default(), "customize_config").await;
    check(config("etcd", &[("v", "1")]), "customize_config[0].name").await;
    check(config("", &[("v", "1")]), "customize_config[0].name").await;
    check(config("kube-apiserver", &[]), "customize_config[0].configs").await;
    check(config("kube-apiserver", &[("anonymous-auth", "true")]), "customize_config[0].configs[0].key").await;
    check(config("kube-apiserver", &[("v", "11")]), "customize_config[0].configs[0].value").await;
    check(config("kube-apiserver", &[("v", "1"), ("V", "2")]), "customize_config[0].configs[1]").await;
    world.upgrade(&id, &to("1.36.3")).await.expect("accepted");
    let fault = world.service.cluster_configure(&world.ctx, &id, &config("kube-apiserver", &[("v", "1")])).await;
    assert_eq!(fault.expect_err("it is being upgraded").kind, FaultKind::ClusterState);
}
