//! Whether containers serve: probes of templates, and Docker's own health checks.

mod attempt;
mod prober;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

#[cfg(test)]
pub(crate) use attempt::attempt;
pub(crate) use attempt::connect;
pub(crate) use prober::Prober;

use super::{marks::Marks, scene::Health};
use crate::model::{Container, View};

/// Failures in a row after which a container that served counts as failing.
pub(crate) const FAILURES_MAX: u32 = 3;
/// Failures in a row after which a container that served once is restarted.
pub(crate) const FAILURES_RESTART: u32 = 6;

/// One that ran for so long when this master began is taken for one that served; a younger one may still be starting.
const LONG_RUN: Duration = Duration::from_secs(300);

/// A container without a probe has this long until its port takes connections; then it gets requests in any case.
pub(crate) const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(60);

/// What the probes found.
pub(crate) struct Board {
    entries: Mutex<HashMap<String, Entry>>,
    revision: watch::Sender<u64>,
    born: Timestamp,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// The run of the container that this is about.
    started: Option<Timestamp>,
    healthy: Option<bool>,
    served: bool,
    failures: u32,
    detail: String,
}

impl Default for Board {
    fn default() -> Self {
        Self { entries: Mutex::default(), revision: watch::Sender::new(0), born: Timestamp::now() }
    }
}

impl Board {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts changes of anybody's health.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Health of a container.
    pub(crate) fn of(&self, container: &Container) -> Health {
        if !container.is_running() {
            return Health::Checking;
        }
        let docker = match container.health.as_deref() {
            Some("starting") => Health::Checking,
            Some("unhealthy") => Health::Failure,
            _ => Health::Success,
        };
        let marks = Marks::of(container);
        // Without a probe a container is asked once, right after its start; Docker's own check makes that needless.
        let once = marks.probe.is_none();
        if docker != Health::Success || !marks.asks() || (once && (container.health.is_some() || is_old(container))) {
            return docker;
        }
        let entries = self.entries();
        let Some(entry) = entries.get(&container.id).filter(|entry| entry.started == container.started) else {
            return Health::Checking;
        };
        match entry.healthy {
            Some(true) => Health::Success,
            _ if once => Health::Checking,
            None => Health::Checking,
            Some(false) if self.has_served(entry) && entry.failures >= FAILURES_RESTART => Health::Stuck,
            Some(false) => Health::Failure,
        }
    }

    /// Whether this run once served. Of one that is older than this master nobody knows; it would hang for ever.
    fn has_served(&self, entry: &Entry) -> bool {
        entry.served || entry.started.is_some_and(|started| started + LONG_RUN < self.born)
    }

    /// Whether anything is known about this run of a container.
    pub(crate) fn knows(&self, container: &Container) -> bool {
        let entries = self.entries();
        let known = entries.get(&container.id).filter(|entry| entry.started == container.started);
        known.is_some_and(|entry| entry.healthy.is_some() || entry.failures > 0) || self.of_others(container)
    }

    /// Its health is known without asking it.
    fn of_others(&self, container: &Container) -> bool {
        Marks::of(container).probe.is_none() && (container.health.is_some() || is_old(container))
    }

    /// Whether it ran before this board was there, and nothing is known of it yet.
    pub(crate) fn is_unjudged(&self, container: &Container) -> bool {
        container.started.is_some_and(|started| started < self.born) && !self.knows(container)
    }

    /// What the last probe of a container that does not serve said.
    pub(crate) fn detail(&self, container: &Container) -> Option<String> {
        let entries = self.entries();
        let entry = entries.get(&container.id).filter(|entry| entry.started == container.started)?;
        (entry.failures > 0 && !entry.detail.is_empty()).then(|| entry.detail.clone())
    }

    /// Notes how a try went.
    pub(super) fn note(&self, id: &str, started: Option<Timestamp>, outcome: Result<(), String>) {
        let changed = {
            let mut entries = self.entries();
            let entry = entries.entry(id.to_owned()).or_default();
            if entry.started != started {
                *entry = Entry { started, ..Entry::default() };
            }
            let before = (entry.healthy, entry.failures.min(FAILURES_RESTART));
            match outcome {
                Ok(()) => {
                    *entry = Entry { started, healthy: Some(true), served: true, ..Entry::default() };
                }
                Err(detail) => {
                    entry.failures = entry.failures.saturating_add(1);
                    entry.detail = detail;
                    if entry.failures >= FAILURES_MAX {
                        entry.healthy = Some(false);
                    }
                }
            }
            before != (entry.healthy, entry.failures.min(FAILURES_RESTART))
        };
        if changed {
            self.revision.send_modify(|revision| *revision += 1);
        }
    }

    /// Forgets containers that are gone.
    fn keep(&self, ids: &HashSet<String>) {
        self.entries().retain(|id, _| ids.contains(id));
    }
}

/// Whether a container runs for so long that it has had its time to begin to serve.
fn is_old(container: &Container) -> bool {
    let since = container.started.and_then(|started| Duration::try_from(Timestamp::now().duration_since(started)).ok());
    since.is_some_and(|since| since >= FIRST_ANSWER_WAIT)
}

/// Where a container can be reached from inside the overlay.
pub(crate) fn address(view: &View, container: &Container) -> Option<IpAddr> {
    if let Some(ip) = container.overlay_ip() {
        return Some(ip.into());
    }
    if container.host_network {
        return view.node(&container.node).map(|node| node.ip.into());
    }
    let mode = container.inspect.pointer("/HostConfig/NetworkMode").and_then(Value::as_str)?;
    let base = mode.strip_prefix("container:")?;
    let base = view.containers.iter().find(|other| other.id == base || other.name == base)?;
    base.overlay_ip().map(IpAddr::from)
}
