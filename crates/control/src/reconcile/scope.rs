//! What one cluster consists of, read from the store in one go, and what follows from that alone.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use sampan_store::{
    Store, Versioned,
    model::{
        Cluster, ClusterState, Halted, Machine, MachineRole, MachineWanted, NodePool, Task, TaskState, TaskType,
        Timestamp,
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
    /// Does not run, but stays what it is: its cluster is off, goes off or comes up.
    Halt,
    /// Goes.
    Go(Departure),
}

/// How a machine goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    /// Its record stays, in the inventory; else it is removed.
    pub(super) keep: bool,
    /// It is a member again at once, as a machine that has never been one.
    pub(super) rejoin: bool,
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
    /// Goes off, part by part.
    Stopping,
    /// Is off.
    Stopped,
    /// Shall be as recorded, but its API is down: it is put back to a backup.
    Restoring,
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
        ClusterState::Stopped => Life::Stopped,
        _ if cluster.power.as_ref().is_some_and(|power| power.stop) => Life::Stopping,
        _ if cluster.restore.is_some() => Life::Restoring,
        _ => Life::Alive,
    }
}

/// What shall become of `machine`, a member of `cluster`.
pub(super) fn fate(cluster: &Cluster, machine: &Machine) -> Fate {
    let at_once = |keep| Fate::Go(Departure { keep, rejoin: false, drain: false, delete_node: false });
    match life(cluster) {
        Life::Deleting | Life::Gone => at_once(machine.wanted == MachineWanted::Leave || is_retained(cluster, machine)),
        // Machines that were there before the cluster are given back as they were.
        Life::RolledBack => at_once(machine.created < cluster.created || machine.source == "ess_attach"),
        Life::Frozen => Fate::Frozen,
        Life::Stopped => Fate::Halt,
        Life::Alive | Life::Stopping | Life::Restoring => {
            let is_node = machine.membership.as_ref().is_some_and(|member| member.role.is_node());
            match machine.wanted {
                MachineWanted::Run if is_halted(cluster, machine) => Fate::Halt,
                MachineWanted::Run => Fate::Run,
                wanted => Fate::Go(Departure {
                    keep: wanted != MachineWanted::Release,
                    rejoin: wanted == MachineWanted::Reset,
                    drain: machine.drain && is_node,
                    delete_node: is_node,
                }),
            }
        }
    }
}

/// Whether the machine is among those that shall not run now. A master goes with the control plane: it is a part of it.
fn is_halted(cluster: &Cluster, machine: &Machine) -> bool {
    let is_worker = role(machine) == Some(MachineRole::Worker);
    cluster.power.as_ref().is_some_and(|power| match power.halted {
        Halted::Workers => is_worker,
        Halted::All => true,
    })
}

/// Whether the deletion of the cluster leaves the machine in the inventory. A hidden control plane's machine is nobody's.
fn is_retained(cluster: &Cluster, machine: &Machine) -> bool {
    let Some(deletion) = &cluster.deletion else { return false };
    let is_node = machine.is_node_of(&cluster.id);
    let named = |name: &String| *name == machine.id || *name == machine.instance_name;
    is_node && (deletion.retain.all || deletion.retain.resources.iter().any(named))
}

impl Scope {
    pub(super) fn load(store: &Store, cluster_id: &str) -> Option<Self> {
        let cluster = store.get::<Cluster>(cluster_id)?;
        // Tasks first: one whose machines are not seen yet would seem to be done.
        let tasks = store.list_of::<Task>(cluster_id);
        Some(Self {
            machines: store.list_of::<Machine>(cluster_id),
            pools: store.list_of::<NodePool>(cluster_id),
            tasks,
            cluster,
        })
    }

    /// All machines of the control plane, the oldest first; those that leave are among them.
    pub(super) fn control_planes(&self) -> Vec<&Machine> {
        let all = self.machines.iter().map(|machine| &machine.value);
        let mut found: Vec<&Machine> = all.filter(|machine| machine.is_control_plane_of(&self.cluster.id)).collect();
        found.sort_by_key(|machine| (machine.created, machine.ip));
        found
    }

    /// Those that shall run.
    pub(super) fn running_control_planes(&self) -> Vec<&Machine> {
        let mut found = self.control_planes();
        found.retain(|machine| fate(&self.cluster, machine) == Fate::Run);
        found
    }

    /// Addresses of the control plane: what its certificates name. A successor has its predecessor's.
    pub(super) fn control_plane_ips(&self) -> Vec<Ipv4Addr> {
        let mut ips: Vec<Ipv4Addr> = self.control_planes().iter().map(|machine| machine.ip).collect();
        ips.sort();
        ips.dedup();
        ips
    }

    /// Whether its etcd has several members, or shall have.
    pub(super) fn is_highly_available(&self) -> bool {
        self.control_planes().iter().any(|machine| machine.etcd().is_some())
    }

    /// Nodes that shall run: workers and masters.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Machine> {
        self.machines.iter().map(|machine| &machine.value).filter(|machine| {
            role(machine).is_some_and(MachineRole::is_node) && fate(&self.cluster, machine) == Fate::Run
        })
    }

    /// Workers that shall run.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Machine> {
        self.nodes().filter(|machine| role(machine) == Some(MachineRole::Worker))
    }

    /// Whether the machine was emptied and is being upgraded.
    pub(super) fn has_turn(&self, machine_id: &str) -> bool {
        let turns = self.cluster.upgrade.iter().flat_map(|upgrade| &upgrade.turns);
        turns.into_iter().any(|turn| turn.switched && turn.machine_id == machine_id)
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
        // The version of a Swarm cluster is what was seen of it, and decides nothing.
        let version = (!cluster.is_swarm()).then_some(&cluster.version);
        let parts = (&cluster.network, &cluster.control_plane, version, &cluster.tags, &cluster.addons);
        hash_json(&parts, &mut hasher);
        hash_json(&(&cluster.runtime_requested, &cluster.request), &mut hasher);
        let restore = cluster.restore.as_ref().map(|restore| (&restore.task_id, restore.phase, &restore.sha256));
        hash_json(&(&cluster.power, restore, cluster.restores), &mut hasher);
        for pool in &self.pools {
            let parts = (&pool.id, &pool.labels, &pool.taints, &pool.tags, &pool.cpu_policy, &pool.user_data);
            hash_json(&(parts, &pool.runtime_requested, &pool.request), &mut hasher);
        }
        for machine in &self.machines {
            hash_json(&(&machine.id, machine.ip, &machine.membership, &machine.tags), &mut hasher);
            // Not the script of the first boot: it can be long, and changes only with the pool's.
            let pinned = machine.pinned.as_ref().map(|own| (&own.labels, &own.taints, &own.tags, &own.cpu_policy));
            hash_json(&(pinned, &machine.retired), &mut hasher);
            // The master is told who leaves, and moves what runs there.
            hash_json(&cluster.is_swarm().then_some(machine.wanted), &mut hasher);
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const GO: Departure = Departure { keep: false, rejoin: false, drain: false, delete_node: false };

    /// A managed cluster in that state.
    pub(in crate::reconcile) fn cluster(state: &str) -> Cluster {
        serde_json::from_value(serde_json::json!({
            "id": "c1", "account_id": "1", "name": "n", "region_id": "r", "zone_id": "z",
            "cluster_type": "ManagedKubernetes", "spec": "ack.standard", "state": state,
            "created": "2024-01-01T00:00:00Z", "updated": "2024-01-01T00:00:00Z",
            "init_version": "1.36.3", "version": "1.36.3", "timeout_minutes": 60, "creation_task_id": "T-1",
            "network": {
                "vpc_id": "vpc-1", "vswitch_ids": [], "security_group_id": "sg-1", "pod_cidr": "172.20.0.0/16",
                "service_cidr": "172.21.0.0/20", "node_cidr_mask": 25, "dns_ip": "172.21.0.10", "api_vip": "10.200.15.1",
                "api_public_port": null, "cluster_domain": "cluster.local", "proxy_mode": "ipvs",
                "api_load_balancer_id": "lb-1",
            },
        }))
        .expect("a cluster")
    }

    fn machine(role: &str, wanted: &str) -> Machine {
        serde_json::from_value(serde_json::json!({
            "id": "i-1", "account_id": "1", "region_id": "r", "zone_id": "z", "vpc_id": "vpc-1", "vswitch_id": "vsw-1",
            "ip": "10.200.0.5", "mac": "02:00:00:00:00:01", "instance_type": "t", "instance_name": "worker-1",
            "source": "ess", "created": "2024-01-01T00:00:00Z", "wanted": wanted, "state": "running", "drain": true,
            "membership": {"cluster_id": "c1", "node_pool_id": "np1", "role": role, "node_name": "r.10.200.0.5",
                "pod_cidr": null, "task_id": "T-1"},
        }))
        .expect("a machine")
    }

    fn deleting(retain: serde_json::Value) -> Cluster {
        let deletion = serde_json::json!({"task_id": "T-2", "requested": "2024-01-02T00:00:00Z", "retain": retain});
        Cluster { deletion: Some(serde_json::from_value(deletion).expect("a deletion")), ..cluster("running") }
    }

    #[test]
    fn fates_in_a_cluster_that_lives() {
        for state in ["initial", "running", "scaling", "updating", "updating_failed"] {
            assert_eq!(fate(&cluster(state), &machine("Worker", "Run")), Fate::Run, "{state}");
        }
        let gone = |keep| Fate::Go(Departure { keep, rejoin: false, drain: true, delete_node: true });
        assert_eq!(fate(&cluster("running"), &machine("Worker", "Release")), gone(false));
        assert_eq!(fate(&cluster("running"), &machine("Worker", "Leave")), gone(true));
        let reset = Fate::Go(Departure { keep: true, rejoin: true, drain: true, delete_node: true });
        assert_eq!(fate(&cluster("running"), &machine("Worker", "Reset")), reset);
        assert_eq!(fate(&cluster("running"), &machine("ControlPlane", "Release")), Fate::Go(GO));
    }

    #[test]
    fn fates_in_a_cluster_that_goes_off_and_comes_up() {
        let check = |state: &str, stop: bool, halted: &str, expected: [Fate; 2], life_expected: Life| {
            let power = serde_json::json!({"stop": stop, "task_id": "T-3", "requested": "2024-01-02T00:00:00Z", "halted": halted});
            let cluster = Cluster { power: Some(serde_json::from_value(power).expect("a power")), ..cluster(state) };
            let fates = ["Worker", "ControlPlane"].map(|role| fate(&cluster, &machine(role, "Run")));
            assert_eq!((fates, life(&cluster)), (expected, life_expected), "{state} {stop} {halted}");
            let deleted = Cluster {
                deletion: deleting(serde_json::json!({"all": false, "load_balancer": false, "resources": []})).deletion,
                ..cluster
            };
            assert_eq!(fate(&deleted, &machine("Worker", "Run")), Fate::Go(GO), "a deletion goes before it");
        };
        check("updating", true, "workers", [Fate::Halt, Fate::Run], Life::Stopping);
        check("updating", true, "all", [Fate::Halt, Fate::Halt], Life::Stopping);
        check("stopped", true, "all", [Fate::Halt, Fate::Halt], Life::Stopped);
        check("updating", false, "workers", [Fate::Halt, Fate::Run], Life::Alive);
    }

    #[test]
    fn fates_after_a_failed_creation() {
        let failed = cluster("failed");
        assert_eq!(fate(&failed, &machine("Worker", "Run")), Fate::Go(GO));
        let older = Machine { created: "2023-12-31T00:00:00Z".parse().expect("a time"), ..machine("Worker", "Run") };
        assert_eq!(fate(&failed, &older), Fate::Go(Departure { keep: true, ..GO }), "given back");
        let attached = Machine { source: "ess_attach".into(), ..machine("Worker", "Run") };
        assert_eq!(fate(&failed, &attached), Fate::Go(Departure { keep: true, ..GO }), "given back");
        let kept = Cluster { disable_rollback: true, ..failed };
        assert_eq!(fate(&kept, &machine("Worker", "Run")), Fate::Frozen);
    }

    #[test]
    fn fates_in_a_cluster_that_goes() {
        let check = |retain: serde_json::Value, role: &str, wanted: &str, keep: bool| {
            let fate = fate(&deleting(retain.clone()), &machine(role, wanted));
            assert_eq!(fate, Fate::Go(Departure { keep, ..GO }), "{retain} {role} {wanted}");
        };
        let retain = |all: bool, resources: &[&str]| serde_json::json!({"all": all, "load_balancer": false, "resources": resources});
        check(retain(false, &[]), "Worker", "Run", false);
        check(retain(false, &[]), "Worker", "Leave", true);
        check(retain(false, &[]), "Worker", "Reset", false);
        check(retain(true, &[]), "Worker", "Run", true);
        check(retain(true, &[]), "ControlPlane", "Run", false);
        check(retain(false, &["i-1"]), "Worker", "Run", true);
        check(retain(false, &["worker-1"]), "Worker", "Run", true);
        check(retain(false, &["i-1"]), "ControlPlane", "Run", false);
        check(retain(false, &["i-2"]), "Worker", "Run", false);
        let gone = Cluster { state: ClusterState::Deleted, ..deleting(retain(false, &[])) };
        assert_eq!(life(&gone), Life::Gone);
    }

    #[test]
    fn a_creation_ends_at_the_earlier_of_two_deadlines() {
        let (mut cluster, at) = (cluster("initial"), |text: &str| text.parse::<Timestamp>().expect("a time"));
        assert_eq!(creation_deadline(&cluster, None), at("2024-01-01T01:00:00Z"));
        cluster.timeout_minutes = 0;
        assert_eq!(creation_deadline(&cluster, None), Timestamp::MAX);
    }
}
