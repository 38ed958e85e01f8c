//! Health, certificates, backups.

use std::path::Path;

use sampan_api::types;
use sampan_control::{
    backup::Backup,
    ports::{EtcdMemberView, NodeConditionView},
    service::{
        cluster::{ClusterHealth, NodeHealth},
        cluster_state_word,
        credentials::CertificateView,
    },
};
use sampan_store::model::{Condition, Health};

use super::time;

fn word(health: Health) -> String {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Unhealthy => "unhealthy",
        Health::Unknown => "unknown",
    }
    .to_owned()
}

/// How a cluster is.
pub fn health(found: &ClusterHealth) -> types::ClusterHealth {
    types::ClusterHealth {
        cluster_id: found.cluster.id.clone(),
        state: cluster_state_word(&found.cluster).to_owned(),
        state_reason: found.cluster.state_reason.clone().unwrap_or_default(),
        health: word(found.health),
        components: found.components.iter().map(component).collect(),
        etcd_members: found.etcd_members.iter().map(member).collect(),
        nodes: found.nodes.iter().map(node).collect(),
        request_id: String::new(),
    }
}

fn component(condition: &Condition) -> types::ComponentHealth {
    types::ComponentHealth {
        component: condition.component.clone(),
        health: word(condition.health),
        message: condition.message.clone(),
        since: time(condition.since),
    }
}

fn member(member: &EtcdMemberView) -> types::EtcdMember {
    types::EtcdMember {
        member_id: format!("{:x}", member.id),
        name: member.name.clone(),
        leader: member.leader,
        db_size: member.db_size,
        db_size_in_use: member.db_size_in_use,
        version: member.version.clone(),
        problems: member.problems.clone(),
    }
}

fn node(node: &NodeHealth) -> types::NodeHealth {
    types::NodeHealth {
        node_name: node.machine.membership.as_ref().map(|member| member.node_name.clone()).unwrap_or_default(),
        instance_id: node.machine.id.clone(),
        health: word(node.health),
        unschedulable: node.unschedulable,
        conditions: node.conditions.iter().map(node_condition).collect(),
    }
}

fn node_condition(condition: &NodeConditionView) -> types::NodeConditionHealth {
    types::NodeConditionHealth {
        kind: condition.kind.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.since.map(time).unwrap_or_default(),
    }
}

/// A certificate, without its key.
pub fn certificate(view: &CertificateView) -> types::ClusterCertificate {
    types::ClusterCertificate {
        name: view.name.clone(),
        instance_id: view.machine_id.clone().unwrap_or_default(),
        subject: view.subject.clone(),
        issuer: view.issuer.clone(),
        not_before: time(view.not_before),
        not_after: time(view.not_after),
        consumer: view.consumer.clone(),
        is_ca: view.is_ca,
        renewed_at: view.renewed_at.map(time).unwrap_or_default(),
    }
}

/// A backup.
pub fn backup(backup: &Backup, path: &Path) -> types::ClusterBackup {
    types::ClusterBackup {
        backup_id: backup.id.clone(),
        cluster_id: backup.cluster_id.clone(),
        kind: backup.kind().as_str().to_owned(),
        created: time(backup.created),
        kubernetes_version: backup.kubernetes_version.clone(),
        revision: backup.revision,
        size: i64::try_from(backup.size).unwrap_or(i64::MAX),
        sha256: backup.sha256.clone(),
        file: path.display().to_string(),
    }
}
