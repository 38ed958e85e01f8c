//! The data directory: made private, used by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// Held as long as the store is open. The system gives the lock back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Closing the file alone would not do: a child process that is just being started holds a copy of the descriptor
    /// until its program begins.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the data directory stays locked until this process ends");
        }
    }
}

/// The directory of a file named by `path`.
pub(crate) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes the directory (mode 0700) if it does not exist.
pub(crate) fn prepare(directory: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        StoreError::Unavailable(format!(
            "the data directory {} cannot be made: {error}; check the path and its permissions",
            directory.display()
        ))
    })
}

/// Makes the database file with mode 0600 if it does not exist; SQLite gives its companions the same mode.
pub(crate) fn prepare_database(path: &Path) -> Result<(), StoreError> {
    let fail = |error: std::io::Error| {
        StoreError::Unavailable(format!(
            "the database {} cannot be opened: {error}; check the path and its permissions",
            path.display()
        ))
    };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // The name itself must survive a power cut, not only what is written under it.
        Ok(_) => File::open(directory_of(path)).and_then(|directory| directory.sync_all()).map_err(fail),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(fail(error)),
    }
}

/// Takes the lock of the directory.
pub(crate) fn lock(directory: &Path) -> Result<DirectoryLock, StoreError> {
    let path = directory.join("lock");
    let fail = |error: std::io::Error| {
        StoreError::Unavailable(format!(
            "the lock file {} cannot be used: {error}; check the permissions of the data directory",
            path.display()
        ))
    };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(taken(directory, &mut file)),
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    // Only for the message of the next one who tries.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(fail)?;
    Ok(DirectoryLock { file })
}

fn taken(directory: &Path, file: &mut File) -> StoreError {
    let mut holder = String::new();
    // Without the number the message is still right.
    let _ = file.take(32).read_to_string(&mut holder);
    let holder = match holder.trim() {
        "" => "another process".to_owned(),
        pid => format!("another process (pid {pid})"),
    };
    StoreError::Unavailable(format!(
        "{holder} uses the data directory {}; stop it first, or start this one with a data directory of its own",
        directory.display()
    ))
}
