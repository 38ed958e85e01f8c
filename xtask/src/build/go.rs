//! The Go executables of the distribution, and pause, which upstream writes in C.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::cache::{self, Artifact, Key};
use super::config::{Config, Kubernetes};
use crate::paths;
use crate::process;
use crate::progress::step;

/// One executable and how `go build` makes it.
struct Executable<'a> {
    /// Name of the artifact and of the log.
    name: String,
    /// Module directory below `distro/`.
    module: &'a str,
    /// Module file, without extension, when it is not go.mod.
    module_file: Option<&'a str>,
    package: &'a str,
    /// `variable=value`, set by the linker.
    variables: Vec<String>,
    /// Linked with C code, statically, with these build tags.
    c_tags: Option<&'a str>,
    /// The package's tests as one executable.
    test: bool,
}

/// All executables of one build.
pub(crate) struct Executables {
    /// Version and multi-call executable, in the configuration's order.
    pub(crate) kubernetes: Vec<(String, Artifact)>,
    pub(crate) agnhost: Artifact,
    pub(crate) pause: Artifact,
    pub(crate) containerd: Artifact,
    pub(crate) shim: Artifact,
    pub(crate) ctr: Artifact,
    pub(crate) runc: Artifact,
    pub(crate) coredns: Artifact,
    pub(crate) metrics_server: Artifact,
    /// File name and executable of each CNI plug-in.
    pub(crate) cni: Vec<(&'static str, Artifact)>,
}

/// Module directory of the conformance tests.
const CONFORMANCE: &str = "conformance";

const CNI_PLUGINS: [(&str, &str); 4] = [
    ("bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
    ("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
    ("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
    ("portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
];

/// Builds all Go executables, one after another: each uses all cores by itself.
///
/// # Errors
/// When one of them does not build; the error carries the end of its log.
pub(crate) fn build(config: &Config) -> Result<Executables> {
    let toolchain = toolchain()?;
    let make = |executable: Executable<'_>| executable.make(&toolchain);
    let mut kubernetes = Vec::new();
    for version in &config.kubernetes {
        kubernetes.push((version.version.clone(), make(kubernetes_components(version))?));
    }
    let cni_version =
        format!("github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v{}", config.cni);
    let mut cni = Vec::new();
    for (file, package) in CNI_PLUGINS {
        let plugin = plain(&format!("cni-{file}"), "cni", package, vec![cni_version.clone()]);
        cni.push((file, make(plugin)?));
    }
    let containerd = |name: &str, package| plain(name, "containerd", package, containerd_variables(config));
    Ok(Executables {
        agnhost: make(agnhost(config.default_kubernetes()))?,
        pause: pause(config.default_kubernetes())?,
        containerd: make(containerd("containerd", "github.com/containerd/containerd/v2/cmd/containerd"))?,
        shim: make(containerd("shim", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"))?,
        ctr: make(containerd("ctr", "github.com/containerd/containerd/v2/cmd/ctr"))?,
        runc: make(Executable {
            // Without seccomp, pods that ask for RuntimeDefault fail.
            c_tags: Some("seccomp,netgo,osusergo"),
            ..plain("runc", "runc", "github.com/opencontainers/runc", Vec::new())
        })?,
        coredns: make(plain("coredns", "coredns", ".", Vec::new()))?,
        metrics_server: make(plain(
            "metrics-server",
            "metrics-server",
            "sigs.k8s.io/metrics-server/cmd/metrics-server",
            vec![format!("sigs.k8s.io/metrics-server/pkg/version.gitVersion=v{}", config.metrics_server)],
        ))?,
        kubernetes,
        cni,
    })
}

/// A static executable without C code from a module with an ordinary go.mod.
fn plain<'a>(name: &str, module: &'a str, package: &'a str, variables: Vec<String>) -> Executable<'a> {
    Executable { name: name.to_owned(), module, module_file: None, package, variables, c_tags: None, test: false }
}

/// Builds kubeadm, which no cluster of ours needs: only the benchmark compares with it.
///
/// # Errors
/// When it does not build; the error carries the end of its log.
pub(crate) fn kubeadm(kubernetes: &Kubernetes) -> Result<Artifact> {
    let kubeadm = Executable {
        module_file: Some(&kubernetes.minor),
        ..plain("kubeadm", "kubernetes", "k8s.io/kubernetes/cmd/kubeadm", version_variables(kubernetes))
    };
    kubeadm.make(&toolchain()?)
}

/// Builds the S3 server that end-to-end tests mount buckets of; no installation needs it.
///
/// # Errors
/// When it does not build; the error carries the end of its log.
pub(crate) fn s3_server() -> Result<Artifact> {
    let server = plain("s3-server", "s3-server", "github.com/versity/versitygw/cmd/versitygw", Vec::new());
    server.make(&toolchain()?)
}

/// What the conformance tests are run with.
pub(crate) struct ConformanceExecutables {
    /// Upstream's end-to-end tests.
    pub(crate) tests: Artifact,
    /// Runs them side by side.
    pub(crate) ginkgo: Artifact,
    /// Programs of images that tests ask for.
    pub(crate) sample_apiserver: Artifact,
    pub(crate) nonewprivs: Artifact,
}

/// Builds upstream's end-to-end tests and what they need; no installation needs it.
///
/// # Errors
/// When one of them does not build; the error carries the end of its log.
pub(crate) fn conformance(kubernetes: &Kubernetes) -> Result<ConformanceExecutables> {
    let toolchain = toolchain()?;
    let make = |name: &str, package, variables| plain(name, CONFORMANCE, package, variables).make(&toolchain);
    let tests = Executable {
        test: true,
        ..plain("e2e-test", CONFORMANCE, "k8s.io/kubernetes/test/e2e", version_variables(kubernetes))
    };
    Ok(ConformanceExecutables {
        tests: tests.make(&toolchain)?,
        ginkgo: make("ginkgo", "github.com/onsi/ginkgo/v2/ginkgo", Vec::new())?,
        sample_apiserver: make("sample-apiserver", "k8s.io/sample-apiserver", version_variables(kubernetes))?,
        nonewprivs: make("nonewprivs", "k8s.io/kubernetes/test/images/nonewprivs", Vec::new())?,
    })
}

fn toolchain() -> Result<String> {
    process::output(Command::new("go").args(["env", "GOVERSION", "GOOS", "GOARCH"]))
}

fn kubernetes_components(kubernetes: &Kubernetes) -> Executable<'_> {
    Executable {
        module_file: Some(&kubernetes.minor),
        ..plain(&format!("kubernetes-{}", kubernetes.version), "kubernetes", ".", version_variables(kubernetes))
    }
}

/// Clients refuse to talk to a server whose version they cannot parse.
fn version_variables(kubernetes: &Kubernetes) -> Vec<String> {
    let minor = kubernetes.minor.trim_start_matches("1.");
    ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
        .into_iter()
        .flat_map(|package| {
            [
                format!("{package}.gitVersion=v{}", kubernetes.version),
                format!("{package}.gitMajor=1"),
                format!("{package}.gitMinor={minor}"),
                format!("{package}.gitTreeState=clean"),
            ]
        })
        .collect()
}

fn agnhost(kubernetes: &Kubernetes) -> Executable<'_> {
    Executable {
        module_file: Some(&kubernetes.minor),
        ..plain("agnhost", "kubernetes", "k8s.io/kubernetes/test/images/agnhost", Vec::new())
    }
}

fn containerd_variables(config: &Config) -> Vec<String> {
    vec![format!("github.com/containerd/containerd/v2/version.Version=v{}", config.containerd)]
}

impl Executable<'_> {
    fn make(&self, toolchain: &str) -> Result<Artifact> {
        step(&format!("go: {}", self.name), || {
            let key = self.inputs(Key::new("go 1").with(toolchain))?;
            cache::artifact(&self.name, key, |output| {
                process::logged(&format!("go-{}", self.name), &mut self.command(output))
            })
        })
    }

    /// The module's own sources and sums pin everything below them.
    fn inputs(&self, mut key: Key) -> Result<Key> {
        key = key.with(format!("{:?}", self.command(Path::new("-")).get_args().collect::<Vec<_>>()));
        let dir = paths::distro().join(self.module);
        let listing = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        let module_file = self.module_file.unwrap_or("go");
        let mut inputs: Vec<_> = listing
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let is = |what: &str| path.extension().is_some_and(|extension| extension == what);
                let pins = path.file_stem().is_some_and(|stem| stem == module_file) && (is("mod") || is("sum"));
                (is("go") && self.package == ".") || pins
            })
            .collect();
        inputs.sort();
        for path in inputs {
            key = key.with_file(&path)?;
        }
        Ok(key)
    }

    fn command(&self, output: &Path) -> Command {
        let mut link = "-s -w".to_owned();
        for variable in &self.variables {
            link.push_str(" -X ");
            link.push_str(variable);
        }
        let mut go = Command::new("go");
        go.current_dir(paths::distro().join(self.module));
        // Upstream looks over its own sources.
        go.args(if self.test { ["test", "-c", "-vet=off"].as_slice() } else { ["build"].as_slice() });
        go.args(["-trimpath", "-buildvcs=false"]);
        // The linker drops debug information anyway; not making it saves an eighth of the time.
        go.arg("-gcflags=all=-dwarf=false");
        if let Some(file) = self.module_file {
            go.arg(format!("-modfile={file}.mod"));
        }
        match self.c_tags {
            Some(tags) => {
                link.push_str(" -extldflags -static");
                go.arg(format!("-tags={tags}")).env("CGO_ENABLED", "1");
            }
            None => {
                go.env("CGO_ENABLED", "0");
            }
        }
        go.arg(format!("-ldflags={link}")).arg("-o").arg(output).arg(self.package);
        // The compiler collects garbage less often: a seventh less time for some hundred MB more.
        for (variable, value) in [("GOGC", "400"), ("GOMEMLIMIT", "1500MiB")] {
            if env::var_os(variable).is_none() {
                go.env(variable, value);
            }
        }
        // A workspace file around the checkout must not change the pinned versions.
        go.env("GOWORK", "off");
        go
    }
}

/// Compiles the pause program out of the Kubernetes module.
fn pause(kubernetes: &Kubernetes) -> Result<Artifact> {
    step("cc: pause", || {
        let key = Key::new("pause 1").with(&kubernetes.version).with(env::consts::ARCH);
        cache::artifact("pause", key, |output| {
            let source = format!("{}/build/pause/linux/pause.c", module_dir(kubernetes)?);
            let mut cc = Command::new("cc");
            cc.args(["-Os", "-Wall", "-static", "-s"]).arg(format!("-DVERSION=v{}", kubernetes.version));
            process::logged("cc-pause", cc.arg("-o").arg(output).arg(&source))
        })
    })
}

/// Where the sources of a Kubernetes version are, downloading them when needed.
///
/// # Errors
/// When they cannot be downloaded.
pub(super) fn module_dir(kubernetes: &Kubernetes) -> Result<String> {
    #[derive(Deserialize)]
    struct Download {
        #[serde(rename = "Dir")]
        dir: String,
    }
    let modfile = format!("-modfile={}.mod", kubernetes.minor);
    let mut go = Command::new("go");
    go.args(["mod", "download", &modfile, "-json", "k8s.io/kubernetes"]);
    let answer = process::output(go.current_dir(paths::distro().join("kubernetes")).env("GOWORK", "off"))?;
    let download: Download =
        serde_json::from_str(&answer).context("go mod download answered something else than JSON")?;
    if download.dir.is_empty() {
        bail!("go mod download gave no directory for k8s.io/kubernetes {}", kubernetes.version);
    }
    Ok(download.dir)
}
