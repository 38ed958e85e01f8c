//! How a user gets into a cluster.

use crate::Secret;

wire! {
    /// Query of `GET /k8s/{ClusterId}/user_config`.
    pub struct DescribeClusterUserKubeconfigQuery {
        /// True gives the address inside the VPC.
        #[serde(rename = "PrivateIpAddress")]
        pub private_ip_address: Option<bool>,
        /// Minutes for which the credential is valid.
        #[serde(rename = "TemporaryDurationMinutes")]
        pub temporary_duration_minutes: Option<i64>,
    }

    /// Answer of `GET /k8s/{ClusterId}/user_config`.
    pub struct DescribeClusterUserKubeconfigResponse {
        /// The kubeconfig, in YAML.
        pub config: Secret,
        /// When its credential expires: RFC 3339.
        pub expiration: String,
    }

    /// Answer of `GET /clusters/{ClusterId}/certs`, for both kinds of cluster.
    pub struct DescribeClusterCertsResponse {
        /// Kubernetes: the kubeconfig of the caller.
        pub config: Option<Secret>,
        /// Swarm: the certificate authority, in PEM.
        pub ca: Option<String>,
        /// Swarm: the client certificate, in PEM.
        pub cert: Option<String>,
        /// Swarm: the client's private key, in PEM.
        pub key: Option<Secret>,
    }
}
