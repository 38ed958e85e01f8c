//! Hosts: machines that nobody made as containers of the node image. People bring them by the attach script.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Beginning of the ids of the settings that hold [`JoinToken`]s; the SHA-256 of the token follows.
pub const JOIN_TOKEN_PREFIX: &str = "join-token/";

/// What is only known of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMachine {
    /// A container of ours plays the host; it is made and removed with the machine's record.
    #[serde(default)]
    pub bare: bool,
    /// What its agent said of it when it joined; `None` while it has no agent.
    #[serde(default)]
    pub report: Option<HostReport>,
    /// Its address is in the range of its VPC, so machines there reach it, and its pods, without a router.
    #[serde(default)]
    pub on_link: bool,
    /// Its agent has reported that it removed everything of ours.
    #[serde(default)]
    pub left: bool,
}

impl HostMachine {
    /// A container that plays a host, before anybody attached it.
    pub fn bare() -> Self {
        Self { bare: true, ..Self::default() }
    }
}

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Its host name.
    pub hostname: String,
    /// Operating system, e.g. `Debian GNU/Linux 12 (bookworm)`.
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

/// Leave for one host to join one pool, once. The token itself is nowhere stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Account of the cluster.
    pub account_id: String,
    /// The cluster.
    pub cluster_id: String,
    /// The pool.
    pub node_pool_id: String,
    /// Not valid after this moment.
    pub expires: Timestamp,
    /// The machine that used it; it is kept until it expires, so that a second use is called one.
    #[serde(default)]
    pub used_by: Option<String>,
    /// `format_disk` of the request.
    #[serde(default)]
    pub format_disk: bool,
    /// `keep_instance_name` of the request.
    #[serde(default)]
    pub keep_instance_name: bool,
}
