//! A node's router, as far as the master sees it, and what its clients would notice.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};

use super::world::World;
use crate::router::table::RouteTable;

/// Polls the table, and notes what would have made a request fail.
pub(super) struct Router {
    task: JoinHandle<()>,
    in_force: Arc<Mutex<Arc<RouteTable>>>,
    failures: Arc<Mutex<Vec<String>>>,
    stops: Arc<Mutex<u32>>,
}

impl Router {
    /// `host` has to be served from now on.
    pub(super) fn start(world: &World, name: &'static str, host: &'static str) -> Self {
        let in_force: Arc<Mutex<Arc<RouteTable>>> = Arc::default();
        let failures: Arc<Mutex<Vec<String>>> = Arc::default();
        let stops: Arc<Mutex<u32>> = Arc::default();
        let (table, noted, mut hubs) = (in_force.clone(), failures.clone(), world.hub.subscribe());
        let task = tokio::spawn(async move {
            let mut after = 0;
            let mut served = false;
            loop {
                let hub = hubs.borrow().clone();
                // A master that was killed answers no more.
                let polled = tokio::select! {
                    polled = hub.poll(name, after, Duration::from_secs(25)) => polled,
                    _ = hubs.changed() => {
                        sleep(Duration::from_secs(2)).await;
                        continue;
                    }
                };
                let Some(next) = polled else { continue };
                // It takes a moment until it is in force.
                sleep(Duration::from_millis(200)).await;
                after = next.revision;
                let route = next.routes.iter().find(|route| route.host == host);
                let serves = route.is_some_and(|route| {
                    route.groups.iter().any(|group| group.weight > 0 && !group.backends.is_empty())
                });
                if served && !serves {
                    noted.lock().unwrap().push(format!("nobody serves {host} in revision {after}: {route:?}"));
                }
                served |= serves;
                *table.lock().unwrap() = next;
            }
        });
        let (table, noted, count) = (in_force.clone(), failures.clone(), stops.clone());
        world.engines.state().on_stop = Some(Box::new(move |id| {
            *count.lock().unwrap() += 1;
            let table = table.lock().unwrap();
            let mut backends = table
                .routes
                .iter()
                .flat_map(|route| &route.groups)
                .filter(|group| group.weight > 0)
                .flat_map(|group| &group.backends);
            if backends.any(|backend| backend.id == id) {
                noted.lock().unwrap().push(format!("{id} is stopped while it is in force"));
            }
        }));
        Self { task, in_force, failures, stops }
    }

    pub(super) fn revision(&self) -> u64 {
        self.in_force.lock().unwrap().revision
    }

    /// What would have made a request fail.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    /// No request would have failed, while something was stopped.
    pub(super) fn assert_nothing_failed(&self) {
        let failures = self.failures();
        assert!(failures.is_empty(), "{failures:#?}");
        assert!(*self.stops.lock().unwrap() > 0);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}
