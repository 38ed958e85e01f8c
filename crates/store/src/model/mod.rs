//! The nouns. Each is a serialisable document with an id; what is *wanted* and what was *observed* are separate fields.

mod cluster;
mod fault;
mod id;
mod machine;
mod network;
mod node_pool;
mod record;
mod task;

pub use cluster::*;
pub use fault::*;
pub use id::*;
pub use machine::*;
pub use network::*;
pub use node_pool::*;
pub use record::*;
pub use task::*;

/// Milliseconds precision, UTC; serialised as RFC 3339.
pub type Timestamp = jiff::Timestamp;
