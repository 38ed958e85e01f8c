//! Upgrades of clusters, and parameters of their control planes.

wire! {
    /// Body of `POST /api/v2/clusters/{ClusterId}/upgrade`.
    pub struct UpgradeClusterRequest {
        /// `k8s`.
        pub component_name: Option<String>,
        /// The version to upgrade to; without it the one that the cluster's detail shows.
        pub next_version: Option<String>,
        /// The cluster's present version; checked when it is given.
        pub version: Option<String>,
        /// True upgrades only the control plane.
        pub master_only: Option<bool>,
        /// How nodes are upgraded.
        pub rolling_policy: Option<UpgradeRollingPolicy>,
    }

    /// How nodes are upgraded.
    pub struct UpgradeRollingPolicy {
        /// How many nodes of a pool may be out of service at once.
        pub max_parallelism: Option<i64>,
    }

    /// Answer of `GET /api/v2/clusters/{ClusterId}/upgrade/status`.
    pub struct GetUpgradeStatusResponse {
        /// Why the upgrade failed, or that it was cancelled.
        pub error_message: String,
        /// The id of the report of the pre-checks.
        pub precheck_report_id: String,
        /// `success`, `fail`, `pause` or `running`; empty when the cluster was never upgraded.
        pub status: String,
        /// `not_start`, `prechecking`, `upgrading`, `pause` or `success`.
        pub upgrade_step: String,
        /// The task.
        pub upgrade_task: UpgradeTask,
        /// What the pre-checks found.
        pub precheck_findings: Option<Vec<UpgradeFinding>>,
        /// The id of the task that shows the upgrade.
        pub task_id: Option<String>,
    }

    /// How the task of an upgrade stands.
    pub struct UpgradeTask {
        /// `running`, `Success` or `Failed`; empty when the cluster was never upgraded.
        pub status: String,
        /// What is being done, or waited for.
        pub message: String,
    }

    /// Something that a pre-check found.
    pub struct UpgradeFinding {
        /// Which check.
        pub check: String,
        /// `error`: the upgrade cannot go on with it; else `warning`.
        pub level: String,
        /// In words.
        pub message: String,
    }

    /// Answer of an operation that changes what is wanted of an upgrade.
    pub struct UpgradeControlResponse {
        /// The cluster.
        pub cluster_id: String,
        /// The task that shows the upgrade.
        pub task_id: String,
        /// The id of this request.
        pub request_id: String,
    }

    /// Body of `PUT /clusters/{ClusterId}/configuration`.
    pub struct ModifyClusterConfigurationRequest {
        /// Components and their parameters.
        pub customize_config: Option<Vec<CustomizeConfig>>,
    }

    /// Parameters of a component.
    pub struct CustomizeConfig {
        /// `kube-apiserver`, `kube-controller-manager` or `kube-scheduler`.
        pub name: Option<String>,
        /// The parameters; those that are not named stay as they are.
        pub configs: Option<Vec<CustomizeConfigItem>>,
    }

    /// A parameter of a component.
    pub struct CustomizeConfigItem {
        /// Its name, like `MaxRequestsInflight` or `max-requests-inflight`.
        pub key: Option<String>,
        /// Its value as text; an empty one puts the default back.
        pub value: Option<String>,
    }
}
