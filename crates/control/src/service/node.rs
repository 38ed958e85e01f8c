//! Nodes of a cluster: shown, and removed.

use std::{collections::HashSet, sync::Arc};

use sampan_store::{
    Page, Versioned,
    model::{
        Cluster, ClusterState, Fault, FaultKind, Level, Machine, MachineState, MachineWanted, NodePool, NodePoolState,
        Outcome, TaskType, new_task_id,
    },
};

use super::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
    cluster::ClusterTask,
    event::Paging,
    fields, node_pool, task,
};

/// Which nodes are wanted.
#[derive(Clone, Debug, Default)]
pub struct NodeFilter {
    /// Only these instances.
    pub instance_ids: Vec<String>,
    /// Only nodes with these names.
    pub node_names: Vec<String>,
    /// Only nodes with these addresses.
    pub node_ips: Vec<String>,
    /// Only nodes of this pool.
    pub node_pool_id: Option<String>,
    /// `all` (default), `running`, `removing`, `initial`, `failed`.
    pub state: Option<String>,
}

/// Nodes to be removed.
#[derive(Clone, Debug, Default)]
pub struct NodesRemove {
    /// Node names or instance ids.
    pub nodes: Vec<String>,
    /// Evict their pods first.
    pub drain: bool,
    /// Destroy their machines; else these go back to the inventory.
    pub release: bool,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// Most nodes that one request removes.
const NODES_PER_REQUEST_MAX: usize = 500;

impl Service {
    /// Nodes of a cluster, oldest first. A managed cluster's control plane is not among them.
    ///
    /// # Errors
    /// ClusterNotFound; InvalidParameter of `state`.
    pub fn nodes(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        filter: &NodeFilter,
        paging: Paging,
    ) -> Outcome<Page<Arc<Versioned<Machine>>>> {
        let cluster = self.cluster(ctx, cluster_id)?;
        let state = fields::given(&filter.state).unwrap_or("all");
        fields::one_of("state", state, &["all", "running", "removing", "initial", "failed"])?;
        let mut machines = self.store.list_of::<Machine>(&cluster.id);
        machines
            .retain(|m| m.is_node_of(&cluster.id) && matches(m, filter) && (state == "all" || state_word(m) == state));
        machines.sort_by_key(|machine| (machine.created, machine.ip));
        Ok(paging.cut(machines))
    }

    /// Removes workers from a cluster. Nodes that are leaving already are left to the task that removes them.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, DeletionProtected, and InvalidParameter of `nodes`.
    pub async fn nodes_remove(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        input: &NodesRemove,
    ) -> Outcome<ClusterTask> {
        self.cluster(ctx, cluster_id)?;
        let names: Vec<&str> = input.nodes.iter().map(|n| n.trim()).filter(|n| !n.is_empty()).collect();
        if names.is_empty() {
            return Err(Fault::missing("nodes"));
        }
        if names.len() > NODES_PER_REQUEST_MAX {
            return Err(Fault::invalid(
                "nodes",
                format!("nodes: {} are given; at most {NODES_PER_REQUEST_MAX} are allowed", names.len()),
            ));
        }
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let found = find(change, &cluster, &names)?;
            let staying: Vec<_> = found.iter().filter(|m| m.wanted == MachineWanted::Run).cloned().collect();
            if staying.is_empty() {
                let task = found.iter().find_map(|m| m.removal_task_id.clone());
                return task.map(|task_id| ClusterTask { cluster_id: cluster.id.clone(), task_id }).ok_or_else(|| {
                    Fault::state("these nodes are leaving the cluster already")
                });
            }
            if cluster.instance_deletion_protection && input.release {
                return Err(Fault::new(
                    FaultKind::DeletionProtected,
                    "the cluster's instances are protected from being released; set instance_deletion_protection to false, or release_node to false",
                ));
            }
            if input.release {
                refuse_prepaid(change, &staying)?;
            }
            Ok(self.plan_removal(change, &cluster, &staying, input))
        })
        .await
    }

    pub(super) fn plan_removal(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        machines: &[Arc<Versioned<Machine>>],
        input: &NodesRemove,
    ) -> ClusterTask {
        let task_id = new_task_id();
        let mut pools = HashSet::new();
        for machine in machines {
            let leaving = Machine {
                wanted: if input.release { MachineWanted::Release } else { MachineWanted::Leave },
                // The containers of a Swarm cluster are the cluster's to move.
                drain: input.drain || cluster.is_swarm(),
                removal_task_id: Some(task_id.clone()),
                state: MachineState::Removing,
                ..machine.value.clone()
            };
            change.update(machine, &leaving);
            pools.extend(machine.membership.as_ref().and_then(|m| m.node_pool_id.clone()));
        }
        for pool in pools.iter().filter_map(|id| change.store.get::<NodePool>(id)) {
            change
                .update(&pool, &NodePool { state: NodePoolState::Removing, updated: change.now, ..pool.value.clone() });
        }
        let scaling = Cluster { state: ClusterState::Scaling, updated: change.now, ..cluster.value.clone() };
        change.update(cluster, &scaling);
        let names: Vec<&str> =
            machines.iter().filter_map(|m| m.membership.as_ref().map(|s| s.node_name.as_str())).collect();
        let text = format!("Start to remove {} nodes from cluster {}: {}", names.len(), cluster.name, names.join(", "));
        change.event(About::Cluster(&cluster.id), TaskType::ClusterNodeDelete, Level::Info, "Started", text);
        let notices: Vec<Notice> = Notice::unknown_fields(&input.unknown_fields).into_iter().collect();
        change.notices(About::Cluster(&cluster.id), TaskType::ClusterNodeDelete, &notices);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: TaskType::ClusterNodeDelete,
            stages: &task::REMOVE_STAGES,
            resources: machines.iter().map(|m| m.id.clone()).collect(),
            node_pool_id: None,
            deadline_minutes: self.settings.task_timeout_minutes,
            done: false,
        });
        ClusterTask { cluster_id: cluster.id.clone(), task_id }
    }
}

/// The workers with these names or ids, each once.
fn find(change: &Change<'_>, cluster: &Cluster, names: &[&str]) -> Outcome<Vec<Arc<Versioned<Machine>>>> {
    let nodes: Vec<_> =
        change.store.list_of::<Machine>(&cluster.id).into_iter().filter(|m| m.is_node_of(&cluster.id)).collect();
    let mut found: Vec<Arc<Versioned<Machine>>> = Vec::with_capacity(names.len());
    for name in names {
        let is_it =
            |m: &&Arc<Versioned<Machine>>| m.id == *name || m.membership.as_ref().is_some_and(|s| s.node_name == *name);
        let machine = nodes.iter().find(is_it).ok_or_else(|| {
            Fault::invalid(
                "nodes",
                format!("nodes: the cluster has no worker node {name:?}; give node names or instance ids"),
            )
        })?;
        if machine.is_control_plane_of(&cluster.id) {
            let text = format!(
                "nodes: {name:?} is a master; masters stay as long as their cluster, and one that is lost is replaced"
            );
            return Err(Fault::invalid("nodes", text));
        }
        if !found.iter().any(|f| f.id == machine.id) {
            found.push(Arc::clone(machine));
        }
    }
    Ok(found)
}

pub(super) fn refuse_prepaid(change: &Change<'_>, machines: &[Arc<Versioned<Machine>>]) -> Outcome<()> {
    for machine in machines {
        let pool = machine
            .membership
            .as_ref()
            .and_then(|m| m.node_pool_id.as_deref())
            .and_then(|id| change.store.get::<NodePool>(id));
        if pool.is_some_and(|pool| node_pool::charge_type(&pool) == "PrePaid") {
            let text = format!(
                "release_node must be false for prepaid instances such as {}; they cannot be released at the same time",
                machine.id
            );
            return Err(Fault::invalid("release_node", text));
        }
    }
    Ok(())
}

fn matches(machine: &Machine, filter: &NodeFilter) -> bool {
    let among = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|w| w == value);
    let membership = machine.membership.as_ref();
    among(&filter.instance_ids, &machine.id)
        && among(&filter.node_names, membership.map_or("", |m| &m.node_name))
        && among(&filter.node_ips, &machine.ip.to_string())
        && fields::given(&filter.node_pool_id)
            .is_none_or(|id| membership.and_then(|m| m.node_pool_id.as_deref()) == Some(id))
}

/// The word by which the list of nodes filters.
fn state_word(machine: &Machine) -> &'static str {
    match (machine.wanted, machine.state) {
        (MachineWanted::Leave | MachineWanted::Release | MachineWanted::Reset, _) | (_, MachineState::Removing) => {
            "removing"
        }
        (_, MachineState::Pending | MachineState::Starting | MachineState::Kept) => "initial",
        // The filter has no word for a node that is off with its cluster: it is in service once the cluster is.
        (_, MachineState::Running | MachineState::Stopped) => "running",
        (_, MachineState::Failed) => "failed",
    }
}
