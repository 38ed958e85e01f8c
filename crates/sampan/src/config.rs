//! The installation's configuration: `DIR/config.toml`, every key optional, unknown keys refused by name.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use sampan_agents::master::Strategy;
use sampan_control::service::{Quotas, UnknownVersion};
use serde::Deserialize;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) network: Network,
    pub(crate) docker: Docker,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) registry: Registry,
    pub(crate) swarm: Swarm,
    pub(crate) quota: Quotas,
    pub(crate) limits: Limits,
    pub(crate) backup: Backup,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    /// Region that requests without one are about.
    pub(crate) region: String,
    /// Largest request body in bytes.
    pub(crate) body_bytes_max: usize,
    /// Requests that may be in work at once; more are answered 503.
    pub(crate) requests_max: usize,
    /// A request must be answered within so many seconds.
    pub(crate) request_timeout_seconds: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self { region: "cn-hangzhou".into(), body_bytes_max: 1 << 20, requests_max: 1024, request_timeout_seconds: 30 }
    }
}

/// `[network]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    /// VPCs get a /20 each out of this range.
    pub(crate) machine_pool: String,
    /// VPC, vSwitch, key pair and security group ids that do not exist are made on first reference.
    pub(crate) create_referenced: bool,
    /// Address on which public endpoints listen.
    pub(crate) public_address: Ipv4Addr,
    /// First and last port for public endpoints; each is probed before it is taken.
    pub(crate) public_ports: (u16, u16),
    /// Applications of Swarm clusters that name only a prefix are found at `<prefix>.<cluster>.<region>.<this>`.
    pub(crate) routing_suffix: String,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            machine_pool: "10.200.0.0/13".into(),
            create_referenced: true,
            public_address: Ipv4Addr::LOCALHOST,
            public_ports: (36400, 36999),
            // Names below it lead to this host by themselves.
            routing_suffix: "localhost".into(),
        }
    }
}

/// `[docker]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Docker {
    /// Further machines are made only while the host has so much memory available, in MiB; 0: always.
    pub(crate) memory_reserve_mib: u64,
}

impl Default for Docker {
    fn default() -> Self {
        Self { memory_reserve_mib: 512 }
    }
}

/// `[kubernetes]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Kubernetes {
    /// A version that is not built: take the `nearest`, or `refuse`.
    pub(crate) unknown_version: UnknownVersion,
    /// Validity of the certificates of machines, in minutes; they are issued again before it ends.
    pub(crate) certificate_lifetime: u32,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self { unknown_version: UnknownVersion::Nearest, certificate_lifetime: 365 * 24 * 60 }
    }
}

/// `[backup]`: periodic backups, which clusters of `ack.pro.small` have
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backup {
    /// Minutes between two of them.
    pub(crate) interval_minutes: u32,
    /// So many of each cluster are kept; those that somebody asked for stay beside them.
    pub(crate) keep: usize,
}

impl Default for Backup {
    fn default() -> Self {
        Self { interval_minutes: 360, keep: 7 }
    }
}

/// `[registry]`: the installation's image registry
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Registry {
    /// Runs while there are clusters of the Swarm edition.
    pub(crate) enabled: bool,
    /// First and last port on 127.0.0.1; one that is free is taken and kept.
    pub(crate) ports: (u16, u16),
}

impl Default for Registry {
    fn default() -> Self {
        Self { enabled: true, ports: (5000, 5099) }
    }
}

/// `[swarm]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Swarm {
    /// How masters choose nodes for containers: `spread`, `binpack` or `random`.
    pub(crate) strategy: Strategy,
}

/// `[limits]`: how long things may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// A whole drain, in seconds.
    pub(crate) drain_seconds: u64,
    /// A node may be NotReady for so many seconds before its machine is restarted.
    pub(crate) not_ready_seconds: u64,
    /// Restarts of a machine before it is replaced.
    pub(crate) repairs_max: u32,
    /// Finished tasks, events and logs are kept for so many days.
    pub(crate) retention_days: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { drain_seconds: 300, not_ready_seconds: 60, repairs_max: 3, retention_days: 90 }
    }
}

impl Config {
    /// Reads `file`, or `DIR/config.toml` when it exists, else the defaults.
    pub(crate) fn load(data_dir: &Path, file: Option<&PathBuf>) -> anyhow::Result<Self> {
        let default = data_dir.join("config.toml");
        let path = match file {
            Some(path) => path,
            None if default.exists() => &default,
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self = toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        config.check().with_context(|| format!("{} is not valid", path.display()))?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let (first, last) = self.network.public_ports;
        if first < 1024 || last < first {
            bail!("network.public_ports must be [first, last] with 1024 <= first <= last");
        }
        let (first, last) = self.registry.ports;
        if first < 1024 || last < first {
            bail!("registry.ports must be [first, last] with 1024 <= first <= last");
        }
        // Shorter ones would be renewed all the time; longer ones would outlive their authorities.
        if !(3..=5 * 365 * 24 * 60).contains(&self.kubernetes.certificate_lifetime) {
            bail!("kubernetes.certificate_lifetime must be 3 to 2628000 minutes (five years)");
        }
        if !(1..=30 * 24 * 60).contains(&self.backup.interval_minutes) || !(1..=1000).contains(&self.backup.keep) {
            bail!("backup.interval_minutes must be 1 to 43200 and backup.keep 1 to 1000");
        }
        let suffix = &self.network.routing_suffix;
        let is_label = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if suffix.len() > 63 || !suffix.split('.').all(is_label) {
            bail!(
                "network.routing_suffix {suffix:?} must be a domain name of at most 63 characters, such as apps.example"
            );
        }
        if self.server.body_bytes_max < 4096 {
            bail!("server.body_bytes_max must be at least 4096");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_named() {
        let error = toml::from_str::<Config>("[server]\nregoin = \"cn-beijing\"").unwrap_err();
        assert!(error.to_string().contains("regoin"), "{error}");
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = toml::from_str::<Config>("").unwrap();
        assert_eq!(config.server.region, "cn-hangzhou");
        assert!(config.network.create_referenced);
    }
}
