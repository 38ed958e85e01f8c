//! What `cargo xtask build` made: the node image, the Kubernetes versions in it, and the pod images.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sampan_agents::spec::Payload;
use serde::Deserialize;

/// `bundle.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) schema: u32,
    /// Reference of the node image in the Docker engine.
    pub(crate) node_image: String,
    /// Kubernetes versions, newest first.
    pub(crate) kubernetes: Vec<KubernetesVersion>,
    pub(crate) containerd: String,
    pub(crate) images: Images,
    /// Where the pod images are, relative to the bundle.
    pub(crate) images_dir: PathBuf,
    /// Reference of the image of containers that play bare hosts.
    #[serde(default)]
    pub(crate) bare_image: Option<String>,
    /// What hosts fetch.
    #[serde(default)]
    pub(crate) payload: Vec<PayloadFile>,
    /// Where the bundle is.
    #[serde(skip)]
    pub(crate) root: PathBuf,
}

/// One Kubernetes version.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct KubernetesVersion {
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) default: bool,
}

/// References of the images that every cluster needs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Images {
    pub(crate) pause: String,
    pub(crate) coredns: String,
    pub(crate) metrics_server: String,
}

/// A file that hosts fetch, relative to the bundle's folder `payload`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PayloadFile {
    /// Its name in the folder, and towards hosts.
    pub(crate) name: String,
    /// The Kubernetes version that it is of; `None`: of all.
    #[serde(default)]
    pub(crate) version: Option<String>,
    /// Where it goes on a host.
    pub(crate) path: String,
    /// SHA-256, hexadecimal.
    pub(crate) sha256: String,
    /// Names beside it that are links to it.
    #[serde(default)]
    pub(crate) links: Vec<String>,
}

impl Bundle {
    /// Where a part of the payload is.
    pub(crate) fn payload_path(&self, name: &str) -> Option<PathBuf> {
        let known = self.payload.iter().any(|file| file.name == name);
        known.then(|| self.root.join("payload").join(name))
    }

    /// What a host of that Kubernetes version fetches.
    pub(crate) fn payload_of(&self, version: &str) -> anyhow::Result<Vec<Payload>> {
        let wanted = self.payload.iter().filter(|file| file.version.as_deref().is_none_or(|own| own == version));
        let describe = |file: &PayloadFile| {
            let path = self.root.join("payload").join(&file.name);
            let size = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
            Ok(Payload {
                name: file.name.clone(),
                path: file.path.clone(),
                sha256: file.sha256.clone(),
                size,
                links: file.links.clone(),
            })
        };
        wanted.map(describe).collect()
    }

    /// Reads the bundle in `dir`, or the one beside this executable.
    pub(crate) fn load(dir: Option<&Path>) -> anyhow::Result<Self> {
        let root = match dir {
            Some(dir) => dir.to_path_buf(),
            None => {
                std::env::current_exe()?.parent().context("this executable has no directory")?.join("sampan-bundle")
            }
        };
        let path = root.join("bundle.json");
        let text = std::fs::read(&path).with_context(|| {
            format!("there is no bundle at {}: run `cargo xtask build`, or name one with --bundle", root.display())
        })?;
        let mut bundle: Self =
            serde_json::from_slice(&text).with_context(|| format!("{} is not valid", path.display()))?;
        if bundle.schema != 1 {
            bail!("{} has schema {}; this release reads schema 1: build both together", path.display(), bundle.schema);
        }
        if bundle.kubernetes.is_empty() {
            bail!("{} names no Kubernetes version", path.display());
        }
        bundle.root = root;
        Ok(bundle)
    }

    /// The directory with the pod images as an OCI image layout.
    pub(crate) fn images_path(&self) -> PathBuf {
        self.root.join(&self.images_dir)
    }

    /// Versions, the default first.
    pub(crate) fn versions(&self) -> Vec<String> {
        let mut versions: Vec<_> = self.kubernetes.iter().collect();
        versions.sort_by_key(|version| !version.default);
        versions.into_iter().map(|version| version.version.clone()).collect()
    }
}
