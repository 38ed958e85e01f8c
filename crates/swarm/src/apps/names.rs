//! Names: of applications, services, containers, and the labels beside those of [`crate::model::labels`].

use crate::model::{Container, Refusal, labels};

use super::record::{Record, ServiceRecord};

/// Uid of the application that a container belongs to.
pub(crate) const UID: &str = "io.sampan.application";
/// Incarnation of its service.
pub(crate) const INCARNATION: &str = "io.sampan.incarnation";
/// JSON of what the container was made with: probe, routes, listeners ([`super::marks::Marks`]).
pub(crate) const MARKS: &str = "io.sampan.marks";

/// 404 for an application.
pub(crate) fn no_project(name: &str) -> Refusal {
    Refusal::missing(format!("no such application: {name}"))
}

/// 404 for a service.
pub(crate) fn no_service(id: &str) -> Refusal {
    Refusal::missing(format!("no such service: {id}"))
}

/// Name of a container.
pub(crate) fn container(service: &ServiceRecord, number: u32) -> String {
    match &service.service.container_name {
        Some(name) => name.clone(),
        None => format!("{}_{number}", service.id),
    }
}

/// Number of a container within its service: from its name, which a rename changes, else from its label, which stays.
pub(crate) fn number(service: &ServiceRecord, container: &Container) -> u32 {
    let of_name = container
        .name
        .strip_prefix(&service.id)
        .and_then(|rest| rest.strip_prefix('_'))
        .and_then(|rest| rest.parse().ok());
    of_name.or_else(|| container.labels.get(labels::NUMBER)?.parse().ok()).unwrap_or(1)
}

/// Whether a container belongs to this application (and not to an earlier one of its name).
pub(crate) fn belongs(record: &Record, container: &Container) -> bool {
    container.labels.get(UID).is_some_and(|uid| *uid == record.uid)
}

/// [`ServiceRecord::origin`] of the service that a container was made for.
pub(crate) fn origin_of(record: &Record, container: &Container) -> Option<String> {
    let service = container.labels.get(labels::SERVICE)?.strip_prefix(&record.name)?.strip_prefix('_')?;
    let incarnation = container.labels.get(INCARNATION).and_then(|text| text.parse().ok()).unwrap_or(1);
    Some(super::record::origin(service, incarnation))
}

/// Alias under which all containers of a service are reached by others.
pub(crate) fn alias(record: &Record, service: &str) -> String {
    record.canonical(service)
}

/// Alias of this very service, when another version of it lives beside it.
pub(crate) fn own_alias(record: &Record, service: &ServiceRecord) -> String {
    format!("{}-r{}", record.canonical(&service.name), service.incarnation)
}
