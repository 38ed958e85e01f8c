//! Behaviour of the store, independent of the database under it ([`suite`]), and of each database.

mod failure;
mod key;
mod kill;
mod property;
mod retention;
mod samples;
mod sqlite;
mod suite;
