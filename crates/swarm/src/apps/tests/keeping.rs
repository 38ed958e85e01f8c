use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::world::World;
use crate::model::NodeHealth;

#[tokio::test(start_paused = true)]
async fn what_ends_or_is_removed_by_hand_comes_back() {
    let world = World::new(2);
    world.create("app", "web: {image: web, labels: {aliyun.scale: '2'}}").await;
    world.state("app", "running").await;
    world.engines.exits("app_web_1", 1);
    world.state("app", "running").await;
    assert_eq!(world.engines.running(), ["app_web_1", "app_web_2"]);
    world.engines.change(|state| state.containers.retain(|container| container.name != "app_web_2"));
    world.until("it is back", || world.engines.running() == ["app_web_1", "app_web_2"]).await;
}

#[tokio::test(start_paused = true)]
async fn restart_policies_are_respected() {
    let world = World::new(2);
    let template = "version: '2'\nservices:\n  job: {image: job}\n  once: {image: once, restart: 'no'}\n  later: {image: later, depends_on: {job: {condition: service_completed_successfully}}}\n";
    world.create("app", template).await;
    world.until("the job runs", || world.engines.running() == ["app_job_1", "app_once_1"]).await;
    world.engines.exits("app_job_1", 0);
    world.engines.exits("app_once_1", 3);
    world.until("what waited runs", || world.engines.running() == ["app_later_1"]).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.engines.running(), ["app_later_1"]);
    assert_eq!(world.get("/services/app_job").await["current_state"], "stopped");
    let once = world.get("/services/app_once").await;
    assert_eq!(once["current_state"], "failed");
    assert_eq!(once["message"], "app_once_1 ended with code 3; its restart policy leaves it so");
    // Asked to, they run again.
    world.post("/projects/app/stop", Value::Null, 200).await;
    world.until("all stopped", || world.engines.running().is_empty()).await;
    world.post("/projects/app/start", Value::Null, 200).await;
    world.until("they run again", || world.engines.running().contains(&"app_once_1".to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_waits_longer_and_longer() {
    let world = World::new(1);
    world.engines.state().crashing.insert("web".into());
    world.create("app", "web: {image: web}").await;
    sleep(Duration::from_secs(600)).await;
    let starts = world.engines.log().iter().filter(|line| line.starts_with("start")).count();
    assert!((8..25).contains(&starts), "{starts}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_nodes_containers_move_and_doubles_go() {
    let world = World::new(3);
    world.create("app", "version: '2'\nservices:\n  web: {image: web, labels: {aliyun.scale: '3'}}\n  db: {image: db, volumes: ['data:/data']}\n  moves: {image: db, environment: ['reschedule:on-node-failure'], volumes: ['data2:/data']}\nvolumes: {data: {}, data2: {}}\n").await;
    world.state("app", "running").await;
    let lost = world.engines.container("app_db_1").unwrap().node;
    let index = lost.rsplit('.').next().unwrap().parse().unwrap();
    world.engines.change(|state| {
        let node = lost.clone();
        for container in state.containers.iter_mut().filter(|container| container.name.starts_with("app_moves")) {
            container.node.clone_from(&node);
        }
    });
    world.engines.health(index, NodeHealth::Unhealthy);
    let on_others = |prefix: &'static str| {
        let lost = lost.clone();
        let engines = world.engines.clone();
        move || {
            engines
                .state()
                .containers
                .iter()
                .filter(|container| {
                    container.is_running() && container.node != lost && container.name.starts_with(prefix)
                })
                .count()
        }
    };
    let (web, moves, db) = (on_others("app_web"), on_others("app_moves"), on_others("app_db"));
    world.until("all of web is elsewhere", || web() == 3 && moves() == 1).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(db(), 0);
    world.engines.health(index, NodeHealth::Healthy);
    world.state("app", "running").await;
    assert_eq!(world.engines.running(), ["app_db_1", "app_moves_1", "app_web_1", "app_web_2", "app_web_3"]);
    assert_eq!(world.engines.names().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_leaving_nodes_containers_move_before_they_go() {
    let world = World::new(2);
    world.create("app", "web: {image: web, labels: {aliyun.scale: '2', aliyun.routing.port_80: web}}").await;
    world.state("app", "running").await;
    world.engines.change(|state| state.nodes[0].schedulable = false);
    let left = || world.engines.state().containers.iter().filter(|container| container.node.ends_with(".1")).count();
    world.until("the node is empty", || left() == 0).await;
    world.state("app", "running").await;
    assert_eq!(world.engines.running(), ["app_web_1", "app_web_2"]);
}

#[tokio::test(start_paused = true)]
async fn a_global_service_is_on_every_healthy_node() {
    let world = World::new(3);
    world.create("app", "agent: {image: agent, labels: {aliyun.global: 'true'}}").await;
    world.state("app", "running").await;
    assert_eq!(world.engines.running(), ["app_agent_1", "app_agent_2", "app_agent_3"]);
    world.post("/services/app_agent/scale", json!({"type": "scale_to", "value": 1}), 400).await;
    world.engines.health(2, NodeHealth::Unhealthy);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.engines.names().len(), 3);
    world.state("app", "running").await;
    world.engines.health(2, NodeHealth::Healthy);
    world.update("app", "2.0", "agent: {image: 'agent:2', labels: {aliyun.global: 'true'}}").await;
    world.state("app", "running").await;
    assert_eq!(world.engines.running(), ["app_agent_1", "app_agent_2", "app_agent_3"]);
    assert!(world.engines.state().containers.iter().all(|container| container.image == "agent:2"));
}

#[tokio::test(start_paused = true)]
async fn a_forced_deletion_waits_for_nobody_and_leaves_nothing() {
    let world = World::new(2);
    world.create("app", "web: {image: web, labels: {aliyun.scale: '2'}}").await;
    world.state("app", "running").await;
    world.engines.health(1, NodeHealth::Unhealthy);
    let deleted = world.request("DELETE", "/projects/app", "").await;
    assert_eq!(deleted.status.as_u16(), 200);
    let project = world.get("/projects/app").await;
    assert_eq!((&project["current_state"], &project["desired_state"]), (&json!("deleting"), &json!("deleted")));
    world.post("/projects/app/start", Value::Null, 409).await;
    world.request("DELETE", "/projects/app?force=true", "").await;
    assert_eq!(world.request("GET", "/projects/app", "").await.status.as_u16(), 404);
    // The name is free; what comes back with the node is of the deleted one.
    world.create("app", "web: {image: other}").await;
    world.engines.health(1, NodeHealth::Healthy);
    world.state("app", "running").await;
    world
        .until("only the new one is there", || {
            let state = world.engines.state();
            state.containers.len() == 1 && state.containers[0].image == "other"
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_before_the_nodes_have_answered() {
    let mut world = World::new(2);
    world.create("app", "web: {image: web, labels: {aliyun.scale: '2'}}").await;
    world.state("app", "running").await;
    world.kill().await;
    let all = world.engines.change(|state| {
        state.nodes[0].health = NodeHealth::Pending;
        std::mem::take(&mut state.containers)
    });
    world.start();
    sleep(Duration::from_secs(8)).await;
    assert_eq!(world.apps.route_table().borrow().revision, 0);
    world.engines.change(|state| {
        state.containers = all;
        state.nodes[0].health = NodeHealth::Healthy;
    });
    world.state("app", "running").await;
    assert_eq!(world.engines.log().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn containers_of_one_network_namespace_follow_each_other() {
    let world = World::new(1);
    world
        .create(
            "app",
            "version: '2'\nservices:\n  base: {image: base}\n  side: {image: side, network_mode: 'service:base'}\n",
        )
        .await;
    world.state("app", "running").await;
    let side = world.engines.container("app_side_1").unwrap();
    assert_eq!(side.inspect["HostConfig"]["NetworkMode"], "container:app_base_1");
    world
        .update(
            "app",
            "2.0",
            "version: '2'\nservices:\n  base: {image: 'base:2'}\n  side: {image: side, network_mode: 'service:base'}\n",
        )
        .await;
    world.state("app", "running").await;
    assert_ne!(world.engines.container("app_side_1").unwrap().id, side.id);
}

#[tokio::test(start_paused = true)]
async fn networks_and_listeners() {
    let world = World::new(1);
    let template = "version: '2'\nservices:\n  web:\n    image: web\n    networks: {back: {aliases: [www]}}\n    labels: {aliyun.lb.port_3306: 'tcp://db:3306', aliyun.routing.port_80: 'web;http://www.example.org/shop'}\nnetworks: {back: {}}\n";
    world.create("app", template).await;
    world.state("app", "running").await;
    assert_eq!(world.engines.state().networks["app_back"]["Driver"], "overlay");
    let web = world.engines.container("app_web_1").unwrap();
    assert_eq!(web.inspect["NetworkingConfig"]["EndpointsConfig"]["app_back"], json!({"Aliases": ["web", "www"]}));
    assert_eq!(world.apps.tcp_listeners(), [("db".to_owned(), 3306)]);
    let table = world.apps.route_table().borrow().clone();
    assert_eq!((table.tcp[0].port, table.tcp[0].service.as_str(), table.tcp[0].backends.len()), (3306, "app_web", 1));
    assert_eq!(world.route("www.example.org", "/shop")[0].2, ["app_web_1"]);
    // Somebody else cannot have the port; the route stays with the first.
    let other = "web: {image: web, labels: {aliyun.lb.port_1: 'tcp://x:3306'}}";
    let refused = world.post("/projects", json!({"name": "other", "template": other}), 409).await;
    assert!(refused.body.contains("the port 3306 belongs to the service app_web"));
    world.create("other", "web: {image: web, labels: {aliyun.routing.port_80: 'http://www.example.org/shop'}}").await;
    world.state("other", "running").await;
    assert_eq!(world.route("www.example.org", "/shop")[0].2, ["app_web_1"]);
    let said = world.get("/services/other_web").await["message"].clone();
    assert_eq!(said, "the route www.example.org/shop belongs to the application app");
    world.update("app", "2.0", "web: {image: web}").await;
    world.until("the network is gone", || world.engines.state().networks.is_empty()).await;
    world
        .until("the other has it", || {
            world.route("www.example.org", "/shop").iter().any(|group| group.2 == ["other_web_1"])
        })
        .await;
    assert!(world.apps.tcp_listeners().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_two_applications_share_goes_with_the_last() {
    let world = World::new(2);
    let template = "version: '2'\nservices:\n  web: {image: web, networks: [net], volumes: ['data:/data']}\nnetworks: {net: {name: shared-net}}\nvolumes: {data: {name: shared-data, driver: ossfs, driver_opts: {bucket: b}}}\n";
    for name in ["one", "two"] {
        world.create(name, template).await;
        world.state(name, "running").await;
    }
    let shared = || {
        let state = world.engines.state();
        (state.networks.contains_key("shared-net"), state.volumes.contains_key("shared-data"))
    };
    for (name, left) in [("one", true), ("two", false)] {
        let gone = world.request("DELETE", &format!("/projects/{name}?volume=true"), "").await;
        assert!(gone.status.is_success(), "{}", gone.body);
        world.until("it is forgotten", || world.apps.inner.store.get(name).is_none()).await;
        assert_eq!(shared(), (left, left), "after {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_of_routes_lead_to_the_routers_inside_the_overlay() {
    let world = World::new(1);
    let template = "web: {image: web, labels: {aliyun.routing.port_80: 'http://shop.local'}}\nask: {image: ask, external_links: ['shop.local', 'shop.local:shop']}\n";
    world.create("app", template).await;
    world.state("app", "running").await;
    let ask = world.engines.container("app_ask_1").unwrap().inspect;
    let links = ask["NetworkingConfig"]["EndpointsConfig"]["multi-host-network"]["Links"].as_array().unwrap().clone();
    for link in ["sampan-router:shop.local", "sampan-router:shop"] {
        assert!(links.contains(&json!(link)), "{links:?}");
    }
    assert!(ask["HostConfig"].get("ExtraHosts").is_none());
}
