use serde_json::json;

use super::{refusal, template};

#[test]
fn the_documented_smallest_template() {
    let read = template("web:\r\n  image: nginx");
    let web = &read.services["web"];
    assert_eq!(web.container, json!({"Image": "nginx"}));
    assert_eq!(json!(web.definition), json!({"image": "nginx"}));
    assert_eq!(json!(web.extensions.shown()), json!({"scale": 1}));
    assert!(read.notes.is_empty());
}

#[test]
fn the_keys_are_sorted_for_the_search() {
    assert!(crate::compose::service::keys_are_sorted());
    assert_eq!(refusal("web: {image: a, foo: b}"), "web.foo: is not a key of a service");
    assert_eq!(refusal("web: {image: a, link: b}"), "web.link: is not a key of a service; is `links` meant?");
}

#[test]
fn the_documented_monitoring_template() {
    let read = template(
        r#"
version: '2'
services:
  influxdb:
    image: influxdb:0.13
    ports:
     - "8083:8083"
     - "8086:8086"
    container_name: "influxdb"
    labels:
        aliyun.monitoring.addon.influxdb: "http://influxdb:8086"
  grafana:
    image: grafana/grafana:3.0.3-1463994644
    ports:
      - "3000:3000"
    links:
      - influxdb
  kapacitor:
    image: kapacitor:0.13
    ports:
      - "9092:9092"
    volumes:
            - /etc/acs/:/etc/acs/
    environment:
      - KAPACITOR_INFLUXDB_0_URLS_0=http://influxdb:8086
    command: kapacitord -config /etc/kapacitor/kapacitor.conf
"#,
    );
    assert_eq!(read.start_order(), [vec!["influxdb", "kapacitor"], vec!["grafana"]]);
    assert_eq!(read.services["influxdb"].extensions.influxdb.as_deref(), Some("http://influxdb:8086"));
    assert_eq!(
        read.services["kapacitor"].container,
        json!({
            "Image": "kapacitor:0.13",
            "Cmd": ["kapacitord", "-config", "/etc/kapacitor/kapacitor.conf"],
            "Env": ["KAPACITOR_INFLUXDB_0_URLS_0=http://influxdb:8086"],
            "ExposedPorts": {"9092/tcp": {}},
            "HostConfig": {
                "Binds": ["/etc/acs/:/etc/acs/:rw"],
                "PortBindings": {"9092/tcp": [{"HostIp": "", "HostPort": "9092"}]},
            },
        })
    );
}
