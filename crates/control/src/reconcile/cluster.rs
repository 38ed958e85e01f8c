//! A cluster's own controller: what its machines are together.
//!
//! Every look does what can be done now; nothing waits for a step that it does not need. What belongs to a single machine
//! (its container, its spec, its repair, its removal) is done under the machine's own key at the same time.

use std::time::Duration;

use futures::join;
use sampan_store::{
    Batch, Document, Versioned,
    model::{ClusterState, Fault, FaultKind, Machine, NodePool, Outcome, Timestamp},
};

use super::{
    balancing, base,
    context::{Context, Key, engine},
    control_plane, deletion,
    driver::Status,
    etcd, lease, listeners,
    memory::Note,
    network, nodes, parameters, power, repair, restore,
    scope::{Life, Scope, life},
    settings::CERTIFICATES_FRESH,
    status::{Facts, Step, Verdict, assess},
    upgrade,
};

/// Lines of a machine's console that a failed creation leaves in the log.
const CONSOLE_LINES: u32 = 20;
/// Machines whose console is kept.
const CONSOLES_MAX: usize = 3;

/// Looks at one cluster and does what can be done now.
pub(super) async fn reconcile(ctx: &Context, cluster_id: &str) -> Outcome<Status> {
    let scope = Scope::load(&ctx.store, cluster_id).filter(|scope| life(&scope.cluster) != Life::Gone);
    let Some(scope) = scope else {
        ctx.access.forget(cluster_id);
        ctx.memory.forget_cluster(cluster_id);
        return Ok(Status::Settled);
    };
    if let Some(until) = lease::hold(&ctx.store, &ctx.identity, cluster_id, ctx.now()).await? {
        let wait = repair::span(ctx.now(), until);
        return Ok(Status::again(wait, "another server works on a task of the cluster"));
    }
    if ctx.memory.set_topology(cluster_id, scope.topology()) {
        scope.machines.iter().for_each(|machine| ctx.wake_machine(&machine.id));
        ctx.waker.wake(Key::Balancer);
    }
    match life(&scope.cluster) {
        Life::Alive => alive(ctx, &scope).await,
        Life::Stopping => power::stop(ctx, &scope).await,
        Life::Restoring => restore::reconcile(ctx, &scope).await,
        Life::Stopped | Life::Frozen | Life::Gone => Ok(Status::Settled),
        Life::RolledBack => deletion::roll_back(ctx, &scope).await,
        Life::Deleting => deletion::delete(ctx, &scope).await,
    }
}

async fn alive(ctx: &Context, scope: &Scope) -> Outcome<Status> {
    let facts = observe(ctx, scope).await?;
    if upgrade::step(ctx, scope, &facts).await? || parameters::step(ctx, scope, &facts).await? {
        return Ok(Status::again(Duration::ZERO, "a change has gone a step further"));
    }
    let mut verdict = assess(scope, &facts);
    let fails = verdict.cluster.state == ClusterState::Failed;
    if fails {
        keep_consoles(ctx, scope, &mut verdict).await;
    }
    let waiting = verdict.waiting.take();
    let announced = std::mem::take(&mut verdict.announced);
    match commit(ctx, scope, verdict).await {
        Err(fault) if fault.kind == FaultKind::Conflict => {
            return Ok(Status::again(Duration::ZERO, "a record changed meanwhile"));
        }
        outcome => outcome?,
    }
    ctx.memory.set_announced(&scope.cluster.id, announced);
    Ok(match waiting {
        Some(reason) => Status::again(pace(scope, facts.now), reason),
        // What lives short has to be looked at before it ends.
        None if ctx.settings.certificates_fresh < CERTIFICATES_FRESH => {
            Status::again(ctx.settings.certificates_fresh, "certificates are looked at again")
        }
        None => Status::Settled,
    })
}

/// Does what can be done for the cluster as a whole, and says how far it is.
async fn observe(ctx: &Context, scope: &Scope) -> Outcome<Facts> {
    let (network, certificates, api, members) = join!(
        network::ensure(ctx, &scope.cluster.network.vpc_id),
        control_plane::certificates(ctx, scope),
        control_plane::api(ctx, scope),
        etcd::settle(ctx, scope),
    );
    let api_answers = api.serves_us;
    let mut troubles: Vec<Note> = network.clone().err().into_iter().chain(members.trouble).collect();
    let (components, found) = if api.serves_us {
        let (components, found, refused, ()) = join!(
            base::components(ctx, scope),
            nodes::settle(ctx, scope),
            listeners::settle(ctx, scope),
            base::look(ctx, scope),
        );
        match refused {
            Ok(refused) => troubles.extend(refused),
            Err(fault) => tracing::warn!(cluster = scope.cluster.id, error = %fault, "listeners cannot be settled"),
        }
        if let Err(fault) = &found {
            tracing::debug!(cluster = scope.cluster.id, error = %fault, "the nodes cannot be looked at");
        }
        (components, found.ok())
    } else if scope.cluster.first_running.is_some() {
        (Step::Done, None)
    } else {
        (Step::Blocked("waits for the control plane".to_owned()), None)
    };
    ctx.memory.set_api_serves(&scope.cluster.id, found.is_some());
    let ending = ctx.memory.ending(&scope.cluster.id);
    troubles.extend(ending_note(&ending));
    let (nodes, settled) = found.map(|found| (Some(found.nodes), found.settled)).unwrap_or_default();
    let topology = scope.topology();
    let ids = || scope.machines.iter().map(|machine| machine.id.clone());
    Ok(Facts {
        now: ctx.now(),
        troubles,
        network: network.map_or_else(step_of, |()| Step::Done),
        certificates,
        api: api.step,
        api_ready: api.ready,
        etcd: members.step,
        components,
        endpoint: balancing::endpoint(ctx, scope),
        nodes,
        settled,
        connected: ids().filter(|id| ctx.agents.is_connected(id)).collect(),
        in_force: ids().filter(|id| ctx.memory.machine(id).in_force == Some(topology)).collect(),
        notes: ids().filter_map(|id| Some((id.clone(), ctx.memory.machine(&id).note?))).collect(),
        announced: ctx.memory.announced(&scope.cluster.id),
        ending,
        components_seen: api_answers.then(|| ctx.memory.components(&scope.cluster.id).map(|(seen, _)| seen)).flatten(),
    })
}

/// The warning that authorities end.
fn ending_note(ending: &[(String, Timestamp)]) -> Option<Note> {
    let words: Vec<String> = ending.iter().map(|(name, at)| format!("{name} at {at}")).collect();
    (!words.is_empty()).then(|| Note {
        reason: "AuthorityEnds",
        message: format!(
            "authorities of the cluster end, and with them everything that they signed: {}; they cannot be renewed, so \
             make a new cluster in time",
            words.join(", ")
        ),
        permanent: false,
    })
}

fn step_of(note: Note) -> Step {
    if note.permanent { Step::Refused(note.message) } else { Step::Waiting(note.message) }
}

/// Writes what differs, as one batch: the state, the tasks' ends and their events belong together.
async fn commit(ctx: &Context, scope: &Scope, verdict: Verdict) -> Outcome<()> {
    let mut batch = Batch::new();
    update(&mut batch, std::slice::from_ref(&scope.cluster), &[verdict.cluster]);
    update(&mut batch, &scope.machines, &verdict.machines);
    update(&mut batch, &scope.pools, &verdict.pools);
    update(&mut batch, &scope.tasks, &verdict.tasks);
    for pool in scope.pools.iter().filter(|pool| verdict.pools_gone.contains(&pool.id)) {
        batch.expect_revision::<NodePool>(&pool.id, Some(pool.revision)).delete::<NodePool>(&pool.id);
    }
    verdict.journal.write_to(&mut batch);
    ctx.store.commit(batch).await.map_err(Fault::from)
}

/// Adds those documents that differ from what was read.
pub(super) fn update<T: Document + PartialEq>(batch: &mut Batch, before: &[std::sync::Arc<Versioned<T>>], after: &[T]) {
    for document in after {
        let read = before.iter().find(|read| read.id() == document.id());
        if let Some(read) = read.filter(|read| read.value != *document) {
            batch.update(read.revision, document);
        }
    }
}

/// A creation that failed leaves the last words of the machines that did not come up. Best effort: it only informs.
async fn keep_consoles(ctx: &Context, scope: &Scope, verdict: &mut Verdict) {
    let failed = verdict.machines.iter().filter(|machine| machine.error.is_some());
    let failed: Vec<Machine> = failed.take(CONSOLES_MAX).cloned().collect();
    for machine in failed.iter().filter(|machine| machine.cluster_id() == Some(&scope.cluster.id)) {
        let name = ctx.names.machine(&machine.id);
        let Ok(text) = engine("reading the console", ctx.provider.console(&name, CONSOLE_LINES)).await else {
            continue;
        };
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.for_each(|line| verdict.journal.log(format!("{}: {line}", machine.id)));
    }
}

/// How soon to look again at something that does not announce itself: soon at first, then less and less often.
fn pace(scope: &Scope, now: Timestamp) -> Duration {
    let begun = scope.running_tasks().map(|task| task.created).chain([scope.cluster.updated]).max();
    match begun.map_or(0, |begun| repair::span(begun, now).as_secs()) {
        0..30 => Duration::from_millis(150),
        30..300 => Duration::from_secs(1),
        _ => Duration::from_secs(5),
    }
}
