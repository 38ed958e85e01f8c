use serde_json::{Value, json};

use super::{router::Router, world::World};

const HOST: &str = "web.c1.cn-test.example.com";

fn routed(image: &str, more: &str) -> String {
    format!("web:\n  image: {image}\n  labels:\n    aliyun.routing.port_80: web\n    aliyun.scale: '3'\n{more}")
}

fn images(world: &World, service: &str) -> Vec<(String, String)> {
    let state = world.engines.state();
    let ours = state.containers.iter().filter(|container| container.labels["aliyun.service.id"] == service);
    let mut all: Vec<(String, String)> =
        ours.map(|container| (container.name.clone(), container.image.clone())).collect();
    all.sort();
    all
}

fn expect(names: &[&str], image: &str) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), image.to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_routed_service_rolls_without_a_failed_request() {
    let world = World::new(3);
    world.create("app", &routed("web:1", "    aliyun.rolling_updates: 'true'\n")).await;
    let router = Router::start(&world, "one", HOST);
    world.state("app", "running").await;
    world.until("the router has it", || router.revision() > 0).await;
    world.update("app", "2.0", &routed("web:2", "    aliyun.rolling_updates: 'true'\n")).await;
    world.state("app", "running").await;
    assert_eq!(images(&world, "app_web"), expect(&["app_web_1", "app_web_2", "app_web_3"], "web:2"));
    router.assert_nothing_failed();
    assert_eq!(world.get("/projects/app").await["version"], "2.0");
    world.post("/projects/app/redeploy", Value::Null, 200).await;
    world.state("app", "running").await;
    world.post("/services/app_web/scale", json!({"type": "scale_to", "value": 1}), 200).await;
    world.state("app", "running").await;
    assert_eq!(images(&world, "app_web"), expect(&["app_web_1"], "web:2"));
    // And with one container only.
    world.update("app", "3.0", &routed("web:3", "")).await;
    world.state("app", "running").await;
    assert_eq!(images(&world, "app_web"), expect(&["app_web_1"], "web:3"));
    router.assert_nothing_failed();
}

#[tokio::test(start_paused = true)]
async fn ports_of_nodes_make_the_old_go_first_but_never_all() {
    let world = World::new(3);
    let template = |image: &str| {
        format!(
            "web:\n  image: {image}\n  ports: ['8080:80']\n  labels:\n    aliyun.routing.port_80: web\n    aliyun.scale: '3'\n"
        )
    };
    world.create("app", &template("web:1")).await;
    let router = Router::start(&world, "one", HOST);
    world.state("app", "running").await;
    world.update("app", "2.0", &template("web:2")).await;
    world.state("app", "running").await;
    assert_eq!(images(&world, "app_web"), expect(&["app_web_1", "app_web_2", "app_web_3"], "web:2"));
    router.assert_nothing_failed();
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_is_left_alone_and_what_is_gone_goes() {
    let world = World::new(2);
    let template = |web: &str, extra: &str| {
        format!(
            "version: '2'\nservices:\n  db:\n    image: db\n    volumes: ['data:/data']\n  web:\n    image: {web}\n    depends_on: [db]\n{extra}volumes: {{data: {{}}}}\n"
        )
    };
    world.create("app", &template("web:1", "  old: {image: old}\n")).await;
    world.state("app", "running").await;
    let db = world.engines.container("app_db_1").unwrap();
    world.update("app", "2.0", &template("web:2", "  new: {image: new}\n")).await;
    world.state("app", "running").await;
    world.until("old is gone", || world.engines.running() == ["app_db_1", "app_new_1", "app_web_1"]).await;
    assert_eq!(world.engines.container("app_db_1").unwrap().id, db.id);
    assert_eq!(world.engines.container("app_web_1").unwrap().image, "web:2");
    // A change of the scale alone touches no container.
    let before = world.engines.container("app_web_1").unwrap().id;
    world.update("app", "3.0", &template("web:2", "  new: {image: new, labels: {aliyun.scale: '2'}}\n")).await;
    world.state("app", "running").await;
    assert_eq!(world.engines.container("app_web_1").unwrap().id, before);
    assert_eq!(world.engines.running(), ["app_db_1", "app_new_1", "app_new_2", "app_web_1"]);
}

#[tokio::test(start_paused = true)]
async fn a_database_with_a_volume_is_never_doubled_and_stays_with_its_data() {
    let world = World::new(3);
    let template = |image: &str| {
        format!(
            "version: '2'\nservices:\n  db:\n    image: {image}\n    volumes: ['data:/data']\nvolumes: {{data: {{}}}}\n"
        )
    };
    world.create("app", &template("db:1")).await;
    world.state("app", "running").await;
    let node = world.engines.container("app_db_1").unwrap().node;
    assert_eq!(world.engines.state().volumes.keys().collect::<Vec<_>>(), ["app_data"]);
    for version in 2..6 {
        world.update("app", &format!("{version}.0"), &template(&format!("db:{version}"))).await;
        world.state("app", "running").await;
        let db = world.engines.container("app_db_1").unwrap();
        assert_eq!((db.node.as_str(), db.image), (node.as_str(), format!("db:{version}")));
    }
    let mut alive: i32 = 0;
    for line in world.engines.log() {
        alive += i32::from(line.starts_with("start ")) - i32::from(line.starts_with("stop "));
        assert!(alive <= 1, "{:#?}", world.engines.log());
    }
    let deleted = world.request("DELETE", "/projects/app?v=1", "").await;
    assert_eq!(deleted.status.as_u16(), 200);
    assert!(world.engines.state().volumes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_image_that_cannot_run_leaves_the_old_containers() {
    let world = World::new(3);
    world.create("app", &routed("web:1", "")).await;
    let router = Router::start(&world, "one", HOST);
    world.state("app", "running").await;
    world.engines.state().missing.insert("web:bad".into());
    world.update("app", "2.0", &routed("web:bad", "")).await;
    world.state("app", "failed").await;
    assert_eq!(world.route(HOST, "/")[0].2, ["app_web_1", "app_web_2", "app_web_3"]);
    let said = world.get("/services/app_web").await["message"].as_str().unwrap().to_owned();
    assert_eq!(said, "No such image: web:bad");
    world.engines.state().crashing.insert("web:crash".into());
    world.update("app", "3.0", &routed("web:crash", "")).await;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(world.route(HOST, "/")[0].2, ["app_web_1", "app_web_2", "app_web_3"]);
    world.update("app", "4.0", &routed("web:1", "")).await;
    world.state("app", "running").await;
    assert_eq!(images(&world, "app_web"), expect(&["app_web_1", "app_web_2", "app_web_3"], "web:1"));
    assert_eq!(router.revision(), world.apps.route_table().borrow().revision);
}

#[tokio::test(start_paused = true)]
async fn a_service_renamed_on_one_route_is_replaced_without_a_gap() {
    let world = World::new(2);
    world.create("app", &routed("web:1", "")).await;
    let router = Router::start(&world, "one", HOST);
    world.state("app", "running").await;
    world.update("app", "2.0", &routed("web:2", "").replace("web:\n", "site:\n")).await;
    world
        .until("the old service is gone", || world.engines.running() == ["app_site_1", "app_site_2", "app_site_3"])
        .await;
    router.assert_nothing_failed();
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_brings_another_image_makes_containers_anew() {
    let world = World::new(2);
    let body = |version: &str| json!({"template": "web: {image: web}", "version": version, "latest_image": true});
    world.create("app", "web: {image: web}").await;
    world.state("app", "running").await;
    let first = world.engines.container("app_web_1").unwrap().id;
    world.post("/projects/app/update", body("2.0"), 202).await;
    world.state("app", "running").await;
    assert_eq!(world.engines.container("app_web_1").unwrap().id, first);
    world.engines.state().images.insert("web".into(), "sha256:second".into());
    world.post("/projects/app/update", body("3.0"), 202).await;
    world.state("app", "running").await;
    let second = world.engines.container("app_web_1").unwrap();
    assert_ne!(second.id, first);
    assert_eq!(second.image_id, "sha256:second");
    // An image that no registry has is used as it is there; one that nobody has is an error.
    world.post("/projects/app/redeploy", Value::Null, 200).await;
    world.state("app", "running").await;
    assert_ne!(world.engines.container("app_web_1").unwrap().id, second.id);
}
