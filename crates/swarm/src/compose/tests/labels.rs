use serde_json::{Value, json};

use super::{refusal, template};
use crate::compose::template::{DependsCondition, Extensions};

fn extensions(labels: &str) -> Extensions {
    let text = format!("web:\n  image: a\n  labels:\n{}db: {{image: b}}\n", indented(labels));
    template(&text).services.remove("web").unwrap().extensions
}

fn refused(labels: &str) -> String {
    let text = format!("web:\n  image: a\n  labels:\n{}db: {{image: b}}\n", indented(labels));
    refusal(&text).replacen("web.labels.", "", 1)
}

fn indented(labels: &str) -> String {
    labels.lines().map(|line| format!("    {}\n", line.trim())).collect()
}

fn shown(labels: &str) -> Value {
    json!(extensions(labels).shown())
}

#[test]
fn labels_as_the_api_shows_them() {
    let cases = [
        ("a: b", json!({"scale": 1})),
        ("aliyun.scale: '3'", json!({"scale": 3})),
        ("aliyun.scale: 3", json!({"scale": 3})),
        ("- aliyun.scale=3", json!({"scale": 3})),
        ("aliyun.global: 'true'", json!({"global": true})),
        ("aliyun.latest_image: true", json!({"scale": 1, "latest_image": true})),
        (
            "aliyun.log_store_dbstdout: stdout\naliyun.log_store_x: /var/log/mysql",
            json!({"scale": 1, "logs": ["stdout", "/var/log/mysql"]}),
        ),
        ("aliyun.routing.session_sticky: on", json!({"scale": 1, "session_sticky": true})),
        ("aliyun.routing.session_sticky: 'true'", json!({"scale": 1, "session_sticky": true})),
        ("aliyun.rolling_updates: 'true'", json!({"scale": 1, "rolling_updates": {"parallelism": 1}})),
        (
            "aliyun.rolling_updates: 'true'\naliyun.rolling_updates.parallelism: 3",
            json!({"scale": 1, "rolling_updates": {"parallelism": 3}}),
        ),
        (
            "aliyun.rolling_updates: 'true'\naliyun.rolling_updates.parallelism: many",
            json!({"scale": 1, "rolling_updates": {"parallelism": 1}}),
        ),
        (
            "aliyun.rolling_updates: 'true'\naliyun.rolling_updates.parallelism: 0",
            json!({"scale": 1, "rolling_updates": {"parallelism": 1}}),
        ),
        ("aliyun.rolling_updates.parallelism: 3", json!({"scale": 1})),
        (
            "aliyun.lb.port_80: tcp://front:8080",
            json!({"scale": 1, "lb": [{"port": 80, "listener": "tcp://front:8080"}]}),
        ),
        (
            "aliyun.monitoring.addon.influxdb: http://influxdb:8086",
            json!({"scale": 1, "monitoring.addon.influxdb": "http://influxdb:8086"}),
        ),
        ("aliyun.something.new: yes", json!({"scale": 1, "aliyun.something.new": "yes"})),
        (
            "aliyun.probe.url: http://container/ping",
            json!({"scale": 1, "probe":
            {"url": "http://container:80/ping", "initial_delay_seconds": 0, "timeout_seconds": 5}}),
        ),
        (
            "aliyun.probe.url: http://container:8080/a?b=c\naliyun.probe.initial_delay_seconds: '30'\naliyun.probe.timeout_seconds: 2",
            json!({"scale": 1, "probe": {"url": "http://container:8080/a?b=c", "initial_delay_seconds": 30, "timeout_seconds": 2}}),
        ),
        (
            "aliyun.probe.url: tcp://container:3306",
            json!({"scale": 1, "probe":
            {"url": "tcp://container:3306", "initial_delay_seconds": 0, "timeout_seconds": 5}}),
        ),
        (
            "aliyun.probe.cmd: /check.sh -a",
            json!({"scale": 1, "probe":
            {"cmd": "/check.sh -a", "initial_delay_seconds": 0, "timeout_seconds": 5}}),
        ),
        ("aliyun.probe.timeout_seconds: 3", json!({"scale": 1})),
        (
            "aliyun.auto_scaling.max_cpu: 70\naliyun.auto_scaling.min_cpu: 30%\naliyun.auto_scaling.step: 2\naliyun.auto_scaling.max_instances: 5",
            json!({"scale": 1, "auto_scaling": {"max_cpu": 70.0, "min_cpu": 30.0, "step": 2, "max_instances": 5, "min_instances": 1}}),
        ),
        (
            "aliyun.auto_scaling.max_memory: 80.5",
            json!({"scale": 1, "auto_scaling": {"max_memory": 80.5, "step": 1, "min_instances": 1}}),
        ),
    ];
    for (labels, expected) in cases {
        assert_eq!(shown(labels), expected, "{labels}");
    }
}

#[test]
fn routes() {
    let cases = [
        ("wordpress", json!([{"port": 80, "domain": "wordpress", "is_prefix": true, "path": "/"}])),
        ("http://wordpress", json!([{"port": 80, "domain": "wordpress", "is_prefix": true, "path": "/"}])),
        ("WWW.Example.com", json!([{"port": 80, "domain": "www.example.com", "is_prefix": false, "path": "/"}])),
        (
            "http://www.example.com/a/B",
            json!([{"port": 80, "domain": "www.example.com", "is_prefix": false, "path": "/a/B"}]),
        ),
        ("wordpress:/path", json!([{"port": 80, "domain": "wordpress", "is_prefix": true, "path": "/path"}])),
        ("restserver.local", json!([{"port": 80, "domain": "restserver.local", "is_prefix": false, "path": "/"}])),
        (
            "a; http://b.example.com/x ;a/y;",
            json!([
                {"port": 80, "domain": "a", "is_prefix": true, "path": "/"},
                {"port": 80, "domain": "b.example.com", "is_prefix": false, "path": "/x"},
                {"port": 80, "domain": "a", "is_prefix": true, "path": "/y"},
            ]),
        ),
    ];
    for (value, expected) in cases {
        let extensions = extensions(&format!("aliyun.routing.port_80: '{value}'"));
        assert_eq!(json!(extensions.routing), expected, "{value}");
    }
    let two = extensions("aliyun.routing.port_80: a\naliyun.routing.port_8080: b");
    assert_eq!(two.routing.iter().map(|route| route.port).collect::<Vec<_>>(), [80, 8080]);
}

#[test]
fn wrong_values_are_refused_in_words() {
    let long = format!("aliyun.routing.port_80: {}.com", "a".repeat(130));
    let cases = [
        ("aliyun.scale: many", "aliyun.scale: `many` is not a whole number from 0 to 1000"),
        ("aliyun.scale: -1", "aliyun.scale: `-1` is not a whole number"),
        ("aliyun.global: sometimes", "aliyun.global: `sometimes` is neither true nor false"),
        ("aliyun.latest_image: ''", "aliyun.latest_image: `` is neither true nor false"),
        ("aliyun.depends: db,nothing", "aliyun.depends: there is no service `nothing` in the template"),
        ("aliyun.routing.port_http: a", "aliyun.routing.port_http: `http` is not a port"),
        ("aliyun.routing.port_0: a", "aliyun.routing.port_0: `0` is not a port"),
        ("aliyun.routing.port_80: ''", "aliyun.routing.port_80: a domain or a prefix is missing"),
        ("aliyun.routing.port_80: https://a", "aliyun.routing.port_80: `https://a` is not routed; only http:// is"),
        ("aliyun.routing.port_80: a b", "aliyun.routing.port_80: `a b` is neither a domain nor a prefix"),
        ("aliyun.routing.port_80: a.com:8080", "aliyun.routing.port_80: `a.com:8080` is neither a domain nor a prefix"),
        ("aliyun.routing.port_80: a/b?c", "aliyun.routing.port_80: `/b?c` is not the path of a route"),
        ("aliyun.routing.port_80: a;a", "aliyun.routing.port_80: `a` is routed twice"),
        (&long, "aliyun.routing.port_80: a route has at most 128 characters"),
        ("aliyun.routing.session_sticky: perhaps", "aliyun.routing.session_sticky: `perhaps` is neither"),
        ("aliyun.lb.port_80: http://a:80", "aliyun.lb.port_80: `http://a:80` is not tcp://NAME:PORT"),
        ("aliyun.lb.port_80: tcp://a", "aliyun.lb.port_80: `tcp://a` is not tcp://NAME:PORT"),
        ("aliyun.lb.port_x: tcp://a:80", "aliyun.lb.port_x: `x` is not a port"),
        ("aliyun.probe.url: https://container/", "aliyun.probe.url: `https://container/` is neither http://container"),
        ("aliyun.probe.url: http://other/", "aliyun.probe.url: `http://other/` is neither http://container"),
        ("aliyun.probe.url: tcp://container", "aliyun.probe.url: `tcp://container` is neither"),
        ("aliyun.probe.url: tcp://container:80/path", "aliyun.probe.url: `tcp://container:80/path` is neither"),
        ("aliyun.probe.url: http://container:x/", "aliyun.probe.url: `x` is not a port"),
        (
            "aliyun.probe.url: tcp://container:1\naliyun.probe.cmd: a",
            "aliyun.probe.url: aliyun.probe.cmd stands beside it",
        ),
        ("aliyun.probe.cmd: ''", "aliyun.probe.cmd: the command is missing"),
        (
            "aliyun.probe.cmd: a\naliyun.probe.timeout_seconds: 0",
            "aliyun.probe.timeout_seconds: `0` is not a whole number from 1",
        ),
        ("aliyun.probe.ulr: a", "aliyun.probe.ulr: is not known; known are aliyun.probe.url, aliyun.probe.cmd"),
        ("aliyun.auto_scaling.max_cpu: 170", "aliyun.auto_scaling.max_cpu: `170` is not a percentage"),
        ("aliyun.auto_scaling.max_cpus: 70", "aliyun.auto_scaling.max_cpus: is not known"),
        (
            "aliyun.auto_scaling.max_cpu: 30\naliyun.auto_scaling.min_cpu: 30",
            "web.labels: aliyun.auto_scaling.min_cpu (30) must be below max_cpu (30)",
        ),
        ("aliyun.auto_scaling.step: 1", "web.labels: aliyun.auto_scaling.… needs a threshold"),
        (
            "aliyun.auto_scaling.max_cpu: 9\naliyun.auto_scaling.step: 0",
            "aliyun.auto_scaling.step: `0` is not a whole number from 1",
        ),
        (
            "aliyun.auto_scaling.max_cpu: 9\naliyun.auto_scaling.max_instances: 2\naliyun.auto_scaling.min_instances: 3",
            "web.labels: aliyun.auto_scaling.max_instances is less",
        ),
        (
            "aliyun.auto_scaling.max_cpu: 9\naliyun.global: true",
            "web.labels: aliyun.auto_scaling.… and one container on every node",
        ),
        (
            "aliyun.monitoring.addon.influxdb: influxdb",
            "aliyun.monitoring.addon.influxdb: `influxdb` is not http://NAME:PORT",
        ),
        ("aliyun.project.id: x", "aliyun.project.id: is set by the cluster"),
        ("io.sampan.system: x", "io.sampan.system: is set by the cluster"),
    ];
    for (labels, beginning) in cases {
        let refusal = refused(labels);
        assert!(refusal.starts_with(beginning), "{labels}\nrefused with {refusal}\ninstead of   {beginning}");
    }
}

#[test]
fn labels_stay_labels_of_the_container() {
    let read =
        template("web: {image: a, labels: [aliyun.scale=2, 'aliyun.other= x ', aliyun.depends=db]}\ndb: {image: b}");
    let web = &read.services["web"];
    assert_eq!(web.container["Labels"], json!({"aliyun.scale": "2", "aliyun.other": " x ", "aliyun.depends": "db"}));
    assert_eq!(web.depends["db"], DependsCondition::Started);
    assert_eq!(read.start_order(), [["db"], ["web"]]);
}

#[test]
fn labels_and_keys_must_agree() {
    assert_eq!(
        template("web: {image: a, scale: 2, labels: {aliyun.scale: 2}}").services["web"].extensions.scale,
        Some(2)
    );
    let refusal = refusal("web: {image: a, scale: 2, labels: {aliyun.scale: 3}}");
    assert_eq!(refusal, "web.labels.aliyun.scale: 3 contradicts web.scale, which is 2");
}

#[test]
fn the_logs_of_the_documented_service() {
    let read = template(
        "version: '2'\nservices:\n  db:\n    image: mysql:5.7\n    environment: {MYSQL_ROOT_PASSWORD: password}\n    restart: always\n    \
         labels: {aliyun.scale: '1', aliyun.log_store_mysql: /var/log/mysql}",
    );
    let db = &read.services["db"];
    let mut definition = db.definition.clone();
    definition.remove("labels");
    assert_eq!(
        json!(definition),
        json!({"environment": ["MYSQL_ROOT_PASSWORD=password"], "image": "mysql:5.7", "restart": "always"})
    );
    assert_eq!(json!(db.extensions.shown()), json!({"scale": 1, "logs": ["/var/log/mysql"]}));
}
