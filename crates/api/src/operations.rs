//! The one table of operations. Router, permission check, API description, command line and coverage report
//! are made from it; adding an operation starts with a line here.

use crate::operation::{Answer, Method, Operation, SchemaOf, schema_of};
use crate::types::*;

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
    &SCALE_OUT_CLUSTER,
    &UPDATE_CLUSTER_SIZE_BY_ID,
    &DELETE_CLUSTER,
    &DELETE_CLUSTER_NODES,
    &ATTACH_INSTANCES,
    &REMOVE_CLUSTER_NODE,
    &RESET_NODE,
    &LIST_IMAGES,
    &DESCRIBE_API_VERSION,
    &CREATE_CLUSTER_NODE_POOL,
    &SCALE_CLUSTER_NODE_POOL,
    &DESCRIBE_CLUSTER_NODE_POOLS,
    &DESCRIBE_CLUSTER_NODE_POOL_DETAIL,
    &CREATE_TRIGGER,
    &DESCRIBE_TRIGGER,
    &DELETE_TRIGGER,
    &LIST_MACHINES,
    &CREATE_MACHINES,
    &DELETE_MACHINE,
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
    sections: &["k8s-2022 9.1.2", "k8s-2019 2.2", "swarm 2.4-managed", "swarm 4.6.3"],
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

/// Removes nodes.
pub static DELETE_CLUSTER_NODES: Operation = Operation {
    name: "DeleteClusterNodes",
    aliases: &["RemoveClusterNodes"],
    method: Method::Post,
    path: "/clusters/{ClusterId}/nodes",
    ram_actions: &["cs:DeleteClusterNodes", "cs:RemoveClusterNodes"],
    group: "Nodes",
    summary: "Removes nodes from a cluster",
    status: 202,
    cluster_scoped: true,
    request: schema::<DeleteClusterNodesRequest>(),
    response: schema::<TaskStarted>(),
    sections: &["k8s-2022 11.9", "k8s-2019 2.11"],
    ..BASE
};

/// Makes existing instances nodes.
pub static ATTACH_INSTANCES: Operation = Operation {
    name: "AttachInstances",
    method: Method::Post,
    path: "/clusters/{ClusterId}/attach",
    ram_actions: &["cs:AttachInstances"],
    group: "Nodes",
    summary: "Adds existing instances to a Swarm cluster",
    status: 202,
    cluster_scoped: true,
    request: schema::<AttachInstancesRequest>(),
    response: schema::<AttachInstancesResponse>(),
    sections: &["swarm 4.6.7"],
    ..BASE
};

/// Removes a node of a Swarm cluster.
pub static REMOVE_CLUSTER_NODE: Operation = Operation {
    name: "RemoveClusterNode",
    method: Method::Delete,
    path: "/clusters/{ClusterId}/ip/{Ip}",
    ram_actions: &["cs:RemoveClusterNode", "cs:DeleteClusterNodes"],
    group: "Nodes",
    summary: "Removes the node with this address from a Swarm cluster",
    status: 202,
    cluster_scoped: true,
    query: schema::<RemoveClusterNodeQuery>(),
    response: schema::<TaskStarted>(),
    sections: &["swarm 4.6.8"],
    ..BASE
};

/// Makes a node from scratch.
pub static RESET_NODE: Operation = Operation {
    name: "ResetNode",
    aliases: &["ResetClusterNode"],
    method: Method::Post,
    path: "/clusters/{ClusterId}/instances/{InstanceId}/reset",
    ram_actions: &["cs:ResetNode", "cs:ResetClusterNode"],
    group: "Nodes",
    summary: "Makes a node of a Swarm cluster from scratch",
    status: 202,
    cluster_scoped: true,
    request: schema::<ResetNodeRequest>(),
    response: schema::<TaskStarted>(),
    sections: &["swarm 4.6.10"],
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

/// Creates a node pool.
pub static CREATE_CLUSTER_NODE_POOL: Operation = Operation {
    name: "CreateClusterNodePool",
    method: Method::Post,
    path: "/clusters/{ClusterId}/nodepools",
    ram_actions: &["cs:CreateClusterNodePool"],
    group: "Node pools",
    summary: "Creates a node pool",
    status: 202,
    cluster_scoped: true,
    request: schema::<CreateClusterNodePoolRequest>(),
    response: schema::<CreateClusterNodePoolResponse>(),
    sections: &["k8s-2022 11.1"],
    ..BASE
};

/// Adds nodes to a pool.
pub static SCALE_CLUSTER_NODE_POOL: Operation = Operation {
    name: "ScaleClusterNodePool",
    method: Method::Post,
    path: "/clusters/{ClusterId}/nodepools/{NodepoolId}",
    ram_actions: &["cs:ScaleClusterNodePool"],
    group: "Node pools",
    summary: "Adds nodes to a node pool",
    status: 202,
    cluster_scoped: true,
    request: schema::<ScaleClusterNodePoolRequest>(),
    response: schema::<ScaleClusterNodePoolResponse>(),
    sections: &["k8s-2022 11.2"],
    ..BASE
};

/// Lists the node pools of a cluster.
pub static DESCRIBE_CLUSTER_NODE_POOLS: Operation = Operation {
    name: "DescribeClusterNodePools",
    path: "/clusters/{ClusterId}/nodepools",
    ram_actions: &["cs:DescribeClusterNodePools"],
    group: "Node pools",
    summary: "Lists the node pools of a cluster",
    cluster_scoped: true,
    query: schema::<DescribeClusterNodePoolsQuery>(),
    response: schema::<DescribeClusterNodePoolsResponse>(),
    sections: &["k8s-2022 11.4"],
    ..BASE
};

/// Shows one node pool.
pub static DESCRIBE_CLUSTER_NODE_POOL_DETAIL: Operation = Operation {
    name: "DescribeClusterNodePoolDetail",
    path: "/clusters/{ClusterId}/nodepools/{NodepoolId}",
    ram_actions: &["cs:DescribeClusterNodePoolDetail"],
    group: "Node pools",
    summary: "Shows a node pool",
    cluster_scoped: true,
    response: schema::<Nodepool>(),
    sections: &["k8s-2022 11.5"],
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

/// Lists machines, those of the inventory included.
pub static LIST_MACHINES: Operation = Operation {
    name: "ListMachines",
    path: "/sampan/machines",
    ram_actions: &["sampan:ListMachines"],
    group: "Machines",
    summary: "Lists machines, those in no cluster included",
    query: schema::<ListMachinesQuery>(),
    response: schema::<Vec<Machine>>(),
    answer: Answer::Array,
    ..BASE
};

/// Adds machines to the inventory.
pub static CREATE_MACHINES: Operation = Operation {
    name: "CreateMachines",
    method: Method::Post,
    path: "/sampan/machines",
    ram_actions: &["sampan:CreateMachines"],
    group: "Machines",
    summary: "Adds machines to the inventory",
    request: schema::<CreateMachinesRequest>(),
    response: schema::<CreateMachinesResponse>(),
    ..BASE
};

/// Removes a machine from the inventory.
pub static DELETE_MACHINE: Operation = Operation {
    name: "DeleteMachine",
    method: Method::Delete,
    path: "/sampan/machines/{InstanceId}",
    ram_actions: &["sampan:DeleteMachine"],
    group: "Machines",
    summary: "Removes a machine from the inventory",
    response: schema::<DeleteMachineResponse>(),
    ..BASE
};
