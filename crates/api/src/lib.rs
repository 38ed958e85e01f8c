//! The wire contract of the service, and nothing else.
//!
//! What belongs here: the table of operations ([`operations`]), request and response bodies ([`types`]),
//! lenient decoding of requests ([`decode`]), encoding of answers ([`encode`]), error codes and the shape of a
//! refusal ([`refusal`]), the two signature methods ([`signature`]), and what is derived from the table: the
//! API description ([`openapi`]) and the coverage report ([`coverage`]).
//!
//! What does not: input or output, clocks, storage, handlers, routing. Everything is a pure function or data,
//! so that the server, the command line client and the tests share one reading of the protocol.
//!
//! Start at [`operations::OPERATIONS`]; each entry names the types of its bodies.

#[macro_use]
mod wire;

pub mod catalogue;
pub mod coverage;
pub mod decode;
pub mod encode;
pub mod openapi;
pub mod operation;
pub mod operations;
pub mod refusal;
mod secret;
pub mod signature;
pub mod types;

pub use decode::{Decoded, decode_body, decode_query};
pub use encode::Format;
pub use operation::{Method, Operation};
pub use operations::OPERATIONS;
pub use refusal::{Code, Refusal};
pub use secret::Secret;

/// The version of the API that clients name in `x-acs-version`.
pub const API_VERSION: &str = "2015-12-15";
