//! Mounts of a host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

/// `/proc/self/mountinfo`.
pub(crate) fn read() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// Whether mounts below the root do not reach other namespaces, as the kernel has it and systemd has not.
pub(crate) fn root_is_private(mount_info: &str) -> bool {
    let root = mount_info.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    root.is_some_and(|line| {
        !line.split(' ').skip(6).take_while(|field| *field != "-").any(|f| f.starts_with("shared:"))
    })
}

/// Mount points at or below `path`, the innermost first.
pub(crate) fn below(mount_info: &str, path: &Path) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mount_info
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(path))
        .collect();
    points.reverse();
    points
}

/// Unmounts everything at or below `path`, until nothing is there; returns what stays.
pub(crate) fn unmount_all(path: &Path) -> Vec<PathBuf> {
    // One mount may hide another.
    for _ in 0..8 {
        let points = below(&read(), path);
        if points.is_empty() {
            break;
        }
        for point in points {
            // One that is busy goes as soon as it is not any more; nothing can begin to use it.
            if umount2(&point, MntFlags::UMOUNT_NOFOLLOW).is_err() {
                let _ = umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            }
        }
    }
    below(&read(), path)
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escaped, plain)| path.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                        30 21 0:5 / /var/lib/kubelet/pods/a/volumes/x rw shared:9 - tmpfs tmpfs rw\n\
                        31 21 0:6 / /var/lib/kubelet/pods/a/volumes/x\\040y rw - tmpfs tmpfs rw\n\
                        32 21 0:7 / /var/lib/kubelet2 rw - tmpfs tmpfs rw\n";

    #[test]
    fn innermost_first_and_only_what_is_below() {
        let points = below(INFO, Path::new("/var/lib/kubelet"));
        let expected = ["/var/lib/kubelet/pods/a/volumes/x y", "/var/lib/kubelet/pods/a/volumes/x"];
        assert_eq!(points, expected.map(PathBuf::from));
    }

    #[test]
    fn a_root_is_shared_or_private() {
        assert!(!root_is_private(INFO));
        assert!(root_is_private("21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"));
    }
}
