//! What is promised but not yet seen: names, and places of containers that are being created.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, seq::IndexedRandom as _};

use super::Fleet;
use crate::model::{Container, Refusal, View};

/// Names and places in flight.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    next: u64,
    names: BTreeMap<String, u64>,
    places: BTreeMap<u64, Arc<Container>>,
}

impl Reservations {
    /// Containers that are being created.
    pub(crate) fn in_flight(&self) -> Vec<Arc<Container>> {
        self.places.values().cloned().collect()
    }
}

/// A name that is kept for somebody until this is dropped, and perhaps a place.
pub(crate) struct Reservation<'a> {
    fleet: &'a Fleet,
    id: u64,
    /// The name.
    pub(crate) name: String,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut reservations = self.fleet.reservations();
        reservations.names.remove(&self.name);
        reservations.places.remove(&self.id);
    }
}

impl Reservation<'_> {
    /// Also counts `container` as being on its node.
    pub(crate) fn place(&self, reservations: &mut Reservations, container: Container) {
        reservations.places.insert(self.id, Arc::new(container));
    }
}

impl Fleet {
    /// Reserves a name, or an invented one. `except`: a container that may have it already.
    pub(crate) fn reserve_name(&self, name: Option<&str>, except: Option<&str>) -> Result<Reservation<'_>, Refusal> {
        // In this order: what leaves the reservations is in the picture by then.
        let mut reservations = self.reservations();
        let view = self.current();
        let name = match name.map(|name| name.trim_start_matches('/')) {
            Some(name) => {
                check_name(name)?;
                if let Some(holder) = holder(&view, name, except) {
                    return Err(Refusal::conflict(format!(
                        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to \
                         remove (or rename) that container to be able to reuse that name."
                    )));
                }
                if reservations.names.contains_key(name) {
                    return Err(Refusal::conflict(format!(
                        "Conflict. The container name \"/{name}\" is being given to another container at this moment."
                    )));
                }
                name.to_owned()
            }
            None => invent(&view, &reservations),
        };
        reservations.next += 1;
        let id = reservations.next;
        reservations.names.insert(name.clone(), id);
        drop(reservations);
        Ok(Reservation { fleet: self, id, name })
    }
}

fn holder<'a>(view: &'a View, name: &str, except: Option<&str>) -> Option<&'a str> {
    let mut others = view.containers.iter().filter(|container| Some(container.id.as_str()) != except);
    others.find(|container| container.name == name).map(|container| container.id.as_str())
}

/// Docker's rule for names.
fn check_name(name: &str) -> Result<(), Refusal> {
    let first = name.chars().next().is_some_and(|first| first.is_ascii_alphanumeric());
    let rest = name.chars().skip(1).all(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '.' | '-'));
    if first && rest && name.len() > 1 {
        return Ok(());
    }
    Err(Refusal::bad(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

const QUALITIES: [&str; 24] = [
    "amber", "bold", "brisk", "calm", "clear", "coral", "crisp", "early", "fair", "fleet", "gentle", "golden", "keen",
    "late", "lively", "mild", "nimble", "proud", "quiet", "silver", "steady", "swift", "tidal", "windward",
];
const THINGS: [&str; 24] = [
    "anchor", "barge", "beacon", "bow", "buoy", "compass", "current", "deck", "dinghy", "harbor", "helm", "junk",
    "keel", "lantern", "mast", "oar", "pier", "reef", "rudder", "sail", "skiff", "spar", "tide", "wharf",
];

/// A name that nobody has.
fn invent(view: &View, reservations: &Reservations) -> String {
    let mut rng = rand::rng();
    loop {
        let quality = QUALITIES.choose(&mut rng).copied().unwrap_or_default();
        let thing = THINGS.choose(&mut rng).copied().unwrap_or_default();
        let name = format!("{quality}_{thing}_{}", rng.random_range(0..100_000));
        if holder(view, &name, None).is_none() && !reservations.names.contains_key(&name) {
            return name;
        }
    }
}
