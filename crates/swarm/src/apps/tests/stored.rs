use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::world::World;

#[tokio::test(start_paused = true)]
async fn files_are_for_their_owner_and_say_their_form() {
    let mut world = World::new(1);
    world.create("app", "web: {image: web}").await;
    world.state("app", "running").await;
    let path = world.directory.path().join("projects/app.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stored: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(stored["form"], 1);
    // What a later version wrote is left alone, and so are its containers.
    world.kill().await;
    stored["form"] = json!(99);
    std::fs::write(&path, stored.to_string()).unwrap();
    world.start();
    assert_eq!(world.request("GET", "/projects/app", "").await.status.as_u16(), 404);
    world.post("/projects", json!({"name": "app", "template": "web: {image: web}"}), 409).await;
    assert_eq!(world.engines.running(), ["app_web_1"]);
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap(), stored);
}

#[tokio::test(start_paused = true)]
async fn what_is_secret_is_not_printed() {
    let world = World::new(1);
    let body = json!({"name": "app", "template": "web: {image: web, environment: [\"P=${P}\"]}", "environment": {"P": "hush"}});
    world.post("/projects", body, 201).await;
    let record = world.apps.inner.store.get("app").unwrap();
    assert!(!format!("{record:?} {:?}", record.services).contains("hush"));
}

#[tokio::test(start_paused = true)]
async fn names_of_two_applications_must_not_meet() {
    let world = World::new(1);
    world.create("a", "b_c: {image: web}").await;
    let refused = world.post("/projects", json!({"name": "a_b", "template": "c: {image: web}"}), 409).await;
    assert!(refused.body.contains("the application a has a service a_b_c already"), "{}", refused.body);
}

#[tokio::test(start_paused = true)]
async fn a_network_removed_by_hand_is_made_again() {
    let world = World::new(1);
    world.create("app", "version: '2'\nservices: {web: {image: web, networks: [back]}}\nnetworks: {back: {}}\n").await;
    world.state("app", "running").await;
    world.engines.state().missing.insert("web".into());
    world.engines.change(|state| {
        state.containers.clear();
        state.networks.clear();
    });
    world.until("the network is there again", || world.engines.state().networks.contains_key("app_back")).await;
    world.engines.state().missing.clear();
    world.state("app", "running").await;
}
