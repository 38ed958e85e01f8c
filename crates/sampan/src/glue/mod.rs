//! Where rooms that do not know each other are put together: implementations of the controllers' ports.

mod agents;
mod balancing;
mod blueprints;
mod credentials;
pub(crate) mod hosts;
pub(crate) mod images;
mod ranges;
pub(crate) mod registry;

pub(crate) use agents::HubAgents;
pub(crate) use balancing::DockerBalancing;
pub(crate) use blueprints::{BundleBlueprints, SwarmBlueprints};
pub(crate) use credentials::{SwarmCredentials, VaultCredentials};
pub(crate) use ranges::DockerRanges;
