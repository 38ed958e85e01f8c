//! Networks and volumes: what is declared, and whether it fits what services use.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    error::{Notes, Result, TemplateError},
    field::{Field, object},
    names::is_docker_name,
    template::{Attachment, Network, Template, Volume},
};
use crate::model::CLUSTER_NETWORK;

/// Network that services join if they name none.
const DEFAULT: &str = "default";

/// Reads `networks`.
pub(super) fn networks(value: &Value, notes: &mut Notes) -> Result<BTreeMap<String, Network>> {
    let mut networks = BTreeMap::new();
    for (key, field) in section("networks", value)? {
        let mut network = Network::default();
        if !field.value.is_null() {
            network_of(&mut network, key, &field, notes)?;
        }
        networks.insert(key.to_owned(), network);
    }
    Ok(networks)
}

fn network_of(network: &mut Network, key: &str, field: &Field<'_>, notes: &mut Notes) -> Result<()> {
    field.keys(&[
        "attachable",
        "driver",
        "driver_opts",
        "enable_ipv4",
        "enable_ipv6",
        "external",
        "internal",
        "ipam",
        "labels",
        "name",
    ])?;
    network.name = name(field)?;
    network.external = external(field, key, &["driver", "driver_opts", "internal", "ipam", "labels"])?;
    if network.external.is_some() {
        network.name = None;
        return Ok(());
    }
    if let Some(driver) = field.get("driver") {
        network.driver = Some(driver.filled()?.to_owned()).filter(|driver| driver != "bridge" && driver != "default");
    }
    if let Some(options) = field.get("driver_opts") {
        network.options = options.options()?;
    }
    if let Some(labels) = field.get("labels") {
        network.labels = labels.filled_pairs()?;
    }
    network.internal = field.get("internal").map_or(Ok(false), |internal| internal.boolean())?;
    network.ipam = field.get("ipam").map(|ipam| self::ipam(&ipam, notes)).transpose()?;
    for key in ["enable_ipv4", "enable_ipv6"] {
        if let Some(entry) = field.get(key) {
            notes.add(&entry.path, "has no effect here");
        }
    }
    Ok(())
}

/// `ipam` in Docker's spelling.
fn ipam(field: &Field<'_>, notes: &mut Notes) -> Result<Value> {
    field.keys(&["config", "driver", "options"])?;
    let mut ipam = Map::new();
    let driver = field.get("driver").map_or(Ok("default"), |driver| driver.filled())?;
    ipam.insert("Driver".to_owned(), json!(driver));
    if let Some(options) = field.get("options") {
        ipam.insert("Options".to_owned(), object(options.options()?));
    }
    let mut configs = Vec::new();
    let items = field.get("config").map_or(Ok(Vec::new()), |config| config.items())?;
    for item in items {
        item.keys(&["aux_addresses", "gateway", "ip_range", "subnet"])?;
        let mut config = Map::new();
        for (key, name) in [("subnet", "Subnet"), ("ip_range", "IPRange")] {
            if let Some(range) = item.get(key) {
                let text = range.filled()?;
                let range = text
                    .parse::<ipnet::IpNet>()
                    .map_err(|_| range.wrong(format!("`{text}` is not a range such as 10.9.0.0/24")))?;
                config.insert(name.to_owned(), json!(range.to_string()));
            }
        }
        if let Some(gateway) = item.get("gateway") {
            let text = gateway.filled()?;
            text.parse::<std::net::IpAddr>().map_err(|_| gateway.wrong(format!("`{text}` is not an IP address")))?;
            config.insert("Gateway".to_owned(), json!(text));
        }
        if let Some(aux) = item.get("aux_addresses") {
            config.insert("AuxiliaryAddresses".to_owned(), object(aux.options()?));
        }
        configs.push(Value::Object(config));
    }
    if configs.is_empty() && driver == "default" {
        notes.add(&field.path, "says nothing and has no effect");
    }
    ipam.insert("Config".to_owned(), Value::Array(configs));
    Ok(Value::Object(ipam))
}

/// Reads `volumes`.
pub(super) fn volumes(value: &Value) -> Result<BTreeMap<String, Volume>> {
    let mut volumes = BTreeMap::new();
    for (key, field) in section("volumes", value)? {
        let mut volume = Volume::default();
        if !field.value.is_null() {
            field.keys(&["driver", "driver_opts", "external", "labels", "name"])?;
            volume.external = external(&field, key, &["driver", "driver_opts", "labels"])?;
            volume.name = name(&field)?.filter(|_| volume.external.is_none());
            volume.driver = field.get("driver").map(|driver| driver.filled().map(str::to_owned)).transpose()?;
            volume.options = field.get("driver_opts").map_or(Ok(BTreeMap::new()), |options| options.options())?;
            volume.labels = field.get("labels").map_or(Ok(BTreeMap::new()), |labels| labels.filled_pairs())?;
        }
        volumes.insert(key.to_owned(), volume);
    }
    Ok(volumes)
}

fn section<'a>(path: &str, value: &'a Value) -> Result<Vec<(&'a str, Field<'a>)>> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let entries = Field::new(path, value).entries()?;
    match entries.iter().find(|(key, _)| !is_docker_name(key)) {
        Some((key, field)) => Err(field.wrong(format!("`{key}` is not a name: letters, digits, `.`, `_` and `-`"))),
        None => Ok(entries),
    }
}

fn name(field: &Field<'_>) -> Result<Option<String>> {
    let Some(name) = field.get("name") else { return Ok(None) };
    let text = name.filled()?;
    if is_docker_name(text) {
        return Ok(Some(text.to_owned()));
    }
    Err(name.wrong(format!("`{text}` is not a name: letters, digits, `.`, `_` and `-`")))
}

/// `external: true`, or the older `external: {name: NAME}`.
fn external(field: &Field<'_>, key: &str, excluded: &[&str]) -> Result<Option<String>> {
    let Some(external) = field.get("external") else { return Ok(None) };
    let own = self::name(field)?;
    let named = if external.value.is_object() {
        external.keys(&["name"])?;
        let inner = self::name(&external)?;
        if inner.is_some() && own.is_some() {
            return Err(external.wrong("its name stands in two places; write `external: true` and `name`"));
        }
        inner.or(own)
    } else if external.boolean()? {
        own
    } else {
        return Ok(None);
    };
    if let Some(other) = excluded.iter().find_map(|key| field.get(key)) {
        return Err(other.wrong("has no meaning for what is external: it was made elsewhere"));
    }
    Ok(Some(named.unwrap_or_else(|| key.to_owned())))
}

/// Compares what services use with what is declared.
pub(super) fn settle(template: &mut Template, path: &str, notes: &mut Notes) -> Result<()> {
    for (name, service) in &template.services {
        for (volume, ..) in &service.volumes {
            if !template.volumes.contains_key(volume) {
                let message =
                    format!("the volume `{volume}` is not declared; put it under `volumes:` at the top level");
                return Err(TemplateError::new(format!("{path}.{name}.volumes"), message));
            }
        }
        for network in service.networks.keys() {
            if network != DEFAULT && !template.networks.contains_key(network) {
                let message =
                    format!("the network `{network}` is not declared; put it under `networks:` at the top level");
                return Err(TemplateError::new(format!("{path}.{name}.networks"), message));
            }
        }
    }
    settle_default(template);
    let services = &template.services;
    template.networks.retain(|name, _| {
        let used = services.values().any(|service| service.networks.contains_key(name));
        if !used {
            notes.add(&format!("networks.{name}"), "no service uses it; it is not made");
        }
        used
    });
    Ok(())
}

/// The network `default` is the cluster's, unless the template makes something particular of it.
fn settle_default(template: &mut Template) {
    let declared = template.networks.remove(DEFAULT);
    let particular = declared.filter(|network| {
        let overlay = network.driver.as_deref().is_none_or(|driver| driver == "overlay");
        let plain = Network { driver: None, labels: BTreeMap::new(), ..network.clone() } == Network::default();
        let cluster = network.external.as_deref() == Some(CLUSTER_NETWORK);
        !(cluster || overlay && plain)
    });
    let is_particular = particular.is_some();
    let mut used = false;
    for service in template.services.values_mut() {
        let shares = service.network_of.is_some() || service.container.pointer("/HostConfig/NetworkMode").is_some();
        if is_particular {
            if service.networks.is_empty() && !shares {
                service.networks.insert(DEFAULT.to_owned(), Attachment::default());
            }
        } else if service.networks.len() == 1 && service.networks.get(DEFAULT) == Some(&Attachment::default()) {
            service.networks.clear();
        }
        used |= service.networks.contains_key(DEFAULT);
    }
    if used {
        let cluster = || Network { external: Some(CLUSTER_NETWORK.to_owned()), ..Network::default() };
        template.networks.insert(DEFAULT.to_owned(), particular.unwrap_or_else(cluster));
    }
}
