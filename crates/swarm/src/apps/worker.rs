//! Looks after one application: decides, acts, remembers what failed, looks again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    GATHER, Inner, Words,
    actions::{self, Done},
    jitter, names,
    plan::{self, Action, Plan},
    record::Record,
    rolling,
    scene::{Notes, Scene},
};
use crate::model::{ContainerState, Refusal, View};

/// First pause after a failure; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A container that ran this long did not fail.
const STEADY: Duration = Duration::from_secs(60);
/// It is looked again at the latest after this.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Steps under way for one application.
const STEPS_MAX: usize = 24;

/// Looks after an application until it is forgotten; answers its name.
pub(crate) async fn run(inner: Arc<Inner>, name: String, uid: String) -> String {
    let mut worker = Worker {
        inner,
        name: name.clone(),
        uid,
        notes: Notes::default(),
        retries: HashMap::new(),
        tasks: JoinSet::new(),
        forced: false,
    };
    worker.work().await;
    worker.inner.words().remove(&name);
    name
}

struct Worker {
    inner: Arc<Inner>,
    name: String,
    uid: String,
    notes: Notes,
    retries: HashMap<String, Retry>,
    tasks: JoinSet<Done>,
    forced: bool,
}

/// The container that a key of [`Worker::retries`] is about.
fn container_of(key: &str) -> Option<&str> {
    let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(key.strip_prefix("start:").unwrap_or(key)).filter(is_id)
}

struct Retry {
    failures: u32,
    until: Instant,
}

impl Worker {
    async fn work(&mut self) {
        let mut view_changes = self.inner.engines.changes();
        let mut store_changes = self.inner.store.changes();
        let mut health_changes = self.inner.health.changes();
        loop {
            view_changes.borrow_and_update();
            store_changes.borrow_and_update();
            health_changes.borrow_and_update();
            let Some(record) = self.inner.store.get(&self.name).filter(|record| record.uid == self.uid) else { return };
            self.heed_force(&record).await;
            let view = self.inner.engines.view();
            self.step(&record, &view);
            let wake = self.wake();
            tokio::select! {
                changed = view_changes.changed() => if changed.is_err() { return },
                changed = store_changes.changed() => if changed.is_err() { return },
                changed = health_changes.changed() => if changed.is_err() { return },
                Some(done) = self.tasks.join_next() => self.note(done),
                () = sleep_until(wake) => {}
            }
            sleep(GATHER).await;
            while let Some(done) = self.tasks.try_join_next() {
                self.note(done);
            }
        }
    }

    /// A forced deletion waits for nothing that is under way.
    async fn heed_force(&mut self, record: &Record) {
        if self.forced || !record.deletion.as_ref().is_some_and(|deletion| deletion.force) {
            return;
        }
        self.forced = true;
        self.tasks.shutdown().await;
        self.notes.busy.clear();
        self.notes.creating.clear();
        self.retries.clear();
    }

    fn step(&mut self, record: &Arc<Record>, view: &Arc<View>) {
        let nodes = self.inner.sight.look(view);
        self.remember(record, view);
        let Plan { actions, reasons } = {
            let health = self.inner.health.clone();
            plan::plan(&Scene::new(record, view, &nodes, &self.notes, &|container| health.of(container)))
        };
        self.inner.words().entry(self.name.clone()).or_default().reasons = reasons;
        for action in actions {
            if self.tasks.len() >= STEPS_MAX {
                break;
            }
            let key = action.key();
            if !self.notes.busy.insert(key) {
                continue;
            }
            if let Action::Create { service, number, .. } = &action {
                self.notes.creating.entry(service.clone()).or_default().insert(*number);
            }
            tracing::debug!(project = self.name, ?action, "a step");
            self.tasks.spawn(actions::take(self.inner.clone(), record.clone(), action));
        }
    }

    /// Brings the notes up to date with what is seen.
    fn remember(&mut self, record: &Record, view: &View) {
        let now = Instant::now();
        let steady = |started: Option<Timestamp>| {
            let since = started.and_then(|started| Duration::try_from(Timestamp::now().duration_since(started)).ok());
            since.is_some_and(|since| since >= STEADY)
        };
        let mut present = BTreeSet::new();
        for container in view.containers.iter().filter(|container| names::belongs(record, container)) {
            present.insert(container.id.clone());
            self.notes.last_node.insert(container.name.clone(), container.node.clone());
            if container.state == ContainerState::Running && steady(container.started) {
                self.retries.remove(&plan::start_key(&container.id));
            }
        }
        let names: BTreeSet<&str> = view.containers.iter().map(|container| container.name.as_str()).collect();
        if self.notes.last_node.len() > 4 * names.len() + 1024 {
            self.notes.last_node.retain(|name, _| names.contains(name.as_str()));
        }
        self.retries.retain(|key, _| container_of(key).is_none_or(|id| present.contains(id)));
        self.notes.waiting =
            self.retries.iter().filter(|(_, retry)| retry.until > now).map(|(key, _)| key.clone()).collect();
        self.notes.failures = self.retries.iter().map(|(key, retry)| (key.clone(), retry.failures)).collect();
    }

    fn wake(&self) -> Instant {
        let now = Instant::now();
        let retries = self.retries.values().map(|retry| retry.until).filter(|until| *until > now);
        retries.chain(self.inner.sight.next()).chain([now + LOOK_EVERY]).min().unwrap_or(now + LOOK_EVERY)
    }

    fn note(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(project = self.name, %error, "a step of an application failed; all of them are looked at anew");
                self.tasks.abort_all();
                self.notes.busy.clear();
                self.notes.creating.clear();
                return;
            }
        };
        let action = &done.action;
        self.notes.busy.remove(&action.key());
        if let Action::Create { service, number, .. } = action
            && let Some(numbers) = self.notes.creating.get_mut(service)
        {
            numbers.remove(number);
            if numbers.is_empty() {
                self.notes.creating.remove(service);
            }
        }
        match &done.outcome {
            Ok(()) => self.went_well(action),
            Err(refusal) => self.failed(action, refusal),
        }
    }

    fn went_well(&mut self, action: &Action) {
        match action {
            Action::Network { name } => drop(self.notes.ensured.insert(name.clone())),
            Action::Volume { name } => drop(self.notes.ensured.insert(plan::volume_key(name))),
            Action::RemoveNetwork { name } => {
                self.notes.ensured.remove(name);
                self.notes.ensured.insert(plan::gone_key(&action.key()));
            }
            Action::RemoveVolume { .. } => drop(self.notes.ensured.insert(plan::gone_key(&action.key()))),
            _ => {}
        }
        if matches!(action, Action::Start { .. } | Action::Restart { .. }) {
            // It may end at once: the next start waits longer, until it has run for a while.
            self.pause(action.back_off());
        } else {
            self.retries.remove(&action.back_off());
        }
        if let Some(service) = action.service() {
            self.retries.remove(&rolling::crowded_key(service));
        }
        let mut words = self.inner.words();
        let words = words.entry(self.name.clone()).or_default();
        let about = action.service().unwrap_or_default();
        words.errors.remove(about);
        words.failures.remove(about);
    }

    fn failed(&mut self, action: &Action, refusal: &Refusal) {
        let about = action.service().unwrap_or_default().to_owned();
        tracing::warn!(project = self.name, ?action, %refusal, "a step of an application failed; it is tried again");
        self.pause(action.back_off());
        if matches!(action, Action::Create { .. } | Action::Start { .. }) {
            // Somebody may have removed a network or volume by hand.
            self.notes.ensured.clear();
        }
        if matches!(action, Action::Create { .. }) && actions::is_crowded(refusal) {
            let key = rolling::crowded_key(&about);
            let failures = self.retries.get(&key).map_or(0, |retry| retry.failures) + 1;
            self.retries.insert(key, Retry { failures, until: Instant::now() });
        }
        let mut words = self.inner.words();
        let words: &mut Words = words.entry(self.name.clone()).or_default();
        words.errors.insert(about.clone(), refusal.message.clone());
        *words.failures.entry(about).or_default() += 1;
    }

    fn pause(&mut self, key: String) {
        let retry = self.retries.entry(key).or_insert(Retry { failures: 0, until: Instant::now() });
        let pause = PAUSE_FIRST.saturating_mul(1 << retry.failures.min(6)).min(PAUSE_MAX);
        retry.failures = retry.failures.saturating_add(1);
        retry.until = Instant::now() + jitter(pause);
    }
}
