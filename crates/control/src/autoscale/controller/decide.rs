//! What is to be done about a cluster now. Pure: [`decide`] takes what is recorded, seen and remembered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use sampan_store::model::{Expander, Machine, MachineState, MachineWanted, NodePool, Timestamp};

use super::{
    memory::{Remembered, span},
    scene::Scene,
};
use crate::{
    autoscale::{
        expander::{self, Choice, Priorities},
        model::{Node, Pod},
        observe::View,
        scale_down::{self, Candidate, Thresholds, Unneeded},
        simulate::{self, Growth, Snapshot, Unhelped},
        template::Foundry,
    },
    kubernetes::HostFacts,
    service::node_pool::{MADE_BY_POOL, charge_type},
};

/// Pods of lower priority are ended for others; they neither bring nodes nor keep them.
const EXPENDABLE_BELOW: i32 = -10;
/// A machine is waited for so long; after that it does not count as coming.
pub(super) const PROVISION_MAX: Duration = Duration::from_secs(15 * 60);
/// Empty nodes that are removed at once.
const EMPTY_AT_ONCE_MAX: usize = 10;

/// What a decision is made from.
pub(super) struct Inputs<'a> {
    pub(super) scene: &'a Scene,
    pub(super) view: &'a View,
    pub(super) host: &'a HostFacts,
    pub(super) memory: Remembered,
    pub(super) priorities: Option<&'a Priorities>,
    /// Since when somebody works on machines.
    pub(super) started: Timestamp,
    pub(super) now: Timestamp,
}

/// Nodes that go.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Removal {
    pub(super) pool_id: String,
    pub(super) machine_id: String,
    pub(super) node: String,
    /// In words.
    pub(super) why: String,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Nodes that come.
    pub(super) growths: Vec<Growth>,
    /// Pods that no node would help.
    pub(super) unhelped: Vec<Unhelped>,
    /// Machines that never came into service.
    pub(super) broken: Vec<Removal>,
    /// Nodes that are not needed any more, and had their time.
    pub(super) removals: Vec<Removal>,
    /// Machines whose nodes are not needed now.
    pub(super) unneeded: Vec<String>,
    /// Pods that wait for nodes.
    pub(super) waiting: BTreeSet<String>,
    /// Something may be different after this time.
    pub(super) next: Option<Duration>,
}

/// Decides.
pub(super) fn decide(inputs: &Inputs<'_>) -> Decision {
    let mut decision = Decision { broken: broken(inputs), ..Decision::default() };
    let mut world = World::of(inputs);
    let pending = world.place_waiting(inputs);
    decision.waiting = pending.iter().map(|pod| pod.uid.clone()).collect();
    if !pending.is_empty() {
        let plan = scale_up(inputs, &mut world.snapshot, pending, &decision.broken);
        decision.growths = plan.growths;
        decision.unhelped = plan.unhelped;
    }
    if !decision.growths.is_empty() {
        // While nodes come nothing is certain about those that are there.
        decision.unneeded = inputs.memory.unneeded.keys().cloned().collect();
    } else if inputs.scene.config.scale_down_enabled {
        scale_down(inputs, world, &mut decision);
    }
    decision.next = next(inputs, &decision);
    decision
}

/// Machines that should be in service by now and are not.
fn broken(inputs: &Inputs<'_>) -> Vec<Removal> {
    let scene = inputs.scene;
    let late = |machine: &&Machine| {
        let never_served = matches!(machine.state, MachineState::Pending | MachineState::Starting);
        let is_late = span(machine.created.max(inputs.started), inputs.now) >= PROVISION_MAX;
        machine.source == MADE_BY_POOL && (machine.state == MachineState::Failed || (never_served && is_late))
    };
    let of_pool = |pool: &NodePool| {
        let found = scene.staying(pool).filter(late).map(|machine| Removal {
            pool_id: pool.id.clone(),
            machine_id: machine.id.clone(),
            node: node_name(machine).to_owned(),
            why: machine
                .error
                .clone()
                .unwrap_or_else(|| format!("it did not come into service within {} min", PROVISION_MAX.as_secs() / 60)),
        });
        found.collect::<Vec<_>>()
    };
    scene.scaling().flat_map(of_pool).collect()
}

fn node_name(machine: &Machine) -> &str {
    machine.membership.as_ref().map_or("", |member| &member.node_name)
}

fn foundry<'a>(inputs: &'a Inputs<'_>) -> Foundry<'a> {
    Foundry {
        cluster: &inputs.scene.cluster,
        machines: &inputs.scene.machines,
        view: inputs.view,
        host: inputs.host,
        zones: &inputs.scene.zones,
    }
}

/// The cluster as it is about to be: nodes that come are there, nodes that go take nothing more.
struct World {
    snapshot: Snapshot,
    /// Nodes that are there and in service, by name.
    serving: HashMap<String, usize>,
    /// Pods that have no node.
    unbound: Vec<Arc<Pod>>,
}

impl World {
    fn of(inputs: &Inputs<'_>) -> Self {
        let (view, scene) = (inputs.view, inputs.scene);
        let (mut on_nodes, unbound) = pods(view);
        let machines: HashMap<&str, &Machine> =
            scene.machines.iter().map(|machine| (node_name(machine), &machine.value)).collect();
        let mut world =
            Self { snapshot: Snapshot::new(Arc::clone(&view.namespaces)), serving: HashMap::new(), unbound };
        for node in view.nodes.values() {
            let mine = on_nodes.remove(node.name.as_str()).unwrap_or_default();
            let machine = machines.get(node.name.as_str()).copied();
            let serves = node.ready && machine.is_none_or(|machine| machine.state == MachineState::Running);
            match machine.filter(|machine| !serves && is_coming(inputs, machine)) {
                Some(machine) => world.add_coming(inputs, machine, Some(node), mine),
                None => {
                    let number = world.snapshot.add(Arc::clone(node), mine);
                    if machine.is_some_and(|machine| machine.wanted != MachineWanted::Run) {
                        world.snapshot.close(number);
                    } else if serves {
                        world.serving.insert(node.name.clone(), number);
                    }
                }
            }
        }
        let unregistered = scene.machines.iter().filter(|machine| !view.nodes.contains_key(node_name(machine)));
        for machine in unregistered.filter(|machine| is_coming(inputs, machine)) {
            world.add_coming(inputs, machine, None, Vec::new());
        }
        world
    }

    fn add_coming(&mut self, inputs: &Inputs<'_>, machine: &Machine, seen: Option<&Node>, pods: Vec<Arc<Pod>>) {
        let template = inputs.scene.pool_of(machine).and_then(|pool| foundry(inputs).coming(pool, machine, seen));
        let Some(template) = template else { return };
        let there: BTreeSet<&str> = pods.iter().map(|pod| pod.owner_uid.as_str()).collect();
        let missing = template.daemons.iter().filter(|pod| !there.contains(pod.owner_uid.as_str())).cloned();
        let all = missing.chain(pods.iter().cloned()).collect();
        self.snapshot.add(Arc::new(template.node), all);
    }

    /// Gives pods without a node those places that are there or come; answers those that find none and are known to the
    /// scheduler as such.
    fn place_waiting(&mut self, inputs: &Inputs<'_>) -> Vec<Arc<Pod>> {
        let mut unbound = std::mem::take(&mut self.unbound);
        unbound.sort_by_key(|pod| (std::cmp::Reverse(pod.priority), pod.created));
        let mut pending = Vec::new();
        for pod in unbound {
            let nominated = pod.nominated.as_deref().and_then(|name| self.snapshot.find(name));
            match nominated {
                // Room is being made for it there.
                Some(number) => self.snapshot.place(number, pod),
                None if self.snapshot.schedule(&pod).is_some() => {}
                None if pod.unschedulable => pending.push(pod),
                None => {}
            }
        }
        tracing::trace!(cluster = inputs.scene.cluster.id, pending = pending.len(), "pods without a place");
        pending
    }
}

/// Whether the machine, which is not in service, will be soon: it is new.
fn is_coming(inputs: &Inputs<'_>, machine: &Machine) -> bool {
    machine.is_worker_of(&inputs.scene.cluster.id)
        && machine.wanted == MachineWanted::Run
        && machine.state != MachineState::Failed
        && span(machine.created.max(inputs.started), inputs.now) < PROVISION_MAX
}

type Pods = Vec<Arc<Pod>>;

/// Pods by their nodes, and those without one. Those that count for nothing are left out.
fn pods(view: &View) -> (BTreeMap<&str, Pods>, Pods) {
    let (mut on_nodes, mut unbound) = (BTreeMap::<&str, Vec<Arc<Pod>>>::new(), Vec::new());
    for pod in view.pods.values().filter(|pod| pod.priority >= EXPENDABLE_BELOW) {
        let resolved = if pod.claims.is_empty() {
            Arc::clone(pod)
        } else {
            let mut own = Pod::clone(pod);
            view.volumes.resolve(&mut own);
            Arc::new(own)
        };
        match pod.node.as_deref() {
            Some(node) => on_nodes.entry(node).or_default().push(resolved),
            // Pods of daemon sets wait for a node of their own.
            None if pod.gated || pod.terminating || pod.is_bound_to_node() => {}
            None => unbound.push(resolved),
        }
    }
    (on_nodes, unbound)
}

fn scale_up(
    inputs: &Inputs<'_>,
    snapshot: &mut Snapshot,
    pending: Vec<Arc<Pod>>,
    broken: &[Removal],
) -> simulate::Plan {
    let (scene, foundry) = (inputs.scene, foundry(inputs));
    let (mut pools, mut zonal, mut room) = (Vec::new(), Vec::new(), HashMap::new());
    for pool in scene.scaling() {
        let (whole, zones) = foundry.groups(pool, barred(inputs, pool, broken));
        pools.push(whole);
        zonal.extend(zones);
        room.insert(pool.id.clone(), scene.room(pool));
    }
    let names = |id: &str| {
        let name = scene.pool(id).map(|pool| pool.name.clone());
        std::iter::once(id.to_owned()).chain(name).collect::<Vec<_>>()
    };
    let mut choice = Choice {
        expander: scene.config.expander,
        priorities: inputs.priorities.filter(|_| scene.config.expander == Expander::Priority),
        names: &names,
        random: &mut random,
    };
    simulate::grow(snapshot, pending, &pools, &zonal, &mut room, &mut |offers| expander::choose(offers, &mut choice))
}

/// A number below `below`.
fn random(below: usize) -> usize {
    let mut bytes = [0u8; 8];
    // Without randomness the first is as good as any.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    usize::try_from(u64::from_le_bytes(bytes) % (below.max(1) as u64)).unwrap_or(0)
}

fn barred(inputs: &Inputs<'_>, pool: &NodePool, broken: &[Removal]) -> Option<String> {
    if pool.unschedulable {
        return Some("new nodes of the pool take no pods until somebody allows it".to_owned());
    }
    if let Some(failed) = broken.iter().find(|removal| removal.pool_id == pool.id) {
        return Some(format!("in backoff after failed scale-up: {}", failed.why));
    }
    let back_off = inputs.memory.back_offs.get(&pool.id).filter(|entry| entry.until > inputs.now)?;
    Some(format!("in backoff after failed scale-up: {}", back_off.why))
}

fn scale_down(inputs: &Inputs<'_>, mut world: World, decision: &mut Decision) {
    let (scene, config) = (inputs.scene, &inputs.scene.config);
    if scene.cluster.instance_deletion_protection {
        return;
    }
    let thresholds =
        Thresholds { utilization: config.utilization_threshold, gpu_utilization: config.gpu_utilization_threshold };
    let budgets: Vec<_> = inputs.view.budgets.values().cloned().collect();
    let candidates = candidates(inputs, &world, thresholds);
    let (unneeded, needed) = scale_down::unneeded(&mut world.snapshot, candidates, thresholds, &budgets);
    for (candidate, why) in needed {
        tracing::debug!(cluster = scene.cluster.id, machine = candidate.machine_id, "the node stays: {why}");
    }
    decision.unneeded = unneeded.iter().map(|node| node.candidate.machine_id.clone()).collect();
    decision.removals = removals(inputs, unneeded);
}

/// Nodes that may go at all: those that have not been needed for longest first, then those that are used least.
fn candidates(inputs: &Inputs<'_>, world: &World, thresholds: Thresholds) -> Vec<Candidate> {
    let scene = inputs.scene;
    let mut found = Vec::new();
    for pool in scene.scaling().filter(|pool| charge_type(pool) != "PrePaid") {
        let fewest = pool.scales().map_or(0, |scaling| scaling.min_instances) as usize;
        if scene.staying(pool).count() <= fewest {
            continue;
        }
        let mine = scene
            .staying(pool)
            .filter(|machine| machine.source == MADE_BY_POOL && machine.state == MachineState::Running);
        for machine in mine {
            let Some(number) = world.serving.get(node_name(machine)).copied() else { continue };
            let Some(slot) = world.snapshot.slot(number) else { continue };
            let used = scale_down::utilization(slot, thresholds).0;
            let since = inputs.memory.unneeded.get(&machine.id).copied().unwrap_or(Timestamp::MAX);
            let candidate = Candidate { number, machine_id: machine.id.clone(), pool_id: pool.id.clone() };
            found.push((since, used, candidate));
        }
    }
    found.sort_by(|(a, x, one), (b, y, other)| {
        a.cmp(b).then(x.total_cmp(y)).then_with(|| one.machine_id.cmp(&other.machine_id))
    });
    found.into_iter().map(|(_, _, candidate)| candidate).collect()
}

/// Those that had their time: empty nodes together, others one after another.
fn removals(inputs: &Inputs<'_>, unneeded: Vec<Unneeded>) -> Vec<Removal> {
    let scene = inputs.scene;
    let mut spare: HashMap<&str, usize> = HashMap::new();
    for pool in scene.scaling() {
        let fewest = pool.scales().map_or(0, |scaling| scaling.min_instances) as usize;
        spare.insert(&pool.id, scene.staying(pool).count().saturating_sub(fewest));
    }
    let is_draining = scene.machines.iter().any(|machine| machine.wanted != MachineWanted::Run && machine.drain);
    let (mut empty, mut drains) = (EMPTY_AT_ONCE_MAX, usize::from(!is_draining));
    let mut removals = Vec::new();
    for node in unneeded {
        let since = inputs.memory.unneeded.get(&node.candidate.machine_id).copied().unwrap_or(inputs.now);
        let is_due = due(inputs, &node.candidate.machine_id, since).is_zero();
        let turn = if node.pods.is_empty() { &mut empty } else { &mut drains };
        let Some(spare) = spare.get_mut(node.candidate.pool_id.as_str()).filter(|spare| **spare > 0) else { continue };
        if !is_due || *turn == 0 {
            continue;
        }
        (*turn, *spare) = (*turn - 1, *spare - 1);
        removals.push(Removal {
            why: format!(
                "{:.0} % of it is asked for, {}; it was not needed for {} s",
                node.utilization * 100.0,
                if node.pods.is_empty() {
                    "no pod has to move".to_owned()
                } else {
                    format!("its {} pods have a place elsewhere", node.pods.len())
                },
                span(since, inputs.now).as_secs()
            ),
            pool_id: node.candidate.pool_id,
            machine_id: node.candidate.machine_id,
            node: node.node,
        });
    }
    removals
}

/// Time until the node may go.
fn due(inputs: &Inputs<'_>, machine_id: &str, since: Timestamp) -> Duration {
    let config = &inputs.scene.config;
    let created = inputs.scene.machines.iter().find(|machine| machine.id == machine_id).map(|machine| machine.created);
    let left =
        |from: Timestamp, seconds: u32| Duration::from_secs(seconds.into()).saturating_sub(span(from, inputs.now));
    let cool_down = created.map_or(Duration::ZERO, |created| left(created, config.cool_down_seconds));
    left(since, config.unneeded_seconds).max(cool_down)
}

/// When time alone may make a difference.
fn next(inputs: &Inputs<'_>, decision: &Decision) -> Option<Duration> {
    let unneeded = decision
        .unneeded
        .iter()
        .map(|machine| due(inputs, machine, inputs.memory.unneeded.get(machine).copied().unwrap_or(inputs.now)));
    // What is due but has to wait for its turn goes on when another machine's record changes.
    let unneeded = unneeded.filter(|wait| !wait.is_zero());
    let back_offs = inputs.memory.back_offs.values().filter(|_| !decision.waiting.is_empty());
    let back_offs = back_offs.map(|entry| span(inputs.now, entry.until)).filter(|wait| !wait.is_zero());
    let never_served = |machine: &Machine| matches!(machine.state, MachineState::Pending | MachineState::Starting);
    let coming = inputs.scene.machines.iter().filter(|machine| never_served(machine) && is_coming(inputs, machine));
    let coming =
        coming.map(|machine| PROVISION_MAX.saturating_sub(span(machine.created.max(inputs.started), inputs.now)));
    unneeded.chain(back_offs).chain(coming).min()
}
