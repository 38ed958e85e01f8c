//! What can only be said when every key was read: contradictions, dependencies, the whole body.

use serde_json::{Map, Value, json};

use super::{Draft, Reading};
use crate::compose::{
    error::{Result, TemplateError},
    field::{join, object},
    template::DependsCondition,
};

/// Makes a service of what was read.
pub(super) fn finish(mut draft: Draft<'_>) -> Result<Reading> {
    if !draft.config.contains_key("Image") {
        return Err(TemplateError::new(&draft.path, "`image` is missing"));
    }
    apply_deployed(&mut draft)?;
    scale(&mut draft)?;
    check_network_mode(&mut draft)?;
    check_memory(&draft)?;
    dependencies(&mut draft);
    definition(&mut draft);
    let mut body = std::mem::take(&mut draft.config);
    if !draft.env.is_empty() {
        body.insert("Env".to_owned(), json!(draft.env.values().collect::<Vec<_>>()));
    }
    if !draft.labels.is_empty() {
        body.insert("Labels".to_owned(), object(std::mem::take(&mut draft.labels)));
    }
    if !draft.host.is_empty() {
        body.insert("HostConfig".to_owned(), Value::Object(std::mem::take(&mut draft.host)));
    }
    draft.service.container = Value::Object(body);
    Ok(Reading { service: draft.service, named: draft.named })
}

/// What `deploy` wants, unless the same was said differently outside of it.
fn apply_deployed(draft: &mut Draft<'_>) -> Result<()> {
    for (path, key, value) in std::mem::take(&mut draft.deployed) {
        match draft.host.get(key) {
            Some(other) if *other != value => {
                return Err(TemplateError::new(path, format!("contradicts what is said outside of `deploy` ({key})")));
            }
            _ => draft.set_host(key, value),
        }
    }
    Ok(())
}

fn scale(draft: &mut Draft<'_>) -> Result<()> {
    let mut scales = std::mem::take(&mut draft.scales).into_iter();
    if let Some((first, count)) = scales.next() {
        if let Some((path, other)) = scales.find(|(_, other)| *other != count) {
            return Err(TemplateError::new(path, format!("{other} contradicts {first}, which is {count}")));
        }
        draft.service.extensions.scale = Some(count);
    }
    let extensions = &draft.service.extensions;
    if extensions.global && extensions.scale.is_some() {
        draft.notes.add(&draft.path, "the number of containers has no effect: the service has one on every node");
    }
    let many = extensions.global
        || extensions.scale.is_some_and(|scale| scale > 1)
        || extensions.auto_scaling.as_ref().is_some_and(|scaling| scaling.max_instances != Some(1));
    if !many {
        return Ok(());
    }
    if draft.service.container_name.is_some() {
        return Err(TemplateError::new(
            join(&draft.path, "container_name"),
            "a name fits one container, and the service may have several; take the name or the scaling out",
        ));
    }
    let fixed = draft.service.networks.iter().find(|(_, attachment)| attachment.ipv4_address.is_some());
    if let Some((network, _)) = fixed {
        return Err(TemplateError::new(
            format!("{}.networks.{network}.ipv4_address", draft.path),
            "an address fits one container, and the service may have several",
        ));
    }
    Ok(())
}

/// What engines refuse beside a network mode.
fn check_network_mode(draft: &mut Draft<'_>) -> Result<()> {
    let mode = draft.host.get("NetworkMode").and_then(Value::as_str).map(str::to_owned);
    let mode = draft.service.network_of.as_ref().map(|name| format!("service:{name}")).or(mode);
    if draft.value.get("network_mode").is_some_and(|mode| !mode.is_null()) && !draft.service.networks.is_empty() {
        return Err(TemplateError::new(&draft.path, "`network_mode` and `networks` exclude each other"));
    }
    if draft.config.contains_key("Hostname") && draft.host.contains_key("UTSMode") {
        return Err(TemplateError::new(join(&draft.path, "hostname"), "cannot be used with `uts: host`"));
    }
    let Some(mode) = mode else { return Ok(()) };
    let shared = mode.starts_with("service:") || mode.starts_with("container:");
    let has = |key: &str| draft.value.get(key).is_some_and(|value| !value.is_null());
    let excluded: &[&str] = if shared {
        &["ports", "expose", "hostname", "dns", "extra_hosts", "mac_address", "links", "external_links"]
    } else if mode == "host" {
        &["links", "external_links", "mac_address"]
    } else {
        &["links", "external_links"]
    };
    if let Some(key) = excluded.iter().find(|key| has(key)) {
        return Err(TemplateError::new(join(&draft.path, key), format!("cannot be used with the network mode {mode}")));
    }
    if has("ports") && !shared {
        draft.notes.add(&join(&draft.path, "ports"), &format!("nothing is published with the network mode {mode}"));
    }
    Ok(())
}

/// What engines refuse about memory and processors.
fn check_memory(draft: &Draft<'_>) -> Result<()> {
    let value = |key: &str| draft.host.get(key).and_then(Value::as_i64).filter(|value| *value != 0);
    let wrong = |key: &str, message: &str| Err(TemplateError::new(join(&draft.path, key), message));
    let memory = value("Memory");
    match (memory, value("MemorySwap")) {
        (None, Some(swap)) if swap > 0 => return wrong("memswap_limit", "needs `mem_limit` beside it"),
        (Some(memory), Some(swap)) if swap > 0 && swap < memory => {
            return wrong("memswap_limit", "is memory and swap together, so it cannot be less than `mem_limit`");
        }
        _ => {}
    }
    if let (Some(memory), Some(reserved)) = (memory, value("MemoryReservation"))
        && reserved > memory
    {
        return wrong("mem_reservation", "cannot be more than the limit of memory");
    }
    if value("NanoCpus").is_some() && (value("CpuQuota").is_some() || value("CpuPeriod").is_some()) {
        return wrong("cpus", "cannot be used with `cpu_quota` or `cpu_period`; write one of them");
    }
    Ok(())
}

/// Everything that names another service wants it to run first.
fn dependencies(draft: &mut Draft<'_>) {
    let service = &draft.service;
    let mut names: Vec<String> = service.links.iter().map(|(name, _)| name.clone()).collect();
    names.extend(service.volumes_from.iter().filter(|from| !from.is_container).map(|from| from.source.clone()));
    names.extend([&service.network_of, &service.pid_of, &service.ipc_of].into_iter().flatten().cloned());
    for name in names {
        draft.depend(&name, DependsCondition::Started);
    }
}

/// The definition with its environment as a list of `KEY=value`.
fn definition(draft: &mut Draft<'_>) {
    let mut definition = draft.value.as_object().cloned().unwrap_or_else(Map::new);
    definition.remove("extends");
    if definition.get("environment").is_some_and(|environment| !environment.is_null()) {
        definition.insert("environment".to_owned(), json!(draft.env_written));
    }
    draft.service.definition = definition;
}
