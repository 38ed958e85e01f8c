//! What the host of the machines can do, and what follows from it.

use std::{fs, net::Ipv4Addr, path::Path};

use sampan_store::model::ProxyMode;

/// `CAP_SYS_RESOURCE`, see capabilities(7).
const CAP_SYS_RESOURCE: u32 = 24;

/// Facts about the host that node containers run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Processes may lower their OOM score. Without it runc fails unless containerd is told.
    pub can_lower_oom_score: bool,
    /// The kernel has IPVS.
    pub ipvs: bool,
    /// Cores.
    pub cpus: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Name servers of the host that can be reached from machines (loopback ones cannot).
    pub name_servers: Vec<Ipv4Addr>,
}

impl HostFacts {
    /// Looks at the host that this process runs on; `cpus` and `memory_bytes` are what the machine provider reports.
    pub fn detect(cpus: u64, memory_bytes: u64) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        let modules = ["modules.dep", "modules.builtin"]
            .map(|list| read(&format!("/lib/modules/{}/{list}", release.trim())))
            .concat();
        Self {
            can_lower_oom_score: bounding_set_has(&read("/proc/self/status"), CAP_SYS_RESOURCE),
            ipvs: Path::new("/proc/sys/net/ipv4/vs").exists() || modules.contains("/ip_vs.ko"),
            cpus,
            memory_bytes,
            name_servers: name_servers(&[read("/etc/resolv.conf"), read("/run/systemd/resolve/resolv.conf")]),
        }
    }
}

/// Whether the bounding set in the text of `/proc/<pid>/status` has the capability; yes, when that cannot be read.
fn bounding_set_has(status: &str, capability: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_none_or(|set| set & (1 << capability) != 0)
}

/// The routable name servers of the first text that has any.
fn name_servers(texts: &[String]) -> Vec<Ipv4Addr> {
    texts
        .iter()
        .map(|text| {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok())
                .filter(|server| !server.is_loopback() && !server.is_unspecified() && !server.is_link_local())
                .take(3)
                .collect::<Vec<_>>()
        })
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

/// How kube-proxy really works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyBackend {
    /// nftables rules.
    Nftables,
    /// iptables rules.
    Iptables,
    /// IPVS.
    Ipvs,
}

impl ProxyBackend {
    /// kube-proxy's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
        }
    }
}

/// What a cluster that asked for `wanted` gets on this host; when it is not the same, an event should say so.
pub fn proxy_backend(wanted: ProxyMode, facts: &HostFacts) -> ProxyBackend {
    match wanted {
        ProxyMode::Iptables => ProxyBackend::Iptables,
        ProxyMode::Ipvs if facts.ipvs => ProxyBackend::Ipvs,
        ProxyMode::Ipvs => ProxyBackend::Nftables,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_bounding_set() {
        assert!(bounding_set_has("CapEff:\t0\nCapBnd:\t000001ffffffffff\n", CAP_SYS_RESOURCE));
        assert!(!bounding_set_has("CapBnd:\t000001fffeffffff\n", CAP_SYS_RESOURCE));
        assert!(bounding_set_has("", CAP_SYS_RESOURCE));
    }

    #[test]
    fn loopback_name_servers_are_no_use_to_machines() {
        let systemd = "nameserver 127.0.0.53\noptions edns0\n".to_owned();
        let real = "# comment\nnameserver 192.0.2.1\nnameserver ::1\n".to_owned();
        assert_eq!(name_servers(&[systemd.clone(), real]), [Ipv4Addr::new(192, 0, 2, 1)]);
        assert!(name_servers(&[systemd]).is_empty());
    }

    #[test]
    fn ipvs_falls_back_to_nftables() {
        let mut facts = HostFacts::detect(2, 1 << 34);
        facts.ipvs = false;
        assert_eq!(proxy_backend(ProxyMode::Ipvs, &facts), ProxyBackend::Nftables);
        facts.ipvs = true;
        assert_eq!(proxy_backend(ProxyMode::Ipvs, &facts), ProxyBackend::Ipvs);
    }
}
