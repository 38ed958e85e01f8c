//! Node pools: every worker belongs to one.

mod create;
mod options;
mod query;
mod scale;
mod workers;

pub use create::{NodePoolCreate, NodePoolCreated};
pub use options::{Charge, Disk, Login, NodePoolOptions};
pub use query::{NodePoolCounts, charge_type};
pub use scale::{ScaleOut, ScaleTo};

pub(super) use create::{NewPool, check_pool};
pub(super) use options::{Naming, as_request, mask_secrets, runtime, settle, without_repetition};
pub(super) use scale::{More, default_pool};
pub(super) use workers::{Home, WorkerTemplate};
