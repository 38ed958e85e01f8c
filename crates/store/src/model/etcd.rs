//! How the machines of a control plane that has several become members of one etcd.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// How far a machine is on its way to be a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EtcdStage {
    /// One of those that etcd begins with. Nothing has to be done for it; if it loses its disk, another machine takes its
    /// place, because etcd refuses a founder without its data.
    Founder,
    /// Its predecessor may still be a member, at the same address: that one is removed first.
    Clearing,
    /// Nobody has its address: it is added, as a learner.
    Adding,
    /// It was added: it starts with what the others know, and is given a vote when it has caught up.
    Joined,
}

/// A machine's part in an etcd of several members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdMember {
    /// How far it is.
    pub stage: EtcdStage,
    /// Addresses of all members when it starts for the first time, its own included. Decided once: another list would be
    /// another command line, and so a restart.
    pub peers: Vec<Ipv4Addr>,
}

impl EtcdMember {
    /// One of those that etcd begins with.
    pub fn founder(peers: &[Ipv4Addr]) -> Self {
        Self { stage: EtcdStage::Founder, peers: peers.to_vec() }
    }

    /// One that is to be added to an etcd that exists; with a `predecessor` at its address, after that one is removed.
    pub fn newcomer(predecessor: bool) -> Self {
        Self { stage: if predecessor { EtcdStage::Clearing } else { EtcdStage::Adding }, peers: Vec::new() }
    }

    /// Whether etcd may run on the machine.
    pub fn may_run(&self) -> bool {
        matches!(self.stage, EtcdStage::Founder | EtcdStage::Joined)
    }
}
