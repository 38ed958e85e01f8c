//! The kernel's table of mounts, `/proc/<pid>/mountinfo`.

use std::{
    fs, io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `major:minor` of its file system.
    pub(super) device: String,
    /// Which directory of the file system it is.
    pub(super) root: PathBuf,
    /// Where it is.
    pub(super) at: PathBuf,
    /// Options of this mount (not of its file system).
    pub(super) options: String,
    /// Type of its file system.
    pub(super) kind: String,
}

impl Mount {
    /// Whether its directory was deleted.
    pub(super) fn is_deleted(&self) -> bool {
        self.root.as_os_str().as_encoded_bytes().ends_with(b"//deleted")
    }
}

/// All mounts of a mount namespace, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) Vec<Mount>);

impl Table {
    /// Ours.
    pub(super) fn read() -> io::Result<Self> {
        Self::of("self")
    }

    /// That of a process.
    pub(super) fn of(pid: &str) -> io::Result<Self> {
        Ok(Self::parse(&fs::read(format!("/proc/{pid}/mountinfo"))?))
    }

    /// The uppermost mount at a mount point.
    pub(super) fn at(&self, path: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|mount| mount.at == path)
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }
}

/// `36 35 98:0 /root /at rw,noatime master:1 - ext3 /dev/root rw`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = text(fields.nth(2)?);
    let root = path(fields.next()?);
    let at = path(fields.next()?);
    let options = text(fields.next()?);
    let kind = text(fields.skip_while(|field| *field != b"-").nth(1)?);
    Some(Mount { device, root, at, options, kind })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_peers_are_read() {
        let table = Table::parse(
            b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 propagate_from:2 - ext4 /dev/root rw\n\
              37 36 0:44 / /mnt/acs_mnt/ossfs/b rw,nosuid,nodev - fuse.s3fs s3fs rw,user_id=0\n\
              38 36 254:1 /v/_data/1/abc//deleted /mnt/acs_mnt/nas/n ro shared:5 - ext4 /dev/vda rw\nnonsense\n",
        );
        assert_eq!(table.0.len(), 3);
        assert_eq!(table.0[0].at, Path::new("/mnt/a b"));
        let bucket = table.at(Path::new("/mnt/acs_mnt/ossfs/b")).unwrap();
        assert_eq!((bucket.kind.as_str(), bucket.device.as_str()), ("fuse.s3fs", "0:44"));
        assert!(!bucket.is_deleted() && table.0[2].is_deleted());
        assert!(table.at(Path::new("/mnt")).is_none());
    }

    #[test]
    fn our_own_table_has_a_root() {
        assert!(Table::read().unwrap().at(Path::new("/")).is_some());
    }
}
