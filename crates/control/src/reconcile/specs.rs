//! Tells a connected machine what to be, when that differs from what it is.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use sampan_agents::spec::{NodeSpec, NodeStatus, ProcessState};
use sampan_store::model::{Fault, Machine, MachineState, Outcome};
use tokio::time::Instant;

use super::{
    context::{Context, within},
    driver::Status,
    memory::Note,
    scope::Scope,
    settings::AGENT_CALL_MAX,
    turns,
};

/// An agent that was told the same spec before is given so long to put it in force.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends the machine's spec unless it is in force already.
pub(super) async fn push(ctx: &Context, scope: &Scope, machine: &Machine) -> Result<Status, Note> {
    let cluster_id = &scope.cluster.id;
    if ctx.memory.certificates_age(cluster_id, &scope.control_plane_ips()).is_none() {
        // The cluster's own controller wakes us when they are there.
        return Ok(Status::again(PATIENCE, "waits for the cluster's certificates"));
    }
    let topology = scope.topology();
    let spec = blueprint(ctx, scope, machine).await?;
    let hash = spec.hash();
    let status = within(AGENT_CALL_MAX, "asking the machine's agent", ctx.agents.status(&machine.id)).await?;
    if status.spec_hash == hash {
        let before = ctx.memory.with_machine(&machine.id, |memory| {
            memory.substance = Some(substance(&spec));
            memory.in_force.replace(topology)
        });
        if before != Some(topology) {
            ctx.wake_cluster(cluster_id);
        }
        return Ok(hint(machine, &status).map_or(Status::Settled, |hint| Status::again(PATIENCE, hint)));
    }
    let memory = ctx.memory.machine(&machine.id);
    let substance = substance(&spec);
    if memory.substance != Some(substance) {
        // More than its routes: its processes may have to be started again.
        turns::take(ctx, scope, machine).await?;
    }
    let is_underway = memory.sent.is_some_and(|(sent, at)| sent == hash && at.elapsed() < PATIENCE);
    if !is_underway {
        within(AGENT_CALL_MAX, "instructing the machine's agent", ctx.agents.put_spec(&machine.id, &spec)).await?;
        ctx.memory.with_machine(&machine.id, |memory| {
            memory.in_force = None;
            memory.sent = Some((hash, Instant::now()));
            memory.substance = Some(substance);
        });
    }
    Ok(Status::again(PATIENCE, "waits for the machine to become what it was told to be"))
}

/// A number for everything but the routes, which come and go with other machines.
fn substance(spec: &NodeSpec) -> u64 {
    let rest = NodeSpec { routes: Vec::new(), ..spec.clone() };
    BuildHasherDefault::<DefaultHasher>::default().hash_one(rest.hash())
}

async fn blueprint(ctx: &Context, scope: &Scope, machine: &Machine) -> Outcome<NodeSpec> {
    let others = scope.machines.iter().map(|other| &other.value).filter(|other| other.id != machine.id);
    let pool = machine.membership.as_ref().and_then(|member| member.node_pool_id.as_deref());
    match pool {
        None => {
            let nodes: Vec<Machine> = others.filter(|other| other.is_node_of(&scope.cluster.id)).cloned().collect();
            ctx.blueprints.control_plane(&scope.cluster, machine, &nodes).await
        }
        Some(pool_id) => {
            let missing = || Fault::unavailable(format!("the node pool {pool_id} of the machine is not recorded"));
            let pool = scope.pool(pool_id).ok_or_else(missing)?;
            let peers: Vec<Machine> = others.cloned().collect();
            ctx.blueprints.worker(&scope.cluster, &pool.seen_by(machine), machine, &peers).await
        }
    }
}

/// What the agent says is wrong, for a machine that is not in service yet.
fn hint(machine: &Machine, status: &NodeStatus) -> Option<String> {
    if machine.state == MachineState::Running && machine.not_ready_since.is_none() {
        return None;
    }
    let failing = status.processes.iter().find(|process| process.state == ProcessState::BackOff);
    let ended = failing.map(|process| {
        format!("{} ended: {}", process.name, process.last_exit.as_deref().unwrap_or("no reason known"))
    });
    ended.or_else(|| status.problems.first().cloned())
}
