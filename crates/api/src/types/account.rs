//! What belongs to the account or the service and not to one cluster.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::common::Runtime;

wire! {
    /// Query of `POST /service/open`.
    pub struct OpenAckServiceQuery {
        /// `propayasgo`, `edgepayasgo` or `gspayasgo`.
        #[serde(rename = "type")]
        pub kind: Option<String>,
    }

    /// Answer of `POST /service/open`.
    pub struct OpenAckServiceResponse {
        /// The id of this request.
        pub request_id: String,
        /// The order that activates the service.
        pub order_id: String,
    }

    /// Query of `GET /api/v1/metadata/versions`.
    pub struct DescribeKubernetesVersionMetadataQuery {
        /// The region; text that clients must send, although all regions have the same versions here.
        #[serde(rename = "Region")]
        pub region: Option<String>,
        /// The type of cluster.
        #[serde(rename = "ClusterType")]
        pub cluster_type: Option<String>,
        /// Only this version.
        #[serde(rename = "KubernetesVersion")]
        pub kubernetes_version: Option<String>,
        /// `Default`, `Serverless` or `Edge`.
        #[serde(rename = "Profile")]
        pub profile: Option<String>,
        /// Only versions with this runtime.
        pub runtime: Option<String>,
        /// `supported` (all) or `creatable`.
        #[serde(rename = "Mode")]
        pub mode: Option<String>,
        /// Whether versions to upgrade to are listed.
        #[serde(rename = "QueryUpgradableVersion")]
        pub query_upgradable_version: Option<bool>,
    }

    /// A Kubernetes version that clusters can have.
    pub struct KubernetesVersionMetadata {
        /// The version.
        pub version: String,
        /// What it can do.
        pub capabilities: Map<String, Value>,
        /// Images for its nodes.
        pub images: Vec<VersionImage>,
        /// More about it.
        pub meta_data: Map<String, Value>,
        /// Container runtimes for its nodes.
        pub runtimes: Vec<Runtime>,
        /// `true` or `false`, as text: whether it can spread over zones.
        pub multi_az: String,
        /// When it was released.
        pub release_date: Option<String>,
        /// When its support ends.
        pub expiration_date: Option<String>,
        /// Whether new clusters can have it.
        pub creatable: Option<bool>,
        /// Versions it can be upgraded to.
        pub upgradable_versions: Option<Vec<String>>,
    }

    /// An image of nodes.
    pub struct VersionImage {
        /// The image.
        pub image_id: String,
        /// Its name.
        pub image_name: String,
        /// Its distribution, for example `CentOS`.
        pub platform: String,
        /// The version of its operating system.
        pub os_version: String,
        /// Its kind.
        pub image_type: String,
        /// `Linux` or `Windows`.
        pub os_type: String,
        /// `system`, `custom`, ….
        pub image_category: String,
        /// The processor architecture.
        pub architecture: Option<String>,
    }

    /// Answer of `GET /quota`.
    pub struct DescribeUserQuotaResponse {
        /// Managed clusters.
        pub amk_cluster_quota: i64,
        /// Serverless clusters.
        pub ask_cluster_quota: i64,
        /// Node pools of one cluster.
        pub cluster_nodepool_quota: i64,
        /// Clusters of all types.
        pub cluster_quota: i64,
        /// Nodes of one cluster.
        pub node_quota: i64,
        /// The improved edge node pool.
        pub edge_improved_nodepool_quota: Option<EdgeNodepoolQuota>,
        /// Further quotas by name.
        pub quotas: Option<BTreeMap<String, QuotaValue>>,
    }

    /// Limits of improved edge node pools.
    pub struct EdgeNodepoolQuota {
        /// How many.
        pub count: Option<i64>,
        /// Bandwidth in Mbit/s.
        pub bandwidth: Option<i64>,
        /// Months.
        pub period: Option<i64>,
    }

    /// A quota.
    pub struct QuotaValue {
        /// The limit, as text.
        pub quota: Option<String>,
        /// The code to ask for more with.
        pub operation_code: Option<String>,
        /// Whether it can be changed.
        pub adjustable: Option<bool>,
        /// Its unit.
        pub unit: Option<String>,
    }
}
