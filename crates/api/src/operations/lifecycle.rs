//! A cluster's whole life: stop and start, health, certificates, backups.

use super::{BASE, schema};
use crate::operation::{Answer, Method, Operation};
use crate::types::*;

/// Stops a cluster.
pub static STOP_CLUSTER: Operation = Operation {
    name: "StopCluster",
    method: Method::Post,
    path: "/sampan/clusters/{ClusterId}/stop",
    ram_actions: &["sampan:StopCluster"],
    summary: "Stops a cluster: its machines do not run, everything they hold stays",
    status: 202,
    cluster_scoped: true,
    response: schema::<TaskStarted>(),
    ..BASE
};

/// Starts a stopped cluster.
pub static START_CLUSTER: Operation = Operation {
    name: "StartCluster",
    method: Method::Post,
    path: "/sampan/clusters/{ClusterId}/start",
    ram_actions: &["sampan:StartCluster"],
    summary: "Starts a stopped cluster as it was",
    status: 202,
    cluster_scoped: true,
    response: schema::<TaskStarted>(),
    ..BASE
};

/// Shows how a cluster and its parts are.
pub static DESCRIBE_CLUSTER_HEALTH: Operation = Operation {
    name: "DescribeClusterHealth",
    path: "/sampan/clusters/{ClusterId}/health",
    ram_actions: &["sampan:DescribeClusterHealth"],
    summary: "Shows how the parts and the nodes of a cluster are, since when, and why",
    cluster_scoped: true,
    response: schema::<ClusterHealth>(),
    ..BASE
};

/// Lists the certificates of a cluster.
pub static LIST_CLUSTER_CERTIFICATES: Operation = Operation {
    name: "ListClusterCertificates",
    path: "/sampan/clusters/{ClusterId}/certificates",
    ram_actions: &["sampan:ListClusterCertificates"],
    summary: "Lists the certificates of a cluster and their ends, without keys",
    cluster_scoped: true,
    response: schema::<ClusterCertificates>(),
    ..BASE
};

/// Makes a backup of a cluster.
pub static CREATE_CLUSTER_BACKUP: Operation = Operation {
    name: "CreateClusterBackup",
    method: Method::Post,
    path: "/sampan/clusters/{ClusterId}/backups",
    ram_actions: &["sampan:CreateClusterBackup"],
    group: "Backups",
    summary: "Makes a backup of everything that a cluster's API holds",
    status: 202,
    cluster_scoped: true,
    response: schema::<CreateClusterBackupResponse>(),
    ..BASE
};

/// Lists the backups of a cluster.
pub static LIST_CLUSTER_BACKUPS: Operation = Operation {
    name: "ListClusterBackups",
    path: "/sampan/clusters/{ClusterId}/backups",
    ram_actions: &["sampan:ListClusterBackups"],
    group: "Backups",
    summary: "Lists the backups of a cluster, the newest first",
    cluster_scoped: true,
    response: schema::<Vec<ClusterBackup>>(),
    answer: Answer::Array,
    ..BASE
};

/// Removes a backup.
pub static DELETE_CLUSTER_BACKUP: Operation = Operation {
    name: "DeleteClusterBackup",
    method: Method::Delete,
    path: "/sampan/clusters/{ClusterId}/backups/{BackupId}",
    ram_actions: &["sampan:DeleteClusterBackup"],
    group: "Backups",
    summary: "Removes a backup of a cluster",
    cluster_scoped: true,
    response: schema::<DeleteClusterBackupResponse>(),
    ..BASE
};

/// Puts a cluster back to a backup.
pub static RESTORE_CLUSTER: Operation = Operation {
    name: "RestoreCluster",
    method: Method::Post,
    path: "/sampan/clusters/{ClusterId}/backups/{BackupId}/restore",
    ram_actions: &["sampan:RestoreCluster"],
    group: "Backups",
    summary: "Puts everything that a cluster's API holds back to a backup",
    status: 202,
    cluster_scoped: true,
    response: schema::<TaskStarted>(),
    ..BASE
};
