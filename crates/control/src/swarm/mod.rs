//! What a Swarm cluster is made of: certificates, command lines, configuration files, and how its master is reached.
//!
//! The pieces themselves (master, routers, volume plug-ins) are another crate's, and run inside the machines; this room says
//! what they are told. [`manager_spec`] and [`node_spec`] are pure: records in, specifications out. [`access`] asks the
//! master through the tunnel of its machine; [`vault`] is where secrets meet the store. Decisions about *when* anything
//! happens belong to the controllers, which are the same for both kinds of clusters.

pub mod access;
pub mod applications;
mod client;
mod labels;
mod manager;
mod node;
mod parts;
mod pki;
pub mod vault;

#[cfg(test)]
mod access_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use labels::node_labels;
pub use manager::{ManagerInputs, manager_spec};
pub use node::{NodeInputs, node_spec};
pub use pki::{NodePki, SwarmPki, generate, node_pki, renewed};

/// Port of every master, on its machine and on the virtual IP.
pub const MASTER_PORT: u16 = sampan_agents::master::MASTER_PORT;
/// Port of the virtual IP on which the load balancer takes HTTP for the applications.
pub const ROUTING_PORT: u16 = 80;
/// Port of the virtual IP behind which the installation's image registry is.
pub const REGISTRY_PORT: u16 = 15_000;
/// Where a cluster's machines find the file system that they share.
pub const SHARED_DIR: &str = "/var/lib/sampan/nas";

/// Volumes of a machine beside those that every machine has: where it has them, and their suffixes.
pub const VOLUMES: [(&str, &str); 1] = [(parts::DATA_ROOT, "docker")];
