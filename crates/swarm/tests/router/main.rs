//! The router with real sockets: clients, backends and a master of the tests in one process with it.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod broken;
mod common;
mod http2;
mod master;
mod requests;
mod shares;
mod slow;
mod streams;
mod swaps;
mod tcp;
mod upgrades;
