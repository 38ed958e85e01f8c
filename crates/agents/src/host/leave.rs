//! How a host is left: everything of ours stops and goes, and what could not go is said.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    HostError, commands, data_disk, mounts, preflight, rules, service,
    state::{Before, HostState},
};

/// Says that the removal has begun.
const MARK: &str = "var/lib/sampan/leaving";
/// What our executables are below.
const EXECUTABLES: [&str; 3] = ["/opt/sampan/bin/", "/opt/sampan/kubernetes/", "/opt/cni/bin/"];
/// Control groups of pods.
const GROUPS: [&str; 3] = ["kubepods", "kubepods.slice", "k8s.io"];
/// Below these, pods and containerd mount.
const MOUNTED: [&str; 4] = ["/var/lib/kubelet", "/run/containerd", "/var/lib/containerd", "/run/netns"];
/// The agent's own, which it needs until the end.
const OWN: [&str; 7] = [
    "/etc/init.d/sampan-host",
    "/etc/systemd/system/sampan-host.service",
    "/opt/sampan",
    "/run/sampan-host.pid",
    "/var/lib/sampan",
    "/var/log/sampan",
    "/opt",
];
const KILL_TIMEOUT: Duration = Duration::from_secs(15);
const KILL_PAUSE: Duration = Duration::from_millis(50);

/// Whether a removal has begun.
pub(crate) fn is_begun(root: &Path) -> bool {
    root.join(MARK).exists()
}

/// Remembers that a removal has begun.
pub(crate) fn begin(root: &Path) -> Result<(), HostError> {
    let mark = root.join(MARK);
    crate::disk::replace(&mark, 0o600, b"", true).map_err(|error| HostError::of(mark.display(), error))
}

/// Removes everything but the agent itself; returns what stays, in words. May be asked again.
pub(crate) fn clean(root: &Path, state: &HostState) -> Vec<String> {
    let mut left = end_processes();
    for path in MOUNTED {
        if !state.before.paths.contains(path) {
            left.extend(
                mounts::unmount_all(Path::new(path)).iter().map(|path| format!("the mount {}", path.display())),
            );
        }
    }
    if state.data_disk.is_some() {
        left.extend(data_disk::release());
    }
    left.extend(rules::remove(&state.before));
    remove_groups();
    remove_namespaces(root);
    left.extend(remove_files(root, &state.before, false));
    restore_sysctls(root, state);
    restore_name(state);
    if state.before.private_root {
        let flags = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
        let _ = nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>);
    }
    left.extend(remove_packages(&state.packages));
    left
}

/// The last of it: the agent as a service, its files, its executable.
pub(crate) fn remove_self(root: &Path, before: &Before) -> Vec<String> {
    service::remove();
    remove_files(root, before, true)
}

/// Ends processes of ours that are left of a run of the agent that was killed; containers go on.
pub(crate) fn end_daemons() {
    let daemons = |name: &str| !name.contains("containerd-shim") && !name.ends_with("/sampan");
    for pid in ours().into_iter().filter(|(_, path)| daemons(path)).map(|(pid, _)| pid) {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// Processes whose executable is one of ours, this one and other runs of the agent left out.
fn ours() -> Vec<(Pid, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = Pid::this();
    entries
        .filter_map(|entry| Some(Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)))
        .filter(|pid| *pid != own)
        .filter_map(|pid| Some((pid, fs::read_link(format!("/proc/{pid}/exe")).ok()?.to_string_lossy().into_owned())))
        .map(|(pid, path)| (pid, path.trim_end_matches(" (deleted)").to_owned()))
        .filter(|(_, path)| EXECUTABLES.iter().any(|dir| path.starts_with(dir)) && path != super::AGENT_PATH)
        .collect()
}

/// Kills containers and what runs them, until nothing is left.
fn end_processes() -> Vec<String> {
    let until = Instant::now() + KILL_TIMEOUT;
    loop {
        let members: Vec<Pid> = groups().iter().flat_map(|group| members(group)).collect();
        let ours = ours();
        if members.is_empty() && ours.is_empty() {
            return Vec::new();
        }
        for pid in members.iter().chain(ours.iter().map(|(pid, _)| pid)) {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        if Instant::now() > until {
            let names = ours.iter().map(|(pid, path)| format!("the process {pid} ({path})"));
            return members.iter().map(|pid| format!("the process {pid} of a pod")).chain(names).collect();
        }
        thread::sleep(KILL_PAUSE);
    }
}

/// Control groups of pods, of all hierarchies, the innermost first.
fn groups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut roots = vec![root.to_owned()];
    // Version 1 has a folder for each hierarchy.
    roots.extend(
        fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()),
    );
    let mut found = Vec::new();
    for base in roots {
        for group in GROUPS {
            walk(&base.join(group), &mut found);
        }
    }
    found
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        walk(&entry.path(), found);
    }
    found.push(directory.to_owned());
}

fn members(group: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 1).map(Pid::from_raw).collect()
}

fn remove_groups() {
    for group in groups() {
        // The kernel takes a moment to let go of those that died.
        for _ in 0..20 {
            if fs::remove_dir(&group).is_ok() || !group.exists() {
                break;
            }
            thread::sleep(KILL_PAUSE);
        }
    }
}

/// Removes the files of ours that were not there before: the agent's own, or all others.
fn remove_files(root: &Path, before: &Before, own: bool) -> Vec<String> {
    let mut left = Vec::new();
    for path in preflight::OURS.iter().filter(|path| OWN.contains(path) == own && !before.paths.contains(**path)) {
        let full = root.join(path.trim_start_matches('/'));
        let Ok(kind) = fs::symlink_metadata(&full) else { continue };
        let removed = match (*path, kind.is_dir()) {
            // A folder of the system's: others may have put something there meanwhile.
            ("/opt" | "/usr/libexec" | "/run/netns", _) => {
                let _ = fs::remove_dir(&full);
                continue;
            }
            (_, true) => fs::remove_dir_all(&full),
            (_, false) => fs::remove_file(&full),
        };
        if let Err(error) = removed {
            left.push(format!("{path} ({error})"));
        }
        if before.empty.contains(*path) {
            let _ = fs::create_dir(&full);
        }
    }
    left
}

/// Removes the names of pods' network namespaces; the namespaces went with their processes.
fn remove_namespaces(root: &Path) {
    let entries = fs::read_dir(root.join("run/netns")).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("cni-")) {
        mounts::unmount_all(&entry.path());
        let _ = fs::remove_file(entry.path());
    }
}

fn restore_sysctls(root: &Path, state: &HostState) {
    for (name, value) in &state.before.sysctls {
        let path = root.join("proc/sys").join(name);
        if fs::read_to_string(&path).is_ok_and(|now| now.trim() != value)
            && let Err(error) = fs::write(&path, value)
        {
            tracing::warn!(name, %error, "a kernel parameter could not be set back");
        }
    }
}

fn restore_name(state: &HostState) {
    if !state.renamed || state.before.hostname.is_empty() {
        return;
    }
    if let Err(error) = set_name(&state.before.hostname) {
        tracing::warn!(%error, "the host name could not be set back");
    }
}

/// Gives the host a name, for good.
pub(crate) fn set_name(name: &str) -> std::io::Result<()> {
    fs::write("/proc/sys/kernel/hostname", name)?;
    fs::write("/etc/hostname", format!("{name}\n"))
}

/// Removes the packages that the script installed, unless others need them by now.
fn remove_packages(packages: &[String]) -> Vec<String> {
    if packages.is_empty() {
        return Vec::new();
    }
    let named: Vec<&str> = packages.iter().map(String::as_str).collect();
    let planned = commands::run("apt-get", &[&["-s", "purge"], named.as_slice()].concat()).unwrap_or_default();
    let goes: BTreeSet<&str> = planned
        .lines()
        .filter_map(|line| line.strip_prefix("Purg ").or_else(|| line.strip_prefix("Remv ")))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    let stays = || vec![format!("the packages {} (apt-get purge removes them)", packages.join(", "))];
    if goes.is_empty() || goes.iter().any(|name| !named.contains(name)) {
        return stays();
    }
    match commands::run("apt-get", &[&["-qy", "purge"], named.as_slice()].concat()) {
        Ok(_) => Vec::new(),
        Err(_) => stays(),
    }
}

/// Leaves the host without its server: what it asks is not waited for.
///
/// # Errors
/// When this host is none of ours.
pub fn leave_alone(root: &Path) -> Result<Vec<String>, HostError> {
    let state = HostState::load(root)?
        .ok_or_else(|| HostError("this host is in no cluster of a Sampan installation".into()))?;
    begin(root)?;
    service::stop();
    let mut left = clean(root, &state);
    left.extend(remove_self(root, &state.before));
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_stays() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for dir in ["etc/kubernetes/pki", "opt/cni/bin", "var/lib/kubelet/pods", "opt/sampan/bin", "var/lib/sampan"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        let before = Before {
            paths: ["/opt", "/opt/cni"].map(str::to_owned).into(),
            empty: ["/var/lib/kubelet".to_owned()].into(),
            ..Before::default()
        };
        assert!(remove_files(root.path(), &before, false).is_empty());
        for gone in ["etc/kubernetes", "var/lib/kubelet/pods"] {
            assert!(!at(gone).exists(), "{gone}");
        }
        assert!(
            at("var/lib/kubelet").exists()
                && at("opt/cni/bin").exists()
                && at("opt/sampan/bin").exists()
                && at("var/lib/sampan").exists()
        );
        assert!(remove_files(root.path(), &before, true).is_empty());
        assert!(!at("opt/sampan").exists() && !at("var/lib/sampan").exists() && at("opt/cni").exists());
    }

    #[test]
    fn a_removal_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_begun(root.path()));
        begin(root.path()).unwrap();
        assert!(is_begun(root.path()));
    }
}
