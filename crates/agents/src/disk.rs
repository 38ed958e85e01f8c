//! Files that change as a whole.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Writes a file so that a reader (or a power cut, if `durable`) finds either the old content or the new.
///
/// # Errors
/// What the file system says.
pub fn replace(path: &Path, mode: u32, content: &[u8], durable: bool) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::other("has no parent directory"))?;
    fs::create_dir_all(parent)?;
    let temporary = temporary_path(path);
    let written: io::Result<()> = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durable {
            fs::File::open(parent)?.sync_all()?;
        }
        Ok(())
    })();
    match written {
        // A bind mount, as containers have over /etc/resolv.conf and /etc/hosts, can only be written in place.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            fs::remove_file(&temporary)?;
            fs::write(path, content)?;
            fs::set_permissions(path, Permissions::from_mode(mode))
        }
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// The name beside `path` under which its next content is written.
pub(crate) fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.sampan-new"))
}
