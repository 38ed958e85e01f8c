//! What users see, computed from what is recorded and what was observed. Pure: [`assess`] takes both and says how the
//! records shall be.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sampan_store::model::{
    Cluster, ClusterState, Level, Machine, MachineRole, MachineState, NodePool, NodePoolState, Task, TaskState,
    TaskType, Timestamp,
};

use super::{
    conditions,
    journal::Journal,
    machines::title,
    memory::Note,
    nodes, power, progress, repair, repairs,
    scope::{Fate, Scope, creation_deadline, fate, role},
    upgrade,
};
use crate::ports::{ComponentView, NodeReadiness, NodeView};

/// How far a part of a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// As wanted.
    Done,
    /// In progress; says what is waited for.
    Waiting(String),
    /// Not begun, because something else must be first.
    Blocked(String),
    /// Can never be.
    Refused(String),
}

impl Step {
    /// The first of several that is not done.
    pub(super) fn all(steps: impl IntoIterator<Item = Self>) -> Self {
        steps.into_iter().find(|step| *step != Self::Done).unwrap_or(Self::Done)
    }

    pub(super) fn message(&self) -> &str {
        match self {
            Self::Done => "",
            Self::Waiting(message) | Self::Blocked(message) | Self::Refused(message) => message,
        }
    }
}

/// What was observed of a cluster.
pub(super) struct Facts {
    pub(super) now: Timestamp,
    pub(super) network: Step,
    pub(super) certificates: Step,
    pub(super) api: Step,
    /// Machines whose API servers serve everybody.
    pub(super) api_ready: HashSet<String>,
    /// Done when each machine of the control plane is a member of etcd, and well.
    pub(super) etcd: Step,
    pub(super) components: Step,
    pub(super) endpoint: Step,
    /// The nodes; `None` when they could not be listed.
    pub(super) nodes: Option<Vec<NodeView>>,
    /// Machines whose nodes have their labels and taints.
    pub(super) settled: HashSet<String>,
    /// Machines whose agents are connected.
    pub(super) connected: HashSet<String>,
    /// Machines that are what the present records say.
    pub(super) in_force: HashSet<String>,
    /// What hinders machines.
    pub(super) notes: BTreeMap<String, Note>,
    /// Troubles of the cluster itself.
    pub(super) troubles: Vec<Note>,
    /// Troubles that users were told of.
    pub(super) announced: BTreeSet<String>,
    /// Authorities whose end is near.
    pub(super) ending: Vec<(String, Timestamp)>,
    /// How the parts behind the API are, if they could be looked at.
    pub(super) components_seen: Option<Vec<ComponentView>>,
}

/// How the records shall be.
pub(super) struct Verdict {
    pub(super) cluster: Cluster,
    pub(super) machines: Vec<Machine>,
    pub(super) pools: Vec<NodePool>,
    /// Pools that have done their time.
    pub(super) pools_gone: Vec<String>,
    pub(super) tasks: Vec<Task>,
    pub(super) journal: Journal,
    pub(super) announced: BTreeSet<String>,
    /// What is waited for, if anything.
    pub(super) waiting: Option<String>,
}

/// Compares and decides. Only for clusters that are alive.
pub(super) fn assess(scope: &Scope, facts: &Facts) -> Verdict {
    let mut journal = Journal::of(&scope.cluster, facts.now);
    let announced = announce(facts, &mut journal);
    let machines: Vec<Machine> =
        scope.machines.iter().map(|machine| observe(scope, machine, facts, &mut journal)).collect();
    let (pools_gone, pools) = pools(scope, &machines, facts.now);
    let mut verdict = Verdict {
        cluster: scope.cluster.value.clone(),
        machines,
        pools,
        pools_gone,
        tasks: Vec::new(),
        journal,
        announced,
        waiting: None,
    };
    if scope.cluster.is_swarm() {
        note_engines(facts, &mut verdict.cluster);
    }
    if scope.cluster.first_running.is_none() {
        create(scope, facts, &mut verdict);
    } else {
        change(scope, facts, &mut verdict);
    }
    conditions::note(scope, facts, &mut verdict);
    if verdict.cluster.state != scope.cluster.state || verdict.cluster.state_reason != scope.cluster.state_reason {
        verdict.cluster.updated = facts.now;
    }
    verdict
}

/// Which Docker a Swarm cluster has is only seen: its nodes bring it.
fn note_engines(facts: &Facts, cluster: &mut Cluster) {
    let versions = facts.nodes.iter().flatten().map(|node| &node.kubelet_version);
    let Some(newest) = versions.filter(|version| !version.is_empty()).max() else { return };
    cluster.version.clone_from(newest);
    if cluster.init_version.is_empty() {
        cluster.init_version.clone_from(newest);
    }
}

/// Tells each trouble once, until it is over.
fn announce(facts: &Facts, journal: &mut Journal) -> BTreeSet<String> {
    let mut current = BTreeSet::new();
    for note in facts.notes.values().chain(&facts.troubles).filter(|note| note.is_trouble()) {
        let is_news = !facts.announced.contains(note.reason) && current.insert(note.reason.to_owned());
        current.insert(note.reason.to_owned());
        if is_news {
            journal.cluster_event("cluster_modify", Level::Warning, note.reason, &note.message);
        }
    }
    for over in facts.announced.difference(&current) {
        journal.log(format!("{over} is over"));
    }
    current
}

/// A machine's record as its node says.
fn observe(scope: &Scope, machine: &Machine, facts: &Facts, journal: &mut Journal) -> Machine {
    let mut seen = machine.clone();
    if fate(&scope.cluster, machine) != Fate::Run || matches!(machine.state, MachineState::Pending | MachineState::Kept)
    {
        return seen;
    }
    match role(machine) {
        Some(MachineRole::ControlPlane) => {
            let is_up = facts.api_ready.contains(&machine.id);
            observe_service(&mut seen, is_up, facts.now);
            if is_up && machine.state == MachineState::Starting {
                journal.log(format!("{} serves the API", title(machine)));
            }
            tell_of_part(machine, &seen, facts, journal);
        }
        Some(MachineRole::Master) => {
            observe_master(&mut seen, facts, journal);
            tell_of_part(machine, &seen, facts, journal);
        }
        Some(MachineRole::Worker) => observe_node(&mut seen, facts, journal),
        None => {}
    }
    seen
}

/// A master is in service when its node is Ready and its API server serves.
fn observe_master(machine: &mut Machine, facts: &Facts, journal: &mut Journal) {
    let is_up = facts.api_ready.contains(&machine.id);
    let was_out_since = machine.not_ready_since;
    if is_up || machine.state == MachineState::Running {
        observe_node(machine, facts, journal);
    }
    if !is_up {
        machine.not_ready_since = was_out_since.or(Some(facts.now));
    }
}

/// Where a control plane has several parts, the loss of one is no loss of the API, and all the more an event.
fn tell_of_part(before: &Machine, after: &Machine, facts: &Facts, journal: &mut Journal) {
    if before.etcd().is_none() || before.state != MachineState::Running {
        return;
    }
    let is_up = facts.api_ready.contains(&after.id);
    match (before.not_ready_since, after.not_ready_since) {
        (None, Some(_)) if !is_up => {
            let text = format!("{} does not serve the API; {} others do", title(after), facts.api_ready.len());
            journal.machine_event(after, Level::Warning, "ControlPlaneUnavailable", text);
        }
        (Some(_), None) => {
            let text = format!("{} serves the API again", title(after));
            journal.machine_event(after, Level::Info, "ControlPlaneAvailable", text);
        }
        _ => {}
    }
}

fn observe_service(machine: &mut Machine, is_up: bool, now: Timestamp) {
    if is_up {
        machine.state = MachineState::Running;
        machine.not_ready_since = None;
        machine.error = None;
        machine.mending = None;
        machine.repair = None;
    } else {
        machine.not_ready_since.get_or_insert(now);
    }
}

fn observe_node(machine: &mut Machine, facts: &Facts, journal: &mut Journal) {
    let Some(nodes) = &facts.nodes else { return };
    let node = nodes::view(nodes, machine);
    let was_ready = machine.node_status.as_deref() == Some("Ready");
    let status = match node.map(|node| node.ready) {
        // Without its agent nobody can say that a node which was not Ready has become so: what Kubernetes shows may be
        // from before its machine ended.
        Some(NodeReadiness::Ready) if !was_ready && !facts.connected.contains(&machine.id) => return,
        Some(NodeReadiness::Ready) if node.is_some_and(|node| repair::is_old_news(node.heard, machine, facts.now)) => {
            return;
        }
        Some(NodeReadiness::Ready) => "Ready",
        Some(NodeReadiness::NotReady) => "NotReady",
        Some(NodeReadiness::Unknown) => "Unknown",
        None => "Unknown",
    };
    if status == "Ready" {
        let is_first = machine.state != MachineState::Running;
        if is_first && !facts.settled.contains(&machine.id) {
            return;
        }
        if is_first {
            journal.log(format!("node {} is Ready", node.map_or("", |node| &node.name)));
        } else if !was_ready {
            journal.machine_event(
                machine,
                Level::Info,
                "NodeReady",
                format!("the node of {} is Ready again", title(machine)),
            );
        }
    } else if was_ready {
        let why = node.map_or("it is not registered", |node| &node.message);
        let text = format!("the node of {} is {status}: {why}", title(machine));
        journal.machine_event(machine, Level::Warning, "NodeNotReady", text);
        machine.error = Some(format!("the node is {status}: {why}"));
    }
    machine.node_status = (node.is_some() || machine.state == MachineState::Running).then(|| status.to_owned());
    observe_service(machine, status == "Ready", facts.now);
}

/// The pools' states, and the pools that can go.
fn pools(scope: &Scope, machines: &[Machine], now: Timestamp) -> (Vec<String>, Vec<NodePool>) {
    let (mut gone, mut pools) = (Vec::new(), Vec::new());
    for pool in &scope.pools {
        let is_in = |machine: &&Machine| {
            machine.membership.as_ref().is_some_and(|member| member.node_pool_id.as_ref() == Some(&pool.id))
        };
        let members: Vec<&Machine> = machines.iter().filter(is_in).collect();
        if pool.deleting && members.is_empty() {
            gone.push(pool.id.clone());
            continue;
        }
        let is_updated = scope
            .running_tasks()
            .filter(|task| [TaskType::NodepoolUpdate, TaskType::NodepoolRepair].contains(&task.task_type))
            .any(|task| task.node_pool_id.as_ref() == Some(&pool.id));
        let state = pool_state(&scope.cluster, pool, &members, is_updated);
        let updated = if state == pool.state { pool.updated } else { now };
        pools.push(NodePool { state, updated, ..pool.value.clone() });
    }
    (gone, pools)
}

fn pool_state(cluster: &Cluster, pool: &NodePool, members: &[&Machine], is_updated: bool) -> NodePoolState {
    let leaves = |machine: &&Machine| matches!(fate(cluster, machine), Fate::Go(_));
    let comes = |machine: &&Machine| matches!(machine.state, MachineState::Pending | MachineState::Starting);
    if pool.deleting {
        NodePoolState::Deleting
    } else if members.iter().any(leaves) {
        NodePoolState::Removing
    } else if members.iter().any(comes) {
        NodePoolState::Scaling
    } else if is_updated {
        NodePoolState::Updating
    } else {
        NodePoolState::Active
    }
}

/// A cluster that was never running: its creation ends well, fails, or goes on.
fn create(scope: &Scope, facts: &Facts, verdict: &mut Verdict) {
    let stages = progress::creation_stages(scope, facts, &verdict.machines);
    let creation = scope.creation();
    let all = Step::all(stages.iter().map(|(_, step)| step.clone()));
    let refusal = stages.iter().find_map(|(name, step)| match step {
        Step::Refused(why) => Some(format!("{name}: {why}")),
        _ => None,
    });
    let deadline = creation_deadline(&scope.cluster, creation);
    let cluster = &mut verdict.cluster;
    let mut task = creation.cloned();
    if let Some(task) = &mut task {
        progress::set_results(task, &verdict.machines, facts.now);
        progress::set_stages(task, &stages, facts.now, &mut verdict.journal);
    }
    if all == Step::Done {
        cluster.state = ClusterState::Running;
        cluster.state_reason = None;
        cluster.first_running = Some(facts.now);
        finish_creation(task.as_mut(), None, facts.now, &scope.cluster, &mut verdict.journal);
    } else if refusal.is_some() || facts.now >= deadline {
        let late = || {
            let what: Vec<String> = stages.iter().filter_map(unfinished).collect();
            format!("the cluster was not running in time: {}", what.join("; "))
        };
        let (code, why) = match refusal {
            Some(why) => ("InvalidParameter", why),
            None => ("OperationTimeout", late()),
        };
        cluster.state = ClusterState::Failed;
        cluster.state_reason = Some(why.clone());
        for machine in verdict.machines.iter_mut().filter(|machine| machine.state != MachineState::Running) {
            machine.state = MachineState::Failed;
            machine.error = progress::hindrance(machine, facts).or(Some(why.clone()));
        }
        finish_creation(task.as_mut(), Some((code, &why)), facts.now, &scope.cluster, &mut verdict.journal);
    } else {
        cluster.state = ClusterState::Initial;
        verdict.waiting = Some(all.message().to_owned());
    }
    verdict.tasks.extend(task);
}

fn unfinished((name, step): &(&'static str, Step)) -> Option<String> {
    (*step != Step::Done).then(|| format!("{name}: {}", step.message()))
}

fn finish_creation(
    task: Option<&mut Task>,
    failure: Option<(&str, &str)>,
    now: Timestamp,
    cluster: &Cluster,
    journal: &mut Journal,
) {
    let what = format!("the creation of cluster {}", cluster.name);
    match task {
        Some(task) => progress::end(task, failure, &what, now, journal),
        None => journal.log(format!("{what} ended{}", failure.map(|(_, why)| format!(": {why}")).unwrap_or_default())),
    }
}

/// Whether such a task changes the cluster as a whole: its end decides about the cluster's state.
fn is_whole_change(task_type: TaskType) -> bool {
    matches!(
        task_type,
        TaskType::ClusterModify | TaskType::ClusterMigrate | TaskType::ClusterStart | TaskType::ClusterRestore
    )
}

/// A cluster that has been running: its other tasks go on, and its state follows from them.
fn change(scope: &Scope, facts: &Facts, verdict: &mut Verdict) {
    let mut failed_change = None;
    for task in scope.running_tasks().filter(|task| task.task_type != TaskType::ClusterDelete) {
        let mut task = task.clone();
        let step = progress::advance(&mut task, scope, facts, verdict);
        match (task.state, task.task_type) {
            // Nothing here brings it forward.
            (TaskState::Running, TaskType::ClusterBackup) => continue,
            (TaskState::Running, _) => {
                verdict.waiting.get_or_insert(step.message().to_owned());
            }
            (TaskState::Fail, TaskType::ClusterModify | TaskType::ClusterMigrate | TaskType::ClusterStart) => {
                failed_change = task.error.clone();
            }
            _ => {}
        }
        verdict.tasks.push(task);
    }
    for machine in &mut verdict.machines {
        progress::mark_failed(machine, &verdict.tasks, facts);
        let before = scope.tasks.iter().map(|task| &task.value);
        repairs::forget_ended(machine, verdict.tasks.iter().chain(before));
    }
    power::release_workers(facts, verdict);
    let is_running =
        |kind: TaskType| verdict.tasks.iter().any(|task| task.task_type == kind && task.state == TaskState::Running);
    let changes_settings = [TaskType::ClusterModify, TaskType::ClusterConfigurationModify, TaskType::ClusterMigrate];
    let succeeded =
        verdict.tasks.iter().any(|task| is_whole_change(task.task_type) && task.state == TaskState::Success);
    let cluster = &mut verdict.cluster;
    let changes_nodes =
        [TaskType::ClusterScaleout, TaskType::ClusterAttach, TaskType::ClusterNodeDelete, TaskType::ClusterNodeReset];
    cluster.state = if changes_nodes.into_iter().any(is_running) {
        ClusterState::Scaling
    } else if changes_settings.into_iter().any(is_running) || power::is_starting(&verdict.tasks) {
        ClusterState::Updating
    } else if let Some((state, why)) = cluster.upgrade.as_ref().and_then(upgrade::cluster_state) {
        cluster.state_reason = why;
        state
    } else if failed_change.is_some() || (cluster.state == ClusterState::UpdatingFailed && !succeeded) {
        ClusterState::UpdatingFailed
    } else {
        ClusterState::Running
    };
    if let Some(error) = failed_change {
        cluster.state_reason = Some(error.message);
    } else if cluster.state == ClusterState::Running {
        cluster.state_reason = None;
    }
    let parts = [&facts.network, &facts.certificates, &facts.api, &facts.etcd, &facts.components, &facts.endpoint];
    let unfinished = parts.into_iter().find(|step| **step != Step::Done);
    let out_of_service = verdict.machines.iter().find(|machine| {
        fate(&scope.cluster, machine) == Fate::Run
            && (machine.state != MachineState::Running || machine.not_ready_since.is_some())
    });
    if let Some(step) = unfinished {
        verdict.waiting.get_or_insert(step.message().to_owned());
    } else if let Some(machine) = out_of_service {
        verdict.waiting.get_or_insert(format!("{} is not in service", title(machine)));
    }
}
