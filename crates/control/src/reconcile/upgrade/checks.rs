//! Pre-checks: whether a cluster can be upgraded, from what is recorded and what was seen. Pure.

use sampan_store::model::{Finding, MachineState, Management, Upgrade};

use super::decide::workers_of;
use crate::{
    ports::{NodeReadiness, NodeRoom, NodeView, Survey},
    reconcile::{machines::title, nodes, scope::Scope},
    service::version::Version,
};

/// A kubelet may be so many minor versions older than the API server.
const SKEW_MAX: u16 = 3;
/// Findings of one check that are named.
const NAMED_MAX: usize = 5;

/// Everything that was found. Without blocking findings the upgrade goes on.
pub(super) fn check(scope: &Scope, upgrade: &Upgrade, nodes: &[NodeView], survey: &Survey) -> Vec<Finding> {
    let Ok(to) = upgrade.to.parse::<Version>() else {
        return vec![blocks("Version", format!("{:?} is no version", upgrade.to))];
    };
    let mut findings = skew(nodes, to);
    findings.extend(removed_apis(survey, to));
    findings.extend(unhealthy(scope, nodes));
    findings.extend(budgets(survey));
    findings.extend(room(scope, upgrade, survey));
    findings
}

fn blocks(check: &str, message: String) -> Finding {
    Finding { check: check.to_owned(), blocks: true, message }
}

fn warns(check: &str, message: String) -> Finding {
    Finding { check: check.to_owned(), blocks: false, message }
}

/// Reads `v1.36.3` and `v1.36.3+build`.
fn kubelet_version(text: &str) -> Option<Version> {
    let core = text.strip_prefix('v').unwrap_or(text);
    core.split(['-', '+']).next()?.parse().ok()
}

fn skew(nodes: &[NodeView], to: Version) -> Vec<Finding> {
    let too_far = |node: &&NodeView| {
        kubelet_version(&node.kubelet_version)
            .is_some_and(|kubelet| kubelet > to || kubelet.minor + SKEW_MAX < to.minor || kubelet.major != to.major)
    };
    let wrong: Vec<String> =
        nodes.iter().filter(too_far).map(|node| format!("{} ({})", node.name, node.kubelet_version)).collect();
    if wrong.is_empty() {
        return Vec::new();
    }
    vec![blocks(
        "VersionSkew",
        format!(
            "kubelets must be at most {SKEW_MAX} minor versions older than {to}, and not newer: {}; upgrade or remove \
             these nodes first",
            named(&wrong)
        ),
    )]
}

fn removed_apis(survey: &Survey, to: Version) -> Vec<Finding> {
    let mut findings = Vec::new();
    let minor = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u16>().ok()?, minor.parse::<u16>().ok()?))
    };
    let (gone, later): (Vec<_>, Vec<_>) = survey
        .deprecated
        .iter()
        .filter(|api| !api.removed_in.is_empty())
        .partition(|api| minor(&api.removed_in).is_some_and(|removed| removed <= (to.major, to.minor)));
    let text = |apis: &[&crate::ports::DeprecatedApi]| {
        let texts: Vec<String> = apis
            .iter()
            .map(|api| format!("{} {} (gone in {})", api.group_version, api.resource, api.removed_in))
            .collect();
        named(&texts)
    };
    if !gone.is_empty() {
        findings.push(blocks(
            "RemovedApis",
            format!(
                "clients still ask for APIs that {to} does not have: {}; change these clients, then restart the API server \
                 (for example by a change of its parameters), which forgets who asked",
                text(&gone)
            ),
        ));
    }
    if !later.is_empty() {
        findings.push(warns("DeprecatedApis", format!("clients ask for APIs that will be removed: {}", text(&later))));
    }
    findings
}

fn unhealthy(scope: &Scope, nodes: &[NodeView]) -> Vec<Finding> {
    let is_ready = |machine| nodes::view(nodes, machine).is_some_and(|node| node.ready == NodeReadiness::Ready);
    let mut sick: Vec<String> = scope
        .workers()
        .filter(|machine| machine.state != MachineState::Running || !is_ready(machine))
        .map(title)
        .collect();
    sick.extend(
        scope
            .running_control_planes()
            .into_iter()
            .filter(|machine| machine.state != MachineState::Running || machine.not_ready_since.is_some())
            .map(title),
    );
    if sick.is_empty() {
        return Vec::new();
    }
    vec![blocks("UnhealthyNodes", format!("not in service: {}; repair or remove these first", named(&sick)))]
}

fn budgets(survey: &Survey) -> Vec<Finding> {
    let covers = |budget: &&crate::ports::Budget| budget.expected > 0 && budget.allowed < 1;
    let (never, not_now): (Vec<_>, Vec<_>) =
        survey.budgets.iter().filter(covers).partition(|budget| budget.desired >= budget.expected);
    let names = |budgets: &[&crate::ports::Budget]| {
        let names: Vec<String> = budgets.iter().map(|budget| budget.name.clone()).collect();
        named(&names)
    };
    let mut findings = Vec::new();
    if !never.is_empty() {
        findings.push(blocks(
            "DisruptionBudgets",
            format!(
                "these PodDisruptionBudgets never allow an eviction, so their nodes could not be emptied: {}; change them, or \
                 give their workloads more replicas",
                names(&never)
            ),
        ));
    }
    if !not_now.is_empty() {
        findings.push(warns(
            "DisruptionBudgets",
            format!("these PodDisruptionBudgets allow no eviction now: {}", names(&not_now)),
        ));
    }
    findings
}

/// Whether the pods of each node find room on the others while it is away, the added machines included.
fn room(scope: &Scope, upgrade: &Upgrade, survey: &Survey) -> Vec<Finding> {
    let mut tight = Vec::new();
    for pool in scope.pools.iter().filter(|pool| upgrade.concerns(&pool.id)) {
        let members: Vec<_> = workers_of(scope, &pool.id).collect();
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let surge = u64::from(pool.management.as_ref().map_or(0, |management: &Management| management.surge_of(count)));
        for machine in members {
            let Some(member) = &machine.membership else { continue };
            let Some(own) = survey.rooms.iter().find(|room| room.node == member.node_name) else { continue };
            let others = survey.rooms.iter().filter(|room| room.node != own.node && !room.cordoned);
            let (cpu, memory) = others.map(free).fold((0, 0), |sum, room| (sum.0 + room.0, sum.1 + room.1));
            let (cpu, memory) = (cpu + surge * own.cpu_millis, memory + surge * own.memory_bytes);
            if own.moving_cpu_millis > cpu || own.moving_memory_bytes > memory {
                tight.push(own.node.clone());
            }
        }
    }
    if tight.is_empty() {
        return Vec::new();
    }
    vec![warns(
        "Room",
        format!(
            "the pods of these nodes do not find room on the others and wait while their node is upgraded: {}; add nodes, or \
             set surge in the pool's upgrade_config",
            named(&tight)
        ),
    )]
}

fn free(room: &NodeRoom) -> (u64, u64) {
    (room.cpu_millis.saturating_sub(room.used_cpu_millis), room.memory_bytes.saturating_sub(room.used_memory_bytes))
}

fn named(texts: &[String]) -> String {
    let mut list = texts.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if texts.len() > NAMED_MAX {
        list.push_str(&format!(" and {} more", texts.len() - NAMED_MAX));
    }
    list
}
