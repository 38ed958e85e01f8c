//! ModifyCluster.

use sampan_store::model::{ClusterState, MaintenanceWindow, TaskState};

use super::*;
use crate::service::cluster::ClusterModify;

/// A change with its body, as the gateway passes both.
fn modify(request: serde_json::Value) -> ClusterModify {
    let text = |field: &str| request[field].as_str().map(String::from);
    let flag = |field: &str| request[field].as_bool();
    ClusterModify {
        api_server_eip: flag("api_server_eip"),
        api_server_eip_id: text("api_server_eip_id"),
        deletion_protection: flag("deletion_protection"),
        instance_deletion_protection: flag("instance_deletion_protection"),
        resource_group_id: text("resource_group_id"),
        enable_rrsa: flag("enable_rrsa"),
        name: text("cluster_name"),
        spec: text("cluster_spec"),
        timezone: text("timezone"),
        maintenance_window: request["maintenance_window"].is_object().then(|| MaintenanceWindow {
            enable: true,
            maintenance_time: "03:00:00Z".into(),
            ..Default::default()
        }),
        request,
        ..ClusterModify::default()
    }
}

async fn apply(world: &World, id: &str, request: serde_json::Value) -> Outcome<ClusterTask> {
    world.service.cluster_modify(&world.ctx, id, &modify(request)).await
}

#[tokio::test]
async fn public_access_is_switched() {
    let world = World::new().await;
    let made =
        world.create(&ClusterCreate { endpoint_public_access: Some(false), ..minimal("demo") }).await.expect("made");
    world.settle(&made).await;
    let id = made.cluster_id;
    let on = apply(&world, &id, json!({"api_server_eip": true, "api_server_eip_id": "eip-1"})).await.expect("accepted");
    let cluster = world.cluster(&id);
    assert!(cluster.network.api_public_port.is_some());
    assert_eq!(cluster.state, ClusterState::Updating);
    assert_eq!(cluster.request["api_server_eip_id"], "eip-1");
    assert_eq!(world.task(&on.task_id).state, TaskState::Running);
    world.settle(&on).await;
    let off = apply(&world, &id, json!({"api_server_eip": false})).await.expect("accepted");
    world.settle(&off).await;
    assert_eq!(world.cluster(&id).network.api_public_port, None);
    let nothing = apply(&world, &id, json!({"api_server_eip": false})).await.expect("already so");
    assert_eq!(world.task(&nothing.task_id).state, TaskState::Success);
    assert_eq!(world.cluster(&id).state, ClusterState::Running);
}

#[tokio::test]
async fn records_change_at_once() {
    let world = World::new().await;
    let id = world.running("demo", 0).await;
    let request = json!({"deletion_protection": true, "instance_deletion_protection": true, "resource_group_id": "rg-1",
        "enable_rrsa": true, "cluster_name": "renamed"});
    let done = apply(&world, &id, request).await.expect("accepted");
    assert_eq!(world.task(&done.task_id).state, TaskState::Success);
    let cluster = world.cluster(&id);
    assert!(cluster.deletion_protection && cluster.instance_deletion_protection);
    assert_eq!((cluster.resource_group_id.as_str(), cluster.name.as_str()), ("rg-1", "renamed"));
    assert_eq!(cluster.request["enable_rrsa"], true);
    // What is absent stays as it is.
    apply(&world, &id, json!({"resource_group_id": "rg-2"})).await.expect("accepted");
    assert!(world.cluster(&id).deletion_protection);
}

#[tokio::test]
async fn pro_only_and_refusals() {
    let world = World::new().await;
    let id = world.running("demo", 0).await;
    let check = async |request: serde_json::Value, expected: &str| {
        let fault = apply(&world, &id, request).await.expect_err(expected);
        assert_eq!(field(&fault), expected, "{}", fault.message);
    };
    check(json!({"maintenance_window": {}}), "maintenance_window").await;
    check(json!({"access_control_list": ["10.0.0.0/8"]}), "access_control_list").await;
    check(json!({"api_server_custom_cert_sans": {"action": "append"}}), "api_server_custom_cert_sans").await;
    check(json!({"api_server_eip": false, "api_server_eip_id": "eip-1"}), "api_server_eip_id").await;
    check(json!({"cluster_spec": "ack.huge"}), "cluster_spec").await;
    check(json!({"timezone": "Mars/Base"}), "timezone").await;
    check(json!({"cluster_name": "-"}), "cluster_name").await;
    let wider = apply(&world, &id, json!({"cluster_spec": "ack.pro.small", "maintenance_window": {}})).await;
    // Its control plane gets more machines first.
    world.settle(&wider.expect("both at once")).await;
    let cluster = world.cluster(&id);
    assert_eq!(cluster.maintenance_window.expect("a window").weekly_period, "Thursday");
    check(json!({"cluster_spec": "ack.standard"}), "cluster_spec").await;
}

#[tokio::test]
async fn only_running_clusters_are_changed() {
    let world = World::new().await;
    let made = world.create(&minimal("demo")).await.expect("made");
    let fault = apply(&world, &made.cluster_id, json!({"resource_group_id": "rg-1"})).await.expect_err("initial");
    assert_eq!(fault.kind, FaultKind::ClusterState);
    assert!(fault.message.contains("initial"), "{}", fault.message);
}
