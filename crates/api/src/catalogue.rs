//! All operations that the reference documents describe, offered or not: the data of the coverage report.
//!
//! One entry is one section of one edition. Several sections may describe the same method and path, with other
//! bodies.

use crate::operation::Method;

/// A section of a reference document that describes an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The edition and the section: `k8s-2022 9.1.2`, `k8s-2019 2.2`, `swarm 4.6.3`.
    pub section: &'static str,
    /// The name of the operation in that edition.
    pub operation: &'static str,
    /// The method.
    pub method: Method,
    /// The path, with the placeholders of that edition.
    pub path: &'static str,
    /// What the section is about.
    pub title: &'static str,
}

impl Entry {
    /// Whether a request with this method and path is meant. Trailing slashes do not matter.
    pub fn matches(&self, method: Method, path: &str) -> bool {
        self.method == method && same_shape(self.path, path)
    }
}

/// The first entry for this method and path.
pub fn find(method: Method, path: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.matches(method, path))
}

/// Whether a path fits a pattern in which `{…}` stands for one segment; the path may be a pattern too.
pub(crate) fn same_shape(pattern: &str, path: &str) -> bool {
    let mut parts = path.trim_end_matches('/').split('/');
    let fits = pattern
        .trim_end_matches('/')
        .split('/')
        .all(|wanted| parts.next().is_some_and(|part| wanted == part || (wanted.starts_with('{') && !part.is_empty())));
    fits && parts.next().is_none()
}

const fn entry(
    section: &'static str,
    method: Method,
    path: &'static str,
    operation: &'static str,
    title: &'static str,
) -> Entry {
    Entry { section, operation, method, path, title }
}

use Method::{Delete, Get, Post, Put};

/// All entries, in the order of the documents.
#[rustfmt::skip]
pub static CATALOGUE: &[Entry] = &[
    entry("k8s-2022 8", Post, "/service/open", "OpenAckService", "Activate Container Service for Kubernetes (ACK)"),
    entry("k8s-2022 9.1.1", Post, "/clusters", "CreateCluster", "Create a dedicated Kubernetes cluster"),
    entry("k8s-2022 9.1.2", Post, "/clusters", "CreateCluster", "Create a managed Kubernetes cluster"),
    entry("k8s-2022 9.1.3", Post, "/clusters", "CreateCluster", "Create a Serverless Kubernetes (ASK) cluster"),
    entry("k8s-2022 9.1.4", Post, "/clusters", "CreateCluster", "Create a managed Kubernetes edge cluster (ACK@Edge)"),
    entry("k8s-2022 9.1.5", Post, "/clusters", "CreateCluster", "Create a dedicated sandboxed-container Kubernetes cluster"),
    entry("k8s-2022 9.1.6", Post, "/clusters", "CreateCluster", "Create a standard managed sandboxed-container Kubernetes cluster"),
    entry("k8s-2022 9.2", Get, "/api/v1/clusters", "DescribeClustersV1", "List all clusters"),
    entry("k8s-2022 9.3", Get, "/clusters/{ClusterId}", "DescribeClusterDetail", "Query cluster information"),
    entry("k8s-2022 9.4", Get, "/clusters/{ClusterId}/resources", "DescribeClusterResources", "Query cluster resources"),
    entry("k8s-2022 9.5", Get, "/k8s/{ClusterId}/external/agent/deployment", "DescribeExternalAgent", "Query the cluster agent"),
    entry("k8s-2022 9.6", Get, "/clusters/{ClusterId}/logs", "DescribeClusterLogs", "Query cluster logs"),
    entry("k8s-2022 9.7", Get, "/clusters/{ClusterId}/nodes", "DescribeClusterNodes", "Query cluster nodes"),
    entry("k8s-2022 9.8", Get, "/tasks/{task_id}", "DescribeTaskInfo", "Query task details"),
    entry("k8s-2022 9.9", Get, "/k8s/{ClusterId}/user_config", "DescribeClusterUserKubeconfig", "Get the KubeConfig of a cluster"),
    entry("k8s-2022 9.10", Get, "/api/v1/metadata/versions", "DescribeKubernetesVersionMetadata", "Query Kubernetes version details"),
    entry("k8s-2022 9.11", Get, "/quota", "DescribeUserQuota", "Query the user quota"),
    entry("k8s-2022 9.12", Get, "/events", "DescribeEvents", "Query user events"),
    entry("k8s-2022 9.13", Post, "/clusters/{ClusterId}/attach", "AttachInstances", "Add existing ENS nodes to an ACK edge managed cluster"),
    entry("k8s-2022 9.14", Put, "/api/v2/clusters/{ClusterId}", "ModifyCluster", "Modify a cluster"),
    entry("k8s-2022 9.15", Post, "/clusters/{cluster_id}/migrate", "MigrateCluster", "Migrate a cluster"),
    entry("k8s-2022 9.16", Delete, "/clusters/{ClusterId}", "DeleteCluster", "Delete a cluster"),
    entry("k8s-2022 9.17", Post, "/cluster/{ClusterId}/autoscale/config/", "CreateAutoscalingConfig", "Create an autoscaling configuration"),
    entry("k8s-2022 9.18", Post, "/clusters/{cluster_id}/components/{component_id}/config", "ModifyClusterAddon", "Modify the configuration of a cluster component"),
    entry("k8s-2022 9.19", Get, "/clusters/{cluster_id}/components/{component_id}/metadata", "DescribeClusterAddonMetadata", "Query the metadata of a cluster component version"),
    entry("k8s-2022 10.1", Get, "/permissions/users/{uid}", "DescribeUserPermission", "Query the cluster authorisation of a RAM user or RAM role"),
    entry("k8s-2022 10.2", Post, "/permissions/users/{uid}", "GrantPermissions", "Fully update the cluster authorisation of a RAM user"),
    entry("k8s-2022 10.3", Post, "/k8s/{ClusterId}/user_config/expire", "UpdateK8sClusterUserConfigExpire", "Update the expiry time of a user certificate"),
    entry("k8s-2022 11.1", Post, "/clusters/{ClusterId}/nodepools", "CreateClusterNodePool", "Create a node pool"),
    entry("k8s-2022 11.2", Post, "/clusters/{ClusterId}/nodepools/{NodepoolId}", "ScaleClusterNodePool", "Scale out a node pool"),
    entry("k8s-2022 11.3", Put, "/clusters/{ClusterId}/nodepools/{NodepoolId}", "ModifyClusterNodePool", "Modify the configuration of a node pool"),
    entry("k8s-2022 11.4", Get, "/clusters/{ClusterId}/nodepools", "DescribeClusterNodePools", "List node pools"),
    entry("k8s-2022 11.5", Get, "/clusters/{ClusterId}/nodepools/{NodepoolId}", "DescribeClusterNodePoolDetail", "Query the details of a node pool"),
    entry("k8s-2022 11.6", Post, "/clusters/{ClusterId}/attach", "AttachInstances", "Add existing instances to a node pool"),
    entry("k8s-2022 11.7", Post, "/clusters/{ClusterId}/attachscript", "DescribeClusterAttachScripts", "Manually add existing instances to a node pool"),
    entry("k8s-2022 11.8", Post, "/clusters/{cluster_id}/nodepools/{nodepool_id}/repair", "RepairClusterNodePool", "Repair nodes of a node pool"),
    entry("k8s-2022 11.9", Post, "/clusters/{ClusterId}/nodes", "DeleteClusterNodes", "Remove nodes from a node pool"),
    entry("k8s-2022 11.10", Delete, "/clusters/{ClusterId}/nodepools/{NodepoolId}", "DeleteClusterNodepool", "Delete a node pool"),
    entry("k8s-2022 12.1", Post, "/api/v2/clusters/{ClusterId}/upgrade", "UpgradeCluster", "Upgrade a cluster"),
    entry("k8s-2022 12.2", Get, "/api/v2/clusters/{ClusterId}/upgrade/status", "GetUpgradeStatus", "Query the upgrade status of a cluster"),
    entry("k8s-2022 12.3", Post, "/api/v2/clusters/{ClusterId}/upgrade/pause", "PauseClusterUpgrade", "Pause a cluster upgrade"),
    entry("k8s-2022 12.4", Post, "/api/v2/clusters/{ClusterId}/upgrade/cancel", "CancelClusterUpgrade", "Cancel a cluster upgrade"),
    entry("k8s-2022 12.5", Post, "/api/v2/clusters/{ClusterId}/upgrade/resume", "ResumeUpgradeCluster", "Resume a cluster upgrade"),
    entry("k8s-2022 13.1", Post, "/templates", "CreateTemplate", "Create an orchestration template"),
    entry("k8s-2022 13.2", Get, "/templates", "DescribeTemplates", "Query all orchestration templates"),
    entry("k8s-2022 13.3", Get, "/templates/{TemplateId}", "DescribeTemplateAttribute", "Query the details of an orchestration template"),
    entry("k8s-2022 13.4", Put, "/templates/{TemplateId}", "UpdateTemplate", "Update an orchestration template"),
    entry("k8s-2022 13.5", Delete, "/templates/{TemplateId}", "DeleteTemplate", "Delete an orchestration template"),
    entry("k8s-2022 13.6", Post, "/clusters/{cluster_id}/triggers", "CreateTrigger", "Create a trigger"),
    entry("k8s-2022 13.7", Get, "/clusters/{cluster_id}/triggers", "DescribeTrigger", "Query triggers"),
    entry("k8s-2022 13.8", Delete, "/clusters/{cluster_id}/triggers/{Id}", "DeleteTrigger", "Delete a trigger"),
    entry("k8s-2022 14.1", Post, "/clusters/{ClusterId}/components/install", "InstallClusterAddons", "Install cluster components"),
    entry("k8s-2022 14.2", Get, "/clusters/components/metadata", "DescribeAddons", "Query details of cluster components"),
    entry("k8s-2022 14.3", Get, "/clusters/{ClusterId}/components/upgradestatus", "DescribeClusterAddonsUpgradeStatus", "Query the upgrade status of cluster components"),
    entry("k8s-2022 14.4", Put, "/clusters/{ClusterId}/configuration", "ModifyClusterConfiguration", "Modify parameters of control-plane components of a managed cluster"),
    entry("k8s-2022 14.5", Post, "/clusters/{ClusterId}/components/upgrade", "UpgradeClusterAddons", "Upgrade cluster components"),
    entry("k8s-2022 14.6", Get, "/clusters/{ClusterId}/components/version", "DescribeClusterAddonsVersion", "Query the versions of cluster components"),
    entry("k8s-2022 14.7", Post, "/clusters/{ClusterId}/components/uninstall", "UnInstallClusterAddons", "Uninstall cluster components"),
    entry("k8s-2022 15.1", Put, "/tags", "TagResources", "Bind tags to resources"),
    entry("k8s-2022 15.2", Post, "/clusters/{ClusterId}/tags", "ModifyClusterTags", "Modify the tags of a cluster"),
    entry("k8s-2022 15.3", Get, "/tags", "ListTagResources", "Query the list of resource tags"),
    entry("k8s-2022 15.4", Delete, "/tags", "UntagResources", "Unbind tags from resources"),
    entry("k8s-2022 16.1", Post, "/clusters/{clusterid}/attachedgemachine/{edge_machineid}", "EdgeClusterAddEdgeMachine", "Add a cloud-native box to an ACK@Edge cluster"),
    entry("k8s-2022 16.2", Post, "/edge_machines", "CreateEdgeMachine", "Activate a cloud-native box"),
    entry("k8s-2022 16.3", Get, "/edge_machines/{edge_machineid}/activeprocess", "DescribeEdgeMachineActiveProcess", "Query the activation progress of a cloud-native box"),
    entry("k8s-2022 16.4", Get, "/edge_machines/models", "DescribeEdgeMachineModels", "Query the models of cloud-native boxes"),
    entry("k8s-2022 16.5", Get, "/edge_machines", "DescribeEdgeMachines", "Query the list of cloud-native boxes"),
    entry("k8s-2022 16.6", Post, "/edge_machines/{edge_machineid}/tunnelconfig", "DescribeEdgeMachineTunnelConfigDetail", "Query the tunnel configuration of a cloud-native box"),
    entry("k8s-2022 16.7", Delete, "/edge_machines/{edge_machineid}", "DeleteEdgeMachine", "Delete a cloud-native box"),
    entry("k8s-2022 17.1", Post, "/clusters/{cluster_id}/policies/{policy_name}", "DeployPolicyInstance", "Deploy a policy rule instance in a cluster"),
    entry("k8s-2022 17.2", Get, "/policies", "DescribePolicies", "List the policy governance rule library"),
    entry("k8s-2022 17.3", Put, "/clusters/{cluster_id}/policies/{policy_name}", "ModifyPolicyInstance", "Update a policy rule instance in a cluster"),
    entry("k8s-2022 17.4", Delete, "/clusters/{cluster_id}/policies/{policy_name}", "DeletePolicyInstance", "Delete a policy rule instance in a cluster"),
    entry("k8s-2022 17.5", Get, "/policies/{policy_name}", "DescribePolicyDetails", "Get the details of a policy governance rule template"),
    entry("k8s-2022 17.6", Get, "/clusters/{cluster_id}/policygovernance", "DescribePolicyGovernanceInCluster", "Get the policy governance details of a cluster"),
    entry("k8s-2022 17.7", Get, "/clusters/{cluster_id}/policies", "DescribePolicyInstances", "Get the policy instances deployed in a cluster"),
    entry("k8s-2022 17.8", Get, "/clusters/{cluster_id}/policies/status", "DescribePolicyInstancesStatus", "Get the details of the policy rule instances in a cluster"),
    entry("k8s-2019 2.1", Post, "/clusters", "CreateCluster", "Create a Kubernetes cluster"),
    entry("k8s-2019 2.2", Post, "/clusters", "CreateCluster", "Create a Managed Kubernetes cluster"),
    entry("k8s-2019 2.3", Post, "/api/v2/clusters/{cluster_id}", "ScaleOutCluster", "Multi-zone scale-out of a Kubernetes cluster"),
    entry("k8s-2019 2.4", Post, "/clusters", "CreateCluster", "Create a managed edge Kubernetes cluster"),
    entry("k8s-2019 2.5", Get, "/k8s/{clusterid}/user_config", "DescribeClusterUserKubeconfig", "Get the kubeconfig of a cluster"),
    entry("k8s-2019 2.6", Post, "/clusters/{cluster_id}/attach", "AttachInstances", "Add existing ECS instances to a Kubernetes cluster"),
    entry("k8s-2019 2.7", Post, "/clusters/{cluster_id}/attachscript", "DescribeClusterAttachScripts", "Add existing nodes to a managed edge Kubernetes cluster"),
    entry("k8s-2019 2.8", Get, "/clusters/{clusterid}/certs", "DescribeClusterCerts", "Get the cluster certificate"),
    entry("k8s-2019 2.9", Get, "/clusters/{cluster_id}", "DescribeCluster", "Query a cluster"),
    entry("k8s-2019 2.10", Get, "/clusters", "DescribeClusters", "Query all clusters"),
    entry("k8s-2019 2.11", Post, "/clusters/{cluster_id}/nodes", "DeleteClusterNodes", "Remove nodes"),
    entry("k8s-2019 2.12", Delete, "/clusters/{cluster_id}", "DeleteCluster", "Delete a cluster"),
    entry("swarm 4.6.1", Get, "/clusters/{cluster_id}/certs", "GetClusterCerts", "Get the cluster certificates"),
    entry("swarm 4.6.2", Get, "/clusters", "GetClusterList", "List all clusters"),
    entry("swarm 4.6.3", Post, "/clusters", "CreateCluster", "Create a cluster"),
    entry("swarm 2.4-single-zone", Post, "/clusters", "CreateCluster", "Create a cluster, single zone body"),
    entry("swarm 2.4-multi-zone", Post, "/clusters", "CreateCluster", "Create a cluster, multi zone body"),
    entry("swarm 2.4-managed", Post, "/clusters", "CreateCluster", "Create a cluster, managed body"),
    entry("swarm 4.6.4", Delete, "/clusters/{cluster_id}", "DeleteCluster", "Delete a cluster"),
    entry("swarm 4.6.5", Get, "/clusters/{cluster_id}", "GetClusterById", "View a cluster"),
    entry("swarm 4.6.6", Put, "/clusters/{cluster_id}", "UpdateClusterSizeById", "Expand a cluster"),
    entry("swarm 2.5-kubernetes", Put, "/clusters/{cluster_id}", "UpdateClusterSizeById", "Expand a cluster, kubernetes body"),
    entry("swarm 4.6.7", Post, "/clusters/{cluster_id}/attach", "AttachInstances", "Add existing instances"),
    entry("swarm 4.6.8", Delete, "/clusters/{cluster_id}/ip/{ip}", "RemoveClusterNode", "Remove a node from a cluster"),
    entry("swarm 4.6.9", Get, "/images", "ListImages", "List images"),
    entry("swarm 4.6.10", Post, "/clusters/{cluster_id}/instances/{instance_id}/reset", "ResetNode", "Reset a node"),
    entry("swarm 4.8.1", Get, "/projects/", "List Projects", "List applications"),
    entry("swarm 4.8.2", Post, "/projects/", "Create project", "Create an application"),
    entry("swarm 4.8.3", Delete, "/projects/{name}", "Delete project", "Delete an application"),
    entry("swarm 4.8.4", Get, "/projects/{name}", "Retrieve project", "View an application"),
    entry("swarm 4.8.5", Post, "/projects/{name}/start", "Start project", "Start an application"),
    entry("swarm 4.8.6", Post, "/projects/{name}/kill", "Kill project", "Kill an application"),
    entry("swarm 4.8.7", Post, "/projects/{name}/stop", "Stop project", "Stop an application"),
    entry("swarm 4.8.8", Post, "/projects/{name}/redeploy", "RedeployProject", "Redeploy an application"),
    entry("swarm 4.8.9", Post, "/projects/{name}/update", "Update project", "Update the configuration of an application"),
    entry("swarm 4.8.10", Post, "/projects/{name}/update", "Update project", "Blue-green update of an application"),
    entry("swarm 4.8.11", Post, "/projects/{name}/confirm-update", "ConfirmProjectUpdate", "Confirm a blue-green release"),
    entry("swarm 4.8.12", Post, "/projects/{name}/rollback-update", "RollbackProjectUpdate", "Roll back a blue-green release"),
    entry("swarm 4.8.13", Get, "/services/", "List Services", "List services"),
    entry("swarm 4.8.14", Get, "/services/{service_id}", "Retrieve service", "View a service"),
    entry("swarm 4.8.15", Delete, "/volumes/{name}", "Delete volume", "Delete a data volume"),
    entry("swarm 4.8.16", Post, "/services/{service_id}/start", "Start service", "Start a service"),
    entry("swarm 4.8.17", Post, "/services/{service_id}/stop", "Stop service", "Stop a service"),
    entry("swarm 4.8.18", Post, "/services/{service_id}/kill", "Kill service", "Kill a service"),
    entry("swarm 4.8.19", Post, "/services/{service_id}/scale", "Scale service", "Scale a service"),
    entry("swarm 4.8.20", Post, "/volumes/create", "Create volume", "Create a data volume"),
    entry("swarm 4.8.21", Get, "/volumes/{name}", "View volume", "View a data volume"),
    entry("swarm 4.8.22", Get, "/volumes", "List volumes", "List data volumes"),
    entry("swarm 4.9.2", Get, "/hook/trigger", "RedeployTrigger", "Redeploy trigger"),
    entry("swarm 4.9.2", Post, "/hook/trigger", "RedeployTrigger", "Redeploy trigger"),
    entry("swarm 4.9.3", Get, "/hook/trigger", "ScaleTrigger", "Resource scaling trigger"),
    entry("swarm 4.9.3", Post, "/hook/trigger", "ScaleTrigger", "Resource scaling trigger"),
];
