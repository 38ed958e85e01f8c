//! Upgrades of clusters: begun, watched, paused, resumed, cancelled (catalogue 12.1 to 12.5).

mod begin;
mod control;

pub use begin::UpgradeWish;

pub(super) use begin::{refuse_open_upgrade, refuse_unless_free};
