//! Virtual IPs on the host's bridges. Those that the balancer added are remembered on disk before they are added, so
//! that none is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use nix::ifaddrs::getifaddrs;

use super::{Failure, VirtualIp};
use crate::{children::Children, disk};

const MEMORY_FILE: &str = "virtual-ips.json";
const TOOL_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps virtual IPs where they are wanted.
#[derive(Debug)]
pub(super) struct Addresses {
    children: Arc<Children>,
    memory_path: PathBuf,
    /// Added by this or an earlier run and not removed since.
    added: BTreeSet<VirtualIp>,
    /// What the file holds.
    written: BTreeSet<VirtualIp>,
}

impl Addresses {
    pub(super) fn load(state_dir: &Path, children: Arc<Children>) -> Self {
        let memory_path = state_dir.join(MEMORY_FILE);
        let added: BTreeSet<VirtualIp> = match std::fs::read(&memory_path) {
            Ok(json) => serde_json::from_slice(&json).unwrap_or_else(|error| {
                tracing::error!(path = %memory_path.display(), %error, "virtual IPs of earlier runs are not known");
                BTreeSet::new()
            }),
            Err(_) => BTreeSet::new(),
        };
        Self { children, memory_path, written: added.clone(), added }
    }

    /// Adds what is missing and removes what is no longer wanted; returns what could not be done.
    pub(super) async fn apply(&mut self, wanted: &[VirtualIp]) -> Vec<Failure> {
        let wanted: BTreeSet<VirtualIp> = wanted.iter().cloned().collect();
        if wanted.is_empty() && self.added.is_empty() {
            return Vec::new();
        }
        let failure = |ip: &VirtualIp, message: String| Failure { name: ip.ip.to_string(), message };
        let present = match present() {
            Ok(present) => present,
            Err(error) => return wanted.iter().map(|ip| failure(ip, format!("addresses unknown: {error}"))).collect(),
        };
        let is_present = |ip: &VirtualIp| present.get(&ip.bridge).is_some_and(|ips| ips.contains(&ip.ip));
        let mut failures = Vec::new();
        let obsolete: Vec<VirtualIp> = self.added.difference(&wanted).cloned().collect();
        for ip in obsolete {
            // A bridge that is gone has taken the address with it.
            match if is_present(&ip) { self.change("del", &ip).await } else { Ok(()) } {
                Ok(()) => _ = self.added.remove(&ip),
                Err(error) => failures.push(failure(&ip, format!("it could not be removed: {error}"))),
            }
        }
        self.added.extend(wanted.iter().cloned());
        if let Err(error) = self.remember() {
            failures.extend(wanted.iter().map(|ip| failure(ip, format!("it could not be written down: {error}"))));
            return failures;
        }
        for ip in wanted.iter().filter(|ip| !is_present(ip)) {
            if !present.contains_key(&ip.bridge) {
                failures.push(failure(ip, format!("the bridge {} does not exist", ip.bridge)));
            } else if let Err(error) = self.change("replace", ip).await {
                failures.push(failure(ip, error));
            }
        }
        failures
    }

    async fn change(&self, verb: &str, VirtualIp { ip, bridge }: &VirtualIp) -> Result<(), String> {
        let mut command = Command::new("ip");
        command.args(["-4", "addr", verb, &format!("{ip}/32"), "dev", bridge]);
        tracing::info!(%ip, bridge, "ip addr {verb}");
        self.children.run(&mut command, b"", TOOL_TIMEOUT).await.map(|_| ())
    }

    /// Writes down what was added, if that changed.
    fn remember(&mut self) -> io::Result<()> {
        if self.written != self.added {
            disk::replace(&self.memory_path, 0o600, &serde_json::to_vec(&self.added)?, true)?;
            self.written.clone_from(&self.added);
        }
        Ok(())
    }
}

/// The IPv4 addresses of every interface; interfaces without any are listed too.
fn present() -> io::Result<BTreeMap<String, BTreeSet<std::net::Ipv4Addr>>> {
    let mut present: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
    for interface in getifaddrs()? {
        let ips = present.entry(interface.interface_name).or_default();
        ips.extend(interface.address.as_ref().and_then(|address| address.as_sockaddr_in()).map(|address| address.ip()));
    }
    Ok(present)
}
