//! Documents with as little in them as possible.

use serde_json::json;

use crate::model::*;
use crate::{Batch, EventQuery, Store, StoreError};

pub(super) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn noon() -> Timestamp {
    time("2026-06-01T12:00:00.123456789Z")
}

pub(super) fn setting(id: &str, value: u64) -> Setting {
    Setting { id: id.to_owned(), value: json!(value) }
}

pub(super) fn vswitch(id: &str, vpc_id: &str) -> VSwitch {
    VSwitch {
        id: id.to_owned(),
        vpc_id: vpc_id.to_owned(),
        zone_id: "cn-beijing-a".to_owned(),
        cidr: "10.200.0.0/23".parse().unwrap(),
        created: noon(),
    }
}

pub(super) fn trigger(id: &str, cluster_id: &str) -> Trigger {
    Trigger {
        id: id.to_owned(),
        account_id: "1".to_owned(),
        cluster_id: cluster_id.to_owned(),
        namespace: "default".to_owned(),
        project: "shop".to_owned(),
        service: Some("web".to_owned()),
        kind: "application".to_owned(),
        action: TriggerAction::Scaling,
        on_image_update: false,
        created: noon(),
    }
}

pub(super) fn credential(id: &str, cluster_id: &str) -> KubeCredential {
    KubeCredential {
        id: id.to_owned(),
        cluster_id: cluster_id.to_owned(),
        user_name: "somebody".to_owned(),
        expires: noon(),
    }
}

pub(super) fn task(id: &str, cluster_id: &str, state: TaskState, updated: Timestamp) -> Task {
    Task {
        id: id.to_owned(),
        account_id: "1".to_owned(),
        cluster_id: cluster_id.to_owned(),
        task_type: TaskType::ClusterCreate,
        state,
        node_pool_id: None,
        stages: Vec::new(),
        results: Vec::new(),
        error: None,
        created: updated,
        updated,
        deadline: updated,
        lease: None,
        request_id: String::new(),
    }
}

/// Every field that may be absent is absent, so that the oldest documents are covered too.
pub(super) fn cluster(id: &str, state: ClusterState, updated: Timestamp) -> Cluster {
    serde_json::from_value(json!({
        "id": id, "account_id": "1", "name": id, "region_id": "cn-beijing", "zone_id": "cn-beijing-a",
        "cluster_type": "ManagedKubernetes", "spec": "ack.standard", "state": state,
        "created": updated, "updated": updated, "init_version": "1.36.3", "version": "1.36.3",
        "network": {
            "vpc_id": "vpc-1", "vswitch_ids": ["vsw-1"], "security_group_id": "sg-1",
            "pod_cidr": "172.16.0.0/16", "service_cidr": "172.21.0.0/20", "node_cidr_mask": 24,
            "dns_ip": "172.21.0.10", "api_vip": "10.200.15.1", "api_public_port": 6443,
            "cluster_domain": "cluster.local", "proxy_mode": "ipvs", "api_load_balancer_id": "lb-1",
        },
        "timeout_minutes": 60, "creation_task_id": format!("T-create-{id}"),
    }))
    .unwrap()
}

pub(super) fn node_pool(id: &str, cluster_id: &str) -> NodePool {
    serde_json::from_value(json!({
        "id": id, "cluster_id": cluster_id, "name": "default", "is_default": true, "state": "active",
        "created": noon(), "updated": noon(), "region_id": "cn-beijing", "instance_types": ["ecs.g6.large"],
        "vswitch_ids": [],
    }))
    .unwrap()
}

/// `cluster_id` empty: in the inventory.
pub(super) fn machine(id: &str, cluster_id: &str) -> Machine {
    let membership = (!cluster_id.is_empty()).then(|| {
        json!({
            "cluster_id": cluster_id, "node_pool_id": "np1", "role": "Worker",
            "node_name": "cn-beijing.10.200.0.5", "pod_cidr": "172.16.1.0/24", "task_id": "T-1",
        })
    });
    serde_json::from_value(json!({
        "id": id, "account_id": "1", "region_id": "cn-beijing", "zone_id": "cn-beijing-a", "vpc_id": "vpc-1",
        "vswitch_id": "vsw-1", "ip": "10.200.0.5", "mac": "02:00:0a:c8:00:05", "instance_type": "ecs.g6.large",
        "instance_name": id, "source": "manual", "created": noon(), "wanted": "Run", "state": "pending",
        "membership": membership,
    }))
    .unwrap()
}

pub(super) fn event(id: &str, cluster_id: &str, event_type: &str) -> Event {
    Event {
        id: id.to_owned(),
        account_id: "1".to_owned(),
        cluster_id: cluster_id.to_owned(),
        event_type: event_type.to_owned(),
        source: format!("/clusters/{cluster_id}"),
        subject: cluster_id.to_owned(),
        time: noon(),
        level: Level::Info,
        reason: "Started".to_owned(),
        message: "it begins".to_owned(),
    }
}

pub(super) fn log_line(cluster_id: &str, text: &str) -> LogLine {
    LogLine { id: 0, cluster_id: cluster_id.to_owned(), text: text.to_owned(), created: noon() }
}

/// Commits what `fill` puts into a batch.
pub(super) async fn commit(store: &Store, fill: impl FnOnce(&mut Batch) -> &mut Batch) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    fill(&mut batch);
    store.commit(batch).await
}

pub(super) async fn event_ids(store: &Store) -> Vec<String> {
    let query = EventQuery { account_id: "1".to_owned(), limit: 1_000, ..EventQuery::default() };
    let page = store.events(&query).await.unwrap();
    assert_eq!(page.total, page.items.len() as u64);
    page.items.into_iter().map(|event| event.id).collect()
}

pub(super) async fn log_texts(store: &Store, cluster_id: &str) -> Vec<String> {
    let lines = store.logs(cluster_id, 1_000).await.unwrap();
    lines.into_iter().map(|line| line.text).collect()
}

pub(super) async fn secret_text(store: &Store, name: &str) -> Option<String> {
    let secret = store.secret(name).await.unwrap();
    secret.map(|secret| secret.as_str().unwrap().to_owned())
}

pub(super) fn value_of(store: &Store, id: &str) -> Option<u64> {
    store.get::<Setting>(id).map(|setting| setting.value.value.as_u64().unwrap())
}
