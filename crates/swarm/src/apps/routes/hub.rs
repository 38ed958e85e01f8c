//! Hands the route table to the nodes' routers and knows which of them have it in force.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::router::table::RouteTable;

/// A router that has not asked for this long is not waited for.
pub const ROUTER_SILENT_AFTER: Duration = Duration::from_secs(10);
/// Routers that are alive have this long to put a table in force.
const IN_FORCE_WAIT_MAX: Duration = Duration::from_secs(20);
/// A request of a router waits no longer than this.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Routers that are remembered; a cluster has fewer nodes.
const ROUTERS_MAX: usize = 1024;

/// The route table and the routers that ask for it.
pub struct RouteHub {
    table: watch::Sender<Arc<RouteTable>>,
    routers: Mutex<HashMap<String, Router>>,
    /// Counts what routers say.
    news: watch::Sender<u64>,
    /// When routes were first published.
    begun: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug)]
struct Router {
    in_force: u64,
    /// Requests that wait for more right now.
    waiting: usize,
    /// It is taken to wait until then.
    patient: Instant,
    seen: Instant,
}

impl Router {
    fn is_alive(&self, now: Instant) -> bool {
        self.waiting > 0 || self.patient > now || self.seen + ROUTER_SILENT_AFTER > now
    }
}

impl Default for RouteHub {
    fn default() -> Self {
        Self {
            table: watch::Sender::new(Arc::default()),
            routers: Mutex::default(),
            news: watch::Sender::new(0),
            begun: Mutex::default(),
        }
    }
}

/// Counts a waiting request for as long as it waits.
struct Waiting<'a> {
    hub: &'a RouteHub,
    router: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(router) = self.hub.routers().get_mut(self.router) {
            router.waiting = router.waiting.saturating_sub(1);
            router.seen = Instant::now();
        }
        self.hub.news.send_modify(|news| *news += 1);
    }
}

impl RouteHub {
    fn routers(&self) -> MutexGuard<'_, HashMap<String, Router>> {
        self.routers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table; revision 0 until the cluster has been looked at.
    pub fn table(&self) -> watch::Receiver<Arc<RouteTable>> {
        self.table.subscribe()
    }

    /// A router asks for something newer than `after`, which it has in force. Answers the table, or nothing when there was
    /// nothing newer within `wait`. A router that knows nothing yet asks with 0.
    pub async fn poll(&self, router: &str, after: u64, wait: Duration) -> Option<Arc<RouteTable>> {
        self.outrun(after);
        let _waiting = self.arrive(router, after)?;
        let mut table = self.table.subscribe();
        let newer = table.wait_for(|table| table.revision > after);
        timeout(wait, newer).await.ok()?.ok().map(|table| table.clone())
    }

    /// For those who let routers wait by themselves: a router has this revision in force and waits for more.
    pub fn acknowledged(&self, router: &str, revision: u64) {
        self.outrun(revision);
        if let Some(waiting) = self.arrive(router, revision) {
            drop(waiting);
            if let Some(router) = self.routers().get_mut(router) {
                router.patient = Instant::now() + PATIENCE_MAX;
            }
        }
    }

    /// Waits until every router that is alive has at least this revision in force; `false` if one that is alive does not get
    /// there.
    pub async fn in_force(&self, revision: u64) -> bool {
        // Routers of a former master's time have to find this one first.
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        sleep_until(begun + ROUTER_SILENT_AFTER).await;
        let deadline = Instant::now() + IN_FORCE_WAIT_MAX;
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            let now = Instant::now();
            let Some(silent_at) = self.behind(revision, now) else { return true };
            if now >= deadline {
                return false;
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return false },
                () = sleep_until(silent_at.min(deadline)) => {}
            }
        }
    }

    /// When to look again whether routers that do not have this revision are still alive; `None`: there are none.
    fn behind(&self, revision: u64, now: Instant) -> Option<Instant> {
        let routers = self.routers();
        let behind = routers.values().filter(|router| router.is_alive(now) && router.in_force < revision);
        behind.map(|router| (router.seen + ROUTER_SILENT_AFTER).max(now + Duration::from_secs(1))).min()
    }

    fn arrive<'a>(&'a self, name: &'a str, after: u64) -> Option<Waiting<'a>> {
        {
            let mut routers = self.routers();
            let now = Instant::now();
            if routers.len() >= ROUTERS_MAX && !routers.contains_key(name) {
                routers.retain(|_, router| router.is_alive(now));
                if routers.len() >= ROUTERS_MAX {
                    tracing::warn!(router = name, "more than {ROUTERS_MAX} routers ask for routes; this one gets none");
                    return None;
                }
            }
            let router =
                routers.entry(name.to_owned()).or_insert(Router { in_force: 0, waiting: 0, patient: now, seen: now });
            router.in_force = after;
            router.patient = now;
            router.waiting += 1;
            router.seen = now;
        }
        self.news.send_modify(|news| *news += 1);
        Some(Waiting { hub: self, router: name })
    }

    /// A router may have a table of a former master, whose revisions were ahead of ours: go beyond it.
    fn outrun(&self, after: u64) {
        self.table.send_if_modified(|table| {
            let behind = table.revision > 0 && table.revision < after;
            if behind {
                *table = Arc::new(RouteTable { revision: after.saturating_add(1), ..RouteTable::clone(table) });
            }
            behind
        });
    }

    /// Puts routes into the table; answers its revision. Revisions begin with the time, so that they grow over restarts.
    pub(crate) fn publish(&self, wanted: RouteTable) -> u64 {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.table.send_if_modified(|table| {
            let same = table.revision > 0 && table.routes == wanted.routes && table.tcp == wanted.tcp;
            if !same {
                let first = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(1);
                let revision = if table.revision == 0 { first.max(1) } else { table.revision.saturating_add(1) };
                *table = Arc::new(RouteTable { revision, ..wanted });
            }
            !same
        });
        self.table.borrow().revision
    }
}
