//! An OCI image layout: `oci-layout`, `index.json`, `blobs/sha256/…`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cache;
use super::layer::Layer;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Images are the same whenever they are built.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// One image of the layout.
#[derive(Clone)]
pub(crate) struct Image {
    /// Full names, such as `registry.k8s.io/pause:3.10.2`.
    pub(crate) names: Vec<String>,
    /// From the bottom up.
    pub(crate) layers: Vec<Layer>,
    /// The `config` object of the image's configuration: `Entrypoint`, `Env`, ….
    pub(crate) config: Value,
}

/// Writes `images` as the layout in `dir`. Readers of the old layout see the
/// old or the new index, and every blob that it names.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(dir: &Path, images: &[Image]) -> Result<()> {
    let mut layout = Layout { blobs: dir.join("blobs/sha256"), used: HashSet::new() };
    fs::create_dir_all(&layout.blobs).with_context(|| format!("cannot create {}", layout.blobs.display()))?;
    let mut manifests = Vec::new();
    for image in images {
        manifests.extend(layout.image(image)?);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    replace(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    replace(&dir.join("index.json"), &bytes(&index)?)?;
    layout.prune()
}

struct Layout {
    blobs: PathBuf,
    used: HashSet<String>,
}

impl Layout {
    /// Stores one image and returns its descriptors, one per name.
    fn image(&mut self, image: &Image) -> Result<Vec<Value>> {
        let architecture = architecture();
        let config = bytes(&json!({
            "created": CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": image.config,
            "rootfs": {
                "type": "layers",
                "diff_ids": image.layers.iter().map(|layer| digest(&layer.digest)).collect::<Vec<_>>(),
            },
        }))?;
        let layers = image.layers.iter().map(|layer| self.layer(layer)).collect::<Result<Vec<_>>>()?;
        let manifest = bytes(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(CONFIG, &config)?,
            "layers": layers,
        }))?;
        let mut descriptor = self.blob(MANIFEST, &manifest)?;
        descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
        let named = |name: &String| {
            let mut descriptor = descriptor.clone();
            // The first is the standard's, the second what `ctr images import` names images by.
            descriptor["annotations"] =
                json!({ "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name });
            descriptor
        };
        Ok(image.names.iter().map(named).collect())
    }

    fn layer(&mut self, layer: &Layer) -> Result<Value> {
        let to = self.blobs.join(&layer.digest);
        if !fs::metadata(&to).is_ok_and(|there| there.len() == layer.size) {
            link_or_copy(&layer.path, &to)?;
        }
        self.used.insert(layer.digest.clone());
        Ok(descriptor(LAYER, &layer.digest, layer.size))
    }

    fn blob(&mut self, media_type: &str, content: &[u8]) -> Result<Value> {
        let sum = cache::sha256(content);
        let path = self.blobs.join(&sum);
        if !path.exists() {
            replace(&path, content)?;
        }
        let size = content.len() as u64;
        let descriptor = descriptor(media_type, &sum, size);
        self.used.insert(sum);
        Ok(descriptor)
    }

    fn prune(&self) -> Result<()> {
        let listing = fs::read_dir(&self.blobs).with_context(|| format!("cannot list {}", self.blobs.display()))?;
        for entry in listing.flatten() {
            if !self.used.contains(entry.file_name().to_string_lossy().as_ref()) {
                let path = entry.path();
                fs::remove_file(&path).with_context(|| format!("cannot delete {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn descriptor(media_type: &str, sum: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest(sum), "size": size })
}

fn digest(sum: &str) -> String {
    format!("sha256:{sum}")
}

/// The host's architecture as Go and OCI spell it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context("cannot encode JSON")
}

/// Writes a file so that readers see the old or the new content, never a part.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let unfinished = unfinished(path);
    fs::write(&unfinished, content).with_context(|| format!("cannot write {}", unfinished.display()))?;
    fs::rename(&unfinished, path).with_context(|| format!("cannot replace {}", path.display()))
}

/// Gives `from` the name `to` as well, or copies it when that is on another
/// file system. Whoever uses the old `to` keeps it.
///
/// # Errors
/// When neither works.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let unfinished = unfinished(to);
    let _ = fs::remove_file(&unfinished);
    if fs::hard_link(from, &unfinished).is_err() {
        fs::copy(from, &unfinished)
            .with_context(|| format!("cannot copy {} to {}", from.display(), unfinished.display()))?;
    }
    fs::rename(&unfinished, to).with_context(|| format!("cannot replace {}", to.display()))?;
    // Renaming one name of a file to another name of it does nothing.
    let _ = fs::remove_file(&unfinished);
    Ok(())
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}
