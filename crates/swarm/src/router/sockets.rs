//! Options of sockets.

use std::{io, os::fd::AsFd, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};

/// A silent end is asked after so many seconds,
const KEEPALIVE_IDLE_S: u32 = 10;
/// again after so many,
const KEEPALIVE_INTERVAL_S: u32 = 5;
/// so often, and then taken for gone.
const KEEPALIVE_PROBES: u32 = 3;
/// A client that takes no bytes for so long is gone or means harm.
const CLIENT_STALL: Duration = Duration::from_secs(120);
/// A backend whose machine does not confirm a request's head for so long is gone.
const BACKEND_STALL: Duration = Duration::from_secs(5);
/// The same for bodies and streams: the kernel counts a backend that reads slowly as well.
const BACKEND_STALL_PATIENT: Duration = Duration::from_secs(300);

/// A client's connection.
pub(super) fn prepare_client(stream: &impl AsFd) {
    set(stream, CLIENT_STALL);
}

/// A connection to a backend.
pub(super) fn prepare_backend(stream: &impl AsFd) {
    set(stream, BACKEND_STALL);
}

/// A backend's connection for something that may be read slowly.
pub(super) fn be_patient(stream: &impl AsFd) {
    if let Err(error) = stall(stream, BACKEND_STALL_PATIENT) {
        tracing::debug!(%error, "a socket takes no time-out");
    }
}

fn set(stream: &impl AsFd, stall_after: Duration) {
    let all = || -> io::Result<()> {
        setsockopt(stream, sockopt::TcpNoDelay, &true)?;
        setsockopt(stream, sockopt::KeepAlive, &true)?;
        setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S)?;
        setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S)?;
        setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
        stall(stream, stall_after)
    };
    // A connection without these options still works.
    if let Err(error) = all() {
        tracing::debug!(%error, "a socket takes not all options");
    }
}

fn stall(stream: &impl AsFd, after: Duration) -> io::Result<()> {
    let after_ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &after_ms)?)
}
