//! Changes what is wanted. Everything here is one write of one record; workers do the rest.

mod release;
mod resolve;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use rand::Rng as _;

pub(crate) use release::{blue_green, confirm, promote, rollback};
use resolve::Resolved;

use super::{
    Inner, SCALE_MAX, names,
    record::{Deletion, Desired, FORM, Record, Release, ServiceRecord, origin},
};
use crate::{
    compose::{self, template::Template},
    model::{Refusal, View},
};

/// Longest version and description.
const VERSION_CHARS_MAX: usize = 128;
const DESCRIPTION_CHARS_MAX: usize = 4096;
/// Ports of nodes that listeners cannot have: what a node itself, its engine and its router take.
const TAKEN_PORTS: [u16; 7] = [80, 2375, 2376, 2377, 4789, 7946, sampan_agents::master::ROUTER_PORT];

/// What a creation or an update says.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) template: String,
    pub(crate) version: Option<String>,
    pub(crate) environment: Option<BTreeMap<String, String>>,
    pub(crate) latest_image: bool,
}

impl Wanted {
    fn check(&self) -> Result<(), Refusal> {
        let long = |text: &Option<String>, max: usize| text.as_ref().is_some_and(|text| text.chars().count() > max);
        if long(&self.version, VERSION_CHARS_MAX) || self.version.as_ref().is_some_and(|version| version.is_empty()) {
            return Err(Refusal::bad(format!("version: 1 to {VERSION_CHARS_MAX} characters are allowed")));
        }
        if long(&self.description, DESCRIPTION_CHARS_MAX) {
            return Err(Refusal::bad(format!("description: up to {DESCRIPTION_CHARS_MAX} characters are allowed")));
        }
        Ok(())
    }
}

/// Records a new application.
pub(crate) async fn create(inner: &Arc<Inner>, wanted: Wanted) -> Result<(), Refusal> {
    crate::compose::project_name(&wanted.name).map_err(|error| Refusal::bad(format!("name: {error}")))?;
    wanted.check()?;
    let environment = wanted.environment.clone().unwrap_or_default();
    let template = read(&wanted.name, &wanted.template, &environment).await?;
    let now = Timestamp::now();
    let mut record = Record {
        form: FORM,
        uid: uid(),
        name: wanted.name,
        description: wanted.description.unwrap_or_default(),
        version: wanted.version.unwrap_or_else(|| "1.0".into()),
        template: wanted.template,
        environment,
        created: now,
        updated: now,
        services: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        made_networks: Default::default(),
        made_volumes: Default::default(),
        next: None,
        incarnations: 1,
        retired: Default::default(),
        deletion: None,
        notes: template.notes.clone(),
    };
    let resolved = Resolved::of(&record.name, template);
    resolved.note_in(&mut record);
    let version = record.version.clone();
    for (name, service) in resolved.services {
        let service = fresh(&mut record, &name, service, &version, wanted.latest_image, now);
        record.services.insert(service.id.clone(), service);
    }
    let copy = record.clone();
    inner.store.insert(record, move |others| check_among(&copy, others)).await
}

/// Changes an application in place.
pub(crate) async fn update(inner: &Arc<Inner>, wanted: Wanted) -> Result<(), Refusal> {
    wanted.check()?;
    let name = wanted.name.clone();
    let before = inner.store.get(&name).ok_or_else(|| names::no_project(&name))?;
    let environment = wanted.environment.clone().unwrap_or_else(|| before.environment.clone());
    let template = read(&name, &wanted.template, &environment).await?;
    let now = Timestamp::now();
    let view = inner.engines.view();
    inner
        .store
        .update(&name, move |record, others| {
            check_open(record)?;
            check_version(record, wanted.version.as_deref())?;
            forget_retired(record, &view);
            record.version = wanted.version.unwrap_or_else(|| record.version.clone());
            record.description = wanted.description.unwrap_or_else(|| record.description.clone());
            record.template = wanted.template;
            record.environment = environment;
            record.notes = template.notes.clone();
            record.updated = now;
            let resolved = Resolved::of(&record.name, template);
            resolved.note_in(record);
            let mut old = std::mem::take(&mut record.services);
            let version = record.version.clone();
            for (name, service) in resolved.services {
                let mut service = fresh(record, &name, service, &version, wanted.latest_image, now);
                if let Some(before) = take_present(&mut old, &name) {
                    inherit(&mut service, before);
                }
                record.services.insert(service.id.clone(), service);
            }
            // What a release without force had left beside each other is one again, and so is the weight.
            if old.values().any(|service| service.release == Release::Legacy) {
                for service in record.services.values_mut() {
                    service.weight = 100;
                }
            }
            record.settle_ids();
            resolve::forget_unused(record);
            check_among(record, others)
        })
        .await
}

/// Services of ended releases need not be remembered when their containers are gone.
fn forget_retired(record: &mut Record, view: &View) {
    let present = origins_present(record, view);
    record.retired.retain(|origin| present.contains(origin));
}

/// Which services, present and former, have containers.
fn origins_present(record: &Record, view: &View) -> BTreeSet<String> {
    let ours = view.containers.iter().filter(|container| names::belongs(record, container));
    ours.filter_map(|container| names::origin_of(record, container)).collect()
}

/// The service of this name in the version that is in force.
fn take_present(services: &mut BTreeMap<String, ServiceRecord>, name: &str) -> Option<ServiceRecord> {
    let found = services.values().filter(|service| service.name == name);
    let id = found.min_by_key(|service| service.release != Release::Current)?.id.clone();
    services.remove(&id)
}

/// What a service keeps over an update.
fn inherit(service: &mut ServiceRecord, before: ServiceRecord) {
    if service.service.extensions.scale == before.service.extensions.scale && service.service.container_name.is_none() {
        service.scale = before.scale;
    }
    if service.image_name() == before.image_name() {
        service.image = before.image;
    }
    if before.desired == Desired::Running {
        service.desired_since = before.desired_since;
    }
    if service.service.definition == before.service.definition {
        service.updated = before.updated;
    }
    service.id = before.id;
    service.incarnation = before.incarnation;
    service.created = before.created;
    service.weight = before.weight;
    service.epoch = before.epoch;
    service.pull |= before.pull;
}

/// A service as its template says it.
fn fresh(
    record: &mut Record,
    name: &str,
    service: crate::compose::template::Service,
    version: &str,
    latest_image: bool,
    now: Timestamp,
) -> ServiceRecord {
    let mut incarnation = 1;
    if record.retired.contains(&origin(name, 1)) {
        record.incarnations += 1;
        incarnation = record.incarnations;
    }
    let extensions = &service.extensions;
    let mut scale = extensions.scale.unwrap_or(1);
    if let Some(scaling) = &extensions.auto_scaling {
        scale = scale.min(scaling.max_instances.unwrap_or(SCALE_MAX)).max(scaling.min_instances);
    }
    ServiceRecord {
        id: record.canonical(name),
        name: name.to_owned(),
        version: version.to_owned(),
        release: Release::Current,
        shared: false,
        incarnation,
        created: now,
        updated: now,
        desired: Desired::Running,
        desired_since: now,
        stop_seconds: None,
        scale: scale.min(SCALE_MAX),
        weight: 100,
        epoch: 0,
        pull: latest_image || extensions.latest_image,
        image: None,
        pull_error: None,
        service,
    }
}

/// An application that goes, or whose release is open, is not changed.
fn check_open(record: &Record) -> Result<(), Refusal> {
    check_kept(record)?;
    match &record.next {
        Some(next) => Err(Refusal::conflict(format!(
            "a blue-green release of {} to version {} is open; confirm it or roll it back first",
            record.name, next.version
        ))),
        None => Ok(()),
    }
}

fn check_kept(record: &Record) -> Result<(), Refusal> {
    match record.deletion {
        Some(_) => Err(Refusal::conflict(format!("the application {} is being deleted", record.name))),
        None => Ok(()),
    }
}

fn check_version(record: &Record, version: Option<&str>) -> Result<(), Refusal> {
    if version == Some(record.version.as_str()) {
        return Err(Refusal::conflict(format!(
            "the application {} has the version {} already",
            record.name, record.version
        )));
    }
    Ok(())
}

/// What must be unique in the cluster.
fn check_among(record: &Record, others: &[Arc<Record>]) -> Result<(), Refusal> {
    for service in record.services.values() {
        let canonical = record.canonical(&service.name);
        for other in others {
            let taken = |theirs: &ServiceRecord| {
                [&service.id, &canonical].contains(&&theirs.id) || other.canonical(&theirs.name) == canonical
            };
            if other.services.values().any(taken) {
                return Err(Refusal::conflict(format!(
                    "the application {} has a service {canonical} already; take another name",
                    other.name
                )));
            }
        }
        for listener in &service.service.extensions.lb {
            check_listener(record, others, service, listener.port)?;
        }
    }
    Ok(())
}

fn check_listener(record: &Record, others: &[Arc<Record>], service: &ServiceRecord, port: u16) -> Result<(), Refusal> {
    if TAKEN_PORTS.contains(&port) {
        return Err(Refusal::bad(format!(
            "aliyun.lb: the port {port} is taken by the cluster itself; take another one"
        )));
    }
    let has = |other: &&ServiceRecord| other.service.extensions.lb.iter().any(|listener| listener.port == port);
    let own = record.services.values().filter(|other| other.name != service.name && other.release == service.release);
    let theirs = others.iter().filter(|other| other.deletion.is_none()).flat_map(|other| other.services.values());
    match own.chain(theirs).find(has) {
        Some(other) => {
            Err(Refusal::conflict(format!("aliyun.lb: the port {port} belongs to the service {}", other.id)))
        }
        None => Ok(()),
    }
}

/// Reads a template, off the threads that answer.
async fn read(project: &str, text: &str, environment: &BTreeMap<String, String>) -> Result<Template, Refusal> {
    let context = compose::Context { project: project.to_owned() };
    let (text, environment) = (text.to_owned(), environment.clone());
    let reading = tokio::task::spawn_blocking(move || compose::read(&text, &environment, &context));
    let read = reading.await.map_err(|error| Refusal::internal(format!("the template could not be read: {error}")))?;
    read.map_err(|error| Refusal::bad(format!("template: {error}")))
}

fn uid() -> String {
    let bytes: [u8; 12] = rand::rng().random();
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Which services a call is about.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    One(String),
}

impl Which {
    fn holds(&self, service: &ServiceRecord) -> bool {
        match self {
            Self::All => true,
            Self::One(id) => service.id == *id,
        }
    }
}

/// Services shall run, or not.
pub(crate) async fn desire(
    inner: &Inner,
    project: &str,
    which: Which,
    desired: Desired,
    seconds: Option<u32>,
) -> Result<(), Refusal> {
    let now = Timestamp::now();
    inner
        .store
        .update(project, move |record, _| {
            check_kept(record)?;
            record.updated = now;
            for service in record.services.values_mut().filter(|service| which.holds(service)) {
                if service.desired != desired {
                    service.desired = desired;
                    service.desired_since = now;
                    service.updated = now;
                }
                service.stop_seconds = if desired == Desired::Stopped { seconds } else { None };
            }
            Ok(())
        })
        .await
}

/// All containers are to be made anew, from images pulled again.
pub(crate) async fn redeploy(inner: &Inner, project: &str) -> Result<(), Refusal> {
    let now = Timestamp::now();
    inner
        .store
        .update(project, move |record, _| {
            check_kept(record)?;
            record.updated = now;
            for service in record.services.values_mut() {
                service.epoch += 1;
                service.pull = true;
                service.updated = now;
                if service.desired != Desired::Running {
                    service.desired = Desired::Running;
                    service.desired_since = now;
                }
                service.stop_seconds = None;
            }
            Ok(())
        })
        .await
}

/// Deletes an application.
pub(crate) async fn delete(inner: &Inner, project: &str, force: bool, volumes: bool) -> Result<(), Refusal> {
    inner
        .store
        .update(project, move |record, _| {
            let before = record.deletion.take().unwrap_or(Deletion { force: false, volumes: false });
            record.deletion = Some(Deletion { force: before.force || force, volumes: before.volumes || volumes });
            Ok(())
        })
        .await
}

/// The application and the service of this id.
pub(crate) fn locate(inner: &Inner, id: &str) -> Result<(Arc<Record>, ServiceRecord), Refusal> {
    let records = inner.store.all();
    let found =
        records.into_iter().find_map(|record| record.services.get(id).cloned().map(|service| (record, service)));
    found.ok_or_else(|| names::no_service(id))
}

async fn change<T>(
    inner: &Inner,
    id: &str,
    change: impl FnOnce(&mut ServiceRecord) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let (record, _) = locate(inner, id)?;
    inner
        .store
        .update(&record.name, move |record, _| {
            check_kept(record)?;
            change(record.services.get_mut(id).ok_or_else(|| names::no_service(id))?)
        })
        .await
}

fn check_scale(service: &ServiceRecord, value: u32) -> Result<(), Refusal> {
    if service.service.extensions.global {
        return Err(Refusal::bad(format!("{} has one container on every node and cannot be scaled", service.id)));
    }
    if service.service.container_name.is_some() && value > 1 {
        return Err(Refusal::bad(format!("{} has a container_name, so it has one container at most", service.id)));
    }
    Ok(())
}

/// A service shall have this many containers.
pub(crate) async fn scale_to(inner: &Inner, id: &str, value: u32) -> Result<(), Refusal> {
    let now = Timestamp::now();
    change(inner, id, move |service| {
        check_scale(service, value)?;
        if service.scale != value {
            service.scale = value;
            service.updated = now;
        }
        Ok(())
    })
    .await
}

/// A service shall have this many more or fewer.
pub(crate) async fn scale_by(inner: &Inner, id: &str, by: i64) -> Result<u32, Refusal> {
    let now = Timestamp::now();
    change(inner, id, move |service| {
        let value = i64::from(service.scale).saturating_add(by).clamp(0, SCALE_MAX.into());
        let value = u32::try_from(value).unwrap_or(SCALE_MAX);
        check_scale(service, value)?;
        if service.scale != value {
            service.scale = value;
            service.updated = now;
        }
        Ok(value)
    })
    .await
}

/// A service's share of the requests.
pub(crate) async fn weigh(inner: &Inner, id: &str, weight: u32) -> Result<(), Refusal> {
    change(inner, id, move |service| {
        service.weight = weight;
        Ok(())
    })
    .await
}

/// The image was pulled; `stale`: containers have another one than this.
pub(crate) async fn pulled(
    inner: &Inner,
    project: &str,
    id: &str,
    stale: Option<String>,
    error: Option<String>,
) -> Result<(), Refusal> {
    inner
        .store
        .update(project, move |record, _| {
            if let Some(service) = record.services.get_mut(id) {
                service.pull = false;
                service.pull_error = error;
                service.image = stale.or_else(|| service.image.take());
            }
            Ok(())
        })
        .await
}

/// A network that is not wanted any more was removed.
pub(crate) async fn network_is_gone(inner: &Inner, project: &str, network: &str) -> Result<(), Refusal> {
    inner
        .store
        .update(project, move |record, _| {
            if !record.networks.contains_key(network) {
                record.made_networks.remove(network);
            }
            Ok(())
        })
        .await
}
