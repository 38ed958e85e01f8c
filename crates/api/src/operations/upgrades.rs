//! Versions and parameters of a control plane.

use super::{BASE, schema};
use crate::operation::{Method, Operation};
use crate::types::*;

/// Brings a cluster to another version.
pub static UPGRADE_CLUSTER: Operation = Operation {
    name: "UpgradeCluster",
    method: Method::Post,
    path: "/api/v2/clusters/{ClusterId}/upgrade",
    ram_actions: &["cs:UpgradeCluster"],
    group: "Upgrades",
    summary: "Upgrades a cluster to another version of Kubernetes",
    status: 202,
    cluster_scoped: true,
    request: schema::<UpgradeClusterRequest>(),
    response: schema::<TaskStarted>(),
    sections: &["k8s-2022 12.1"],
    ..BASE
};

/// Says how an upgrade stands.
pub static GET_UPGRADE_STATUS: Operation = Operation {
    name: "GetUpgradeStatus",
    path: "/api/v2/clusters/{ClusterId}/upgrade/status",
    ram_actions: &["cs:GetUpgradeStatus"],
    group: "Upgrades",
    summary: "Says how the upgrade of a cluster stands",
    cluster_scoped: true,
    response: schema::<GetUpgradeStatusResponse>(),
    sections: &["k8s-2022 12.2"],
    ..BASE
};

/// Stops an upgrade between two steps.
pub static PAUSE_CLUSTER_UPGRADE: Operation = Operation {
    name: "PauseClusterUpgrade",
    method: Method::Post,
    path: "/api/v2/clusters/{ClusterId}/upgrade/pause",
    ram_actions: &["cs:PauseClusterUpgrade"],
    group: "Upgrades",
    summary: "Pauses the upgrade of a cluster",
    cluster_scoped: true,
    response: schema::<UpgradeControlResponse>(),
    sections: &["k8s-2022 12.3"],
    ..BASE
};

/// Ends an upgrade between two steps.
pub static CANCEL_CLUSTER_UPGRADE: Operation = Operation {
    name: "CancelClusterUpgrade",
    method: Method::Post,
    path: "/api/v2/clusters/{ClusterId}/upgrade/cancel",
    ram_actions: &["cs:CancelClusterUpgrade"],
    group: "Upgrades",
    summary: "Cancels the upgrade of a cluster; what is upgraded stays so",
    cluster_scoped: true,
    response: schema::<UpgradeControlResponse>(),
    sections: &["k8s-2022 12.4"],
    ..BASE
};

/// Lets a paused or failed upgrade go on.
pub static RESUME_UPGRADE_CLUSTER: Operation = Operation {
    name: "ResumeUpgradeCluster",
    aliases: &["ResumeClusterUpgrade"],
    method: Method::Post,
    path: "/api/v2/clusters/{ClusterId}/upgrade/resume",
    ram_actions: &["cs:ResumeUpgradeCluster"],
    group: "Upgrades",
    summary: "Lets a paused or failed upgrade of a cluster go on",
    cluster_scoped: true,
    response: schema::<UpgradeControlResponse>(),
    sections: &["k8s-2022 12.5"],
    ..BASE
};

/// Changes parameters of the control plane.
pub static MODIFY_CLUSTER_CONFIGURATION: Operation = Operation {
    name: "ModifyClusterConfiguration",
    method: Method::Put,
    path: "/clusters/{ClusterId}/configuration",
    ram_actions: &["cs:ModifyClusterConfiguration"],
    group: "Clusters",
    summary: "Changes parameters of a cluster's control plane",
    status: 202,
    cluster_scoped: true,
    request: schema::<ModifyClusterConfigurationRequest>(),
    response: schema::<TaskStarted>(),
    sections: &["k8s-2022 14.4"],
    ..BASE
};
