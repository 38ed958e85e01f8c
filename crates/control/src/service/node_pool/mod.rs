//! Node pools: every worker belongs to one.

mod autoscale;
mod create;
mod delete;
mod in_flight;
mod modify;
mod node_name;
mod options;
mod query;
mod recorded;
mod repair;
mod scale;
mod wishes;
mod workers;

pub use create::{NodePoolCreate, NodePoolCreated};
pub use delete::NodePoolDelete;
pub use modify::{NodePoolModified, NodePoolModify};
pub use options::{Charge, Disk, Login, NodePoolOptions};
pub use query::{NodePoolCounts, charge_type};
pub use repair::NodePoolRepair;
pub use scale::{ScaleOut, ScaleTo};
pub use wishes::{AutoScalingWish, ManagementWish};

pub(crate) use autoscale::{MADE_BY_POOL, PoolGrow, PoolShrink};
pub(super) use create::{NewPool, check_pool};
pub(super) use options::{Naming, as_request, mask_secrets, runtime, settle, without_repetition};
pub(super) use scale::{More, default_pool, refuse_above_maximum};
pub(super) use workers::{Home, WorkerTemplate, merged};
