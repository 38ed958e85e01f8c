//! The master is killed at every call of the engines, before it and after it, and started again.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{fake::Kill, world::World};

const ONE: &str = "version: '2'\nservices:\n  web:\n    image: web:1\n    depends_on: [db]\n    networks: {back: {}}\n    labels: {aliyun.scale: '2', aliyun.routing.port_80: web}\n  db:\n    image: db\n    volumes: ['data:/data']\nnetworks: {back: {}}\nvolumes: {data: {}}\n";

async fn same(world: &World, step: usize) {
    let two = ONE.replace("web:1", "web:2");
    match step {
        0 => world.create("app", ONE).await,
        1 => drop(world.post("/services/app_web/scale", json!({"type": "scale_to", "value": 3}), 200).await),
        2 => world.update("app", "2.0", &two).await,
        3 => drop(world.post("/projects/app/redeploy", Value::Null, 200).await),
        4 => world.blue_green("app", "3.0", &ONE.replace("web:1", "web:3")).await,
        5 => drop(world.post("/projects/app/confirm-update?force=true", Value::Null, 202).await),
        6 => drop(world.post("/projects/app/stop", Value::Null, 200).await),
        _ => drop(world.request("DELETE", "/projects/app?v=true", "").await),
    }
}

async fn done(world: &World, step: usize) {
    match step {
        0 => {
            world.state("app", "running").await;
            assert_eq!(world.engines.names(), ["app_db_1", "app_web_1", "app_web_2"]);
        }
        1..=3 => {
            world.state("app", "running").await;
            assert_eq!(world.engines.running(), ["app_db_1", "app_web_1", "app_web_2", "app_web_3"]);
            assert_eq!(world.engines.names().len(), 4);
            let expected = if step == 1 { "web:1" } else { "web:2" };
            assert_eq!(world.engines.container("app_web_2").unwrap().image, expected);
        }
        4 => {
            world.state("app", "running").await;
            assert_eq!(
                world.engines.running(),
                ["app_db_1", "app_web-v3.0_1", "app_web-v3.0_2", "app_web_1", "app_web_2", "app_web_3"]
            );
        }
        5 => {
            world
                .until("the release is over", || world.engines.names() == ["app_db_1", "app_web_1", "app_web_2"])
                .await;
            world.state("app", "running").await;
            assert_eq!(world.engines.container("app_web_2").unwrap().image, "web:3");
        }
        6 => {
            world.state("app", "stopped").await;
            assert!(world.engines.running().is_empty());
        }
        _ => {
            world.until("it is gone", || world.apps.inner.store.get("app").is_none()).await;
            assert!(world.engines.names().is_empty());
            assert!(world.engines.state().networks.is_empty() && world.engines.state().volumes.is_empty());
        }
    }
}

/// Kills at the `at`-th call of a step; answers whether there were so many.
async fn killed_at(step: usize, at: usize, kill: Kill) -> bool {
    let mut world = World::new(3);
    for before in 0..step {
        same(&world, before).await;
        done(&world, before).await;
    }
    let calls = world.engines.log().len();
    world.engines.state().kill_at = Some((calls + at, kill));
    let mut killed = world.engines.killed.subscribe();
    same(&world, step).await;
    let reached = timeout(Duration::from_secs(120), killed.wait_for(|killed| *killed)).await.is_ok();
    world.kill().await;
    world.engines.state().kill_at = None;
    world.start();
    done(&world, step).await;
    reached
}

async fn every_point(step: usize) {
    for kill in [Kill::Before, Kill::After] {
        let mut at = 1;
        while killed_at(step, at, kill).await {
            at += 1;
        }
        assert!(at > 1, "the step made no call");
    }
}

#[tokio::test(start_paused = true)]
async fn during_a_deployment() {
    every_point(0).await;
}

#[tokio::test(start_paused = true)]
async fn during_scaling() {
    every_point(1).await;
}

#[tokio::test(start_paused = true)]
async fn during_an_update() {
    every_point(2).await;
}

#[tokio::test(start_paused = true)]
async fn during_a_redeployment() {
    every_point(3).await;
}

#[tokio::test(start_paused = true)]
async fn during_a_blue_green_release() {
    every_point(4).await;
    every_point(5).await;
}

#[tokio::test(start_paused = true)]
async fn during_stop_and_deletion() {
    every_point(6).await;
    every_point(7).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_hurts_nobody_else() {
    let mut world = World::new(1);
    world.create("good", "web: {image: web}").await;
    world.create("bad", "web: {image: web}").await;
    world.state("good", "running").await;
    world.kill().await;
    std::fs::write(world.directory.path().join("projects/bad.json"), "{").unwrap();
    world.start();
    world.state("good", "running").await;
    let refused = world.post("/projects", json!({"name": "bad", "template": "web: {image: web}"}), 409).await;
    assert!(refused.body.contains("cannot be read"));
    assert!(world.engines.names().contains(&"bad_web_1".to_owned()));
}
