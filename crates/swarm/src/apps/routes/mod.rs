//! The routes of all applications.

mod build;
mod hub;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

pub(crate) use build::{Sources, build};
pub use hub::{ROUTER_SILENT_AFTER, RouteHub};

/// What decides about routes beside records and containers.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) hub: std::sync::Arc<RouteHub>,
    /// Containers that shall get nothing more.
    draining: Mutex<HashMap<String, usize>>,
    /// Services whose routes belong to another application, in words.
    conflicts: Mutex<BTreeMap<String, String>>,
    /// Nothing is published before the cluster has been looked at.
    open: AtomicBool,
    turn: Mutex<()>,
}

impl Routes {
    fn draining(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a container out for as long as the answer lives.
    pub(crate) fn drain(&self, id: &str) -> Drain<'_> {
        *self.draining().entry(id.to_owned()).or_default() += 1;
        Drain { routes: self, id: id.to_owned() }
    }

    /// From now on tables are published.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Why a service has not all its routes.
    pub(crate) fn conflict(&self, service: &str) -> Option<String> {
        self.conflicts.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }

    /// Builds the table anew and publishes it if it differs; answers its revision.
    pub(crate) fn refresh(&self, sources: impl FnOnce() -> Sources) -> u64 {
        if !self.open.load(Ordering::Acquire) {
            return 0;
        }
        // One after the other, so that an older picture does not replace a newer one.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let draining = self.draining().keys().cloned().collect();
        let (table, conflicts) = build(&sources(), &draining);
        *self.conflicts.lock().unwrap_or_else(PoisonError::into_inner) = conflicts;
        self.hub.publish(table)
    }
}

/// Keeps a container out of the routes.
pub(crate) struct Drain<'a> {
    routes: &'a Routes,
    id: String,
}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        let mut draining = self.routes.draining();
        if let Some(count) = draining.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                draining.remove(&self.id);
            }
        }
    }
}
