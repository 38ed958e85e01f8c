//! Hosts: machines that people bring. Nothing of ours is on them until the line of the attach script runs; then the agent
//! is a service of the host, reaches the server by TLS on its own accord, and removes itself when the host leaves.
//!
//! The server's side is [`station`] (one TLS port for everything that hosts ask). The host's side is [`join`], [`run`] and
//! [`leave`]; [`state`] is what it remembers of how the host was before.

pub mod join;
pub mod leave;
pub mod run;
pub mod state;
pub mod station;
pub mod wire;

mod agent;
mod commands;
mod data_disk;
mod facts;
mod files;
mod identity;
mod mounts;
pub(crate) mod payload;
mod preflight;
mod remote;
mod rules;
mod service;
pub(crate) mod uplink;

pub use agent::HostAgent;
pub use files::sha256_of_file;
pub use remote::Server;

/// Where the agent is on a host.
pub const AGENT_PATH: &str = "/opt/sampan/bin/sampan";

/// Why something on a host was not done, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

impl HostError {
    /// What was tried, and how that failed.
    pub(crate) fn of(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

#[cfg(test)]
mod station_tests;
