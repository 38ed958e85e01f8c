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
/// Longest wait for routers in all.
const IN_FORCE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Routers that are remembered; a cluster has fewer nodes.
const ROUTERS_MAX: usize = 1024;

/// The route table and the routers that ask for it.
pub struct RouteHub {
    table: watch::Sender<Arc<RouteTable>>,
    routers: Mutex<HashMap<String, Router>>,
    /// Counts what routers say.
    news: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
struct Router {
    in_force: u64,
    /// Requests that wait for more right now.
    waiting: usize,
    seen: Instant,
}

impl Default for RouteHub {
    fn default() -> Self {
        Self { table: watch::Sender::new(Arc::default()), routers: Mutex::default(), news: watch::Sender::new(0) }
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

    /// Waits until every router that is alive has at least this revision in force; `false` if one that is alive does not get
    /// there.
    pub async fn in_force(&self, revision: u64) -> bool {
        let deadline = Instant::now() + IN_FORCE_WAIT_MAX;
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            let Some(give_up) = self.behind(revision) else { return true };
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return false },
                () = sleep_until(give_up.min(deadline)) => if Instant::now() >= deadline { return false },
            }
        }
    }

    /// When to stop waiting for the routers that do not have this revision; `None`: there are none.
    fn behind(&self, revision: u64) -> Option<Instant> {
        let now = Instant::now();
        let routers = self.routers();
        let behind = routers.values().filter(|router| router.in_force < revision);
        let until =
            behind.map(
                |router| if router.waiting > 0 { now + ROUTER_SILENT_AFTER } else { router.seen + ROUTER_SILENT_AFTER },
            );
        until.filter(|until| *until > now).max()
    }

    fn arrive<'a>(&'a self, name: &'a str, after: u64) -> Option<Waiting<'a>> {
        {
            let mut routers = self.routers();
            let now = Instant::now();
            if routers.len() >= ROUTERS_MAX && !routers.contains_key(name) {
                routers.retain(|_, router| router.waiting > 0 || now.duration_since(router.seen) < ROUTER_SILENT_AFTER);
                if routers.len() >= ROUTERS_MAX {
                    tracing::warn!(router = name, "more than {ROUTERS_MAX} routers ask for routes; this one gets none");
                    return None;
                }
            }
            let router = routers.entry(name.to_owned()).or_insert(Router { in_force: 0, waiting: 0, seen: now });
            router.in_force = after;
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
