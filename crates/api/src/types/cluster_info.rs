//! What a cluster is made of and what happened to it.

use serde_json::{Map, Value};

wire! {
    /// Query of `GET /clusters/{ClusterId}/resources`.
    pub struct DescribeClusterResourcesQuery {
        /// Whether resources of components are listed too.
        pub with_addon_resources: Option<bool>,
    }

    /// A resource of a cluster.
    pub struct ClusterResource {
        /// The cluster.
        pub cluster_id: String,
        /// When it was made: RFC 3339.
        pub created: String,
        /// The id of the resource.
        pub instance_id: String,
        /// A JSON document about the resource.
        pub resource_info: String,
        /// The kind, for example `ALIYUN::SLB::LoadBalancer`.
        pub resource_type: String,
        /// `CREATE_COMPLETE`, `CREATE_IN_PROGRESS`, `CREATE_FAILED`, `DELETE_IN_PROGRESS`, ….
        pub state: String,
        /// 1 if the service made it, 0 if the user did.
        pub auto_create: Option<i64>,
        /// Resources it depends on.
        pub dependencies: Option<Vec<ResourceDependency>>,
        /// The Kubernetes object it belongs to.
        pub associated_object: Option<AssociatedObject>,
        /// What becomes of it with the cluster.
        pub delete_behavior: Option<DeleteBehavior>,
        /// `user`, `system` or `addon`.
        pub creator_type: Option<String>,
        /// More about it.
        pub extra_info: Option<Map<String, Value>>,
    }

    /// A resource that another depends on.
    pub struct ResourceDependency {
        /// The cluster.
        pub cluster_id: Option<String>,
        /// Its kind.
        pub resource_type: Option<String>,
        /// Its id.
        pub instance_id: Option<String>,
    }

    /// A Kubernetes object.
    pub struct AssociatedObject {
        /// Its kind.
        pub kind: Option<String>,
        /// Its namespace.
        pub namespace: Option<String>,
        /// Its name.
        pub name: Option<String>,
    }

    /// What becomes of a resource with the cluster.
    pub struct DeleteBehavior {
        /// Whether it is deleted by default.
        pub delete_by_default: Option<bool>,
        /// Whether the request to delete can say otherwise.
        pub changeable: Option<bool>,
    }

    /// A line of a cluster's log.
    pub struct ClusterLog {
        /// A number that grows with each line.
        #[serde(rename = "ID")]
        pub id: i64,
        /// The cluster.
        pub cluster_id: String,
        /// What happened.
        pub cluster_log: String,
        /// When the line was written: RFC 3339.
        pub created: String,
        /// When it was last changed: RFC 3339.
        pub updated: String,
    }
}
