//! What a host remembers: how it reaches its server, and how it was before, so that it can be left as it was found.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{HostError, data_disk::DataDisk};
use crate::disk;

/// The state's file.
const FILE: &str = "var/lib/sampan/host.json";
const MODE: u32 = 0o600;

/// What a host remembers.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// `host:port` of the server.
    pub server: String,
    /// The server's authority, PEM.
    pub ca: String,
    /// Which machine this is; empty until it has joined.
    pub machine_id: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
    /// How the host was.
    pub before: Before,
    /// Packages that the attach script installed.
    #[serde(default)]
    pub packages: Vec<String>,
    /// The host has another name now.
    #[serde(default)]
    pub renamed: bool,
    /// The disk with the data of containers.
    #[serde(default)]
    pub data_disk: Option<DataDisk>,
}

/// How the host was before anything of ours was on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Paths that were there, of those that are ours to make.
    pub paths: BTreeSet<String>,
    /// And folders that were there with nothing in them.
    #[serde(default)]
    pub empty: BTreeSet<String>,
    /// Kernel parameters that we, or what we run, change.
    pub sysctls: BTreeMap<String, String>,
    /// Tables of nftables, `family name`.
    pub tables: BTreeSet<String>,
    /// Names of network links.
    pub links: BTreeSet<String>,
    /// Host name.
    pub hostname: String,
    /// The root file system's mounts were private to their namespace.
    pub private_root: bool,
}

// The key must not reach a log.
impl fmt::Debug for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostState").field("machine_id", &self.machine_id).finish_non_exhaustive()
    }
}

impl HostState {
    /// Where it is.
    pub fn path(root: &Path) -> PathBuf {
        root.join(FILE)
    }

    /// Reads it; `None`: this host is none of ours.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load(root: &Path) -> Result<Option<Self>, HostError> {
        let path = Self::path(root);
        match std::fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| HostError::of(path.display(), error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HostError::of(path.display(), error)),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, root: &Path) -> Result<(), HostError> {
        let path = Self::path(root);
        let failed = |error: &dyn fmt::Display| HostError::of(path.display(), error);
        let json = serde_json::to_vec_pretty(self).map_err(|error| failed(&error))?;
        disk::replace(&path, MODE, &json, true).map_err(|error| failed(&error))
    }
}
