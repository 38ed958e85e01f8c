//! Operations through the table of handlers, on a real store: published requests as printed, documented answers, and what
//! the page about CreateCluster's fields says.

// The lints spare functions that are tests, not those that tests call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use sampan_api::{Refusal, operations, types::CreateClusterRequest};
use sampan_control::{
    ports::Clock,
    service::{
        RequestContext, Service, Settings,
        credentials::{Credentials, Issued},
    },
};
use sampan_gateway::{call::Call, handlers};
use sampan_store::{
    Batch, Store,
    model::{Cluster, ClusterState, Machine, MachineState, Outcome, Task, TaskState, Timestamp},
};
use serde::Deserialize;
use serde_json::{Value, json};

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        // Each look is a second later, so that lists have an order.
        Timestamp::from_second(1_704_067_200 + self.0.fetch_add(1, Ordering::SeqCst)).unwrap()
    }
}

struct TestCredentials;

#[async_trait]
impl Credentials for TestCredentials {
    async fn issue(&self, _: &Cluster, _: &str, _: &[String], not_after: Timestamp) -> Outcome<Issued> {
        let text = || "PEM".to_owned();
        Ok(Issued { certificate_pem: text(), key_pem: text(), ca_pem: text(), expires: not_after })
    }
}

struct World {
    store: Store,
    service: Arc<Service>,
}

impl World {
    async fn new() -> Self {
        let store = Store::open_temporary().await.unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(0)));
        let settings = Settings { containerd_version: "2.4.2".into(), ..Settings::default() };
        let service = Service::new(store.clone(), settings, clock, Arc::new(TestCredentials));
        Self { store, service: Arc::new(service) }
    }

    async fn call(
        &self,
        name: &str,
        path: &[(&'static str, &str)],
        query: &str,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let operation = operations::find(name).unwrap_or_else(|| panic!("no operation {name}"));
        let route = handlers::routes().into_iter().find(|route| route.operation.name == operation.name).unwrap();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let reply = (route.handler)(Call {
            service: Arc::clone(&self.service),
            context: context(),
            operation,
            path: path.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            query: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            content_type: Some("application/json".into()),
            body: if body.is_null() { bytes::Bytes::new() } else { body.to_string().into() },
        });
        reply.await.map(|reply| serde_json::from_str(&reply.json).unwrap())
    }

    /// A running cluster, as the controllers would leave it.
    async fn running(&self, name: &str, nodes: i64) -> String {
        let body = json!({"name": name, "cluster_type": "ManagedKubernetes", "num_of_nodes": nodes});
        let made = self.call("CreateCluster", &[], "", &body).await.unwrap();
        let id = made["cluster_id"].as_str().unwrap().to_owned();
        self.settle(&id).await;
        id
    }

    async fn settle(&self, id: &str) {
        let cluster = self.store.get::<Cluster>(id).unwrap().value.clone();
        let mut batch = Batch::new();
        batch.put(&Cluster { state: ClusterState::Running, first_running: Some(cluster.created), ..cluster });
        for machine in self.store.list_of::<Machine>(id) {
            let node_status = Some("Ready".into());
            batch.put(&Machine { state: MachineState::Running, node_status, ..machine.value.clone() });
        }
        for task in self.store.list_of::<Task>(id) {
            batch.put(&Task { state: TaskState::Success, ..task.value.clone() });
        }
        self.store.commit(batch).await.unwrap();
    }
}

fn context() -> RequestContext {
    RequestContext {
        account_id: "1001".into(),
        principal: "1001".into(),
        is_root: true,
        request_id: "00000000-0000-4000-A000-000000000000".into(),
        region_id: "cn-beijing".into(),
        nonce: None,
    }
}

#[derive(Deserialize)]
struct Example {
    section: String,
    operation: String,
    body: Value,
}

/// What becomes of each published request, by section: the word in the refusal, or nothing when it is accepted.
const EXPECTED: [(&str, Option<&str>); 25] = [
    ("k8s-2022 9.1.1", None),
    ("k8s-2022 9.1.2", None),
    ("k8s-2022 9.1.3", Some("profile")),
    ("k8s-2022 9.1.3", Some("profile")),
    ("k8s-2022 9.1.4", Some("profile")),
    ("k8s-2022 9.1.5", Some("runtime")),
    ("k8s-2022 9.1.5", Some("terway")),
    ("k8s-2022 9.1.5", Some("terway")),
    ("k8s-2022 9.1.6", Some("runtime")),
    ("k8s-2022 9.1.6", Some("terway")),
    ("k8s-2022 9.14", None),
    ("k8s-2022 11.1", None),
    // Its password is masked in print.
    ("k8s-2022 11.1", Some("scaling_group.login_password")),
    ("k8s-2022 11.2", None),
    ("k8s-2022 11.3", None),
    // Its node is another cluster's.
    ("k8s-2022 11.8", Some("nodes")),
    // Its node is another cluster's.
    ("k8s-2022 11.9", Some("nodes")),
    // Its password is a mask.
    ("k8s-2019 2.1", Some("login_password")),
    // Its cluster type is a slip of the pen; both templates beside it have another one.
    ("k8s-2019 2.2", Some("cluster_type")),
    ("k8s-2019 2.3", None),
    ("k8s-2019 2.4", Some("profile")),
    ("swarm 4.6.3", None),
    // It is about a Swarm cluster, see below.
    ("swarm 4.6.6", Some("num_of_nodes")),
    // The cluster of the test is younger than the document.
    ("k8s-2022 12.1", Some("version")),
    ("k8s-2022 14.4", None),
];

#[tokio::test]
async fn published_requests_are_accepted_or_refused_with_a_reason() {
    let examples: Vec<Example> = serde_json::from_str(include_str!("../../api/tests/data/requests.json")).unwrap();
    assert_eq!(examples.len(), EXPECTED.len());
    for (example, (section, expected)) in examples.into_iter().zip(EXPECTED) {
        assert_eq!(example.section, section);
        check(&example, expected).await;
    }
}

async fn check(example: &Example, expected: Option<&str>) {
    let world = World::new().await;
    let pro = json!({"name": "pro", "cluster_type": "ManagedKubernetes", "cluster_spec": "ack.pro.small"});
    let made = world.call("CreateCluster", &[], "", &pro).await.unwrap();
    let id = made["cluster_id"].as_str().unwrap().to_owned();
    world.settle(&id).await;
    let pools = world.call("DescribeClusterNodePools", &[("ClusterId", &id)], "", &Value::Null).await.unwrap();
    let pool = pools["nodepools"][0]["nodepool_info"]["nodepool_id"].as_str().unwrap().to_owned();
    let path = [("ClusterId", id.as_str()), ("NodepoolId", pool.as_str())];
    let outcome = world.call(&example.operation, &path, "", &example.body).await;
    match (expected, outcome) {
        (None, Ok(answer)) => {
            assert!(answer["task_id"].as_str().unwrap().starts_with("T-"), "{}: {answer}", example.section)
        }
        (Some(word), Err(refusal)) => assert!(refusal.message.contains(word), "{}: {refusal}", example.section),
        (expected, outcome) => panic!("{}: {expected:?}, but {outcome:?}", example.section),
    }
}

#[tokio::test]
async fn an_upgrade_is_answered_in_the_documents_words() {
    let world = World::new().await;
    let body = json!({"name": "demo", "cluster_type": "ManagedKubernetes"});
    let made = world.call("CreateCluster", &[], "", &body).await.unwrap();
    let id = made["cluster_id"].as_str().unwrap().to_owned();
    world.settle(&id).await;
    let path = [("ClusterId", id.as_str())];
    let status = world.call("GetUpgradeStatus", &path, "", &Value::Null).await.unwrap();
    assert_eq!(status["upgrade_step"], "not_start");
    assert_eq!((&status["status"], &status["upgrade_task"]["status"]), (&json!(""), &json!("")));
    for operation in ["PauseClusterUpgrade", "ResumeUpgradeCluster", "CancelClusterUpgrade"] {
        let refusal = world.call(operation, &path, "", &Value::Null).await.unwrap_err();
        assert_eq!(refusal.code.as_str(), "ErrorClusterState", "{operation}: {refusal}");
    }
    let empty = world.call("UpgradeCluster", &path, "", &Value::Null).await.unwrap_err();
    assert_eq!(empty.code.as_str(), "MissingParameter", "{empty}");
    let skipped = world.call("UpgradeCluster", &path, "", &json!({"next_version": "1.99.0"})).await.unwrap_err();
    assert_eq!(skipped.code.as_str(), "InvalidParameter", "{skipped}");
}

#[tokio::test]
async fn healed_examples_are_accepted() {
    let world = World::new().await;
    let examples: Vec<Example> = serde_json::from_str(include_str!("../../api/tests/data/requests.json")).unwrap();
    let body = |section: &str, place: usize| {
        examples.iter().filter(|example| example.section == section).nth(place).unwrap().body.clone()
    };
    let mut older = body("k8s-2019 2.2", 0);
    older["cluster_type"] = json!("ManagedKubernetes");
    let made = world.call("CreateCluster", &[], "", &older).await.unwrap();
    assert_eq!(made["cluster_id"].as_str().unwrap().len(), 33);
    // The body of the command line's guide, with values for its placeholders.
    let oldest = json!({
        "disable_rollback": "true", "name": "cli", "timeout_mins": 60, "cluster_type": "ManagedKubernetes",
        "region_id": "cn-hangzhou", "vpcid": "vpc-1", "zoneid": "cn-hangzhou-b", "vswitchid": "vsw-1",
        "container_cidr": "172.20.0.0/16", "service_cidr": "172.21.0.0/20", "cloud_monitor_flags": "false",
        "login_password": "Hello1234", "worker_instance_charge_type": "PostPaid", "worker_period_unit": "Month",
        "worker_period": 1, "worker_auto_renew": "false", "worker_auto_renew_period": 1,
        "worker_instance_type": "ecs.n4.large", "worker_system_disk_category": "cloud_efficiency",
        "worker_system_disk_size": "120", "worker_data_disk": "false", "worker_data_disk_category": "cloud_ssd",
        "worker_data_disk_size": "200", "num_of_nodes": "2", "snat_entry": "true",
    });
    let made = world.call("CreateCluster", &[], "", &oldest).await.unwrap();
    let id = made["cluster_id"].as_str().unwrap();
    let shown = world.call("DescribeClusterDetail", &[("ClusterId", id)], "", &Value::Null).await.unwrap();
    assert_eq!((&shown["zone_id"], &shown["size"]), (&json!("cn-hangzhou-b"), &json!(2)));
    let text = shown.to_string();
    assert!(!text.contains("Hello1234"), "{text}");
    let mut scaling = body("k8s-2022 11.1", 1);
    scaling["scaling_group"]["login_password"] = json!("Hello1234");
    scaling["scaling_group"].as_object_mut().unwrap().remove("vpc_id");
    let id = world.running("pools", 0).await;
    let made = world.call("CreateClusterNodePool", &[("ClusterId", &id)], "", &scaling).await.unwrap();
    assert!(made["nodepool_id"].as_str().unwrap().starts_with("np"));
}

#[tokio::test]
async fn a_pool_is_changed_repaired_and_deleted() {
    let world = World::new().await;
    let id = world.running("pools", 0).await;
    let body = json!({"nodepool_info": {"name": "blue"}, "count": 1, "kubernetes_config": {
        "labels": [{"key": "env", "value": "prod"}], "node_name_mode": "customized,blue-,5,"}});
    let made = world.call("CreateClusterNodePool", &[("ClusterId", &id)], "", &body).await.unwrap();
    let pool = made["nodepool_id"].as_str().unwrap();
    let path = [("ClusterId", id.as_str()), ("NodepoolId", pool)];
    let before = world.call("DescribeClusterNodePoolDetail", &path, "", &Value::Null).await.unwrap();
    assert_eq!(before["management"]["auto_repair"], true, "what is in force");
    // What was read may be sent back: nothing changes.
    let same = world.call("ModifyClusterNodePool", &path, "", &before).await.unwrap();
    assert_eq!(same["nodepool_id"], pool);
    let mut after = world.call("DescribeClusterNodePoolDetail", &path, "", &Value::Null).await.unwrap();
    after["nodepool_info"]["updated"] = before["nodepool_info"]["updated"].clone();
    assert_eq!(after, before);
    let change = json!({"update_nodes": "true", "kubernetes_config": {"labels": []}, "management": {"auto_repair": false},
        "auto_scaling": {"enable": true, "min_instances": 1, "max_instances": "3"}});
    let changed = world.call("ModifyClusterNodePool", &path, "", &change).await.unwrap();
    assert!(changed["task_id"].as_str().unwrap().starts_with("T-"));
    let after = world.call("DescribeClusterNodePoolDetail", &path, "", &Value::Null).await.unwrap();
    assert_eq!(after["kubernetes_config"]["labels"], json!([]));
    assert_eq!(
        (&after["management"]["auto_repair"], &after["auto_scaling"]["max_instances"]),
        (&json!(false), &json!(3))
    );
    let refused = world.call("DeleteClusterNodepool", &path, "", &Value::Null).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "ErrorClusterState", "nodes are still being added: {refused}");
    world.settle(&id).await;
    let repaired = world.call("RepairClusterNodePool", &path, "", &json!({})).await.unwrap();
    assert!(repaired["task_id"].as_str().unwrap().starts_with("T-"));
    let deleted = world.call("DeleteClusterNodepool", &path, "force=true", &Value::Null).await.unwrap();
    let again = world.call("DeleteClusterNodepool", &path, "", &Value::Null).await.unwrap();
    assert_eq!(deleted["task_id"], again["task_id"]);
    let nowhere = [("ClusterId", id.as_str()), ("NodepoolId", "np0")];
    let refused = world.call("DeleteClusterNodepool", &nowhere, "", &Value::Null).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.status()), ("ErrorNodePoolNotFound", 404));
}

#[derive(Deserialize)]
struct Documented {
    section: String,
    operation: String,
    response: Vec<String>,
}

/// Whether a documented path such as `clusters[].tags[].key` is there, as far as its lists have entries.
fn has(value: &Value, path: &str) -> bool {
    let Some((step, rest)) = path.split_once('.').map(|(s, r)| (s, Some(r))).or(Some((path, None))) else {
        return true;
    };
    let (name, is_list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
    let Some(found) = value.get(name) else { return false };
    match (rest, is_list) {
        (None, _) => true,
        (Some(rest), false) => found.is_null() || has(found, rest),
        (Some(rest), true) => found.as_array().is_some_and(|items| items.iter().all(|item| has(item, rest))),
    }
}

#[tokio::test]
async fn answers_have_every_documented_field() {
    let world = World::new().await;
    let id = world.running("demo", 1).await;
    let pools = world.call("DescribeClusterNodePools", &[("ClusterId", &id)], "", &Value::Null).await.unwrap();
    let pool = pools["nodepools"][0]["nodepool_info"]["nodepool_id"].as_str().unwrap();
    let task = world.store.get::<Cluster>(&id).unwrap().creation_task_id.clone();
    let path = [("ClusterId", id.as_str()), ("NodepoolId", pool), ("TaskId", task.as_str())];
    let documented: Vec<Documented> = serde_json::from_str(include_str!("../../api/tests/data/fields.json")).unwrap();
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut asked = 0;
    for Documented { section, operation, response } in documented {
        let Some(operation) = operations::find(&operation).filter(|found| !found.changes()) else { continue };
        let query = "Region=cn-beijing&ClusterType=ManagedKubernetes";
        let answer =
            world.call(operation.name, &path, query, &Value::Null).await.unwrap_or_else(|r| panic!("{section}: {r}"));
        let one = answer.as_array().map_or(&answer, |list| &list[0]);
        let absent: Vec<String> = response.into_iter().filter(|field| !has(one, field)).collect();
        if !absent.is_empty() {
            missing.insert(format!("{section} {}", operation.name), absent);
        }
        asked += 1;
    }
    assert!(asked >= 20, "{asked}");
    // Fields of edge pools, and of disks nobody asked for.
    let absent_by_design = [
        "scaling_group.system_disk_performance_level",
        "scaling_group.system_disk_size",
        "interconnect_config",
        "interconnect_mode",
    ];
    for fields in missing.values_mut() {
        fields.retain(|field| !absent_by_design.iter().any(|known| field.contains(known)));
    }
    missing.retain(|_, fields| !fields.is_empty());
    assert!(missing.is_empty(), "{missing:#?}");
}

#[tokio::test]
async fn a_cluster_as_clients_read_it() {
    let world = World::new().await;
    let body = json!({"name": "demo", "cluster_type": "ManagedKubernetes", "num_of_nodes": 1, "enable_rrsa": true,
        "vpcid": "vpc-1", "vswitch_ids": ["vsw-1", "vsw-2"], "security_group_id": "sg-1", "timezone": "Asia/Shanghai",
        "tags": [{"key": "env", "value": "prod"}]});
    let made = world.call("CreateCluster", &[], "", &body).await.unwrap();
    let id = made["cluster_id"].as_str().unwrap();
    world.settle(id).await;
    let mut shown = world.call("DescribeClusterDetail", &[("ClusterId", id)], "", &Value::Null).await.unwrap();
    let port = world.store.get::<Cluster>(id).unwrap().network.api_public_port.unwrap();
    let urls: Value = serde_json::from_str(shown["master_url"].as_str().unwrap()).unwrap();
    let public = format!("https://127.0.0.1:{port}");
    let internal = "https://10.200.15.1:6443";
    assert_eq!(urls, json!({"api_server_endpoint": public, "intranet_api_server_endpoint": internal}));
    let about: Value = serde_json::from_str(shown["meta_data"].as_str().unwrap()).unwrap();
    assert_eq!((&about["Runtime"], &about["RuntimeVersion"]), (&json!("containerd"), &json!("2.4.2")));
    let balancer = shown["external_loadbalancer_id"].clone();
    assert!(balancer.as_str().unwrap().starts_with("lb-"));
    assert_eq!(shown["parameters"]["num_of_nodes"], "1");
    for variable in
        ["cluster_id", "master_url", "meta_data", "parameters", "agent_version", "control_plane_endpoints_config"]
    {
        shown.as_object_mut().unwrap().remove(variable).unwrap();
    }
    assert_eq!(
        shown,
        json!({
            "name": "demo", "cluster_type": "ManagedKubernetes", "cluster_spec": "ack.standard", "profile": "Default",
            "state": "running", "region_id": "cn-beijing", "zone_id": "cn-beijing-a", "size": 1,
            "created": "2024-01-01T00:00:00Z", "updated": "2024-01-01T00:00:00Z", "init_version": "1.36.3",
            "current_version": "1.36.3", "next_version": "", "docker_version": "", "deletion_protection": false,
            "external_loadbalancer_id": balancer, "network_mode": "vpc", "private_zone": false,
            "resource_group_id": "", "security_group_id": "sg-1", "subnet_cidr": "172.16.0.0/16",
            "tags": [{"key": "env", "value": "prod"}], "vpc_id": "vpc-1", "vswitch_id": "vsw-1,vsw-2",
            "worker_ram_role_name": "", "vswitch_ids": ["vsw-1", "vsw-2"], "container_cidr": "172.16.0.0/16",
            "service_cidr": "172.19.0.0/20", "node_cidr_mask": "25", "ip_stack": "ipv4", "proxy_mode": "ipvs",
            "cluster_domain": "cluster.local", "extra_sans": [], "timezone": "Asia/Shanghai",
            "maintenance_window": {"enable": false, "maintenance_time": "", "duration": "", "weekly_period": ""},
            "rrsa_config": {"enabled": true},
        })
    );
}

#[tokio::test]
async fn a_node_and_a_task_as_clients_read_them() {
    let world = World::new().await;
    let id = world.running("demo", 1).await;
    let nodes = world.call("DescribeClusterNodes", &[("ClusterId", &id)], "pageSize=5", &Value::Null).await.unwrap();
    assert_eq!(nodes["page"], json!({"page_number": 1, "page_size": 5, "total_count": 1}));
    let node = &nodes["nodes"][0];
    assert_eq!(
        (&node["state"], &node["instance_status"], &node["node_status"]),
        (&json!("running"), &json!("Running"), &json!("Ready"))
    );
    assert_eq!((&node["instance_role"], &node["instance_type_family"]), (&json!("Worker"), &json!("ecs.g6")));
    assert_eq!(node["node_name"], format!("cn-beijing.{}", node["ip_address"][0].as_str().unwrap()));
    let refusal =
        world.call("DescribeClusterNodes", &[("ClusterId", &id)], "pageSize=101", &Value::Null).await.unwrap_err();
    assert!(refusal.message.contains("pageSize"), "{refusal}");

    let removed = json!({"nodes": [node["instance_id"]], "release_node": true});
    let started = world.call("DeleteClusterNodes", &[("ClusterId", &id)], "", &removed).await.unwrap();
    let task_id = started["task_id"].as_str().unwrap();
    let task = world.call("DescribeTaskInfo", &[("TaskId", task_id)], "", &Value::Null).await.unwrap();
    assert_eq!((&task["state"], &task["task_type"]), (&json!("running"), &json!("cluster_node_delete")));
    assert_eq!(task["task_result"], json!([{"data": node["instance_id"], "status": "initial"}]));
    assert_eq!(task["events"][0]["reason"], "Started");
    let leaving =
        world.call("DescribeClusterNodes", &[("ClusterId", &id)], "state=removing", &Value::Null).await.unwrap();
    assert_eq!(
        (&leaving["nodes"][0]["state"], &leaving["nodes"][0]["node_status"]),
        (&json!("stopping"), &json!("Offline"))
    );
}

#[tokio::test]
async fn kubeconfigs_events_and_deletion() {
    let world = World::new().await;
    let id = world.running("demo", 0).await;
    let path = [("ClusterId", id.as_str())];
    let query = "PrivateIpAddress=True&TemporaryDurationMinutes=15";
    let config = world.call("DescribeClusterUserKubeconfig", &path, query, &Value::Null).await.unwrap();
    assert!(config["config"].as_str().unwrap().contains("https://10.200.15.1:6443"));
    assert!(config["expiration"].as_str().unwrap().ends_with('Z'));
    let certs = world.call("DescribeClusterCerts", &path, "", &Value::Null).await.unwrap();
    assert!(certs["config"].as_str().unwrap().contains("https://127.0.0.1:") && certs["ca"] == "PEM");
    let none = world.call("DescribeClusterDetail", &[("ClusterId", "c0")], "", &Value::Null).await.unwrap_err();
    assert_eq!((none.code.as_str(), none.status()), ("ErrorClusterNotFound", 404));

    let query = r#"retain_all_resources=false&keep_slb=false&retain_resources=["sg-2ze6ess9kho6fdn9****"]"#;
    let deleted = world.call("DeleteCluster", &path, query, &Value::Null).await.unwrap();
    assert_eq!(world.call("DeleteCluster", &path, "", &Value::Null).await.unwrap()["task_id"], deleted["task_id"]);
    let shown = world.call("DescribeClusterDetail", &path, "", &Value::Null).await.unwrap();
    assert_eq!(shown["state"], "deleting");
    // One says that it began, one that a security group cannot outlive its cluster here.
    let query = format!("cluster_id={id}&type=cluster_delete");
    let events = world.call("DescribeEvents", &[], &query, &Value::Null).await.unwrap();
    assert_eq!(
        (&events["page_info"]["total_count"], &events["events"][0]["data"]["level"]),
        (&json!(2), &json!("info"))
    );
}

#[tokio::test]
async fn a_swarm_cluster_from_its_published_requests() {
    let world = World::new().await;
    let examples: Vec<Example> = serde_json::from_str(include_str!("../../api/tests/data/requests.json")).unwrap();
    let body = |section: &str| examples.iter().find(|example| example.section == section).unwrap().body.clone();
    let made = world.call("CreateCluster", &[], "", &body("swarm 4.6.3")).await.unwrap();
    let id = made["cluster_id"].as_str().unwrap();
    let path = [("ClusterId", id)];
    let shown = world.call("GetClusterById", &path, "", &Value::Null).await.unwrap();
    assert_eq!(
        (&shown["state"], &shown["size"], &shown["cluster_type"]),
        (&json!("launching"), &json!(1), &json!("aliyun"))
    );
    let early = world.call("GetClusterCerts", &path, "", &Value::Null).await.unwrap_err();
    assert_eq!(early.code.as_str(), "ErrorClusterState");
    world.settle(id).await;

    let shown = world.call("GetClusterList", &[], "", &Value::Null).await.unwrap()[0].clone();
    let cluster = world.store.get::<Cluster>(id).unwrap();
    let routing = cluster.swarm.as_ref().unwrap().routing_public_port.unwrap();
    let documented = json!({
        "agent_version": env!("CARGO_PKG_VERSION"), "cluster_id": id, "created": "2024-01-01T00:00:00Z",
        "external_loadbalancer_id": cluster.network.api_load_balancer_id,
        "master_url": format!("https://127.0.0.1:{}", cluster.network.api_public_port.unwrap()),
        "name": "my-test-cluster", "network_mode": "vpc", "region_id": "cn-beijing",
        "security_group_id": cluster.network.security_group_id, "size": 1, "state": "running",
        "updated": "2024-01-01T00:00:00Z", "vpc_id": "vpc-xxxx", "vswitch_id": "vsw-xxxx",
        "routing_url": format!("http://127.0.0.1:{routing}"), "subnet_cidr": "172.28.1.0/24",
    });
    for (field, value) in documented.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    assert!(!shown.to_string().contains("TestPwd124"), "{shown}");
    let certs = world.call("GetClusterCerts", &path, "", &Value::Null).await.unwrap();
    assert_eq!(certs.as_object().unwrap().keys().collect::<Vec<_>>(), ["ca", "cert", "key"]);

    let scaled = world.call("UpdateClusterSizeById", &path, "", &body("swarm 4.6.6")).await.unwrap();
    assert_eq!(scaled["cluster_id"], id);
    let shown = world.call("GetClusterById", &path, "", &Value::Null).await.unwrap();
    assert_eq!((&shown["state"], &shown["size"]), (&json!("scaling"), &json!(2)));
}

#[tokio::test]
async fn nodes_of_a_swarm_cluster_on_the_wire() {
    let world = World::new().await;
    let body = json!({"name": "web", "size": 2, "instance_type": "ecs.n4.large", "password": "TestPwd124",
        "vpc_id": "vpc-1", "vswitch_id": "vsw-1"});
    let made = world.call("CreateCluster", &[], "", &body).await.unwrap();
    let id = made["cluster_id"].as_str().unwrap();
    let path = [("ClusterId", id)];
    world.settle(id).await;
    let nodes = world.call("DescribeClusterNodes", &path, "", &Value::Null).await.unwrap()["nodes"].clone();
    assert_eq!((nodes.as_array().unwrap().len(), &nodes[0]["nodepool_id"]), (2, &json!("")));

    let kept = json!({"vpc_id": "vpc-1", "vswitch_id": "vsw-1"});
    let kept = world.call("CreateMachines", &[], "", &kept).await.unwrap()["instance_ids"][0].clone();
    let body = json!({"password": "TestPwd124", "instances": [kept, "i-0000"]});
    let attached = world.call("AttachInstances", &path, "", &body).await.unwrap();
    assert_eq!(attached["list"][0], json!({"code": "200", "instanceId": kept, "message": "successful"}));
    assert_eq!(attached["list"][1]["code"], "404");
    assert!(attached["task_id"].as_str().unwrap().starts_with("T-"));

    let ip = nodes[0]["ip_address"][0].as_str().unwrap();
    let removed = [("ClusterId", id), ("Ip", ip)];
    let started = world.call("RemoveClusterNode", &removed, "releaseInstance=true", &Value::Null).await.unwrap();
    assert_eq!(started["cluster_id"], id);
    let nowhere = [("ClusterId", id), ("Ip", "10.9.9.9")];
    let nobody = world.call("RemoveClusterNode", &nowhere, "", &Value::Null);
    assert_eq!(nobody.await.unwrap_err().code.as_str(), "ErrorNodeNotFound");

    let other = [("ClusterId", id), ("InstanceId", nodes[1]["instance_id"].as_str().unwrap())];
    let started = world.call("ResetNode", &other, "", &Value::Null).await.unwrap();
    let again = world.call("ResetNode", &other, "", &json!({"ecs_image_id": "ubuntu_16_0402_64"})).await.unwrap();
    assert_eq!(again["task_id"], started["task_id"]);

    let images = world.call("ListImages", &[], "", &Value::Null).await.unwrap();
    assert_eq!(images["cn-beijing"]["items"][0]["value"], "sampan_node_debian_12.vhd");
    let version = world.call("DescribeApiVersion", &[], "", &Value::Null).await.unwrap();
    assert_eq!(version["version"], "2015-12-15");
}

#[tokio::test]
async fn operations_of_the_other_generation_are_refused_with_words() {
    let world = World::new().await;
    let kubernetes = world.running("demo", 1).await;
    let body = json!({"name": "web", "size": 1, "instance_type": "ecs.n4.large", "password": "TestPwd124"});
    let made = world.call("CreateCluster", &[], "", &body).await.unwrap();
    let swarm = made["cluster_id"].as_str().unwrap();
    world.settle(swarm).await;
    let pool = json!({"nodepool_info": {"name": "more"}, "count": 1});
    for (operation, body) in [
        ("DescribeClusterUserKubeconfig", Value::Null),
        ("DescribeClusterNodePools", Value::Null),
        ("DescribeClusterNodePoolDetail", Value::Null),
        ("CreateClusterNodePool", pool),
        ("ScaleClusterNodePool", json!({"count": 1})),
        ("ScaleOutCluster", json!({"count": 1})),
        ("ModifyCluster", json!({"deletion_protection": true})),
        ("DescribeClusterAttachScripts", json!({})),
    ] {
        let path = [("ClusterId", swarm), ("NodepoolId", "np1")];
        let refusal = world.call(operation, &path, "", &body).await.expect_err(operation);
        assert_eq!(refusal.code.as_str(), "NotSupported", "{operation}: {refusal}");
        assert!(refusal.message.contains("is a Swarm cluster"), "{operation}: {refusal}");
    }
    for (operation, body) in [("RemoveClusterNode", Value::Null), ("ResetNode", Value::Null)] {
        let path = [("ClusterId", kubernetes.as_str()), ("Ip", "10.200.0.5"), ("InstanceId", "i-1")];
        let refusal = world.call(operation, &path, "", &body).await.expect_err(operation);
        assert!(refusal.message.contains("is a Kubernetes cluster"), "{operation}: {refusal}");
    }
    let wrong_body =
        world.call("UpdateClusterSizeById", &[("ClusterId", swarm)], "", &json!({"num_of_nodes": 3})).await;
    let refusal = wrong_body.unwrap_err();
    assert_eq!(refusal.code.as_str(), "MissingParameter", "{refusal}");
    let neither = world.call("CreateCluster", &[], "", &json!({"name": "x", "num_of_nodes": 1})).await.unwrap_err();
    assert!(neither.message.contains("cluster_type"), "{neither}");
}

#[test]
fn the_page_about_fields_names_every_field() {
    let page = include_str!("../../../docs/fields-create-cluster.md");
    let schema = schemars::schema_for!(CreateClusterRequest);
    let fields = schema.as_value()["properties"].as_object().unwrap();
    assert!(fields.len() > 100);
    let missing: Vec<&String> = fields.keys().filter(|field| !page.contains(&format!("`{field}`"))).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}
