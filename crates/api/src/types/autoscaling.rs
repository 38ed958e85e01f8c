//! How a cluster's node pools scale by themselves.

wire! {
    /// Body of `POST /cluster/{ClusterId}/autoscale/config/`. What is absent is as by default.
    pub struct CreateAutoscalingConfigRequest {
        /// How old a node must be before it is considered for removal: minutes, or with a unit (`10m`); `10m` by default.
        pub cool_down_duration: Option<String>,
        /// How long a node must not have been needed before it is removed: minutes, or with a unit; `10m` by default.
        pub unneeded_duration: Option<String>,
        /// Below this share of requests a node may be unneeded; `0.5` by default.
        pub utilization_threshold: Option<String>,
        /// The same of GPUs, for nodes that have some; `0.5` by default.
        pub gpu_utilization_threshold: Option<String>,
        /// How often a cluster is looked at: seconds, or with a unit; `30s` by default.
        pub scan_interval: Option<String>,
        /// Whether nodes are removed at all; true by default.
        pub scale_down_enabled: Option<bool>,
        /// Which of several pools gets the nodes: `least-waste` (default), `random`, `most-pods` or `priority`.
        pub expander: Option<String>,
    }

    /// Answer of `POST /cluster/{ClusterId}/autoscale/config/`: what is in force now.
    pub struct CreateAutoscalingConfigResponse {
        /// The cluster.
        pub cluster_id: String,
        /// The id of this request.
        pub request_id: String,
        /// How old a node must be before it is considered for removal.
        pub cool_down_duration: String,
        /// How long a node must not have been needed before it is removed.
        pub unneeded_duration: String,
        /// Below this share of requests a node may be unneeded.
        pub utilization_threshold: String,
        /// The same of GPUs.
        pub gpu_utilization_threshold: String,
        /// How often a cluster is looked at.
        pub scan_interval: String,
        /// Whether nodes are removed at all.
        pub scale_down_enabled: bool,
        /// Which of several pools gets the nodes.
        pub expander: String,
    }
}
