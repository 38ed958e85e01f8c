//! The documented examples, and properties over random clusters.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use jiff::Timestamp;
use proptest::{arbitrary::any, prelude::prop, prop_assert, prop_assert_eq, proptest, strategy::Strategy as Generator};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::Value;

use super::{Expression, Expressions, Request, StatusCode, Strategy, place};
use crate::model::{Container, ContainerState, Image, Node, NodeHealth, Refusal, View, labels};

const GIB: u64 = 1 << 30;

fn node(index: u32) -> Node {
    Node {
        id: format!("i-{index}"),
        name: format!("cn-x.10.0.0.{index}"),
        ip: Ipv4Addr::new(10, 0, 0, u8::try_from(index).unwrap_or(255)),
        index,
        labels: BTreeMap::from([("zone".to_owned(), format!("z{}", index % 2))]),
        health: NodeHealth::Healthy,
        error: None,
        schedulable: true,
        cpus: 4,
        memory: 8 * GIB,
        engine_version: "20.10.24".to_owned(),
        storage_driver: "overlay2".to_owned(),
        execution_driver: "runc".to_owned(),
        kernel_version: "6.1.0-13-amd64".to_owned(),
        operating_system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        images: Vec::new(),
        volumes: BTreeSet::new(),
    }
}

fn container(name: &str, node: &Node) -> Container {
    Container {
        id: format!("{name}-id"),
        name: name.to_owned(),
        node: node.name.clone(),
        image: "busybox".to_owned(),
        image_id: String::new(),
        state: ContainerState::Running,
        exit_code: 0,
        health: None,
        created: Timestamp::UNIX_EPOCH,
        started: None,
        labels: BTreeMap::new(),
        env: Vec::new(),
        networks: BTreeMap::new(),
        host_ports: BTreeSet::new(),
        host_network: false,
        exposed_ports: BTreeSet::new(),
        memory: 0,
        nano_cpus: 0,
        volumes: BTreeSet::new(),
        inspect: Arc::new(Value::Null),
    }
}

fn view(nodes: &[Node], containers: Vec<Container>) -> View {
    View {
        revision: 1,
        nodes: nodes.iter().cloned().map(Arc::new).collect(),
        containers: containers.into_iter().map(Arc::new).collect(),
    }
}

fn expressions(constraints: &[&str], affinities: &[&str]) -> Expressions {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Expressions::parse(&owned(constraints), &owned(affinities), &[]).unwrap()
}

fn at(view: &View, request: &Request) -> Result<String, Refusal> {
    place(view, &[], request, Strategy::Spread, &mut StdRng::seed_from_u64(1))
}

fn constrained(constraint: &str) -> Request {
    Request { expressions: expressions(&[constraint], &[]), ..Request::default() }
}

/// Indices of the nodes that a constraint admits.
fn admitted(nodes: &[Node], constraint: &str) -> Vec<u32> {
    let request = constrained(constraint);
    let fits = |node: &&Node| at(&view(std::slice::from_ref(node), Vec::new()), &request).is_ok();
    nodes.iter().filter(fits).map(|node| node.index).collect()
}

#[test]
fn constraints_as_documented() {
    let nodes: Vec<Node> = (1..=4).map(node).collect();
    for (constraint, expected) in [
        ("aliyun.node_index==2", vec![2]),
        ("aliyun.node_index!=2", vec![1, 3, 4]),
        ("aliyun.node_index==(1|3)", vec![1, 3]),
        ("aliyun.node_index!=(1|2|3)", vec![4]),
        ("node==cn-x.10.0.0.3", vec![3]),
        ("node==i-1", vec![1]),
        ("node==10.0.0.4", vec![4]),
        ("node==cn-x.10.0.0.*", vec![1, 2, 3, 4]),
        ("node==/0\\.[12]$/", vec![1, 2]),
        ("node==/(?i)CN-X.*4/", vec![4]),
        ("zone==z0", vec![2, 4]),
        ("zone!=z0", vec![1, 3]),
        ("zone==z*", vec![1, 2, 3, 4]),
        ("storagedriver==overlay2", vec![1, 2, 3, 4]),
        ("storagedriver!=overlay2", vec![]),
        ("kernelversion==/^6/", vec![1, 2, 3, 4]),
        ("kernelversion==5.*", vec![]),
        ("operatingsystem==*Debian*", vec![1, 2, 3, 4]),
        ("executiondriver==runc", vec![1, 2, 3, 4]),
        ("absent==x", vec![]),
        ("absent!=x", vec![1, 2, 3, 4]),
        ("zone==~nowhere", vec![1, 2, 3, 4]),
    ] {
        assert_eq!(admitted(&nodes, constraint), expected, "{constraint}");
    }
}

#[test]
fn wrong_expressions_are_refused_in_words() {
    for text in ["", "==", "a==", "==b", "a=b", "a~b", "a==\n", "a b==c", "node==/(/"] {
        assert!(Expression::parse(text).is_err(), "{text:?}");
    }
    assert!(Expression::parse(&format!("a=={}", "x".repeat(600))).is_err());
    assert!(Expression::parse("a==(b").is_ok_and(|word| word.holds(["(b"])), "an unbalanced bracket is itself");
}

#[test]
fn affinities_as_documented() {
    let nodes: Vec<Node> = (1..=3)
        .map(|index| {
            let mut node = node(index);
            if index == 3 {
                node.images = vec![Image { id: "sha256:abc".to_owned(), tags: vec!["host:5000/redis:7".to_owned()] }];
            }
            node
        })
        .collect();
    let mut front = container("front", &nodes[1]);
    front.labels.insert("tier".to_owned(), "front".to_owned());
    let mut db = container("shop_db_1", &nodes[0]);
    db.labels.insert(labels::PROJECT.to_owned(), "shop".to_owned());
    db.labels.insert(labels::SERVICE.to_owned(), "shop_db".to_owned());
    let cluster = view(&nodes, vec![front, db]);
    for (affinity, expected) in [
        ("container==front", Some(2)),
        ("container==front-id", Some(2)),
        ("image==host:5000/redis", Some(3)),
        ("image==host:5000/redis:7", Some(3)),
        ("image==*redis*", Some(3)),
        ("image==~nothing", Some(3)),
        ("service==db", Some(1)),
        ("service==shop_db", Some(1)),
        ("tier==front", Some(2)),
        ("tier==back", None),
        ("container!=*", Some(3)),
    ] {
        let request = Request { expressions: expressions(&[], &[affinity]), ..Request::default() };
        let chosen = at(&cluster, &request).ok();
        let expected = expected.map(|index: u32| format!("cn-x.10.0.0.{index}"));
        assert_eq!(chosen, expected, "{affinity}");
    }
    let away = Request { expressions: expressions(&[], &["service!=db"]), ..Request::default() };
    assert_ne!(at(&cluster, &away).unwrap(), nodes[0].name);
}

#[test]
fn refusals_say_what_excluded_which_node() {
    let nodes: Vec<Node> = (1..=2).map(node).collect();
    let mut taken = container("web", &nodes[0]);
    taken.host_ports.insert(("tcp".to_owned(), String::new(), 80));
    let mut request = constrained("zone==z1");
    request.host_ports.insert(("tcp".to_owned(), "10.0.0.1".to_owned(), 80));
    let refusal = at(&view(&nodes, vec![taken]), &request).unwrap_err();
    assert_eq!(refusal.status, StatusCode::CONFLICT);
    for words in [
        "Unable to find a node that satisfies the following conditions",
        "[port 80/tcp (Bridge mode)]",
        "[constraint:zone==z1 (soft=false)]",
        "cn-x.10.0.0.1: port 80/tcp is taken by web",
        "cn-x.10.0.0.2: constraint:zone==z1",
    ] {
        assert!(refusal.message.contains(words), "{words} is not in {}", refusal.message);
    }
    let huge = Request { memory: 100 * GIB, ..Request::default() };
    assert!(at(&view(&nodes, Vec::new()), &huge).unwrap_err().message.starts_with("no resources available"));
    let mut dead = nodes[0].clone();
    dead.health = NodeHealth::Unhealthy;
    dead.error = Some("no route".to_owned());
    let refusal = at(&view(&[dead], Vec::new()), &Request::default()).unwrap_err();
    assert!(refusal.message.starts_with("No healthy node available in the cluster"), "{}", refusal.message);
    assert!(refusal.message.contains("no route"));
}

#[test]
fn dependencies_slots_and_data_keep_their_node() {
    let mut nodes: Vec<Node> = (1..=3).map(node).collect();
    nodes[2].volumes.insert("data".to_owned());
    nodes[0].labels.insert("containerslots".to_owned(), "1".to_owned());
    let cluster = view(&nodes, vec![container("db", &nodes[1]), container("x", &nodes[0])]);
    let linked = Request { dependencies: vec![("--link=db".to_owned(), "db-id".to_owned())], ..Request::default() };
    assert_eq!(at(&cluster, &linked).unwrap(), nodes[1].name);
    let with_data = Request { volumes: BTreeSet::from(["data".to_owned()]), ..Request::default() };
    assert_eq!(at(&cluster, &with_data).unwrap(), nodes[2].name);
    let full = Request { expressions: expressions(&["aliyun.node_index==1"], &[]), ..Request::default() };
    assert!(at(&cluster, &full).unwrap_err().message.contains("all of its 1 container slots are taken"));
}

#[test]
fn binpack_fills_one_node_before_the_next() {
    let nodes: Vec<Node> = (1..=3).map(node).collect();
    let request = Request { memory: 2 * GIB, ..Request::default() };
    let mut containers = Vec::new();
    let mut places = Vec::new();
    for number in 0..8 {
        let cluster = view(&nodes, containers.clone());
        let chosen = place(&cluster, &[], &request, Strategy::Binpack, &mut StdRng::seed_from_u64(1)).unwrap();
        let on = nodes.iter().find(|node| node.name == chosen).unwrap();
        let mut placed = container(&format!("c{number}"), on);
        placed.memory = 2 * GIB;
        containers.push(placed);
        places.push(on.index);
    }
    assert_eq!(places, [1, 1, 1, 1, 2, 2, 2, 2]);
}

#[test]
fn those_in_flight_count() {
    let nodes: Vec<Node> = (1..=2).map(node).collect();
    let mut request = Request::default();
    request.host_ports.insert(("tcp".to_owned(), String::new(), 80));
    let mut first = container("first", &nodes[0]);
    first.host_ports = request.host_ports.clone();
    let mut second = container("second", &nodes[1]);
    second.host_ports = request.host_ports.clone();
    let cluster = view(&nodes, Vec::new());
    let mut random = StdRng::seed_from_u64(1);
    let flying = [Arc::new(first)];
    assert_eq!(place(&cluster, &flying, &request, Strategy::Spread, &mut random).unwrap(), nodes[1].name);
    let flying = [flying[0].clone(), Arc::new(second)];
    assert!(place(&cluster, &flying, &request, Strategy::Spread, &mut random).is_err());
}

/// A random cluster with containers on it, and a random request.
fn clusters() -> impl Generator<Value = (Vec<Node>, Vec<Container>, Request)> {
    let nodes = prop::collection::vec((any::<bool>(), any::<bool>(), 1u32..8, 1u64..16), 1..8);
    let containers = prop::collection::vec((any::<prop::sample::Index>(), 0u64..4, 0u64..3, 0u16..4), 0..24);
    let request = (0u64..4, 0u64..3, 0u16..4, 0usize..6, 0usize..4);
    (nodes, containers, request).prop_map(|(nodes, containers, request)| {
        let nodes: Vec<Node> = (1u32..).zip(nodes).map(|(index, spec)| random_node(index, spec)).collect();
        let on = |(index, spec): (usize, _)| random_container(&nodes, index, spec);
        let containers = containers.into_iter().enumerate().map(on).collect();
        (nodes.clone(), containers, random_request(request))
    })
}

fn random_node(index: u32, (well, open, cpus, gib): (bool, bool, u32, u64)) -> Node {
    let mut node = node(index);
    // Most are well: else there is little to choose.
    node.health = if well || index.is_multiple_of(2) { NodeHealth::Healthy } else { NodeHealth::Unhealthy };
    node.schedulable = open || index.is_multiple_of(3);
    node.cpus = cpus;
    node.memory = gib * GIB;
    node
}

fn random_container(
    nodes: &[Node],
    number: usize,
    (on, gib, cpus, port): (prop::sample::Index, u64, u64, u16),
) -> Container {
    let mut one = container(&format!("c{number}"), on.get(nodes));
    one.memory = gib * GIB;
    one.nano_cpus = cpus * 1_000_000_000;
    if port > 0 {
        one.host_ports.insert(("tcp".to_owned(), String::new(), port));
    }
    one
}

fn random_request((gib, cpus, port, constraint, affinity): (u64, u64, u16, usize, usize)) -> Request {
    let constraints = [
        &[][..],
        &["zone==z1"],
        &["zone!=z1"],
        &["zone==~z9"],
        &["aliyun.node_index==(1|2|3)"],
        &["zone==z0", "aliyun.node_index!=2"],
    ];
    let affinities = [&[][..], &["container==c0"], &["container!=c1"], &["container==~c2"]];
    let mut request = Request {
        memory: gib * GIB,
        nano_cpus: cpus * 1_000_000_000,
        expressions: expressions(constraints[constraint], affinities[affinity]),
        ..Request::default()
    };
    if port > 0 {
        request.host_ports.insert(("tcp".to_owned(), String::new(), port));
    }
    request
}

proptest! {
    #[test]
    fn filters_are_never_violated((nodes, containers, request) in clusters()) {
        let cluster = view(&nodes, containers.clone());
        for strategy in [Strategy::Spread, Strategy::Binpack, Strategy::Random] {
            let Ok(chosen) = place(&cluster, &[], &request, strategy, &mut StdRng::seed_from_u64(7)) else { continue };
            let node = cluster.node(&chosen).unwrap();
            prop_assert_eq!(node.health, NodeHealth::Healthy);
            prop_assert!(node.schedulable);
            let here: Vec<&Container> = containers.iter().filter(|one| one.node == chosen).collect();
            prop_assert!(here.iter().all(|one| one.host_ports.is_disjoint(&request.host_ports)));
            let memory: u64 = here.iter().map(|one| one.memory).sum();
            prop_assert!(request.memory == 0 || memory + request.memory <= node.memory * 105 / 100);
            for constraint in request.expressions.constraints.iter().filter(|one| !one.soft) {
                let alone = Request { expressions: Expressions { constraints: vec![constraint.clone()], ..Expressions::default() }, ..Request::default() };
                prop_assert!(at(&view(&[(**node).clone()], Vec::new()), &alone).is_ok());
            }
        }
    }

    #[test]
    fn a_node_is_found_if_there_is_one((nodes, containers, request) in clusters()) {
        let cluster = view(&nodes, containers.clone());
        let whole = at(&cluster, &request).is_ok();
        let alone = nodes.iter().any(|node| {
            let here = containers.iter().filter(|one| one.node == node.name).cloned().collect();
            at(&view(std::slice::from_ref(node), here), &request).is_ok()
        });
        prop_assert_eq!(whole, alone);
    }

    #[test]
    fn the_order_of_lists_does_not_matter((mut nodes, mut containers, request) in clusters(), seed in any::<u64>()) {
        let answers = |cluster: &View| [Strategy::Spread, Strategy::Binpack, Strategy::Random]
            .map(|strategy| place(cluster, &[], &request, strategy, &mut StdRng::seed_from_u64(3)).ok());
        let first = answers(&view(&nodes, containers.clone()));
        let mut random = StdRng::seed_from_u64(seed);
        nodes.shuffle(&mut random);
        containers.shuffle(&mut random);
        prop_assert_eq!(first, answers(&view(&nodes, containers)));
    }

    #[test]
    fn spread_is_even(count in 1u32..9, wanted in 1usize..60) {
        let nodes: Vec<Node> = (1..=count).map(node).collect();
        let mut containers: Vec<Container> = Vec::new();
        for number in 0..wanted {
            let chosen = at(&view(&nodes, containers.clone()), &Request::default()).unwrap();
            let on = nodes.iter().find(|node| node.name == chosen).unwrap();
            containers.push(container(&format!("c{number}"), on));
        }
        let counts: Vec<usize> =
            nodes.iter().map(|node| containers.iter().filter(|one| one.node == node.name).count()).collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        if let Ok(expression) = Expression::parse(&text) {
            expression.holds(["a", "node1", ""]);
        }
    }
}
