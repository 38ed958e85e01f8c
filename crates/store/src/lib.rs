//! What Sampan knows, and how it is kept.
//!
//! [`model`] holds the nouns (cluster, node pool, machine, task, …): plain data, no I/O. [`Store`] keeps them: reads
//! are served from memory, every change is one [`Batch`] that is written durably as a whole or not at all. What does
//! not belong here: decisions. Start reading at [`model::Cluster`] and [`Store::commit`].
//!
//! Invariants:
//! - A document is in memory if and only if it is on disk, in the same revision. Memory is changed after the commit, in
//!   the order of commits, by one writer task.
//! - No lock is held across an `await`; the reading methods never wait for the disk.
//! - Secrets are never documents: they are sealed with the master key and stay out of memory, logs and `Debug`.
//! - One process uses a data directory at a time.
//!
//! Adding a noun: its type in [`model`], a variant of [`Kind`] (with its name in `ALL` and `as_str`), a line in the
//! list of `document.rs`. No migration is needed, documents of all kinds share a table. Adding a field to a noun:
//! with `#[serde(default)]`. Changing what is stored in another way: a new file in `migrations/sqlite/` and a line in
//! `backend/migration.rs`; released steps are never changed. Another database: an implementation of the `Backend`
//! trait that passes `tests/suite.rs`.

mod backend;
mod batch;
mod directory;
mod document;
mod error;
mod key;
mod mirror;
pub mod model;
mod prune;
mod query;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use document::{Document, Kind, Versioned};
pub use error::StoreError;
pub use key::{MasterKey, SecretBytes};
pub use mirror::Change;
pub use query::{EVENTS_PER_PAGE_MAX, EventQuery, LOG_LINES_PER_QUERY_MAX, Page};
pub use store::{Store, StoreOptions};
