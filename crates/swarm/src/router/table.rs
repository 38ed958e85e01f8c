//! What a router is told: the whole table, again whenever it changes.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The routes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows with every change; a router that asks for more than it has is answered when there is more, and what it asks for
    /// says what it has in force.
    pub revision: u64,
    /// HTTP routes. The longest path prefix of an equal host wins.
    pub routes: Vec<Route>,
    /// TCP listeners on every node.
    pub tcp: Vec<TcpRoute>,
}

/// An HTTP route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Host, lower case, without port.
    pub host: String,
    /// Path prefix; begins with `/`.
    pub path: String,
    /// Where requests go: groups by weight (services of a blue-green release), each with its containers.
    pub groups: Vec<Group>,
    /// Requests of one session stay with one container (cookie, 8 h, idle 30 min).
    pub sticky: bool,
}

/// The containers of one service behind a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Service id, `{project}_{service}`.
    pub service: String,
    /// Share of the requests, relative to the sum of the route's groups; 0 gets none.
    pub weight: u32,
    /// Its healthy containers.
    pub backends: Vec<Backend>,
}

/// A container that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Container id.
    pub id: String,
    /// Address in the overlay.
    pub address: SocketAddr,
}

/// A TCP listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// Port on the node.
    pub port: u16,
    /// Service id.
    pub service: String,
    /// Its healthy containers.
    pub backends: Vec<Backend>,
}
