//! Samples for the tests of this module, and tests of certificates and specifications as a whole.

use std::net::Ipv4Addr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivatePkcs1KeyDer, pem::PemObject as _};
use sampan_agents::{
    master::{CONFIG_PATH, MasterConfig},
    spec::{NodeSpec, Probe},
};
use sampan_store::{
    Batch, Store,
    model::{Cluster, Machine, MachineWanted, Tag, Timestamp},
};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{vault::SwarmVault, *};

pub(crate) fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn sample_cluster() -> Cluster {
    serde_json::from_value(json!({
        "id": "c0123", "account_id": "1", "name": "sample", "region_id": "cn-beijing", "zone_id": "cn-beijing-a",
        "cluster_type": "Swarm", "spec": "", "state": "initial", "created": now(), "updated": now(),
        "init_version": "", "version": "", "timeout_minutes": 60, "creation_task_id": "T-1",
        "tags": [{"key": "team", "value": "web"}],
        "network": {
            "vpc_id": "vpc-1", "vswitch_ids": ["vsw-1"], "security_group_id": "sg-1",
            "pod_cidr": "172.28.1.0/24", "service_cidr": "172.31.0.0/16", "node_cidr_mask": 24,
            "dns_ip": "127.0.0.11", "api_vip": "10.200.15.1", "api_public_port": 36400, "cluster_domain": "",
            "proxy_mode": "iptables", "api_load_balancer_id": "lb-1",
        },
        "swarm": {"bridge_pool": "198.18.0.0/16", "routing": true, "routing_public_port": 36401, "next_node_index": 3},
    }))
    .unwrap()
}

pub(crate) fn sample_machine(number: u8) -> Machine {
    let role = if number == 0 { "ControlPlane" } else { "Worker" };
    let ip = Ipv4Addr::new(10, 200, 0, 4 + number);
    serde_json::from_value(json!({
        "id": format!("i-{number}"), "account_id": "1", "region_id": "cn-beijing", "zone_id": "cn-beijing-a",
        "vpc_id": "vpc-1", "vswitch_id": "vsw-1", "ip": ip, "mac": "02:00:00:00:00:01",
        "instance_type": "ecs.n1.small", "instance_name": "n", "source": "ess", "created": now(), "wanted": "Run",
        "state": "pending",
        "membership": {"cluster_id": "c0123", "node_pool_id": (number > 0).then_some("np1"), "role": role,
            "node_name": format!("cn-beijing.{ip}"), "pod_cidr": null, "task_id": "T-1",
            "node_index": (number > 0).then_some(number)},
    }))
    .unwrap()
}

pub(crate) fn sample_pki() -> SwarmPki {
    let names = ["localhost", "127.0.0.1", "10.200.15.1", "10.200.0.4"].map(String::from);
    generate("c0123", &names, now()).unwrap()
}

fn manager(pki: &SwarmPki, nodes: &[Machine]) -> NodeSpec {
    let (cluster, machine) = (sample_cluster(), sample_machine(0));
    manager_spec(&ManagerInputs {
        cluster: &cluster,
        pki,
        machine: &machine,
        nodes,
        routing_suffix: "localhost",
        strategy: sampan_agents::master::Strategy::Spread,
        name_servers: &[],
    })
    .unwrap()
}

fn node(pki: &SwarmPki, own: &NodePki, number: u8) -> NodeSpec {
    let (cluster, machine) = (sample_cluster(), sample_machine(number));
    node_spec(&NodeInputs {
        registry_port: Some(5000),
        cluster: &cluster,
        pki,
        own,
        machine: &machine,
        manager_ip: Ipv4Addr::new(10, 200, 0, 4),
        name_servers: &[Ipv4Addr::new(192, 0, 2, 1)],
    })
    .unwrap()
}

fn text(spec: &NodeSpec, path: &str) -> String {
    let file = spec.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}"));
    String::from_utf8(STANDARD.decode(&file.content).unwrap()).unwrap()
}

fn command(spec: &NodeSpec, name: &str) -> Vec<String> {
    spec.processes.iter().find(|process| process.name == name).unwrap().command.clone()
}

fn names(pem: &str) -> Vec<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let extension = certificate.subject_alternative_name().unwrap();
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes).map(Ipv4Addr::from).unwrap().to_string(),
        other => panic!("{other:?}"),
    };
    extension.iter().flat_map(|extension| &extension.value.general_names).map(text).collect()
}

#[test]
fn users_get_keys_that_old_clients_read_and_nothing_of_the_engines() {
    let pki = sample_pki();
    assert!(pki.user.key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "traditional PEM");
    let key = PrivatePkcs1KeyDer::from_pem_slice(pki.user.key.as_bytes()).unwrap();
    let pair = aws_lc_rs::rsa::KeyPair::from_der(key.secret_pkcs1_der()).unwrap();
    let der = CertificateDer::from_pem_slice(pki.user.certificate.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref();
    assert_eq!(certificate.public_key().subject_public_key.data.as_ref(), public, "the certificate is of this key");
    let ca = CertificateDer::from_pem_slice(pki.cluster_ca.certificate.as_bytes()).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    assert_eq!(certificate.issuer(), ca.subject());
    let engines = CertificateDer::from_pem_slice(pki.engine_ca.certificate.as_bytes()).unwrap();
    let (_, engines) = X509Certificate::from_der(&engines).unwrap();
    assert_ne!(engines.subject(), ca.subject());
    assert_eq!(names(&pki.endpoint.certificate), ["localhost", "127.0.0.1", "10.200.15.1", "10.200.0.4"]);
    assert!(!format!("{pki:?}").contains("PRIVATE"));
}

#[test]
fn certificates_are_renewed_when_that_helps() {
    let pki = sample_pki();
    assert_eq!(renewed(&pki, &pki.endpoint_names, now()).unwrap(), None);
    let more = [pki.endpoint_names.clone(), vec!["192.0.2.7".to_owned()]].concat();
    let new = renewed(&pki, &more, now()).unwrap().unwrap();
    assert_eq!(names(&new.endpoint.certificate), more);
    assert_eq!((&new.user, &new.cluster_ca), (&pki.user, &pki.cluster_ca), "users keep what they have");
    let mut short = pki.clone();
    short.user.expires = now() + jiff::SignedDuration::from_hours(24 * 20);
    let new = renewed(&short, &short.endpoint_names, now()).unwrap().unwrap();
    assert!(new.user.expires > short.user.expires && new.endpoint == short.endpoint);
    let end = pki.cluster_ca.expires;
    assert_eq!(renewed(&pki, &pki.endpoint_names, end).unwrap(), None, "nothing outlives its authority");
}

#[tokio::test]
async fn the_vault_makes_everything_once() {
    let store = Store::open_temporary().await.unwrap();
    let vault = SwarmVault::new(store.clone(), Ipv4Addr::LOCALHOST);
    let (cluster, machine) = (sample_cluster(), sample_machine(1));
    assert!(vault.pki(&cluster.id).await.is_err());
    let manager_ip = Ipv4Addr::new(10, 200, 0, 4);
    vault.ensure_pki(&cluster, manager_ip, now()).await.unwrap();
    let first = vault.pki(&cluster.id).await.unwrap();
    assert_eq!(first.endpoint_names, ["localhost", "127.0.0.1", "10.200.15.1", "10.200.0.4"]);
    let own = vault.ensure_node_pki(&machine, now()).await.unwrap();
    let other = SwarmVault::new(store.clone(), Ipv4Addr::UNSPECIFIED);
    other.ensure_pki(&cluster, manager_ip, now()).await.unwrap();
    assert_eq!(other.pki(&cluster.id).await.unwrap().user, first.user);
    assert_eq!(other.ensure_node_pki(&machine, now()).await.unwrap(), own);
    assert!(names(&own.engine.certificate).contains(&"10.200.0.5".to_owned()));
    let mut batch = Batch::new();
    batch.delete_secrets_under("cluster/c0123/");
    store.commit(batch).await.unwrap();
    assert!(
        SwarmVault::new(store, Ipv4Addr::LOCALHOST).pki(&cluster.id).await.is_err(),
        "they are secrets of the cluster"
    );
}

#[test]
fn the_master_is_told_everything_and_not_restarted_for_it() {
    let pki = sample_pki();
    let mut nodes = vec![sample_machine(2), sample_machine(1)];
    let spec = manager(&pki, &nodes);
    let config: MasterConfig = serde_json::from_str(&text(&spec, CONFIG_PATH)).unwrap();
    assert_eq!(config.nodes.iter().map(|node| node.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(
        (config.subnet.to_string(), config.address_pool.to_string()),
        ("172.28.1.0/24".into(), "172.31.0.0/16".into())
    );
    assert_eq!(config.nodes[0].labels["team"], "web");
    assert_eq!(config.nodes[0].labels["aliyun.node_index"], "1");
    for files in [&config.endpoint_tls, &config.engines_tls] {
        for path in [&files.ca, &files.cert, &files.key] {
            assert!(spec.files.iter().any(|file| file.path == *path), "{path}");
        }
    }
    assert_eq!(text(&spec, &config.router_ca), pki.router_ca.certificate);
    assert_ne!(pki.router_ca.certificate, pki.engine_ca.certificate, "a router's certificate opens no engine");
    assert_eq!(text(&spec, &config.endpoint_tls.ca), pki.cluster_ca.certificate);
    assert_ne!(config.router_ca, config.endpoint_tls.ca);
    let master = spec.processes.iter().find(|process| process.name == "master").unwrap();
    assert!(
        !master.restart_on.contains(&CONFIG_PATH.to_owned()) && master.restart_on.contains(&config.endpoint_tls.cert)
    );

    nodes.reverse();
    assert_eq!(manager(&pki, &nodes), spec, "the order of records does not matter");
    nodes[0].wanted = MachineWanted::Release;
    let changed = manager(&pki, &nodes);
    let config: MasterConfig = serde_json::from_str(&text(&changed, CONFIG_PATH)).unwrap();
    assert_eq!(config.nodes.iter().map(|node| node.leaving).collect::<Vec<_>>(), [true, false]);
    assert_eq!(changed.processes, spec.processes);
    nodes[1].membership.as_mut().unwrap().node_index = None;
    let (cluster, machine) = (sample_cluster(), sample_machine(0));
    let inputs = ManagerInputs {
        cluster: &cluster,
        pki: &pki,
        machine: &machine,
        nodes: &nodes,
        routing_suffix: "localhost",
        strategy: sampan_agents::master::Strategy::Spread,
        name_servers: &[],
    };
    assert!(manager_spec(&inputs).is_err());
}

#[test]
fn a_node_has_an_engine_that_only_the_master_may_use() {
    let pki = sample_pki();
    let own = node_pki(&pki, "cn-beijing.10.200.0.5", Ipv4Addr::new(10, 200, 0, 5), now()).unwrap();
    let spec = node(&pki, &own, 1);
    let engine = command(&spec, "dockerd");
    for flag in [
        "--host=tcp://10.200.0.5:2376",
        "--tlsverify",
        "--bip=198.18.0.1/20",
        "--default-address-pool=base=198.18.128.0/17,size=20",
        "--label=aliyun.node_index=1",
        "--label=zone=cn-beijing-a",
        "--dns=192.0.2.1",
        "--storage-driver=overlay2",
    ] {
        assert!(engine.contains(&flag.to_owned()), "{flag}: {engine:?}");
    }
    assert!(engine[2].contains("rm -f /var/run/docker.pid"), "{engine:?}");
    let ca = engine.iter().find_map(|flag| flag.strip_prefix("--tlscacert=")).unwrap();
    assert_eq!(text(&spec, ca), pki.engine_ca.certificate, "users' certificates do not open engines");
    let router: Value = serde_json::from_str(&text(&spec, "/etc/sampan/router.json")).unwrap();
    assert_eq!((&router["master"], &router["http_port"]), (&json!("10.200.0.4:2376"), &json!(9080)));
    assert_eq!(text(&spec, router["tls"]["ca"].as_str().unwrap()), pki.cluster_ca.certificate);
    assert_eq!(text(&spec, router["tls"]["cert"].as_str().unwrap()), own.router.certificate);
    let volumes: Value = serde_json::from_str(&text(&spec, "/etc/sampan/volumes.json")).unwrap();
    assert_eq!(volumes["nas_dir"], SHARED_DIR);
    let order: Vec<(&str, &[String])> =
        spec.processes.iter().map(|process| (process.name.as_str(), process.after.as_slice())).collect();
    assert_eq!(order[0].0, "volumes");
    assert_eq!(order[1].1, ["volumes"]);
    assert_eq!(order[2].1, ["dockerd"]);
    let secrets = spec.files.iter().filter(|file| file.path.ends_with(".key"));
    assert!(secrets.count() == 2 && spec.files.iter().all(|file| !file.path.ends_with(".key") || file.mode == 0o600));
    assert_eq!(node(&pki, &own, 1), spec, "equal records give equal machines");
}

#[test]
fn the_managers_engine_is_the_machines_own() {
    let pki = sample_pki();
    let spec = manager(&pki, &[]);
    let engine = command(&spec, "dockerd");
    assert!(engine.iter().all(|flag| !flag.starts_with("--host=tcp") && !flag.starts_with("--label")), "{engine:?}");
    let ready = spec.processes.iter().map(|process| process.ready.clone()).collect::<Vec<_>>();
    assert_eq!(ready[1], Some(Probe::Unix("/run/sampan-master.sock".into())));
}

#[test]
fn labels_of_a_node() {
    let mut machine = sample_machine(2);
    machine.tags = vec![Tag { key: "disk".into(), value: "fast".into() }];
    let labels = node_labels(&sample_cluster(), &machine, 2);
    for (name, value) in [("disk", "fast"), ("team", "web"), ("instance_type", "ecs.n1.small"), ("instance_id", "i-2")]
    {
        assert_eq!(labels[name], value);
    }
}
