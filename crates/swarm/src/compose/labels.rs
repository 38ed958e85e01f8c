//! Labels that have a meaning to the service.

use std::collections::BTreeMap;

use super::{
    error::{Result, TemplateError},
    limits::{MAX_ROUTES, MAX_ROUTING_CHARACTERS, MAX_SCALE},
    names::is_host_name,
    service::Draft,
    template::{AutoScaling, DependsCondition, Extensions, LoadBalancer, Probe, ProbeCheck, Routing},
    values::boolean,
};
use crate::model::labels as ours;

/// What every label of the service begins with.
const PREFIX: &str = "aliyun.";
/// Seconds that a try of a probe may take if the template does not say.
const PROBE_TIMEOUT_SECONDS: u32 = 5;
/// Most seconds in a label.
const MAX_SECONDS: u32 = 24 * 3600;

/// Reads the labels of a service, those of `deploy` with them.
pub(super) fn read(draft: &mut Draft<'_>) -> Result<()> {
    for (key, value) in std::mem::take(&mut draft.deploy_labels) {
        draft.labels.entry(key).or_insert(value);
    }
    let labels = draft.labels.clone();
    let parallelism = draft.service.extensions.parallelism.max(1);
    draft.service.extensions.parallelism = parallelism;
    for (key, value) in &labels {
        let label = Label { path: format!("{}.labels.{key}", draft.path), value: value.trim() };
        if RESERVED.contains(&key.as_str()) || key.starts_with("io.sampan.") {
            return Err(label.wrong("is set by the cluster and cannot be written in a template"));
        }
        if let Some(name) = key.strip_prefix(PREFIX) {
            one(draft, name, &label)?;
        }
    }
    let place = format!("{}.labels", draft.path);
    draft.service.extensions.probe = probe(draft, &place, &labels)?;
    draft.service.extensions.auto_scaling = auto_scaling(draft, &place, &labels)?;
    if labels.contains_key("aliyun.rolling_updates.parallelism") && !draft.service.extensions.rolling_updates {
        draft.notes.add(&place, "aliyun.rolling_updates.parallelism has no effect without aliyun.rolling_updates");
    }
    Ok(())
}

/// Labels by which the cluster knows its containers.
const RESERVED: [&str; 4] = [ours::PROJECT, ours::SERVICE, ours::NUMBER, ours::VERSION];

/// A label's value and where it stands.
struct Label<'a> {
    path: String,
    value: &'a str,
}

impl Label<'_> {
    fn wrong(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::new(&self.path, message)
    }
    fn flag(&self) -> Result<bool> {
        boolean(self.value).ok_or_else(|| self.wrong(format!("`{}` is neither true nor false", self.value)))
    }
    fn count(&self, least: u32, most: u32) -> Result<u32> {
        let count = self.value.parse::<u32>().ok().filter(|count| (least..=most).contains(count));
        count.ok_or_else(|| self.wrong(format!("`{}` is not a whole number from {least} to {most}", self.value)))
    }
    fn percent(&self) -> Result<f64> {
        let text = self.value.strip_suffix('%').unwrap_or(self.value).trim();
        let percent = text.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
        percent.ok_or_else(|| self.wrong(format!("`{}` is not a percentage from 0 to 100", self.value)))
    }
}

fn one(draft: &mut Draft<'_>, name: &str, label: &Label<'_>) -> Result<()> {
    match name {
        "scale" => draft.scales.push((label.path.clone(), label.count(0, MAX_SCALE)?)),
        "global" => draft.service.extensions.global = label.flag()?,
        "latest_image" => draft.service.extensions.latest_image = label.flag()?,
        "depends" => depends(draft, label)?,
        "routing.session_sticky" => draft.service.extensions.session_sticky = label.flag()?,
        "rolling_updates" => draft.service.extensions.rolling_updates = label.flag()?,
        "rolling_updates.parallelism" => {
            draft.service.extensions.parallelism = label.count(1, MAX_SCALE).unwrap_or(1);
        }
        "monitoring.addon.influxdb" => draft.service.extensions.influxdb = Some(influxdb(label)?),
        _ if name.starts_with("probe.") || name.starts_with("auto_scaling.") => known(label, name)?,
        _ if name.starts_with("log_store_") => {
            draft.service.extensions.logs.push(label.value.to_owned());
            draft.notes.add(&label.path, "logs stay with the engine's log driver; the label is kept and shown");
        }
        _ => {
            if let Some(port) = name.strip_prefix("routing.port_") {
                routing(&mut draft.service.extensions, port, label)?;
            } else if let Some(port) = name.strip_prefix("lb.port_") {
                let listener = load_balancer(port, label)?;
                draft.service.extensions.lb.push(listener);
            } else {
                draft.service.extensions.unknown.insert(format!("{PREFIX}{name}"), label.value.to_owned());
            }
        }
    }
    Ok(())
}

const FAMILIES: [&str; 11] = [
    "probe.url",
    "probe.cmd",
    "probe.initial_delay_seconds",
    "probe.timeout_seconds",
    "auto_scaling.max_cpu",
    "auto_scaling.min_cpu",
    "auto_scaling.max_memory",
    "auto_scaling.min_memory",
    "auto_scaling.step",
    "auto_scaling.max_instances",
    "auto_scaling.min_instances",
];

/// A misspelt label of a family that decides about life and death of containers is refused.
fn known(label: &Label<'_>, name: &str) -> Result<()> {
    if FAMILIES.contains(&name) {
        return Ok(());
    }
    let family = name.split('.').next().unwrap_or_default();
    let known = FAMILIES.iter().filter(|known| known.starts_with(family)).map(|known| format!("{PREFIX}{known}"));
    Err(label.wrong(format!("is not known; known are {}", known.collect::<Vec<_>>().join(", "))))
}

fn depends(draft: &mut Draft<'_>, label: &Label<'_>) -> Result<()> {
    for name in label.value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !draft.is_service(name) {
            return Err(label.wrong(format!("there is no service `{name}` in the template")));
        }
        draft.depend(name, DependsCondition::Started);
    }
    Ok(())
}

fn port_number(text: &str, label: &Label<'_>) -> Result<u16> {
    let port = text.parse::<u16>().ok().filter(|port| *port != 0);
    port.ok_or_else(|| label.wrong(format!("`{text}` is not a port from 1 to 65535")))
}

/// `[http://]DOMAIN[/PATH]`, several divided by `;`. A domain without a dot is a prefix.
fn routing(extensions: &mut Extensions, port: &str, label: &Label<'_>) -> Result<()> {
    let port = port_number(port, label)?;
    let before = extensions.routing.len();
    for entry in label.value.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        if entry.chars().count() > MAX_ROUTING_CHARACTERS {
            return Err(label.wrong(format!("a route has at most {MAX_ROUTING_CHARACTERS} characters")));
        }
        let bare = entry.strip_prefix("http://").unwrap_or(entry);
        if bare.contains("://") {
            return Err(label.wrong(format!("`{entry}` is not routed; only http:// is")));
        }
        let (domain, path) = bare.find('/').map_or((bare, "/"), |at| bare.split_at(at));
        let domain = domain.strip_suffix(':').unwrap_or(domain).to_ascii_lowercase();
        if !is_host_name(&domain) {
            return Err(
                label.wrong(format!("`{domain}` is neither a domain nor a prefix: letters, digits, `-` and `.`"))
            );
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains(['?', '#']) {
            return Err(label.wrong(format!("`{path}` is not the path of a route")));
        }
        let is_prefix = !domain.contains('.');
        let route = Routing { port, domain, is_prefix, path: path.to_owned() };
        let twice = |other: &Routing| other.domain == route.domain && other.path == route.path;
        if extensions.routing.iter().any(twice) {
            return Err(label.wrong(format!("`{entry}` is routed twice by this service")));
        }
        if extensions.routing.len() == MAX_ROUTES {
            return Err(label.wrong(format!("a service has at most {MAX_ROUTES} routes")));
        }
        extensions.routing.push(route);
    }
    if extensions.routing.len() == before {
        return Err(label.wrong("a domain or a prefix is missing"));
    }
    Ok(())
}

/// `tcp://NAME:PORT`.
fn load_balancer(port: &str, label: &Label<'_>) -> Result<LoadBalancer> {
    let container_port = port_number(port, label)?;
    let parts = label.value.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
    let (name, port) = parts
        .filter(|(name, _)| is_host_name(name))
        .ok_or_else(|| label.wrong(format!("`{}` is not tcp://NAME:PORT", label.value)))?;
    Ok(LoadBalancer { container_port, name: name.to_owned(), port: port_number(port, label)? })
}

fn influxdb(label: &Label<'_>) -> Result<String> {
    let wrong = || label.wrong(format!("`{}` is not http://NAME:PORT", label.value));
    let rest = label.value.strip_prefix("http://").ok_or_else(wrong)?;
    let address = rest.strip_suffix('/').unwrap_or(rest);
    let (name, port) = address.rsplit_once(':').unwrap_or((address, "8086"));
    if !is_host_name(name) {
        return Err(wrong());
    }
    port_number(port, label)?;
    Ok(label.value.to_owned())
}

fn probe(draft: &mut Draft<'_>, place: &str, labels: &BTreeMap<String, String>) -> Result<Option<Probe>> {
    let get = |name: &str| {
        let key = format!("aliyun.probe.{name}");
        let value = labels.get(&key)?.trim();
        Some(Label { path: format!("{place}.{key}"), value })
    };
    let check = match (get("url"), get("cmd")) {
        (Some(url), Some(_)) => return Err(url.wrong("aliyun.probe.cmd stands beside it; a service has one probe")),
        (Some(url), None) => probe_url(&url)?,
        (None, Some(cmd)) if cmd.value.is_empty() => return Err(cmd.wrong("the command is missing")),
        (None, Some(cmd)) => ProbeCheck::Command(cmd.value.to_owned()),
        (None, None) => {
            if get("initial_delay_seconds").or(get("timeout_seconds")).is_some() {
                draft.notes.add(place, "aliyun.probe.… has no effect without aliyun.probe.url or aliyun.probe.cmd");
            }
            return Ok(None);
        }
    };
    let initial = get("initial_delay_seconds").map(|label| label.count(0, MAX_SECONDS)).transpose()?;
    let timeout = get("timeout_seconds").map(|label| label.count(1, MAX_SECONDS)).transpose()?;
    Ok(Some(Probe {
        check,
        initial_delay_seconds: initial.unwrap_or(0),
        timeout_seconds: timeout.unwrap_or(PROBE_TIMEOUT_SECONDS),
    }))
}

/// `http://container[:PORT][/PATH]` or `tcp://container:PORT`.
fn probe_url(label: &Label<'_>) -> Result<ProbeCheck> {
    let wrong =
        || label.wrong(format!("`{}` is neither http://container[:PORT]/PATH nor tcp://container:PORT", label.value));
    let (scheme, rest) = label.value.split_once("://").ok_or_else(wrong)?;
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port_number(port, label)?)),
        None => (authority, None),
    };
    if !host.eq_ignore_ascii_case("container") || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    match (scheme, port, path) {
        ("http", port, path) => {
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            Ok(ProbeCheck::Http { port: port.unwrap_or(80), path })
        }
        ("tcp", Some(port), "" | "/") => Ok(ProbeCheck::Tcp { port }),
        _ => Err(wrong()),
    }
}

fn auto_scaling(draft: &Draft<'_>, place: &str, labels: &BTreeMap<String, String>) -> Result<Option<AutoScaling>> {
    let get = |name: &str| {
        let key = format!("aliyun.auto_scaling.{name}");
        let value = labels.get(&key)?.trim();
        Some(Label { path: format!("{place}.{key}"), value })
    };
    if !labels.keys().any(|key| key.starts_with("aliyun.auto_scaling.")) {
        return Ok(None);
    }
    let percent = |name: &str| get(name).map(|label| label.percent()).transpose();
    let count = |name: &str| get(name).map(|label| label.count(1, MAX_SCALE)).transpose();
    let scaling = AutoScaling {
        max_cpu: percent("max_cpu")?,
        min_cpu: percent("min_cpu")?,
        max_memory: percent("max_memory")?,
        min_memory: percent("min_memory")?,
        step: count("step")?.unwrap_or(1),
        max_instances: count("max_instances")?,
        min_instances: count("min_instances")?.unwrap_or(1),
    };
    let wrong = |message: &str| Err(TemplateError::new(place, message));
    for (what, min, max) in
        [("cpu", scaling.min_cpu, scaling.max_cpu), ("memory", scaling.min_memory, scaling.max_memory)]
    {
        if let (Some(min), Some(max)) = (min, max)
            && min >= max
        {
            return wrong(&format!("aliyun.auto_scaling.min_{what} ({min}) must be below max_{what} ({max})"));
        }
    }
    if scaling.max_cpu.or(scaling.min_cpu).or(scaling.max_memory).or(scaling.min_memory).is_none() {
        return wrong("aliyun.auto_scaling.… needs a threshold: max_cpu, min_cpu, max_memory or min_memory");
    }
    if scaling.max_instances.is_some_and(|max| max < scaling.min_instances) {
        return wrong("aliyun.auto_scaling.max_instances is less than min_instances");
    }
    if draft.service.extensions.global {
        return wrong("aliyun.auto_scaling.… and one container on every node exclude each other");
    }
    Ok(Some(scaling))
}
