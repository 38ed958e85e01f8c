//! The data plane: stable ports and virtual IPs in front of machines. It lives in a container of its own in the host's
//! network namespace and goes on while the server is down, with its last configuration on disk.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A virtual IP that the balancer adds to a bridge of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualIp {
    /// The address (added as a /32).
    pub ip: Ipv4Addr,
    /// The bridge's name.
    pub bridge: String,
}

/// A TCP listener and where its connections go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Stable name, e.g. `<cluster>/api/public`.
    pub name: String,
    /// Address to listen on: a host address or a virtual IP.
    pub listen: SocketAddr,
    /// Where connections go, in turn; a backend that refuses is skipped.
    pub backends: Vec<SocketAddr>,
}

/// Everything the balancer shall do. Sent whole, applied by comparison; untouched listeners keep their connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Virtual IPs.
    pub virtual_ips: Vec<VirtualIp>,
    /// Listeners.
    pub listeners: Vec<Listener>,
}

/// What could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Name of the listener, or the virtual IP.
    pub name: String,
    /// Why, in words (port taken, bridge missing, …).
    pub message: String,
}

/// Answer to a new configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What could not be done; tried again every few seconds.
    pub failures: Vec<Failure>,
}
