//! The controllers: they make real what is recorded, and keep it so.
//!
//! A reconcile takes no input but its key, compares what is recorded with what is observed, and does what can be done now.
//! It is idempotent and can be killed at any instruction: intent is stored before the external call, under a name that
//! follows from it, so a re-run finds what a killed run made. Nothing that is remembered between two looks
//! ([`memory`]) is needed to be right.
//!
//! | Key | File | What it sees to |
//! |---|---|---|
//! | cluster | `cluster`, with `network`, `control_plane`, `etcd`, `nodes`, `base`, `listeners`, `status`, `progress`, `conditions`; `upgrade`, `parameters`; `power`, `restore`, `deletion` | what the machines are together; what users see |
//! | machine | `machines`, with `repair`, `specs`, `turns`; `removal` | one container: made, instructed, repaired, removed |
//! | backup | `backup` | a cluster's backups |
//! | balancer | `balancing`, with `doors`, `public_port` | one configuration from all clusters |
//! | garbage | `garbage` | what exists though nothing wants it |
//!
//! `repair`, `scope`, the decisions of `etcd`, `status` and `progress` are pure and hold the decisions; the others do. [`Controllers::start`] is
//! where to begin reading.

mod allocation;
mod backup;
mod balancing;
mod base;
mod blueprints;
mod cluster;
mod conditions;
mod context;
mod control_plane;
mod deletion;
mod doors;
mod driver;
mod etcd;
mod garbage;
mod hosts;
mod journal;
mod lease;
mod limits;
mod listeners;
mod machines;
mod memory;
mod mending;
mod names;
mod network;
mod nodes;
mod parameters;
mod power;
mod progress;
mod public_port;
mod queue;
mod removal;
mod repair;
mod repairs;
mod restore;
mod run;
mod scope;
mod settings;
mod specs;
mod status;
mod turns;
mod upgrade;

pub use blueprints::{Blueprints, Renewal};
pub use context::{Key, machine_token};
pub use driver::{Driver, Pace, Reconcile, Status, Waker};
pub use names::Names;
pub use queue::BackOff;
pub use run::{Controllers, Handle};
pub use settings::{
    AGENTS_TARGET, Backups, CERTIFICATES_FRESH, IMAGES_TARGET, MachineSize, PublicPorts, Settings, Sizes,
};
