//! Upgrades that nobody has to ask for: pools with `auto_upgrade` follow their cluster, and patches of the cluster's minor
//! version are taken over, while the maintenance window is open.

use sampan_store::model::{
    ClusterState, Level, NewUpgrade, Outcome, ResultStatus, Stage, StageState, Task, TaskResult, TaskState, TaskType,
    Timestamp, Upgrade, UpgradePhase, UpgradeState, new_report_id, new_task_id,
};

use super::{decide::workers_of, draft::Draft, stages::STAGES, window};
use crate::{
    reconcile::{context::Context, scope::Scope},
    service::version::Version,
};

/// What shall be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) to: String,
    pub(super) pools: Vec<String>,
}

/// Begins an upgrade when it is time for one. Answers whether it was recorded.
pub(super) async fn begin(ctx: &Context, scope: &Scope, now: Timestamp) -> Outcome<bool> {
    let Some(wish) = wish(scope, now, &ctx.settings.node_image_versions) else { return Ok(false) };
    let mut draft = Draft::of(scope, now);
    let task_id = new_task_id();
    draft.tell(
        Level::Info,
        "UpgradeStarted",
        format!("the maintenance window is open: an upgrade to {} begins by itself", wish.to),
    );
    draft.new_task = Some(task(scope, &task_id, &wish, now));
    let upgrade = NewUpgrade {
        task_id,
        from: scope.cluster.version.clone(),
        to: wish.to,
        report_id: new_report_id(),
        automatic: true,
        pools: wish.pools,
        ..NewUpgrade::default()
    };
    draft.cluster.upgrade = Some(upgrade.begin(now));
    draft.cluster.state = ClusterState::Updating;
    draft.cluster.updated = now;
    draft.commit(ctx, scope).await
}

fn task(scope: &Scope, id: &str, wish: &Wish, now: Timestamp) -> Task {
    let nodes = wish.pools.iter().flat_map(|pool| workers_of(scope, pool));
    let stage = |(name, _): &(&str, UpgradePhase)| Stage {
        name: (*name).to_owned(),
        state: StageState::Waiting,
        started: None,
        finished: None,
        message: String::new(),
    };
    Task {
        id: id.to_owned(),
        account_id: scope.cluster.account_id.clone(),
        cluster_id: scope.cluster.id.clone(),
        task_type: TaskType::ClusterUpgrade,
        state: TaskState::Running,
        node_pool_id: None,
        stages: STAGES.iter().map(stage).collect(),
        results: nodes.map(|machine| TaskResult { data: machine.id.clone(), status: ResultStatus::Initial }).collect(),
        error: None,
        created: now,
        updated: now,
        deadline: Timestamp::MAX,
        lease: None,
        request_id: String::new(),
    }
}

/// What shall be done now; `None`: nothing. What failed or was cancelled while the window was open is not begun again in it.
pub(super) fn wish(scope: &Scope, now: Timestamp, offered: &[String]) -> Option<Wish> {
    let cluster = &scope.cluster;
    let opened = window::open_since(cluster.maintenance_window.as_ref()?, now)?;
    let is_free = cluster.state == ClusterState::Running && scope.running_tasks().next().is_none();
    let last = cluster.upgrade.as_ref();
    let was_ended = |last: &Upgrade| last.ended.is_some_and(|ended| ended >= opened);
    let was_tried = last.is_some_and(|last| last.is_open() || last.state != UpgradeState::Success && was_ended(last));
    if !is_free || was_tried {
        return None;
    }
    let follows = scope
        .pools
        .iter()
        .filter(|pool| !pool.deleting && pool.management.as_ref().is_some_and(|management| management.upgrades()));
    let pools: Vec<String> = follows.map(|pool| pool.id.clone()).collect();
    if pools.is_empty() {
        return None;
    }
    if let Some(patch) = newest_patch(&cluster.version, offered) {
        return Some(Wish { to: patch.to_string(), pools });
    }
    let is_old = |pool: &String| workers_of(scope, pool).any(|machine| machine.version(cluster) != cluster.version);
    let pools: Vec<String> = pools.into_iter().filter(is_old).collect();
    (!pools.is_empty()).then(|| Wish { to: cluster.version.clone(), pools })
}

/// A newer patch of the same minor version.
fn newest_patch(current: &str, offered: &[String]) -> Option<Version> {
    let current: Version = current.parse().ok()?;
    let versions = offered.iter().filter_map(|text| text.parse::<Version>().ok());
    versions
        .filter(|version| (version.major, version.minor) == (current.major, current.minor) && *version > current)
        .max()
}
