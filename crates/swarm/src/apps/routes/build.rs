//! From applications and containers to the table. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    apps::{
        health::address,
        marks::Marks,
        names,
        record::{Desired, Record, ServiceRecord},
        scene::{Health, NodeSight},
    },
    compose::template::Routing,
    model::{Container, View, labels},
    router::table::{Backend, Group, Route, RouteTable, TcpRoute},
};

/// What a table is made from.
pub(crate) struct Sources {
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) view: Arc<View>,
    pub(crate) nodes: BTreeMap<String, NodeSight>,
    /// Health of the applications' containers.
    pub(crate) health: HashMap<String, Health>,
    /// Containers that served a former master and were not asked by this one yet.
    pub(crate) unjudged: HashSet<String>,
    /// `<cluster_id>.<region_id>.<suffix>`
    pub(crate) domain: String,
}

/// Full host of a route, lower case.
pub(crate) fn host_of(routing: &Routing, domain: &str) -> String {
    let host = if routing.is_prefix { format!("{}.{domain}", routing.domain) } else { routing.domain.clone() };
    host.to_ascii_lowercase()
}

fn path_of(routing: &Routing) -> String {
    if routing.path.starts_with('/') { routing.path.clone() } else { format!("/{}", routing.path) }
}

type Key = (String, String);

/// Everybody behind one host and path.
#[derive(Default)]
struct Draft {
    sticky: bool,
    groups: BTreeMap<String, Pool>,
}

/// The containers of one service.
#[derive(Default)]
struct Pool {
    weight: u32,
    ready: Vec<Backend>,
    /// On nodes that do not answer the master, or not judged yet: better than nobody.
    doubtful: Vec<Backend>,
}

impl Pool {
    fn into_group(mut self, service: String) -> Group {
        let mut backends =
            if self.ready.is_empty() { std::mem::take(&mut self.doubtful) } else { std::mem::take(&mut self.ready) };
        backends.sort_by(|one, other| one.id.cmp(&other.id));
        Group { service, weight: self.weight, backends }
    }
}

/// The table (without its revision), and the services that lost a route to another application, with the reason.
pub(crate) fn build(sources: &Sources, draining: &HashSet<String>) -> (RouteTable, BTreeMap<String, String>) {
    let mut records = sources.records.clone();
    records.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
    let mut builder = Builder {
        sources,
        draining,
        http: BTreeMap::new(),
        tcp: BTreeMap::new(),
        owners: HashMap::new(),
        conflicts: BTreeMap::new(),
    };
    let alive: Vec<&Arc<Record>> = records.iter().filter(|record| record.deletion.is_none()).collect();
    for record in &alive {
        builder.claim(record);
    }
    let by_uid: HashMap<&str, &Arc<Record>> = alive.iter().map(|record| (record.uid.as_str(), *record)).collect();
    for container in &sources.view.containers {
        if let Some(record) = container.labels.get(names::UID).and_then(|uid| by_uid.get(uid.as_str())) {
            builder.add(record, container);
        }
    }
    builder.finish()
}

struct Builder<'a> {
    sources: &'a Sources,
    draining: &'a HashSet<String>,
    http: BTreeMap<Key, Draft>,
    tcp: BTreeMap<u16, BTreeMap<String, Pool>>,
    owners: HashMap<Key, String>,
    conflicts: BTreeMap<String, String>,
}

impl Builder<'_> {
    fn key(&self, routing: &Routing) -> Key {
        (host_of(routing, &self.sources.domain), path_of(routing))
    }

    /// Whether this application has the route; the first to ask gets it.
    fn owns(&mut self, record: &Record, service: &str, key: &Key) -> bool {
        let owner = self.owners.entry(key.clone()).or_insert_with(|| record.name.clone());
        let owns = *owner == record.name;
        if !owns {
            let words = format!("the route {}{} belongs to the application {owner}", key.0, key.1);
            self.conflicts.insert(service.to_owned(), words);
        }
        owns
    }

    /// Routes exist from when they are asked for, with nobody behind them at first.
    fn claim(&mut self, record: &Record) {
        for service in record.services.values() {
            for routing in &service.service.extensions.routing {
                let key = self.key(routing);
                if self.owns(record, &service.id, &key) && service.desired == Desired::Running {
                    let draft = self.http.entry(key).or_default();
                    draft.sticky |= service.service.extensions.session_sticky;
                    draft.groups.entry(service.id.clone()).or_default().weight = service.weight;
                }
            }
            for listener in &service.service.extensions.lb {
                if service.desired == Desired::Running {
                    self.tcp.entry(listener.port).or_default().entry(service.id.clone()).or_default().weight =
                        service.weight;
                }
            }
        }
    }

    fn add(&mut self, record: &Record, container: &Container) {
        let Some((service, weight)) = self.place(record, container) else { return };
        let Some(certain) = self.standing(container) else { return };
        let Some(ip) = address(&self.sources.view, container) else { return };
        let marks = Marks::of(container);
        let backend = |port| Backend { id: container.id.clone(), address: SocketAddr::new(ip, port) };
        let put = |pool: &mut Pool, port| {
            pool.weight = weight;
            if certain { pool.ready.push(backend(port)) } else { pool.doubtful.push(backend(port)) }
        };
        for routing in &marks.routing {
            let key = self.key(routing);
            if self.owns(record, &service, &key) {
                let draft = self.http.entry(key).or_default();
                draft.sticky |= marks.sticky;
                put(draft.groups.entry(service.clone()).or_default(), routing.port);
            }
        }
        for listener in &marks.lb {
            put(
                self.tcp.entry(listener.port).or_default().entry(service.clone()).or_default(),
                listener.container_port,
            );
        }
    }

    /// The service that a container counts for, and its weight; `None` if it shall get nothing.
    fn place(&self, record: &Record, container: &Container) -> Option<(String, u32)> {
        let origin = names::origin_of(record, container)?;
        if record.retired.contains(&origin) || self.draining.contains(&container.id) {
            return None;
        }
        let of_record = |service: &&ServiceRecord| service.origin() == origin;
        match record.services.values().find(of_record) {
            Some(service) => (service.desired == Desired::Running).then(|| (service.id.clone(), service.weight)),
            // Of a service that the template has no more: it serves until it is retired.
            None => Some((container.labels.get(labels::SERVICE)?.clone(), 100)),
        }
    }

    /// Whether it surely serves; `None` if it surely does not.
    fn standing(&self, container: &Container) -> Option<bool> {
        let reachable = || self.sources.nodes.get(&container.node).is_some_and(|node| node.healthy);
        match self.sources.health.get(&container.id).filter(|_| container.is_running())? {
            Health::Success => Some(reachable()),
            Health::Checking if self.sources.unjudged.contains(&container.id) => Some(false),
            _ => None,
        }
    }

    fn finish(self) -> (RouteTable, BTreeMap<String, String>) {
        let routes = self.http.into_iter().map(|((host, path), draft)| {
            let groups = draft.groups.into_iter().map(|(service, pool)| pool.into_group(service)).collect();
            Route { host, path, groups, sticky: draft.sticky }
        });
        let tcp = self.tcp.into_iter().map(|(port, pools)| tcp_route(port, pools));
        (RouteTable { revision: 0, routes: routes.collect(), tcp: tcp.collect() }, self.conflicts)
    }
}

/// A TCP listener has no weights: a service has it or not.
fn tcp_route(port: u16, pools: BTreeMap<String, Pool>) -> TcpRoute {
    let service =
        pools.iter().max_by_key(|(_, pool)| pool.weight).map(|(service, _)| service.clone()).unwrap_or_default();
    let groups: Vec<Group> =
        pools.into_iter().filter(|(_, pool)| pool.weight > 0).map(|(service, pool)| pool.into_group(service)).collect();
    let mut seen = BTreeSet::new();
    let backends =
        groups.into_iter().flat_map(|group| group.backends).filter(|backend| seen.insert(backend.id.clone())).collect();
    TcpRoute { port, service, backends }
}
