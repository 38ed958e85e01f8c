//! RepairClusterNodePool: nodes that are not in service are restarted, and replaced if that does not help.

use std::sync::Arc;

use sampan_store::{
    Versioned,
    model::{
        Fault, Level, Machine, MachineState, MachineWanted, NodePool, NodePoolState, Outcome, RepairOrder, TaskType,
        new_task_id,
    },
};

use crate::service::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
    cluster::ClusterTask,
    task,
};

/// Most nodes that one request names.
const NODES_PER_REQUEST_MAX: usize = 500;

/// Nodes to be repaired.
#[derive(Clone, Debug, Default)]
pub struct NodePoolRepair {
    /// Node names or instance ids; none: all of the pool.
    pub nodes: Vec<String>,
    /// `auto_restart`: whether nodes may be started again.
    pub may_restart: Option<bool>,
    /// The request names single steps.
    pub has_operations: bool,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

impl Service {
    /// Has those of the nodes that are not in service repaired. Nodes that are well are left alone.
    ///
    /// # Errors
    /// ClusterNotFound, NotFound for the pool, ClusterState, InvalidParameter of `nodes`.
    pub async fn node_pool_repair(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        pool_id: &str,
        input: &NodePoolRepair,
    ) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        if input.may_restart == Some(false) {
            let text = "auto_restart must be true: nodes are repaired by being started again";
            return Err(Fault::invalid("auto_restart", text));
        }
        let names: Vec<&str> = input.nodes.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        if names.len() > NODES_PER_REQUEST_MAX {
            let text = format!("nodes: {} are given; at most {NODES_PER_REQUEST_MAX} are allowed", names.len());
            return Err(Fault::invalid("nodes", text));
        }
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let pool = change.living_pool(&cluster, pool_id)?;
            let meant = meant(&pool, &change.members(&pool), &names)?;
            change.rely_on(&cluster);
            Ok(self.plan_repair(change, &pool, &meant, input))
        })
        .await
    }

    fn plan_repair(
        &self,
        change: &mut Change<'_>,
        pool: &Versioned<NodePool>,
        meant: &[Arc<Versioned<Machine>>],
        input: &NodePoolRepair,
    ) -> ClusterTask {
        let task_id = new_task_id();
        let (ill, well): (Vec<_>, Vec<_>) = meant.iter().partition(|machine| is_ill(machine));
        for machine in &ill {
            let order = RepairOrder { task_id: task_id.clone(), restarted: false };
            change.update(machine, &Machine { repair: Some(order), ..machine.value.clone() });
        }
        let about = About::NodePool { cluster_id: &pool.cluster_id, id: &pool.id };
        let text = format!("Start to repair {} of {} nodes of node pool {}", ill.len(), meant.len(), pool.name);
        change.event(about, TaskType::NodepoolRepair, Level::Info, "Started", text);
        let mut notices: Vec<Notice> = Notice::unknown_fields(&input.unknown_fields).into_iter().collect();
        if input.has_operations {
            let text = "recorded without effect: operations (nodes are restarted, and replaced if that does not help)";
            notices.push(Notice::new("NotApplied", text));
        }
        if !well.is_empty() {
            let text = format!("nothing is repaired where nothing is broken: {}", names_of(&well));
            notices.push(Notice::new("NothingToRepair", text));
        }
        change.notices(about, TaskType::NodepoolRepair, &notices);
        let done = ill.is_empty();
        change.task(NewTask {
            id: &task_id,
            cluster_id: &pool.cluster_id,
            task_type: TaskType::NodepoolRepair,
            stages: &task::REPAIR_STAGES,
            resources: meant.iter().map(|machine| node_name(machine).to_owned()).collect(),
            node_pool_id: Some(pool.id.clone()),
            deadline_minutes: self.settings.task_timeout_minutes,
            done,
        });
        if done {
            change.event(about, TaskType::NodepoolRepair, Level::Info, "Succeeded", "All nodes are in service");
            change.rely_on(pool);
        } else {
            let updating = NodePool { state: NodePoolState::Updating, updated: change.now, ..pool.value.clone() };
            change.update(pool, &updating);
        }
        ClusterTask { cluster_id: pool.cluster_id.clone(), task_id }
    }
}

/// Whether the node should be in service, and is not.
fn is_ill(machine: &Machine) -> bool {
    let serves = machine.node_status.as_deref() == Some("Ready") && machine.not_ready_since.is_none();
    match machine.state {
        MachineState::Failed => true,
        MachineState::Running => !serves,
        _ => false,
    }
}

fn node_name(machine: &Machine) -> &str {
    machine.membership.as_ref().map_or(machine.id.as_str(), |member| member.node_name.as_str())
}

fn names_of(machines: &[&Arc<Versioned<Machine>>]) -> String {
    machines.iter().map(|machine| node_name(machine)).collect::<Vec<_>>().join(", ")
}

/// The machines that are meant: those with these names or ids, else all that stay and are not being repaired.
fn meant(
    pool: &NodePool,
    members: &[Arc<Versioned<Machine>>],
    names: &[&str],
) -> Outcome<Vec<Arc<Versioned<Machine>>>> {
    if names.is_empty() {
        let free =
            |machine: &&Arc<Versioned<Machine>>| machine.wanted == MachineWanted::Run && machine.repair.is_none();
        return Ok(members.iter().filter(free).cloned().collect());
    }
    let mut found: Vec<Arc<Versioned<Machine>>> = Vec::with_capacity(names.len());
    for name in names {
        let machine = members.iter().find(|machine| machine.id == *name || node_name(machine) == *name);
        let machine = machine.ok_or_else(|| {
            let text = format!("nodes: node pool {} has no node {name:?}; give node names or instance ids", pool.name);
            Fault::invalid("nodes", text)
        })?;
        if machine.wanted != MachineWanted::Run {
            return Err(Fault::state(format!("node {name} is leaving the cluster and cannot be repaired")));
        }
        if let Some(order) = &machine.repair {
            return Err(Fault::state(format!("node {name} is being repaired by task {}", order.task_id)));
        }
        if !found.iter().any(|other| other.id == machine.id) {
            found.push(Arc::clone(machine));
        }
    }
    Ok(found)
}
