//! What the host of the engine can do. It decides what machines are allowed, so that nothing is asked for that this
//! host cannot give, and nothing is given that this host does not need.

use std::path::Path;

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};

/// Files that a machine may have open. Kubernetes on a busy node needs tens of thousands.
const FILES_WANTED: u64 = 1_048_576;

/// Devices that machines need beside those that the engine gives every container: the kubelet reads the kernel's log,
/// pods mount object storage through FUSE.
const DEVICES: [&str; 2] = ["/dev/kmsg", "/dev/fuse"];

/// The host, as far as it matters to machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostFacts {
    /// Capabilities (without `CAP_`) that the engine itself lacks: asking for one of them makes every start fail.
    pub(super) missing_capabilities: Vec<&'static str>,
    /// Limit of open files that the engine can give; `None`: unknown, so leave its default.
    pub(super) open_files: Option<u64>,
    /// One cgroup hierarchy (v2).
    pub(super) cgroup_v2: bool,
    /// Security modules that the engine uses: `seccomp`, `apparmor`, `selinux`, `userns`, …
    pub(super) security: Vec<String>,
    /// CPU limits work.
    pub(super) cpu_limits: bool,
    /// Swap can be limited.
    pub(super) swap_limits: bool,
    /// Thousandths of a core that the host has.
    pub(super) cpu_millis: u64,
    /// Which of [`DEVICES`] exist.
    pub(super) devices: Vec<&'static str>,
    /// `/lib/modules` exists.
    pub(super) modules: bool,
}

impl HostFacts {
    /// Looks at the engine's description and, where the engine is a process of this host, at that process.
    pub(super) async fn detect(info: &SystemInfo, socket: &str) -> Self {
        let process = engine_process(socket).await;
        let mut facts = Self::of_info(info);
        if let Some((status, limits)) = process {
            let last = read_number("/proc/sys/kernel/cap_last_cap").unwrap_or(40);
            facts.missing_capabilities = missing_capabilities(&status, last);
            let may_raise = !facts.missing_capabilities.contains(&"SYS_RESOURCE");
            let ceiling = read_number("/proc/sys/fs/nr_open").unwrap_or(FILES_WANTED);
            facts.open_files = open_files(&limits, may_raise, ceiling);
        }
        facts.devices = DEVICES.into_iter().filter(|path| Path::new(path).exists()).collect();
        facts.modules = Path::new("/lib/modules").is_dir();
        facts
    }

    fn of_info(info: &SystemInfo) -> Self {
        let options = info.security_options.as_deref().unwrap_or_default();
        Self {
            cgroup_v2: info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2),
            security: options.iter().filter_map(|option| security_name(option)).collect(),
            cpu_limits: info.cpu_cfs_quota.unwrap_or(false),
            swap_limits: info.swap_limit.unwrap_or(false),
            cpu_millis: info.ncpu.and_then(|n| u64::try_from(n).ok()).unwrap_or(1) * 1000,
            ..Self::default()
        }
    }

    /// Whether the engine uses this security module.
    pub(super) fn has_security(&self, name: &str) -> bool {
        self.security.iter().any(|module| module == name)
    }
}

/// `name=seccomp,profile=default` → `seccomp`.
fn security_name(option: &str) -> Option<String> {
    option.split(',').find_map(|part| part.strip_prefix("name=")).map(str::to_owned)
}

/// Status and limits of the process that listens on the socket. `None` when it is not of this host (an engine in a
/// virtual machine) or may not be looked at.
async fn engine_process(socket: &str) -> Option<(String, String)> {
    let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let pid = stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)?;
    let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await.ok()?;
    let limits = tokio::fs::read_to_string(format!("/proc/{pid}/limits")).await.ok()?;
    Some((status, limits))
}

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Capabilities up to number `last` that are not in the process's bounding set. What it lacks it cannot hand on.
fn missing_capabilities(status: &str, last: u64) -> Vec<&'static str> {
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let Some(bounding) = bounding else {
        return Vec::new();
    };
    let known = CAPABILITIES.iter().zip(0..=last);
    known.filter(|(_, bit)| bounding & (1 << bit) == 0).map(|(name, _)| *name).collect()
}

/// How many open files can be given: without `CAP_SYS_RESOURCE` a limit can only be lowered.
fn open_files(limits: &str, may_raise: bool, ceiling: u64) -> Option<u64> {
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().nth(1))
        .map(|hard| hard.parse().unwrap_or(u64::MAX))?;
    let most = if may_raise { ceiling } else { hard.min(ceiling) };
    Some(most.min(FILES_WANTED))
}

/// Linux's capabilities in the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let none: [&str; 0] = [];
        assert_eq!(missing_capabilities("CapBnd:\t000001fffeffffff\n", 40), ["SYS_RESOURCE"]);
        assert_eq!(missing_capabilities("CapBnd:\t000001ffffffffff\n", 40), none);
        // An older kernel knows fewer; those it does not know are not missing.
        assert_eq!(missing_capabilities("CapBnd:\t0000003fffffffff\n", 37), none);
        assert_eq!(missing_capabilities("CapBnd:\tnonsense\n", 40), none);
        assert_eq!(missing_capabilities("", 40), none);
    }

    #[test]
    fn open_files_are_bounded_by_what_can_be_given() {
        let limits =
            "Limit  Soft  Hard  Units\nMax open files            1024                20000                files\n";
        assert_eq!(open_files(limits, false, 1 << 30), Some(20_000));
        assert_eq!(open_files(limits, true, 1 << 30), Some(FILES_WANTED));
        assert_eq!(open_files(limits, true, 65_536), Some(65_536));
        let unlimited = "Max open files            unlimited            unlimited            files\n";
        assert_eq!(open_files(unlimited, false, 1 << 30), Some(FILES_WANTED));
        assert_eq!(open_files("", true, 1 << 30), None);
    }

    #[test]
    fn security_modules_are_read_from_both_spellings() {
        assert_eq!(security_name("name=seccomp,profile=default").as_deref(), Some("seccomp"));
        assert_eq!(security_name("name=apparmor").as_deref(), Some("apparmor"));
        assert_eq!(security_name("apparmor"), None);
    }
}
