//! What the controllers are told about the installation.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use sampan_store::model::Machine;

use super::driver::Pace;
use crate::{backup::Shelf, ports::Limits, service::network::allocate::can_listen};

/// Resources of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineSize {
    /// CPU limit in thousandths of a core; `None`: no limit.
    pub cpu_millis: Option<u64>,
    /// Memory limit in bytes; `None`: no limit.
    pub memory_bytes: Option<u64>,
}

/// Answers how large a machine is (by its instance type and role).
pub type Sizes = Arc<dyn Fn(&Machine) -> MachineSize + Send + Sync>;

/// Ports of the host for public endpoints.
#[derive(Clone)]
pub struct PublicPorts {
    range: RangeInclusive<u16>,
    is_free: Arc<dyn Fn(u16) -> bool + Send + Sync>,
}

impl PublicPorts {
    /// Those of an address of this host.
    pub fn of(address: IpAddr, range: RangeInclusive<u16>) -> Self {
        Self::probed(range, move |port| can_listen(address, port))
    }

    /// Those for which `is_free` says whether they can be opened now.
    pub fn probed(range: RangeInclusive<u16>, is_free: impl Fn(u16) -> bool + Send + Sync + 'static) -> Self {
        Self { range, is_free: Arc::new(is_free) }
    }

    pub(super) fn range(&self) -> RangeInclusive<u16> {
        self.range.clone()
    }

    pub(super) fn is_free(&self, port: u16) -> bool {
        (self.is_free)(port)
    }
}

/// Settings.
#[derive(Clone)]
pub struct Settings {
    /// Goes into every name and the owner label.
    pub installation_id: String,
    /// Identifies this data directory among replicas that share a store; a lease of a former run with the same id is
    /// adopted at once, because that run is surely over.
    pub instance_id: String,
    /// Image of machines.
    pub node_image: String,
    /// Kubernetes versions in that image.
    pub node_image_versions: Vec<String>,
    /// Image of containers that play bare hosts, if there is one.
    pub bare_image: Option<String>,
    /// Host directory with the agents' socket; machines see it read-only at `/run/sampan-server`.
    pub agents_dir: PathBuf,
    /// Host directory with images; machines see it read-only at `/var/lib/sampan/images`.
    pub images_dir: PathBuf,
    /// Address of the public endpoints on the host.
    pub public_ip: Ipv4Addr,
    /// Their ports.
    pub public_ports: PublicPorts,
    /// Port of the installation's image registry on 127.0.0.1, if it has one.
    pub registry_port: Option<u16>,
    /// How long things may take.
    pub limits: Limits,
    /// How large machines are.
    pub sizes: Sizes,
    /// Pace of the driver.
    pub pace: Pace,
    /// Backups; `None`: none are made.
    pub backups: Option<Backups>,
    /// Certificates are looked at again after this time.
    pub certificates_fresh: Duration,
}

/// Backups of clusters.
#[derive(Clone)]
pub struct Backups {
    /// Where they are.
    pub shelf: Shelf,
    /// Time between two periodic ones of a cluster.
    pub interval: Duration,
    /// So many periodic ones of a cluster are kept.
    pub keep: usize,
}

/// Certificates are looked at again after this time, unless they live so short that it has to be sooner.
pub const CERTIFICATES_FRESH: Duration = Duration::from_secs(600);

/// Where machines see the agents' directory.
pub const AGENTS_TARGET: &str = "/run/sampan-server";
/// Where machines see the images.
pub const IMAGES_TARGET: &str = "/var/lib/sampan/images";

/// One call of the machine provider (making a container on a busy disk takes long).
pub(super) const PROVIDER_CALL_MAX: Duration = Duration::from_secs(120);
/// One call of an agent.
pub(super) const AGENT_CALL_MAX: Duration = Duration::from_secs(10);
/// One call of a cluster's API.
pub(super) const ACCESS_CALL_MAX: Duration = Duration::from_secs(30);
/// Applying the base or making certificates.
pub(super) const LONG_CALL_MAX: Duration = Duration::from_secs(120);
/// One change of the balancer.
pub(super) const BALANCER_CALL_MAX: Duration = Duration::from_secs(15);
