//! What runs in a placeholder container.

use std::io;

use nix::sys::{
    signal::{SigSet, Signal},
    wait::{WaitPidFlag, waitpid},
};

/// Waits for SIGTERM or SIGINT, as PID 1 of a container that does nothing; reaps what becomes an orphan there. To be called
/// before any other thread is started.
///
/// # Errors
/// When signals cannot be waited for.
pub fn pause() -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|ended| ended.pid().is_some()) {}
            }
            _ => return Ok(()),
        }
    }
}
