//! Request and response bodies, one file per resource.
//!
//! Field names are those of the wire; where a name is not `snake_case` the field is renamed. A field that has
//! other types in other editions has the type that accepts both spellings (see [`crate::decode`]).

pub mod account;
pub mod attach;
pub mod autoscaling;
pub mod cluster;
pub mod cluster_access;
pub mod cluster_change;
pub mod cluster_create;
pub mod cluster_info;
pub mod common;
pub mod event;
pub mod lifecycle;
pub mod machine;
pub mod node;
pub mod node_pool;
pub mod swarm;
pub mod task;
pub mod trigger;
pub mod upgrade;

pub use account::*;
pub use attach::*;
pub use autoscaling::*;
pub use cluster::*;
pub use cluster_access::*;
pub use cluster_change::*;
pub use cluster_create::*;
pub use cluster_info::*;
pub use common::*;
pub use event::*;
pub use lifecycle::*;
pub use machine::*;
pub use node::*;
pub use node_pool::*;
pub use swarm::*;
pub use task::*;
pub use trigger::*;
pub use upgrade::*;
