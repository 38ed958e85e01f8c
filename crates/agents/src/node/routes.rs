//! Routes in the kernel. Those that the agent makes carry a protocol number of their own, so the kernel itself remembers
//! which ones are the agent's.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr, process::Command, time::Duration};

use ipnet::Ipv4Net;

use crate::{children::Children, spec::Route};

/// In the range that the kernel leaves to routing daemons and used by none that is known.
const PROTOCOL: &str = "83";
const TOOL_TIMEOUT: Duration = Duration::from_secs(10);
const PROC_ROUTES: &str = "/proc/net/route";

/// Makes the wanted routes and removes those that the agent made before and that are no longer wanted.
pub(crate) async fn apply(children: &Children, wanted: &[Route]) -> Result<(), String> {
    let listing = ip(children, &["-N", "-4", "route", "show", "table", "main", "proto", PROTOCOL], b"").await?;
    let batch = changes(&parse(&listing), wanted);
    if batch.is_empty() {
        return Ok(());
    }
    ip(children, &["-4", "-force", "-batch", "-"], batch.as_bytes()).await.map(|_| ())
}

/// Whether the kernel has all these routes; cheap enough to ask every few seconds.
pub(crate) fn are_present(wanted: &[Route]) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let Ok(table) = std::fs::read_to_string(PROC_ROUTES) else { return true };
    let present = parse_proc(&table);
    wanted.iter().all(|route| present.get(&route.destination.trunc()) == Some(&route.via))
}

async fn ip(children: &Children, arguments: &[&str], input: &[u8]) -> Result<String, String> {
    children
        .run(Command::new("ip").args(arguments), input, TOOL_TIMEOUT)
        .await
        .map_err(|error| format!("routes: {error}"))
}

/// The batch that turns `present` into `wanted`.
fn changes(present: &BTreeMap<Ipv4Net, Ipv4Addr>, wanted: &[Route]) -> String {
    let wanted: BTreeMap<Ipv4Net, Ipv4Addr> =
        wanted.iter().map(|route| (route.destination.trunc(), route.via)).collect();
    let mut batch = String::new();
    // Writing to a string does not fail.
    for destination in present.keys().filter(|destination| !wanted.contains_key(destination)) {
        let _ = writeln!(batch, "route del {destination} proto {PROTOCOL}");
    }
    for (destination, via) in wanted.iter().filter(|(destination, via)| present.get(destination) != Some(via)) {
        let _ = writeln!(batch, "route replace {destination} via {via} proto {PROTOCOL}");
    }
    batch
}

/// Reads the output of `ip route show`: `10.1.0.0/24 via 10.0.0.3 dev eth0 …`, a single host without its length.
fn parse(listing: &str) -> BTreeMap<Ipv4Net, Ipv4Addr> {
    let route = |line: &str| {
        let mut words = line.split_whitespace();
        let destination = words.next()?;
        let destination = match destination.parse::<Ipv4Net>() {
            Ok(net) => net,
            Err(_) if destination == "default" => Ipv4Net::default(),
            Err(_) => Ipv4Net::from(destination.parse::<Ipv4Addr>().ok()?),
        };
        let via = words.skip_while(|word| *word != "via").nth(1)?.parse().ok()?;
        Some((destination, via))
    };
    listing.lines().filter_map(route).collect()
}

/// Reads the kernel's own table: hexadecimal in host order.
fn parse_proc(table: &str) -> BTreeMap<Ipv4Net, Ipv4Addr> {
    let address = |text: &str| u32::from_str_radix(text, 16).ok().map(|raw| Ipv4Addr::from(raw.to_ne_bytes()));
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let destination = address(columns.get(1)?)?;
        let mask = address(columns.get(7)?)?;
        Some((Ipv4Net::with_netmask(destination, mask).ok()?, address(columns.get(2)?)?))
    };
    table.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, via: &str) -> Route {
        Route { destination: destination.parse().unwrap(), via: via.parse().unwrap() }
    }

    #[test]
    fn only_differences_are_made() {
        let listing =
            "10.1.0.0/24 via 10.0.0.2 dev eth0 \n10.2.0.0/24 via 10.0.0.3 dev eth0 \n10.9.0.7 via 10.0.0.9 dev eth0 \n";
        let wanted =
            [route("10.1.0.0/24", "10.0.0.2"), route("10.2.0.0/24", "10.0.0.4"), route("10.3.0.1/24", "10.0.0.5")];
        assert_eq!(
            changes(&parse(listing), &wanted),
            "route del 10.9.0.7/32 proto 83\n\
             route replace 10.2.0.0/24 via 10.0.0.4 proto 83\n\
             route replace 10.3.0.0/24 via 10.0.0.5 proto 83\n"
        );
        assert_eq!(changes(&parse(listing), &[]).lines().count(), 3);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0001010A\t0200000A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let present = parse_proc(table);
        assert_eq!(present.get(&"10.1.1.0/24".parse().unwrap()), Some(&"10.0.0.2".parse().unwrap()));
        assert_eq!(present.get(&"0.0.0.0/0".parse().unwrap()), Some(&"10.0.0.1".parse().unwrap()));
    }
}
