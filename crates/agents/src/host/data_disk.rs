//! The disk for containers' data: an unused one, as `format_disk` wants it.
//!
//! A disk with a file system, partitions or any known signature is never touched, nor one that anybody has open exclusively
//! (the kernel refuses that), in whatever namespace it is mounted. What is not named is the last unused disk.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, mount::MsFlags};
use serde::{Deserialize, Serialize};

use super::{HostError, commands, mounts};

/// Names the disk on the host: `/dev/sdb`.
const VARIABLE: &str = "SAMPAN_DATA_DISK";
/// A new UUID with each reading.
const NEW_UUID: &str = "/proc/sys/kernel/random/uuid";
const MOUNT_POINT: &str = "/var/lib/sampan/data";
/// What is on the disk: folder on it, and where it is used.
const FOLDERS: [(&str, &str); 2] = [("containerd", "/var/lib/containerd"), ("kubelet", "/var/lib/kubelet")];
/// Kinds of block devices that are no disks.
const NO_DISKS: [&str; 7] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md"];

fn named() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())
}

/// Whether the disk that was named, if any was, can be taken.
pub(crate) fn check_named() -> Result<(), HostError> {
    named().map_or(Ok(()), |name| refuse_used(&name))
}

/// A disk of ours: what the kernel called it, which may be another one's name after a reboot, and what says that it is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDisk {
    /// `/dev/sdb`.
    pub name: String,
    /// The file system's UUID.
    pub uuid: String,
}

/// Finds the disk. `None`: there is none, and the data is on the host's own disk. What is answered is remembered before the
/// disk is formatted, so that it is released whatever happens.
pub(crate) fn choose() -> Result<Option<DataDisk>, HostError> {
    let disk = match named() {
        Some(name) => {
            refuse_used(&name)?;
            Some(name)
        }
        None => candidates(Path::new("/sys/block")).into_iter().rev().find(|disk| refuse_used(disk).is_ok()),
    };
    let Some(name) = disk else {
        eprintln!("sampan: format_disk: this host has no unused data disk; its own disk is used");
        return Ok(None);
    };
    let uuid = fs::read_to_string(NEW_UUID).map_err(|error| HostError::of(NEW_UUID, error))?;
    Ok(Some(DataDisk { name, uuid: uuid.trim().to_owned() }))
}

/// Formats and mounts it.
pub(crate) fn prepare(disk: &DataDisk) -> Result<(), HostError> {
    let DataDisk { name, uuid } = disk;
    eprintln!("sampan: formats {name} as ext4 for containers' data");
    commands::run("mkfs.ext4", &["-q", "-F", "-L", "sampan-data", "-U", uuid, name])
        .map_err(|error| HostError::of(format!("{name} cannot be formatted"), error))?;
    mount(disk)
}

/// What the kernel calls it now.
fn find(disk: &DataDisk) -> Result<String, HostError> {
    // Without the cache of blkid: the disk itself is asked.
    let is_it = |name: &str| {
        let uuid = commands::run("blkid", &["-p", "-o", "value", "-s", "UUID", name]);
        uuid.is_ok_and(|uuid| uuid.trim() == disk.uuid)
    };
    let others = || candidates(Path::new("/sys/block")).into_iter().find(|name| is_it(name));
    Some(disk.name.clone()).filter(|name| is_it(name)).or_else(others).ok_or_else(|| {
        HostError(format!(
            "the disk with containers' data is gone: {} is not it, nor is any other ({})",
            disk.name, disk.uuid
        ))
    })
}

/// Mounts it where containers' data goes, unless it is mounted.
pub(crate) fn mount(disk: &DataDisk) -> Result<(), HostError> {
    let failed =
        |what: &Path, error: &dyn std::fmt::Display| HostError::of(format!("mounting {}", what.display()), error);
    let point = Path::new(MOUNT_POINT);
    if mounts::below(&mounts::read(), point).is_empty() {
        fs::create_dir_all(point).map_err(|error| failed(point, &error))?;
        nix::mount::mount(Some(find(disk)?.as_str()), point, Some("ext4"), MsFlags::empty(), None::<&str>)
            .map_err(|error| failed(point, &error))?;
    }
    for (folder, target) in FOLDERS {
        let (source, target) = (point.join(folder), Path::new(target));
        if mounts::below(&mounts::read(), target).iter().any(|mounted| mounted == target) {
            continue;
        }
        fs::create_dir_all(&source)
            .and_then(|()| fs::create_dir_all(target))
            .map_err(|error| failed(target, &error))?;
        nix::mount::mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|error| failed(target, &error))?;
    }
    Ok(())
}

/// Empties the disk and unmounts it; returns what stays.
pub(crate) fn release() -> Vec<String> {
    let mut left = Vec::new();
    for (folder, target) in FOLDERS {
        left.extend(mounts::unmount_all(Path::new(target)));
        let _ = fs::remove_dir_all(Path::new(MOUNT_POINT).join(folder));
    }
    left.extend(mounts::unmount_all(Path::new(MOUNT_POINT)));
    left.iter().map(|path| format!("the mount {}", path.display())).collect()
}

/// Disks that this host has, in the order of their names, whether used or not.
fn candidates(block: &Path) -> Vec<String> {
    let entries = fs::read_dir(block).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !NO_DISKS.iter().any(|kind| name.starts_with(kind)));
    // One without parts, which are folders with the disk's name before theirs.
    names.retain(|name| {
        let parts = fs::read_dir(block.join(name)).into_iter().flatten().flatten();
        !parts.into_iter().any(|part| part.file_name().to_string_lossy().starts_with(name.as_str()))
    });
    names.sort_by_key(|name| (name.len(), name.clone()));
    // A container sees the names of its host's disks and has no way to them.
    names.into_iter().map(|name| format!("/dev/{name}")).filter(|path| is_block_device(path)).collect()
}

fn is_block_device(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_block_device())
}

fn refuse_used(disk: &str) -> Result<(), HostError> {
    let refused = |why: String| HostError(format!("{disk} is not used for containers' data: {why}"));
    if !is_block_device(disk) {
        return Err(refused("it is no block device".into()));
    }
    let exclusive = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_EXCL.bits()).open(PathBuf::from(disk));
    exclusive.map_err(|error| refused(format!("it is in use ({error})")))?;
    // blkid ends with 2 when it finds nothing, and then wipefs prints nothing.
    match commands::run("wipefs", &["--noheadings", "--no-act", disk]) {
        Ok(found) if found.trim().is_empty() => Ok(()),
        Ok(_) => Err(refused(format!("it has data; `wipefs --all {disk}` empties it, if that is what you want"))),
        Err(error) => Err(refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_disks_with_a_device_are_candidates() {
        let block = tempfile::tempdir().unwrap();
        for name in ["loop0", "sr0", "dm-0", "sampan-test-disk/sampan-test-disk1", "nothere"] {
            fs::create_dir_all(block.path().join(name)).unwrap();
        }
        assert!(candidates(block.path()).is_empty());
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        assert!(refuse_used("/dev/null").unwrap_err().to_string().contains("no block device"));
    }
}
