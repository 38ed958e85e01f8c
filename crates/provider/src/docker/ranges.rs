//! Which addresses are taken on this host by others.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::{
    engine::Engine,
    network::{bridge_of, ranges},
};
use crate::ProviderError;

/// A route shorter than this is a default route in disguise (VPNs use 0.0.0.0/1 and 128.0.0.0/1): it says where
/// everything goes, not what is taken.
const PREFIX_LEN_MIN: u8 = 8;

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    range: Ipv4Net,
    device: String,
}

impl Engine {
    /// Ranges of networks that are not ours, and of the host's routes that do not lead to ours.
    pub(super) async fn foreign_ranges(&self) -> Result<Vec<Ipv4Net>, ProviderError> {
        let (ours, others): (Vec<_>, Vec<_>) =
            self.networks().await?.into_iter().partition(|network| self.owns(network.labels.as_ref()));
        let our_bridges: Vec<String> = ours.iter().filter_map(bridge_of).collect();
        let routes = host_routes().await?;
        let routed = routes.into_iter().filter(|route| !our_bridges.contains(&route.device)).map(|route| route.range);
        let of_networks = others.iter().flat_map(|network| ranges(network.ipam.as_ref()));
        let all: BTreeSet<Ipv4Net> = routed
            .chain(of_networks)
            .filter(|range| range.prefix_len() >= PREFIX_LEN_MIN)
            .map(|range| range.trunc())
            .collect();
        Ok(all.into_iter().collect())
    }
}

/// The routes of all tables (VPNs keep their own), or at least those of the main one.
async fn host_routes() -> Result<Vec<Route>, ProviderError> {
    let ip = tokio::process::Command::new("ip")
        .args(["-4", "-j", "route", "show", "table", "all"])
        .kill_on_drop(true)
        .output();
    if let Ok(Ok(output)) = tokio::time::timeout(std::time::Duration::from_secs(5), ip).await
        && output.status.success()
        && let Some(routes) = parse_ip_json(&output.stdout)
    {
        return Ok(routes);
    }
    let table = tokio::fs::read_to_string("/proc/net/route").await.map_err(|error| {
        ProviderError::Failed(format!("cannot read the host's routes from /proc/net/route: {error}"))
    })?;
    Ok(parse_proc(&table))
}

#[derive(Deserialize)]
struct IpRoute {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    dst: String,
    #[serde(default)]
    dev: String,
}

/// What `ip -j route` prints. Local and broadcast entries are single addresses inside ranges that have a route.
fn parse_ip_json(output: &[u8]) -> Option<Vec<Route>> {
    let routes: Vec<IpRoute> = serde_json::from_slice(output).ok()?;
    let unicast = routes.into_iter().filter(|route| {
        let kind = route.kind.as_deref().unwrap_or("unicast");
        !["local", "broadcast", "multicast", "anycast"].contains(&kind)
    });
    let parsed = unicast.filter_map(|route| {
        let range = match route.dst.parse::<Ipv4Addr>() {
            Ok(host) => Ipv4Net::from(host),
            Err(_) => route.dst.parse().ok()?,
        };
        Some(Route { range, device: route.dev })
    });
    Some(parsed.collect())
}

/// `/proc/net/route`: addresses and masks in hexadecimal, in the byte order of the machine.
fn parse_proc(table: &str) -> Vec<Route> {
    let mut routes = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(device), Some(destination), Some(mask)) = (fields.first(), fields.get(1), fields.get(7)) else {
            continue;
        };
        let (Some(destination), Some(mask)) = (native_address(destination), native_address(mask)) else {
            continue;
        };
        if let Ok(range) = Ipv4Net::with_netmask(destination, mask) {
            routes.push(Route { range, device: (*device).to_owned() });
        }
    }
    routes
}

fn native_address(hex: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(hex, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(range: &str, device: &str) -> Route {
        Route { range: range.parse().unwrap(), device: device.to_owned() }
    }

    #[test]
    fn ip_prints_hosts_without_a_prefix_and_defaults_by_name() {
        let output = br#"[
            {"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},
            {"dst":"172.17.0.0/16","dev":"docker0","protocol":"kernel","scope":"link"},
            {"dst":"100.64.0.7","dev":"tun0","table":"52"},
            {"type":"blackhole","dst":"10.9.0.0/16","flags":[]},
            {"type":"local","dst":"127.0.0.0/8","dev":"lo","table":"local"}
        ]"#;
        let expected = [route("172.17.0.0/16", "docker0"), route("100.64.0.7/32", "tun0"), route("10.9.0.0/16", "")];
        assert_eq!(parse_ip_json(output).unwrap(), expected);
        assert_eq!(parse_ip_json(b"not json"), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_kernels_table_is_read() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     short line\n";
        assert_eq!(parse_proc(table), [route("0.0.0.0/0", "eth0"), route("172.17.0.0/16", "docker0")]);
    }

    proptest! {
        #[test]
        fn no_table_makes_it_fail(table in "\\PC*", lines in proptest::collection::vec("[a-z0-9A-F\t ]{0,60}", 0..8)) {
            parse_proc(&table);
            parse_proc(&lines.join("\n"));
            parse_ip_json(table.as_bytes());
        }
    }
}
