//! What is left in the kernel's network when a host leaves: links, routes, rules.

use std::collections::BTreeSet;

use super::{commands, preflight, state::Before};

/// Names of tables that we, kube-proxy and the port mapping plug-in make.
const TABLES: [&str; 3] = ["sampan", "kube-proxy", "cni_hostport"];
/// Tables that the compatible iptables makes as soon as anybody looks.
const COMPATIBLE: [&str; 4] = ["filter", "nat", "mangle", "raw"];
/// Beginnings of the chains of kubelet, kube-proxy and plug-ins in iptables.
const CHAINS: [&str; 3] = ["KUBE-", "CNI-", "SAMPAN-"];
/// Of the routes that the agent makes.
const ROUTE_PROTOCOL: &str = "83";

/// Removes it; returns what stays.
pub(crate) fn remove(before: &Before) -> Vec<String> {
    for link in new_links(before) {
        let _ = commands::run("ip", &["link", "delete", &link]);
    }
    for family in ["-4", "-6"] {
        let _ = commands::run("ip", &[family, "route", "flush", "table", "main", "proto", ROUTE_PROTOCOL]);
    }
    for tool in ["iptables", "ip6tables"] {
        clear_chains(tool);
    }
    for table in new_tables(before) {
        let mut words = vec!["delete", "table"];
        words.extend(table.split(' '));
        let _ = commands::run("nft", &words);
    }
    let links = new_links(before).into_iter().map(|link| format!("the network link {link}"));
    let tables = new_tables(before).into_iter().map(|table| format!("the nftables table {table}"));
    links.chain(tables).collect()
}

/// Links that were not there, of the kinds that pods bring.
fn new_links(before: &Before) -> Vec<String> {
    let is_ours = |link: &String| link == "cni0" || link == "kube-ipvs0" || link.starts_with("veth");
    preflight::links().into_iter().filter(|link| is_ours(link) && !before.links.contains(link)).collect()
}

fn new_tables(before: &Before) -> Vec<String> {
    ours(&preflight::tables(), &before.tables, |table| {
        let listing =
            commands::run("nft", &[&["list", "table"], table.split(' ').collect::<Vec<_>>().as_slice()].concat());
        listing.is_ok_and(|text| has_no_rule(&text))
    })
}

/// Of the tables, those that are ours: by name, or empty ones of the compatible iptables that were not there.
fn ours(now: &BTreeSet<String>, before: &BTreeSet<String>, is_empty: impl Fn(&str) -> bool) -> Vec<String> {
    let mine = |table: &&String| {
        let (family, name) = table.split_once(' ').unwrap_or(("", table));
        let compatible = matches!(family, "ip" | "ip6") && COMPATIBLE.contains(&name);
        TABLES.contains(&name) || (compatible && is_empty(table))
    };
    now.iter().filter(|table| !before.contains(*table)).filter(mine).cloned().collect()
}

/// Whether the listing of a table has chains at most.
fn has_no_rule(listing: &str) -> bool {
    listing.lines().map(str::trim).all(|line| {
        line.is_empty()
            || line == "}"
            || line.starts_with('#')
            || line.starts_with("table ")
            || line.starts_with("chain ")
            || line.starts_with("type ")
    })
}

/// Takes the chains of ours out of iptables, where there is any.
fn clear_chains(tool: &str) {
    let Ok(saved) = commands::run(&format!("{tool}-save"), &[]) else { return };
    let is_ours = |line: &str| CHAINS.iter().any(|chain| line.contains(chain));
    if !saved.lines().any(is_ours) {
        return;
    }
    let kept: String = saved.lines().filter(|line| !is_ours(line)).map(|line| format!("{line}\n")).collect();
    if let Err(error) = commands::run_with(&format!("{tool}-restore"), &[], &kept) {
        tracing::warn!(error, "rules of iptables could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_tables_go() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let before = set(&["inet filter", "ip mangle"]);
        let now = set(&["inet filter", "ip mangle", "ip sampan", "ip6 kube-proxy", "ip filter", "ip nat", "inet mine"]);
        assert_eq!(ours(&now, &before, |table| table == "ip filter"), ["ip filter", "ip sampan", "ip6 kube-proxy"]);
    }

    #[test]
    fn rules_are_told_from_chains() {
        let empty =
            "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n";
        assert!(has_no_rule(empty));
        assert!(!has_no_rule(&empty.replace("accept;\n", "accept;\n\t\tcounter packets 0 bytes 0 drop\n")));
    }
}
