//! What hosts that people bring fetch from the server: the executables that the node image has, as files of the bundle.
//! They are other names of files in the cache, so they take no room.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cache::{self, Artifact, Key};
use super::go::Executables;
use super::image::runtime;
use super::oci;
use crate::progress::Did;

/// Components of Kubernetes that a worker runs; the executable runs as the one that it is named after.
const COMPONENTS: [&str; 3] = ["kubelet", "kube-proxy", "kubectl"];

/// Fills the folder and describes what is in it.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(dir: &Path, go: &Executables) -> Result<Vec<Value>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut files = Vec::new();
    for (path, artifact) in runtime(go) {
        let name = path.replace('/', "_");
        files.push(add(dir, &name, &format!("/{path}"), None, &[], artifact)?);
    }
    for (version, artifact) in &go.kubernetes {
        let path = format!("/opt/sampan/kubernetes/{version}/kubernetes");
        files.push(add(dir, &format!("kubernetes-{version}"), &path, Some(version), &COMPONENTS, artifact)?);
    }
    Ok(files)
}

fn add(
    dir: &Path,
    name: &str,
    path: &str,
    version: Option<&String>,
    links: &[&str],
    artifact: &Artifact,
) -> Result<Value> {
    oci::link_or_copy(&artifact.path, &dir.join(name))?;
    Ok(json!({ "name": name, "version": version, "path": path, "sha256": digest(name, artifact)?, "links": links }))
}

/// Kept beside the executable, so that a second build reads none.
fn digest(name: &str, artifact: &Artifact) -> Result<String> {
    let key = Key::new("digest 1").with(&artifact.key);
    let (Did::Cached(sum) | Did::Built(sum)) = cache::artifact(&format!("digest-{name}"), key, |output| {
        let digest = cache::sha256_of_file(&artifact.path)?;
        fs::write(output, digest).with_context(|| format!("cannot write {}", output.display()))
    })?;
    fs::read_to_string(&sum.path).with_context(|| format!("cannot read {}", sum.path.display()))
}
