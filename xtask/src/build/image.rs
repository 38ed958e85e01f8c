//! The node image, made by the local Docker engine without any registry.
//!
//! Three images lie on each other, so that a change of the Sampan binary
//! makes one small layer: the Debian root, the Go executables, the binary.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::cache::{Artifact, Key};
use super::config::Config;
use super::go::Executables;
use super::tree::Tree;
use crate::process;
use crate::progress::{Did, step};

/// On every image of ours; the value says which.
const LABEL: &str = "io.sampan.component";
/// Older node images that stay: a server that still runs may make machines from them.
const OLD_IMAGES_KEPT: usize = 2;

/// Names of the Kubernetes components in one executable.
pub(crate) const COMPONENTS: [&str; 9] = [
    "etcd",
    "etcdutl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-controllers",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

type BuildContext = Tree<BufWriter<ChildStdin>>;

/// Makes the node image and returns its name. Without `binary` the image can only be tried by hand.
///
/// # Errors
/// When the Docker engine refuses; the error carries what it printed.
pub(crate) fn build(rootfs: &Artifact, config: &Config, go: &Executables, binary: Option<&Path>) -> Result<String> {
    let root = root_image(rootfs)?;
    let distro = distro_image(&root, config, go)?;
    let node = node_image(&distro, binary)?;
    prune(&[&root, &distro, &node])?;
    Ok(node)
}

fn root_image(rootfs: &Artifact) -> Result<String> {
    let name = format!("sampan-node-root:{}", Key::new("root 1").with(&rootfs.key).finish());
    image("image: Debian root", &name, || {
        let mut docker = Command::new("docker");
        docker.args(["import", "--change", &format!("LABEL {LABEL}=node-root")]);
        process::logged("docker-import", docker.arg(&rootfs.path).arg(&name))
    })
}

/// What a container that plays a bare host runs: what booting a machine does, then nothing. It takes part in no cluster, and
/// has nothing of ours; what is in its rc2.d is started, as by an older init.
const BOOT: &str = "mount --make-rshared /; \
     for tree in /sys /proc/sys /sys/fs/cgroup /sys/fs/cgroup/*; do \
       mountpoint -q $tree && mount -o remount,bind,rw $tree; done; \
     if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mkdir -p /sys/fs/cgroup/init; \
       for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo $pid >/sys/fs/cgroup/init/cgroup.procs; done; \
       for name in $(cat /sys/fs/cgroup/cgroup.controllers); do \
         echo +$name >/sys/fs/cgroup/cgroup.subtree_control; done; fi; \
     mkdir -p /run/lock; \
     for service in /etc/rc2.d/S*; do [ ! -x $service ] || $service start; done; \
     trap 'for service in /etc/rc2.d/S*; do [ ! -x $service ] || $service stop; done; exit 0' TERM; \
     while :; do sleep 3600 & wait $!; done";

/// Makes the image of containers that play bare hosts, and returns its name.
///
/// # Errors
/// When the Docker engine refuses; the error carries what it printed.
pub(crate) fn bare(rootfs: &Artifact) -> Result<String> {
    let name = format!("sampan-bare:{}", Key::new("bare 1").with(&rootfs.key).with(BOOT).finish());
    let entry = serde_json::to_string(&["/bin/sh", "-c", BOOT]).context("cannot encode the entry point")?;
    image("image: bare host", &name, || {
        let mut docker = Command::new("docker");
        docker.args(["import", "--change", &format!("LABEL {LABEL}=bare")]);
        docker.args(["--change", &format!("ENTRYPOINT {entry}")]);
        process::logged("docker-import-bare", docker.arg(&rootfs.path).arg(&name))
    })
}

fn distro_image(root: &str, config: &Config, go: &Executables) -> Result<String> {
    let mut dockerfile = format!("FROM {root}\nLABEL {LABEL}=node-distro\nCOPY runtime/ /\n");
    // The default last: a change of it, the most frequent one, leaves the others' layers alone.
    for version in config.kubernetes.iter().rev() {
        dockerfile.push_str(&format!("COPY kubernetes-{}/ /\n", version.version));
    }
    let mut key = Key::new("distro 1").with(&dockerfile).with_all(COMPONENTS);
    for (path, artifact) in runtime(go) {
        key = key.with(path).with(&artifact.key);
    }
    for (version, artifact) in &go.kubernetes {
        key = key.with(version).with(&artifact.key);
    }
    let name = format!("sampan-node-distro:{}", key.finish());
    image("image: Kubernetes and containerd", &name, || {
        docker_build(&name, &dockerfile, |context| {
            for (path, artifact) in runtime(go) {
                context.executable(&format!("runtime/{path}"), &artifact.path)?;
            }
            for (version, artifact) in &go.kubernetes {
                let dir = format!("kubernetes-{version}/opt/sampan/kubernetes/{version}");
                context.executable(&format!("{dir}/kubernetes"), &artifact.path)?;
                for component in COMPONENTS {
                    context.symlink(&format!("{dir}/{component}"), "kubernetes")?;
                }
            }
            Ok(())
        })
    })
}

/// Path in the image, without the first slash, and executable.
pub(crate) fn runtime(go: &Executables) -> Vec<(String, &Artifact)> {
    let sampan =
        [("containerd", &go.containerd), ("containerd-shim-runc-v2", &go.shim), ("ctr", &go.ctr), ("runc", &go.runc)];
    let sampan = sampan.map(|(file, artifact)| (format!("opt/sampan/bin/{file}"), artifact));
    let cni = go.cni.iter().map(|(file, artifact)| (format!("opt/cni/bin/{file}"), artifact));
    sampan.into_iter().chain(cni).collect()
}

fn node_image(distro: &str, binary: Option<&Path>) -> Result<String> {
    let mut dockerfile = format!(
        "FROM {distro}\n\
         LABEL {LABEL}=node\n\
         ENV PATH=/opt/sampan/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         ENTRYPOINT [\"/usr/local/bin/sampan\", \"node\"]\n"
    );
    let mut key = Key::new("node 1").with(&dockerfile);
    if let Some(binary) = binary {
        dockerfile.push_str("COPY sampan /usr/local/bin/sampan\n");
        key = key.with_file(binary)?;
    }
    let name = format!("sampan-node:{}", key.finish());
    image("image: node", &name, || {
        docker_build(&name, &dockerfile, |context| match binary {
            Some(binary) => context.executable("sampan", binary),
            None => Ok(()),
        })
    })
}

/// Runs `make` unless the engine has an image of that name.
fn image(what: &str, name: &str, make: impl FnOnce() -> Result<()>) -> Result<String> {
    step(what, || {
        if process::succeeds(Command::new("docker").args(["image", "inspect", name])) {
            return Ok(Did::Cached(name.to_owned()));
        }
        make()?;
        Ok(Did::Built(name.to_owned()))
    })
}

/// `docker build` with a context that is streamed, not laid out on disk.
fn docker_build(name: &str, dockerfile: &str, fill: impl FnOnce(&mut BuildContext) -> Result<()>) -> Result<()> {
    let repository = name.split(':').next().unwrap_or(name);
    let path = process::log_file(&format!("docker-build-{repository}"))?;
    let log = std::fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut docker = Command::new("docker");
    docker.args(["build", "--network", "none", "--tag", name, "-"]);
    // The classic builder comes with every engine and asks no registry for a base that is there.
    docker.env("DOCKER_BUILDKIT", "0").stdin(Stdio::piped());
    docker.stdout(log.try_clone().context("cannot share the log file")?).stderr(log);
    let mut child = docker.spawn().context("cannot start docker build")?;
    let written = child.stdin.take().ok_or_else(|| anyhow!("docker build has no stdin")).and_then(|stdin| {
        let mut context = Tree::new(BufWriter::with_capacity(1 << 20, stdin));
        context.file("Dockerfile", 0o644, dockerfile)?;
        fill(&mut context)?;
        context.finish()?.flush().context("cannot send the build's context")
    });
    let status = child.wait().context("cannot wait for docker build")?;
    if !status.success() {
        bail!("docker build of {name}: {status}; the end of {}:\n{}", path.display(), process::tail(&path));
    }
    written
}

/// Deletes our images that no longer serve: neither in use by a container nor among the newest.
fn prune(current: &[&str]) -> Result<()> {
    let mut list = Command::new("docker");
    list.args(["image", "ls", "--filter", &format!("label={LABEL}"), "--format", "{{.Repository}}:{{.Tag}}"]);
    let names = process::output(&mut list)?;
    for name in superseded(&names, current) {
        // The engine refuses to delete an image that a container uses, which is what we want.
        let _ = process::succeeds(Command::new("docker").args(["image", "rm", name]));
    }
    Ok(())
}

/// The images of a list, newest first, that may go.
fn superseded<'a>(names: &'a str, current: &[&str]) -> Vec<&'a str> {
    let old = |repository: &str| {
        let prefix = format!("{repository}:");
        let kept = OLD_IMAGES_KEPT;
        names.lines().filter(move |name| name.starts_with(&prefix) && !current.contains(name)).skip(kept).collect()
    };
    let repositories = ["sampan-node", "sampan-node-distro", "sampan-node-root", "sampan-bare"];
    repositories.into_iter().flat_map(|repository| -> Vec<&str> { old(repository) }).collect()
}

#[cfg(test)]
mod tests {
    use super::superseded;

    #[test]
    fn keeps_the_current_and_the_newest_images() {
        let names =
            "sampan-node:e\nsampan-node:d\nsampan-node-root:b\nsampan-node:c\nother:x\nsampan-node:b\nsampan-node:a\n";
        assert_eq!(superseded(names, &["sampan-node:a", "sampan-node-root:b"]), ["sampan-node:c", "sampan-node:b"]);
        assert_eq!(superseded("", &["sampan-node:a"]), [""; 0]);
    }
}
