//! A server's hub and machines that dial in, each in a directory of its own.
#![allow(dead_code, unreachable_pub)] // every test file uses another part

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sampan_agents::{
    node::{NodeError, NodeOptions, run_until},
    spec::{File, NodeSpec, NodeStatus, Process},
    tunnel::{AgentClient, AgentHub},
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "secret";
/// Far more than anything here needs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for something that must happen; a test that hangs says where.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, work).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen: {what}"),
    }
}

/// Waits for a condition that nothing announces.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The server's side.
pub struct Server {
    pub directory: TempDir,
    pub hub: Arc<AgentHub>,
}

impl Server {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hub = start_hub(&directory.path().join("agents.sock"));
        Self { directory, hub }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agents.sock")
    }

    /// As a server that was killed and started again; with its own runtime that would take the sockets with it.
    pub async fn restart(&mut self) {
        self.hub.shutdown().await;
        self.hub = start_hub(&self.socket());
    }

    pub async fn connected(&self, machine: &str) -> AgentClient {
        let mut changes = self.hub.changes();
        soon("the agent connects", async {
            loop {
                if let Some(agent) = self.hub.agent(machine) {
                    return agent;
                }
                changes.recv().await.unwrap();
            }
        })
        .await
    }

    /// Waits until the status that the hub keeps fulfils a condition.
    pub async fn status(&self, machine: &str, what: &str, condition: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let mut changes = self.hub.changes();
        let mut last = None;
        let wait = async {
            loop {
                if let Some(status) = self.hub.status(machine) {
                    if condition(&status) {
                        return status;
                    }
                    last = Some(status);
                }
                changes.recv().await.unwrap();
            }
        };
        match timeout(DEADLINE, wait).await {
            Ok(status) => status,
            Err(_) => panic!("{what}: did not happen; last status {last:#?}"),
        }
    }
}

fn start_hub(socket: &std::path::Path) -> Arc<AgentHub> {
    AgentHub::start(socket, Arc::new(|_: &str, token: &str| token == TOKEN)).unwrap()
}

/// A machine: the agent in this process, not as PID 1.
pub struct Machine {
    pub directory: TempDir,
    pub options: NodeOptions,
    stop: CancellationToken,
    agent: Option<JoinHandle<Result<(), NodeError>>>,
}

impl Machine {
    pub fn new(server: &Server, id: &str) -> Self {
        Self::with(server, id, |_| {})
    }

    pub fn with(server: &Server, id: &str, change: impl FnOnce(&mut NodeOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = NodeOptions::new(id.into(), TOKEN.into());
        options.server_socket = server.socket();
        options.state_dir = directory.path().join("state");
        options.log_dir = directory.path().join("log");
        options.images_dir = Some(directory.path().join("images"));
        options.mirror_address = "127.0.0.1:0".parse().unwrap();
        options.pid1 = false;
        change(&mut options);
        let mut machine = Self { directory, options, stop: CancellationToken::new(), agent: None };
        machine.start();
        machine
    }

    pub fn start(&mut self) {
        self.stop = CancellationToken::new();
        self.agent = Some(tokio::spawn(run_until(self.options.clone(), self.stop.clone())));
    }

    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(agent) = self.agent.take() {
            soon("the agent stops", agent).await.unwrap().unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn file(&self, name: &str, content: &str) -> File {
        let path = self.path(name).display().to_string();
        File { path, mode: 0o644, content: BASE64_STANDARD.encode(content) }
    }

    /// How many lines a file has that a process appends to.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A shell process that finds this machine's directory in `$D`.
    pub fn shell(&self, name: &str, script: &str) -> Process {
        let directory = self.directory.path().display().to_string();
        Process {
            name: name.into(),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            start_arguments: vec![],
            env: BTreeMap::from([("D".to_owned(), directory)]),
            after: vec![],
            wait_for: None,
            ready: None,
            restart_on: vec![],
            oneshot: false,
        }
    }
}

pub fn spec(processes: Vec<Process>) -> NodeSpec {
    NodeSpec { processes, ..NodeSpec::default() }
}
