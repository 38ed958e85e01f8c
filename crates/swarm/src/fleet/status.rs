//! What the server is told.

use std::sync::Arc;

use sampan_agents::master::{MasterNodeStatus, MasterStatus};

use super::{Fleet, Member};
use crate::model::{Node, NodeHealth};

impl Fleet {
    /// The present state, without a revision and listeners.
    pub fn status(&self) -> MasterStatus {
        let swarm = self.swarm_state();
        let view = self.current();
        let members = self.members();
        let state = |node: &Arc<Node>| {
            let member = members.iter().find(|member| member.name == node.name)?;
            let containers = view.containers.iter().filter(|container| container.node == node.name).count();
            Some(self.node_status(node, member, containers))
        };
        MasterStatus {
            revision: 0,
            ready: swarm.ready,
            message: swarm.message,
            nodes: view.nodes.iter().filter_map(state).collect(),
            tcp_listeners: Vec::new(),
        }
    }

    fn node_status(&self, node: &Node, member: &Member, containers: usize) -> MasterNodeStatus {
        MasterNodeStatus {
            id: node.id.clone(),
            healthy: node.health == NodeHealth::Healthy,
            message: node.error.clone().unwrap_or_default(),
            drained: self.is_drained(member),
            engine_version: node.engine_version.clone(),
            containers: u32::try_from(containers).unwrap_or(u32::MAX),
        }
    }
}
