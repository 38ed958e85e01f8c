use std::time::Duration;

use serde_json::{Value, json};

use super::{router::Router, world::World};

const HOST: &str = "web.c1.cn-test.example.com";

fn template(service: &str, image: &str) -> String {
    format!(
        "version: '2'\nservices:\n  {service}:\n    image: {image}\n    depends_on: [db]\n    labels:\n      aliyun.routing.port_80: web\n      aliyun.scale: '2'\n  db:\n    image: db\n    volumes: ['data:/data']\nvolumes: {{data: {{}}}}\n"
    )
}

async fn open(world: &World, service: &str) -> Router {
    world.create("app", &template("web", "web:1")).await;
    let router = Router::start(world, "one", HOST);
    world.state("app", "running").await;
    world.blue_green("app", "2.0", &template(service, "web:2")).await;
    world.state("app", "running").await;
    router
}

#[tokio::test(start_paused = true)]
async fn both_versions_run_and_weights_move() {
    let world = World::new(3);
    let router = open(&world, "web-new").await;
    assert_eq!(world.engines.running(), ["app_db_1", "app_web-new_1", "app_web-new_2", "app_web_1", "app_web_2"]);
    let names = |prefix: &str| vec![format!("{prefix}_1"), format!("{prefix}_2")];
    let route = |new: u32, old: u32| {
        vec![("app_web".to_owned(), old, names("app_web")), ("app_web-new".to_owned(), new, names("app_web-new"))]
    };
    assert_eq!(world.route(HOST, "/"), route(0, 100));
    let project = world.get("/projects/app").await;
    assert_eq!(project["version"], "1.0");
    assert_eq!(project["update"]["version"], "2.0");
    world.post("/services/app_web-new/weight", json!({"weight": 30}), 200).await;
    world.post("/services/app_web/weight", json!({"weight": 70}), 200).await;
    world.until("weights", || world.route(HOST, "/") == route(30, 70)).await;
    assert_eq!(world.get("/services/app_web-new").await["weight"], 30);
    let refused =
        world.post("/projects/app/update", json!({"template": "web: {image: x}", "version": "3.0"}), 409).await;
    assert!(refused.body.contains("a blue-green release of app to version 2.0 is open"));
    world.post("/services/app_web-new/scale", json!({"type": "scale_to", "value": 3}), 200).await;
    world.post("/projects/app/redeploy", Value::Null, 200).await;
    world.state("app", "running").await;
    assert_eq!(world.engines.running().len(), 6);
    world.post("/projects/app/confirm-update?force=true", Value::Null, 202).await;
    world
        .until("the old version is gone", || {
            world.engines.running() == ["app_db_1", "app_web-new_1", "app_web-new_2", "app_web-new_3"]
        })
        .await;
    assert_eq!(world.route(HOST, "/").iter().map(|group| group.1).collect::<Vec<_>>(), [100]);
    let project = world.get("/projects/app").await;
    assert_eq!((&project["version"], project.get("update")), (&json!("2.0"), None));
    assert_eq!(project["template"], template("web-new", "web:2"));
    router.assert_nothing_failed();
}

#[tokio::test(start_paused = true)]
async fn services_may_keep_their_names() {
    let world = World::new(3);
    let db = |world: &World| world.engines.container("app_db_1").unwrap().id;
    let router = open(&world, "web").await;
    assert_eq!(world.engines.running(), ["app_db_1", "app_web-v2.0_1", "app_web-v2.0_2", "app_web_1", "app_web_2"]);
    let before = db(&world);
    let ids: Vec<String> = world
        .get("/services")
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["app_db", "app_web", "app_web-v2.0"]);
    let new = world.engines.container("app_web-v2.0_1").unwrap();
    let endpoint = &new.inspect["NetworkingConfig"]["EndpointsConfig"]["multi-host-network"];
    assert_eq!(endpoint["Aliases"], json!(["app_web", "app_web-r2"]));
    assert_eq!(endpoint["Links"], json!(["app_db-r1:db", "app_web-r2:web"]));
    world.post("/projects/app/confirm-update?force=true", Value::Null, 202).await;
    world
        .until("the old version is gone", || {
            world.engines.running() == ["app_db_1", "app_web-v2.0_1", "app_web-v2.0_2"]
        })
        .await;
    world.state("app", "running").await;
    assert_eq!(world.engines.container("app_web-v2.0_1").unwrap().image, "web:2");
    assert_eq!(db(&world), before);
    let web = world.get("/services/app_web").await;
    assert_eq!((&web["version"], &web["weight"]), (&json!("2.0"), &json!(100)));
    router.assert_nothing_failed();
    // And once more, back and forth.
    world.blue_green("app", "3.0", &template("web", "web:3")).await;
    world.state("app", "running").await;
    assert_eq!(world.engines.running().len(), 5);
    world.post("/projects/app/rollback-update?force=true", Value::Null, 202).await;
    world
        .until("the new version is gone", || {
            world.engines.running() == ["app_db_1", "app_web-v2.0_1", "app_web-v2.0_2"]
        })
        .await;
    world.state("app", "running").await;
    assert_eq!(world.engines.container("app_web-v2.0_1").unwrap().image, "web:2");
    assert_eq!(world.get("/projects/app").await["version"], "2.0");
    router.assert_nothing_failed();
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_waits_for_the_new_version() {
    let world = World::new(3);
    world.create("app", &template("web", "web:1")).await;
    let router = Router::start(&world, "one", HOST);
    world.state("app", "running").await;
    world.engines.state().missing.insert("web:2".into());
    world.blue_green("app", "2.0", &template("site", "web:2")).await;
    world.post("/projects/app/confirm-update?force=true", Value::Null, 202).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.engines.running(), ["app_db_1", "app_web_1", "app_web_2"]);
    assert_eq!(world.route(HOST, "/")[1].2, ["app_web_1", "app_web_2"]);
    world.engines.state().missing.clear();
    world.until("it is done", || world.engines.running() == ["app_db_1", "app_site_1", "app_site_2"]).await;
    router.assert_nothing_failed();
}

#[tokio::test(start_paused = true)]
async fn a_rollback_gives_everything_back_to_the_old_version() {
    let world = World::new(3);
    let router = open(&world, "site").await;
    world.post("/services/app_site/weight", json!({"weight": 100}), 200).await;
    world.post("/services/app_web/weight", json!({"weight": 0}), 200).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.post("/projects/app/rollback-update?force=true", Value::Null, 202).await;
    world.until("the new version is gone", || world.engines.running() == ["app_db_1", "app_web_1", "app_web_2"]).await;
    assert_eq!(
        world.route(HOST, "/"),
        [("app_web".to_owned(), 100, vec!["app_web_1".to_owned(), "app_web_2".to_owned()])]
    );
    router.assert_nothing_failed();
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_without_force_leaves_the_weights_alone() {
    let world = World::new(3);
    let router = open(&world, "web").await;
    world.post("/services/app_web-v2.0/weight", json!({"weight": 60}), 200).await;
    world.post("/services/app_web/weight", json!({"weight": 40}), 200).await;
    world.post("/projects/app/confirm-update?force=false", Value::Null, 202).await;
    world.until("it is over", || world.apps.inner.store.get("app").unwrap().next.is_none()).await;
    world.state("app", "running").await;
    assert_eq!(
        world.route(HOST, "/").iter().map(|group| (group.0.as_str(), group.1)).collect::<Vec<_>>(),
        [("app_web", 40), ("app_web-v2.0", 60)]
    );
    assert_eq!(world.engines.running().len(), 5);
    assert_eq!(world.get("/projects/app").await["version"], "2.0");
    // The next update is of the new version; the old one goes.
    world.update("app", "3.0", &template("web", "web:3")).await;
    world.until("only the newest is left", || world.engines.names() == ["app_db_1", "app_web_1", "app_web_2"]).await;
    assert_eq!(world.engines.container("app_web_1").unwrap().image, "web:3");
    router.assert_nothing_failed();
}

#[tokio::test(start_paused = true)]
async fn a_rollback_gives_networks_and_volumes_their_old_definitions() {
    let template = |image: &str, internal: bool, kept: &str| {
        format!(
            "version: '2'\nservices:\n  web: {{image: '{image}', networks: [back], volumes: ['data:/data']}}\nnetworks:\n  back: {{internal: {internal}}}\nvolumes:\n  data: {{driver: ossfs, driver_opts: {{bucket: {kept}}}}}\n"
        )
    };
    let mut world = World::new(2);
    world.create("app", &template("web:1", false, "one")).await;
    world.state("app", "running").await;
    let before = world.apps.inner.store.get("app").unwrap();
    world.blue_green("app", "2.0", &template("web:2", true, "two")).await;
    world.state("app", "running").await;
    assert!(world.apps.inner.store.get("app").unwrap().networks["app_back"].internal);
    // What is on disk is enough.
    world.kill().await;
    world.start();
    world.post("/projects/app/rollback-update?force=true", Value::Null, 202).await;
    world.until("the new version is gone", || world.engines.running() == ["app_web_1"]).await;
    let after = world.apps.inner.store.get("app").unwrap();
    assert!(after.networks == before.networks && after.volumes == before.volumes);
}
