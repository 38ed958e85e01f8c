//! What the benchmark compares with: kubeadm, and the container images that it makes a control plane of.
//!
//! They are made of the executables that our own clusters run, so that the comparison is of the ways to a cluster and
//! not of its parts. No other build makes them.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use super::cache::{Artifact, Key};
use super::config::Config;
use super::go::{self, Executables};
use super::image::COMPONENTS;
use super::layer::{self, Below, Layer};
use super::oci::{self, Image};
use super::pods::SEARCH_PATH;
use crate::paths;
use crate::progress::{Did, step};

/// Where kubeadm looks for everything, unless it is told otherwise.
const REGISTRY: &str = "registry.k8s.io";
/// Which the control plane is made of, beside etcd, and what each node runs.
const VERSIONED: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"];

/// Writes the folder `paths::peer()`: `kubeadm`, and in `images` an image layout with everything that its nodes run.
///
/// # Errors
/// When kubeadm does not build or a file cannot be written.
pub(crate) fn write(config: &Config, go: &Executables, rootfs: &Artifact, pods: &[Image]) -> Result<()> {
    let kubernetes = config.default_kubernetes();
    let (_, executable) = go.kubernetes.first().context("no Kubernetes was built")?;
    let kubeadm = go::kubeadm(kubernetes)?;
    // All on one root, the node's, as kube-proxy calls iptables.
    let layers = vec![root_layer(rootfs)?, components_layer(executable)?];
    let mut names: Vec<String> =
        VERSIONED.iter().map(|component| format!("{REGISTRY}/{component}:v{}", kubernetes.version)).collect();
    names.push(format!("{REGISTRY}/etcd:{}-0", kubernetes.etcd));
    let mut images = vec![Image { names, layers, config: json!({ "Env": [SEARCH_PATH], "WorkingDir": "/" }) }];
    let is_needed = |image: &&Image| {
        let needed = [&config.images.pause, &config.images.coredns];
        image.names.iter().any(|name| needed.contains(&name))
    };
    images.extend(pods.iter().filter(is_needed).cloned());
    step("kubeadm and its images", || {
        let dir = paths::peer();
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        oci::link_or_copy(&kubeadm.path, &dir.join("kubeadm"))?;
        oci::write(&dir.join("images"), &images)?;
        Ok(Did::Built(()))
    })
}

fn root_layer(rootfs: &Artifact) -> Result<Layer> {
    layer::layer("peer-root", Key::new("peer root 1").with(&rootfs.key), |tree| {
        layer::copy_packages(tree, &rootfs.path, &Below::new())?;
        tree.dir("tmp", 0o1777)
    })
}

/// Every component in /usr/local/bin.
///
/// # Errors
/// When the cache cannot be written.
pub(super) fn components_layer(executable: &Artifact) -> Result<Layer> {
    let key = Key::new("peer components 1").with(&executable.key).with_all(COMPONENTS);
    layer::layer("peer-components", key, |tree| {
        tree.executable("usr/local/bin/kubernetes", &executable.path)?;
        COMPONENTS.iter().try_for_each(|component| tree.symlink(&format!("usr/local/bin/{component}"), "kubernetes"))
    })
}
