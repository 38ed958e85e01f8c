//! The etcd of clusters that have several members, as far as the controllers see it: members, who of them runs, and what
//! must never be done to them.

use std::net::Ipv4Addr;

use sampan_control::ports::{EtcdChange, EtcdMemberView};
use sampan_store::model::{EtcdMember, EtcdStage, Fault, Machine, Outcome};

use crate::world::World;

/// Where a machine is told of its part in etcd.
pub(crate) const ETCD: &str = "/etcd";

/// The members of one cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeEtcd {
    pub(crate) members: Vec<FakeMember>,
    next_id: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct FakeMember {
    id: u64,
    pub(crate) ip: Ipv4Addr,
    pub(crate) learner: bool,
    /// Whose disk has its data; `None`: it was never started.
    pub(crate) machine: Option<String>,
}

impl FakeEtcd {
    fn push(&mut self, ip: Ipv4Addr, learner: bool) {
        self.next_id += 1;
        self.members.push(FakeMember { id: self.next_id, ip, learner, machine: None });
    }
}

impl FakeEtcd {
    /// The member of that address has its data on this machine's disk.
    pub(crate) fn give_data(&mut self, ip: Ipv4Addr, machine_id: &str) {
        let members = self.members.iter_mut().filter(|member| member.ip == ip);
        members.for_each(|member| member.machine = Some(machine_id.to_owned()));
    }
}

impl World {
    /// What the machine was told of etcd, if it runs.
    fn told_of_etcd(&self, machine_id: &str) -> Option<EtcdMember> {
        if !self.runs(machine_id) {
            return None;
        }
        let state = self.state();
        let file = state.specs.get(machine_id)?.files.iter().find(|file| file.path == ETCD)?.content.clone();
        Some(serde_json::from_str(&file).expect("what the blueprint wrote"))
    }

    /// Machines that run begin to serve as members.
    fn start_members(&self, cluster_id: &str) {
        for machine in self.store.list_of::<Machine>(cluster_id).iter() {
            let Some(told) = self.told_of_etcd(&machine.id) else { continue };
            let mut state = self.state();
            let etcd = state.etcd.entry(cluster_id.to_owned()).or_default();
            if etcd.members.is_empty() && told.stage == EtcdStage::Founder {
                let was_alone = told.peers == [machine.ip];
                for ip in &told.peers {
                    etcd.push(if was_alone { Ipv4Addr::LOCALHOST } else { *ip }, false);
                }
                if was_alone {
                    etcd.members[0].machine = Some(machine.id.clone());
                }
            }
            if !told.may_run() {
                continue;
            }
            let Some(member) = etcd.members.iter_mut().find(|member| member.ip == machine.ip) else { continue };
            let known = member.machine.get_or_insert_with(|| machine.id.clone()).clone();
            if known != machine.id {
                let text = format!("{} starts as the member of {known}, whose data it has not", machine.id);
                if !state.violations.contains(&text) {
                    state.violations.push(text);
                }
            }
        }
    }

    fn is_healthy(&self, member: &FakeMember) -> bool {
        let Some(machine) = &member.machine else { return false };
        self.runs(machine) && self.state().specs.contains_key(machine)
    }

    fn quorum(&self, members: &[FakeMember]) -> bool {
        let voters: Vec<&FakeMember> = members.iter().filter(|member| !member.learner).collect();
        voters.iter().filter(|member| self.is_healthy(member)).count() > voters.len() / 2
    }

    /// Whether the cluster's etcd works; that of a cluster with one member does.
    pub(crate) fn etcd_has_quorum(&self, cluster_id: &str) -> bool {
        self.start_members(cluster_id);
        let members = self.state().etcd.get(cluster_id).map(|etcd| etcd.members.clone());
        members.is_none_or(|members| members.is_empty() || self.quorum(&members))
    }

    /// Whether the machine has a member that may vote.
    pub(crate) fn etcd_serves(&self, machine_id: &str) -> bool {
        let state = self.state();
        let mut members = state.etcd.values().flat_map(|etcd| &etcd.members);
        members.any(|member| member.machine.as_deref() == Some(machine_id) && !member.learner)
    }

    pub(crate) fn members(&self, cluster_id: &str) -> Outcome<Vec<EtcdMemberView>> {
        if !self.etcd_has_quorum(cluster_id) {
            return Err(Fault::unavailable("etcd has no quorum"));
        }
        let members = self.state().etcd.get(cluster_id).map(|etcd| etcd.members.clone()).unwrap_or_default();
        if members.is_empty() {
            return Err(Fault::unavailable("etcd does not run yet"));
        }
        let view = |member: &FakeMember| EtcdMemberView {
            id: member.id,
            ip: Some(member.ip),
            learner: member.learner,
            healthy: self.is_healthy(member),
            ..EtcdMemberView::default()
        };
        Ok(members.iter().map(view).collect())
    }

    pub(crate) fn change_members(&self, cluster_id: &str, change: EtcdChange) -> Outcome<()> {
        let before = self.members(cluster_id)?;
        let healthy = |id: u64| before.iter().any(|member| member.id == id && member.healthy);
        let mut etcd = self.state().etcd.get(cluster_id).cloned().unwrap_or_default();
        match change {
            EtcdChange::Add(ip) if etcd.members.iter().any(|member| member.learner) => {
                return Err(Fault::unavailable(format!("too many learners for {ip}")));
            }
            EtcdChange::Add(ip) if etcd.members.iter().any(|member| member.ip == ip) => {
                return Err(Fault::unavailable(format!("{ip} is a member")));
            }
            EtcdChange::Add(ip) => etcd.push(ip, true),
            EtcdChange::Promote(id) if !healthy(id) => return Err(Fault::unavailable("it has not caught up")),
            EtcdChange::Promote(id) => {
                etcd.members.iter_mut().filter(|member| member.id == id).for_each(|member| member.learner = false);
            }
            EtcdChange::Remove(id) => etcd.members.retain(|member| member.id != id),
            EtcdChange::Move(id, ip) => {
                etcd.members.iter_mut().filter(|member| member.id == id).for_each(|member| member.ip = ip);
            }
        }
        if !self.quorum(&etcd.members) {
            self.state().violations.push(format!("{change:?} costs the quorum of {cluster_id}"));
        }
        self.state().etcd.insert(cluster_id.to_owned(), etcd);
        Ok(())
    }

    /// Somebody throws a machine away with its disks.
    pub(crate) async fn lose_machine(&self, machine_id: &str) {
        use sampan_provider::MachineProvider as _;
        self.provider.delete_machine(&self.names.machine(machine_id)).await.expect("deleted");
        self.state().specs.remove(machine_id);
        self.stir();
    }
}
