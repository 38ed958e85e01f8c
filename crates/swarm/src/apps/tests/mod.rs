#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod chaos;
mod fake;
mod faults;
mod health;
mod hub;
mod keeping;
mod release;
mod rolling;
mod router;
mod scaler;
pub(super) mod world;
