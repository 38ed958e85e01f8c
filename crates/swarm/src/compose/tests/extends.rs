use serde_json::json;

use super::{refusal, template};

#[test]
fn every_way_of_merging() {
    let read = template(
        r#"
version: "2.4"
services:
  base:
    image: base
    command: a
    environment: {A: 1, B: 2}
    labels: [x=1, y=2]
    ports: ["80:80"]
    volumes: ["/a:/data", "/b:/other"]
    devices: ["/dev/a:/dev/x"]
    dns: 1.1.1.1
    tmpfs: /run
    cap_add: [A, B]
    networks: [one]
    depends_on: [dep]
    logging: {driver: json-file, options: {max-size: 1m}}
    healthcheck: {test: a, interval: 1s}
    ulimits: {nproc: 1}
    restart: always
  web:
    extends: base
    image: web
    environment: ["B=3", C]
    labels: {y: 3}
    ports: ["81:81", "80:80"]
    volumes: ["/c:/data"]
    devices: [{source: /dev/b, target: /dev/x}]
    dns: [2.2.2.2]
    tmpfs: [/run, /tmp]
    cap_add: [B, C]
    networks: {one: {aliases: [w]}, two: }
    depends_on: {other: {condition: service_healthy}}
    logging: {options: {max-file: "2"}}
    healthcheck: {interval: 2s}
    ulimits: {nofile: 2}
  syslog:
    extends: {service: web}
    logging: {driver: syslog}
    healthcheck: {disable: true}
  dep: {image: dep}
  other: {image: other}
networks: {one: , two: }
"#,
    );
    let web = &read.services["web"];
    assert_eq!(
        web.container,
        json!({
            "Image": "web", "Cmd": ["a"], "Env": ["A=1", "B=3", "C"], "Labels": {"x": "1", "y": "3"},
            "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
            "Healthcheck": {"Test": ["CMD-SHELL", "a"], "Interval": 2_000_000_000_i64},
            "HostConfig": {
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "80"}], "81/tcp": [{"HostIp": "", "HostPort": "81"}]},
                "Binds": ["/b:/other:rw", "/c:/data:rw"],
                "Devices": [{"PathOnHost": "/dev/b", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
                "Dns": ["1.1.1.1", "2.2.2.2"],
                "Tmpfs": {"/run": "", "/tmp": ""},
                "CapAdd": ["A", "B", "C"],
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
                "Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 2}, {"Name": "nproc", "Soft": 1, "Hard": 1}],
                "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
            },
        })
    );
    assert_eq!(json!(web.depends), json!({"dep": "started", "other": "healthy"}));
    assert_eq!(web.networks["one"].aliases, ["w"]);
    assert!(web.networks.contains_key("two"));
    assert!(!web.definition.contains_key("extends"));
    let syslog = &read.services["syslog"];
    assert_eq!(syslog.container["HostConfig"]["LogConfig"], json!({"Type": "syslog", "Config": {}}));
    assert_eq!(syslog.container["Healthcheck"], json!({"Test": ["NONE"]}));
    assert_eq!(syslog.container["Image"], "web");
}

#[test]
fn the_first_format_extends_too() {
    let read = template(
        "a: {extends: {service: b}, command: x}\nb: {image: i, environment: ['constraint:k==1', 'constraint:k==2']}",
    );
    assert_eq!(
        read.services["a"].container,
        json!({"Image": "i", "Cmd": ["x"], "Env": ["constraint:k==1", "constraint:k==2"]})
    );
}

#[test]
fn refusals() {
    let cases = [
        ("a: {extends: a, image: i}", "a.extends: services extend each other: a → a"),
        (
            "a: {extends: b}\nb: {extends: {service: c}}\nc: {extends: b}",
            "c.extends: services extend each other: b → c → b",
        ),
        ("a: {extends: b, image: i}", "a.extends: there is no service `b` in the template"),
        ("a: {extends: {file: x}, image: i}", "a.extends.file: there are no files"),
        ("a: {extends: {}, image: i}", "a.extends: `service` is missing"),
        ("a: {extends: [b], image: i}\nb: {image: i}", "a.extends: a map was expected, not a list"),
        ("a: {extends: b, ports: 80}\nb: {image: i, ports: [80]}", "a.ports: a list was expected, not a number"),
    ];
    for (text, expected) in cases {
        let refusal = refusal(text);
        assert!(refusal.starts_with(expected), "{text}\nrefused with {refusal}");
    }
}
