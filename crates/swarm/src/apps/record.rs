//! What is stored of an application: what is wanted, never what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::compose::template::{Network, Service, Volume};

/// Form of the files that this version writes.
pub(crate) const FORM: u32 = 1;

/// An application as it is wanted.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// [`FORM`] of whoever wrote it.
    pub(crate) form: u32,
    /// Tells this application from an earlier one of the same name, on its containers too.
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) version: String,
    /// Text of the template as it came.
    pub(crate) template: String,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    /// By id, `{project}_{service}`.
    pub(crate) services: BTreeMap<String, ServiceRecord>,
    /// Networks to be made, by their real names.
    pub(crate) networks: BTreeMap<String, Network>,
    /// Volumes to be made, by their real names.
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// Every network that this application ever wanted and that may still be there.
    pub(crate) made_networks: BTreeSet<String>,
    /// Every volume that this application ever wanted.
    pub(crate) made_volumes: BTreeSet<String>,
    /// A blue-green release that waits for its confirmation.
    pub(crate) next: Option<Next>,
    /// The last number given to a [`ServiceRecord::incarnation`].
    pub(crate) incarnations: u32,
    /// Services of a release that was ended: their containers get no more requests and go at once. By
    /// [`ServiceRecord::origin`].
    pub(crate) retired: BTreeSet<String>,
    pub(crate) deletion: Option<Deletion>,
    /// What was in the template and has no effect.
    pub(crate) notes: Vec<String>,
}

impl fmt::Debug for Record {
    // Templates and environments hold passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The new version of an application while both versions run.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Next {
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) template: String,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) since: Timestamp,
    pub(crate) notes: Vec<String>,
    /// What services weighed before, by id, for a rollback.
    pub(crate) weights: BTreeMap<String, u32>,
    /// Networks and volumes as the old version defines them, for a rollback. Not there: opened before they were kept.
    #[serde(default)]
    pub(crate) before: Option<Foundations>,
    /// It was confirmed (with `force`?) and ends when the new version's services are ready.
    pub(crate) confirmed: Option<bool>,
}

/// What a version of an application says of networks and volumes, by their real names.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Foundations {
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) volumes: BTreeMap<String, Volume>,
}

/// How an application is to be deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deletion {
    pub(crate) force: bool,
    pub(crate) volumes: bool,
}

/// Which version of the application a service belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Release {
    /// The version that is in force.
    Current,
    /// The new version of an open blue-green release.
    Next,
    /// An earlier version, kept by a confirmation that left the weights alone.
    Legacy,
}

/// What a service shall be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Desired {
    Running,
    Stopped,
}

impl Desired {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// A service as it is wanted.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceRecord {
    /// `{project}_{service}`, with a suffix while an older service of that name lives beside it.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) release: Release,
    /// Of the current version, and taken over unchanged by the next.
    pub(crate) shared: bool,
    /// Tells services of one name apart whose versions live side by side.
    pub(crate) incarnation: u32,
    /// Networks and volumes stand in it under their real names.
    pub(crate) service: Service,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    pub(crate) desired: Desired,
    /// Since when; what ended before has to be started again.
    pub(crate) desired_since: Timestamp,
    /// Time for stopping, as the call that stopped it said.
    pub(crate) stop_seconds: Option<u32>,
    pub(crate) scale: u32,
    /// Share of the requests, 0 to 100, of routes that several services have.
    pub(crate) weight: u32,
    /// Counts redeployments.
    pub(crate) epoch: u32,
    /// The image is to be pulled before anything else happens to this service.
    pub(crate) pull: bool,
    /// The image that containers have to have, if a pull brought another one.
    pub(crate) image: Option<String>,
    /// Why the last pull did not bring the newest image to all nodes; until one does.
    #[serde(default)]
    pub(crate) pull_error: Option<String>,
}

impl fmt::Debug for ServiceRecord {
    // Definitions hold passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServiceRecord")
            .field("id", &self.id)
            .field("scale", &self.scale)
            .finish_non_exhaustive()
    }
}

impl ServiceRecord {
    /// Name of the service and its incarnation; the same for as long as the service lives.
    pub(crate) fn origin(&self) -> String {
        origin(&self.name, self.incarnation)
    }
    /// Image by name.
    pub(crate) fn image_name(&self) -> &str {
        self.service.container.get("Image").and_then(serde_json::Value::as_str).unwrap_or_default()
    }
    /// Time that its containers have for stopping.
    pub(crate) fn grace(&self) -> u32 {
        self.stop_seconds.or(self.service.stop_seconds).unwrap_or(super::STOP_SECONDS)
    }
    /// Whether a load balancer or router sends it requests.
    pub(crate) fn is_routed(&self) -> bool {
        !self.service.extensions.routing.is_empty() || !self.service.extensions.lb.is_empty()
    }
}

/// See [`ServiceRecord::origin`].
pub(crate) fn origin(service: &str, incarnation: u32) -> String {
    format!("{service}#{incarnation}")
}

impl Record {
    /// `{project}_{service}`.
    pub(crate) fn canonical(&self, service: &str) -> String {
        format!("{}_{service}", self.name)
    }

    /// The service that `name` means in the version that `of` belongs to.
    pub(crate) fn peer(&self, of: &ServiceRecord, name: &str) -> Option<&ServiceRecord> {
        let rank = |candidate: &ServiceRecord| match (of.release, candidate.release) {
            (wanted, found) if wanted == found => Some(0),
            (Release::Next, Release::Current) if candidate.shared => Some(1),
            (Release::Legacy, Release::Current) => Some(1),
            (Release::Current, Release::Legacy) => Some(2),
            _ => None,
        };
        let named = self.services.values().filter(|candidate| candidate.name == name);
        named
            .filter_map(|candidate| rank(candidate).map(|rank| (rank, candidate)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, found)| found)
    }

    /// Services that `service` needs before it starts.
    pub(crate) fn dependencies<'a>(&'a self, service: &'a ServiceRecord) -> impl Iterator<Item = &'a ServiceRecord> {
        service
            .service
            .depends
            .keys()
            .filter_map(move |name| self.peer(service, name))
            .filter(move |found| found.id != service.id)
    }

    /// Gives services their plain ids where no other service of that name is left.
    pub(crate) fn settle_ids(&mut self) {
        let suffixed: Vec<String> = self
            .services
            .values()
            .filter(|service| service.id != self.canonical(&service.name))
            .map(|service| service.id.clone())
            .collect();
        for id in suffixed {
            let Some(mut service) = self.services.remove(&id) else { continue };
            let plain = self.canonical(&service.name);
            if !self.services.contains_key(&plain) {
                service.id = plain;
            }
            self.services.insert(service.id.clone(), service);
        }
    }

    /// Whether nothing is meant to run.
    pub(crate) fn desired(&self) -> Desired {
        let running = self.services.values().any(|service| service.desired == Desired::Running);
        if running || self.services.is_empty() { Desired::Running } else { Desired::Stopped }
    }

    /// Ids by levels: every service stands in a later level than those that it needs.
    pub(crate) fn levels(&self) -> Vec<Vec<String>> {
        let mut left: BTreeSet<&str> = self.services.keys().map(String::as_str).collect();
        let mut levels = Vec::new();
        while !left.is_empty() {
            let free = |id: &&str| {
                self.services
                    .get(*id)
                    .is_none_or(|service| self.dependencies(service).all(|needed| !left.contains(needed.id.as_str())))
            };
            let mut level: Vec<&str> = left.iter().copied().filter(free).collect();
            if level.is_empty() {
                // A cycle is refused when it comes in; whatever got here in spite of that must still be stopped somehow.
                level = left.iter().copied().collect();
            }
            for id in &level {
                left.remove(id);
            }
            levels.push(level.into_iter().map(String::from).collect());
        }
        levels
    }
}
