//! A cluster is put back to a backup: its control plane's machines receive the snapshot, etcd's data is made anew from it
//! on all of them, and the API comes up with it. Until the data is replaced nothing has happened; after that, what fails is
//! taken back, and the API comes up with the former data. The phase is recorded before anything is done about it.

use std::{net::Ipv4Addr, time::Duration};

use sampan_agents::spec::ProcessState;
use sampan_store::model::{
    Cluster, ClusterState, EtcdMember, EtcdStage, Fault, Machine, Outcome, Restore, RestorePhase, TaskState,
};

use super::{
    context::{Context, Key, within},
    control_plane,
    driver::Status,
    journal::Journal,
    machines::title,
    power::{commit, task},
    progress, repair,
    scope::Scope,
    settings::{ACCESS_CALL_MAX, AGENT_CALL_MAX},
    status::Step,
};
use crate::{kubernetes::restore_process, ports::ApiReadiness};

/// What is waited for is looked at again after this time.
const POLL: Duration = Duration::from_millis(500);
/// Sending the snapshot to one machine.
const SEND_MAX: Duration = Duration::from_secs(600);
/// No phase lasts longer.
const PHASE_MAX: Duration = Duration::from_secs(900);
/// The API is up again within this time, or the former data is put back.
const START_MAX: Duration = Duration::from_secs(300);
/// A machine's work that failed so often will not succeed.
const TRIES_MAX: u32 = 3;

/// How a phase stands.
enum Progress {
    /// Goes on; what is waited for.
    Waits(String),
    /// The next one.
    Next(Restore),
    /// Through, well or with this failure.
    Over(Option<String>),
}

/// Brings it forward.
pub(super) async fn reconcile(ctx: &Context, scope: &Scope) -> Outcome<Status> {
    let Some(restore) = &scope.cluster.restore else { return Ok(Status::Settled) };
    // Machines are told nothing before these are there, also by a server that was just started.
    let progress = match control_plane::certificates(ctx, scope).await {
        Step::Done => advance(ctx, scope, restore).await,
        step => Progress::Waits(step.message().to_owned()),
    };
    let mut record = scope.cluster.value.clone();
    let mut journal = Journal::of(&scope.cluster, ctx.now());
    let mut task = task(scope, &restore.task_id);
    let what = format!("putting cluster {} back to backup {}", scope.cluster.name, restore.backup_id);
    let (waits, stages) = match &progress {
        Progress::Waits(why) => (Some(why.clone()), stages(restore, why)),
        Progress::Next(next) => (Some(String::new()), stages(next, "")),
        Progress::Over(_) => (None, Vec::new()),
    };
    if let Some(task) = task.as_mut().filter(|task| task.state == TaskState::Running) {
        progress::set_stages(task, &stages, ctx.now(), &mut journal);
        if let Progress::Over(failure) = &progress {
            let done = ["check", "receive", "replace", "control_plane"].map(|name| (name, Step::Done));
            match failure {
                None => {
                    progress::set_stages(task, &done, ctx.now(), &mut journal);
                    progress::end(task, None, &what, ctx.now(), &mut journal);
                }
                Some(why) => progress::end(task, Some(("RestoreFailed", why)), &what, ctx.now(), &mut journal),
            }
        }
    }
    match progress {
        Progress::Waits(_) => {}
        Progress::Next(next) => {
            if let Some(why) = next.failure.as_ref().filter(|_| restore.failure.is_none()) {
                journal.log(format!("{what} failed and is taken back: {why}"));
            }
            record.restore = Some(next);
        }
        Progress::Over(failure) => {
            let stays = restore.anew && restore.phase == RestorePhase::Start;
            over(ctx, scope, &mut record, failure.is_none() || stays);
        }
    }
    commit(ctx, scope, record, task, journal).await?;
    Ok(waits.map_or(Status::Settled, |why| Status::again(POLL, why)))
}

/// `is_restored`: the backup's data is what the cluster has from now on.
fn over(ctx: &Context, scope: &Scope, record: &mut Cluster, is_restored: bool) {
    record.restore = None;
    record.state = ClusterState::Running;
    record.state_reason = None;
    record.restores = record.restores.saturating_add(u32::from(is_restored));
    // What was known of the cluster is of its former data.
    ctx.access.forget(&scope.cluster.id);
    ctx.memory.forget_cluster(&scope.cluster.id);
    for machine in &scope.machines {
        ctx.memory.with_machine(&machine.id, |memory| memory.settled = None);
        ctx.wake_machine(&machine.id);
    }
    ctx.waker.wake(Key::Backup(scope.cluster.id.clone()));
}

async fn advance(ctx: &Context, scope: &Scope, restore: &Restore) -> Progress {
    let lasts = repair::span(restore.since, ctx.now());
    let next = |phase| Progress::Next(Restore { phase, since: ctx.now(), ..restore.clone() });
    let take_back = |why: String| {
        let failure = Some(why);
        Progress::Next(Restore { phase: RestorePhase::TakeBack, since: ctx.now(), failure, ..restore.clone() })
    };
    match restore.phase {
        RestorePhase::Check => check(ctx, scope, restore).await,
        RestorePhase::Receive => match machines(ctx, scope, restore, Some(send)).await {
            Ok(Step::Done) => {
                // Its answers are of data that goes.
                ctx.access.forget(&scope.cluster.id);
                // All that are left have received it; one that was lost meanwhile would be missed by the others.
                Progress::Next(Restore {
                    phase: RestorePhase::Replace,
                    since: ctx.now(),
                    members: addresses(scope, restore),
                    anew: members(scope, restore).iter().any(|machine| !machine.may_run_etcd()),
                    ..restore.clone()
                })
            }
            Ok(step) if lasts >= PHASE_MAX => Progress::Over(Some(late(step.message()))),
            Ok(step) => Progress::Waits(step.message().to_owned()),
            Err(why) => Progress::Over(Some(why)),
        },
        RestorePhase::Replace => match machines(ctx, scope, restore, None).await {
            Ok(Step::Done) => match found(ctx, scope, restore).await {
                Ok(()) => next(RestorePhase::Start),
                Err(fault) => Progress::Waits(fault.message),
            },
            Ok(step) if lasts >= PHASE_MAX => take_back(late(step.message())),
            Ok(step) => Progress::Waits(step.message().to_owned()),
            Err(why) => take_back(why),
        },
        RestorePhase::Start => match api(ctx, scope, restore).await {
            None => Progress::Over(None),
            // There is no former data to go back to.
            Some(why) if restore.anew && lasts >= PHASE_MAX => Progress::Over(Some(late(&why))),
            Some(why) if !restore.anew && lasts >= START_MAX => take_back(late(&why)),
            Some(why) => Progress::Waits(why),
        },
        RestorePhase::TakeBack => match machines(ctx, scope, restore, None).await {
            Ok(Step::Done) => next(RestorePhase::StartFormer),
            Ok(step) => Progress::Waits(step.message().to_owned()),
            // There is nothing else to be done: it is tried until it succeeds.
            Err(why) => Progress::Waits(why),
        },
        RestorePhase::StartFormer => match api(ctx, scope, restore).await {
            None => Progress::Over(Some(failure(restore))),
            Some(why) if lasts >= START_MAX => Progress::Over(Some(format!(
                "{}; the API does not come up with the former data either: {why}",
                failure(restore)
            ))),
            Some(why) => Progress::Waits(why),
        },
    }
}

fn failure(restore: &Restore) -> String {
    restore.failure.clone().unwrap_or_else(|| "it was taken back".to_owned())
}

fn late(why: &str) -> String {
    format!("it did not end in time: {why}")
}

/// Reads the whole file before anything is touched.
async fn check(ctx: &Context, scope: &Scope, restore: &Restore) -> Progress {
    let Some(backups) = &ctx.settings.backups else {
        return Progress::Over(Some("this server keeps no backups".to_owned()));
    };
    if members(scope, restore).is_empty() {
        return Progress::Over(Some("no machine of the control plane is left".to_owned()));
    }
    let (shelf, cluster_id, id) = (backups.shelf.clone(), scope.cluster.id.clone(), restore.backup_id.clone());
    let verified = tokio::task::spawn_blocking(move || shelf.verify(&cluster_id, &id)).await;
    match verified.unwrap_or_else(|error| Err(Fault::unavailable(format!("the backup was not read: {error}")))) {
        Ok(backup) => Progress::Next(Restore {
            phase: RestorePhase::Receive,
            since: ctx.now(),
            sha256: backup.sha256,
            members: addresses(scope, restore),
            ..restore.clone()
        }),
        Err(fault) if fault.retryable() && repair::span(restore.since, ctx.now()) < PHASE_MAX => {
            Progress::Waits(fault.message)
        }
        Err(fault) => Progress::Over(Some(fault.message)),
    }
}

/// Machines with a member of etcd. One that is to become a member does so afterwards. When all were lost with their disks,
/// it is one machine that begins anew with the backup's data, and the others join it.
fn members<'a>(scope: &'a Scope, restore: &Restore) -> Vec<&'a Machine> {
    let mut members = scope.running_control_planes();
    if members.iter().any(|machine| machine.may_run_etcd()) {
        members.retain(|machine| machine.may_run_etcd());
    } else if restore.members.is_empty() {
        members.truncate(1);
    } else {
        members.retain(|machine| restore.members.contains(&machine.ip));
    }
    members
}

/// The members' addresses; none where the control plane is one machine.
fn addresses(scope: &Scope, restore: &Restore) -> Vec<Ipv4Addr> {
    members(scope, restore).iter().filter(|machine| machine.etcd().is_some()).map(|machine| machine.ip).collect()
}

/// A machine that begins anew is a founder as soon as the backup's data is its own, and not before: with no data its etcd
/// would be an empty one, and the nodes would end their pods.
async fn found(ctx: &Context, scope: &Scope, restore: &Restore) -> Outcome<()> {
    for newcomer in members(scope, restore).into_iter().filter(|machine| !machine.may_run_etcd()) {
        let written = ctx.edit_machine(&scope.cluster, &newcomer.id, |machine, journal| {
            let Some(membership) = &mut machine.membership else { return false };
            membership.etcd = Some(EtcdMember { stage: EtcdStage::Founder, peers: restore.members.clone() });
            journal.log(format!("{} begins etcd anew with the data of the backup", title(machine)));
            true
        });
        if written.await? {
            ctx.wake_machine(&newcomer.id);
        }
    }
    Ok(())
}

/// What `None` is for phases in which machines need nothing from us.
type Help = for<'a> fn(&'a Context, &'a Scope, &'a Restore, &'a Machine) -> futures::future::BoxFuture<'a, Outcome<()>>;

/// How far the control plane's machines are with what they have to do in this phase. An error: one of them cannot.
async fn machines(ctx: &Context, scope: &Scope, restore: &Restore, help: Option<Help>) -> Result<Step, String> {
    let mut waits = Step::Done;
    for machine in members(scope, restore) {
        let step = match machine_step(ctx, scope, restore, machine).await? {
            Step::Waiting(why) => match help {
                None => Step::Waiting(why),
                Some(help) => match help(ctx, scope, restore, machine).await {
                    Ok(()) => Step::Waiting(why),
                    Err(fault) if fault.retryable() => Step::Waiting(fault.message),
                    Err(fault) => return Err(fault.message),
                },
            },
            step => step,
        };
        waits = Step::all([waits, step]);
    }
    Ok(waits)
}

async fn machine_step(ctx: &Context, scope: &Scope, restore: &Restore, machine: &Machine) -> Result<Step, String> {
    let Some(name) = restore_process(restore.phase) else { return Ok(Step::Done) };
    if ctx.memory.machine(&machine.id).in_force != Some(scope.topology()) {
        ctx.wake_machine(&machine.id);
        return Ok(Step::Blocked(format!("machine {} is being told", machine.id)));
    }
    let status = match within(AGENT_CALL_MAX, "asking the machine's agent", ctx.agents.status(&machine.id)).await {
        Ok(status) => status,
        Err(fault) => return Ok(Step::Blocked(fault.message)),
    };
    let Some(process) = status.processes.iter().find(|process| process.name == name) else {
        return Ok(Step::Blocked(format!("machine {} begins", machine.id)));
    };
    match process.state {
        ProcessState::Ready => Ok(Step::Done),
        ProcessState::BackOff if process.restarts >= TRIES_MAX => {
            let why = process.last_exit.as_deref().unwrap_or("no reason known");
            Err(format!("machine {}: {name} failed: {why}", machine.id))
        }
        ProcessState::BackOff => Ok(Step::Blocked(format!("machine {} tries again", machine.id))),
        ProcessState::Waiting | ProcessState::Starting => {
            Ok(Step::Waiting(format!("machine {} works on it", machine.id)))
        }
    }
}

fn send<'a>(
    ctx: &'a Context,
    scope: &'a Scope,
    restore: &'a Restore,
    machine: &'a Machine,
) -> futures::future::BoxFuture<'a, Outcome<()>> {
    Box::pin(async move {
        let Some(backups) = &ctx.settings.backups else { return Ok(()) };
        let path = backups.shelf.path(&scope.cluster.id, &restore.backup_id)?;
        let call = ctx.access.send_snapshot(&scope.cluster, &machine.id, &path);
        within(SEND_MAX, "sending the snapshot", call).await
    })
}

/// Why the API is not up; nothing when it is.
async fn api(ctx: &Context, scope: &Scope, restore: &Restore) -> Option<String> {
    for machine in members(scope, restore) {
        if ctx.memory.machine(&machine.id).in_force != Some(scope.topology()) {
            ctx.wake_machine(&machine.id);
            return Some(format!("machine {} is being told", machine.id));
        }
    }
    // The machines that were put back, not those that are gone and merely not removed yet.
    let ask = |machine: &Machine| {
        let (cluster, id) = (&scope.cluster, machine.id.clone());
        async move { within(ACCESS_CALL_MAX, "asking the API server", ctx.access.readiness_on(cluster, &id)).await }
    };
    let mut why = None;
    for answer in futures::future::join_all(members(scope, restore).into_iter().map(ask)).await {
        match answer {
            Ok(ApiReadiness::Ready) => return None,
            Ok(ApiReadiness::Starting(what)) => why = Some(what),
            Err(fault) => why = why.or(Some(fault.message)),
        }
    }
    Some(why.unwrap_or_else(|| "no machine of the control plane is left".to_owned()))
}

fn stages(restore: &Restore, why: &str) -> Vec<(&'static str, Step)> {
    const ORDER: [&str; 4] = ["check", "receive", "replace", "control_plane"];
    let at = match restore.phase {
        RestorePhase::Check => 0,
        RestorePhase::Receive => 1,
        RestorePhase::Replace => 2,
        RestorePhase::Start => 3,
        // Where it failed stays to be seen.
        RestorePhase::TakeBack | RestorePhase::StartFormer => return Vec::new(),
    };
    let step = |(index, name): (usize, &&'static str)| {
        let step = match index.cmp(&at) {
            std::cmp::Ordering::Less => Step::Done,
            std::cmp::Ordering::Equal => Step::Waiting(why.to_owned()),
            std::cmp::Ordering::Greater => Step::Blocked(String::new()),
        };
        (*name, step)
    };
    ORDER.iter().enumerate().map(step).collect()
}
