//! The nouns. Each is a serialisable document with an id; what is *wanted* and what was *observed* are separate fields.
//!
//! No I/O and no clock in here. The JSON form is what the store keeps for years: a field that is added needs
//! `#[serde(default)]`, a name or a spelling that is stored never changes without a migration. Enums that users see
//! carry the spelling of the API, so that the gateway shows them as they are. Secrets are never fields; they are kept
//! among the secrets of the store, under names that documents may mention.

mod autoscaling;
mod cluster;
mod etcd;
mod fault;
mod host;
mod id;
mod lifecycle;
mod machine;
mod network;
mod node_pool;
mod record;
mod task;
mod trigger;
mod upgrade;

#[cfg(test)]
mod tests;

pub use autoscaling::*;
pub use cluster::*;
pub use etcd::*;
pub use fault::*;
pub use host::*;
pub use id::*;
pub use lifecycle::*;
pub use machine::*;
pub use network::*;
pub use node_pool::*;
pub use record::*;
pub use task::*;
pub use trigger::*;
pub use upgrade::*;

/// A moment in UTC, to the nanosecond; serialised as RFC 3339 with as many digits as it needs.
pub type Timestamp = jiff::Timestamp;
