use std::time::Duration;

use tokio::time::sleep;

use super::world::World;

const HOST: &str = "web.c1.cn-test.example.com";
const PROBED: &str = "web:\n  image: web\n  labels:\n    aliyun.scale: '2'\n    aliyun.routing.port_80: web\n    aliyun.probe.cmd: check\n    aliyun.probe.initial_delay_seconds: '5'\nnext:\n  image: next\n  labels: {aliyun.depends: web}\n";

#[tokio::test(start_paused = true)]
async fn probes_decide_about_starts_routes_and_restarts() {
    let world = World::new(2);
    world.engines.state().failing.insert("app_web".into());
    world.create("app", PROBED).await;
    world.until("web runs", || world.engines.running() == ["app_web_1", "app_web_2"]).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.engines.running(), ["app_web_1", "app_web_2"]);
    assert_eq!(world.route(HOST, "/"), [("app_web".to_owned(), 100, vec![])]);
    let web = world.get("/services/app_web").await;
    assert_eq!(web["current_state"], "starting");
    assert!(web["message"].as_str().unwrap().ends_with("ended with code 1: out of order"), "{web}");
    assert_eq!(world.get("/services/app_next").await["message"], "waits for app_web to be ready");
    // It never served: it is not restarted.
    assert!(!world.engines.log().iter().any(|line| line.starts_with("stop")));
    world.engines.state().failing.clear();
    world.state("app", "running").await;
    assert_eq!(world.engines.running(), ["app_next_1", "app_web_1", "app_web_2"]);
    assert_eq!(world.route(HOST, "/")[0].2, ["app_web_1", "app_web_2"]);
    world.engines.state().failing.insert("app_web_2".into());
    world.until("it is out of the table", || world.route(HOST, "/")[0].2 == ["app_web_1"]).await;
    world.until("it is restarted", || world.engines.log().iter().any(|line| line.starts_with("stop app_web_2"))).await;
    world.engines.state().failing.clear();
    world.until("it serves again", || world.route(HOST, "/")[0].2 == ["app_web_1", "app_web_2"]).await;
    assert!(
        !world.engines.log().iter().any(|line| line.starts_with("stop app_web_1") || line.starts_with("stop app_next"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_master_does_not_forget_who_serves() {
    let mut world = World::new(2);
    world.create("app", PROBED).await;
    world.state("app", "running").await;
    let before = world.apps.route_table().borrow().revision;
    world.kill().await;
    world.start();
    let mut table = world.apps.route_table();
    let first = table.wait_for(|table| table.revision > 0).await.unwrap().clone();
    assert_eq!(first.routes[0].groups[0].backends.len(), 2);
    assert!(first.revision >= before);
}

#[tokio::test(start_paused = true)]
async fn who_hangs_when_a_master_begins_is_restarted() {
    let mut world = World::new(2);
    world.create("app", PROBED).await;
    world.state("app", "running").await;
    world.kill().await;
    world.engines.state().failing.extend(["app_web_1".into(), "app_web_2".into()]);
    world.engines.change(|state| {
        let two = state.containers.iter_mut().find(|container| container.name == "app_web_2").unwrap();
        two.started = two.started.map(|started| started - Duration::from_secs(600));
    });
    world.start();
    world.until("it is restarted", || world.engines.log().iter().any(|line| line.starts_with("stop app_web_2"))).await;
    // Its next run is another matter, as that of the other one is: they may still be starting.
    sleep(Duration::from_secs(120)).await;
    assert_eq!(world.engines.log().iter().filter(|line| line.starts_with("stop app_web")).count(), 1);
    world.engines.state().failing.clear();
    world.until("it serves again", || world.route(HOST, "/")[0].2 == ["app_web_1", "app_web_2"]).await;
}

#[tokio::test(start_paused = true)]
async fn dockers_own_health_checks_count() {
    let world = World::new(1);
    world.create("app", "web: {image: web, labels: {aliyun.routing.port_80: web}}").await;
    world.state("app", "running").await;
    let health = |word: &str| world.engines.change(|state| state.containers[0].health = Some(word.to_owned()));
    health("unhealthy");
    world.until("it gets nothing", || world.route(HOST, "/")[0].2.is_empty()).await;
    let container = world.engines.container("app_web_1").unwrap();
    assert_eq!(world.get("/services/app_web").await["containers"][&container.id]["health"], "failure");
    health("healthy");
    world.until("it serves", || world.route(HOST, "/")[0].2 == ["app_web_1"]).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_probe_the_port_of_the_route_is_waited_for_once() {
    let world = World::new(1);
    world.wire.refusing.lock().unwrap().insert(80);
    world.create("app", "web: {image: web, labels: {aliyun.routing.port_80: web}}").await;
    world.until("it runs", || world.engines.running() == ["app_web_1"]).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.route(HOST, "/")[0].2, Vec::<String>::new());
    let web = world.get("/services/app_web").await;
    assert_eq!(web["current_state"], "starting");
    assert!(web["message"].as_str().unwrap().starts_with("app_web_1 does not accept connections at"), "{web}");
    world.wire.refusing.lock().unwrap().clear();
    world.state("app", "running").await;
    assert_eq!(world.route(HOST, "/")[0].2, ["app_web_1"]);
    world.wire.refusing.lock().unwrap().insert(80);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.route(HOST, "/")[0].2, ["app_web_1"]);
    // Who never takes connections gets requests after a while: the way to it may be at fault.
    world.create("other", "web: {image: web, labels: {aliyun.routing.port_80: other}}").await;
    world.state("other", "running").await;
}
