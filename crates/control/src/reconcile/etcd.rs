//! The members of an etcd that has several: one for each machine of the control plane, and nobody else.
//!
//! [`next`] compares the machines with the members and names one thing to do; it is done, and the two are compared again.
//! A machine whose predecessor had its address begins as [`EtcdStage::Clearing`]: only when no member of that address is
//! left does it go on to [`EtcdStage::Adding`], so that what is found there afterwards is its own.

use std::{net::Ipv4Addr, time::Duration};

use sampan_store::model::{EtcdMember, EtcdStage, Machine, Outcome};

use super::{
    context::{Context, within},
    machines::title,
    memory::Note,
    scope::Scope,
    settings::ACCESS_CALL_MAX,
    status::Step,
    turns::quorum,
};
use crate::ports::{EtcdChange, EtcdMemberView};

/// More than this is not done in one look; the next one goes on.
const CHANGES_MAX: usize = 8;
/// Asking members how they are, dead ones included.
const LIST_MAX: Duration = Duration::from_secs(12);

/// How etcd stands.
pub(super) struct Members {
    /// Done when every machine is a member, has a vote and is well.
    pub(super) step: Step,
    /// What users should know.
    pub(super) trouble: Option<Note>,
}

impl Members {
    fn done() -> Self {
        Self { step: Step::Done, trouble: None }
    }

    fn waiting(why: impl Into<String>) -> Self {
        Self { step: Step::Waiting(why.into()), trouble: None }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: all is as wanted.
    Nothing,
    /// Nothing now.
    Wait(String),
    /// Nothing, for it would cost the quorum.
    Endangered(String),
    /// A change of the members.
    Change(EtcdChange),
    /// A machine is so far.
    Record(String, EtcdMember),
}

/// Makes the members those that are wanted, as far as that is possible now.
pub(super) async fn settle(ctx: &Context, scope: &Scope) -> Members {
    if !scope.is_highly_available() {
        return Members::done();
    }
    for _ in 0..CHANGES_MAX {
        let Some(now) = Scope::load(&ctx.store, &scope.cluster.id) else { return Members::done() };
        let call = ctx.access.etcd_members(&now.cluster);
        let members = match within(LIST_MAX, "asking for the members of etcd", call).await {
            Ok(members) => members,
            Err(fault) => return Members::waiting(fault.message),
        };
        if members.len() == 1
            && let Some(founder) = unprepared(ctx, &now)
        {
            return Members::waiting(format!("waits until {} speaks to other members", title(founder)));
        }
        let done = match next(&now.running_control_planes(), &members) {
            Next::Nothing => return Members::done(),
            Next::Wait(why) => return Members::waiting(why),
            Next::Endangered(message) => {
                let trouble = Some(Note { reason: "EtcdQuorumEndangered", message: message.clone(), permanent: false });
                return Members { step: Step::Waiting(message), trouble };
            }
            Next::Change(change) => {
                tracing::info!(cluster = now.cluster.id, ?change, "changing the members of etcd");
                let call = ctx.access.change_etcd(&now.cluster, change);
                within(ACCESS_CALL_MAX, "changing the members of etcd", call).await
            }
            Next::Record(machine_id, member) => record(ctx, &now, &machine_id, member).await,
        };
        if let Err(fault) = done {
            return Members::waiting(fault.message);
        }
    }
    Members::waiting("the members of etcd are being changed")
}

/// A control plane that had one machine speaks to nobody before it was told to.
fn unprepared<'a>(ctx: &Context, scope: &'a Scope) -> Option<&'a Machine> {
    let founder = scope.running_control_planes().into_iter().find(|machine| is_lone_founder(machine))?;
    let is_told = ctx.memory.machine(&founder.id).in_force == Some(scope.topology());
    let has_newcomers = scope.running_control_planes().iter().any(|machine| machine.etcd().is_some_and(is_new));
    (has_newcomers && !is_told).then_some(founder)
}

fn is_lone_founder(machine: &Machine) -> bool {
    machine.etcd().is_some_and(|member| member.stage == EtcdStage::Founder && member.peers == [machine.ip])
}

fn is_new(member: &EtcdMember) -> bool {
    member.stage == EtcdStage::Adding
}

async fn record(ctx: &Context, scope: &Scope, machine_id: &str, member: EtcdMember) -> Outcome<()> {
    let written = ctx
        .edit_machine(&scope.cluster, machine_id, |machine, journal| {
            let text = match member.stage {
                EtcdStage::Joined => format!("{} joins the members of etcd", title(machine)),
                _ => format!("no member of etcd is left at the address of {}", title(machine)),
            };
            let Some(membership) = &mut machine.membership else { return false };
            if membership.etcd.as_ref() == Some(&member) {
                return false;
            }
            membership.etcd = Some(member.clone());
            journal.log(text);
            true
        })
        .await?;
    if written {
        ctx.wake_machine(machine_id);
    }
    Ok(())
}

/// One thing that brings the members nearer to what is wanted: the machines that shall run.
fn next(machines: &[&Machine], members: &[EtcdMemberView]) -> Next {
    let machine_at = |ip: Option<Ipv4Addr>| machines.iter().find(|machine| Some(machine.ip) == ip);
    // One that spoke to nobody is to be found by others.
    if let [only] = members
        && only.ip == Some(Ipv4Addr::LOCALHOST)
        && let Some(founder) = machines.iter().find(|machine| is_lone_founder(machine))
    {
        return Next::Change(EtcdChange::Move(only.id, founder.ip));
    }
    let voters: Vec<&EtcdMemberView> = members.iter().filter(|member| !member.learner).collect();
    for member in members {
        let stage = machine_at(member.ip).and_then(|machine| machine.etcd()).map(|member| member.stage);
        let is_obsolete = match stage {
            None | Some(EtcdStage::Clearing) => true,
            Some(EtcdStage::Adding) => !member.learner,
            Some(EtcdStage::Founder | EtcdStage::Joined) => false,
        };
        if is_obsolete {
            return remove(member, &voters);
        }
    }
    for machine in machines {
        if machine.etcd().is_some_and(|member| member.stage == EtcdStage::Clearing) {
            let member = EtcdMember { stage: EtcdStage::Adding, peers: Vec::new() };
            return Next::Record(machine.id.clone(), member);
        }
    }
    let who = |ip: Option<Ipv4Addr>| machine_at(ip).map_or_else(String::new, |machine| title(machine));
    if let Some(learner) = members.iter().find(|member| member.learner) {
        // One that has never started would not start with peers that are not the members any more.
        let peers = joined(members);
        let is_to_be_told = |machine: &&&Machine| {
            machine.etcd().is_some_and(is_new) || learner.name.is_empty() && machine.etcd() != Some(&peers)
        };
        return match machine_at(learner.ip).filter(is_to_be_told) {
            Some(machine) => Next::Record(machine.id.clone(), peers),
            None if learner.healthy => Next::Change(EtcdChange::Promote(learner.id)),
            None => Next::Wait(format!("etcd on {} has not caught up yet", who(learner.ip))),
        };
    }
    add(machines, &voters)
}

/// How a member begins that was just added.
fn joined(members: &[EtcdMemberView]) -> EtcdMember {
    let mut peers: Vec<Ipv4Addr> = members.iter().filter_map(|member| member.ip).collect();
    peers.sort();
    EtcdMember { stage: EtcdStage::Joined, peers }
}

fn remove(member: &EtcdMemberView, voters: &[&EtcdMemberView]) -> Next {
    let rest: Vec<&&EtcdMemberView> = voters.iter().filter(|other| other.id != member.id).collect();
    let healthy = rest.iter().filter(|other| other.healthy).count();
    if healthy >= quorum(rest.len()) {
        return Next::Change(EtcdChange::Remove(member.id));
    }
    let ip = member.ip.map_or_else(|| "no address".to_owned(), |ip| ip.to_string());
    Next::Endangered(format!(
        "the member of etcd at {ip} has no machine any more, but only {healthy} of the other {} are well; it stays until \
         more are, or the cluster is restored from a backup",
        rest.len()
    ))
}

/// All members have machines and votes: somebody may be missing, or ill.
fn add(machines: &[&Machine], voters: &[&EtcdMemberView]) -> Next {
    let healthy = voters.iter().filter(|member| member.healthy).count();
    if let Some(machine) = machines.iter().find(|machine| machine.etcd().is_some_and(is_new)) {
        if healthy < quorum(voters.len()) {
            return Next::Wait(format!("{} of {} members of etcd are well", healthy, voters.len()));
        }
        return Next::Change(EtcdChange::Add(machine.ip));
    }
    let missing = machines.iter().find(|machine| !voters.iter().any(|member| member.ip == Some(machine.ip)));
    if let Some(machine) = missing {
        return Next::Wait(format!("{} is no member of etcd", title(machine)));
    }
    if healthy < voters.len() {
        return Next::Wait(format!("{healthy} of {} members of etcd are well", voters.len()));
    }
    Next::Nothing
}

#[cfg(test)]
#[path = "etcd_tests.rs"]
mod tests;
