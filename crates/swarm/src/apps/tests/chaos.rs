//! Anything may happen in any order; in the end everything is as it is wanted.

use std::{future::Future, pin::Pin, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{router::Router, world::World};
use crate::{apps::record::Desired, model::NodeHealth};

#[derive(Clone, Debug)]
enum Event {
    Update(u8),
    BlueGreen(u8, bool),
    Confirm(bool),
    Rollback,
    Scale(u8),
    Weight(u8),
    Redeploy,
    Stop,
    Start,
    StopService,
    Ends(u8),
    Vanishes(u8),
    NodeGoes(u8),
    NodeComes(u8),
    Crash,
    Pause(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4u8).prop_map(Event::Update),
        (0..4u8, any::<bool>()).prop_map(|(image, renamed)| Event::BlueGreen(image, renamed)),
        any::<bool>().prop_map(Event::Confirm),
        Just(Event::Rollback),
        (0..5u8).prop_map(Event::Scale),
        (0..101u8).prop_map(Event::Weight),
        Just(Event::Redeploy),
        Just(Event::Stop),
        Just(Event::Start),
        Just(Event::StopService),
        any::<u8>().prop_map(Event::Ends),
        any::<u8>().prop_map(Event::Vanishes),
        (1..4u8).prop_map(Event::NodeGoes),
        (1..4u8).prop_map(Event::NodeComes),
        Just(Event::Crash),
        (0..20_000u16).prop_map(Event::Pause),
    ]
}

fn template(image: u8, renamed: bool) -> String {
    let name = if renamed { "site" } else { "web" };
    format!(
        "version: '2'\nservices:\n  {name}:\n    image: web:{image}\n    depends_on: [db]\n    labels: {{aliyun.scale: '2', aliyun.routing.port_80: web}}\n  db:\n    image: db\n    volumes: ['data:/data']\n  agent: {{image: agent, labels: {{aliyun.global: 'true'}}}}\nvolumes: {{data: {{}}}}\n"
    )
}

/// Asks, and takes a refusal for an answer.
async fn ask(world: &World, path: &str, body: Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answered = world.request("POST", path, body).await;
    assert!(answered.status.as_u16() < 500, "{path}: {}", answered.body);
}

async fn happen(world: &mut World, number: usize, event: Event) {
    let version = format!("v{number}");
    match event {
        Event::Update(image) => {
            ask(world, "/projects/app/update", json!({"template": template(image, false), "version": version})).await;
        }
        Event::BlueGreen(image, renamed) => {
            let body = json!({"template": template(image, renamed), "version": version, "update_method": "blue-green"});
            ask(world, "/projects/app/update", body).await;
        }
        Event::Confirm(force) => ask(world, &format!("/projects/app/confirm-update?force={force}"), Value::Null).await,
        Event::Rollback => ask(world, "/projects/app/rollback-update?force=true", Value::Null).await,
        Event::Scale(value) => ask(world, "/services/app_web/scale", json!({"type": "scale_to", "value": value})).await,
        Event::Weight(weight) => ask(world, "/services/app_web/weight", json!({"weight": weight})).await,
        Event::Redeploy => ask(world, "/projects/app/redeploy", Value::Null).await,
        Event::Stop => ask(world, "/projects/app/stop", Value::Null).await,
        Event::Start => ask(world, "/projects/app/start", Value::Null).await,
        Event::StopService => ask(world, "/services/app_web/stop", Value::Null).await,
        Event::Ends(which) => {
            let running = world.engines.running();
            if let Some(name) = running.get(usize::from(which) % running.len().max(1)) {
                world.engines.exits(name, 1);
            }
        }
        Event::Vanishes(which) => world.engines.change(|state| {
            if !state.containers.is_empty() {
                let index = usize::from(which) % state.containers.len();
                state.containers.remove(index);
            }
        }),
        Event::NodeGoes(index) => world.engines.health(index.into(), NodeHealth::Unhealthy),
        Event::NodeComes(index) => world.engines.health(index.into(), NodeHealth::Healthy),
        Event::Crash => {
            world.kill().await;
            world.start();
        }
        Event::Pause(milliseconds) => sleep(Duration::from_millis(milliseconds.into())).await,
    }
}

/// Containers that there shall be, by service and image.
fn expected(world: &World) -> Vec<(String, String)> {
    let record = world.apps.inner.store.get("app").unwrap();
    let mut all = Vec::new();
    for service in record.services.values().filter(|service| service.desired == Desired::Running) {
        let count = if service.service.extensions.global { 3 } else { service.scale };
        all.extend((0..count).map(|_| (service.origin(), service.image_name().to_owned())));
    }
    all.sort();
    all
}

fn found(world: &World) -> Vec<(String, String)> {
    let record = world.apps.inner.store.get("app").unwrap();
    let state = world.engines.state();
    let running = state.containers.iter().filter(|container| container.is_running());
    let mut all: Vec<(String, String)> = running
        .map(|container| (crate::apps::names::origin_of(&record, container).unwrap(), container.image.clone()))
        .collect();
    all.sort();
    all
}

async fn story(events: Vec<Event>) {
    let mut world = World::new(3);
    world.create("app", &template(0, false)).await;
    for (number, event) in events.into_iter().enumerate() {
        happen(&mut world, number, event).await;
    }
    for index in 1..4 {
        world.engines.health(index, NodeHealth::Healthy);
    }
    world.until("everything is as it is wanted", || found(&world) == expected(&world)).await;
    let wanted = world.get("/projects/app").await["desired_state"].as_str().unwrap().to_owned();
    world.state("app", &wanted).await;
    assert_eq!(found(&world), expected(&world));
    let names = world.engines.names();
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    world.request("DELETE", "/projects/app?v=1", "").await;
    world
        .until("nothing is left", || world.engines.names().is_empty() && world.engines.state().volumes.is_empty())
        .await;
}

/// What users do to an application that shall serve all the while; and the master may be killed.
fn calm_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4u8).prop_map(Event::Update),
        (0..4u8, any::<bool>()).prop_map(|(image, renamed)| Event::BlueGreen(image, renamed)),
        any::<bool>().prop_map(Event::Confirm),
        Just(Event::Rollback),
        (1..5u8).prop_map(Event::Scale),
        Just(Event::Redeploy),
        Just(Event::Crash),
        (0..40_000u16).prop_map(Event::Pause),
        (0..40_000u16).prop_map(Event::Pause),
    ]
}

async fn calm_story(events: Vec<Event>) {
    let mut world = World::new(3);
    world.create("app", &template(0, false)).await;
    let router = Router::start(&world, "one", "web.c1.cn-test.example.com");
    world.state("app", "running").await;
    world.until("the router serves", || router.revision() > 0).await;
    for (number, event) in events.into_iter().enumerate() {
        happen(&mut world, number, event).await;
        assert_eq!(router.failures(), Vec::<String>::new());
    }
    world.until("everything is as it is wanted", || found(&world) == expected(&world)).await;
    assert_eq!(router.failures(), Vec::<String>::new());
}

/// The old ones that leave are those that shall be again: they run still, but get no requests any more.
#[tokio::test(start_paused = true)]
async fn an_update_that_is_taken_back_halfway_is_not_noticed() {
    for milliseconds in (0..3000).step_by(50) {
        calm_story(vec![Event::Update(1), Event::Pause(milliseconds), Event::Update(0)]).await;
    }
}

/// What serves now are containers of a service that the template has no more; a release brings that service back.
#[tokio::test(start_paused = true)]
async fn a_release_takes_over_no_containers_that_still_serve() {
    for milliseconds in (0..3000).step_by(100) {
        calm_story(vec![
            Event::BlueGreen(0, true),
            Event::Confirm(true),
            Event::Pause(milliseconds),
            Event::Update(0),
            Event::BlueGreen(0, true),
            Event::Pause(13_000),
        ])
        .await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_notices(events in prop::collection::vec(calm_event(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let story: Pin<Box<dyn Future<Output = ()>>> = Box::pin(calm_story(events));
        runtime.block_on(story);
    }

    #[test]
    fn whatever_happens_it_converges(events in prop::collection::vec(event(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let story: Pin<Box<dyn Future<Output = ()>>> = Box::pin(story(events));
        runtime.block_on(story);
    }
}
