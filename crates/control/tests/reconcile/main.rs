//! The controllers against a world made of memory: clusters come, change, break and go, and the server dies at any instant.
//!
//! Time is virtual and only passes when nothing is left to do, so nothing here waits and nothing depends on how fast the
//! machine is. Every test with chance in it prints its seed when it fails.

#![allow(clippy::expect_used, reason = "a helper of a test may fail the test")]

mod bench;
mod creation;
mod deletion;
mod etcd;
mod gate;
mod hosts;
mod kill;
mod lifecycle;
mod masters;
mod orders;
mod outage;
mod pools;
mod repair;
mod scaling;
mod several;
mod swarm;
mod upgrade;
mod world;
