//! Engines in memory, with everything that can go wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::model::{
    CLUSTER_NETWORK, Container, ContainerState, CreateContainer, Engines, ExecOutcome, Node, NodeHealth, Refusal,
    Usage, View,
};

/// Where a call of the engines stops for ever, as if the master had been killed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    Before,
    After,
}

pub(super) struct Fake {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    /// Turns true when a kill point was reached.
    pub(super) killed: watch::Sender<bool>,
}

type OnStop = Box<dyn Fn(&str) + Send>;

#[derive(Default)]
pub(super) struct State {
    pub(super) nodes: Vec<Node>,
    pub(super) containers: Vec<Container>,
    pub(super) networks: BTreeMap<String, Value>,
    pub(super) volumes: BTreeMap<String, Value>,
    pub(super) images: BTreeMap<String, String>,
    pub(super) log: Vec<String>,
    pub(super) kill_at: Option<(usize, Kill)>,
    pub(super) usage: BTreeMap<String, Usage>,
    /// Commands of probes that fail, by container name.
    pub(super) failing: BTreeSet<String>,
    /// Images whose containers end at once.
    pub(super) crashing: BTreeSet<String>,
    /// Images that cannot be had.
    pub(super) missing: BTreeSet<String>,
    pub(super) next: u32,
    /// Told of every container that is about to be stopped.
    pub(super) on_stop: Option<OnStop>,
}

impl Fake {
    pub(super) fn new(nodes: u8) -> Arc<Self> {
        let nodes = (1..=nodes).map(|index| Node {
            id: format!("i-{index}"),
            name: format!("cn-test.10.0.1.{index}"),
            ip: Ipv4Addr::new(10, 0, 1, index),
            index: index.into(),
            labels: BTreeMap::new(),
            health: NodeHealth::Healthy,
            error: None,
            schedulable: true,
            cpus: 2,
            memory: 4 << 30,
            engine_version: "20.10".into(),
            storage_driver: "overlay2".into(),
            execution_driver: "runc".into(),
            kernel_version: "6".into(),
            operating_system: "Debian".into(),
            images: Vec::new(),
            volumes: BTreeSet::new(),
        });
        let state = State { nodes: nodes.collect(), ..State::default() };
        Arc::new(Self { state: Mutex::new(state), revision: watch::Sender::new(1), killed: watch::Sender::new(false) })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.state());
        self.revision.send_modify(|revision| *revision += 1);
        answer
    }

    pub(super) fn container(&self, name: &str) -> Option<Container> {
        self.state().containers.iter().find(|container| container.name == name).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.state().containers.iter().map(|container| container.name.clone()).collect();
        names.sort();
        names
    }

    pub(super) fn running(&self) -> Vec<String> {
        let state = self.state();
        let running = state.containers.iter().filter(|container| container.is_running());
        let mut names: Vec<String> = running.map(|container| container.name.clone()).collect();
        names.sort();
        names
    }

    pub(super) fn health(&self, index: usize, health: NodeHealth) {
        self.change(|state| state.nodes[index - 1].health = health);
    }

    pub(super) fn exits(&self, name: &str, code: i64) {
        self.change(|state| {
            let container = state.containers.iter_mut().find(|container| container.name == name).unwrap();
            container.state = ContainerState::Exited;
            container.exit_code = code;
        });
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Does `work` unless the master is killed here.
    async fn call<T>(
        &self,
        line: String,
        work: impl FnOnce(&mut State) -> Result<T, Refusal> + Send,
    ) -> Result<T, Refusal> {
        let kill = {
            let mut state = self.state();
            state.log.push(line);
            let calls = state.log.len();
            state.kill_at.filter(|(at, _)| *at == calls).map(|(_, kill)| kill)
        };
        if kill == Some(Kill::Before) {
            self.killed.send_replace(true);
            return std::future::pending().await;
        }
        tokio::task::yield_now().await;
        let answer = self.change(work);
        if kill == Some(Kill::After) {
            self.killed.send_replace(true);
            return std::future::pending().await;
        }
        answer
    }
}

impl State {
    fn stops(&self, id: &str) {
        let runs = self.containers.iter().any(|container| container.id == id && container.is_running());
        if let Some(told) = self.on_stop.as_ref().filter(|_| runs) {
            told(id);
        }
    }

    fn find(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        let node_is_up = {
            let container = self.containers.iter().find(|container| container.id == id);
            let container = container.ok_or_else(|| Refusal::missing(format!("No such container: {id}")))?;
            self.nodes.iter().any(|node| node.name == container.node && node.health == NodeHealth::Healthy)
        };
        if !node_is_up {
            return Err(Refusal::unavailable("the node does not answer"));
        }
        Ok(self.containers.iter_mut().find(|container| container.id == id).unwrap())
    }

    fn name_of(&self, id: &str) -> String {
        self.containers
            .iter()
            .find(|container| container.id == id)
            .map_or_else(|| id.to_owned(), |container| container.name.clone())
    }

    fn node_for(&self, env: &[String], ports: &BTreeSet<(String, String, u16)>) -> Result<String, Refusal> {
        let wanted: Vec<&str> = env
            .iter()
            .filter_map(|entry| entry.strip_prefix("constraint:node=="))
            .filter(|node| !node.starts_with('~'))
            .collect();
        let free = |node: &&Node| {
            let mut there = self.containers.iter().filter(|container| container.node == node.name);
            !there.any(|container| container.host_ports.intersection(ports).next().is_some())
        };
        let fit = self.nodes.iter().filter(|node| node.health == NodeHealth::Healthy && node.schedulable);
        let fit = fit.filter(|node| wanted.iter().all(|name| node.name == *name)).filter(free);
        let count = |node: &&Node| self.containers.iter().filter(|container| container.node == node.name).count();
        let node = fit.min_by_key(count);
        node.map(|node| node.name.clone())
            .ok_or_else(|| Refusal::conflict("Unable to find a node that satisfies the following conditions"))
    }

    fn create(&mut self, wanted: CreateContainer) -> Result<String, Refusal> {
        let name = wanted.name.unwrap();
        if self.containers.iter().any(|container| container.name == name) {
            return Err(Refusal::conflict(format!("Conflict. The container name \"/{name}\" is already in use")));
        }
        let body = wanted.body;
        let image = body["Image"].as_str().unwrap_or_default().to_owned();
        if self.missing.contains(&image) {
            return Err(Refusal::missing(format!("No such image: {image}")));
        }
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
        };
        let env = texts(&body["Env"]);
        let bindings = body["HostConfig"]["PortBindings"].as_object();
        let ports = bindings.into_iter().flatten().flat_map(|(port, list)| {
            let protocol = port.split_once('/').map_or("tcp", |(_, protocol)| protocol).to_owned();
            list.as_array()
                .into_iter()
                .flatten()
                .map(move |one| (protocol.clone(), String::new(), one["HostPort"].as_str().unwrap().parse().unwrap()))
        });
        let ports: BTreeSet<(String, String, u16)> = ports.collect();
        let node = self.node_for(&env, &ports)?;
        self.next += 1;
        let volumes: BTreeSet<String> = texts(&body["HostConfig"]["Binds"])
            .iter()
            .filter_map(|bind| bind.split_once(':'))
            .map(|(source, _)| source.to_owned())
            .filter(|source| !source.starts_with('/'))
            .collect();
        let seen = self.nodes.iter_mut().find(|other| other.name == node).unwrap();
        seen.volumes.extend(volumes.clone());
        let labels = body["Labels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
        let networks = body["NetworkingConfig"]["EndpointsConfig"].as_object().into_iter().flatten();
        let address = Ipv4Addr::new(172, 20, (self.next / 250) as u8, (self.next % 250) as u8 + 2);
        let id = format!("{:064x}", self.next);
        self.containers.push(Container {
            id: id.clone(),
            name,
            node,
            image_id: self.images.get(&image).cloned().unwrap_or_else(|| "sha256:first".into()),
            image,
            state: ContainerState::Created,
            exit_code: 0,
            health: None,
            created: Timestamp::now(),
            started: None,
            labels: labels.collect(),
            env,
            networks: networks.map(|(name, _)| (name.clone(), address)).collect(),
            host_ports: ports,
            host_network: body["HostConfig"]["NetworkMode"] == "host",
            exposed_ports: BTreeSet::new(),
            memory: 0,
            nano_cpus: 0,
            volumes,
            inspect: Arc::new(body),
        });
        Ok(id)
    }
}

#[async_trait]
impl Engines for Fake {
    fn view(&self) -> Arc<View> {
        let state = self.state();
        Arc::new(View {
            revision: *self.revision.borrow(),
            nodes: state.nodes.iter().cloned().map(Arc::new).collect(),
            containers: state.containers.iter().cloned().map(Arc::new).collect(),
        })
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
    async fn create(&self, wanted: CreateContainer) -> Result<String, Refusal> {
        let line = format!("create {}", wanted.name.clone().unwrap());
        self.call(line, |state| state.create(wanted)).await
    }
    async fn start(&self, id: &str) -> Result<(), Refusal> {
        let line = format!("start {}", self.state().name_of(id));
        self.call(line, |state| {
            let crashing = state.crashing.clone();
            let container = state.find(id)?;
            if !container.is_running() {
                container.state = ContainerState::Running;
                container.started = Some(Timestamp::now());
                if crashing.contains(&container.image) {
                    container.state = ContainerState::Exited;
                    container.exit_code = 1;
                }
            }
            Ok(())
        })
        .await
    }
    async fn stop(&self, id: &str, timeout: Duration) -> Result<(), Refusal> {
        let line = format!("stop {} {}", self.state().name_of(id), timeout.as_secs());
        self.call(line, |state| {
            state.stops(id);
            let container = state.find(id)?;
            container.state = ContainerState::Exited;
            container.exit_code = 143;
            Ok(())
        })
        .await
    }
    async fn kill(&self, id: &str, signal: &str) -> Result<(), Refusal> {
        let line = format!("kill {} {signal}", self.state().name_of(id));
        self.call(line, |state| {
            let container = state.find(id)?;
            if signal == "KILL" {
                container.state = ContainerState::Exited;
                container.exit_code = 137;
            }
            Ok(())
        })
        .await
    }
    async fn remove(&self, id: &str, force: bool, volumes: bool) -> Result<(), Refusal> {
        let line = format!("remove {}{}", self.state().name_of(id), if volumes { " v" } else { "" });
        self.call(line, |state| {
            if state.containers.iter().all(|container| container.id != id) {
                return Ok(());
            }
            let container = state.find(id)?;
            if container.is_running() && !force {
                return Err(Refusal::conflict("it runs"));
            }
            state.stops(id);
            state.containers.retain(|container| container.id != id);
            Ok(())
        })
        .await
    }
    async fn rename(&self, id: &str, name: &str) -> Result<(), Refusal> {
        let line = format!("rename {} {name}", self.state().name_of(id));
        self.call(line, |state| {
            if state.containers.iter().any(|container| container.name == name) {
                return Err(Refusal::conflict("the name is taken"));
            }
            state.find(id)?.name = name.to_owned();
            Ok(())
        })
        .await
    }
    async fn exec(&self, id: &str, _: Vec<String>, _: Duration) -> Result<ExecOutcome, Refusal> {
        let mut state = self.state();
        let name = state.find(id)?.name.clone();
        let fails = state.failing.iter().any(|failing| name.starts_with(failing));
        Ok(ExecOutcome { exit_code: i64::from(fails), output: "out of order".into() })
    }
    async fn pull(&self, image: &str, _: Option<&str>) -> Result<(), Refusal> {
        self.call(format!("pull {image}"), |state| {
            if state.missing.contains(image) {
                Err(Refusal::missing(format!("no such image: {image}")))
            } else {
                Ok(())
            }
        })
        .await
    }
    async fn image_id(&self, image: &str) -> Option<String> {
        let state = self.state();
        if state.missing.contains(image) {
            return None;
        }
        Some(state.images.get(image).cloned().unwrap_or_else(|| "sha256:first".into()))
    }
    async fn ensure_network(&self, body: Value) -> Result<(), Refusal> {
        let name = body["Name"].as_str().unwrap().to_owned();
        assert_ne!(name, CLUSTER_NETWORK);
        self.call(format!("network {name}"), |state| {
            state.networks.insert(name, body);
            Ok(())
        })
        .await
    }
    async fn remove_network(&self, name: &str) -> Result<(), Refusal> {
        self.call(format!("remove network {name}"), |state| {
            if state.containers.iter().any(|container| container.networks.contains_key(name)) {
                return Err(Refusal::conflict("the network is in use"));
            }
            state.networks.remove(name);
            Ok(())
        })
        .await
    }
    async fn ensure_volume(&self, body: Value) -> Result<(), Refusal> {
        let name = body["Name"].as_str().unwrap().to_owned();
        self.call(format!("volume {name}"), |state| {
            state.volumes.insert(name, body);
            Ok(())
        })
        .await
    }
    async fn remove_volume(&self, name: &str) -> Result<(), Refusal> {
        self.call(format!("remove volume {name}"), |state| {
            state.volumes.remove(name);
            for node in &mut state.nodes {
                node.volumes.remove(name);
            }
            Ok(())
        })
        .await
    }
    async fn usage(&self) -> BTreeMap<String, Usage> {
        self.state().usage.clone()
    }
}
