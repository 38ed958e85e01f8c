use serde_json::json;

use super::{template, web};
use crate::{compose::template::Attachment, model::CLUSTER_NETWORK};

#[test]
fn the_default_network_is_the_clusters() {
    for networks in [
        "",
        "networks: {default: }",
        "networks: {default: {driver: overlay}}",
        "networks: {default: {external: {name: multi-host-network}}}",
    ] {
        let read = template(&format!(
            "version: '2'\nservices: {{a: {{image: a}}, b: {{image: b, networks: [default]}}}}\n{networks}"
        ));
        assert!(read.networks.is_empty(), "{networks}");
        assert!(read.services.values().all(|service| service.networks.is_empty()), "{networks}");
    }
}

#[test]
fn the_default_network_beside_another() {
    let read = template("version: '2'\nservices: {a: {image: a, networks: [default, x]}}\nnetworks: {x: }");
    assert_eq!(read.networks["default"].external.as_deref(), Some(CLUSTER_NETWORK));
    assert_eq!(read.networks["x"].external, None);
    assert_eq!(read.services["a"].networks.len(), 2);
}

#[test]
fn a_default_network_of_its_own() {
    for (declared, external) in [("{external: true, name: mine}", Some("mine")), ("{internal: true}", None)] {
        let read = template(&format!(
            "version: '2'\nservices: {{a: {{image: a}}, h: {{image: h, network_mode: host}}}}\nnetworks: {{default: {declared}}}"
        ));
        assert_eq!(read.networks["default"].external.as_deref(), external);
        assert_eq!(read.services["a"].networks["default"], Attachment::default());
        assert!(read.services["h"].networks.is_empty());
    }
}

#[test]
fn networks_that_are_declared() {
    let read = template(
        r#"
version: "2.1"
services: {a: {image: a, networks: {x: {aliases: [one, two]}, y: , z: {priority: 10}, w: }}}
networks:
  x: {driver: bridge, driver_opts: {a: 1}, labels: [l=m], enable_ipv6: false}
  y: {external: {name: other}}
  z: {name: zed, external: true}
  w: {name: double-u, ipam: {driver: default, config: [{subnet: 10.1.0.0/16, gateway: 10.1.0.1, aux_addresses: {a: 10.1.0.9}}]}}
"#,
    );
    assert_eq!(
        json!(read.networks["x"]),
        json!({"external": null, "name": null, "driver": null, "options": {"a": "1"}, "labels": {"l": "m"}, "internal": false, "ipam": null})
    );
    assert_eq!(read.networks["y"].external.as_deref(), Some("other"));
    assert_eq!((read.networks["z"].external.as_deref(), read.networks["z"].name.as_deref()), (Some("zed"), None));
    assert_eq!(read.networks["w"].name.as_deref(), Some("double-u"));
    assert_eq!(
        read.networks["w"].ipam,
        Some(json!({"Driver": "default", "Config": [
            {"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.1", "AuxiliaryAddresses": {"a": "10.1.0.9"}}]}))
    );
    assert_eq!(
        read.notes,
        ["networks.x.enable_ipv6: has no effect here", "services.a.networks.z.priority: has no effect here"]
    );
}

#[test]
fn namespaces_of_others() {
    let service = web("network_mode: service:db\npid: service:db\nipc: service:db");
    assert_eq!(service.container, json!({"Image": "nginx"}));
    assert_eq!(
        (service.network_of.as_deref(), service.pid_of.as_deref(), service.ipc_of.as_deref()),
        (Some("db"), Some("db"), Some("db"))
    );
    assert_eq!(service.depends.len(), 1);
}
