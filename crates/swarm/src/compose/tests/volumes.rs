use serde_json::{Value, json};

use super::{host, template, web};

#[test]
fn mounts_of_every_kind() {
    // (volumes, Binds, named, key of the rest in HostConfig, the rest)
    let cases = [
        ("[/a:/b]", json!(["/a:/b:rw"]), json!([]), "", Value::Null),
        ("['/a:/b:ro,z,cached']", json!(["/a:/b:ro,z"]), json!([]), "", Value::Null),
        ("['data:/b']", Value::Null, json!([["data", "/b", "rw"]]), "", Value::Null),
        (
            "['data:/b', 'data:/c:ro']",
            Value::Null,
            json!([["data", "/b", "rw"], ["data", "/c", "ro"]]),
            "",
            Value::Null,
        ),
        ("[{type: bind, source: /a, target: /b}]", json!(["/a:/b:rw"]), json!([]), "", Value::Null),
        (
            "[{type: bind, source: /a, target: /b, consistency: cached, bind: {selinux: z}}]",
            json!(["/a:/b:rw,z"]),
            json!([]),
            "",
            Value::Null,
        ),
        (
            "[{type: bind, source: /a, target: /b, read_only: true, bind: {create_host_path: false, propagation: shared}}]",
            Value::Null,
            json!([]),
            "Mounts",
            json!([{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "BindOptions": {"Propagation": "shared"}}]),
        ),
        (
            "[{type: volume, source: data, target: /b, volume: {nocopy: true}}]",
            Value::Null,
            json!([["data", "/b", "rw,nocopy"]]),
            "",
            Value::Null,
        ),
        ("[{type: tmpfs, target: /b}]", Value::Null, json!([]), "Tmpfs", json!({"/b": ""})),
        (
            "[{type: tmpfs, target: /b, read_only: true, tmpfs: {size: 1024, mode: 493}}]",
            Value::Null,
            json!([]),
            "Tmpfs",
            json!({"/b": "ro,size=1024,mode=755"}),
        ),
    ];
    for (volumes, binds, named, key, rest) in cases {
        let service = web(&format!("volumes: {volumes}"));
        assert_eq!(host(&service, "Binds"), binds, "{volumes}");
        assert_eq!(json!(service.volumes), named, "{volumes}");
        if !key.is_empty() {
            assert_eq!(host(&service, key), rest, "{volumes}");
        }
    }
}

#[test]
fn volumes_that_are_declared() {
    let read = template(
        r#"
version: "2"
services: {a: {image: a, volumes: ["one:/1", "two:/2", "three:/3", "four:/4"]}}
volumes:
  one:
  two: {driver: ossfs, driver_opts: {bucket: b, no_stat_cache: true}, labels: {l: m}}
  three: {external: true}
  four: {external: {name: quatre}}
  five: {name: cinq}
"#,
    );
    assert_eq!(
        json!(read.volumes),
        json!({
            "one": {"external": null, "name": null, "driver": null, "options": {}, "labels": {}, "keep": false},
            "two": {"external": null, "name": null, "driver": "ossfs", "options": {"bucket": "b", "no_stat_cache": "true"}, "labels": {"l": "m"}, "keep": false},
            "three": {"external": "three", "name": null, "driver": null, "options": {}, "labels": {}, "keep": false},
            "four": {"external": "quatre", "name": null, "driver": null, "options": {}, "labels": {}, "keep": false},
            "five": {"external": null, "name": "cinq", "driver": null, "options": {}, "labels": {}, "keep": false},
        })
    );
}

#[test]
fn volumes_of_other_containers() {
    let service = web("volumes_from: [db, 'container:x:ro']");
    assert_eq!(
        json!(service.volumes_from),
        json!([{"source": "db", "is_container": false, "mode": "rw"}, {"source": "x", "is_container": true, "mode": "ro"}])
    );
    assert_eq!(service.depends.keys().collect::<Vec<_>>(), ["db"]);
}
