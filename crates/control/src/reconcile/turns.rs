//! A control plane of several machines is disturbed one machine at a time, and never when that would cost the quorum.

use std::time::Duration;

use sampan_store::model::{Machine, MachineState};

use super::{
    context::{Context, engine},
    memory::Note,
    scope::{Fate, Life, Scope, fate, life},
};
use crate::kubernetes::ETCD_VOLUME;

/// A machine that was just disturbed may still look as if it were in service.
const TURN_MIN: Duration = Duration::from_secs(5);
/// A machine that does not come back holds up the others no longer than this; the quorum still counts.
const TURN_MAX: Duration = Duration::from_secs(300);

/// Asks for leave to restart the machine or what runs on it. Machines that are no part of such a control plane need none.
///
/// # Errors
/// A note that says who is waited for.
pub(super) async fn take(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<(), Note> {
    let is_part = machine.is_etcd_member();
    if !is_part || scope.cluster.first_running.is_none() || are_down_together(scope, machine) {
        return Ok(());
    }
    let cluster_id = &scope.cluster.id;
    let _one_asks = ctx.memory.lock(&format!("turn/{cluster_id}")).await;
    // Read anew: who had a turn before has been noted since.
    let Some(now) = Scope::load(&ctx.store, cluster_id) else { return Ok(()) };
    let others = others(&now, machine);
    let serving = others.iter().filter(|other| in_service(other)).count();
    let own = usize::from(in_service(machine));
    let needed = quorum(others.len() + 1);
    if own == 1 && !others.is_empty() && serving < needed {
        let text = format!("waits until more than {serving} other machines of the control plane are in service");
        return Err(Note::waiting(text));
    }
    // Where there is no quorum, as after a power cut, there is nothing to take care of: all may start at once.
    let has_quorum = serving + own >= needed;
    let holder = ctx.memory.turn(cluster_id).filter(|(holder, _)| has_quorum && *holder != machine.id);
    if let Some((holder, age)) = holder {
        let is_back =
            now.control_planes().iter().find(|other| other.id == holder).is_none_or(|other| in_service(other));
        if age < TURN_MIN || !is_back && age < TURN_MAX {
            let text = format!("waits until machine {holder} is in service again: one at a time");
            return Err(Note::waiting(text));
        }
    }
    ctx.memory.set_turn(cluster_id, &machine.id);
    Ok(())
}

/// Whether nobody's turn has to be awaited: all members of a cluster that was stopped, or is put back to a backup, come up at
/// the same time. Each would wait for a quorum that there is only with the others.
fn are_down_together(scope: &Scope, machine: &Machine) -> bool {
    let is_starting = scope.cluster.power.is_some() && !in_service(machine);
    machine.state == MachineState::Stopped || is_starting || life(&scope.cluster) == Life::Restoring
}

/// Whether the rest can do without what is on the machine. Workers are always replaced, the only machine of a control plane
/// never.
pub(super) fn could_be_replaced(scope: &Scope, machine: &Machine) -> bool {
    if !machine.is_control_plane_of(&scope.cluster.id) {
        return true;
    }
    let others = others(scope, machine);
    machine.etcd().is_some() && others.iter().filter(|other| in_service(other)).count() >= quorum(others.len() + 1)
}

/// Whether a machine that has vanished took its part of etcd with it. A member must not start with another disk than it
/// had: it would have forgotten what it has voted for.
pub(super) async fn has_lost_its_data(ctx: &Context, machine: &Machine) -> Result<bool, Note> {
    if !machine.is_etcd_member() {
        return Ok(false);
    }
    let volume = format!("{}-{ETCD_VOLUME}", ctx.names.machine(&machine.id));
    let inventory = engine("looking for the machine's disks", ctx.provider.inventory()).await?;
    Ok(!inventory.volumes.contains(&volume))
}

/// The other machines on which etcd may run.
fn others<'a>(scope: &'a Scope, machine: &Machine) -> Vec<&'a Machine> {
    let mut all = scope.control_planes();
    all.retain(|other| {
        let is_member = other.is_etcd_member();
        other.id != machine.id && is_member && fate(&scope.cluster, other) == Fate::Run
    });
    all
}

fn in_service(machine: &Machine) -> bool {
    machine.state == MachineState::Running && machine.not_ready_since.is_none()
}

/// More than half.
pub(super) fn quorum(members: usize) -> usize {
    members / 2 + 1
}
