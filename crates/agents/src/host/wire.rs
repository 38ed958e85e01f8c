//! What hosts and the server say to each other beside the tunnel.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Asks to join; the token is in the header `Authorization`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// A certificate signing request, PEM: the key stays on the host.
    pub csr: String,
    /// The host.
    pub facts: HostFacts,
}

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its host name.
    pub hostname: String,
    /// The address by which it reached the server.
    pub ip: Option<Ipv4Addr>,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// Its operating system, in words.
    pub os: String,
    /// Cores.
    pub cpus: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel has IPVS.
    pub ipvs: bool,
    /// Processes may lower their OOM score.
    pub can_lower_oom_score: bool,
    /// Name servers that its pods can reach.
    pub name_servers: Vec<Ipv4Addr>,
}

/// The host is a machine now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// Which.
    pub machine_id: String,
    /// The name of its node.
    pub node_name: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The host name that it shall have; `None`: its own.
    pub hostname: Option<String>,
    /// Put the data of containers on an unused data disk.
    pub format_disk: bool,
}

/// Asks for a new certificate, before the old one expires.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewRequest {
    /// A certificate signing request, PEM.
    pub csr: String,
}

/// The new certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewAnswer {
    /// PEM.
    pub certificate: String,
}
