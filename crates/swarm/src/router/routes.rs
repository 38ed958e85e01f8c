//! The table in the form in which requests ask it. Immutable; a new table takes over what goes on (backends with their
//! connections, counters, turns) from the one before.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::oneshot;

use super::{
    backend::{Backend, Service},
    matching::{covers, host_of, prefix_of},
    session::Session,
    table::{self, RouteTable},
    turns::{Shares, Turns},
};

type BackendKey = (String, SocketAddr);

/// What requests ask.
#[derive(Debug)]
pub(super) struct Routes {
    /// Revision of the table.
    pub(super) revision: u64,
    /// Routes of a host, longest prefix first.
    hosts: HashMap<String, Vec<Arc<Route>>>,
    /// TCP routes.
    pub(super) tcp: BTreeMap<u16, Arc<Group>>,
    backends: HashMap<BackendKey, Arc<Backend>>,
    services: BTreeMap<String, Arc<Service>>,
    /// Closed when nobody holds this table any more.
    _held: oneshot::Sender<()>,
}

/// Told when nobody holds a table any more: no request that asked it is still to be sent.
pub(super) type Released = oneshot::Receiver<()>;

/// A route.
#[derive(Debug)]
pub(super) struct Route {
    host: String,
    /// Path prefix without its trailing slash.
    pub(super) prefix: String,
    /// Whether sessions stick.
    pub(super) sticky: bool,
    groups: Vec<Arc<Group>>,
    shares: Shares,
    turns: Arc<Turns>,
}

/// Containers of a service.
#[derive(Debug)]
pub(super) struct Group {
    /// The service.
    pub(super) service: Arc<Service>,
    weight: u32,
    backends: Vec<Arc<Backend>>,
    next: AtomicUsize,
}

/// What a request has tried so far.
#[derive(Debug, Default)]
pub(super) struct Tried {
    turn: Option<u64>,
    backends: Vec<u64>,
}

impl Tried {
    /// It was of no use there.
    pub(super) fn add(&mut self, backend: &Backend) {
        self.backends.push(backend.hash);
    }

    /// Whether nothing was tried yet.
    pub(super) fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    fn has(&self, backend: &Backend) -> bool {
        self.backends.contains(&backend.hash)
    }
}

impl Routes {
    /// The table in its new form, and what tells of its end.
    pub(super) fn new(table: &RouteTable, before: Option<&Self>) -> (Arc<Self>, Released) {
        let (held, released) = oneshot::channel();
        let mut routes = Self {
            revision: table.revision,
            hosts: HashMap::with_capacity(table.routes.len()),
            tcp: BTreeMap::new(),
            backends: HashMap::new(),
            services: BTreeMap::new(),
            _held: held,
        };
        for (route, groups) in merged(&table.routes) {
            let route = routes.route(route, &groups, before);
            routes.hosts.entry(route.host.clone()).or_default().push(Arc::new(route));
        }
        for list in routes.hosts.values_mut() {
            list.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        for tcp in &table.tcp {
            let group = table::Group { service: tcp.service.clone(), weight: 1, backends: tcp.backends.clone() };
            let group = Arc::new(routes.group(&group, before));
            routes.tcp.insert(tcp.port, group);
        }
        (Arc::new(routes), released)
    }

    fn route(&mut self, route: &table::Route, groups: &[&table::Group], before: Option<&Self>) -> Route {
        let host = normal(&route.host);
        let prefix = prefix_of(&route.path).to_owned();
        let groups: Vec<Arc<Group>> = groups.iter().map(|group| Arc::new(self.group(group, before))).collect();
        let former = before.and_then(|before| before.hosts.get(&host)?.iter().find(|route| route.prefix == prefix));
        Route {
            // Groups without a backend leave their share to the others.
            shares: Shares::new(groups.iter().map(|group| if group.backends.is_empty() { 0 } else { group.weight })),
            turns: former.map(|route| Arc::clone(&route.turns)).unwrap_or_default(),
            sticky: route.sticky,
            host,
            prefix,
            groups,
        }
    }

    fn group(&mut self, group: &table::Group, before: Option<&Self>) -> Group {
        let backends = group.backends.iter().map(|backend| self.backend(backend, before)).collect();
        let service = self.services.entry(group.service.clone()).or_insert_with(|| {
            let former = before.and_then(|before| before.services.get(&group.service));
            former.cloned().unwrap_or_else(|| Arc::new(Service { name: group.service.clone(), ..Service::default() }))
        });
        Group { service: Arc::clone(service), weight: group.weight, backends, next: AtomicUsize::new(0) }
    }

    fn backend(&mut self, backend: &table::Backend, before: Option<&Self>) -> Arc<Backend> {
        let key = (backend.id.clone(), backend.address);
        let former = before.and_then(|before| before.backends.get(&key));
        let entry = self.backends.entry(key);
        let kept = entry.or_insert_with(|| former.cloned().unwrap_or_else(|| Arc::new(Backend::new(backend))));
        Arc::clone(kept)
    }

    /// The route of a request.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        self.hosts.get(host)?.iter().find(|route| covers(&route.prefix, path))
    }

    /// All backends.
    pub(super) fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.values()
    }

    /// All services.
    pub(super) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Backends that `next` does not have.
    pub(super) fn without(&self, next: &Self) -> Vec<Arc<Backend>> {
        let gone = self.backends.iter().filter(|(key, _)| !next.backends.contains_key(*key));
        gone.map(|(_, backend)| Arc::clone(backend)).collect()
    }
}

/// Routes of one host and prefix are one route: services may share a domain.
fn merged(routes: &[table::Route]) -> Vec<(&table::Route, Vec<&table::Group>)> {
    let mut all: BTreeMap<(String, &str), (&table::Route, Vec<&table::Group>)> = BTreeMap::new();
    for route in routes {
        let entry = all.entry((normal(&route.host), prefix_of(&route.path))).or_insert((route, Vec::new()));
        entry.1.extend(&route.groups);
    }
    all.into_values().collect()
}

fn normal(host: &str) -> String {
    host_of(host).map_or_else(|| host.to_ascii_lowercase(), |host| host.into_owned())
}

impl Route {
    /// Where a request goes: to the container of its session; else to the group whose turn it is, there to the less busy
    /// of two. What could not be reached lately is taken when nothing else is left; what this request has tried, never.
    pub(super) fn choose(&self, sessions: impl Iterator<Item = Session>, tried: &mut Tried) -> Option<Choice<'_>> {
        for session in sessions {
            if let Some(choice) = self.of_session(session, tried) {
                return Some(choice);
            }
        }
        let turn = *tried.turn.get_or_insert_with(|| self.turns.next());
        let first = self.shares.at(turn)?;
        for with_shunned in [false, true] {
            let rest = self.shares.groups().filter(|index| *index != first);
            for index in std::iter::once(first).chain(rest) {
                if let Some(backend) = self.groups[index].pick(tried, with_shunned) {
                    return Some(Choice { backend, service: &self.groups[index].service, session: None });
                }
            }
        }
        None
    }

    fn of_session(&self, session: Session, tried: &Tried) -> Option<Choice<'_>> {
        let groups = self.groups.iter().filter(|group| group.weight > 0);
        let mut backends = groups.flat_map(|group| group.backends.iter().map(move |backend| (group, backend)));
        let (group, backend) = backends.find(|(_, backend)| backend.hash == session.backend)?;
        let is_usable = !tried.has(backend) && !backend.is_shunned();
        is_usable.then_some(Choice { backend, service: &group.service, session: Some(session) })
    }

    /// Why it has no backend, in words.
    pub(super) fn why_none(&self) -> &'static str {
        if self.groups.iter().all(|group| group.weight == 0) {
            "no service of this route has a weight above 0"
        } else {
            "no container of this route is healthy"
        }
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    /// Container.
    pub(super) backend: &'a Arc<Backend>,
    /// Its service.
    pub(super) service: &'a Arc<Service>,
    /// The session that led there.
    pub(super) session: Option<Session>,
}

impl Group {
    /// The next backend in turn, or a random other one if less is under way there.
    pub(super) fn pick(&self, tried: &Tried, with_shunned: bool) -> Option<&Arc<Backend>> {
        let is_usable = |backend: &Backend| !tried.has(backend) && (with_shunned || !backend.is_shunned());
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let one = self.first_from(turn, is_usable)?;
        if self.backends.len() == 1 || one.in_flight() == 0 {
            return Some(one);
        }
        let other = self.first_from(scatter(turn), is_usable).unwrap_or(one);
        Some(if other.in_flight() < one.in_flight() { other } else { one })
    }

    fn first_from(&self, from: usize, is_usable: impl Fn(&Backend) -> bool) -> Option<&Arc<Backend>> {
        let count = self.backends.len();
        let start = from.checked_rem(count)?;
        (start..count).chain(0..start).map(|index| &self.backends[index]).find(|backend| is_usable(backend))
    }
}

/// A number that looks random, from one that counts.
fn scatter(turn: usize) -> usize {
    let mixed = (turn as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)) as usize >> 3
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
