#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod fake;
mod faults;
mod health;
mod keeping;
mod release;
mod rolling;
mod router;
mod scaler;
mod world;
