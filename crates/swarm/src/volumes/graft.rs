//! A new mount in the place of a dead one, inside of running containers.
//!
//! A container has a mount of its own of the volume's file system, made when it was started. When the file system dies and
//! is mounted anew, the kernel tells containers nothing of it: the new mount is not below anything that they share. So it
//! is copied and put into their mount namespaces, over what is dead there.

use std::{
    collections::HashMap,
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
    thread,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, umount2},
    sched::{CloneFlags, setns, unshare},
};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::table::{Mount, Table};

/// A mount namespace that has mounts of a file system.
#[derive(Debug)]
pub(super) struct Holder {
    namespace: OwnedFd,
    mounts: Vec<Mount>,
}

/// Mount namespaces, other than ours, with mounts of the same directory of the same file system. Blocks.
pub(super) fn holders(mount: &Mount) -> Vec<Holder> {
    let own = fs::metadata("/proc/self/ns/mnt").map(|namespace| namespace.ino()).unwrap_or_default();
    let mut found: HashMap<u64, Option<Holder>> = HashMap::new();
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    for entry in listing.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let path = format!("/proc/{pid}/ns/mnt");
        // Processes end while we look; then there is nothing to be found.
        let Ok(namespace) = fs::metadata(&path).map(|namespace| namespace.ino()) else { continue };
        if namespace == own || found.contains_key(&namespace) {
            continue;
        }
        let Ok(table) = Table::of(pid) else { continue };
        let same = |other: &Mount| other.device == mount.device && other.root == mount.root && other.kind == mount.kind;
        let mounts: Vec<Mount> = table.0.into_iter().filter(same).collect();
        let holder = match fs::File::open(&path) {
            Ok(file) if !mounts.is_empty() => Some(Holder { namespace: file.into(), mounts }),
            _ => None,
        };
        found.insert(namespace, holder);
    }
    found.into_values().flatten().collect()
}

/// Puts copies of what is mounted at `at` into the place of every mount of the dead file system. Answers how many. Blocks.
pub(super) fn replace(dead: &Mount, at: &Path) -> usize {
    let mut places = 0;
    for holder in holders(dead) {
        let Holder { namespace, mounts } = holder;
        let copies: Vec<(Mount, OwnedFd)> = mounts.into_iter().filter_map(|mount| Some((mount, copy(at)?))).collect();
        // A thread of its own: it goes into the container's mount namespace and never comes back.
        let work = thread::spawn(move || enter(&namespace).map(|()| copies.iter().filter(|place| put(place)).count()));
        match work.join() {
            Ok(Ok(put)) => places += put,
            Ok(Err(error)) => tracing::warn!(%error, "a container's mount namespace cannot be entered"),
            Err(_) => tracing::error!("the thread that mounts in a container ended unexpectedly"),
        }
    }
    places
}

fn copy(at: &Path) -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match open_tree(rustix::fs::CWD, at, flags) {
        Ok(tree) => Some(tree),
        Err(error) => {
            tracing::warn!(at = %at.display(), %error, "the mount cannot be copied for a container");
            None
        }
    }
}

fn enter(namespace: &OwnedFd) -> nix::Result<()> {
    // The kernel lets nobody in who shares a root directory with others.
    unshare(CloneFlags::CLONE_FS)?;
    setns(namespace, CloneFlags::CLONE_NEWNS)
}

/// Whether the file system itself is gone, and not only what was asked for.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::ENOTCONN, Errno::ECONNABORTED, Errno::ESTALE, Errno::ENODEV];
    error.raw_os_error().is_some_and(|code| gone.contains(&Errno::from_raw(code)))
}

fn put((mount, tree): &(Mount, OwnedFd)) -> bool {
    // The number of a file system that is gone may be another's by now.
    if !fs::metadata(&mount.at).is_err_and(|error| is_gone(&error)) {
        return false;
    }
    let done = umount2(&mount.at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .map_err(io::Error::from)
        .and_then(|()| {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            Ok(move_mount(tree, "", rustix::fs::CWD, &mount.at, flags)?)
        })
        .and_then(|()| Ok(again(mount)?));
    if let Err(error) = &done {
        tracing::warn!(at = %mount.at.display(), %error, "a container keeps a dead mount");
    }
    done.is_ok()
}

/// What the dead mount forbade is forbidden again.
fn again(mount: &Mount) -> nix::Result<()> {
    let known = [
        ("ro", MsFlags::MS_RDONLY),
        ("nosuid", MsFlags::MS_NOSUID),
        ("nodev", MsFlags::MS_NODEV),
        ("noexec", MsFlags::MS_NOEXEC),
        ("noatime", MsFlags::MS_NOATIME),
        ("relatime", MsFlags::MS_RELATIME),
    ];
    let has = |name: &str| mount.options.split(',').any(|option| option == name);
    let flags = known.iter().filter(|(name, _)| has(name)).fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
    let none = None::<&str>;
    nix::mount::mount(none, &mount.at, none, flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT, none)
}
