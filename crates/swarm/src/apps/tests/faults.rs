//! The master is killed at every call of the engines, before it and after it, and started again.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{fake::Kill, world::World};

const ONE: &str = "version: '2'\nservices:\n  web:\n    image: web:1\n    depends_on: [db]\n    networks: {back: {}}\n    labels: {aliyun.scale: '2', aliyun.routing.port_80: web}\n  db:\n    image: db\n    volumes: ['data:/data']\nnetworks: {back: {}}\nvolumes: {data: {}}\n";

/// What users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Scale,
    Update,
    Redeploy,
    BlueGreen,
    Confirm,
    Stop,
    Delete,
}

impl Step {
    /// What has to be done before.
    fn before(self) -> &'static [Step] {
        match self {
            Self::Create => &[],
            Self::Confirm | Self::Delete => &[Self::Create, Self::BlueGreen],
            _ => &[Self::Create],
        }
    }

    async fn ask(self, world: &World) {
        let none = Value::Null;
        match self {
            Self::Create => world.create("app", ONE).await,
            Self::Scale => {
                drop(world.post("/services/app_web/scale", json!({"type": "scale_to", "value": 3}), 200).await);
            }
            Self::Update => world.update("app", "2.0", &ONE.replace("web:1", "web:2")).await,
            Self::Redeploy => drop(world.post("/projects/app/redeploy", none, 200).await),
            Self::BlueGreen => world.blue_green("app", "2.0", &ONE.replace("web:1", "web:2")).await,
            Self::Confirm => drop(world.post("/projects/app/confirm-update?force=true", none, 202).await),
            Self::Stop => drop(world.post("/projects/app/stop", none, 200).await),
            Self::Delete => drop(world.request("DELETE", "/projects/app?v=true", "").await),
        }
    }

    async fn done(self, world: &World) {
        let web = |more: &[&'static str]| -> Vec<&'static str> {
            [&["app_db_1"], more, &["app_web_1", "app_web_2"]].concat()
        };
        let names = match self {
            Self::Scale => vec!["app_db_1", "app_web_1", "app_web_2", "app_web_3"],
            Self::BlueGreen => web(&["app_web-v2.0_1", "app_web-v2.0_2"]),
            Self::Confirm => vec!["app_db_1", "app_web-v2.0_1", "app_web-v2.0_2"],
            Self::Delete => vec![],
            _ => web(&[]),
        };
        if self == Self::Delete {
            world.until("it is gone", || world.apps.inner.store.get("app").is_none()).await;
            assert!(world.engines.state().networks.is_empty() && world.engines.state().volumes.is_empty());
        } else {
            world.until("all is there and no more", || world.engines.names() == names).await;
            world.state("app", if self == Self::Stop { "stopped" } else { "running" }).await;
        }
        assert_eq!(world.engines.names(), names);
        let image = |name: &str| world.engines.container(name).map(|container| container.image);
        match self {
            Self::Update => assert_eq!(image("app_web_2").unwrap(), "web:2"),
            Self::Confirm => assert_eq!(image("app_web-v2.0_2").unwrap(), "web:2"),
            Self::Stop => assert!(world.engines.running().is_empty()),
            _ => {}
        }
    }
}

/// Kills at the `at`-th call of a step; answers whether there were so many.
async fn killed_at(step: Step, at: usize, kill: Kill) -> bool {
    let mut world = World::new(3);
    for before in step.before() {
        before.ask(&world).await;
        before.done(&world).await;
    }
    let calls = world.engines.log().len();
    world.engines.state().kill_at = Some((calls + at, kill));
    let mut killed = world.engines.killed.subscribe();
    step.ask(&world).await;
    let reached = timeout(Duration::from_secs(60), killed.wait_for(|killed| *killed)).await.is_ok();
    world.kill().await;
    world.engines.state().kill_at = None;
    world.start();
    step.done(&world).await;
    reached
}

async fn every_point(step: Step) {
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
    every_point(Step::Create).await;
}

#[tokio::test(start_paused = true)]
async fn during_scaling() {
    every_point(Step::Scale).await;
}

#[tokio::test(start_paused = true)]
async fn during_an_update() {
    every_point(Step::Update).await;
}

#[tokio::test(start_paused = true)]
async fn during_a_redeployment() {
    every_point(Step::Redeploy).await;
}

#[tokio::test(start_paused = true)]
async fn during_a_blue_green_release() {
    every_point(Step::BlueGreen).await;
    every_point(Step::Confirm).await;
}

#[tokio::test(start_paused = true)]
async fn during_stop_and_deletion() {
    every_point(Step::Stop).await;
    every_point(Step::Delete).await;
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
