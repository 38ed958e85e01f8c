//! Ports that are exposed and published.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Draft;
use crate::compose::{error::Result, field::Field, limits::MAX_PORTS};

/// A range of ports; one port is a range of it alone.
#[derive(Clone, Copy)]
struct Range {
    first: u16,
    last: u16,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let port =
            |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0 && text.bytes().all(|b| b.is_ascii_digit()));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        (first <= last).then_some(Self { first, last })
    }
    fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

/// What is published, ranges not yet expanded.
struct Publication {
    ip: String,
    host: Option<Range>,
    container: Range,
    protocol: String,
}

pub(super) fn expose(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for item in field.items()? {
        let text = item.scalar()?.unwrap_or_default();
        let (range, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let range =
            Range::parse(range).ok_or_else(|| item.wrong(format!("`{text}` is not a port; write 80 or 80/tcp")))?;
        let protocol = known_protocol(&item, protocol)?;
        bounded(draft, &item, range.len())?;
        for port in range.first..=range.last {
            exposed(draft, port, &protocol);
        }
    }
    Ok(())
}

pub(super) fn ports(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for item in field.items()? {
        let publication = match item.value {
            Value::Object(_) => long(draft, &item)?,
            Value::Number(_) => short(&item, &item.integer(1..=65_535)?.to_string())?,
            Value::String(_) => short(&item, item.filled()?)?,
            _ => return Err(item.wrong("a port was expected: 80, \"8080:80\", or a map with `target`")),
        };
        publish(draft, &item, &publication)?;
    }
    Ok(())
}

/// `[[IP:][HOST[-HOST]]:]CONTAINER[-CONTAINER][/PROTOCOL]`.
fn short(item: &Field<'_>, text: &str) -> Result<Publication> {
    let wrong = || {
        item.wrong(format!(
            "`{text}` is not a port mapping: [[IP:]HOST_PORT:]CONTAINER_PORT[/tcp|udp|sctp], ports from 1 to 65535"
        ))
    };
    let (mapping, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, container) =
        mapping.rsplit_once(':').map_or((None, mapping), |(rest, container)| (Some(rest), container));
    let container = Range::parse(container).ok_or_else(wrong)?;
    let (ip, host) = match rest {
        None => ("", ""),
        Some(rest) => rest.rsplit_once(':').unwrap_or(("", rest)),
    };
    let host = if host.is_empty() { None } else { Some(Range::parse(host).ok_or_else(wrong)?) };
    Ok(Publication { ip: host_ip(item, ip)?, host, container, protocol: known_protocol(item, protocol)? })
}

fn long(draft: &mut Draft<'_>, item: &Field<'_>) -> Result<Publication> {
    item.keys(&["app_protocol", "host_ip", "mode", "name", "protocol", "published", "target"])?;
    let target = item.get("target").ok_or_else(|| item.wrong("`target`, the container's port, is missing"))?;
    let range = |field: &Field<'_>| {
        let text = field.scalar()?.unwrap_or_default();
        Range::parse(&text).ok_or_else(|| field.wrong(format!("`{text}` is not a port from 1 to 65535")))
    };
    let container = range(&target)?;
    let published =
        item.get("published").filter(|field| !matches!(field.value.as_str(), Some("")) && field.value != &json!(0));
    let host = published.as_ref().map(range).transpose()?;
    let ip = item.get("host_ip").map(|field| field.text().and_then(|ip| host_ip(&field, ip))).transpose()?;
    let protocol = match item.get("protocol") {
        Some(field) => known_protocol(&field, field.filled()?)?,
        None => "tcp".to_owned(),
    };
    if let Some(mode) = item.get("mode") {
        match mode.filled()? {
            "host" => {}
            "ingress" => {
                draft.note(&mode, "a port is open on the nodes that run a container of the service, as with `host`")
            }
            other => return Err(mode.wrong(format!("`{other}` is neither host nor ingress"))),
        }
    }
    draft.note_keys(item, &["app_protocol"]);
    Ok(Publication { ip: ip.unwrap_or_default(), host, container, protocol })
}

fn publish(draft: &mut Draft<'_>, item: &Field<'_>, publication: &Publication) -> Result<()> {
    let Publication { ip, host, container, protocol } = publication;
    let container_len = container.len();
    bounded(draft, item, container_len)?;
    if let Some(host) = host
        && host.len() != container_len
        && container_len != 1
    {
        return Err(item.wrong(format!(
            "{} ports of the host cannot be mapped to {container_len} of the container; the ranges must be equally long",
            host.len()
        )));
    }
    for (at, port) in (container.first..=container.last).enumerate() {
        let host_port = match host {
            None => String::new(),
            Some(range) if container_len == 1 && range.len() > 1 => format!("{}-{}", range.first, range.last),
            Some(range) => (usize::from(range.first) + at).to_string(),
        };
        exposed(draft, port, protocol);
        let binding = json!({"HostIp": ip, "HostPort": host_port});
        let bindings = draft.host.entry("PortBindings").or_insert_with(|| json!({}));
        let key = format!("{port}/{protocol}");
        if let Some(list) = bindings.as_object_mut().map(|map| map.entry(key).or_insert_with(|| json!([])))
            && let Some(list) = list.as_array_mut()
            && !list.contains(&binding)
        {
            list.push(binding);
        }
    }
    Ok(())
}

fn exposed(draft: &mut Draft<'_>, port: u16, protocol: &str) {
    let ports = draft.config.entry("ExposedPorts").or_insert_with(|| json!({}));
    if let Some(ports) = ports.as_object_mut() {
        ports.insert(format!("{port}/{protocol}"), json!({}));
    }
}

fn bounded(draft: &Draft<'_>, item: &Field<'_>, more: usize) -> Result<()> {
    let have = draft.config.get("ExposedPorts").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    if have + more > MAX_PORTS {
        return Err(item.wrong(format!("the service has more than {MAX_PORTS} ports")));
    }
    Ok(())
}

fn known_protocol(item: &Field<'_>, protocol: &str) -> Result<String> {
    let lower = protocol.to_ascii_lowercase();
    if matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
        return Ok(lower);
    }
    Err(item.wrong(format!("`{protocol}` is none of the protocols tcp, udp, sctp")))
}

fn host_ip(item: &Field<'_>, ip: &str) -> Result<String> {
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if bare.is_empty() || bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    Err(item.wrong(format!("`{ip}` is not an IP address of a node")))
}
