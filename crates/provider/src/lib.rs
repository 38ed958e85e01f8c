//! Where machines come from.
//!
//! [`MachineProvider`] is the contract; [`docker::DockerProvider`] makes machines as containers of the local Docker
//! engine, [`memory::MemoryProvider`] is a fake with injected faults for fast tests. Both pass the same conformance
//! suite. A provider knows nothing of clusters: it is told names, addresses and what to run.

mod contract;

#[doc(hidden)]
pub mod conformance;
pub mod docker;
pub mod memory;

pub use contract::*;
pub use docker::DockerProvider;
pub use memory::MemoryProvider;
