//! Nodes, node pools, and the machines that nodes are made of.

use super::{BASE, schema};
use crate::operation::{Answer, Method, Operation};
use crate::types::*;

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
    summary: "Adds existing instances to a cluster",
    status: 202,
    cluster_scoped: true,
    request: schema::<AttachInstancesRequest>(),
    response: schema::<AttachInstancesResponse>(),
    sections: &["k8s-2022 11.6", "k8s-2019 2.6", "swarm 4.6.7"],
    ..BASE
};

/// Answers the line that makes a host a node.
pub static DESCRIBE_CLUSTER_ATTACH_SCRIPTS: Operation = Operation {
    name: "DescribeClusterAttachScripts",
    method: Method::Post,
    path: "/clusters/{ClusterId}/attachscript",
    ram_actions: &["cs:DescribeClusterAttachScripts"],
    group: "Nodes",
    summary: "Answers the line that root runs on a host to make it a node",
    cluster_scoped: true,
    request: schema::<DescribeClusterAttachScriptsRequest>(),
    response: schema::<DescribeClusterAttachScriptsResponse>(),
    answer: Answer::Text,
    sections: &["k8s-2022 11.7"],
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

/// Changes a node pool.
pub static MODIFY_CLUSTER_NODE_POOL: Operation = Operation {
    name: "ModifyClusterNodePool",
    method: Method::Put,
    path: "/clusters/{ClusterId}/nodepools/{NodepoolId}",
    ram_actions: &["cs:ModifyClusterNodePool"],
    group: "Node pools",
    summary: "Changes a node pool",
    status: 202,
    cluster_scoped: true,
    request: schema::<ModifyClusterNodePoolRequest>(),
    response: schema::<ModifyClusterNodePoolResponse>(),
    sections: &["k8s-2022 11.3"],
    ..BASE
};

/// Repairs nodes of a pool.
pub static REPAIR_CLUSTER_NODE_POOL: Operation = Operation {
    name: "RepairClusterNodePool",
    method: Method::Post,
    path: "/clusters/{ClusterId}/nodepools/{NodepoolId}/repair",
    ram_actions: &["cs:RepairClusterNodePool"],
    group: "Node pools",
    summary: "Repairs nodes of a node pool",
    status: 202,
    cluster_scoped: true,
    request: schema::<RepairClusterNodePoolRequest>(),
    response: schema::<RepairClusterNodePoolResponse>(),
    sections: &["k8s-2022 11.8"],
    ..BASE
};

/// Deletes a node pool.
pub static DELETE_CLUSTER_NODEPOOL: Operation = Operation {
    name: "DeleteClusterNodepool",
    method: Method::Delete,
    path: "/clusters/{ClusterId}/nodepools/{NodepoolId}",
    ram_actions: &["cs:DeleteClusterNodepool"],
    group: "Node pools",
    summary: "Deletes a node pool and its nodes",
    status: 202,
    cluster_scoped: true,
    query: schema::<DeleteClusterNodepoolQuery>(),
    response: schema::<DeleteClusterNodepoolResponse>(),
    sections: &["k8s-2022 11.10"],
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
