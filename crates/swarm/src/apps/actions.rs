//! Takes one step: calls the engines, then waits until the picture shows it, so that it is not taken twice.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use super::{
    Inner, body,
    body::Placement,
    intake, jitter, names,
    plan::Action,
    record::{Record, ServiceRecord},
    scene::is_up,
};
use crate::model::{Container, CreateContainer, Refusal, View, labels};

/// How long the picture has for showing what was done.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// What is on its way to a container when the last router lets go of it has this long.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);
/// Tries to pull an image before the one that is there is used.
const PULL_TRIES: u32 = 2;
const PULL_PAUSE: Duration = Duration::from_secs(2);

/// A step that was taken.
pub(crate) struct Done {
    pub(crate) action: Action,
    pub(crate) outcome: Result<(), Refusal>,
}

/// Takes it.
pub(crate) async fn take(inner: Arc<Inner>, record: Arc<Record>, action: Action) -> Done {
    let outcome = match inner.steps.clone().acquire_owned().await {
        Ok(_permit) => act(&inner, &record, &action).await,
        Err(_) => Err(Refusal::unavailable("the master is going down")),
    };
    Done { action, outcome }
}

/// Whether a creation failed because no node has room.
pub(crate) fn is_crowded(refusal: &Refusal) -> bool {
    let words = ["Unable to find a node", "no resources available"];
    refusal.status == StatusCode::CONFLICT && words.iter().any(|words| refusal.message.contains(words))
}

async fn act(inner: &Arc<Inner>, record: &Record, action: &Action) -> Result<(), Refusal> {
    let engines = &inner.engines;
    match action {
        Action::Pull { service } => pull(inner, record, service).await,
        Action::Network { name } => engines.ensure_network(network(record, name)).await,
        Action::Volume { name } => engines.ensure_volume(volume(record, name)).await,
        Action::Create { service, number, place } => create(inner, record, service, *number, place).await,
        Action::Start { id, .. } => start(inner, id).await,
        Action::Restart { id, seconds, .. } => {
            engines.stop(id, Duration::from_secs((*seconds).into())).await?;
            start(inner, id).await
        }
        Action::Stop { id, seconds, .. } => {
            engines.stop(id, Duration::from_secs((*seconds).into())).await?;
            shown(inner, |view| find(view, id).is_none_or(|container| !is_up(container))).await;
            Ok(())
        }
        Action::Retire { id, seconds, .. } => retire(inner, id, *seconds).await,
        Action::Remove { id, volumes, .. } => remove(inner, id, *volumes).await,
        Action::RemoveNetwork { name } => {
            // With a `name:` of its own a network may be that of several applications: the last one removes it.
            if !of_another(inner, record, |other| owns_network(other, name)) {
                engines.remove_network(name).await?;
            }
            if record.deletion.is_none() {
                intake::network_is_gone(inner, &record.name, name).await?;
            }
            Ok(())
        }
        Action::RemoveVolume { name } if of_another(inner, record, |other| owns_volume(other, name)) => Ok(()),
        Action::RemoveVolume { name } => engines.remove_volume(name).await,
        Action::Promote => intake::promote(inner, &record.name).await,
        Action::Forget => inner.store.forget(&record.name, &record.uid).await,
    }
}

fn of_another(inner: &Inner, record: &Record, owns: impl Fn(&Record) -> bool) -> bool {
    inner.store.all().iter().any(|other| other.uid != record.uid && owns(other))
}

/// Whether an application makes this network and is not on its way out itself.
fn owns_network(record: &Record, name: &str) -> bool {
    record.deletion.is_none() && (record.networks.contains_key(name) || record.made_networks.contains(name))
}

/// Whether an application makes this volume, and is not deleted together with its volumes.
fn owns_volume(record: &Record, name: &str) -> bool {
    let goes = record.deletion.as_ref().is_some_and(|deletion| deletion.volumes);
    !goes && (record.volumes.contains_key(name) || record.made_volumes.contains(name))
}

/// Waits until the picture shows what was done; what it never shows is decided anew.
async fn shown(inner: &Inner, is_shown: impl Fn(&View) -> bool) {
    let mut changes = inner.engines.changes();
    let look = async {
        loop {
            changes.borrow_and_update();
            if is_shown(&inner.engines.view()) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(SHOWN_WITHIN, look).await;
}

fn find<'a>(view: &'a View, id: &str) -> Option<&'a Arc<Container>> {
    view.containers.iter().find(|container| container.id == id)
}

async fn create(inner: &Inner, record: &Record, service: &str, number: u32, place: &Placement) -> Result<(), Refusal> {
    let Some(service) = record.services.get(service) else { return Ok(()) };
    let view = inner.engines.view();
    let wanted = CreateContainer {
        name: Some(names::container(service, number)),
        body: body::body(record, service, number, place, &view),
        registry_auth: None,
    };
    let id = inner.engines.create(wanted).await?;
    shown(inner, |view| find(view, &id).is_some()).await;
    Ok(())
}

async fn start(inner: &Inner, id: &str) -> Result<(), Refusal> {
    let before = find(&inner.engines.view(), id).and_then(|container| container.started);
    inner.engines.start(id).await?;
    let begun = |container: &Arc<Container>| is_up(container) || container.started != before;
    shown(inner, |view| find(view, id).is_none_or(begun)).await;
    Ok(())
}

async fn remove(inner: &Inner, id: &str, volumes: bool) -> Result<(), Refusal> {
    inner.engines.remove(id, true, volumes).await?;
    shown(inner, |view| find(view, id).is_none()).await;
    Ok(())
}

/// No router sends it anything any more before it is stopped.
async fn retire(inner: &Inner, id: &str, seconds: u32) -> Result<(), Refusal> {
    let view = inner.engines.view();
    let Some(container) = find(&view, id) else { return Ok(()) };
    let _drain = inner.routes.drain(id);
    if is_up(container) {
        let routed =
            !super::marks::Marks::of(container).routing.is_empty() || !super::marks::Marks::of(container).lb.is_empty();
        let revision = inner.refresh_routes();
        if routed {
            if !inner.routes.hub.in_force(revision).await {
                tracing::warn!(
                    container = container.name,
                    "not all routers have the new routes; the container goes all the same"
                );
            }
            sleep(DRAIN).await;
        }
        inner.engines.stop(id, Duration::from_secs(seconds.into())).await?;
    }
    remove(inner, id, false).await
}

/// Pulls; a registry that cannot be reached does not keep an image from being used that the nodes have.
async fn pull(inner: &Inner, record: &Record, id: &str) -> Result<(), Refusal> {
    let Some(service) = record.services.get(id) else { return Ok(()) };
    let image = service.image_name();
    let mut tries = 0;
    let note = loop {
        tries += 1;
        match inner.engines.pull(image, None).await {
            Ok(()) => break None,
            Err(refusal) if tries < PULL_TRIES => {
                tracing::info!(service = id, %refusal, "an image could not be pulled; it is tried again");
                sleep(jitter(PULL_PAUSE)).await;
            }
            Err(refusal) => break Some(refusal),
        }
    };
    let found = inner.engines.image_id(image).await;
    let mut error = None;
    if let Some(refusal) = note {
        if found.is_none() {
            return Err(Refusal::new(
                refusal.status,
                format!("the image {image} cannot be pulled and no node has it: {refusal}"),
            ));
        }
        tracing::warn!(service = id, image, %refusal, "an image could not be pulled; the one that the nodes have is used");
        error = Some(format!("{image} could not be pulled ({refusal}); the image that the nodes have is used"));
    }
    let stale = found.filter(|found| has_other_image(inner, record, service, found));
    intake::pulled(inner, &record.name, id, stale, error).await
}

fn has_other_image(inner: &Inner, record: &Record, service: &ServiceRecord, image: &str) -> bool {
    let view = inner.engines.view();
    let origin = service.origin();
    let mut ours = view.containers.iter().filter(|container| {
        names::belongs(record, container) && names::origin_of(record, container).as_ref() == Some(&origin)
    });
    ours.any(|container| container.image_id != image)
}

fn network(record: &Record, name: &str) -> Value {
    let network = record.networks.get(name).cloned().unwrap_or_default();
    let driver = network.driver.filter(|driver| driver != "bridge").unwrap_or_else(|| "overlay".into());
    let mut body = json!({
        "Name": name,
        "Driver": driver,
        "Options": network.options,
        "Labels": all_labels(record, &network.labels),
        "Internal": network.internal,
        "CheckDuplicate": true,
    });
    if driver == "overlay" {
        body["Attachable"] = json!(true);
    }
    if let Some(ipam) = network.ipam {
        body["IPAM"] = ipam;
    }
    body
}

fn volume(record: &Record, name: &str) -> Value {
    let volume = record.volumes.get(name).cloned().unwrap_or_default();
    json!({
        "Name": name,
        "Driver": volume.driver.as_deref().unwrap_or("local"),
        "DriverOpts": volume.options,
        "Labels": all_labels(record, &volume.labels),
    })
}

fn all_labels(record: &Record, given: &std::collections::BTreeMap<String, String>) -> Value {
    let mut all: Map<String, Value> = given.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    all.insert(labels::PROJECT.into(), json!(record.name));
    all.insert(names::UID.into(), json!(record.uid));
    all.insert("com.docker.compose.project".into(), json!(record.name));
    Value::Object(all)
}
