//! `/volumes/…`: Docker's spelling and that of the service's own clients in one handler.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Answer, Call, Docker,
    filters::{Filters, matches},
    not_found,
    query::encode,
};
use crate::{
    fleet::{
        LOCAL_DRIVER, Member, into_array,
        observe::{number, string_map, text},
        shown_volume, wire, without_secrets,
    },
    model::Refusal,
};

const FILTERS: [&str; 6] = ["dangling", "driver", "label", "name", "node", "label!"];

/// A volume on a node.
struct Found {
    member: Arc<Member>,
    volume: Value,
}

impl Docker {
    pub(super) async fn volumes(&self, call: Call, rest: &str) -> Answer {
        match (call.method.as_str(), rest) {
            ("GET", "") => self.list_volumes(&call),
            ("POST", "create") => self.create_volume(call).await,
            ("POST", "prune") => self.prune_volumes(call).await,
            ("GET", name) => {
                let found = self.find_volumes(name)?;
                let first = found.into_iter().next().ok_or_else(|| no_such(name))?;
                Ok(wire::answer(StatusCode::OK, &self.show(&first, false)))
            }
            ("DELETE", name) => self.remove_volume(&call, name).await,
            _ => Err(not_found(&call)),
        }
    }

    async fn create_volume(&self, call: Call) -> Answer {
        let body = spell(call.json().await?)?;
        if text(&body, "/Name").contains('/') {
            return Err(Refusal::bad("the name of a volume has no slash; it is made on every node"));
        }
        let name = text(&body, "/Name").to_owned();
        check_docker_name(&name)?;
        let known = self.find_volumes(&name).unwrap_or_default();
        let driver = driver(&body);
        if let Some(other) = known.iter().find(|found| text(&found.volume, "/Driver") != driver) {
            return Err(Refusal::conflict(format!(
                "a volume named {name} already exists with the {} driver. Choose a different volume name.",
                text(&other.volume, "/Driver")
            )));
        }
        let made = self.fleet.create_volume(&body).await?;
        Ok(wire::answer(StatusCode::CREATED, &without_secrets(made)))
    }

    fn list_volumes(&self, call: &Call) -> Answer {
        let filters = Filters::of(&call.query, &FILTERS)?;
        let view = self.fleet.current();
        let mut listed = Vec::new();
        let mut once = BTreeSet::new();
        for found in self.every_volume() {
            let volume = &found.volume;
            let name = text(volume, "/Name");
            let local = is_local(volume);
            let used = !self.users(&found).is_empty();
            let wanted = filters.any("name", |wanted| matches(wanted, name))
                && filters.any("driver", |driver| text(volume, "/Driver") == driver)
                && filters.any("dangling", |wanted| matches!(wanted, "true" | "1") != used)
                && filters.any("node", |key| view.node(key).is_some_and(|node| node.name == found.member.name))
                && filters.labels(&string_map(volume.get("Labels")));
            if wanted && (local || once.insert(name.to_owned())) {
                listed.push(self.show(&found, true));
            }
        }
        Ok(wire::answer(StatusCode::OK, &json!({"Volumes": listed, "Warnings": null})))
    }

    async fn remove_volume(&self, call: &Call, name: &str) -> Answer {
        let found = self.find_volumes(name)?;
        let force = call.query.flag("force");
        if found.is_empty() && !force {
            return Err(no_such(name));
        }
        let all_users = || found.iter().flat_map(|one| self.users(one)).collect::<BTreeSet<(String, String)>>();
        let mut users = all_users();
        if !users.is_empty() {
            // The picture follows events: who has just gone (`docker run --rm`) may still be in it.
            self.fleet.refresh_all(users.into_iter().map(|(_, id)| id)).await;
            users = all_users();
        }
        if !users.is_empty() {
            let names: Vec<&str> = users.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Refusal::conflict(format!("remove {name}: volume is in use by {}", names.join(", "))));
        }
        let (node, plain) = self.split_name(name);
        match self.fleet.delete_volume(&plain, node.as_ref(), force).await {
            Err(refusal) if !(force && refusal.status == StatusCode::NOT_FOUND) => Err(refusal),
            _ => Ok(wire::empty(StatusCode::NO_CONTENT)),
        }
    }

    async fn prune_volumes(&self, call: Call) -> Answer {
        let filters = Filters::of(&call.query, &["label", "label!", "all"])?;
        let members = self.fleet.some_healthy()?;
        let path = format!("/volumes/prune?filters={}", filters.encoded());
        let pruned = join_all(members.iter().map(|member| async {
            let pruned = member.client.call(Method::POST, &path, None).await;
            member.refresh_volumes().await?;
            pruned
        }));
        let mut deleted = Vec::new();
        let mut space = 0;
        for (member, pruned) in members.iter().zip(pruned.await) {
            let mut pruned = pruned?;
            space += number(&pruned, "/SpaceReclaimed");
            for name in into_array(pruned["VolumesDeleted"].take()) {
                deleted.push(format!("{}/{}", member.name, name.as_str().unwrap_or_default()));
            }
        }
        self.fleet.publish();
        Ok(wire::answer(StatusCode::OK, &json!({"VolumesDeleted": deleted, "SpaceReclaimed": space})))
    }

    fn every_volume(&self) -> Vec<Found> {
        let members = self.fleet.members().into_iter();
        let pairs = members.flat_map(|member| {
            let volumes = member.cache().volumes();
            volumes.iter().map(|volume| Found { member: member.clone(), volume: volume.clone() }).collect::<Vec<_>>()
        });
        pairs.collect()
    }

    /// Volumes of a name: on all nodes, or `node/name`.
    fn find_volumes(&self, name: &str) -> Result<Vec<Found>, Refusal> {
        let (node, plain) = self.split_name(name);
        let mut found = self.every_volume();
        found.retain(|one| {
            text(&one.volume, "/Name") == plain && node.as_ref().is_none_or(|node| node.name == one.member.name)
        });
        match name.contains('/') && node.is_none() {
            true => Err(no_such(name)),
            false => Ok(found),
        }
    }

    fn split_name(&self, name: &str) -> (Option<Arc<Member>>, String) {
        match name.split_once('/') {
            Some((node, plain)) => (self.fleet.member(node), plain.to_owned()),
            None => (None, name.to_owned()),
        }
    }

    fn users(&self, found: &Found) -> Vec<(String, String)> {
        let node = is_local(&found.volume).then_some(found.member.name.as_str());
        self.fleet.users_of(text(&found.volume, "/Name"), node)
    }

    /// In lists a local volume is named with its node, as Docker Swarm did; those of plug-ins are the cluster's.
    fn show(&self, found: &Found, in_list: bool) -> Value {
        let mut shown = shown_volume(&found.volume, Some(&found.member.name), &self.users(found));
        if in_list && is_local(&found.volume) {
            shown["Name"] = json!(format!("{}/{}", found.member.name, text(&found.volume, "/Name")));
        }
        shown
    }
}

fn is_local(volume: &Value) -> bool {
    text(volume, "/Driver") == LOCAL_DRIVER
}

fn driver(body: &Value) -> String {
    match text(body, "/Driver") {
        "" => LOCAL_DRIVER.to_owned(),
        driver => driver.to_owned(),
    }
}

fn no_such(name: &str) -> Refusal {
    Refusal::missing(format!("get {name}: no such volume"))
}

/// Docker's spelling of a volume that is to be made. The service's own clients write `name`, `driver` and `driverOpts`.
fn spell(body: Value) -> Result<Value, Refusal> {
    let Value::Object(mut given) = body else {
        return Ok(json!({"Name": invented()}));
    };
    for (own, docker) in [("name", "Name"), ("driver", "Driver"), ("driverOpts", "DriverOpts"), ("labels", "Labels")] {
        if let Some(value) = given.remove(own) {
            if own == "name" {
                check_name(value.as_str().unwrap_or_default())?;
            }
            given.entry(docker).or_insert(value);
        }
    }
    if given.get("Name").and_then(Value::as_str).is_none_or(str::is_empty) {
        given.insert("Name".to_owned(), json!(invented()));
    }
    if let Some(options) = given.get_mut("DriverOpts").and_then(Value::as_object_mut) {
        for value in options.values_mut() {
            // Options are strings to an engine; clients also write numbers and booleans.
            if value.is_number() || value.is_boolean() {
                *value = json!(value.to_string());
            }
        }
    }
    Ok(Value::Object(given))
}

/// The service's own rule.
fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = name.chars().all(|next| next.is_ascii_alphanumeric() || matches!(next, '-' | '_' | '.'));
    if plain && !name.is_empty() && name.len() <= 64 && !name.starts_with('-') {
        return Ok(());
    }
    Err(Refusal::bad(format!(
        "the name of a volume has 1 to 64 letters, digits and hyphens and does not begin with a hyphen: {}",
        encode(name)
    )))
}

/// Docker's rule; engines leave it to plug-ins, and names stand in addresses.
fn check_docker_name(name: &str) -> Result<(), Refusal> {
    let plain = name.chars().all(|next| next.is_ascii_alphanumeric() || matches!(next, '-' | '_' | '.'));
    if plain && !name.is_empty() && name.len() <= 200 && name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Refusal::bad(format!(
        "create {}: the name of a volume has letters, digits and `_.-`, at most 200, and begins with a letter or digit",
        encode(name)
    )))
}

fn invented() -> String {
    let random: [u8; 32] = rand::random();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
