//! UpgradeCluster: records that a cluster shall go to another version.

use sampan_store::{
    Versioned,
    model::{
        Cluster, ClusterState, Fault, Level, Machine, MachineWanted, NewUpgrade, NodePool, Outcome, TaskType, Upgrade,
        UpgradeState, new_report_id, new_task_id,
    },
};

use crate::service::{
    RequestContext, Service, Settings,
    change::{About, Change, NewTask, Notice},
    cluster::ClusterTask,
    cluster_state_word, fields, quota, task,
    version::{self, Version},
};

/// The only component that can be upgraded by this operation.
const COMPONENT: &str = "k8s";
/// An upgrade may be paused for long; each of its steps has a limit of its own.
const DEADLINE_MINUTES: u32 = 60 * 24 * 365;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct UpgradeWish {
    /// `component_name`: `k8s`.
    pub component_name: Option<String>,
    /// `next_version`; the one that DescribeClusterDetail shows when it is left out.
    pub next_version: Option<String>,
    /// `version`: the cluster's, checked when it is given.
    pub version: Option<String>,
    /// `master_only`.
    pub master_only: Option<bool>,
    /// `rolling_policy.max_parallelism`.
    pub max_parallelism: Option<i64>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

impl Service {
    /// Records that the cluster shall be upgraded.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, QuotaExceeded for added nodes, and MissingParameter and InvalidParameter of what is
    /// wrong.
    pub async fn cluster_upgrade(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        wish: &UpgradeWish,
    ) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let max_parallelism = check(wish)?;
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            refuse_unless_free(change, &cluster)?;
            let workers = workers(change, &cluster);
            let control_plane_only = wish.master_only == Some(true);
            let is_behind =
                !control_plane_only && workers.iter().any(|machine| machine.version(&cluster) != cluster.version);
            let to = target(&self.settings, &cluster, wish, is_behind)?;
            if !control_plane_only {
                self.check_surge(change, &cluster)?;
            }
            let upgrade = NewUpgrade {
                task_id: new_task_id(),
                from: cluster.version.clone(),
                to: to.to_string(),
                report_id: new_report_id(),
                control_plane_only,
                max_parallelism,
                ..NewUpgrade::default()
            }
            .begin(change.now);
            let resources = if control_plane_only { Vec::new() } else { workers };
            Ok(record(change, &cluster, upgrade, &resources, wish))
        })
        .await
    }

    /// Room in the quota for the machines that the pools add for the time of the upgrade; one pool does so at a time.
    fn check_surge(&self, change: &Change<'_>, cluster: &Cluster) -> Outcome<()> {
        let pools = change.store.list_of::<NodePool>(&cluster.id);
        let machines = change.store.list_of::<Machine>(&cluster.id);
        let surge = pools.iter().filter_map(|pool| {
            let is_in = |machine: &&std::sync::Arc<Versioned<Machine>>| {
                machine.membership.as_ref().is_some_and(|m| m.node_pool_id.as_deref() == Some(pool.id.as_str()))
            };
            let count = u32::try_from(machines.iter().filter(is_in).count()).unwrap_or(u32::MAX);
            Some(pool.management.as_ref()?.surge_of(count))
        });
        let most = surge.max().unwrap_or(0) as usize;
        self.check_node_quota(change.ctx, quota::staying_workers(change.store, &cluster.id), most)
    }
}

/// Checks what needs no records.
fn check(wish: &UpgradeWish) -> Outcome<Option<u32>> {
    let given = [&wish.component_name, &wish.next_version, &wish.version];
    if given.iter().all(|text| fields::given(text).is_none()) {
        return Err(Fault::missing("next_version"));
    }
    fields::given(&wish.component_name).map_or(Ok(()), |name| fields::one_of("component_name", name, &[COMPONENT]))?;
    wish.max_parallelism.map(|count| fields::number("rolling_policy.max_parallelism", count, 1..=1000)).transpose()
}

/// While an upgrade is open nothing else may change the control plane.
pub(in crate::service) fn refuse_open_upgrade(cluster: &Cluster) -> Outcome<()> {
    let id = &cluster.id;
    match cluster.upgrade.as_ref().map(|upgrade| (upgrade.state, &upgrade.to)) {
        Some((UpgradeState::Running, to)) => {
            Err(Fault::state(format!("cluster {id} is being upgraded to {to} already")))
        }
        Some((UpgradeState::Paused, to)) => {
            Err(Fault::state(format!("the upgrade of cluster {id} to {to} is paused; resume or cancel it first")))
        }
        Some((UpgradeState::Failed, to)) => {
            Err(Fault::state(format!("the upgrade of cluster {id} to {to} has failed; resume or cancel it first")))
        }
        _ => Ok(()),
    }
}

/// Nothing else may be going on: an upgrade looks at all of the cluster.
pub(in crate::service) fn refuse_unless_free(change: &Change<'_>, cluster: &Cluster) -> Outcome<()> {
    refuse_open_upgrade(cluster)?;
    let id = &cluster.id;
    if cluster.state != ClusterState::Running {
        let state = cluster_state_word(cluster);
        return Err(Fault::state(format!("cluster {id} is {state}; it can be upgraded when it is running")));
    }
    match change.running_task(id, |_| true) {
        None => Ok(()),
        Some(task) => Err(Fault::state(format!(
            "cluster {id} is being changed by the task {} ({}); wait until it has ended",
            task.id,
            task.task_type.as_str()
        ))),
    }
}

fn workers(change: &Change<'_>, cluster: &Cluster) -> Vec<Machine> {
    let machines = change.store.list_of::<Machine>(&cluster.id);
    let stays = |machine: &Machine| machine.is_worker_of(&cluster.id) && machine.wanted == MachineWanted::Run;
    machines.iter().map(|machine| machine.value.clone()).filter(stays).collect()
}

/// The version that the cluster goes to: a newer patch of its minor version, or the next minor version; its own, when nodes
/// are behind it.
fn target(settings: &Settings, cluster: &Cluster, wish: &UpgradeWish, is_behind: bool) -> Outcome<Version> {
    let current: Version = cluster
        .version
        .parse()
        .map_err(|_| Fault::internal(format!("the version {:?} of cluster {} is none", cluster.version, cluster.id)))?;
    if let Some(text) = fields::given(&wish.version) {
        let said = version::parse("version", text)?;
        let is_it = (said.major, said.minor) == (current.major, current.minor)
            && said.patch.is_none_or(|patch| patch == current.patch);
        if !is_it {
            return Err(Fault::invalid("version", format!("version {text}: the cluster has {current}")));
        }
    }
    let Some(text) = fields::given(&wish.next_version) else {
        let next = version::next_version(settings, &cluster.version);
        return next.or(is_behind.then_some(current)).ok_or_else(|| {
            Fault::invalid("next_version", format!("next_version: there is nothing newer than {current} to upgrade to"))
        });
    };
    let asked = version::parse("next_version", text)?;
    let wrong = |why: String| Err(Fault::invalid("next_version", format!("next_version {text} {why}")));
    if asked.major != current.major || asked.minor > current.minor + 1 {
        return wrong(format!(
            "skips a minor version: the cluster has {current}, the next one is {}.{}",
            current.major,
            current.minor + 1
        ));
    }
    let mut fits: Vec<Version> = settings
        .kubernetes_versions
        .iter()
        .filter(|v| (v.major, v.minor) == (asked.major, asked.minor) && asked.patch.is_none_or(|p| p == v.patch))
        .copied()
        .collect();
    fits.sort_unstable();
    let Some(found) = fits.last().copied() else {
        let known: Vec<String> = settings.kubernetes_versions.iter().map(Version::to_string).collect();
        return wrong(format!("is not a version of this installation; it has {}", known.join(", ")));
    };
    if found < current {
        return wrong(format!("is older than {current}, which the cluster has; versions cannot go back"));
    }
    if found == current && !is_behind {
        return wrong("is the version that the cluster and its nodes have".to_owned());
    }
    Ok(found)
}

fn record(
    change: &mut Change<'_>,
    cluster: &Versioned<Cluster>,
    upgrade: Upgrade,
    nodes: &[Machine],
    wish: &UpgradeWish,
) -> ClusterTask {
    let about = About::Cluster(&cluster.id);
    let text = format!("Start to upgrade cluster {} from {} to {}", cluster.name, upgrade.from, upgrade.to);
    change.event(about, TaskType::ClusterUpgrade, Level::Info, "Started", text);
    let notices: Vec<Notice> = Notice::unknown_fields(&wish.unknown_fields).into_iter().collect();
    change.notices(about, TaskType::ClusterUpgrade, &notices);
    task_of(change, cluster, &upgrade, nodes);
    let task_id = upgrade.task_id.clone();
    let upgraded =
        Cluster { state: ClusterState::Updating, updated: change.now, upgrade: Some(upgrade), ..cluster.value.clone() };
    change.update(cluster, &upgraded);
    ClusterTask { cluster_id: cluster.id.clone(), task_id }
}

/// Records the task that shows the upgrade.
pub(super) fn task_of(change: &mut Change<'_>, cluster: &Cluster, upgrade: &Upgrade, nodes: &[Machine]) {
    change.task(NewTask {
        id: &upgrade.task_id,
        cluster_id: &cluster.id,
        task_type: TaskType::ClusterUpgrade,
        stages: &task::UPGRADE_STAGES,
        resources: nodes.iter().map(|machine| machine.id.clone()).collect(),
        node_pool_id: None,
        deadline_minutes: DEADLINE_MINUTES,
        done: false,
    });
}

/// Nodes that an upgrade which goes on is for.
pub(super) fn nodes_of(change: &Change<'_>, cluster: &Cluster, upgrade: &Upgrade) -> Vec<Machine> {
    let mut nodes = workers(change, cluster);
    nodes.retain(|machine| {
        let pool = machine.membership.as_ref().and_then(|member| member.node_pool_id.as_deref());
        pool.is_some_and(|pool| upgrade.concerns(pool))
    });
    nodes
}
