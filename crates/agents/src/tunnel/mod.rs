//! The connection between server and machines. Agents dial in; after a handshake of one JSON line each way the connection
//! carries multiplexed streams with flow control (yamux) that the server opens, and an ordinary HTTP/1.1 API runs in each.
//!
//! [`hub`] is the server's side, [`client`] what the server does with one machine, [`dialer`] the agent's side. Everything
//! below the handshake is generic over the byte stream: today a Unix socket, for foreign hosts TLS.

pub mod address;
pub mod client;
pub mod dialer;
pub mod handshake;
pub mod hub;
mod mux;

pub use client::{AgentClient, DialStream};
pub use hub::AgentHub;

use std::time::Duration;

/// Largest [`crate::spec::NodeSpec`] in JSON, in bytes.
pub const SPEC_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a status request may wait for a change: also the tunnel's keepalive interval.
pub(crate) const STATUS_WAIT: Duration = Duration::from_secs(20);
/// Neither side believes in a connection on which nothing happened for so long.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Why something asked of a machine was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The machine's agent is not connected, or its connection ended meanwhile.
    #[error("machine {machine}: its agent is not connected ({operation} not done)")]
    Disconnected {
        /// Machine id.
        machine: String,
        /// What was asked.
        operation: String,
    },
    /// No answer in time.
    #[error("machine {machine}: {operation} got no answer within {seconds} s")]
    TimedOut {
        /// Machine id.
        machine: String,
        /// What was asked.
        operation: String,
        /// The limit, in seconds.
        seconds: u64,
    },
    /// The exchange broke off or made no sense.
    #[error("machine {machine}: {operation} failed: {reason}")]
    Transport {
        /// Machine id.
        machine: String,
        /// What was asked.
        operation: String,
        /// What went wrong.
        reason: String,
    },
    /// The agent said no.
    #[error("machine {machine}: {operation} was refused ({status}): {reason}")]
    Refused {
        /// Machine id.
        machine: String,
        /// What was asked.
        operation: String,
        /// The agent's HTTP status.
        status: u16,
        /// The agent's words.
        reason: String,
    },
}
