//! Upstream's conformance tests, and a bundle whose images are all that the tests can be given without a registry.
//!
//! Which images tests ask for, and by which names, the program of the tests says itself. No other build makes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::cache::{Artifact, Key};
use super::config::{Config, Debian, Kubernetes};
use super::go::{self, ConformanceExecutables, Executables};
use super::layer::{self, Layer};
use super::oci::{self, Image};
use super::peer;
use super::pods::{self, DebianLayers, SEARCH_PATH, STANDS_FOR};
use super::rootfs;
use crate::progress::{Did, step};
use crate::{paths, process};

/// Where the images that tests share come from; what is elsewhere is storage drivers and such.
const REGISTRY: &str = "registry.k8s.io/";

/// What images are made of.
struct Parts<'a> {
    config: &'a Config,
    kubernetes: &'a Kubernetes,
    go: &'a Executables,
    tools: &'a ConformanceExecutables,
    debian: &'a DebianLayers,
    shell: Layer,
}

/// Writes the folder `paths::conformance()`: `e2e.test`, `ginkgo`, `version`, `missing-images` with the names of the
/// images that tests may ask for and that do not exist, and a bundle with those that do.
///
/// # Errors
/// When something does not build or a file cannot be written.
pub(crate) fn write(config: &Config, go: &Executables, debian: &DebianLayers, bundled: &[Image]) -> Result<()> {
    let kubernetes = config.conformance()?;
    let tools = go::conformance(kubernetes)?;
    let parts = Parts { config, kubernetes, go, tools: &tools, debian, shell: shell(&config.debian)? };
    let mut images = bundled.to_vec();
    let mut missing = String::new();
    let listed = process::output(Command::new(&tools.tests.path).arg("--list-images"))?;
    // The program lists them in another order each time.
    for name in listed.lines().collect::<BTreeSet<_>>() {
        if bundled.iter().any(|image| image.names.iter().any(|there| there == name)) {
            continue;
        }
        match parts.image(name)? {
            Some(image) => images.push(image),
            None => missing.push_str(&format!("{name}\n")),
        }
    }
    step("conformance tests and their images", || {
        let dir = paths::conformance();
        let bundle = dir.join("bundle");
        fs::create_dir_all(&bundle).with_context(|| format!("cannot create {}", bundle.display()))?;
        for (name, executable) in [("e2e.test", &tools.tests), ("ginkgo", &tools.ginkgo)] {
            oci::link_or_copy(&executable.path, &dir.join(name))?;
        }
        oci::replace(&dir.join("version"), kubernetes.version.as_bytes())?;
        oci::replace(&dir.join("missing-images"), missing.as_bytes())?;
        oci::write(&bundle.join("images"), &images)?;
        oci::link_or_copy(&paths::bundle().join("bundle.json"), &bundle.join("bundle.json"))?;
        Ok(Did::Built(()))
    })
}

impl Parts<'_> {
    /// The image of that name, if it can be made here.
    fn image(&self, name: &str) -> Result<Option<Image>> {
        let path = name.strip_prefix(REGISTRY).unwrap_or_default();
        let kind = path.rsplit_once(':').map_or(path, |(kind, _)| kind);
        let base = &self.debian.base;
        Ok(Some(match kind {
            // The former release is asked for as something to update from, not for what it can do.
            "e2e-test-images/agnhost" => {
                let mut image = pods::agnhost(self.config, name, self.debian, self.go)?;
                image.config["Labels"] = json!({ STANDS_FOR: name });
                image
            }
            "e2e-test-images/nginx" => pods::nginx(name, self.debian),
            "e2e-test-images/kitten" => self.update_demo("kitten", name)?,
            "e2e-test-images/nautilus" => self.update_demo("nautilus", name)?,
            "e2e-test-images/busybox" => image(name, vec![base.clone(), self.shell.clone()], json!({ "Cmd": ["sh"] })),
            "e2e-test-images/nonroot" => {
                image(name, vec![base.clone(), self.shell.clone()], json!({ "Cmd": ["sh"], "User": "1234" }))
            }
            "e2e-test-images/nonewprivs" => {
                image(name, vec![base.clone(), setuid("nnp", &self.tools.nonewprivs)?], json!({ "Cmd": ["nnp"] }))
            }
            "e2e-test-images/glibc-dns-testing" => {
                let coredns = pods::single("coredns", &self.go.coredns)?;
                image(name, vec![base.clone(), self.debian.agnhost_tools.clone(), coredns], json!({ "Cmd": ["bash"] }))
            }
            "e2e-test-images/sample-apiserver" => {
                let server = pods::single("sample-apiserver", &self.tools.sample_apiserver)?;
                image(name, vec![server], json!({ "Entrypoint": ["/sample-apiserver"] }))
            }
            "etcd" => image(name, vec![base.clone(), peer::components_layer(self.components()?)?], json!({})),
            _ => return Ok(None),
        }))
    }

    /// The executable that is etcd among others.
    fn components(&self) -> Result<&Artifact> {
        let version = &self.kubernetes.version;
        let mut built = self.go.kubernetes.iter();
        let (_, executable) = built.find(|(built, _)| built == version).context("Kubernetes was not built")?;
        Ok(executable)
    }

    /// A web server with a picture, as upstream's tests of updates want it.
    fn update_demo(&self, animal: &str, name: &str) -> Result<Image> {
        let mut image = pods::agnhost(self.config, name, self.debian, self.go)?;
        image.config["Cmd"] = json!(["test-webserver"]);
        image.layers.push(self.page_layer(animal)?);
        Ok(image)
    }

    fn page_layer(&self, animal: &str) -> Result<Layer> {
        let key = Key::new("update demo 1").with(animal).with(&self.kubernetes.version);
        layer::layer(animal, key, |tree| {
            let sources = go::module_dir(self.kubernetes)?;
            for file in [format!("{animal}.jpg"), "data.json".to_owned()] {
                let path = Path::new(&sources).join("test/images").join(animal).join("html").join(&file);
                let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                tree.file(&file, 0o644, content)?;
            }
            Ok(())
        })
    }
}

fn image(name: &str, layers: Vec<Layer>, mut config: serde_json::Value) -> Image {
    config["Env"] = json!([SEARCH_PATH]);
    config["WorkingDir"] = json!("/");
    config["Labels"] = json!({ STANDS_FOR: name });
    Image { names: vec![name.to_owned()], layers, config }
}

/// Bash as the shell. Those of Debian and of Debian's BusyBox drop variables of the environment whose names they could
/// not use, such as `data-1`; upstream's does not, and tests look for them.
fn shell(debian: &Debian) -> Result<Layer> {
    let base = rootfs::unpacked("pod-base", debian, &debian.pod_base_packages)?;
    let bash = rootfs::unpacked("pod-bash", debian, &["bash".to_owned()])?;
    layer::layer("bash", Key::new("bash 1").with(&base.key).with(&bash.key), |tree| {
        tree.symlink("bin/sh", "bash")?;
        layer::copy_packages(tree, &bash.path, &layer::listing(&base.path)?)
    })
}

/// An executable that gets its owner's rights, root's, from whoever starts it.
fn setuid(name: &str, executable: &Artifact) -> Result<Layer> {
    layer::layer(name, Key::new("setuid 1").with(name).with(&executable.key), |tree| {
        let content =
            fs::read(&executable.path).with_context(|| format!("cannot read {}", executable.path.display()))?;
        tree.file(&format!("usr/local/bin/{name}"), 0o6755, content)
    })
}
