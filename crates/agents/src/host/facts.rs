//! What the host is.

use std::{fs, net::Ipv4Addr, path::Path};

use super::wire::HostFacts;

/// `CAP_SYS_RESOURCE`, see capabilities(7).
const CAP_SYS_RESOURCE: u32 = 24;
const NAME_SERVERS_MAX: usize = 3;

/// Looks at this host; `ip` is the address by which it reaches the server.
pub(crate) fn gather(ip: Option<Ipv4Addr>) -> HostFacts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let modules = ["modules.dep", "modules.builtin"]
        .map(|list| read(&format!("/lib/modules/{}/{list}", release.trim())))
        .concat();
    HostFacts {
        hostname: read("/proc/sys/kernel/hostname").trim().to_owned(),
        ip,
        arch: std::env::consts::ARCH.to_owned(),
        os: pretty_name(&read("/etc/os-release")),
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        memory_bytes: total_memory(&read("/proc/meminfo")),
        ipvs: Path::new("/proc/sys/net/ipv4/vs").exists() || modules.contains("/ip_vs.ko"),
        can_lower_oom_score: bounding_set_has(&read("/proc/self/status"), CAP_SYS_RESOURCE),
        name_servers: name_servers(&[read("/etc/resolv.conf"), read("/run/systemd/resolve/resolv.conf")]),
    }
}

fn pretty_name(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn bounding_set_has(status: &str, capability: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_none_or(|set| set & (1 << capability) != 0)
}

/// The name servers of the first text that has any which pods can reach.
fn name_servers(texts: &[String]) -> Vec<Ipv4Addr> {
    let of = |text: &String| -> Vec<Ipv4Addr> {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok())
            .filter(|server| !server.is_loopback() && !server.is_unspecified() && !server.is_link_local())
            .take(NAME_SERVERS_MAX)
            .collect()
    };
    texts.iter().map(of).find(|servers| !servers.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_system_are_read() {
        assert_eq!(
            pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(total_memory("MemTotal:       16 kB\nMemFree: 1 kB\n"), 16384);
        let resolved = "nameserver 127.0.0.53\n".to_owned();
        let real = "nameserver 192.0.2.1\nnameserver ::1\n".to_owned();
        assert_eq!(name_servers(&[resolved, real]), [Ipv4Addr::new(192, 0, 2, 1)]);
        assert!(!bounding_set_has("CapBnd:\t000001fffeffffff\n", CAP_SYS_RESOURCE));
    }
}
