//! DeleteCluster.

use sampan_store::model::{ClusterState, TaskState};

use super::*;
use crate::service::cluster::{ClusterDelete, ClusterModify};

async fn delete(world: &World, id: &str) -> Outcome<ClusterTask> {
    world.service.cluster_delete(&world.ctx, id, &ClusterDelete::default()).await
}

#[tokio::test]
async fn the_second_request_answers_the_same_task_and_later_ones_404() {
    let world = World::new().await;
    let id = world.running("demo", 1).await;
    let first = delete(&world, &id).await.expect("accepted");
    assert_eq!(world.cluster(&id).state, ClusterState::Deleting);
    world.clock.advance(5);
    assert_eq!(delete(&world, &id).await.expect("again"), first);
    let mut batch = Batch::new();
    batch.put(&Cluster { state: ClusterState::Deleted, ..world.cluster(&id) });
    world.store.commit(batch).await.expect("written");
    assert_eq!(delete(&world, &id).await.expect_err("gone").kind, FaultKind::ClusterNotFound);
    assert!(world.service.task(&world.ctx, &first.task_id).is_ok(), "tasks stay readable");
    assert!(!world.service.cluster_logs(&world.ctx, &id).await.expect("so do logs").is_empty());
    world.create(&minimal("demo")).await.expect("the name is free again");
}

#[tokio::test]
async fn protection_holds_until_it_is_switched_off() {
    let world = World::new().await;
    let made = world.create(&ClusterCreate { deletion_protection: Some(true), ..minimal("demo") }).await.expect("made");
    let id = made.cluster_id;
    assert_eq!(delete(&world, &id).await.expect_err("protected").kind, FaultKind::DeletionProtected);
    // Also in a cluster that is not running.
    let off = ClusterModify {
        deletion_protection: Some(false),
        request: json!({"deletion_protection": false}),
        ..ClusterModify::default()
    };
    world.service.cluster_modify(&world.ctx, &id, &off).await.expect("switched off");
    delete(&world, &id).await.expect("accepted");
}

#[tokio::test]
async fn a_failed_deletion_is_asked_for_anew() {
    let world = World::new().await;
    let id = world.running("demo", 0).await;
    let first = delete(&world, &id).await.expect("accepted");
    let mut batch = Batch::new();
    batch.put(&Task { state: TaskState::Fail, ..world.task(&first.task_id) });
    batch.put(&Cluster { state: ClusterState::DeleteFailed, ..world.cluster(&id) });
    world.store.commit(batch).await.expect("written");
    let second = delete(&world, &id).await.expect("accepted");
    assert_ne!(second.task_id, first.task_id);
    assert_eq!(world.cluster(&id).state, ClusterState::Deleting);
}

#[tokio::test]
async fn what_stays_is_recorded() {
    let world = World::new().await;
    let id = world.running("demo", 0).await;
    let input = ClusterDelete {
        retain_all: false,
        keep_load_balancer: true,
        retain_resources: vec!["sg-2ze6ess9kho6fdn9****".into()],
    };
    world.service.cluster_delete(&world.ctx, &id, &input).await.expect("accepted");
    let retain = world.cluster(&id).deletion.expect("deletion").retain;
    assert!(!retain.all && retain.load_balancer && retain.resources.len() == 1);
}

#[tokio::test]
async fn what_cannot_stay_is_said() {
    let world = World::new().await;
    let id = world.running("demo", 1).await;
    let (network, worker) = (world.cluster(&id).network, world.workers(&id)[0].id.clone());
    let vswitch = network.vswitch_ids[0].clone();
    let retain_resources = vec![worker.clone(), vswitch.clone(), network.security_group_id.clone(), "eip-1".to_owned()];
    let input = ClusterDelete { retain_all: false, keep_load_balancer: true, retain_resources };
    world.service.cluster_delete(&world.ctx, &id, &input).await.expect("accepted");
    let retain = world.cluster(&id).deletion.expect("deletion").retain;
    assert!(retain.resources.contains(&network.vpc_id), "the vSwitch needs it");
    let events = world.events().await;
    let told = |reason: &str| -> Vec<&String> { events.iter().filter(|e| e.0 == reason).map(|e| &e.1).collect() };
    assert!(told("VpcRetained").len() == 1 && told("VpcRetained")[0].contains(&vswitch));
    let [ends, strange] = told("NotApplied")[..] else { panic!("{events:?}") };
    assert!(ends.contains(&network.security_group_id) && ends.contains(&network.api_load_balancer_id), "{ends}");
    assert!(strange.contains("eip-1"), "{strange}");
    assert!(!ends.contains(&worker) && !strange.contains(&worker));
}

#[tokio::test]
async fn client_tokens_go_with_their_clusters() {
    let world = World::new().await;
    let named = |name: &str, token: &str| ClusterCreate { client_token: Some(token.into()), ..minimal(name) };
    let first = world.create(&named("one", "token-1")).await.expect("made");
    let second = world.create(&named("two", "token-2")).await.expect("made");
    delete(&world, &first.cluster_id).await.expect("accepted");
    let tokens = world.store.list::<sampan_store::model::Setting>();
    let tokens: Vec<&str> = tokens.iter().map(|s| s.id.as_str()).filter(|id| id.starts_with("client-token/")).collect();
    assert_eq!(tokens, ["client-token/1001/token-2"]);
    assert_eq!(world.create(&named("two", "token-2")).await.expect("again"), second);
}

#[tokio::test]
async fn others_do_not_see_it() {
    let world = World::new().await;
    let id = world.running("demo", 0).await;
    let other = context("1002");
    let fault = world.service.cluster_delete(&other, &id, &ClusterDelete::default()).await.expect_err("not theirs");
    assert_eq!(fault.kind, FaultKind::ClusterNotFound);
}
