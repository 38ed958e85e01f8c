//! Where an address inside the cluster leads.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::Uri;

use crate::{
    apps::{
        Inner, names,
        record::{Record, ServiceRecord},
        scene::Health,
    },
    model::{Container, View},
};

/// Port of InfluxDB when the address has none.
const PORT: u16 = 8086;

/// A database that can be reached.
pub(super) struct Target {
    pub(super) place: Place,
    /// For the header `Host`.
    pub(super) host: String,
}

/// How it is reached.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Container(Arc<Container>, u16),
    Address(SocketAddr),
}

impl Place {
    /// The same for the same database.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Container(container, port) => format!("{}:{port}", container.id),
            Self::Address(address) => address.to_string(),
        }
    }
}

/// The parts of an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("aliyun.monitoring.addon.influxdb: {what}; write http://HOST:PORT");
        let uri: Uri = text.parse().map_err(|_| wrong("this is not an address"))?;
        if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
            return Err(wrong("only http is spoken inside the cluster"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("the address names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(PORT) })
    }
}

impl Target {
    /// Looks for the host of `address`, as the service with the label sees it.
    pub(super) fn find(inner: &Inner, view: &View, service: &str, address: &str) -> Result<Self, String> {
        let address = Address::read(address)?;
        let place = match address.host.parse::<IpAddr>() {
            Ok(ip) => Place::Address(SocketAddr::new(ip, address.port)),
            Err(_) => {
                let container = container(inner, view, service, &address.host)
                    .ok_or_else(|| format!("no running container is called {} inside the cluster", address.host))?;
                Place::Container(container, address.port)
            }
        };
        Ok(Self { place, host: format!("{}:{}", address.host, address.port) })
    }
}

/// A container by the name of its service or a link, by its own name, or by a service's id, in this order.
fn container(inner: &Inner, view: &View, service: &str, host: &str) -> Option<Arc<Container>> {
    let records = inner.store.all();
    let owner = records.iter().find_map(|record| record.services.get(service).map(|service| (record, service)));
    let of_project = owner.and_then(|(record, service)| {
        let linked = service.service.links.iter().find(|(_, alias)| alias == host).map(|(target, _)| target.as_str());
        let named = record.peer(service, linked.unwrap_or(host));
        named.and_then(|named| first_of(inner, view, record, named))
    });
    let by_name = || {
        let mut running = view.containers.iter().filter(|container| container.is_running());
        running.find(|container| container.name == host).cloned()
    };
    let by_id = || {
        let found = records.iter().find_map(|record| record.services.get(host).map(|service| (record, service)));
        found.and_then(|(record, service)| first_of(inner, view, record, service))
    };
    of_project.or_else(by_name).or_else(by_id)
}

/// The first running container of a service; one that serves, if there is one.
fn first_of(inner: &Inner, view: &View, record: &Record, service: &ServiceRecord) -> Option<Arc<Container>> {
    let origin = service.origin();
    let ours = view.containers.iter().filter(|container| {
        container.is_running()
            && names::belongs(record, container)
            && names::origin_of(record, container).as_ref() == Some(&origin)
    });
    ours.min_by_key(|container| (inner.health.of(container) != Health::Success, container.name.clone())).cloned()
}
