//! What a container sees of its machine: devices, names, namespaces, kernel settings.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::Draft;
use crate::compose::{
    error::Result,
    field::{Field, object},
};

pub(super) fn cgroup(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mode = one_of(field, &["host", "private"])?;
    draft.set_host("CgroupnsMode", mode);
    Ok(())
}

/// Linux has one.
pub(super) fn isolation(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let isolation = one_of(field, &["default"])?;
    draft.set_host("Isolation", isolation);
    Ok(())
}

pub(super) fn userns_mode(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mode = one_of(field, &["host"])?;
    draft.set_host("UsernsMode", mode);
    Ok(())
}

pub(super) fn uts(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mode = one_of(field, &["host"])?;
    draft.set_host("UTSMode", mode);
    Ok(())
}

fn one_of<'a>(field: &Field<'a>, known: &[&str]) -> Result<&'a str> {
    let text = field.filled()?;
    if known.contains(&text) {
        return Ok(text);
    }
    Err(field.wrong(format!("`{text}` is not known here; known: {}", known.join(", "))))
}

pub(super) fn pid(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mode = field.filled()?;
    match mode.split_once(':') {
        None if mode == "host" => draft.set_host("PidMode", mode),
        Some(("container", name)) if !name.is_empty() => draft.set_host("PidMode", mode),
        Some(("service", name)) => {
            other_service(draft, field, name)?;
            draft.service.pid_of = Some(name.to_owned());
        }
        _ => return Err(field.wrong(format!("`{mode}` is none of host, container:NAME, service:NAME"))),
    }
    Ok(())
}

pub(super) fn ipc(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mode = field.filled()?;
    match mode.split_once(':') {
        None if matches!(mode, "host" | "none" | "private" | "shareable") => draft.set_host("IpcMode", mode),
        Some(("container", name)) if !name.is_empty() => draft.set_host("IpcMode", mode),
        Some(("service", name)) => {
            other_service(draft, field, name)?;
            draft.service.ipc_of = Some(name.to_owned());
        }
        _ => {
            let message = format!("`{mode}` is none of none, private, shareable, host, container:NAME, service:NAME");
            return Err(field.wrong(message));
        }
    }
    Ok(())
}

/// Makes sure that a namespace is shared with another service of the template.
pub(super) fn other_service(draft: &Draft<'_>, field: &Field<'_>, name: &str) -> Result<()> {
    draft.known_service(field, name)?;
    if name == draft.name {
        return Err(field.wrong("a service cannot share what it has itself; name another service"));
    }
    Ok(())
}

/// `PATH[:PATH_INSIDE][:rwm]`, or a map of them.
pub(super) fn devices(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mut devices = Vec::new();
    for item in field.items()? {
        let (host, inside, rights) = if item.value.is_object() {
            item.keys(&["permissions", "source", "target"])?;
            let text = |key: &str| item.get(key).map(|entry| entry.filled().map(str::to_owned)).transpose();
            let host = text("source")?.ok_or_else(|| item.wrong("`source` is missing"))?;
            (host.clone(), text("target")?.unwrap_or(host), text("permissions")?.unwrap_or_else(|| "rwm".to_owned()))
        } else {
            let text = item.filled()?;
            let parts: Vec<&str> = text.split(':').collect();
            let is_rights = |part: &str| !part.starts_with('/');
            match parts[..] {
                [host] => (host.to_owned(), host.to_owned(), "rwm".to_owned()),
                [host, rights] if is_rights(rights) => (host.to_owned(), host.to_owned(), rights.to_owned()),
                [host, inside] => (host.to_owned(), inside.to_owned(), "rwm".to_owned()),
                [host, inside, rights] => (host.to_owned(), inside.to_owned(), rights.to_owned()),
                _ => return Err(item.wrong(format!("`{text}` has too many colons"))),
            }
        };
        if !host.starts_with('/') || !inside.starts_with('/') {
            return Err(item.wrong(format!("`{host}` is not a device's path; write for example /dev/fuse")));
        }
        if rights.is_empty() || !rights.chars().all(|c| "rwm".contains(c)) {
            return Err(item.wrong(format!("`{rights}` are no permissions; write letters of rwm")));
        }
        devices.push(json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": rights}));
    }
    draft.set_host("Devices", devices);
    Ok(())
}

pub(super) fn dns(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let servers = field.text_or_texts()?;
    if let Some(wrong) = servers.iter().find(|server| server.parse::<IpAddr>().is_err()) {
        return Err(field.wrong(format!("`{wrong}` is not an IP address")));
    }
    draft.set_host("Dns", servers);
    Ok(())
}

/// `NAME:IP` or `NAME=IP` in a list; a map from names to an address or several.
pub(super) fn extra_hosts(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mut hosts = Vec::new();
    if field.value.is_array() {
        for item in field.items()? {
            let text = item.filled()?;
            let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
            hosts.push(extra_host(&item, name, address)?);
        }
    } else {
        for (name, entry) in field.entries()? {
            for address in entry.text_or_texts()? {
                hosts.push(extra_host(&entry, name, &address)?);
            }
        }
    }
    draft.set_host("ExtraHosts", hosts);
    Ok(())
}

fn extra_host(field: &Field<'_>, name: &str, address: &str) -> Result<String> {
    let address = address.trim();
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if name.trim().is_empty() || (bare.parse::<IpAddr>().is_err() && bare != "host-gateway") {
        return Err(field.wrong(format!("`{name}:{address}` is not NAME:IP")));
    }
    Ok(format!("{}:{bare}", name.trim()))
}

pub(super) fn group_add(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let mut groups = Vec::new();
    for item in field.items()? {
        let group = item.scalar()?.filter(|group| !group.is_empty());
        groups.push(group.ok_or_else(|| item.wrong("a group's name or number is missing"))?);
    }
    draft.set_host("GroupAdd", groups);
    Ok(())
}

pub(super) fn security_opt(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let options = field.texts()?;
    for option in &options {
        let profile = option.split_once([':', '=']).filter(|(kind, _)| *kind == "seccomp").map(|(_, profile)| profile);
        if let Some(profile) = profile
            && profile != "unconfined"
            && serde_json::from_str::<Map<String, Value>>(profile).is_err()
        {
            return Err(field.wrong(format!(
                "`{option}` names a file, and there are no files beside the template; write seccomp=unconfined or the \
                 profile's JSON itself"
            )));
        }
    }
    draft.set_host("SecurityOpt", options);
    Ok(())
}

pub(super) fn sysctls(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let pairs = field.filled_pairs()?;
    if let Some((key, _)) = pairs.iter().find(|(_, value)| value.is_empty()) {
        return Err(field.wrong(format!("`{key}` has no value")));
    }
    draft.set_host("Sysctls", object(pairs));
    Ok(())
}
