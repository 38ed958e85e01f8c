//! Directories below a root, whatever containers put there.

use std::{io, os::fd::OwnedFd, path::Path};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open as open_path, openat},
    sys::stat::{Mode, fchmod, mkdirat},
};

/// Somebody else may make or remove a directory at the same time; after so many turns it is not by chance.
const TURNS_MAX: u32 = 8;
/// Of directories on the way.
const WAY_MODE: Mode = Mode::from_bits_truncate(0o755);

/// Opens the directory of these names below `root`; what is missing is made, the last with `mode`. A symbolic link on the
/// way is refused: one that leads outside would hand out the machine. Blocks.
pub(super) fn open(root: &Path, components: &[&str], mode: Mode) -> io::Result<OwnedFd> {
    let mut directory = open_path(root, flags(), Mode::empty())?;
    for (index, name) in components.iter().enumerate() {
        let is_last = index + 1 == components.len();
        directory = step(&directory, name, if is_last { mode } else { WAY_MODE })?;
    }
    Ok(directory)
}

fn flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn step(parent: &OwnedFd, name: &str, mode: Mode) -> io::Result<OwnedFd> {
    // Callers check this, too; here it is what everything stands on.
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(io::Error::other(format!("'{name}' is no name of a directory")));
    }
    for _ in 0..TURNS_MAX {
        match openat(parent, name, flags(), Mode::empty()) {
            Err(Errno::ENOENT) => {}
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                return Err(io::Error::other(format!("'{name}' is a symbolic link or no directory")));
            }
            opened => return Ok(opened?),
        }
        match mkdirat(parent, name, mode) {
            Ok(()) => {
                let made = openat(parent, name, flags(), Mode::empty())?;
                // The process' mask does not count. What exists keeps the permissions that its users gave it.
                fchmod(&made, mode)?;
                return Ok(made);
            }
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(format!("'{name}' is made and removed all the time")))
}
