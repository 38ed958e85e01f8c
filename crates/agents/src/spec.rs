//! What a machine is told to be. Level-triggered: the server sends the whole [`NodeSpec`] again whenever it changes, the
//! agent makes it so and keeps it on disk, so that a restarted machine comes up without the server.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

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
        sha2::Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect()
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
