//! What Sampan knows, and how it is kept.
//!
//! [`model`] holds the nouns (cluster, node pool, machine, task, …): plain data, no I/O. [`Store`] keeps them: reads are
//! served from memory, every change is one [`Batch`] that is written durably as a whole or not at all. What does not
//! belong here: decisions. Start reading at [`model::Cluster`] and [`Store::commit`].

pub mod model;
