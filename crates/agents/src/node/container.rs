//! What PID 1 of a node container does before anything else: makes the container look like a machine that has just
//! booted. Nothing here is fatal; what a machine really needs shows when its processes fail, with their own words.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

const MOUNT_INFO: &str = "/proc/self/mountinfo";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Prepares the container.
pub(crate) fn prepare() {
    make_mounts_shared();
    make_system_trees_writable();
    if let Err(error) = delegate_cgroups(Path::new(CGROUPS)) {
        tracing::warn!(%error, "control groups could not be delegated; limits of pods may not work");
    }
    let mounts = mount_points(&fs::read_to_string(MOUNT_INFO).unwrap_or_default());
    clear_run(Path::new("/run"), &mounts);
    for directory in ["/run/lock", "/tmp", "/var/log", "/var/lib"] {
        if let Err(error) = fs::create_dir_all(directory) {
            tracing::warn!(directory, %error, "a directory could not be made");
        }
    }
    // A machine that carries pods forwards packets. The spec may say otherwise.
    if let Err(error) = fs::write("/proc/sys/net/ipv4/ip_forward", "1") {
        tracing::warn!(%error, "packet forwarding could not be switched on");
    }
}

/// Mounts made in the machine must reach pods that ask for that (CSI drivers, kubelet's own volumes).
fn make_mounts_shared() {
    if let Err(error) = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>) {
        tracing::warn!(%error, "mounts could not be made shared; mount propagation to pods will not work");
    }
}

/// Without `--privileged`, Docker mounts these read-only.
fn make_system_trees_writable() {
    let mut trees = vec![PathBuf::from("/sys"), PathBuf::from("/proc/sys"), PathBuf::from(CGROUPS)];
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    trees.extend(hierarchies.filter(|path| path.is_dir()));
    let mounts = mount_points(&fs::read_to_string(MOUNT_INFO).unwrap_or_default());
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for tree in trees.iter().filter(|tree| mounts.contains(*tree)) {
        if let Err(error) = mount(None::<&str>, tree, None::<&str>, flags, None::<&str>) {
            tracing::warn!(tree = %tree.display(), %error, "could not be made writable");
        }
    }
}

/// With cgroup v2 a group that has processes of its own cannot give controllers to its children, so everything that runs
/// now moves into a child and the controllers are passed on. With v1 there is nothing to do.
fn delegate_cgroups(root: &Path) -> io::Result<()> {
    let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) else { return Ok(()) };
    let leaf = root.join("init");
    fs::create_dir_all(&leaf)?;
    for pid in fs::read_to_string(root.join("cgroup.procs"))?.split_whitespace() {
        // A process that has just ended is no loss.
        let _ = fs::write(leaf.join("cgroup.procs"), pid);
    }
    for controller in controllers.split_whitespace() {
        // One at a time: a controller that cannot be passed on must not keep back the others.
        let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

/// Where file systems are mounted.
fn mount_points(mount_info: &str) -> BTreeSet<PathBuf> {
    mount_info.lines().filter_map(|line| line.split(' ').nth(4)).map(|path| PathBuf::from(unescape(path))).collect()
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escaped, plain)| path.replace(escaped, plain))
}

/// After a boot `/run` is empty. In a restarted container it still holds pid files, sockets and the runtimes' state of
/// processes that are gone, which keeps some daemons from starting. What is mounted below stays.
fn clear_run(run: &Path, mounts: &BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(run) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if mounts.contains(&path) {
            continue;
        }
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if !is_directory {
            fs::remove_file(&path)
        } else if mounts.iter().any(|mount| mount.starts_with(&path)) {
            clear_run(&path, mounts);
            Ok(())
        } else {
            fs::remove_dir_all(&path)
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "a leftover of the last run could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_is_cleared_around_mounts() {
        let run = tempfile::tempdir().unwrap();
        let at = |path: &str| run.path().join(path);
        for directory in ["containerd/state", "sampan-server", "a/mounted/deep", "a/plain"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for file in ["docker.pid", "containerd/containerd.sock", "sampan-server/agents.sock", "a/mounted/deep/file"] {
            fs::write(at(file), "").unwrap();
        }
        clear_run(run.path(), &[at("sampan-server"), at("a/mounted")].into());
        assert!(at("sampan-server/agents.sock").exists() && at("a/mounted/deep/file").exists());
        for gone in ["docker.pid", "containerd", "a/plain"] {
            assert!(!at(gone).exists(), "{gone}");
        }
    }

    #[test]
    fn mount_points_are_read() {
        let info =
            "36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/root rw\n40 35 0:5 / /sys ro - sysfs sysfs ro\n";
        let expected: BTreeSet<PathBuf> = ["/a b", "/sys"].map(PathBuf::from).into();
        assert_eq!(mount_points(info), expected);
    }

    #[test]
    fn control_groups_v2_are_delegated_and_v1_left_alone() {
        let root = tempfile::tempdir().unwrap();
        delegate_cgroups(root.path()).unwrap();
        assert!(!root.path().join("init").exists());
        fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        fs::write(root.path().join("cgroup.procs"), "1\n").unwrap();
        delegate_cgroups(root.path()).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("init/cgroup.procs")).unwrap(), "1");
        assert_eq!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(), "+memory");
    }
}
