//! What only Swarm clusters are asked.

use std::collections::BTreeMap;

use crate::Secret;

wire! {
    /// Query of `DELETE /clusters/{ClusterId}/ip/{Ip}`.
    pub struct RemoveClusterNodeQuery {
        /// Whether the instance is released; else it goes back to the inventory.
        #[serde(rename = "releaseInstance")]
        pub release_instance: Option<bool>,
    }

    /// Body of `POST /clusters/{ClusterId}/instances/{InstanceId}/reset`.
    pub struct ResetNodeRequest {
        /// The password for logging in.
        pub password: Option<Secret>,
        /// The image that the node is made of.
        pub ecs_image_id: Option<String>,
        /// Whether public addresses are released after the set-up.
        pub release_eip_flag: Option<bool>,
    }

    /// The images of one region.
    pub struct RegionImages {
        /// The images.
        pub items: Vec<SystemImage>,
    }

    /// An image that nodes can be made of.
    pub struct SystemImage {
        /// Its name.
        pub text: String,
        /// Its id: the value for `ecs_image_id`.
        pub value: String,
    }

    /// Answer of `GET /version`.
    pub struct DescribeApiVersionResponse {
        /// The version of the API.
        pub version: String,
        /// The id of this request.
        pub request_id: String,
    }
}

/// Answer of `GET /images`: images by region.
pub type ListImagesResponse = BTreeMap<String, RegionImages>;
