use serde_json::json;

use super::{refusal, template, with};

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

/// A site of two services as the older service's users wrote it, in both formats.
#[test]
fn a_site_in_both_formats() {
    let services = r#"
web:
  image: wordpress:4
  ports: ["80"]
  environment:
    - WORDPRESS_DB_HOST=db:3306
    - WORDPRESS_DB_PASSWORD=$PASSWORD
    - constraint:aliyun.node_index!=3
    - affinity:service!=db
    - reschedule:on-node-failure
  links: ["db:mysql"]
  volumes: ["wp:/var/www/html/wp-content"]
  labels:
    aliyun.scale: "3"
    aliyun.routing.port_80: http://wordpress;http://www.example.com/blog
    aliyun.routing.session_sticky: "true"
    aliyun.depends: db
    aliyun.probe.url: http://container/license.txt
    aliyun.probe.timeout_seconds: "10"
    aliyun.probe.initial_delay_seconds: "3"
    aliyun.rolling_updates: "true"
    aliyun.rolling_updates.parallelism: "2"
  restart: always
db:
  image: mysql:5.7
  environment:
    MYSQL_ROOT_PASSWORD: $PASSWORD
  restart: always
  labels:
    aliyun.log_store_mysql: /var/log/mysql
"#;
    let indented: String = services.lines().map(|line| format!("  {line}\n")).collect();
    let first = with(services, &[("PASSWORD", "secret")]).unwrap();
    let later =
        with(&format!("version: '2'\nservices:\n{indented}\nvolumes: {{wp: }}"), &[("PASSWORD", "secret")]).unwrap();
    assert_eq!(first.services, later.services);
    assert_eq!(first.start_order(), [["db"], ["web"]]);
    let web = &later.services["web"];
    assert_eq!(
        web.container["Env"],
        json!([
            "WORDPRESS_DB_HOST=db:3306",
            "WORDPRESS_DB_PASSWORD=secret",
            "affinity:service!=db",
            "constraint:aliyun.node_index!=3",
            "reschedule:on-node-failure",
        ])
    );
    assert_eq!(
        json!(web.extensions.shown()),
        json!({
            "scale": 3,
            "routing": [
                {"port": 80, "domain": "wordpress", "path": ""},
                {"port": 80, "domain": "www.example.com", "path": "/blog"},
            ],
            "session_sticky": true,
            "probe": {"url": "http://container:80/license.txt", "initial_delay_seconds": 3, "timeout_seconds": 10},
            "rolling_updates": {"parallelism": 2},
        })
    );
    assert_eq!(json!(later.services["db"].definition["environment"]), json!(["MYSQL_ROOT_PASSWORD=secret"]));
    assert_eq!(json!(later.services["db"].extensions.shown()), json!({"scale": 1, "logs": ["/var/log/mysql"]}));
    assert!(first.volumes["wp"].keep && !later.volumes["wp"].keep);
}
