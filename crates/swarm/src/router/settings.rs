//! The router's configuration file.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use sampan_agents::master::{ROUTER_PORT, TlsFiles};
use serde::Deserialize;

use super::RouterError;

/// What a router is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// `address:port` of the master. Without it the table is what stands in `state_dir`, looked at again when it changes.
    #[serde(default)]
    pub(super) master: Option<String>,
    /// Client side towards the master.
    #[serde(default)]
    pub(super) tls: Option<TlsFiles>,
    /// Own state: `routes.json`, `status.sock`.
    pub(super) state_dir: PathBuf,
    /// Address to listen on; every one of the node if not given.
    #[serde(default = "everywhere")]
    pub(super) listen: IpAddr,
    /// Port for HTTP.
    #[serde(default = "http_port")]
    pub(super) http_port: u16,
    /// The node's engine.
    #[serde(default = "engine_socket")]
    pub(super) engine_socket: PathBuf,
    /// The node's name.
    pub(super) node: String,
    /// Backends are reached without a door: for tests, benchmarks, and nodes that reach the overlay by themselves.
    #[serde(default)]
    pub(super) direct: bool,
    /// What the door's container runs (with `pause`); must not need shared libraries. The router's own binary if not given.
    #[serde(default)]
    pub(super) program: Option<PathBuf>,
}

fn everywhere() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

fn http_port() -> u16 {
    ROUTER_PORT
}

fn engine_socket() -> PathBuf {
    "/var/run/docker.sock".into()
}

impl Settings {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, RouterError> {
        let text = std::fs::read(path).map_err(RouterError::of(format!("configuration {}", path.display())))?;
        let settings: Self = serde_json::from_slice(&text)
            .map_err(std::io::Error::other)
            .map_err(RouterError::of(format!("configuration {}", path.display())))?;
        if settings.master.is_some() && settings.tls.is_none() {
            let missing = std::io::Error::other("`master` is given, so `tls` must be");
            return Err(RouterError::of(format!("configuration {}", path.display()))(missing));
        }
        Ok(settings)
    }
}
