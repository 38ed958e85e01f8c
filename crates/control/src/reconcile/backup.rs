//! Backups are made when somebody asks, and from time to time for clusters that are promised some. A cluster's backups are
//! made under a key of their own, so that a large one holds up nobody.

use std::time::Duration;

use sampan_store::{
    Batch,
    model::{Fault, FaultKind, Level, Outcome, Task, TaskState, TaskType},
};

use super::{
    context::{Context, within},
    driver::Status,
    journal::Journal,
    lease, progress, repair,
    scope::{Life, Scope, life},
    settings::Backups,
    status::Step,
};
use crate::backup::{Backup, Kind, new_backup_id};

/// Making one.
pub(super) const SNAPSHOT_MAX: Duration = Duration::from_secs(600);
/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);
/// A periodic one that failed is tried again after this time.
const PERIODIC_RETRY: Duration = Duration::from_secs(60);
/// Attempts to end a task that others change at the same time.
const EDIT_ATTEMPTS_MAX: usize = 20;
/// Specifications of clusters that are promised periodic backups.
const PERIODIC_SPECS: [&str; 1] = ["ack.pro.small"];

/// Makes what is due.
pub(super) async fn reconcile(ctx: &Context, cluster_id: &str) -> Outcome<Status> {
    let (Some(backups), Some(scope)) = (&ctx.settings.backups, Scope::load(&ctx.store, cluster_id)) else {
        return Ok(Status::Settled);
    };
    if scope.cluster.is_swarm() || life(&scope.cluster) != Life::Alive || scope.cluster.first_running.is_none() {
        return Ok(Status::Settled);
    }
    if let Some(until) = lease::hold(&ctx.store, &ctx.identity, cluster_id, ctx.now()).await? {
        return Ok(Status::again(repair::span(ctx.now(), until), "another server works on a task of the cluster"));
    }
    let asked = scope.running_tasks().find(|task| task.task_type == TaskType::ClusterBackup);
    match asked {
        Some(task) => asked_for(ctx, &scope, backups, task).await,
        None if PERIODIC_SPECS.contains(&scope.cluster.spec.as_str()) && scope.cluster.power.is_none() => {
            periodic(ctx, &scope, backups).await
        }
        None => Ok(Status::Settled),
    }
}

/// The backup that a task asks for: its id is the task's one result.
async fn asked_for(ctx: &Context, scope: &Scope, backups: &Backups, task: &Task) -> Outcome<Status> {
    let Some(id) = task.results.first().map(|result| result.data.clone()) else { return Ok(Status::Settled) };
    match ensure(ctx, scope, backups, &id).await {
        Ok(backup) => {
            let text = format!("backup {} of {} KiB, revision {}", backup.id, backup.size >> 10, backup.revision);
            finish(ctx, scope, &task.id, None, &text).await?;
            Ok(Status::again(Duration::ZERO, "others may be due"))
        }
        Err(fault) if fault.retryable() && ctx.now() < task.deadline => {
            wait(ctx, scope, &task.id, &fault.message).await?;
            Ok(Status::again(RETRY, fault.message))
        }
        Err(fault) => {
            finish(ctx, scope, &task.id, Some(&fault.message), "the backup").await?;
            Ok(Status::again(RETRY, "others may be due"))
        }
    }
}

/// The backup of that id: found, for a run that was killed may have made it, or made.
pub(super) async fn ensure(ctx: &Context, scope: &Scope, backups: &Backups, id: &str) -> Outcome<Backup> {
    let wanted = id.to_owned();
    match on_disk(backups, move |shelf, cluster_id| shelf.get(&cluster_id, &wanted), scope).await {
        Ok(backup) => Ok(backup),
        Err(_) => make(ctx, scope, backups, id).await,
    }
}

async fn on_disk<T: Send + 'static>(
    backups: &Backups,
    work: impl FnOnce(crate::backup::Shelf, String) -> Outcome<T> + Send + 'static,
    scope: &Scope,
) -> Outcome<T> {
    let (shelf, cluster_id) = (backups.shelf.clone(), scope.cluster.id.clone());
    let worked = tokio::task::spawn_blocking(move || work(shelf, cluster_id)).await;
    worked.unwrap_or_else(|error| Err(Fault::unavailable(format!("the backups cannot be looked at: {error}"))))
}

async fn make(ctx: &Context, scope: &Scope, backups: &Backups, id: &str) -> Outcome<Backup> {
    on_disk(backups, |shelf, cluster_id| shelf.prepare(&cluster_id), scope).await?;
    let path = backups.shelf.path(&scope.cluster.id, id)?;
    within(SNAPSHOT_MAX, "making the backup", ctx.access.snapshot(&scope.cluster, &path)).await?;
    let id = id.to_owned();
    on_disk(backups, move |shelf, cluster_id| shelf.get(&cluster_id, &id), scope).await
}

/// Makes one if the last is too old, and removes those that are too many.
async fn periodic(ctx: &Context, scope: &Scope, backups: &Backups) -> Outcome<Status> {
    let all = on_disk(backups, |shelf, cluster_id| Ok(shelf.list(&cluster_id)), scope).await?;
    let last = all.iter().find(|backup| backup.kind() == Kind::Periodic).map(|backup| backup.created);
    let age = last.map_or(Duration::MAX, |last| repair::span(last, ctx.now()));
    if age < backups.interval {
        return Ok(Status::again(backups.interval - age, "the next backup is not due yet"));
    }
    let id = new_backup_id(Kind::Periodic, ctx.now());
    match make(ctx, scope, backups, &id).await {
        Ok(backup) => {
            let mut journal = Journal::of(&scope.cluster, ctx.now());
            let text = format!("periodic backup {} of {} KiB has been made", backup.id, backup.size >> 10);
            if ctx.memory.set_backup_failed(&scope.cluster.id, false) {
                journal.cluster_event("cluster_backup", Level::Info, "BackupSucceeded", text);
            } else {
                journal.log(text);
            }
            ctx.tell(journal).await?;
            let keep = backups.keep;
            on_disk(backups, move |shelf, cluster_id| thin_out(&shelf, &cluster_id, keep), scope).await?;
            Ok(Status::again(backups.interval, "the next backup is not due yet"))
        }
        Err(fault) => {
            // Told once, until one succeeds.
            if ctx.memory.set_backup_failed(&scope.cluster.id, true) {
                let text = format!("the periodic backup could not be made and is tried again: {}", fault.message);
                let mut journal = Journal::of(&scope.cluster, ctx.now());
                journal.cluster_event("cluster_backup", Level::Warning, "BackupFailed", text);
                ctx.tell(journal).await?;
            }
            Ok(Status::again(PERIODIC_RETRY, fault.message))
        }
    }
}

/// Removes the oldest periodic ones beyond `keep`. Others stay until somebody removes them.
fn thin_out(shelf: &crate::backup::Shelf, cluster_id: &str, keep: usize) -> Outcome<()> {
    shelf.sweep(cluster_id);
    let all = shelf.list(cluster_id);
    let periodic = all.iter().filter(|backup| backup.kind() == Kind::Periodic);
    periodic.skip(keep).try_for_each(|backup| shelf.remove(cluster_id, &backup.id))
}

async fn wait(ctx: &Context, scope: &Scope, task_id: &str, why: &str) -> Outcome<()> {
    let now = ctx.now();
    let step = [("snapshot", Step::Waiting(why.to_owned()))];
    edit(ctx, scope, task_id, |task, journal| progress::set_stages(task, &step, now, journal)).await
}

async fn finish(ctx: &Context, scope: &Scope, task_id: &str, failure: Option<&str>, what: &str) -> Outcome<()> {
    let now = ctx.now();
    edit(ctx, scope, task_id, |task, journal| {
        if failure.is_none() {
            progress::set_stages(task, &[("snapshot", Step::Done)], now, journal);
        }
        progress::end(task, failure.map(|why| ("BackupFailed", why)), what, now, journal);
    })
    .await
}

async fn edit(
    ctx: &Context,
    scope: &Scope,
    task_id: &str,
    change: impl Fn(&mut Task, &mut Journal) + Send,
) -> Outcome<()> {
    for _ in 0..EDIT_ATTEMPTS_MAX {
        let Some(current) = ctx.store.get::<Task>(task_id).filter(|task| task.state == TaskState::Running) else {
            return Ok(());
        };
        let (mut task, mut journal) = (current.value.clone(), Journal::of(&scope.cluster, ctx.now()));
        change(&mut task, &mut journal);
        if task == current.value {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.update(current.revision, &task);
        journal.write_to(&mut batch);
        match ctx.store.commit(batch).await.map_err(Fault::from) {
            Err(fault) if fault.kind == FaultKind::Conflict => {}
            outcome => return outcome,
        }
    }
    Err(Fault::new(FaultKind::Conflict, format!("task {task_id} changes too often to be written")))
}
