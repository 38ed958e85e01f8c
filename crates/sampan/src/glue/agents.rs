//! The machines' agents by the hub that they dial.

use std::{io, sync::Arc};

use async_trait::async_trait;
use sampan_agents::{
    spec::{NodeSpec, NodeStatus},
    tunnel::{AgentClient, AgentHub, TunnelError},
};
use sampan_control::ports::{Agents, Dialer, Stream};
use sampan_store::model::{Fault, Outcome};
use tokio::sync::broadcast;

/// The hub as the controllers' port and as the dialer to clusters' APIs.
pub(crate) struct HubAgents {
    hub: Arc<AgentHub>,
}

impl HubAgents {
    pub(crate) fn new(hub: Arc<AgentHub>) -> Self {
        Self { hub }
    }

    fn agent(&self, machine_id: &str) -> Outcome<AgentClient> {
        self.hub
            .agent(machine_id)
            .ok_or_else(|| Fault::unavailable(format!("the agent of machine {machine_id} is not connected")))
    }
}

fn unavailable(error: TunnelError) -> Fault {
    Fault::unavailable(error.to_string())
}

#[async_trait]
impl Agents for HubAgents {
    fn is_connected(&self, machine_id: &str) -> bool {
        self.hub.is_connected(machine_id)
    }

    async fn put_spec(&self, machine_id: &str, spec: &NodeSpec) -> Outcome<()> {
        self.agent(machine_id)?.put_spec(spec).await.map(|_| ()).map_err(unavailable)
    }

    async fn status(&self, machine_id: &str) -> Outcome<NodeStatus> {
        match self.hub.status(machine_id) {
            Some(status) => Ok(status),
            None => self.agent(machine_id)?.status().await.map_err(unavailable),
        }
    }

    async fn leave(&self, machine_id: &str) -> Outcome<Vec<String>> {
        self.agent(machine_id)?.leave().await.map_err(unavailable)
    }

    async fn restart(&self, machine_id: &str) -> Outcome<()> {
        self.agent(machine_id)?.restart().await.map_err(unavailable)
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.hub.changes()
    }
}

#[async_trait]
impl Dialer for HubAgents {
    async fn dial(&self, machine_id: &str, address: &str) -> io::Result<Box<dyn Stream>> {
        let agent =
            self.agent(machine_id).map_err(|fault| io::Error::new(io::ErrorKind::NotConnected, fault.message))?;
        let stream = agent.dial(address).await.map_err(io::Error::other)?;
        Ok(Box::new(stream))
    }
}
