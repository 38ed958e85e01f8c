//! Nodes of a cluster.

use super::common::PageInfo;

wire! {
    /// Query of `GET /clusters/{ClusterId}/nodes`.
    pub struct DescribeClusterNodesQuery {
        /// Only these instances, comma separated.
        #[serde(rename = "instanceIds")]
        pub instance_ids: Option<String>,
        /// Only nodes with these names, comma separated.
        #[serde(rename = "nodeNames")]
        pub node_names: Option<String>,
        /// Only nodes with these addresses, comma separated.
        #[serde(rename = "nodeIps")]
        pub node_ips: Option<String>,
        /// Only nodes with these labels.
        #[serde(rename = "nodeLabels")]
        pub node_labels: Option<String>,
        /// Only nodes of this pool.
        pub nodepool_id: Option<String>,
        /// Only nodes in this state: `all`, `running`, `removing`, `initial` or `failed`.
        pub state: Option<String>,
        /// Entries per page; 10 when left out.
        #[serde(rename = "pageSize")]
        pub page_size: Option<i64>,
        /// The page, counted from 1.
        #[serde(rename = "pageNumber")]
        pub page_number: Option<i64>,
    }

    /// Answer of `GET /clusters/{ClusterId}/nodes`.
    pub struct DescribeClusterNodesResponse {
        /// The nodes of this page.
        pub nodes: Vec<Node>,
        /// Which page it is.
        pub page: PageInfo,
    }

    /// A node.
    pub struct Node {
        /// When it was made: RFC 3339.
        pub creation_time: String,
        /// Why it is in a failed state, or empty.
        pub error_message: String,
        /// When the instance expires: RFC 3339.
        pub expired_time: String,
        /// The host name.
        pub host_name: String,
        /// The image.
        pub image_id: String,
        /// `PrePaid` or `PostPaid`.
        pub instance_charge_type: String,
        /// The instance.
        pub instance_id: String,
        /// Its name.
        pub instance_name: String,
        /// `Master` or `Worker`.
        pub instance_role: String,
        /// State of the instance, for example `Running`.
        pub instance_status: String,
        /// Its type.
        pub instance_type: String,
        /// The family of its type.
        pub instance_type_family: String,
        /// Addresses inside the VPC.
        pub ip_address: Vec<String>,
        /// Whether the service made the instance.
        pub is_aliyun_node: bool,
        /// The name of the node in Kubernetes.
        pub node_name: String,
        /// `Ready`, `NotReady`, `Unknown` or `Offline`.
        pub node_status: String,
        /// The pool, or empty.
        pub nodepool_id: String,
        /// Where the node came from, for example `ess_attach`.
        pub source: String,
        /// `pending`, `running`, `starting`, `stopping`, `stopped`, ….
        pub state: String,
        /// `NoSpot`, `SpotWithPriceLimit` or `SpotAsPriceGo`.
        pub spot_strategy: String,
    }

    /// Body of `POST /clusters/{ClusterId}/nodes`: removes nodes.
    pub struct DeleteClusterNodesRequest {
        /// Node names or instance ids.
        pub nodes: Vec<String>,
        /// True releases the instances too.
        pub release_node: Option<bool>,
        /// True moves the pods away first.
        pub drain_node: Option<bool>,
    }
}
