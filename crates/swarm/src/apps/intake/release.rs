//! Blue-green releases: two versions side by side until one of them goes.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::{
    Resolved, Wanted, check_among, check_kept, check_open, check_version, fresh, origins_present, read, resolve,
};
use crate::{
    apps::{
        Inner, body, names,
        record::{Foundations, Next, Record, Release, ServiceRecord},
    },
    model::Refusal,
};

/// Opens a release.
pub(crate) async fn blue_green(inner: &Arc<Inner>, wanted: Wanted) -> Result<(), Refusal> {
    wanted.check()?;
    let name = wanted.name.clone();
    let version =
        wanted.version.clone().ok_or_else(|| Refusal::bad("version: a blue-green update needs the new version"))?;
    let before = inner.store.get(&name).ok_or_else(|| names::no_project(&name))?;
    let environment = wanted.environment.clone().unwrap_or_else(|| before.environment.clone());
    let template = read(&name, &wanted.template, &environment).await?;
    let now = Timestamp::now();
    let view = inner.engines.view();
    inner
        .store
        .update(&name, move |record, others| {
            check_open(record)?;
            check_version(record, Some(&version))?;
            let present = origins_present(record, &view);
            let next = Next {
                version: version.clone(),
                description: wanted.description.unwrap_or_else(|| record.description.clone()),
                template: wanted.template,
                environment,
                since: now,
                notes: template.notes.clone(),
                weights: record.services.values().map(|service| (service.id.clone(), service.weight)).collect(),
                before: Some(Foundations { networks: record.networks.clone(), volumes: record.volumes.clone() }),
                confirmed: None,
            };
            let resolved = Resolved::of(&record.name, template);
            resolved.note_in(record);
            let incoming: Vec<ServiceRecord> = resolved
                .services
                .into_iter()
                .map(|(name, service)| fresh(record, &name, service, &version, wanted.latest_image, now))
                .collect();
            let shared = shared(record, &incoming);
            for service in incoming {
                if shared.contains(&service.name) {
                    let id = record.canonical(&service.name);
                    let present = record
                        .services
                        .values_mut()
                        .find(|present| present.release == Release::Current && present.name == service.name);
                    if let Some(present) = present {
                        present.shared = true;
                    } else {
                        tracing::error!(service = id, "a service that both versions share is not there");
                    }
                } else {
                    add_next(record, service, &present);
                }
            }
            record.next = Some(next);
            record.updated = now;
            check_among(record, others)
        })
        .await
}

/// Services that are the same in both versions, with everything that they need.
fn shared(record: &Record, incoming: &[ServiceRecord]) -> BTreeSet<String> {
    let same = |service: &&ServiceRecord| {
        let present = record
            .services
            .values()
            .find(|present| present.release == Release::Current && present.name == service.name);
        present.is_some_and(|present| body::unchanged(present, service) && !service.pull)
    };
    let mut shared: BTreeSet<String> = incoming.iter().filter(same).map(|service| service.name.clone()).collect();
    loop {
        let needs_other = |service: &&ServiceRecord| {
            shared.contains(&service.name)
                && service.service.depends.keys().any(|name| *name != service.name && !shared.contains(name))
        };
        let Some(name) = incoming.iter().find(needs_other).map(|service| service.name.clone()) else { return shared };
        shared.remove(&name);
    }
}

/// Adds a service of the new version, without requests at first. It takes over nobody's containers: those of a namesake
/// that the template has no more (`present`) may be all that serves now.
fn add_next(record: &mut Record, mut service: ServiceRecord, present: &BTreeSet<String>) {
    service.release = Release::Next;
    service.weight = 0;
    let namesake = record.services.values().find(|other| other.name == service.name);
    if let Some(namesake) = namesake
        && namesake.service.extensions.scale == service.service.extensions.scale
    {
        service.scale = namesake.scale;
    }
    if namesake.is_some() || present.contains(&service.origin()) {
        record.incarnations += 1;
        service.incarnation = record.incarnations;
        service.id = suffixed(record, &service);
    }
    record.services.insert(service.id.clone(), service);
}

/// An id beside that of the older service: `{project}_{service}-v{version}`.
fn suffixed(record: &Record, service: &ServiceRecord) -> String {
    let version: String =
        service.version.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(32).collect();
    let id = format!("{}-v{version}", service.id);
    if record.services.contains_key(&id) { format!("{id}-{}", service.incarnation) } else { id }
}

/// The release is to be ended, when the new version is ready.
pub(crate) async fn confirm(inner: &Inner, project: &str, force: bool) -> Result<(), Refusal> {
    inner
        .store
        .update(project, move |record, _| {
            check_kept(record)?;
            let name = record.name.clone();
            record.next.as_mut().ok_or_else(|| no_release(&name))?.confirmed = Some(force);
            Ok(())
        })
        .await
}

fn no_release(project: &str) -> Refusal {
    Refusal::conflict(format!("no blue-green release of {project} is open"))
}

/// Ends a confirmed release.
pub(crate) async fn promote(inner: &Inner, project: &str) -> Result<(), Refusal> {
    let now = Timestamp::now();
    inner
        .store
        .update(project, move |record, _| {
            let Some(force) = record.next.as_ref().and_then(|next| next.confirmed) else { return Ok(()) };
            let Some(next) = record.next.take() else { return Ok(()) };
            let stay = if force { BTreeSet::new() } else { with_weight(record) };
            let ids: Vec<String> = record.services.keys().cloned().collect();
            for id in ids {
                let Some(service) = record.services.get_mut(&id) else { continue };
                if service.release == Release::Next || service.shared {
                    service.release = Release::Current;
                    service.shared = false;
                    service.version.clone_from(&next.version);
                    service.weight = if force { 100 } else { service.weight };
                    service.updated = now;
                } else if stay.contains(&id) {
                    service.release = Release::Legacy;
                } else {
                    let origin = service.origin();
                    record.services.remove(&id);
                    record.retired.insert(origin);
                }
            }
            record.version = next.version;
            record.description = next.description;
            record.template = next.template;
            record.environment = next.environment;
            record.notes = next.notes;
            record.updated = now;
            record.settle_ids();
            resolve::forget_unused(record);
            Ok(())
        })
        .await
}

/// Old services that still get requests, and what these need.
fn with_weight(record: &Record) -> BTreeSet<String> {
    let old = |service: &&ServiceRecord| service.release != Release::Next && !service.shared;
    let mut open: Vec<&ServiceRecord> =
        record.services.values().filter(old).filter(|service| service.is_routed() && service.weight > 0).collect();
    let mut stay = BTreeSet::new();
    while let Some(service) = open.pop() {
        if stay.insert(service.id.clone()) {
            open.extend(record.dependencies(service).filter(old));
        }
    }
    stay
}

/// The new version goes; the old one gets all requests again.
pub(crate) async fn rollback(inner: &Inner, project: &str) -> Result<(), Refusal> {
    let now = Timestamp::now();
    inner
        .store
        .update(project, move |record, _| {
            check_kept(record)?;
            let next = record.next.take().ok_or_else(|| no_release(&record.name))?;
            let going: Vec<String> = record
                .services
                .values()
                .filter(|service| service.release == Release::Next)
                .map(|service| service.id.clone())
                .collect();
            for id in going {
                if let Some(service) = record.services.remove(&id) {
                    record.retired.insert(service.origin());
                }
            }
            for service in record.services.values_mut() {
                service.shared = false;
                service.weight = next.weights.get(&service.id).copied().unwrap_or(100);
            }
            if let Some(before) = next.before {
                restore(record, before);
            }
            record.updated = now;
            resolve::forget_unused(record);
            Ok(())
        })
        .await
}

/// Networks and volumes are again what the old version says of them. A volume that it wants kept is not deleted with the
/// application because the new version said otherwise.
fn restore(record: &mut Record, before: Foundations) {
    for (name, _) in before.volumes.iter().filter(|(_, volume)| volume.keep) {
        record.made_volumes.remove(name);
    }
    record.networks = before.networks;
    record.volumes = before.volumes;
}
