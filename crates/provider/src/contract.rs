//! The contract. Every operation is idempotent: asked again for what exists, it answers what exists; asked to delete what
//! is gone, it succeeds. Names are derived from ids that are stored before the first call, so a killed caller finds its
//! work again.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use async_trait::async_trait;
use futures::stream::BoxStream;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Label that everything we make carries; its value is the installation id.
pub const OWNER_LABEL: &str = "io.sampan.owner";

/// Label that tells our things apart: `machine`, `balancer`, `registry`, `network` or `volume`.
pub const KIND_LABEL: &str = "io.sampan.kind";

/// Why a provider call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProviderError {
    /// The engine does not answer; trying again later is right.
    #[error("the Docker engine does not answer: {0}")]
    Unavailable(String),
    /// Something is used up: disk, memory, addresses, file handles.
    #[error("{0}")]
    Exhausted(String),
    /// An address range or name is taken by somebody else.
    #[error("{0}")]
    Conflict(String),
    /// Anything else; trying again may help.
    #[error("{0}")]
    Failed(String),
}

/// A network for one VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Name, unique in the engine.
    pub name: String,
    /// Range; the first address is the gateway's.
    pub cidr: Ipv4Net,
    /// Name of the bridge on the host (at most 15 characters).
    pub bridge: String,
    /// Labels beside the owner's.
    pub labels: BTreeMap<String, String>,
}

/// A directory or file of the host that a machine sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the machine, absolute.
    pub target: String,
    /// Not writable inside.
    pub read_only: bool,
}

/// The share of processor time of an ordinary machine, in the unit of Docker's `--cpu-shares`.
pub const CPU_WEIGHT: u16 = 1024;

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Container name: `sampan-<installation>-<machine id>`.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Image reference.
    pub image: String,
    /// Network name.
    pub network: String,
    /// Pinned address.
    pub ip: Ipv4Addr,
    /// Pinned MAC address.
    pub mac: String,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Bind mounts.
    pub mounts: Vec<Mount>,
    /// Named volumes: target path → volume name suffix (the full name is `<name>-<suffix>`); deleted with the machine.
    pub volumes: BTreeMap<String, String>,
    /// Named volumes that several machines share: target path → full name, unique in the engine. They are made with the
    /// first machine that has them, and stay until [`MachineProvider::delete_volume`].
    #[serde(default)]
    pub shared_volumes: BTreeMap<String, String>,
    /// CPU limit in thousandths of a core; `None`: no limit.
    pub cpu_millis: Option<u64>,
    /// How much processor time the machine gets, in proportion to others, when there is not enough for all;
    /// [`CPU_WEIGHT`] is ordinary.
    pub cpu_weight: u16,
    /// Memory limit in bytes; `None`: no limit.
    pub memory_bytes: Option<u64>,
    /// Labels beside the owner's.
    pub labels: BTreeMap<String, String>,
}

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachinePower {
    /// Made, never started.
    Created,
    /// Runs.
    Running,
    /// Stopped or dead.
    Exited,
}

/// What was observed of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Container name.
    pub name: String,
    /// Reference of the image that it was made from.
    pub image: String,
    /// Power.
    pub power: MachinePower,
    /// Address.
    pub ip: Option<Ipv4Addr>,
    /// Exit code, when it ended.
    pub exit_code: Option<i64>,
    /// Why it ended or did not start, in words.
    pub error: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What runs beside the machines, one container of each per installation, in the host's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostService {
    /// Stable ports and virtual IPs in front of machines.
    Balancer,
    /// The installation's image registry; it has no privilege and runs as the owner of its directory.
    Registry,
}

impl HostService {
    /// The value of [`KIND_LABEL`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Registry => "registry",
        }
    }
    /// Where the service finds its directory.
    pub fn state_target(self) -> &'static str {
        match self {
            Self::Balancer => "/var/lib/sampan-balancer",
            Self::Registry => "/var/lib/sampan-registry",
        }
    }
}

/// A service of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostServiceSpec {
    /// Which.
    pub service: HostService,
    /// Container name: `sampan-<installation>-<service>`.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// Host directory with its configuration and state, mounted at [`HostService::state_target`].
    pub state_dir: PathBuf,
    /// Changes with a configuration that is read only at the start; empty where there is none.
    pub config_hash: String,
}

/// Everything of ours that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Machines (containers with label `io.sampan.kind=machine`).
    pub machines: Vec<MachineStatus>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
}

/// Capacity of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCapacity {
    /// Cores.
    pub cpus: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// Something happened to a machine: it started, stopped, died or went away. Look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderEvent {
    /// Container name; empty: anything may have changed (the engine came back).
    pub name: String,
}

/// The contract.
#[async_trait]
pub trait MachineProvider: Send + Sync + 'static {
    /// Makes the network, or finds it.
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), ProviderError>;
    /// Removes it (foreign leftovers attached to it are an error).
    async fn delete_network(&self, name: &str) -> Result<(), ProviderError>;
    /// Makes and starts the machine, or finds and starts it. A machine of other image or address is an error.
    async fn ensure_machine(&self, spec: &MachineSpec) -> Result<MachineStatus, ProviderError>;
    /// Looks at one machine.
    async fn machine(&self, name: &str) -> Result<Option<MachineStatus>, ProviderError>;
    /// Stops and starts it again, keeping its disks.
    async fn restart_machine(&self, name: &str) -> Result<(), ProviderError>;
    /// Stops it in good order, keeping its disks and its addresses; fine when it does not run, or is gone.
    /// `restart_machine` starts it again.
    async fn stop_machine(&self, name: &str) -> Result<(), ProviderError>;
    /// Ends the machine and removes it, but keeps its volumes: `ensure_machine` makes it again, of whatever image.
    async fn unmake_machine(&self, name: &str) -> Result<(), ProviderError>;
    /// Removes the machine and its volumes, running or not.
    async fn delete_machine(&self, name: &str) -> Result<(), ProviderError>;
    /// Removes a shared volume; one that a machine uses is an error.
    async fn delete_volume(&self, name: &str) -> Result<(), ProviderError>;
    /// The last `lines` lines that the machine wrote to its console.
    async fn console(&self, name: &str, lines: u32) -> Result<String, ProviderError>;
    /// Makes and starts the service, or finds it; replaces one of another image, directory or configuration.
    async fn ensure_host_service(&self, spec: &HostServiceSpec) -> Result<(), ProviderError>;
    /// Removes the service's container; its directory stays.
    async fn delete_host_service(&self, name: &str) -> Result<(), ProviderError>;
    /// Everything that carries our owner label.
    async fn inventory(&self) -> Result<Inventory, ProviderError>;
    /// Ranges in use by host routes and by networks that are not ours.
    async fn foreign_ranges(&self) -> Result<Vec<Ipv4Net>, ProviderError>;
    /// The host's capacity.
    async fn capacity(&self) -> Result<HostCapacity, ProviderError>;
    /// Changes, as they happen. The stream reconnects by itself and then yields an event with an empty name.
    fn events(&self) -> BoxStream<'static, ProviderEvent>;
}
