//! What a machine is told to be. Level-triggered: the server sends the whole [`NodeSpec`] again whenever it changes, the
//! agent makes it so and keeps it on disk, so that a restarted machine comes up without the server.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use bytes::Bytes;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A file on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute path; parent directories are made.
    pub path: String,
    /// Permission bits, e.g. `0o600`.
    pub mode: u32,
    /// Content, base64.
    pub content: String,
}

/// A route that the agent keeps in the kernel (it removes routes it made that are no longer listed).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination, e.g. another node's part of the pod network.
    pub destination: Ipv4Net,
    /// Next hop.
    pub via: Ipv4Addr,
}

/// A port of the machine that leads elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Where the agent listens, e.g. `127.0.0.1:5000`.
    pub listen: SocketAddr,
    /// Where connections go, as seen by the machine.
    pub to: SocketAddr,
}

/// A port of a host that leads to something of its cluster: directly where the host reaches it, else through the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Where the agent listens, e.g. `127.0.0.1:6443`.
    pub listen: SocketAddr,
    /// What it leads to.
    pub service: UplinkService,
    /// Where that is for whoever reaches it.
    #[serde(default)]
    pub direct: Option<SocketAddr>,
}

/// What the server leads hosts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UplinkService {
    /// The API server of the host's cluster.
    Api,
    /// The images of the installation, as a registry without TLS.
    Images,
}

/// A file that a host fetches from the server: too large for a [`File`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// What the server calls it.
    pub name: String,
    /// Absolute path.
    pub path: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// Names beside it that are links to it.
    #[serde(default)]
    pub links: Vec<String>,
}

/// When a process counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A TCP connection to `host:port` succeeds.
    Tcp(String),
    /// A Unix socket accepts a connection.
    Unix(String),
    /// `GET` answers 200; for `https` the certificate is not verified (the probe carries no secret).
    Http(String),
}

/// A process that the agent supervises: started when everything in `after` is ready, restarted with back-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Unique name, e.g. `kube-apiserver`; its log is `/var/log/sampan/<name>.log` (rotated, bounded).
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Arguments after those of `command` that matter only when it starts, such as what a kubelet registers its node with:
    /// a change of them alone waits for the next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_arguments: Vec<String>,
    /// Environment beside PATH and HOME.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of processes that must be ready first.
    #[serde(default)]
    pub after: Vec<String>,
    /// A probe that must succeed before it is started at all (e.g. the API server is reachable).
    #[serde(default)]
    pub wait_for: Option<Probe>,
    /// When it counts as ready; `None`: as soon as it runs.
    #[serde(default)]
    pub ready: Option<Probe>,
    /// Files whose change restarts it (its own command line or environment changing always does).
    #[serde(default)]
    pub restart_on: Vec<String>,
    /// Runs once to completion (exit 0 = ready), not restarted after success.
    #[serde(default)]
    pub oneshot: bool,
}

/// The whole wanted machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// IANA time zone; `/etc/localtime` follows it.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Files, written before any process is started.
    #[serde(default)]
    pub files: Vec<File>,
    /// Routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Kernel parameters, `net.ipv4.ip_forward` → `1`; those that cannot be set are reported, not fatal.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Serve the image directory as a pull-through registry on `127.0.0.1:5999` for containerd.
    #[serde(default)]
    pub registry_mirror: bool,
    /// Ports that lead elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
    /// Ports of a host that lead to its cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<Uplink>,
    /// What a host fetches before any process is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payload: Vec<Payload>,
    /// Processes.
    #[serde(default)]
    pub processes: Vec<Process>,
}

impl NodeSpec {
    /// SHA-256 of the JSON form, hexadecimal: the spec's identity in [`NodeStatus::spec_hash`].
    pub fn hash(&self) -> String {
        use sha2::Digest as _;
        // Serialising plain data with string keys does not fail.
        let json = serde_json::to_vec(self).unwrap_or_default();
        hexadecimal(&sha2::Sha256::digest(&json))
    }
}

/// Digests as they are written in specifications.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A specification as it arrived. Its identity is that of what was sent: what a newer server says and this agent does not
/// know is not lost on the disk, and the server still sees that its specification is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSpec {
    spec: NodeSpec,
    json: Bytes,
    hash: String,
}

impl ReceivedSpec {
    /// Reads its JSON form.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(json: Bytes) -> serde_json::Result<Self> {
        use sha2::Digest as _;
        let spec = serde_json::from_slice(&json)?;
        let hash = hexadecimal(&sha2::Sha256::digest(&json));
        Ok(Self { spec, json, hash })
    }

    /// See [`NodeSpec::hash`].
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// As it arrived.
    pub fn json(&self) -> &[u8] {
        &self.json
    }
}

impl std::ops::Deref for ReceivedSpec {
    type Target = NodeSpec;

    fn deref(&self) -> &NodeSpec {
        &self.spec
    }
}

/// State of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// Waits for others.
    Waiting,
    /// Runs, is not ready yet.
    Starting,
    /// Ready (or a oneshot that ended well).
    Ready,
    /// Ended; will be started again after a pause.
    BackOff,
}

/// What a process is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Name.
    pub name: String,
    /// State.
    pub state: ProcessState,
    /// Process id, while it runs.
    pub pid: Option<u32>,
    /// Times it was started again.
    pub restarts: u32,
    /// How it ended the last time, with its last lines of output.
    pub last_exit: Option<String>,
}

/// What a machine is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Counts every change; `GET /v1/status?after=N` answers when it is larger than N.
    pub revision: u64,
    /// Hash of the spec that is in force (files written, routes set, processes being supervised); empty: none yet.
    pub spec_hash: String,
    /// Random per start of the agent.
    pub boot_id: String,
    /// Processes.
    pub processes: Vec<ProcessStatus>,
    /// What could not be done, in words.
    pub problems: Vec<String>,
}

impl NodeStatus {
    /// Whether that process is ready.
    pub fn is_ready(&self, process: &str) -> bool {
        self.processes.iter().any(|p| p.name == process && p.state == ProcessState::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_does_not_know_counts_for_the_identity() {
        let spec = NodeSpec { timezone: Some("Asia/Shanghai".into()), ..NodeSpec::default() };
        let mut json = serde_json::to_value(&spec).unwrap();
        json["of_a_newer_server"] = 1.into();
        let newer = ReceivedSpec::read(json.to_string().into()).unwrap();
        assert_eq!(*newer, spec);
        assert_ne!(newer.hash(), spec.hash());
        assert_eq!(newer.json(), json.to_string().as_bytes());
        let same = ReceivedSpec::read(serde_json::to_vec(&spec).unwrap().into()).unwrap();
        assert_eq!(same.hash(), spec.hash());
    }
}
