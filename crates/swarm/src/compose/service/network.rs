//! Whom a container reaches, and under which names.

use std::net::Ipv4Addr;

use super::{Draft, machine::other_service};
use crate::compose::{
    error::Result,
    field::Field,
    names::is_docker_name,
    template::{Attachment, DependsCondition},
};

/// `SERVICE[:ALIAS]`.
pub(super) fn links(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for item in field.items()? {
        let (service, alias) = link(&item)?;
        draft.known_service(&item, &service)?;
        let link = (service, alias);
        if !draft.service.links.contains(&link) {
            draft.service.links.push(link);
        }
    }
    Ok(())
}

/// `CONTAINER[:ALIAS]`; also the service of another application (`project_service`), or a routing domain.
pub(super) fn external_links(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for item in field.items()? {
        let link = link(&item)?;
        if !draft.service.external_links.contains(&link) {
            draft.service.external_links.push(link);
        }
    }
    Ok(())
}

fn link(item: &Field<'_>) -> Result<(String, String)> {
    let text = item.filled()?;
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    if !is_docker_name(name) || !is_docker_name(alias) {
        return Err(item.wrong(format!("`{text}` is not NAME or NAME:ALIAS")));
    }
    Ok((name.to_owned(), alias.to_owned()))
}

/// A list of services, or a map from services to what they must have reached.
pub(super) fn depends_on(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    if field.value.is_array() {
        for item in field.items()? {
            let name = item.filled()?;
            draft.known_service(&item, name)?;
            draft.depend(name, DependsCondition::Started);
        }
        return Ok(());
    }
    for (name, entry) in field.entries()? {
        entry.keys(&["condition", "required", "restart"])?;
        let required = entry.get("required").map_or(Ok(true), |field| field.boolean())?;
        if !required && !draft.is_service(name) {
            continue;
        }
        draft.known_service(&entry, name)?;
        let condition = match entry.get("condition") {
            None => DependsCondition::Started,
            Some(condition) => match condition.filled()? {
                "service_started" => DependsCondition::Started,
                "service_healthy" => DependsCondition::Healthy,
                "service_completed_successfully" => DependsCondition::Completed,
                other => {
                    return Err(condition.wrong(format!(
                        "`{other}` is none of service_started, service_healthy, service_completed_successfully"
                    )));
                }
            },
        };
        draft.note_keys(&entry, &["restart"]);
        draft.depend(name, condition);
    }
    Ok(())
}

pub(super) fn networks(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    if field.value.is_array() {
        for name in field.texts()? {
            draft.service.networks.insert(name, Attachment::default());
        }
        return Ok(());
    }
    for (name, entry) in field.entries()? {
        let attachment = if entry.value.is_null() { Attachment::default() } else { attachment(draft, &entry)? };
        draft.service.networks.insert(name.to_owned(), attachment);
    }
    Ok(())
}

fn attachment(draft: &mut Draft<'_>, entry: &Field<'_>) -> Result<Attachment> {
    const WITHOUT_EFFECT: [&str; 7] =
        ["driver_opts", "gw_priority", "interface_name", "ipv6_address", "link_local_ips", "mac_address", "priority"];
    entry.keys(&[&["aliases", "ipv4_address"], &WITHOUT_EFFECT[..]].concat())?;
    draft.note_keys(entry, &WITHOUT_EFFECT);
    let aliases = entry.get("aliases").map_or(Ok(Vec::new()), |aliases| aliases.texts())?;
    if let Some(wrong) = aliases.iter().find(|alias| !is_docker_name(alias)) {
        return Err(entry.wrong(format!("`{wrong}` is not a name")));
    }
    let ipv4_address = entry.get("ipv4_address").map(|address| {
        let text = address.filled()?;
        let parsed = text.parse::<Ipv4Addr>();
        parsed.map(|ip| ip.to_string()).map_err(|_| address.wrong(format!("`{text}` is not an IPv4 address")))
    });
    Ok(Attachment { aliases, ipv4_address: ipv4_address.transpose()? })
}

pub(super) fn network_mode(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mode = field.filled()?;
    match mode.split_once(':') {
        None => plain_mode(draft, field, mode),
        Some(("service", name)) => {
            other_service(draft, field, name)?;
            draft.service.network_of = Some(name.to_owned());
            Ok(())
        }
        Some(("container", name)) if is_docker_name(name) => {
            draft.set_host("NetworkMode", mode);
            Ok(())
        }
        _ => Err(unknown_mode(field, mode)),
    }
}

/// The first format's spelling: after `container:` stands a service, or else a container.
pub(super) fn net(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mode = field.filled()?;
    match mode.split_once(':') {
        None => plain_mode(draft, field, mode),
        Some(("container", name)) if draft.is_service(name) => {
            other_service(draft, field, name)?;
            draft.service.network_of = Some(name.to_owned());
            Ok(())
        }
        Some(("container", name)) if is_docker_name(name) => {
            draft.set_host("NetworkMode", mode);
            Ok(())
        }
        _ => Err(unknown_mode(field, mode)),
    }
}

/// `bridge` is the network that a container joins anyway: here the cluster's.
fn plain_mode(draft: &mut Draft<'_>, field: &Field<'_>, mode: &str) -> Result<()> {
    match mode {
        "host" | "none" => draft.set_host("NetworkMode", mode),
        "bridge" => draft.note(field, "containers join the network of the cluster"),
        "default" => {}
        _ => return Err(unknown_mode(field, mode)),
    }
    Ok(())
}

fn unknown_mode(field: &Field<'_>, mode: &str) -> crate::compose::error::TemplateError {
    field.wrong(format!("`{mode}` is none of bridge, host, none, service:NAME, container:NAME"))
}
