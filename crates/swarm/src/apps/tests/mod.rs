#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod fake;
mod world;
