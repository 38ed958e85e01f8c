//! Samples for the tests of this module, and tests of certificates and specifications as a whole.

use std::{collections::BTreeSet, net::Ipv4Addr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sampan_agents::spec::{NodeSpec, Probe, Process};
use sampan_store::model::{Cluster, EtcdStage, Machine, NodePool, Tag, Taint, Timestamp};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;

pub(crate) fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.into(), value: value.into() }
}

pub(crate) fn sample_cluster() -> Cluster {
    serde_json::from_value(json!({
        "id": "c0123", "account_id": "1", "name": "sample", "region_id": "cn-beijing", "zone_id": "cn-beijing-a",
        "cluster_type": "ManagedKubernetes", "spec": "ack.standard", "state": "initial",
        "created": now(), "updated": now(), "init_version": "1.36.3", "version": "1.36.3",
        "network": {
            "vpc_id": "vpc-1", "vswitch_ids": ["vsw-1"], "security_group_id": "sg-1",
            "pod_cidr": "172.20.0.0/16", "service_cidr": "172.21.0.0/20", "node_cidr_mask": 25,
            "dns_ip": "172.21.0.10", "api_vip": "10.200.15.1", "api_public_port": 16443,
            "cluster_domain": "cluster.local", "proxy_mode": "ipvs", "api_load_balancer_id": "lb-1",
        },
        "timeout_minutes": 60, "creation_task_id": "T-1",
    }))
    .unwrap()
}

pub(crate) fn sample_pool() -> NodePool {
    serde_json::from_value(json!({
        "id": "np1", "cluster_id": "c0123", "name": "default", "is_default": true, "state": "active",
        "created": now(), "updated": now(), "region_id": "cn-beijing", "instance_types": ["ecs.g6.large"],
        "vswitch_ids": [],
    }))
    .unwrap()
}

fn machine(id: &str, ip: Ipv4Addr, membership: Value) -> Machine {
    serde_json::from_value(json!({
        "id": id, "account_id": "1", "region_id": "cn-beijing", "zone_id": "cn-beijing-a", "vpc_id": "vpc-1",
        "vswitch_id": "vsw-1", "ip": ip, "mac": "02:00:00:00:00:01", "instance_type": "ecs.g6.large",
        "instance_name": id, "source": "manual", "created": now(), "wanted": "Run", "state": "pending",
        "membership": membership,
    }))
    .unwrap()
}

pub(crate) fn sample_worker(number: u8) -> Machine {
    let ip = Ipv4Addr::new(10, 200, 0, 10 + number);
    let membership = json!({
        "cluster_id": "c0123", "node_pool_id": "np1", "role": "Worker", "node_name": format!("cn-beijing.{ip}"),
        "pod_cidr": format!("172.20.{number}.0/25"), "task_id": "T-1",
    });
    machine(&format!("i-{number}"), ip, membership)
}

pub(crate) fn sample_control_plane() -> Machine {
    let membership = json!({
        "cluster_id": "c0123", "node_pool_id": null, "role": "ControlPlane", "node_name": "", "pod_cidr": null,
        "task_id": "T-1",
    });
    machine("i-cp", Ipv4Addr::new(10, 200, 0, 2), membership)
}

pub(crate) fn sample_images() -> Images {
    Images {
        pause: "example.com/pause:1".into(),
        coredns: "example.com/coredns:1".into(),
        metrics_server: "example.com/metrics:1".into(),
    }
}

pub(crate) fn sample_pki() -> Pki {
    generate(&sample_cluster(), &[sample_control_plane().ip], now(), None).unwrap()
}

fn sample_facts() -> HostFacts {
    HostFacts {
        can_lower_oom_score: false,
        ipvs: false,
        cpus: 8,
        memory_bytes: 32 << 30,
        name_servers: vec![Ipv4Addr::new(192, 0, 2, 1)],
    }
}

/// Subject, alternative names, and whether `ca` signed it.
fn read_certificate(pem: &str, ca: &str) -> (String, BTreeSet<String>, bool) {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    let names = certificate
        .subject_alternative_name()
        .unwrap()
        .map(|names| names.value.general_names.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    let signed = certificate.issuer().as_raw() == ca.subject().as_raw()
        && webpki_accepts(&der, &CertificateDer::from_pem_slice(read_pem(&ca).as_bytes()).unwrap());
    (certificate.subject().to_string(), names, signed)
}

fn read_pem(certificate: &X509Certificate<'_>) -> String {
    crate::pem::certificate(certificate.as_raw())
}

/// What a TLS server of ours (or any that rustls builds) says of it as a client certificate, or as a server's.
fn webpki_accepts(leaf: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::{ServerName, UnixTime},
        server::WebPkiClientVerifier,
    };
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned()).unwrap();
    let roots = std::sync::Arc::new(roots);
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().as_second().unsigned_abs()));
    let client = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
    let server = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let as_server = match server.verify_server_cert(leaf, &[], &name, &[], at) {
        Ok(_) => true,
        Err(error) => error.to_string().contains("not valid for name"),
    };
    as_server || client.verify_client_cert(leaf, &[], at).is_ok()
}

#[test]
fn every_certificate_is_signed_by_its_own_authority() {
    let pki = sample_pki();
    for (pair, ca, subject) in [
        (&pki.api_server, &pki.cluster_ca, "CN=kube-apiserver"),
        (&pki.kubelet_client, &pki.cluster_ca, "CN=kube-apiserver-kubelet-client"),
        (&pki.controller_manager, &pki.cluster_ca, "CN=system:kube-controller-manager"),
        (&pki.scheduler, &pki.cluster_ca, "CN=system:kube-scheduler"),
        (&pki.admin, &pki.cluster_ca, "O=system:masters, CN=sampan-server"),
        (&pki.metrics_server, &pki.cluster_ca, "CN=metrics-server"),
        (&pki.front_proxy_client, &pki.front_proxy_ca, "CN=front-proxy-client"),
        (&pki.etcd_server, &pki.etcd_ca, "CN=etcd"),
        (&pki.etcd_peer, &pki.etcd_ca, "CN=etcd-peer"),
        (&pki.etcd_client, &pki.etcd_ca, "CN=kube-apiserver-etcd-client"),
    ] {
        let (found, _, signed) = read_certificate(&pair.certificate, &ca.certificate);
        assert_eq!(found, subject);
        assert!(signed, "{subject}");
        assert!(pair.expires > now() && pair.key.contains("PRIVATE KEY"));
    }
    let (_, _, foreign) = read_certificate(&pki.etcd_client.certificate, &pki.cluster_ca.certificate);
    assert!(!foreign);
    assert_eq!(pki.expires(), "2027-06-01T12:00:00Z".parse().unwrap());
}

#[test]
fn the_api_server_has_all_its_names() {
    let mut cluster = sample_cluster();
    cluster.control_plane.custom_san = vec!["cs.example.com".into(), "192.0.2.7".into(), " ".into()];
    let pki = generate(&cluster, &[sample_control_plane().ip], now(), None).unwrap();
    let (_, names, _) = read_certificate(&pki.api_server.certificate, &pki.cluster_ca.certificate);
    let text: Vec<&String> = names.iter().collect();
    assert_eq!(names.len(), 11, "{text:?}");
    for wanted in ["localhost", "kubernetes.default.svc.cluster.local", "cs.example.com"] {
        assert!(names.contains(&format!("DNSName({wanted})")), "{wanted}: {text:?}");
    }
    // 127.0.0.1, 172.21.0.1, 10.200.15.1, 10.200.0.2, 192.0.2.7
    for wanted in ["7f:00:00:01", "ac:15:00:01", "0a:c8:0f:01", "0a:c8:00:02", "c0:00:02:07"] {
        assert!(names.contains(&format!("IPAddress({wanted})")), "{wanted}: {text:?}");
    }
    cluster.control_plane.custom_san = vec!["no good".into()];
    assert!(generate(&cluster, &[], now(), None).unwrap_err().message.contains("no good"));
}

#[test]
fn the_users_authority_signs_the_cluster() {
    let theirs = sample_pki().front_proxy_ca;
    let text = format!("{}{}", theirs.certificate, theirs.key);
    let pki = generate(&sample_cluster(), &[], now(), Some(&text)).unwrap();
    assert!(read_certificate(&pki.admin.certificate, &theirs.certificate).2);
    let trusted = generate(&sample_cluster(), &[], now(), Some(&theirs.certificate)).unwrap();
    assert!(!read_certificate(&trusted.admin.certificate, &theirs.certificate).2);
    assert_eq!(trusted.client_authorities().matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn users_and_nodes_get_certificates() {
    let pki = sample_pki();
    let worker = sample_worker(1);
    let name = &worker.membership.as_ref().unwrap().node_name;
    let node = node_certificates(&pki, name, worker.ip, now()).unwrap();
    let (subject, names, signed) = read_certificate(&node.kubelet_server.certificate, &pki.cluster_ca.certificate);
    assert!(signed);
    assert_eq!(subject, format!("O=system:nodes, CN=system:node:{name}"));
    assert_eq!(names.len(), 2);
    let until = "2026-06-02T00:00:00Z".parse().unwrap();
    let user = user_certificate(&pki, "alice", None, now(), until).unwrap();
    assert_eq!(read_certificate(&user.certificate, &pki.cluster_ca.certificate).0, "CN=alice");
    assert_eq!(user.expires, until);
}

#[test]
fn stored_certificates_read_back_and_are_not_printed() {
    let pki = sample_pki();
    let read: Pki = serde_json::from_slice(&serde_json::to_vec(&pki).unwrap()).unwrap();
    assert_eq!(read, pki);
    assert!(!format!("{pki:?}").contains("PRIVATE"));
}

fn content(spec: &NodeSpec, path: &str) -> String {
    let file = spec.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path}"));
    String::from_utf8(STANDARD.decode(&file.content).unwrap()).unwrap()
}

fn process<'a>(spec: &'a NodeSpec, name: &str) -> &'a Process {
    spec.processes.iter().find(|process| process.name == name).unwrap()
}

fn has_flag(process: &Process, flag: &str) -> bool {
    process.command.iter().any(|word| word == flag)
}

fn control_plane(cluster: &Cluster) -> NodeSpec {
    let pki = sample_pki();
    let inputs = ControlPlaneInputs {
        certificate_lifetime: LEAF_VALID,
        cluster,
        pki: &pki,
        machine: &sample_control_plane(),
        workers: &[sample_worker(2), sample_worker(1)],
    };
    control_plane_spec(&inputs).unwrap()
}

fn worker(cluster: &Cluster, pool: &NodePool, facts: &HostFacts) -> NodeSpec {
    let pki = sample_pki();
    let own = sample_worker(1);
    let name = &own.membership.as_ref().unwrap().node_name;
    let inputs = WorkerInputs {
        certificate_lifetime: LEAF_VALID,
        cluster,
        pki: &pki,
        certificates: &node_certificates(&pki, name, own.ip, now()).unwrap(),
        machine: &own,
        control_planes: &[sample_control_plane().ip],
        pool: Some(pool),
        workers: &[sample_worker(1), sample_worker(2), sample_worker(3)],
        images: &sample_images(),
        facts,
        cpu_millis: Some(2000),
        memory_bytes: Some(8 << 30),
    };
    worker_spec(&inputs).unwrap()
}

#[test]
fn a_control_plane_follows_the_request() {
    let mut cluster = sample_cluster();
    cluster.control_plane.service_account_issuer = Some("kubernetes.default.svc, https://old.example".into());
    cluster.control_plane.api_audiences = vec!["a".into(), "b".into()];
    cluster.control_plane.timezone = Some("Asia/Shanghai".into());
    let spec = control_plane(&cluster);
    let api = process(&spec, "kube-apiserver");
    assert_eq!(api.command[0], "/opt/sampan/kubernetes/1.36.3/kube-apiserver");
    for flag in [
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--encryption-provider-config=/etc/kubernetes/encryption.json",
        "--service-cluster-ip-range=172.21.0.0/20",
        "--service-account-issuer=kubernetes.default.svc",
        "--service-account-issuer=https://old.example",
        "--api-audiences=a,b",
        "--enable-aggregator-routing=true",
    ] {
        assert!(has_flag(api, flag), "{flag}: {:?}", api.command);
    }
    let controllers = process(&spec, "kube-controllers");
    assert!(
        has_flag(controllers, "--cluster-cidr=172.20.0.0/16") && has_flag(controllers, "--allocate-node-cidrs=false")
    );
    assert_eq!(controllers.env["TZ"], "Asia/Shanghai");
    assert_eq!(spec.timezone.as_deref(), Some("Asia/Shanghai"));
    let routes: Vec<String> = spec.routes.iter().map(|route| format!("{} {}", route.destination, route.via)).collect();
    assert_eq!(routes, ["172.20.1.0/25 10.200.0.11", "172.20.2.0/25 10.200.0.12"]);
}

#[test]
fn every_file_that_a_control_plane_names_is_there() {
    let spec = control_plane(&sample_cluster());
    let paths: BTreeSet<&str> = spec.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths.len(), spec.files.len());
    let flags = spec.processes.iter().flat_map(|process| &process.command);
    for path in flags.filter_map(|word| word.split_once("=/etc/")).map(|(_, rest)| format!("/etc/{rest}")) {
        assert!(has_path(&paths, &path), "{path}");
    }
    for path in spec.processes.iter().flat_map(|process| &process.restart_on) {
        assert!(paths.contains(path.as_str()), "{path}");
    }
    for file in &spec.files {
        let secret = content(&spec, &file.path).contains("PRIVATE KEY") || file.path.ends_with(".conf");
        assert_eq!(file.mode & 0o077 == 0, secret || file.path.ends_with("encryption.json"), "{}", file.path);
    }
}

/// Whether it is a file of the specification, or the directory of some.
fn has_path(paths: &BTreeSet<&str>, path: &str) -> bool {
    paths.iter().any(|file| *file == path || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
}

fn registered_taints(spec: &NodeSpec) -> Value {
    let config: Value = serde_json::from_str(&content(spec, "/etc/kubernetes/kubelet.d/registration.conf")).unwrap();
    config["registerWithTaints"].clone()
}

#[test]
fn labels_tags_and_taints_restart_no_kubelet() {
    let cluster = sample_cluster();
    let before = worker(&cluster, &sample_pool(), &sample_facts());
    let mut pool = sample_pool();
    pool.taints = vec![Taint { key: "only".into(), value: "us".into(), effect: "NoSchedule".into() }];
    pool.labels = vec![tag("team", "a")];
    let after = worker(&Cluster { tags: vec![tag("cost", "lab")], ..cluster }, &pool, &sample_facts());
    assert_ne!(registered_taints(&before), registered_taints(&after));
    assert_ne!(process(&before, "kubelet").start_arguments, process(&after, "kubelet").start_arguments);
    // What the agent starts a process again for: its line and environment, and the files that it names.
    let started_from = |spec: &NodeSpec| -> Vec<(Process, Vec<String>)> {
        // Each sample has keys and certificates of its own.
        let is_own = |path: &&String| path.ends_with(".crt") || path.ends_with(".conf");
        let files = |process: &Process| {
            process.restart_on.iter().filter(|path| !is_own(path)).map(|path| content(spec, path)).collect()
        };
        let without = |process: &Process| Process { start_arguments: Vec::new(), ..process.clone() };
        spec.processes.iter().map(|process| (without(process), files(process))).collect()
    };
    assert_eq!(started_from(&before), started_from(&after));
}

#[test]
fn a_worker_follows_machine_pool_and_host() {
    let mut pool = sample_pool();
    pool.taints = vec![Taint { key: "only".into(), value: "us".into(), effect: "NoSchedule".into() }];
    pool.labels = vec![tag("team", "a"), tag("node-role.kubernetes.io/infra", "")];
    pool.cpu_policy = Some("static".into());
    pool.user_data = Some("#!/bin/sh\ntrue\n".into());
    let spec = worker(&sample_cluster(), &pool, &sample_facts());
    let config: Value = serde_json::from_str(&content(&spec, "/etc/kubernetes/kubelet.json")).unwrap();
    assert_eq!(config["providerID"], "cn-beijing.i-1");
    assert_eq!(config["maxPods"], 125);
    assert_eq!(config["cpuManagerPolicy"], "static");
    assert_eq!(config["systemReserved"]["cpu"], "6000m");
    assert_eq!(config["evictionHard"]["memory.available"], ((24u64 << 30) + (100 << 20)).to_string());
    assert_eq!(registered_taints(&spec), json!([{"key": "only", "value": "us", "effect": "NoSchedule"}]));
    let kubelet = process(&spec, "kubelet");
    assert!(has_flag(kubelet, "--hostname-override=cn-beijing.10.200.0.11"));
    let labels = kubelet.start_arguments.iter().find(|word| word.starts_with("--node-labels=")).unwrap();
    assert!(labels.contains("team=a") && labels.contains("topology.kubernetes.io/zone=cn-beijing-a"));
    assert!(!labels.contains("node-role"));
    assert!(kubelet.after.contains(&"user-data".to_owned()));
    assert_eq!(kubelet.wait_for, Some(Probe::Tcp("10.200.0.2:6443".into())));
    let proxy: Value = serde_json::from_str(&content(&spec, "/etc/kubernetes/kube-proxy.json")).unwrap();
    assert_eq!(proxy["mode"], "nftables");
    assert!(content(&spec, "/etc/containerd/config.toml").contains("restrict_oom_score_adj = true"));
    let rules = content(&spec, "/etc/sampan/pod-network.nft");
    assert!(rules.contains("ip saddr 172.20.0.0/16 ip daddr != { 172.20.0.0/16, 224.0.0.0/4 } masquerade"));
    assert!(rules.contains("ip daddr 172.21.0.0/20 meta l4proto tcp reject with tcp reset"), "{rules}");
    assert_eq!(spec.routes.len(), 2);
    assert!(spec.routes.iter().all(|route| route.via != sample_worker(1).ip));
}

#[test]
fn the_same_inputs_give_the_same_specification() {
    let (cluster, pool) = (sample_cluster(), sample_pool());
    let pki = sample_pki();
    let own = sample_worker(1);
    let certificates = node_certificates(&pki, "n", own.ip, now()).unwrap();
    let build = |workers: &[Machine]| {
        let inputs = WorkerInputs {
            certificate_lifetime: LEAF_VALID,
            cluster: &cluster,
            pki: &pki,
            certificates: &certificates,
            machine: &own,
            control_planes: &[sample_control_plane().ip],
            pool: Some(&pool),
            workers,
            images: &sample_images(),
            facts: &sample_facts(),
            cpu_millis: None,
            memory_bytes: None,
        };
        worker_spec(&inputs).unwrap().hash()
    };
    let (a, b) = (sample_worker(2), sample_worker(3));
    assert_eq!(build(&[a.clone(), b.clone()]), build(&[b, a]));
}

#[test]
fn a_machine_without_pod_addresses_is_no_worker() {
    let pki = sample_pki();
    let machine = sample_control_plane();
    let inputs = WorkerInputs {
        certificate_lifetime: LEAF_VALID,
        cluster: &sample_cluster(),
        pki: &pki,
        certificates: &node_certificates(&pki, "n", machine.ip, now()).unwrap(),
        machine: &machine,
        control_planes: &[sample_control_plane().ip],
        pool: None,
        workers: &[],
        images: &sample_images(),
        facts: &sample_facts(),
        cpu_millis: None,
        memory_bytes: None,
    };
    assert!(worker_spec(&inputs).unwrap_err().message.contains("i-cp"));
}

/// A master at 10.200.0.2, the first of three.
fn sample_master(stage: EtcdStage) -> Machine {
    let peers: Vec<Ipv4Addr> = (2..5).map(|last| Ipv4Addr::new(10, 200, 0, last)).collect();
    let membership = json!({
        "cluster_id": "c0123", "node_pool_id": null, "role": "Master", "node_name": "cn-beijing.10.200.0.2",
        "pod_cidr": "172.20.9.0/25", "task_id": "T-1", "etcd": {"stage": stage, "peers": peers},
    });
    machine("i-m", peers[0], membership)
}

fn master(stage: EtcdStage) -> NodeSpec {
    let pki = sample_pki();
    let own = sample_master(stage);
    let mut cluster = sample_cluster();
    cluster.cluster_type = sampan_store::model::ClusterType::Kubernetes;
    let inputs = WorkerInputs {
        certificate_lifetime: LEAF_VALID,
        cluster: &cluster,
        pki: &pki,
        certificates: &node_certificates(&pki, "cn-beijing.10.200.0.2", own.ip, now()).unwrap(),
        machine: &own,
        control_planes: &[],
        pool: None,
        workers: &[sample_worker(1), sample_worker(2)],
        images: &sample_images(),
        facts: &sample_facts(),
        cpu_millis: Some(2000),
        memory_bytes: Some(8 << 30),
    };
    master_spec(&inputs).unwrap()
}

#[test]
fn a_lone_etcd_speaks_to_nobody() {
    let spec = control_plane(&sample_cluster());
    let etcd = process(&spec, "etcd");
    for flag in [
        "--name=i-cp",
        "--initial-cluster=i-cp=https://127.0.0.1:2380",
        "--listen-peer-urls=https://127.0.0.1:2380",
        "--election-timeout=500",
    ] {
        assert!(has_flag(etcd, flag), "{flag}: {:?}", etcd.command);
    }
    assert!(has_flag(process(&spec, "kube-controllers"), "--leader-elect=false"));
}

#[test]
fn a_master_is_a_part_of_the_control_plane_and_a_node() {
    let spec = master(EtcdStage::Founder);
    let etcd = process(&spec, "etcd");
    let peers = "etcd-10-200-0-2=https://10.200.0.2:2380,etcd-10-200-0-3=https://10.200.0.3:2380,\
                 etcd-10-200-0-4=https://10.200.0.4:2380";
    for flag in [
        "--name=etcd-10-200-0-2",
        &format!("--initial-cluster={peers}"),
        "--initial-cluster-state=new",
        "--listen-peer-urls=https://10.200.0.2:2380",
        "--peer-client-cert-auth=true",
    ] {
        assert!(has_flag(etcd, flag), "{flag}: {:?}", etcd.command);
    }
    let joined = master(EtcdStage::Joined);
    assert!(has_flag(process(&joined, "etcd"), "--initial-cluster-state=existing"));
    let controllers = process(&spec, "kube-controllers");
    assert_eq!(controllers.command.iter().filter(|word| *word == "--leader-elect=true").count(), 2);
    assert!(content(&spec, "/etc/kubernetes/kubelet.conf").contains("https://127.0.0.1:6443"));
    assert_eq!(process(&spec, "kubelet").wait_for, Some(Probe::Http("https://127.0.0.1:6443/livez".into())));
    let taint = json!([{"key": "node-role.kubernetes.io/control-plane", "value": "", "effect": "NoSchedule"}]);
    assert_eq!(registered_taints(&spec), taint);
    let paths: BTreeSet<&str> = spec.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths.len(), spec.files.len(), "no file twice");
    let names: BTreeSet<&str> = spec.processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names.len(), spec.processes.len(), "no process twice");
    let flags = spec.processes.iter().flat_map(|process| &process.command);
    for path in flags.filter_map(|word| word.split_once("=/etc/kubernetes/")).map(|(_, rest)| rest) {
        assert!(has_path(&paths, &format!("/etc/kubernetes/{path}")), "{path}");
    }
}

#[test]
fn a_master_that_is_no_member_yet_runs_no_control_plane() {
    for stage in [EtcdStage::Clearing, EtcdStage::Adding] {
        let spec = master(stage);
        assert!(spec.processes.iter().all(|process| !process.name.starts_with("kube-api") && process.name != "etcd"));
        assert!(spec.processes.iter().any(|process| process.name == "kubelet"));
    }
}

#[test]
fn certificates_name_all_machines_of_a_control_plane_that_was_widened() {
    let cluster = sample_cluster();
    let mut pki = sample_pki();
    let ips: Vec<Ipv4Addr> = (2..5).map(|last| Ipv4Addr::new(10, 200, 0, last)).collect();
    assert!(reissue::names_all(&pki, &ips[..1]) && !reissue::names_all(&pki, &ips));
    // Made before addresses were noted.
    pki.control_planes.clear();
    assert!(reissue::names_all(&pki, &ips[..1]) && !reissue::names_all(&pki, &ips));
    let wide = reissue::reissued(&pki, &cluster, &ips, now(), LEAF_VALID).unwrap();
    assert!(reissue::names_all(&wide, &ips));
    assert!(
        wide.cluster_ca == pki.cluster_ca && wide.admin == pki.admin && wide.service_account == pki.service_account
    );
    for (pair, ca) in
        [(&wide.api_server, &pki.cluster_ca), (&wide.etcd_server, &pki.etcd_ca), (&wide.etcd_peer, &pki.etcd_ca)]
    {
        let (_, names, signed) = read_certificate(&pair.certificate, &ca.certificate);
        assert!(signed);
        assert_eq!(names.iter().filter(|name| name.contains("0a:c8:00:")).count(), 3, "{names:?}");
    }
}
