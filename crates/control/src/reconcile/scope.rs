//! What one cluster consists of, read from the store in one go, and what follows from that alone.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use sampan_store::{
    Store, Versioned,
    model::{
        Cluster, ClusterState, Machine, MachineRole, MachineWanted, NodePool, Task, TaskState, TaskType, Timestamp,
    },
};

use super::lease::later;

/// A cluster and everything that belongs to it, as recorded.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) cluster: Arc<Versioned<Cluster>>,
    pub(super) machines: Vec<Arc<Versioned<Machine>>>,
    pub(super) pools: Vec<Arc<Versioned<NodePool>>>,
    pub(super) tasks: Vec<Arc<Versioned<Task>>>,
}

/// What shall become of a machine, all things considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Runs.
    Run,
    /// Stays as it is, for somebody to look at.
    Frozen,
    /// Goes.
    Go(Departure),
}

/// How a machine goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    /// Its record stays, in the inventory; else it is removed.
    pub(super) keep: bool,
    /// Its pods are evicted first.
    pub(super) drain: bool,
    /// Its node object is deleted first.
    pub(super) delete_node: bool,
}

/// How a cluster's life stands, which decides what is done about it at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Shall be as recorded.
    Alive,
    /// Nothing is done about it.
    Frozen,
    /// Its creation failed; what it holds is released.
    RolledBack,
    /// Goes away.
    Deleting,
    /// Is away; the record is kept for its log.
    Gone,
}

/// How the cluster's life stands.
pub(super) fn life(cluster: &Cluster) -> Life {
    match cluster.state {
        ClusterState::Deleted => Life::Gone,
        _ if cluster.deletion.is_some() => Life::Deleting,
        ClusterState::Failed if cluster.disable_rollback => Life::Frozen,
        ClusterState::Failed => Life::RolledBack,
        ClusterState::Stopped => Life::Frozen,
        _ => Life::Alive,
    }
}

/// What shall become of `machine`, a member of `cluster`.
pub(super) fn fate(cluster: &Cluster, machine: &Machine) -> Fate {
    let at_once = |keep| Fate::Go(Departure { keep, drain: false, delete_node: false });
    match life(cluster) {
        Life::Deleting | Life::Gone => at_once(machine.wanted == MachineWanted::Leave || is_retained(cluster, machine)),
        // Machines that were there before the cluster are given back as they were.
        Life::RolledBack => at_once(machine.created < cluster.created),
        Life::Frozen => Fate::Frozen,
        Life::Alive => {
            let is_worker = machine.membership.as_ref().is_some_and(|member| member.role == MachineRole::Worker);
            match machine.wanted {
                MachineWanted::Run => Fate::Run,
                MachineWanted::Leave | MachineWanted::Release | MachineWanted::Keep => Fate::Go(Departure {
                    keep: machine.wanted != MachineWanted::Release,
                    drain: machine.drain && is_worker,
                    delete_node: is_worker,
                }),
            }
        }
    }
}

/// Whether the deletion of the cluster leaves the machine in the inventory. The control plane's machine is nobody's.
fn is_retained(cluster: &Cluster, machine: &Machine) -> bool {
    let Some(deletion) = &cluster.deletion else { return false };
    let is_worker = machine.is_worker_of(&cluster.id);
    let named = |name: &String| *name == machine.id || *name == machine.instance_name;
    is_worker && (deletion.retain.all || deletion.retain.resources.iter().any(named))
}

impl Scope {
    pub(super) fn load(store: &Store, cluster_id: &str) -> Option<Self> {
        let cluster = store.get::<Cluster>(cluster_id)?;
        Some(Self {
            machines: store.list_of::<Machine>(cluster_id),
            pools: store.list_of::<NodePool>(cluster_id),
            tasks: store.list_of::<Task>(cluster_id),
            cluster,
        })
    }

    /// The control plane's machine.
    pub(super) fn control_plane(&self) -> Option<&Machine> {
        self.machines
            .iter()
            .map(|machine| &machine.value)
            .find(|machine| role(machine) == Some(MachineRole::ControlPlane))
    }

    /// Workers that shall run.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Machine> {
        self.machines
            .iter()
            .map(|machine| &machine.value)
            .filter(|machine| role(machine) == Some(MachineRole::Worker) && fate(&self.cluster, machine) == Fate::Run)
    }

    pub(super) fn pool(&self, id: &str) -> Option<&NodePool> {
        self.pools.iter().map(|pool| &pool.value).find(|pool| pool.id == id)
    }

    /// Tasks in progress.
    pub(super) fn running_tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().map(|task| &task.value).filter(|task| task.state == TaskState::Running)
    }

    /// The task that creates the cluster, while it is in progress.
    pub(super) fn creation(&self) -> Option<&Task> {
        self.running_tasks().find(|task| task.task_type == TaskType::ClusterCreate)
    }

    /// A number for everything that machines' specs and nodes' labels are made from; another number means that they have
    /// to be looked at again.
    pub(super) fn topology(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let cluster = &self.cluster;
        (life(cluster) as u8).hash(&mut hasher);
        let parts = (&cluster.network, &cluster.control_plane, &cluster.version, &cluster.tags, &cluster.addons);
        hash_json(&parts, &mut hasher);
        hash_json(&(&cluster.runtime_requested, &cluster.request), &mut hasher);
        for pool in &self.pools {
            let parts = (&pool.id, &pool.labels, &pool.taints, &pool.tags, &pool.cpu_policy, &pool.user_data);
            hash_json(&(parts, &pool.runtime_requested, &pool.request), &mut hasher);
        }
        for machine in &self.machines {
            hash_json(&(&machine.id, machine.ip, &machine.membership, &machine.tags), &mut hasher);
        }
        hasher.finish()
    }
}

fn hash_json(value: &impl serde::Serialize, hasher: &mut DefaultHasher) {
    // Plain data with string keys always serialises; if it did not, the spec would only be looked at once more.
    serde_json::to_string(value).unwrap_or_default().hash(hasher);
}

pub(super) fn role(machine: &Machine) -> Option<MachineRole> {
    machine.membership.as_ref().map(|member| member.role)
}

/// When the creation of the cluster must have ended.
pub(super) fn creation_deadline(cluster: &Cluster, task: Option<&Task>) -> Timestamp {
    let own = match cluster.timeout_minutes {
        0 => Timestamp::MAX,
        minutes => later(cluster.created, Duration::from_secs(60 * u64::from(minutes))),
    };
    task.map_or(own, |task| task.deadline.min(own))
}
