//! The nouns of a cluster as its master sees it, and the port through which everything acts on its engines.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// Name of the overlay network that all applications of a cluster share.
pub const CLUSTER_NETWORK: &str = "multi-host-network";

/// Labels that the master puts on containers.
pub mod labels {
    /// Application of a container.
    pub const PROJECT: &str = "aliyun.project.id";
    /// Service of a container, `{project}_{service}`.
    pub const SERVICE: &str = "aliyun.service.id";
    /// Its number within the service, from 1.
    pub const NUMBER: &str = "aliyun.container.number";
    /// Version of the application that it belongs to.
    pub const VERSION: &str = "aliyun.project.version";
    /// Hash of the definition that it was made from; a container with another hash is out of date.
    pub const DEFINITION: &str = "io.sampan.definition";
    /// JSON array of the scheduling expressions that it was created with.
    pub const CONSTRAINTS: &str = "com.docker.swarm.constraints";
    /// JSON array of affinities.
    pub const AFFINITIES: &str = "com.docker.swarm.affinities";
    /// JSON array of reschedule policies.
    pub const RESCHEDULE: &str = "com.docker.swarm.reschedule-policies";
    /// What is ours and not a user's: routers' doors and the like; hidden from lists.
    pub const SYSTEM: &str = "io.sampan.system";
}

/// A refusal or failure, in the terms of the Docker Remote API: a status and `{"message": …}`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// What failed, on what, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
    /// 400.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
    /// 404.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }
    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
    /// 503: an engine or the swarm does not answer; trying again later is right.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

/// How an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeHealth {
    /// Not reached yet, or not yet a member of the swarm.
    Pending,
    /// Answers, and is a member of the swarm.
    Healthy,
    /// Does not answer.
    Unhealthy,
}

/// An image on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`.
    pub id: String,
    /// `name:tag`, without `<none>:<none>`.
    pub tags: Vec<String>,
}

/// A node and its engine, as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Instance id, `i-…`.
    pub id: String,
    /// Its name, `<region>.<ip>`.
    pub name: String,
    /// Address in the VPC.
    pub ip: Ipv4Addr,
    /// `aliyun.node_index`, from 1, never used twice in a cluster.
    pub index: u32,
    /// Labels of the engine and of the node.
    pub labels: BTreeMap<String, String>,
    /// How it is.
    pub health: NodeHealth,
    /// Why it is not healthy.
    pub error: Option<String>,
    /// Whether new containers may go there.
    pub schedulable: bool,
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Docker's version.
    pub engine_version: String,
    /// Storage driver.
    pub storage_driver: String,
    /// Execution driver (`native-…` long ago; the runtime's name now).
    pub execution_driver: String,
    /// Kernel version.
    pub kernel_version: String,
    /// Operating system.
    pub operating_system: String,
    /// Images on it.
    pub images: Vec<Image>,
    /// Names of the volumes on it.
    pub volumes: BTreeSet<String>,
}

/// State of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Between two runs.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// The engine lost it.
    Dead,
}

/// A container on a node, as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name without slash and without node.
    pub name: String,
    /// Name of its node.
    pub node: String,
    /// Image as named in the request.
    pub image: String,
    /// `sha256:…`.
    pub image_id: String,
    /// State.
    pub state: ContainerState,
    /// Exit code of the last run.
    pub exit_code: i64,
    /// Docker's own health check: `starting`, `healthy`, `unhealthy`; `None` without one.
    pub health: Option<String>,
    /// When it was created.
    pub created: Timestamp,
    /// When it was last started.
    pub started: Option<Timestamp>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Environment, `KEY=value`.
    pub env: Vec<String>,
    /// Address in each network that it is attached to.
    pub networks: BTreeMap<String, Ipv4Addr>,
    /// Host ports that it takes on its node: (protocol, host address or empty, port).
    pub host_ports: BTreeSet<(String, String, u16)>,
    /// Whether it uses the node's network namespace.
    pub host_network: bool,
    /// Ports that it exposes, for the network of the host: (protocol, port).
    pub exposed_ports: BTreeSet<(String, u16)>,
    /// Reserved memory in bytes (`-m`).
    pub memory: u64,
    /// Reserved processors (`-c` as Docker Swarm read it), in billionths.
    pub nano_cpus: u64,
    /// Names of the volumes that it mounts.
    pub volumes: BTreeSet<String>,
    /// The definition it was created with (inspect's `Config`, `HostConfig`), for making it anew elsewhere.
    pub inspect: Arc<Value>,
}

impl Container {
    /// Whether it runs and is not known to be unhealthy.
    pub fn is_running(&self) -> bool {
        self.state == ContainerState::Running
    }
    /// Address in the cluster's overlay.
    pub fn overlay_ip(&self) -> Option<Ipv4Addr> {
        self.networks.get(CLUSTER_NETWORK).copied()
    }
}

/// One consistent picture of the cluster. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Grows with every change.
    pub revision: u64,
    /// All nodes, by index.
    pub nodes: Vec<Arc<Node>>,
    /// All containers of all nodes; those of unhealthy nodes as last seen.
    pub containers: Vec<Arc<Container>>,
}

impl View {
    /// A node by name, instance id or address.
    pub fn node(&self, key: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name == key || node.id == key || node.ip.to_string() == key)
    }

    /// A container by id, `name`, `/name`, `node/name`, or a beginning of its id that no other has.
    pub fn find(&self, key: &str) -> Result<&Arc<Container>, Refusal> {
        let key = key.strip_prefix('/').unwrap_or(key);
        let (node, name) = match key.split_once('/') {
            Some((node, name)) => {
                let node = self.node(node).ok_or_else(|| Refusal::missing(format!("No such container: {key}")))?;
                (Some(node.name.as_str()), name)
            }
            None => (None, key),
        };
        let here = |container: &&Arc<Container>| node.is_none_or(|node| container.node == node);
        if let Some(exact) = self.containers.iter().filter(here).find(|one| one.id == name || one.name == name) {
            return Ok(exact);
        }
        let mut begun = self.containers.iter().filter(here).filter(|one| !name.is_empty() && one.id.starts_with(name));
        match (begun.next(), begun.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(Refusal::bad(format!("Multiple IDs found with provided prefix: {name}"))),
            (None, _) => Err(Refusal::missing(format!("No such container: {key}"))),
        }
    }
}

/// What a container shall be, whoever asks for it.
#[derive(Clone, Debug, Default)]
pub struct CreateContainer {
    /// Name; unique in the cluster. `None`: the engine invents one.
    pub name: Option<String>,
    /// Body of `POST /containers/create` as Docker documents it. Scheduling expressions are `constraint:`, `affinity:` and
    /// `reschedule:` entries of `Env`. A network mode of `default`, `bridge` or nothing means the cluster's overlay.
    /// `NetworkingConfig` may name several networks: the container is created in that of its network mode and connected to the
    /// others before [`Engines::create`] answers (engines take one at creation).
    pub body: Value,
    /// Credentials for pulling the image, as in the header `X-Registry-Auth`.
    pub registry_auth: Option<String>,
}

/// How a command in a container ended.
#[derive(Clone, Debug)]
pub struct ExecOutcome {
    /// Exit code.
    pub exit_code: i64,
    /// The end of what it wrote (at most 4 KiB).
    pub output: String,
}

/// Use of resources by a container between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time, percent of one processor.
    pub cpu_percent: f64,
    /// Memory in bytes without the page cache.
    pub memory: u64,
    /// Its limit in bytes (the node's memory without one).
    pub memory_limit: u64,
    /// Bytes received and sent since its start.
    pub network: (u64, u64),
    /// Bytes read from and written to block devices since its start.
    pub block: (u64, u64),
}

/// What can be done with the cluster's engines. The real one is [`crate::fleet`]; tests use a fake.
#[async_trait]
pub trait Engines: Send + Sync + 'static {
    /// The present picture.
    fn view(&self) -> Arc<View>;
    /// Told whenever the picture changed; the value is its revision.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Chooses a node and creates the container there; answers its id. The image is pulled if the node lacks it.
    async fn create(&self, wanted: CreateContainer) -> Result<String, Refusal>;
    /// Starts it; fine when it runs.
    async fn start(&self, id: &str) -> Result<(), Refusal>;
    /// Stops it; fine when it does not run.
    async fn stop(&self, id: &str, timeout: Duration) -> Result<(), Refusal>;
    /// Sends a signal.
    async fn kill(&self, id: &str, signal: &str) -> Result<(), Refusal>;
    /// Removes it; fine when it is gone. `volumes`: its anonymous volumes too.
    async fn remove(&self, id: &str, force: bool, volumes: bool) -> Result<(), Refusal>;
    /// Renames it (name unique in the cluster).
    async fn rename(&self, id: &str, name: &str) -> Result<(), Refusal>;
    /// Runs a command in it.
    async fn exec(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecOutcome, Refusal>;
    /// Pulls an image on all healthy nodes.
    async fn pull(&self, image: &str, registry_auth: Option<&str>) -> Result<(), Refusal>;
    /// Id of an image on the nodes that have it; `None`: no node has it.
    async fn image_id(&self, image: &str) -> Option<String>;
    /// Makes a network unless one of that name is there: Docker's body of `POST /networks/create`.
    async fn ensure_network(&self, body: Value) -> Result<(), Refusal>;
    /// Removes a network; fine when it is gone.
    async fn remove_network(&self, name: &str) -> Result<(), Refusal>;
    /// Makes a volume unless one of that name is there: Docker's body of `POST /volumes/create`. Local volumes are made
    /// where the container goes, those of plug-ins can be used from every node.
    async fn ensure_volume(&self, body: Value) -> Result<(), Refusal>;
    /// Removes a volume from all nodes; fine when it is gone.
    async fn remove_volume(&self, name: &str) -> Result<(), Refusal>;
    /// Use of resources by every running container, measured by their engines (one round over all nodes).
    async fn usage(&self) -> BTreeMap<String, Usage>;
}
