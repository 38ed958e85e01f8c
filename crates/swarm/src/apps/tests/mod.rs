#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod chaos;
mod fake;
mod faults;
mod health;
mod hub;
mod keeping;
mod probing;
mod release;
mod rolling;
mod router;
mod scaler;
mod stored;
pub(super) mod world;
