//! The one table of operations. Router, permission check, API description, command line and coverage report
//! are made from it; adding an operation starts with a line here.

mod lifecycle;
mod nodes;
mod upgrades;

use crate::operation::{Answer, Method, Operation, SchemaOf, schema_of};
use crate::types::*;

pub use lifecycle::*;
pub use nodes::*;
pub use upgrades::*;

/// All operations that are offered.
pub static OPERATIONS: &[&Operation] = &[
    &OPEN_ACK_SERVICE,
    &CREATE_CLUSTER,
    &DESCRIBE_CLUSTERS_V1,
    &DESCRIBE_CLUSTERS,
    &DESCRIBE_CLUSTER_DETAIL,
    &DESCRIBE_CLUSTER_RESOURCES,
    &DESCRIBE_CLUSTER_LOGS,
    &DESCRIBE_CLUSTER_NODES,
    &DESCRIBE_TASK_INFO,
    &DESCRIBE_CLUSTER_USER_KUBECONFIG,
    &DESCRIBE_CLUSTER_CERTS,
    &DESCRIBE_KUBERNETES_VERSION_METADATA,
    &DESCRIBE_USER_QUOTA,
    &DESCRIBE_EVENTS,
    &MODIFY_CLUSTER,
    &CREATE_AUTOSCALING_CONFIG,
    &MIGRATE_CLUSTER,
    &UPGRADE_CLUSTER,
    &GET_UPGRADE_STATUS,
    &PAUSE_CLUSTER_UPGRADE,
    &CANCEL_CLUSTER_UPGRADE,
    &RESUME_UPGRADE_CLUSTER,
    &MODIFY_CLUSTER_CONFIGURATION,
    &SCALE_OUT_CLUSTER,
    &UPDATE_CLUSTER_SIZE_BY_ID,
    &DELETE_CLUSTER,
    &DELETE_CLUSTER_NODES,
    &ATTACH_INSTANCES,
    &DESCRIBE_CLUSTER_ATTACH_SCRIPTS,
    &REMOVE_CLUSTER_NODE,
    &RESET_NODE,
    &LIST_IMAGES,
    &DESCRIBE_API_VERSION,
    &CREATE_CLUSTER_NODE_POOL,
    &SCALE_CLUSTER_NODE_POOL,
    &DESCRIBE_CLUSTER_NODE_POOLS,
    &DESCRIBE_CLUSTER_NODE_POOL_DETAIL,
    &MODIFY_CLUSTER_NODE_POOL,
    &REPAIR_CLUSTER_NODE_POOL,
    &DELETE_CLUSTER_NODEPOOL,
    &CREATE_TRIGGER,
    &DESCRIBE_TRIGGER,
    &DELETE_TRIGGER,
    &LIST_MACHINES,
    &CREATE_MACHINES,
    &DELETE_MACHINE,
    &STOP_CLUSTER,
    &START_CLUSTER,
    &DESCRIBE_CLUSTER_HEALTH,
    &LIST_CLUSTER_CERTIFICATES,
    &CREATE_CLUSTER_BACKUP,
    &LIST_CLUSTER_BACKUPS,
    &DELETE_CLUSTER_BACKUP,
    &RESTORE_CLUSTER,
];

/// The operation with this name in any edition.
pub fn find(name: &str) -> Option<&'static Operation> {
    // A name that one operation bears itself goes before the same name as an alias of another.
    let own = OPERATIONS.iter().find(|operation| crate::operation::same_name(operation.name, name));
    own.or_else(|| OPERATIONS.iter().find(|operation| operation.is_named(name))).copied()
}

const fn schema<T: schemars::JsonSchema>() -> Option<SchemaOf> {
    Some(schema_of::<T>)
}

/// What most operations have in common; the entries below say what is different.
const BASE: Operation = Operation {
    name: "",
    aliases: &[],
    method: Method::Get,
    path: "",
    other_paths: &[],
    ram_actions: &[],
    group: "Clusters",
    summary: "",
    status: 200,
    cluster_scoped: false,
    request: None,
    query: None,
    response: None,
    answer: Answer::Object,
    sections: &[],
};

/// Activates the service for the account.
pub static OPEN_ACK_SERVICE: Operation = Operation {
    name: "OpenAckService",
    method: Method::Post,
    path: "/service/open",
    ram_actions: &["cs:OpenAckService"],
    group: "Account",
    summary: "Activates the service for the account",
    query: schema::<OpenAckServiceQuery>(),
    response: schema::<OpenAckServiceResponse>(),
    sections: &["k8s-2022 8"],
    ..BASE
};

/// Creates a cluster of any type; the body says which.
pub static CREATE_CLUSTER: Operation = Operation {
    name: "CreateCluster",
    method: Method::Post,
    path: "/clusters",
    ram_actions: &["cs:CreateCluster"],
    summary: "Creates a cluster",
    status: 202,
    request: schema::<CreateClusterRequest>(),
    response: schema::<TaskStarted>(),
    sections: &[
        "k8s-2022 9.1.1",
        "k8s-2022 9.1.2",
        "k8s-2019 2.1",
        "k8s-2019 2.2",
        "swarm 2.4-single-zone",
        "swarm 2.4-multi-zone",
        "swarm 2.4-managed",
        "swarm 4.6.3",
    ],
    ..BASE
};

/// Lists Kubernetes clusters page by page.
pub static DESCRIBE_CLUSTERS_V1: Operation = Operation {
    name: "DescribeClustersV1",
    path: "/api/v1/clusters",
    ram_actions: &["cs:DescribeClustersV1", "cs:GetClusters"],
    summary: "Lists clusters page by page",
    query: schema::<DescribeClustersV1Query>(),
    response: schema::<DescribeClustersV1Response>(),
    sections: &["k8s-2022 9.2"],
    ..BASE
};

/// Lists clusters of all types.
pub static DESCRIBE_CLUSTERS: Operation = Operation {
    name: "DescribeClusters",
    aliases: &["GetClusterList", "GetClusters"],
    path: "/clusters",
    ram_actions: &["cs:DescribeClusters", "cs:GetClusters"],
    summary: "Lists clusters of all types",
    query: schema::<DescribeClustersQuery>(),
    response: schema::<Vec<Cluster>>(),
    answer: Answer::Array,
    sections: &["k8s-2019 2.10", "swarm 4.6.2"],
    ..BASE
};

/// Shows one cluster.
pub static DESCRIBE_CLUSTER_DETAIL: Operation = Operation {
    name: "DescribeClusterDetail",
    aliases: &["DescribeCluster", "GetClusterById"],
    path: "/clusters/{ClusterId}",
    ram_actions: &["cs:DescribeClusterDetail", "cs:GetClusterById"],
    summary: "Shows a cluster",
    cluster_scoped: true,
    response: schema::<Cluster>(),
    sections: &["k8s-2022 9.3", "k8s-2019 2.9", "swarm 4.6.5"],
    ..BASE
};

/// Lists what a cluster is made of.
pub static DESCRIBE_CLUSTER_RESOURCES: Operation = Operation {
    name: "DescribeClusterResources",
    path: "/clusters/{ClusterId}/resources",
    ram_actions: &["cs:DescribeClusterResources"],
    summary: "Lists the resources of a cluster",
    cluster_scoped: true,
    query: schema::<DescribeClusterResourcesQuery>(),
    response: schema::<Vec<ClusterResource>>(),
    answer: Answer::Array,
    sections: &["k8s-2022 9.4"],
    ..BASE
};

/// Shows the log of a cluster.
pub static DESCRIBE_CLUSTER_LOGS: Operation = Operation {
    name: "DescribeClusterLogs",
    path: "/clusters/{ClusterId}/logs",
    ram_actions: &["cs:DescribeClusterLogs"],
    summary: "Shows the log of a cluster",
    cluster_scoped: true,
    response: schema::<Vec<ClusterLog>>(),
    answer: Answer::Array,
    sections: &["k8s-2022 9.6"],
    ..BASE
};

/// Lists the nodes of a cluster.
pub static DESCRIBE_CLUSTER_NODES: Operation = Operation {
    name: "DescribeClusterNodes",
    path: "/clusters/{ClusterId}/nodes",
    ram_actions: &["cs:DescribeClusterNodes"],
    group: "Nodes",
    summary: "Lists the nodes of a cluster",
    cluster_scoped: true,
    query: schema::<DescribeClusterNodesQuery>(),
    response: schema::<DescribeClusterNodesResponse>(),
    sections: &["k8s-2022 9.7"],
    ..BASE
};

/// Shows a task.
pub static DESCRIBE_TASK_INFO: Operation = Operation {
    name: "DescribeTaskInfo",
    path: "/tasks/{TaskId}",
    ram_actions: &["cs:DescribeTaskInfo"],
    group: "Tasks",
    summary: "Shows how far a task is",
    response: schema::<Task>(),
    sections: &["k8s-2022 9.8"],
    ..BASE
};

/// Gives the caller a kubeconfig.
pub static DESCRIBE_CLUSTER_USER_KUBECONFIG: Operation = Operation {
    name: "DescribeClusterUserKubeconfig",
    path: "/k8s/{ClusterId}/user_config",
    other_paths: &["/api/v2/k8s/{ClusterId}/user_config"],
    ram_actions: &["cs:DescribeClusterUserKubeconfig"],
    group: "Access",
    summary: "Gives the caller a kubeconfig",
    cluster_scoped: true,
    query: schema::<DescribeClusterUserKubeconfigQuery>(),
    response: schema::<DescribeClusterUserKubeconfigResponse>(),
    sections: &["k8s-2022 9.9", "k8s-2019 2.5"],
    ..BASE
};

/// Gives the caller certificates, or the kubeconfig.
pub static DESCRIBE_CLUSTER_CERTS: Operation = Operation {
    name: "DescribeClusterCerts",
    aliases: &["GetClusterCerts"],
    path: "/clusters/{ClusterId}/certs",
    ram_actions: &["cs:DescribeClusterCerts", "cs:GetClusterCerts"],
    group: "Access",
    summary: "Gives the caller the credentials of a cluster",
    cluster_scoped: true,
    response: schema::<DescribeClusterCertsResponse>(),
    sections: &["k8s-2019 2.8", "swarm 4.6.1"],
    ..BASE
};

/// Lists Kubernetes versions.
pub static DESCRIBE_KUBERNETES_VERSION_METADATA: Operation = Operation {
    name: "DescribeKubernetesVersionMetadata",
    path: "/api/v1/metadata/versions",
    ram_actions: &["cs:DescribeKubernetesVersionMetadata"],
    group: "Account",
    summary: "Lists the Kubernetes versions that clusters can have",
    query: schema::<DescribeKubernetesVersionMetadataQuery>(),
    response: schema::<Vec<KubernetesVersionMetadata>>(),
    answer: Answer::Array,
    sections: &["k8s-2022 9.10"],
    ..BASE
};

/// Shows the account's limits.
pub static DESCRIBE_USER_QUOTA: Operation = Operation {
    name: "DescribeUserQuota",
    path: "/quota",
    ram_actions: &["cs:DescribeUserQuota"],
    group: "Account",
    summary: "Shows the limits of the account",
    response: schema::<DescribeUserQuotaResponse>(),
    sections: &["k8s-2022 9.11"],
    ..BASE
};

/// Lists events.
pub static DESCRIBE_EVENTS: Operation = Operation {
    name: "DescribeEvents",
    path: "/events",
    ram_actions: &["cs:DescribeEvents"],
    group: "Tasks",
    summary: "Lists events of the user's operations",
    query: schema::<DescribeEventsQuery>(),
    response: schema::<DescribeEventsResponse>(),
    sections: &["k8s-2022 9.12"],
    ..BASE
};

/// Changes a cluster's settings.
pub static MODIFY_CLUSTER: Operation = Operation {
    name: "ModifyCluster",
    method: Method::Put,
    path: "/api/v2/clusters/{ClusterId}",
    ram_actions: &["cs:ModifyCluster"],
    summary: "Changes the settings of a cluster",
    status: 202,
    cluster_scoped: true,
    request: schema::<ModifyClusterRequest>(),
    response: schema::<TaskStarted>(),
    sections: &["k8s-2022 9.14"],
    ..BASE
};

/// Says how the pools of a cluster scale by themselves.
pub static CREATE_AUTOSCALING_CONFIG: Operation = Operation {
    name: "CreateAutoscalingConfig",
    method: Method::Post,
    path: "/cluster/{ClusterId}/autoscale/config",
    ram_actions: &["cs:CreateAutoscalingConfig"],
    summary: "Says how the node pools of a cluster scale by themselves",
    cluster_scoped: true,
    request: schema::<CreateAutoscalingConfigRequest>(),
    response: schema::<CreateAutoscalingConfigResponse>(),
    sections: &["k8s-2022 9.17"],
    ..BASE
};

/// Gives a standard managed cluster a Pro one's control plane.
pub static MIGRATE_CLUSTER: Operation = Operation {
    name: "MigrateCluster",
    method: Method::Post,
    path: "/clusters/{ClusterId}/migrate",
    ram_actions: &["cs:MigrateCluster"],
    summary: "Gives a standard managed cluster a highly available control plane",
    status: 202,
    cluster_scoped: true,
    response: schema::<TaskStarted>(),
    sections: &["k8s-2022 9.15"],
    ..BASE
};

/// Adds workers.
pub static SCALE_OUT_CLUSTER: Operation = Operation {
    name: "ScaleOutCluster",
    method: Method::Post,
    path: "/api/v2/clusters/{ClusterId}",
    ram_actions: &["cs:ScaleOutCluster"],
    group: "Nodes",
    summary: "Adds workers to a cluster",
    status: 202,
    cluster_scoped: true,
    request: schema::<ScaleOutClusterRequest>(),
    response: schema::<TaskStarted>(),
    sections: &["k8s-2019 2.3"],
    ..BASE
};

/// Sets the number of nodes.
pub static UPDATE_CLUSTER_SIZE_BY_ID: Operation = Operation {
    name: "UpdateClusterSizeById",
    aliases: &["ScaleCluster"],
    method: Method::Put,
    path: "/clusters/{ClusterId}",
    ram_actions: &["cs:ScaleCluster", "cs:UpdateClusterSizeById"],
    group: "Nodes",
    summary: "Sets how many nodes a cluster has",
    status: 202,
    cluster_scoped: true,
    request: schema::<UpdateClusterSizeByIdRequest>(),
    response: schema::<TaskStarted>(),
    sections: &["swarm 2.5-kubernetes", "swarm 4.6.6"],
    ..BASE
};

/// Deletes a cluster.
pub static DELETE_CLUSTER: Operation = Operation {
    name: "DeleteCluster",
    method: Method::Delete,
    path: "/clusters/{ClusterId}",
    ram_actions: &["cs:DeleteCluster"],
    summary: "Deletes a cluster and releases its resources",
    status: 202,
    cluster_scoped: true,
    query: schema::<DeleteClusterQuery>(),
    response: schema::<TaskStarted>(),
    sections: &["k8s-2022 9.16", "k8s-2019 2.12", "swarm 4.6.4"],
    ..BASE
};

/// Lists images of nodes.
pub static LIST_IMAGES: Operation = Operation {
    name: "ListImages",
    aliases: &["DescribeImages"],
    path: "/images",
    ram_actions: &["cs:ListImages", "cs:DescribeImages"],
    group: "Account",
    summary: "Lists the images that nodes of Swarm clusters can be made of, by region",
    response: schema::<ListImagesResponse>(),
    answer: Answer::Map,
    sections: &["swarm 4.6.9"],
    ..BASE
};

/// Says which version of the API this is.
pub static DESCRIBE_API_VERSION: Operation = Operation {
    name: "DescribeApiVersion",
    path: "/version",
    ram_actions: &["cs:DescribeApiVersion"],
    group: "Account",
    summary: "Says which version of the API this is",
    response: schema::<DescribeApiVersionResponse>(),
    ..BASE
};

/// Makes a trigger for an application.
pub static CREATE_TRIGGER: Operation = Operation {
    name: "CreateTrigger",
    method: Method::Post,
    path: "/clusters/{ClusterId}/triggers",
    ram_actions: &["cs:CreateTrigger"],
    group: "Triggers",
    summary: "Makes a trigger for an application",
    cluster_scoped: true,
    request: schema::<CreateTriggerRequest>(),
    response: schema::<Trigger>(),
    ..BASE
};

/// Lists triggers of a cluster.
pub static DESCRIBE_TRIGGER: Operation = Operation {
    name: "DescribeTrigger",
    path: "/clusters/{ClusterId}/triggers",
    ram_actions: &["cs:DescribeTrigger"],
    group: "Triggers",
    summary: "Lists the triggers of a cluster",
    cluster_scoped: true,
    query: schema::<DescribeTriggerQuery>(),
    response: schema::<Vec<Trigger>>(),
    answer: Answer::Array,
    ..BASE
};

/// Deletes a trigger.
pub static DELETE_TRIGGER: Operation = Operation {
    name: "DeleteTrigger",
    method: Method::Delete,
    path: "/clusters/{ClusterId}/triggers/{Id}",
    ram_actions: &["cs:DeleteTrigger"],
    group: "Triggers",
    summary: "Deletes a trigger",
    cluster_scoped: true,
    response: schema::<DeleteTriggerResponse>(),
    ..BASE
};
