//! The folder beside the release binary with what it needs at run time.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::config::Config;
use super::go::Executables;
use super::oci::{self, Image};
use super::payload;
use crate::paths;
use crate::progress::{Did, step};

/// Where the image layout is, below the bundle.
const IMAGES: &str = "images";

/// Names of the images that machines are made of.
pub(crate) struct Machines<'a> {
    /// Nodes.
    pub(crate) node: &'a str,
    /// Containers that play bare hosts.
    pub(crate) bare: &'a str,
}

/// Writes the bundle; its description last, so that it never names what is not there.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(config: &Config, go: &Executables, images: &[Image], machines: Machines<'_>) -> Result<()> {
    step("bundle", || {
        let dir = paths::bundle();
        let tools = dir.join("bin");
        fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
        if let Some((_, executable)) = go.kubernetes.first() {
            // The executable runs as the component that it is named after.
            oci::link_or_copy(&executable.path, &tools.join("kubectl"))?;
        }
        oci::write(&dir.join(IMAGES), images)?;
        let payload = payload::write(&dir.join("payload"), go)?;
        let description = format!("{:#}\n", description(config, &machines, &payload));
        let path = dir.join("bundle.json");
        if is_same(&path, &description) {
            return Ok(Did::Cached(()));
        }
        oci::replace(&path, description.as_bytes())?;
        Ok(Did::Built(()))
    })
}

fn is_same(path: &Path, content: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|there| there == content)
}

fn description(config: &Config, machines: &Machines<'_>, payload: &[Value]) -> Value {
    let default = &config.default_kubernetes().version;
    let kubernetes: Vec<Value> = config
        .kubernetes
        .iter()
        .map(|kubernetes| {
            json!({
                "version": kubernetes.version,
                "default": kubernetes.version == *default,
                "etcd": kubernetes.etcd,
            })
        })
        .collect();
    json!({
        "schema": 1,
        "node_image": machines.node,
        "bare_image": machines.bare,
        "payload": payload,
        "kubernetes": kubernetes,
        "containerd": config.containerd,
        "runc": config.runc,
        "cni": config.cni,
        "coredns": config.coredns,
        "metrics_server": config.metrics_server,
        "images": {
            "pause": config.images.pause,
            "coredns": config.images.coredns,
            "metrics_server": config.images.metrics_server,
        },
        "images_dir": IMAGES,
    })
}
