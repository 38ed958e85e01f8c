//! Sockets that notice a dead peer, also while nothing is sent.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

/// Seconds of silence before the peer is asked whether it lives, seconds between questions, and how many stay unanswered.
const KEEPALIVE: (u32, u32, u32) = (4, 2, 3);
/// Milliseconds that what was sent may stay unacknowledged.
const UNACKNOWLEDGED_MAX: u32 = 10_000;

/// Asks the kernel to end the connection when the peer is gone without a word.
pub(crate) fn watch_peer(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE.0)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE.1)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE.2)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MAX)?;
    Ok(())
}
