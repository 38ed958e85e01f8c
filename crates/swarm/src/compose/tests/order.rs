use super::{refusal, template};
use crate::compose::{definition_hash, project_name, service_name};

#[test]
fn circles_are_named() {
    let cases = [
        ("a: {image: i, links: [b]}\nb: {image: i, links: [a]}", "a → b → a"),
        ("a: {image: i, links: [a]}", "a → a"),
        (
            "a: {image: i, volumes_from: [b]}\nb: {image: i, net: 'container:c'}\nc: {image: i, labels: {aliyun.depends: a}}",
            "a → b → c → a",
        ),
        (
            "version: '2'\nservices: {a: {image: i, depends_on: [b]}, b: {image: i, network_mode: 'service:c'}, c: {image: i, pid: 'service:b'}}",
            "b → c → b",
        ),
        (
            "version: '2'\nservices: {a: {image: i, ipc: 'service:b'}, b: {image: i, depends_on: {a: {condition: service_healthy}}}}",
            "a → b → a",
        ),
    ];
    for (text, circle) in cases {
        assert!(refusal(text).starts_with(&format!("services wait for each other: {circle} (")), "{text}");
    }
}

#[test]
fn levels() {
    let read = template(
        "version: '2'\nservices: {web: {image: i, depends_on: [app, cache]}, app: {image: i, links: [db]}, db: {image: i}, cache: {image: i}}",
    );
    assert_eq!(read.start_order(), [vec!["cache", "db"], vec!["app"], vec!["web"]]);
}

#[test]
fn the_stricter_condition_holds() {
    let read = template(
        "version: '2'\nservices: {a: {image: i, depends_on: {b: {condition: service_healthy}}, links: [b]}, b: {image: i}, c: {image: i, depends_on: {x: {condition: service_started, required: false}}}}",
    );
    assert_eq!(serde_json::json!(read.services["a"].depends), serde_json::json!({"b": "healthy"}));
    assert!(read.services["c"].depends.is_empty());
}

fn hash(text: &str) -> String {
    definition_hash(&template(text).services["web"])
}

#[test]
fn the_same_definition_has_the_same_hash() {
    let one = hash("web: {image: a, environment: {A: 1, B: 2}, labels: {x: 1}, command: a b}");
    assert_eq!(one.len(), 64);
    let same = [
        "web: {command: a b, labels: {x: 1}, environment: {B: 2, A: 1}, image: a}",
        "version: '2'\nservices: {web: {image: a, environment: [B=2, A=1], labels: [x=1], command: [a, b]}}",
        "web: {image: a, environment: {A: 1, B: 2}, labels: {x: 1, aliyun.scale: 5}, command: a b, scale: 5}",
        "web: {image: a, environment: {A: 1, B: 2}, labels: {x: 1, aliyun.auto_scaling.max_cpu: 5}, command: a b}",
        "web: {image: a, environment: {A: 1, B: 2}, labels: {x: 1, aliyun.rolling_updates: true, aliyun.rolling_updates.parallelism: 3}, command: a b}",
    ];
    for text in same {
        assert_eq!(hash(text), one, "{text}");
    }
    let different = [
        "web: {image: b, environment: {A: 1, B: 2}, labels: {x: 1}, command: a b}",
        "web: {image: a, environment: {A: 1, B: 3}, labels: {x: 1}, command: a b}",
        "web: {image: a, environment: {A: 1, B: 2}, labels: {x: 2}, command: a b}",
        "web: {image: a, environment: {A: 1, B: 2}, labels: {x: 1}, command: b a}",
        "web: {image: a, environment: {A: 1, B: 2}, labels: {x: 1}, command: a b, volumes: ['v:/v']}",
        "web: {image: a, environment: {A: 1, B: 2}, labels: {x: 1}, command: a b, external_links: [x]}",
        "web: {image: a, environment: {A: 1, B: 2}, labels: {x: 1, aliyun.scales: 5}, command: a b}",
    ];
    for text in different {
        assert_ne!(hash(text), one, "{text}");
    }
}

#[test]
fn a_first_label_that_does_not_count() {
    let bare = hash("web: {image: a}");
    assert_eq!(hash("web: {image: a, labels: {aliyun.scale: 2}}"), bare);
    assert_ne!(hash("web: {image: a, labels: {a: b}}"), bare);
}

/// The hash is kept in labels of containers: it must not change between versions of the program.
#[test]
fn the_hash_stays() {
    assert_eq!(
        hash("web: {image: nginx, ports: ['80:80'], labels: {a: b}, volumes: ['v:/v']}"),
        "fcff73e1ab58fad6ee1c745e5329de3c7ce9c2caf85f376c2c4dce58b7edcd9d"
    );
}

#[test]
fn names() {
    let long = "a".repeat(64);
    for name in ["test", "test_01", "A-1", "0", &long] {
        assert_eq!(project_name(name).unwrap(), name);
    }
    let longer = "a".repeat(65);
    for name in ["", "-a", "_a", "a.b", "a b", "a/b", "ä", &longer] {
        assert!(project_name(name).unwrap_err().message.contains("is not a name for an application"), "{name}");
    }
    for name in ["web", "web.1", "_x", "A-b_c"] {
        assert_eq!(service_name(name).unwrap(), name);
    }
    for name in ["", "-a", ".a", "a b", "a/b", &long] {
        assert!(service_name(name).is_err(), "{name}");
    }
}
