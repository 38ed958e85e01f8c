//! The controllers: they make real what is recorded, and keep it so.
//!
//! A reconcile takes no input but its key, compares what is recorded with what is observed, and does what can be done now.
//! It is idempotent and can be killed at any instruction: intent is stored before the external call, under a name that
//! follows from it, so a re-run finds what a killed run made. Nothing that is remembered between two looks
//! ([`memory`]) is needed to be right.
//!
//! | Key | File | What it sees to |
//! |---|---|---|
//! | cluster | `cluster`, with `network`, `control_plane`, `nodes`, `base`, `listeners`, `status`, `progress`; `deletion` | what the machines are together; what users see |
//! | machine | `machines`, with `repair`, `specs`; `removal` | one container: made, instructed, repaired, removed |
//! | balancer | `balancing`, with `doors`, `public_port` | one configuration from all clusters |
//! | garbage | `garbage` | what exists though nothing wants it |
//!
//! `repair`, `scope`, `status` and `progress` are pure and hold the decisions; the others do. [`Controllers::start`] is
//! where to begin reading.

mod allocation;
mod balancing;
mod base;
mod blueprints;
mod cluster;
mod context;
mod control_plane;
mod deletion;
mod doors;
mod driver;
mod garbage;
mod journal;
mod lease;
mod listeners;
mod machines;
mod memory;
mod names;
mod network;
mod nodes;
mod progress;
mod public_port;
mod queue;
mod removal;
mod repair;
mod run;
mod scope;
mod settings;
mod specs;
mod status;

pub use blueprints::Blueprints;
pub use context::{Key, machine_token};
pub use driver::{Driver, Pace, Reconcile, Status, Waker};
pub use names::Names;
pub use queue::BackOff;
pub use run::{Controllers, Handle};
pub use settings::{AGENTS_TARGET, IMAGES_TARGET, MachineSize, PublicPorts, Settings, Sizes};
