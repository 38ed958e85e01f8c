//! Whether a host can join: nothing is on it that ours would get in the way of, or would be removed with ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use super::{HostError, commands, mounts, state::Before};

/// What we, or what we run, make on a host. What is not there before belongs to us and goes with us.
pub(crate) const OURS: [&str; 26] = [
    "/etc/containerd",
    "/etc/cni",
    "/etc/kubernetes",
    "/etc/sampan",
    "/etc/init.d/sampan-host",
    "/etc/systemd/system/sampan-host.service",
    "/opt/cni",
    "/opt/containerd",
    "/opt/sampan",
    "/run/cni",
    "/run/containerd",
    "/run/netns",
    "/run/sampan-host.pid",
    "/usr/libexec/kubernetes",
    "/usr/libexec",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/kube-proxy",
    "/var/lib/sampan",
    "/var/log/containers",
    "/var/log/pods",
    "/var/log/sampan",
    "/var/run/kubernetes",
    "/run/xtables.lock",
    "/opt",
];
/// Whoever has these runs containers already.
const FOREIGN: [(&str, &str); 8] = [
    ("/run/containerd/containerd.sock", "containerd runs here; remove it (apt-get purge containerd docker.io)"),
    ("/var/lib/kubelet/config.yaml", "this host is a node of another cluster (kubeadm reset takes it out)"),
    ("/etc/kubernetes/kubelet.conf", "this host is a node of another cluster (kubeadm reset takes it out)"),
    ("/etc/sampan", "this host has a /etc/sampan; move it away"),
    ("/var/lib/sampan", "this host has a /var/lib/sampan (a server's data?); move it away"),
    ("/etc/rancher", "this host is a node of another cluster (k3s-uninstall.sh takes it out)"),
    ("/var/snap/microk8s", "this host is a node of another cluster (snap remove microk8s takes it out)"),
    ("/var/lib/containerd/io.containerd.metadata.v1.bolt", "containerd has data here; remove /var/lib/containerd"),
];
/// Kernel parameters that we, the kubelet or kube-proxy change.
const SYSCTLS: [&str; 12] = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "vm/overcommit_memory",
];
/// Ports that must be free: on every address, and on the loopback one.
const PORTS: [u16; 2] = [10250, 10256];
const LOOPBACK_PORTS: [u16; 4] = [6443, 5999, 10248, 10249];
const TOOLS: [&str; 5] = ["ip", "nft", "mount", "umount", "conntrack"];

/// Refuses a host that cannot be a node, with what to do about it.
pub(crate) fn check(root: &Path) -> Result<(), HostError> {
    let mut problems: Vec<String> = FOREIGN
        .iter()
        .filter(|(path, _)| root.join(path.trim_start_matches('/')).exists())
        .map(|(_, words)| (*words).to_owned())
        .collect();
    let busy = |address: Ipv4Addr, port: u16| TcpListener::bind((address, port)).is_err();
    problems.extend(PORTS.iter().filter(|port| busy(Ipv4Addr::UNSPECIFIED, **port)).map(|port| taken(*port)));
    problems.extend(LOOPBACK_PORTS.iter().filter(|port| busy(Ipv4Addr::LOCALHOST, **port)).map(|port| taken(*port)));
    let missing = TOOLS.iter().filter(|tool| !is_installed(tool));
    problems.extend(missing.map(|tool| format!("the tool {tool} is missing")));
    if problems.is_empty() { Ok(()) } else { Err(HostError(format!("this host cannot join: {}", problems.join("; ")))) }
}

fn taken(port: u16) -> String {
    format!("port {port} is in use (ss -ltnp shows by what)")
}

fn is_installed(tool: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(tool).exists())
}

/// How the host is now. `packages` is not of it: the script knows these.
pub(crate) fn snapshot(root: &Path) -> Before {
    let in_root = |path: &str| root.join(path.trim_start_matches('/'));
    // A link counts, whatever it leads to. The agent's own folders are there already, for this very call.
    let there = OURS
        .iter()
        .filter(|path| !path.ends_with("/sampan") && fs::symlink_metadata(in_root(path)).is_ok())
        .map(|path| (*path).to_owned());
    let is_empty = |path: &String| fs::read_dir(in_root(path)).is_ok_and(|mut entries| entries.next().is_none());
    let (empty, paths): (BTreeSet<String>, BTreeSet<String>) = there.partition(is_empty);
    let sysctls = SYSCTLS.iter().filter_map(|name| {
        let value = fs::read_to_string(in_root(&format!("/proc/sys/{name}"))).ok()?;
        Some(((*name).to_owned(), value.trim().to_owned()))
    });
    let sysctls: BTreeMap<String, String> = sysctls.collect();
    Before {
        paths,
        empty,
        sysctls,
        tables: tables(),
        links: links(),
        hostname: fs::read_to_string(in_root("/proc/sys/kernel/hostname")).unwrap_or_default().trim().to_owned(),
        private_root: mounts::root_is_private(&mounts::read()),
    }
}

/// Tables of nftables, `family name`; none where there is no nftables.
pub(crate) fn tables() -> BTreeSet<String> {
    let listing = commands::run("nft", &["list", "tables"]).unwrap_or_default();
    listing.lines().filter_map(|line| line.trim().strip_prefix("table ")).map(str::to_owned).collect()
}

/// Names of network links.
pub(crate) fn links() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_clusters_node_is_refused_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/kubelet")).unwrap();
        fs::write(root.path().join("var/lib/kubelet/config.yaml"), "").unwrap();
        let refusal = check(root.path()).unwrap_err().to_string();
        assert!(refusal.contains("kubeadm reset"), "{refusal}");
    }

    #[test]
    fn what_is_there_before_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("opt/cni")).unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        fs::write(root.path().join("proc/sys/kernel/panic"), "0\n").unwrap();
        let before = snapshot(root.path());
        assert_eq!(before.paths.iter().collect::<Vec<_>>(), ["/opt"]);
        assert_eq!(before.empty.iter().collect::<Vec<_>>(), ["/opt/cni"]);
        assert_eq!(before.sysctls.get("kernel/panic").map(String::as_str), Some("0"));
    }
}
