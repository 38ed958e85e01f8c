//! containerd's configuration, and where it looks for images.

use std::collections::BTreeMap;

use sampan_agents::spec::{File, Probe, Process};

use super::{
    facts::HostFacts,
    parts::{process, public_file},
};

/// Where containerd listens.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";
/// Where the agent serves the image directory as a registry.
const MIRROR: &str = "http://127.0.0.1:5999";
const CONFIG: &str = "/etc/containerd/config.toml";

/// Configuration files.
pub(crate) fn files(facts: &HostFacts, pause_image: &str) -> [File; 2] {
    [
        public_file(CONFIG, config(facts, pause_image)),
        public_file("/etc/containerd/certs.d/_default/hosts.toml", hosts()),
    ]
}

/// The process.
pub(crate) fn containerd() -> Process {
    let command = ["/opt/sampan/bin/containerd", "--config", CONFIG, "--log-level", "warn"];
    let mut containerd = process("containerd", command.map(String::from).into());
    containerd.env = BTreeMap::from([("GOGC".to_owned(), "60".to_owned())]);
    // The shim and runc are looked up there.
    containerd.env.insert(
        "PATH".to_owned(),
        "/opt/sampan/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    );
    containerd.ready = Some(Probe::Unix(SOCKET.to_owned()));
    containerd.restart_on = vec![CONFIG.to_owned()];
    containerd
}

fn config(facts: &HostFacts, pause_image: &str) -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# Only what Kubernetes on overlayfs uses is started.
disabled_plugins = [
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.native",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.nri.v1.nri",
]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause_image}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = {restrict}
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "/opt/sampan/bin/runc"
        SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
    max_conf_num = 1
"#,
        restrict = !facts.can_lower_oom_score,
    )
}

/// Every registry is asked at the agent's mirror first, which has the images of the bundle; what it does not have is
/// fetched from the registry itself.
fn hosts() -> String {
    format!("[host.\"{MIRROR}\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_scores_are_left_alone_only_where_they_must_be() {
        let mut facts = HostFacts::detect(2, 1 << 34);
        facts.can_lower_oom_score = true;
        assert!(config(&facts, "pause:1").contains("restrict_oom_score_adj = false"));
        facts.can_lower_oom_score = false;
        let text = config(&facts, "pause:1");
        assert!(text.contains("restrict_oom_score_adj = true") && text.contains("sandbox = \"pause:1\""));
    }
}
