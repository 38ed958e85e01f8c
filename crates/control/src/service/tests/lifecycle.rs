//! StopCluster, StartCluster, backups and returns to them, health and certificates: what is recorded and what is refused.

use sampan_store::{
    MasterKey,
    model::{Condition, Halted, Health, RestorePhase, Retain, TaskState, TaskType, new_token},
};

use super::*;
use crate::{
    backup::{Backup, Kind, Shelf, Writer},
    service::{
        cluster::{ClusterDelete, ClusterModify},
        credentials::KubeconfigWanted,
    },
};

async fn stop(world: &World, id: &str) -> Outcome<ClusterTask> {
    world.service.cluster_stop(&world.ctx, id).await
}

async fn start(world: &World, id: &str) -> Outcome<ClusterTask> {
    world.service.cluster_start(&world.ctx, id).await
}

/// Does what the controllers do at the end of a stop.
async fn is_off(world: &World, work: &ClusterTask) {
    let cluster = world.cluster(&work.cluster_id);
    let mut batch = Batch::new();
    let power = cluster.power.clone().map(|power| sampan_store::model::Power { halted: Halted::All, ..power });
    batch.put(&Cluster { state: ClusterState::Stopped, power, ..cluster });
    batch.put(&Task { state: TaskState::Success, ..world.task(&work.task_id) });
    world.store.commit(batch).await.expect("written");
}

async fn set_state(world: &World, id: &str, state: ClusterState) {
    let mut batch = Batch::new();
    batch.put(&Cluster { state, ..world.cluster(id) });
    world.store.commit(batch).await.expect("written");
}

#[tokio::test]
async fn a_cluster_is_stopped_once_and_started_once() {
    let world = World::new().await;
    let id = world.running("demo", 2).await;
    let first = stop(&world, &id).await.expect("accepted");
    assert_eq!(stop(&world, &id).await.expect("again"), first, "the same task");
    let power = world.cluster(&id).power.expect("a wish");
    assert_eq!((power.stop, power.halted, world.cluster(&id).state), (true, Halted::Workers, ClusterState::Updating));
    assert_eq!(world.task(&first.task_id).task_type, TaskType::ClusterStop);
    assert_eq!(start(&world, &id).await.expect_err("goes off").kind, FaultKind::ClusterState);
    is_off(&world, &first).await;
    assert_eq!(stop(&world, &id).await.expect_err("is off").kind, FaultKind::ClusterState);
    let begun = start(&world, &id).await.expect("accepted");
    assert_eq!(start(&world, &id).await.expect("again"), begun, "the same task");
    let power = world.cluster(&id).power.expect("a wish");
    assert_eq!((power.stop, power.halted), (false, Halted::Workers));
}

#[tokio::test]
async fn stops_and_starts_that_are_refused() {
    let world = World::new().await;
    let made = world.create(&minimal("demo")).await.expect("accepted");
    let id = made.cluster_id.clone();
    let refused = |outcome: Outcome<ClusterTask>| outcome.expect_err("refused").kind;
    assert_eq!(refused(stop(&world, &id).await), FaultKind::ClusterState, "is being created");
    assert_eq!(refused(start(&world, &id).await), FaultKind::ClusterState, "is being created");
    world.settle(&made).await;
    assert_eq!(refused(start(&world, &id).await), FaultKind::ClusterState, "runs");
    for state in [ClusterState::Scaling, ClusterState::Updating, ClusterState::Failed, ClusterState::Deleting] {
        set_state(&world, &id, state).await;
        assert_eq!(refused(stop(&world, &id).await), FaultKind::ClusterState, "{state:?}");
        assert_eq!(refused(start(&world, &id).await), FaultKind::ClusterState, "{state:?}");
    }
    set_state(&world, &id, ClusterState::Running).await;
    let mut batch = Batch::new();
    batch.put(&Task { state: TaskState::Running, task_type: TaskType::NodepoolUpdate, ..world.task(&made.task_id) });
    world.store.commit(batch).await.expect("written");
    let fault = stop(&world, &id).await.expect_err("a task is in progress");
    assert!(fault.message.contains(&made.task_id) && fault.message.contains("nodepool_update"), "{fault}");
    assert_eq!(refused(stop(&world, "c404").await), FaultKind::ClusterNotFound);
    let stranger = context("2002");
    assert_eq!(refused(world.service.cluster_stop(&stranger, &id).await), FaultKind::ClusterNotFound);
}

#[tokio::test]
async fn a_stopped_cluster_is_read_and_deleted_but_not_changed() {
    let world = World::new().await;
    let id = world.running("demo", 2).await;
    let off = stop(&world, &id).await.expect("accepted");
    let name = ClusterModify {
        name: Some("other".into()),
        request: json!({"cluster_name": "other"}),
        ..ClusterModify::default()
    };
    for stage in ["goes off", "is off"] {
        let fault = world.service.cluster_modify(&world.ctx, &id, &name).await.expect_err(stage);
        assert_eq!(fault.kind, FaultKind::ClusterState, "{stage}");
        let fault = world.service.cluster_backup(&world.ctx, &id).await.expect_err(stage);
        assert!(matches!(fault.kind, FaultKind::ClusterState | FaultKind::Unavailable), "{stage}");
        is_off(&world, &off).await;
    }
    assert_eq!(cluster_state_word(&world.cluster(&id)), "stopped");
    assert_eq!(world.workers(&id).len(), 2);
    let wanted = KubeconfigWanted::default();
    assert!(world.service.kubeconfig(&world.ctx, &id, wanted).await.is_ok(), "a kubeconfig is still given");
    let health = world.service.cluster_health(&world.ctx, &id).await.expect("health");
    assert_eq!((health.nodes.len(), health.nodes[0].health), (2, Health::Unknown));
    world.service.cluster_delete(&world.ctx, &id, &ClusterDelete::default()).await.expect("it can be deleted");
    let retain = world.cluster(&id).deletion.expect("a deletion").retain;
    assert_eq!(retain, Retain::default());
}

struct Backups {
    world: World,
    shelf: Shelf,
    folder: std::path::PathBuf,
}

impl Drop for Backups {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn backups() -> Backups {
    let world = World::new().await;
    let folder = std::env::temp_dir().join(format!("sampan-service-{}", new_token(8)));
    let shelf = Shelf::new(folder.clone(), MasterKey::generate().expect("a key"));
    world.service.set_shelf(shelf.clone());
    Backups { world, shelf, folder }
}

impl Backups {
    fn put(&self, cluster_id: &str, id: &str, version: &str) {
        self.shelf.prepare(cluster_id).expect("a folder");
        let path = self.shelf.path(cluster_id, id).expect("a path");
        let backup = Backup {
            id: id.into(),
            cluster_id: cluster_id.into(),
            kubernetes_version: version.into(),
            created: self.world.clock.now(),
            revision: 0,
            size: 0,
            sha256: String::new(),
            salt: String::new(),
        };
        let mut writer = Writer::create(&path, self.shelf.key(), backup).expect("a file");
        writer.write(b"content").expect("written");
        writer.finish(3).expect("finished");
    }

    async fn restore(&self, cluster_id: &str, id: &str) -> Outcome<ClusterTask> {
        self.world.service.cluster_restore(&self.world.ctx, cluster_id, id).await
    }
}

#[tokio::test]
async fn backups_are_asked_for_listed_and_removed() {
    let backups = backups().await;
    let (world, service) = (&backups.world, &backups.world.service);
    let id = world.running("demo", 1).await;
    let asked = service.cluster_backup(&world.ctx, &id).await.expect("accepted");
    assert!(asked.backup_id.starts_with("manual-"), "{asked:?}");
    let task = world.task(&asked.task_id);
    assert_eq!((task.task_type, task.results[0].data.as_str()), (TaskType::ClusterBackup, asked.backup_id.as_str()));
    assert_eq!(service.cluster_backups(&world.ctx, &id).await.expect("a list"), []);
    backups.put(&id, "periodic-1", "1.36.3");
    let listed = service.cluster_backups(&world.ctx, &id).await.expect("a list");
    assert_eq!((listed.len(), listed[0].0.kind()), (1, Kind::Periodic));
    service.backup_delete(&world.ctx, &id, "periodic-1").await.expect("removed");
    let fault = service.backup_delete(&world.ctx, &id, "periodic-1").await.expect_err("gone");
    assert_eq!(fault.kind, FaultKind::NotFound("Backup".into()));
    let other = service.cluster_backups(&context("2002"), &id).await.expect_err("of somebody else");
    assert_eq!(other.kind, FaultKind::ClusterNotFound);
}

#[tokio::test]
async fn returns_to_backups_that_are_refused_and_one_that_is_not() {
    let backups = backups().await;
    let world = &backups.world;
    let (id, other) = (world.running("demo", 1).await, world.running("other", 1).await);
    backups.put(&id, "manual-1", "1.36.1");
    backups.put(&id, "manual-newer", "1.37.0");
    let missing = backups.restore(&id, "manual-2").await.expect_err("there is none");
    assert_eq!(missing.kind, FaultKind::NotFound("Backup".into()));
    let strange = backups.restore(&id, "../manual-1").await.expect_err("no id");
    assert_eq!(strange.kind, FaultKind::NotFound("Backup".into()));
    assert_eq!(field(&backups.restore(&id, "manual-newer").await.expect_err("newer")), "backup_id");
    std::fs::create_dir_all(backups.folder.join(&other)).expect("a folder");
    let (from, to) = (backups.shelf.path(&id, "manual-1"), backups.shelf.path(&other, "manual-1"));
    std::fs::copy(from.expect("a path"), to.expect("a path")).expect("copied");
    assert_eq!(field(&backups.restore(&other, "manual-1").await.expect_err("of another")), "backup_id");
    let asked = world.service.cluster_backup(&world.ctx, &id).await.expect("accepted");
    assert_eq!(backups.restore(&id, "manual-1").await.expect_err("busy").kind, FaultKind::ClusterState);
    let mut batch = Batch::new();
    batch.put(&Task { state: TaskState::Success, ..world.task(&asked.task_id) });
    world.store.commit(batch).await.expect("written");

    let work = backups.restore(&id, "manual-1").await.expect("accepted");
    let restore = world.cluster(&id).restore.expect("a wish");
    assert_eq!((restore.phase, restore.task_id), (RestorePhase::Check, work.task_id));
    assert_eq!(world.cluster(&id).state, ClusterState::Updating);
    assert_eq!(backups.restore(&id, "manual-1").await.expect_err("in progress").kind, FaultKind::ClusterState);
    let held = world.service.backup_delete(&world.ctx, &id, "manual-1").await.expect_err("it is needed");
    assert_eq!(held.kind, FaultKind::ClusterState);
    assert_eq!(stop(world, &id).await.expect_err("in progress").kind, FaultKind::ClusterState);
}

#[tokio::test]
async fn a_cluster_that_does_not_come_up_may_be_put_back_to_a_backup() {
    let backups = backups().await;
    let world = &backups.world;
    let id = world.running("demo", 1).await;
    backups.put(&id, "manual-1", "1.36.3");
    let off = stop(world, &id).await.expect("accepted");
    is_off(world, &off).await;
    let on = start(world, &id).await.expect("accepted");
    // As the controllers leave it when etcd's data are damaged.
    set_state(world, &id, ClusterState::UpdatingFailed).await;
    let end = |task: &mut Task| {
        task.state = TaskState::Fail;
        true
    };
    world.store.modify::<Task>(&on.task_id, end).await.expect("written");
    let again = start(world, &id).await.expect("started anew");
    assert_ne!(again.task_id, on.task_id);
    set_state(world, &id, ClusterState::UpdatingFailed).await;
    world.store.modify::<Task>(&again.task_id, end).await.expect("written");
    backups.restore(&id, "manual-1").await.expect("accepted");
    assert!(world.cluster(&id).restore.is_some());
    let fault = stop(world, &id).await.expect_err("it is being put back");
    assert_eq!(fault.kind, FaultKind::ClusterState);
}

#[tokio::test]
async fn the_worst_part_says_how_a_cluster_is() {
    let world = World::new().await;
    let id = world.running("demo", 0).await;
    let since = world.clock.now();
    let condition = |component: &str, health, message: &str| Condition {
        component: component.into(),
        health,
        message: message.into(),
        since,
        told: false,
    };
    let conditions =
        vec![condition("api_server", Health::Healthy, "well"), condition("etcd", Health::Degraded, "alarm NOSPACE")];
    let mut batch = Batch::new();
    batch.put(&Cluster { conditions, ..world.cluster(&id) });
    world.store.commit(batch).await.expect("written");
    let health = world.service.cluster_health(&world.ctx, &id).await.expect("health");
    assert_eq!((health.health, health.components.len()), (Health::Degraded, 2));
    let fault = world.service.cluster_certificates(&world.ctx, &id).await.expect_err("the fake keeps none");
    assert_eq!(fault.kind, FaultKind::Unsupported);
}
