//! What holds whatever is written.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::compose::{
    Context, definition_hash,
    order::refuse_cycles,
    read,
    substitute::Substitution,
    template::{DependsCondition, Service, Template},
    values,
    yaml::parse,
};

fn variables() -> BTreeMap<String, String> {
    [("A", "1"), ("B", ""), ("COMPOSE_PROFILES", "*")].iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Words that templates are made of.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "image",
        "nginx",
        "a",
        "b",
        "services",
        "version",
        "'2'",
        "volumes",
        "/a:/b",
        "ports",
        "80",
        "80:80",
        "1-9:1-9/udp",
        "links",
        "extends",
        "service",
        "depends_on",
        "environment",
        "A=b",
        "$A",
        "${A:-b}",
        "${",
        "constraint:a==b",
        "labels",
        "aliyun.scale",
        "aliyun.routing.port_80",
        "a;b/c",
        "aliyun.probe.url",
        "http://container/",
        "deploy",
        "replicas",
        "networks",
        "default",
        "network_mode",
        "service:a",
        "host",
        "healthcheck",
        "test",
        "command",
        "sh -c 'a",
        "mem_limit",
        "1g",
        "<<",
        "*x",
        "&x",
        "null",
        "true",
        "1.5",
        "-1",
        "x-y",
        "container:b",
        "net",
        "volumes_from",
        "external",
        "name",
        "ipam",
        "tmpfs",
        "ulimits",
        "blkio_config",
        "logging",
        "options",
        "restart",
        "on-failure:3",
        "profiles",
    ];
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

/// Text that is often YAML.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => word(),
        6 => prop::sample::select(vec![": ", ":\n  ", ", ", "\n", "\n- ", "{", "}", "[", "]", "\n  ", "\n    ", " ", "\"", "#"]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// A value of any shape.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        word().prop_map(Value::String),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!(1.5)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(word(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A service with any values under known keys.
fn service() -> impl Strategy<Value = Value> {
    let keys: Vec<&str> = crate::compose::service::known_keys().collect();
    let entry = (prop::sample::select(keys), value());
    prop::collection::vec(entry, 0..3).prop_map(|entries| {
        let mut map: Map<String, Value> = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        map.insert("image".to_owned(), json!("nginx"));
        Value::Object(map)
    })
}

/// Dependencies of up to nine services.
fn edges() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0_u8..9, 0_u8..9), 0..20)
}

fn services(edges: &[(u8, u8)]) -> BTreeMap<String, Service> {
    let mut services: BTreeMap<String, Service> = (0..9).map(|at| (format!("s{at}"), Service::default())).collect();
    for (from, to) in edges {
        let service = services.get_mut(&format!("s{from}")).unwrap();
        service.depends.insert(format!("s{to}"), DependsCondition::Started);
    }
    services
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn reading_any_text_ends_without_panic(text in text()) {
        let _ = read(&text, &variables(), &Context::default());
    }

    #[test]
    fn reading_any_bytes_ends_without_panic(text in ".*") {
        let _ = read(&text, &variables(), &Context::default());
    }

    #[test]
    fn reading_any_service_ends_without_panic(one in service(), other in service(), networks in value(), volumes in value()) {
        for document in [
            json!({"a": one, "b": other}),
            json!({"version": "2.4", "services": {"a": one, "b": other}}),
            json!({"services": {"a": one, "b": {"extends": "a", "tty": true}}}),
            json!({"services": {"a": one}, "networks": networks, "volumes": volumes}),
        ] {
            let _ = read(&document.to_string(), &variables(), &Context::default());
        }
    }

    #[test]
    fn what_is_written_as_json_is_read_as_the_same(value in value()) {
        // `<<` is a merge key only if it is plain, and JSON quotes it.
        prop_assert_eq!(parse(&value.to_string()).unwrap(), value);
    }

    #[test]
    fn substitution_never_panics(text in "[${}:?+A-C \\-]{0,40}|.*") {
        let variables = variables();
        let _ = Substitution::new(&variables).text(&text);
    }

    #[test]
    fn text_without_dollars_stays(text in "[^$]*") {
        let variables = variables();
        prop_assert_eq!(Substitution::new(&variables).text(&text).unwrap(), text);
    }

    #[test]
    fn doubled_dollars_protect_anything(text in ".*") {
        let variables = variables();
        prop_assert_eq!(Substitution::new(&variables).text(&text.replace('$', "$$")).unwrap(), text);
    }

    #[test]
    fn quoted_words_come_back(words in prop::collection::vec("[^']*", 0..6)) {
        let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        prop_assert_eq!(values::split_words(&line.join(" ")).unwrap(), words);
    }

    #[test]
    fn sizes_and_durations_never_panic(text in "[0-9.]{0,30}[a-z]{0,3}[0-9.]{0,5}[a-z]{0,2}|.*") {
        prop_assert!(values::size(&text).is_none_or(|size| size >= 0));
        prop_assert!(values::duration(&text).is_none_or(|duration| duration >= 0));
        let _ = values::split_words(&text);
    }

    #[test]
    fn the_order_is_topological_unless_there_is_a_circle(edges in edges()) {
        let services = services(&edges);
        let refused = refuse_cycles(&services).is_err();
        let template = Template { services, ..Template::default() };
        let levels = template.start_order();
        let all: BTreeSet<&str> = levels.iter().flatten().copied().collect();
        prop_assert_eq!(all.len(), 9);
        prop_assert_eq!(levels.iter().map(Vec::len).sum::<usize>(), 9);
        let level = |name: &str| levels.iter().position(|level| level.contains(&name)).unwrap();
        let ordered = template.services.iter().all(|(name, service)| service.depends.keys().all(|other| level(other) < level(name)));
        prop_assert_eq!(ordered, !refused);
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_of_keys(map in prop::collection::btree_map("[a-z]{1,4}", "[a-z0-9]{0,4}", 1..8), seed in any::<u64>()) {
        let write = |keys: &[&String]| {
            let entries: Vec<String> = keys.iter().map(|key| format!("\"{key}\": \"{}\"", map[*key])).collect();
            let text = format!("web: {{image: a, environment: {{{0}}}, labels: {{{0}}}}}", entries.join(", "));
            definition_hash(&read(&text, &variables(), &Context::default()).unwrap().services["web"])
        };
        let sorted: Vec<&String> = map.keys().collect();
        let mut other = sorted.clone();
        other.rotate_left(usize::try_from(seed % (sorted.len() as u64)).unwrap());
        if seed & 1 == 0 {
            other.reverse();
        }
        prop_assert_eq!(write(&sorted), write(&other));
    }
}
