//! Existing machines as nodes.

use super::common::{Runtime, Tag};
use crate::Secret;

wire! {
    /// Body of `POST /clusters/{ClusterId}/attach`, of both kinds of cluster.
    pub struct AttachInstancesRequest {
        /// The instances that become nodes.
        pub instances: Option<Vec<String>>,
        /// The pool that they join; the default one when left out.
        pub nodepool_id: Option<String>,
        /// The key pair for logging in to them.
        pub key_pair: Option<String>,
        /// The password for logging in to them.
        pub password: Option<Secret>,
        /// Whether containers' data is put on a data disk.
        pub format_disk: Option<bool>,
        /// Whether the instances keep their names; true when left out.
        pub keep_instance_name: Option<bool>,
        /// Whether they are nodes of an edge cluster.
        pub is_edge_worker: Option<bool>,
        /// The image that they are made of.
        pub image_id: Option<String>,
        /// The image that they are made of, as Swarm clusters call it.
        pub ecs_image_id: Option<String>,
        /// `none` or `static`.
        pub cpu_policy: Option<String>,
        /// A script for the first start, in Base64.
        pub user_data: Option<String>,
        /// Database instances that shall be reachable.
        pub rds_instances: Option<Vec<String>>,
        /// The container runtime.
        pub runtime: Option<Runtime>,
        /// Tags of the nodes.
        pub tags: Option<Vec<Tag>>,
        /// Whether public addresses are released after the set-up.
        pub release_eip_flag: Option<bool>,
    }

    /// Answer of `POST /clusters/{ClusterId}/attach`.
    pub struct AttachInstancesResponse {
        /// What became of each instance.
        pub list: Vec<AttachedInstance>,
        /// The task that adds them.
        pub task_id: String,
        /// The id of this request.
        pub request_id: String,
    }

    /// What became of one instance.
    pub struct AttachedInstance {
        /// `200`, or why not: the status of a refusal.
        pub code: String,
        /// The instance.
        #[serde(rename = "instanceId")]
        pub instance_id: String,
        /// In words.
        pub message: String,
    }

    /// Body of `POST /clusters/{ClusterId}/attachscript`.
    pub struct DescribeClusterAttachScriptsRequest {
        /// The pool that the host joins; the default one when left out.
        pub nodepool_id: Option<String>,
        /// Whether containers' data is put on an unused data disk of the host.
        pub format_disk: Option<bool>,
        /// Whether the host keeps its name; true when left out.
        pub keep_instance_name: Option<bool>,
        /// Database instances that shall be reachable.
        pub rds_instances: Option<Vec<String>>,
        /// `amd64`, `arm` or `arm64`.
        pub arch: Option<String>,
        /// JSON text with options of edge clusters.
        pub options: Option<String>,
    }
}

/// Answer of `POST /clusters/{ClusterId}/attachscript`: the line that root runs on the host, as bare text.
pub type DescribeClusterAttachScriptsResponse = String;
