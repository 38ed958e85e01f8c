//! What the nouns say about themselves, and the spellings that are stored and shown.

use serde::Serialize;
use serde_json::json;

use super::*;
use crate::{Kind, StoreError};

fn spelling(value: impl Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn states_are_spelt_as_the_api_spells_them() {
    use ClusterState::*;
    let all = [Initial, Failed, Running, Updating, UpdatingFailed, Scaling, Stopped, Deleting, Deleted, DeleteFailed];
    let wanted = [
        "initial",
        "failed",
        "running",
        "updating",
        "updating_failed",
        "scaling",
        "stopped",
        "deleting",
        "deleted",
        "delete_failed",
    ];
    assert_eq!(all.map(spelling), wanted);
    assert_eq!([TaskState::Running, TaskState::Fail, TaskState::Success].map(spelling), ["running", "fail", "success"]);
    let results = [ResultStatus::Initial, ResultStatus::Success, ResultStatus::Failed];
    assert_eq!(results.map(spelling), ["initial", "success", "failed"]);
    let levels = [Level::Info, Level::Warning, Level::Error];
    assert_eq!(levels.map(spelling), ["info", "warning", "error"]);
    assert_eq!(spelling(NodePoolState::Active), "active");
    assert_eq!(spelling(ProxyMode::Ipvs), "ipvs");
}

#[test]
fn a_task_type_is_stored_as_it_is_shown() {
    for task_type in [
        TaskType::ClusterCreate,
        TaskType::ClusterScaleout,
        TaskType::ClusterNodeDelete,
        TaskType::ClusterNodeReset,
        TaskType::ClusterModify,
        TaskType::ClusterDelete,
        TaskType::NodepoolUpdate,
    ] {
        assert_eq!(spelling(task_type), task_type.as_str());
    }
}

#[test]
fn only_settled_clusters_are_changed_and_only_deleted_ones_do_not_count() {
    use ClusterState::*;
    let mut cluster: Cluster = serde_json::from_value(json!({
        "id": "c1", "account_id": "1", "name": "n", "region_id": "cn-beijing", "zone_id": "cn-beijing-a",
        "cluster_type": "ManagedKubernetes", "spec": "ack.standard", "state": "initial",
        "created": "2026-06-01T12:00:00Z", "updated": "2026-06-01T12:00:00Z",
        "init_version": "1.36.3", "version": "1.36.3",
        "network": {
            "vpc_id": "vpc-1", "vswitch_ids": ["vsw-1"], "security_group_id": "sg-1",
            "pod_cidr": "172.16.0.0/16", "service_cidr": "172.21.0.0/20", "node_cidr_mask": 24,
            "dns_ip": "172.21.0.10", "api_vip": "10.200.15.1", "api_public_port": null,
            "cluster_domain": "cluster.local", "proxy_mode": "iptables", "api_load_balancer_id": "lb-1",
        },
        "timeout_minutes": 60, "creation_task_id": "T-1",
    }))
    .expect("fields that were added later may be absent");
    for (state, settled, live) in [
        (Initial, false, true),
        (Failed, false, true),
        (Running, true, true),
        (Updating, false, true),
        (UpdatingFailed, true, true),
        (Scaling, false, true),
        (Deleting, false, true),
        (DeleteFailed, false, true),
        (Deleted, false, false),
    ] {
        cluster.state = state;
        assert_eq!((cluster.is_settled(), cluster.is_live()), (settled, live), "{state:?}");
    }
}

#[test]
fn a_control_plane_is_no_worker() {
    let mut machine: Machine = serde_json::from_value(json!({
        "id": "i-1", "account_id": "1", "region_id": "cn-beijing", "zone_id": "cn-beijing-a", "vpc_id": "vpc-1",
        "vswitch_id": "vsw-1", "ip": "10.200.0.5", "mac": "02:00:0a:c8:00:05", "instance_type": "ecs.g6.large",
        "instance_name": "one", "source": "manual", "created": "2026-06-01T12:00:00Z", "wanted": "Run",
        "state": "pending",
    }))
    .expect("fields that were added later may be absent");
    assert_eq!((machine.cluster_id(), machine.is_worker_of("c1")), (None, false));
    for (role, worker) in [(MachineRole::Worker, true), (MachineRole::ControlPlane, false)] {
        machine.membership = Some(Membership {
            cluster_id: "c1".to_owned(),
            node_pool_id: None,
            role,
            node_name: "cn-beijing.10.200.0.5".to_owned(),
            pod_cidr: None,
            node_index: None,
            etcd: None,
            task_id: "T-1".to_owned(),
            version: None,
        });
        assert_eq!((machine.cluster_id(), machine.is_worker_of("c1")), (Some("c1"), worker));
        assert!(!machine.is_worker_of("c2"));
    }
}

#[test]
fn virtual_ips_are_the_last_256_of_a_vpc() {
    let mut vpc = Vpc {
        id: "vpc-1".to_owned(),
        account_id: "1".to_owned(),
        region_id: "cn-beijing".to_owned(),
        cidr: "10.200.16.0/20".parse().unwrap(),
        created: Timestamp::UNIX_EPOCH,
        ephemeral: false,
    };
    assert_eq!(vpc.vip_range().to_string(), "10.200.31.0/24");
    vpc.cidr = "10.200.16.0/24".parse().unwrap();
    assert_eq!(vpc.vip_range(), vpc.cidr);
}

#[test]
fn what_can_be_retried_says_so() {
    for (kind, retryable) in [
        (FaultKind::Conflict, true),
        (FaultKind::Unavailable, true),
        (FaultKind::Internal, true),
        (FaultKind::NonceUsed, false),
        (FaultKind::ClusterState, false),
        (FaultKind::InvalidParameter("name".to_owned()), false),
        (FaultKind::QuotaExceeded("Node".to_owned()), false),
    ] {
        assert_eq!(Fault::new(kind.clone(), "words").retryable(), retryable, "{kind:?}");
    }
    assert_eq!(Fault::no_cluster("c1").to_string(), "cluster c1 does not exist");
    assert_eq!(Fault::missing("name").kind, FaultKind::MissingParameter("name".to_owned()));
}

#[test]
fn errors_of_the_store_become_faults() {
    let text = || "words".to_owned();
    for (error, kind) in [
        (StoreError::Conflict { kind: Kind::NodePool, id: "np1".to_owned() }, FaultKind::Conflict),
        (StoreError::NonceUsed, FaultKind::NonceUsed),
        (StoreError::Unavailable(text()), FaultKind::Unavailable),
        (StoreError::Corrupt(text()), FaultKind::Internal),
        (StoreError::Key(text()), FaultKind::Internal),
        (StoreError::Invalid(text()), FaultKind::Internal),
    ] {
        let message = error.to_string();
        assert_eq!(Fault::from(error), Fault::new(kind, message));
    }
    let conflict = StoreError::Conflict { kind: Kind::NodePool, id: "np1".to_owned() };
    assert!(conflict.to_string().starts_with("node pool np1 was made"));
}

#[test]
fn moments_keep_their_nanoseconds() {
    for text in ["2026-06-01T12:00:00Z", "2026-06-01T12:00:00.5Z", "2026-06-01T12:00:00.123456789Z"] {
        let moment: Timestamp = text.parse().unwrap();
        assert_eq!(spelling(moment), text);
    }
}
