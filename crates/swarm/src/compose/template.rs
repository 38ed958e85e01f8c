//! What a template asks for, free of the spellings of the format's versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A template, read and checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Networks that are declared, beside the cluster's own.
    pub networks: BTreeMap<String, Network>,
    /// Named volumes that are declared or used.
    pub volumes: BTreeMap<String, Volume>,
    /// What was in the template and has no effect, in words.
    pub notes: Vec<String>,
}

/// A network of the template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Made elsewhere under this name; else it is `{project}_{key}`.
    pub external: Option<String>,
    /// A name of its own (`name:`).
    pub name: Option<String>,
    /// Driver; `None` or `bridge`: an overlay.
    pub driver: Option<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `internal: true`.
    pub internal: bool,
    /// `ipam`, in Docker's spelling.
    pub ipam: Option<Value>,
}

/// A named volume of the template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Made elsewhere under this name; else it is `{project}_{key}`.
    pub external: Option<String>,
    /// A name of its own (`name:`).
    pub name: Option<String>,
    /// Driver; `None`: `local`.
    pub driver: Option<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// It is not the application's own and stays when that is deleted: the first format names volumes for all. Made if it is
    /// not there.
    #[serde(default)]
    pub keep: bool,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The definition as the template gives it, variables replaced; what the API shows as `definition`.
    pub definition: Map<String, Value>,
    /// Body of Docker's `POST /containers/create` without what depends on the project: no name, no networks' and named volumes'
    /// real names. Named volumes are in [`Service::volumes`], networks in [`Service::networks`].
    pub container: Value,
    /// `container_name`, if given; the service then has one container.
    pub container_name: Option<String>,
    /// Named volumes: key of [`Template::volumes`], path in the container, `rw` or `ro`, perhaps with further options of a bind
    /// (`ro,nocopy`).
    pub volumes: Vec<(String, String, String)>,
    /// Networks and how it joins them; empty: the cluster's overlay.
    pub networks: BTreeMap<String, Attachment>,
    /// `network_mode: service:NAME`.
    pub network_of: Option<String>,
    /// `pid: service:NAME`.
    #[serde(default)]
    pub pid_of: Option<String>,
    /// `ipc: service:NAME`.
    #[serde(default)]
    pub ipc_of: Option<String>,
    /// `volumes_from`: service or container, and `rw` or `ro`.
    pub volumes_from: Vec<VolumesFrom>,
    /// Names under which others are reached: (service of this template, alias).
    pub links: Vec<(String, String)>,
    /// `external_links`: (container, service `project_service` or routing domain, alias).
    pub external_links: Vec<(String, String)>,
    /// Services that must run (healthy, if they have a probe) before this one starts: `depends_on`, `links`, `volumes_from`,
    /// `network_mode: service:`, `aliyun.depends`.
    pub depends: BTreeMap<String, DependsCondition>,
    /// Seconds that a container has for stopping (`stop_grace_period`), 10 if not given.
    pub stop_seconds: Option<u32>,
    /// The service's extensions.
    pub extensions: Extensions,
}

/// What a dependency must have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependsCondition {
    /// Runs; healthy if it has a probe or health check.
    Started,
    /// Its probe or health check says healthy.
    Healthy,
    /// Ended with exit code 0.
    Completed,
}

/// How a service joins a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// Further names there.
    pub aliases: Vec<String>,
    /// A fixed address.
    pub ipv4_address: Option<String>,
}

/// An entry of `volumes_from`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// A service of the template, or a container if `is_container`.
    pub source: String,
    /// `container:NAME` was written.
    pub is_container: bool,
    /// `rw` or `ro`.
    pub mode: String,
}

/// The labels of the service that have a meaning to us, read (design: labels of the Swarm edition).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Extensions {
    /// `aliyun.scale`, `scale:` or `deploy.replicas`; `None`: 1.
    pub scale: Option<u32>,
    /// `aliyun.global` or `deploy.mode: global`: one container on every node.
    pub global: bool,
    /// `aliyun.latest_image`: pull before every deployment.
    pub latest_image: bool,
    /// `aliyun.routing.port_N`.
    pub routing: Vec<Routing>,
    /// `aliyun.routing.session_sticky`.
    pub session_sticky: bool,
    /// `aliyun.lb.port_N: tcp://name:port`.
    pub lb: Vec<LoadBalancer>,
    /// `aliyun.rolling_updates`.
    pub rolling_updates: bool,
    /// `aliyun.rolling_updates.parallelism`, at least 1.
    pub parallelism: u32,
    /// `aliyun.probe.*`.
    pub probe: Option<Probe>,
    /// `aliyun.auto_scaling.*`.
    pub auto_scaling: Option<AutoScaling>,
    /// `aliyun.monitoring.addon.influxdb`.
    pub influxdb: Option<String>,
    /// `aliyun.log_store_*` and `logs`: paths of logs; kept and shown.
    pub logs: Vec<String>,
    /// Labels that begin with `aliyun.` and are not known, kept and shown.
    pub unknown: BTreeMap<String, String>,
}

/// One route to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Port in the container.
    pub port: u16,
    /// A full domain, or a bare prefix that gets the cluster's suffix.
    pub domain: String,
    /// `domain` is a bare prefix.
    pub is_prefix: bool,
    /// Path prefix, `/` if none.
    pub path: String,
}

/// One TCP listener of the cluster's load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// Port in the container.
    pub container_port: u16,
    /// Name of the load balancer.
    pub name: String,
    /// Port of the load balancer.
    pub port: u16,
}

/// How it is known that a container serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is tried.
    pub check: ProbeCheck,
    /// Seconds after the start before the first try.
    pub initial_delay_seconds: u32,
    /// Seconds that a try may take.
    pub timeout_seconds: u32,
}

/// What a probe tries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeCheck {
    /// `http://container[:port]/path`: a status from 200 to 399.
    Http {
        /// Port.
        port: u16,
        /// Path with query.
        path: String,
    },
    /// `tcp://container:port`: it accepts a connection.
    Tcp {
        /// Port.
        port: u16,
    },
    /// A command in the container ends with 0.
    Command(String),
}

/// Scaling by measured use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoScaling {
    /// Above this percentage of CPU it grows.
    pub max_cpu: Option<f64>,
    /// Below this percentage it shrinks.
    pub min_cpu: Option<f64>,
    /// Above this percentage of memory it grows.
    pub max_memory: Option<f64>,
    /// Below this percentage it shrinks.
    pub min_memory: Option<f64>,
    /// Containers per step, at least 1.
    pub step: u32,
    /// Most containers.
    pub max_instances: Option<u32>,
    /// Fewest containers, at least 1.
    pub min_instances: u32,
}
