//! What to build: `distro/distro.toml` and the versions that the Go module files pin.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::paths;

/// Limits which Kubernetes minors are built, for developers: `1.36` or `1.36,1.35`.
const MINORS_VARIABLE: &str = "SAMPAN_KUBERNETES_MINORS";

/// `distro/distro.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kubernetes: KubernetesSection,
    debian: Debian,
    images: ImageNames,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KubernetesSection {
    minors: Vec<String>,
    /// Built only when they are named.
    further_minors: Vec<String>,
}

/// The Debian release and the packages that images are made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debian {
    pub(crate) suite: String,
    pub(crate) node_packages: Vec<String>,
    pub(crate) bare_packages: Vec<String>,
    pub(crate) pod_base_packages: Vec<String>,
    pub(crate) pod_nginx_packages: Vec<String>,
    pub(crate) pod_agnhost_packages: Vec<String>,
}

/// Names of the pod images; `coredns` and `metrics_server` without tag.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageNames {
    pub(crate) pause: String,
    pub(crate) coredns: String,
    pub(crate) metrics_server: String,
    pub(crate) agnhost: String,
    pub(crate) busybox: Vec<String>,
    pub(crate) nginx: Vec<String>,
}

/// One Kubernetes version to build.
pub(crate) struct Kubernetes {
    /// `1.36`
    pub(crate) minor: String,
    /// `1.36.3`
    pub(crate) version: String,
    /// `3.6.8`
    pub(crate) etcd: String,
}

/// Everything that is built and its versions, without leading `v`.
pub(crate) struct Config {
    /// Never empty; the first is the default.
    pub(crate) kubernetes: Vec<Kubernetes>,
    pub(crate) containerd: String,
    pub(crate) runc: String,
    pub(crate) cni: String,
    pub(crate) coredns: String,
    pub(crate) metrics_server: String,
    pub(crate) debian: Debian,
    pub(crate) images: ImageNames,
}

impl Config {
    /// Reads the configuration and the module files.
    ///
    /// # Errors
    /// When a file cannot be read, or does not pin what it should.
    pub(crate) fn load() -> Result<Self> {
        let path = paths::distro().join("distro.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut file: File = toml::from_str(&text).with_context(|| format!("{} is wrong", path.display()))?;
        file.images.coredns = format!("{}:v{}", file.images.coredns, pinned("coredns", "github.com/coredns/coredns")?);
        let metrics_server = pinned("metrics-server", "sigs.k8s.io/metrics-server")?;
        file.images.metrics_server = format!("{}:v{metrics_server}", file.images.metrics_server);
        let KubernetesSection { minors, further_minors } = file.kubernetes;
        let wanted = wanted_minors(minors, further_minors, env::var(MINORS_VARIABLE).ok())?;
        Ok(Self {
            kubernetes: wanted.into_iter().map(kubernetes).collect::<Result<_>>()?,
            containerd: pinned("containerd", "github.com/containerd/containerd/v2")?,
            runc: pinned("runc", "github.com/opencontainers/runc")?,
            cni: pinned("cni", "github.com/containernetworking/plugins")?,
            coredns: pinned("coredns", "github.com/coredns/coredns")?,
            metrics_server,
            debian: file.debian,
            images: file.images,
        })
    }

    /// The version of new clusters that name none.
    pub(crate) fn default_kubernetes(&self) -> &Kubernetes {
        &self.kubernetes[0]
    }

    /// The version whose conformance tests distro/conformance pins.
    ///
    /// # Errors
    /// When no cluster of this build would be of that version.
    pub(crate) fn conformance(&self) -> Result<&Kubernetes> {
        let version = pinned("conformance", "k8s.io/kubernetes")?;
        self.kubernetes.iter().find(|kubernetes| kubernetes.version == version).with_context(|| {
            format!("distro/conformance pins the tests of {version}, which is not built: run its update.sh")
        })
    }
}

/// The minors to build, the default first: all that are configured, or those that the environment names, which may be
/// further ones.
fn wanted_minors(configured: Vec<String>, further: Vec<String>, limit: Option<String>) -> Result<Vec<String>> {
    let Some(limit) = limit.filter(|limit| !limit.trim().is_empty()) else {
        if configured.is_empty() {
            bail!("distro.toml names no Kubernetes minor to build");
        }
        return Ok(configured);
    };
    let named: Vec<&str> = limit.split(',').map(str::trim).collect();
    let known = [configured, further].concat();
    if let Some(unknown) = named.iter().find(|minor| !known.iter().any(|known| known == *minor)) {
        bail!("{MINORS_VARIABLE} names {unknown:?}; known minors are {}", known.join(", "));
    }
    Ok(known.into_iter().filter(|minor| named.contains(&minor.as_str())).collect())
}

fn kubernetes(minor: String) -> Result<Kubernetes> {
    let path = paths::distro().join(format!("kubernetes/{minor}.mod"));
    let version = required_by(&path, "k8s.io/kubernetes")?;
    let etcd = required_by(&path, "go.etcd.io/etcd/server/v3")?;
    Ok(Kubernetes { minor, version, etcd })
}

fn pinned(dir: &str, module: &str) -> Result<String> {
    required_by(&module_file(dir), module)
}

fn module_file(dir: &str) -> PathBuf {
    paths::distro().join(dir).join("go.mod")
}

fn required_by(path: &Path, module: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    required(&text, module).with_context(|| format!("{} requires no version of {module}", path.display()))
}

/// The version, without `v`, that the text of a go.mod file requires of a module.
fn required(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().filter(|line| !line.contains("=>")).find_map(|line| {
        let line = line.trim();
        let mut words = line.strip_prefix("require ").unwrap_or(line).split_whitespace();
        if words.next()? != module {
            return None;
        }
        words.next()?.strip_prefix('v').map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::{required, wanted_minors};

    #[test]
    fn reads_versions_of_both_spellings() {
        let text = "module m\n\nrequire example.org/a v1.2.3\nrequire (\n\texample.org/b v0.4.0 // indirect\n)\n\
                    replace (\n\texample.org/c => example.org/c v9.0.0\n)\n";
        assert_eq!(required(text, "example.org/a").as_deref(), Some("1.2.3"));
        assert_eq!(required(text, "example.org/b").as_deref(), Some("0.4.0"));
        assert_eq!(required(text, "example.org/c"), None);
    }

    #[test]
    fn the_environment_limits_the_minors() -> anyhow::Result<()> {
        let all = || vec!["1.36".to_owned(), "1.35".to_owned()];
        let wanted = |limit: Option<&str>| wanted_minors(all(), vec!["1.34".to_owned()], limit.map(str::to_owned));
        assert_eq!(wanted(None)?, all());
        assert_eq!(wanted(Some(""))?, all());
        assert_eq!(wanted(Some("1.35"))?, ["1.35"]);
        assert_eq!(wanted(Some("1.35, 1.36"))?, all());
        assert_eq!(wanted(Some("1.34,1.35"))?, ["1.35", "1.34"]);
        assert!(wanted(Some("1.3")).is_err());
        Ok(())
    }
}
