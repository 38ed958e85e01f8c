#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::table::Group as TableGroup, *};

fn backend(id: &str) -> table::Backend {
    table::Backend { id: id.to_owned(), address: SocketAddr::from(([10, 0, 0, 1], 80)) }
}

fn group(service: &str, weight: u32, ids: &[&str]) -> TableGroup {
    TableGroup { service: service.to_owned(), weight, backends: ids.iter().map(|id| backend(id)).collect() }
}

fn route(host: &str, path: &str, groups: Vec<TableGroup>) -> table::Route {
    table::Route { host: host.to_owned(), path: path.to_owned(), groups, sticky: false }
}

fn routes(all: Vec<table::Route>, before: Option<&Routes>) -> Arc<Routes> {
    Routes::new(&RouteTable { revision: 1, routes: all, tcp: Vec::new() }, before).0
}

fn chosen(route: &Route, tried: &mut Tried) -> Option<String> {
    route.choose(std::iter::empty(), tried).map(|choice| choice.backend.id.clone())
}

#[test]
fn backends_services_and_turns_outlive_a_table() {
    let before = routes(vec![route("a", "/", vec![group("p_a", 1, &["x", "y"])])], None);
    let first = before.find("a", "/").unwrap();
    assert_eq!(chosen(first, &mut Tried::default()).unwrap(), "x");
    let after = routes(vec![route("A", "", vec![group("p_a", 1, &["y", "z"])])], Some(&before));
    let second = after.find("a", "/").unwrap();
    assert_eq!(second.turns.next(), 1);
    assert!(Arc::ptr_eq(&first.groups[0].backends[1], &second.groups[0].backends[0]));
    assert!(Arc::ptr_eq(&first.groups[0].service, &second.groups[0].service));
    let gone: Vec<String> = before.without(&after).iter().map(|backend| backend.id.clone()).collect();
    assert_eq!(gone, ["x"]);
}

#[test]
fn services_that_share_a_domain_are_groups_of_one_route() {
    let all =
        vec![route("a", "/x", vec![group("p_one", 1, &["x"])]), route("a", "/x/", vec![group("p_two", 1, &["y"])])];
    let routes = routes(all, None);
    let route = routes.find("a", "/x").unwrap();
    let two = [chosen(route, &mut Tried::default()).unwrap(), chosen(route, &mut Tried::default()).unwrap()];
    assert_eq!(two, ["x", "y"]);
}

#[test]
fn what_was_tried_is_not_chosen_again_and_what_cannot_be_reached_comes_last() {
    let routes = routes(vec![route("a", "/", vec![group("p_a", 90, &["x", "y"]), group("p_b", 10, &["z"])])], None);
    let route = routes.find("a", "/").unwrap();
    let mut tried = Tried::default();
    let mut order = Vec::new();
    while let Some(choice) = route.choose(std::iter::empty(), &mut tried) {
        order.push(choice.backend.id.clone());
        tried.add(choice.backend);
    }
    assert_eq!(order, ["x", "y", "z"]);
    for shunned in &route.groups[0].backends {
        shunned.failed();
    }
    assert_eq!(chosen(route, &mut Tried::default()).unwrap(), "z");
    route.groups[1].backends[0].failed();
    assert!(chosen(route, &mut Tried::default()).is_some());
    route.groups[0].backends[1].succeeded();
    assert_eq!(chosen(route, &mut Tried::default()).unwrap(), "y");
}

#[tokio::test]
async fn a_table_is_released_when_nobody_holds_it() {
    let (routes, mut released) = Routes::new(&RouteTable::default(), None);
    let held = Arc::clone(&routes);
    drop(routes);
    assert!(released.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
    drop(held);
    assert!(released.await.is_err());
}

/// What is documented, word for word.
fn expected<'a>(all: &'a [(String, String)], host: &str, path: &str) -> Option<&'a str> {
    let matches = |prefix: &str| {
        let prefix = prefix.trim_end_matches('/');
        path == prefix || path.starts_with(&format!("{prefix}/")) || prefix.is_empty()
    };
    let mut found: Vec<&(String, String)> =
        all.iter().filter(|(one, prefix)| one.eq_ignore_ascii_case(host) && matches(prefix)).collect();
    found.sort_by_key(|(_, prefix)| prefix.trim_end_matches('/').len());
    found.last().map(|(_, prefix)| prefix.trim_end_matches('/'))
}

proptest! {
    #[test]
    fn the_longest_prefix_of_the_host_wins(
        all in prop::collection::vec(("[aAb]\\.(x|y)", "(/[ab]{1,2}){0,3}/?"), 0..12),
        host in "[ab]\\.(x|y)",
        path in "(/[ab]{0,3}){1,4}",
    ) {
        let table = all.iter().map(|(host, path)| route(host, path, vec![group("s", 1, &["x"])])).collect();
        let routes = routes(table, None);
        let found = routes.find(&host, &path).map(|route| route.prefix.as_str());
        prop_assert_eq!(found, expected(&all, &host, &path));
    }

    #[test]
    fn shares_are_exact_whatever_the_groups(
        weights in prop::collection::vec((0u32..=20, 0usize..4), 1..5),
        rounds in 1usize..4,
    ) {
        let names: Vec<Vec<String>> = weights
            .iter()
            .enumerate()
            .map(|(index, (_, count))| (0..*count).map(|number| format!("{index}-{number}")).collect())
            .collect();
        let groups = weights.iter().zip(&names).enumerate().map(|(index, ((weight, _), names))| {
            let ids: Vec<&str> = names.iter().map(String::as_str).collect();
            group(&index.to_string(), *weight, &ids)
        });
        let routes = routes(vec![route("a", "/", groups.collect())], None);
        let route = routes.find("a", "/x").unwrap();
        let sum: u32 = weights.iter().filter(|(_, count)| *count > 0).map(|(weight, _)| weight).sum();
        let mut seen: BTreeMap<usize, u32> = BTreeMap::new();
        for _ in 0..sum as usize * rounds {
            let id = chosen(route, &mut Tried::default()).unwrap();
            *seen.entry(id.split('-').next().unwrap().parse().unwrap()).or_default() += 1;
        }
        for (index, (weight, count)) in weights.iter().enumerate() {
            let share = if *count == 0 { 0 } else { weight * rounds as u32 };
            prop_assert_eq!(seen.get(&index).copied().unwrap_or(0), share);
        }
        if sum == 0 {
            prop_assert!(chosen(route, &mut Tried::default()).is_none());
        }
    }
}
