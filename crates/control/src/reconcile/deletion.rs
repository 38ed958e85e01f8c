//! A cluster goes away, or gives back what a failed creation had taken. Possible from any state, with anything missing,
//! killable anywhere: each look does what is left to do. Machines go under their own keys; this waits for them.

use std::time::Duration;

use sampan_store::{
    Batch,
    model::{
        Cluster, ClusterState, Fault, FaultKind, KubeCredential, Level, NodePool, Outcome, Task, TaskState, TaskType,
        Timestamp, Trigger,
    },
};

use super::{
    balancing, cluster,
    context::{Context, Key, engine},
    driver::Status,
    journal::Journal,
    memory::Note,
    network::{self, Released},
    progress, repair,
    scope::Scope,
    status::Step,
};

/// The network goes after the balancer has let go of it, or after this time.
const BALANCER_PATIENCE: Duration = Duration::from_secs(10);
/// Nothing announces that a network can be removed now.
const POLL: Duration = Duration::from_secs(1);

/// How far the release of a cluster's things is.
struct Release {
    machines: Step,
    network: Step,
    vpc: Released,
}

/// Deletes the cluster.
pub(super) async fn delete(ctx: &Context, scope: &Scope) -> Outcome<Status> {
    ctx.access.forget(&scope.cluster.id);
    let Some(deletion) = &scope.cluster.deletion else { return Ok(Status::Settled) };
    let release = release(ctx, scope, deletion.requested).await;
    let now = ctx.now();
    let mut journal = Journal::of(&scope.cluster, now);
    let mut record = scope.cluster.value.clone();
    let mut tasks = superseded(scope, &deletion.task_id, now, &mut journal);
    let mut task = scope.tasks.iter().find(|task| task.id == deletion.task_id).map(|task| task.value.clone());
    let stages = stages(&release);
    let left = Step::all(stages.iter().map(|(_, step)| step.clone()));
    let what = format!("the deletion of cluster {}", scope.cluster.name);
    if let Some(task) = task.as_mut().filter(|task| task.state == TaskState::Running) {
        progress::set_stages(task, &stages, now, &mut journal);
        if left == Step::Done {
            progress::end(task, None, &what, now, &mut journal);
        } else if now >= task.deadline {
            let why = format!("{what} did not end in time and is still being tried: {}", left.message());
            progress::end(task, Some(("OperationTimeout", &why)), &what, now, &mut journal);
        }
    }
    set_state(&mut record, task.as_ref(), &left, now);
    tasks.extend(task);
    let mut batch = Batch::new();
    cluster::update(&mut batch, std::slice::from_ref(&scope.cluster), &[record]);
    cluster::update(&mut batch, &scope.tasks, &tasks);
    if left == Step::Done {
        remove_backups(ctx, scope).await;
        tell_of_leftover(scope, &release.vpc, &mut journal);
        batch.expect_revision::<Cluster>(&scope.cluster.id, Some(scope.cluster.revision));
        forget(ctx, scope, &mut batch, &release.vpc);
    }
    journal.write_to(&mut batch);
    commit(ctx, batch, &left).await
}

/// Nothing could be put back to them. Best effort: they are only files.
async fn remove_backups(ctx: &Context, scope: &Scope) {
    let Some(backups) = &ctx.settings.backups else { return };
    let (shelf, cluster_id) = (backups.shelf.clone(), scope.cluster.id.clone());
    let removed = tokio::task::spawn_blocking(move || shelf.remove_all(&cluster_id)).await;
    if let Ok(Err(fault)) = removed {
        tracing::warn!(cluster = scope.cluster.id, error = %fault, "the cluster's backups stay");
    }
}

fn stages(release: &Release) -> [(&'static str, Step); 2] {
    [("nodes", release.machines.clone()), ("network", release.network.clone())]
}

/// Releases what a failed creation holds; the cluster stays listed as failed.
pub(super) async fn roll_back(ctx: &Context, scope: &Scope) -> Outcome<Status> {
    ctx.access.forget(&scope.cluster.id);
    let release = release(ctx, scope, scope.cluster.updated).await;
    let left = Step::all(stages(&release).map(|(_, step)| step));
    if left != Step::Done {
        return Ok(Status::again(POLL, left.message()));
    }
    let mut batch = Batch::new();
    // Once in each run of the server is enough.
    if ctx.memory.set_rolled_back(&scope.cluster.id) {
        secrets(scope, &mut batch);
    }
    if let Released::Removed(leave) = &release.vpc {
        network::forget(ctx, &scope.cluster.network.vpc_id, leave, &mut batch);
        let mut journal = Journal::of(&scope.cluster, ctx.now());
        journal.log("what the failed creation had taken has been released");
        journal.write_to(&mut batch);
    }
    commit(ctx, batch, &left).await
}

async fn commit(ctx: &Context, batch: Batch, left: &Step) -> Outcome<Status> {
    match ctx.store.commit(batch).await.map_err(Fault::from) {
        Err(fault) if fault.kind == FaultKind::Conflict => {
            Ok(Status::again(Duration::ZERO, "a record changed meanwhile"))
        }
        Err(fault) => Err(fault),
        Ok(()) if *left == Step::Done => Ok(Status::Settled),
        Ok(()) => Ok(Status::again(POLL, left.message())),
    }
}

/// Does what can be done now to release machines and network.
async fn release(ctx: &Context, scope: &Scope, since: Timestamp) -> Release {
    let machines = machines(ctx, scope);
    let blocked = |why: &str| Release {
        machines: machines.clone(),
        network: Step::Blocked(why.to_owned()),
        vpc: Released::Stays,
    };
    if machines != Step::Done {
        return blocked("waits until the machines are gone");
    }
    if let Err(why) = shared_volume(ctx, scope).await {
        return Release {
            machines: Step::Waiting(why),
            network: Step::Blocked("waits for the volume".into()),
            vpc: Released::Stays,
        };
    }
    let patience = BALANCER_PATIENCE.saturating_sub(repair::span(since, ctx.now()));
    if balancing::is_held(ctx, &scope.cluster.id) && !patience.is_zero() {
        ctx.waker.wake(Key::Balancer);
        return blocked("waits until the balancer has let go of it");
    }
    match network::release(ctx, &scope.cluster).await {
        Ok(vpc) => Release { machines, network: Step::Done, vpc },
        Err(Note { message, .. }) => Release { machines, network: Step::Waiting(message), vpc: Released::Stays },
    }
}

/// A network that the engine keeps is not forgotten, and nobody need wait for it.
fn tell_of_leftover(scope: &Scope, vpc: &Released, journal: &mut Journal) {
    if let Released::LeftOver(why) = vpc {
        let vpc_id = &scope.cluster.network.vpc_id;
        let text = format!(
            "the network of VPC {vpc_id} could not be removed: {why}. Nothing uses it; its removal is tried again from \
             time to time, and succeeds after a restart of the Docker engine at the latest"
        );
        journal.cluster_event("cluster_delete", Level::Warning, "NetworkLeftOver", text);
    }
}

/// Removes what the machines shared.
async fn shared_volume(ctx: &Context, scope: &Scope) -> Result<(), String> {
    if !scope.cluster.is_swarm() {
        return Ok(());
    }
    let name = ctx.names.shared_volume(&scope.cluster.id);
    let removed = engine("removing the machines' shared volume", ctx.provider.delete_volume(&name)).await;
    removed.map_err(|error| error.to_string())
}

fn machines(ctx: &Context, scope: &Scope) -> Step {
    if scope.machines.is_empty() {
        return Step::Done;
    }
    let hindered = scope.machines.iter().filter_map(|machine| {
        Some(format!("machine {}: {}", machine.id, ctx.memory.machine(&machine.id).note?.message))
    });
    let details: Vec<String> = hindered.take(3).collect();
    let count = format!("{} machines are still there", scope.machines.len());
    Step::Waiting(if details.is_empty() { count } else { format!("{count}; {}", details.join("; ")) })
}

/// Tasks that make no sense any more.
fn superseded(scope: &Scope, deletion_task: &str, now: Timestamp, journal: &mut Journal) -> Vec<Task> {
    let others = scope.running_tasks().filter(|task| task.id != deletion_task);
    others
        .cloned()
        .map(|mut task| {
            let what = task.task_type.as_str();
            progress::end(&mut task, Some(("ErrorClusterState", "the cluster is being deleted")), what, now, journal);
            task
        })
        .collect()
}

fn set_state(record: &mut Cluster, task: Option<&Task>, left: &Step, now: Timestamp) {
    let failed = task.filter(|task| task.state == TaskState::Fail && task.task_type == TaskType::ClusterDelete);
    let (state, reason) = match (left, failed) {
        (Step::Done, _) => (ClusterState::Deleted, None),
        (_, Some(task)) => (ClusterState::DeleteFailed, task.error.as_ref().map(|error| error.message.clone())),
        (_, None) => (ClusterState::Deleting, None),
    };
    if record.state != state || record.state_reason != reason {
        record.state = state;
        record.state_reason = reason;
        record.updated = now;
    }
}

/// Removes everything recorded that only the cluster needed. Its tasks, events and log stay, and its record for them.
fn forget(ctx: &Context, scope: &Scope, batch: &mut Batch, vpc: &Released) {
    let cluster_id = &scope.cluster.id;
    for pool in &scope.pools {
        batch.delete::<NodePool>(&pool.id);
    }
    for credential in ctx.store.list_of::<KubeCredential>(cluster_id) {
        batch.delete::<KubeCredential>(&credential.id);
    }
    for trigger in ctx.store.list_of::<Trigger>(cluster_id) {
        batch.delete::<Trigger>(&trigger.id);
    }
    if let Released::Removed(leave) = vpc {
        network::forget(ctx, &scope.cluster.network.vpc_id, leave, batch);
    }
    secrets(scope, batch);
}

fn secrets(scope: &Scope, batch: &mut Batch) {
    batch.delete_secrets_under(&format!("cluster/{}/", scope.cluster.id));
    if let Some(name) = &scope.cluster.control_plane.user_ca_secret {
        batch.delete_secret(name);
    }
}
