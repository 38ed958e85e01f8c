//! What was decided is asked for by the use cases, and told to those whom it concerns.

use std::collections::BTreeMap;

use sampan_store::model::{Expander, Fault, FaultKind, Outcome, Timestamp, new_uuid};

use super::{
    Work,
    decide::{Decision, Removal},
    scene::Scene,
};
use crate::{
    autoscale::{
        expander::Priorities,
        model::Pod,
        observe::{About, News, View},
        simulate::{Growth, Unhelped},
    },
    service::{
        RequestContext,
        node_pool::{PoolGrow, PoolShrink},
    },
};

/// Events that one look makes at most.
const NEWS_MAX: usize = 50;
/// Pods that are named in an event of the cluster.
const NAMED_MAX: usize = 3;
/// Who asks.
const PRINCIPAL: &str = "autoscaler";

fn context(scene: &Scene) -> RequestContext {
    RequestContext {
        account_id: scene.cluster.account_id.clone(),
        principal: PRINCIPAL.to_owned(),
        is_root: false,
        request_id: new_uuid(),
        region_id: scene.cluster.region_id.clone(),
        nonce: None,
    }
}

/// Fills pools that are below their minimum; answers whether nodes come.
pub(super) async fn fill(work: &Work, scene: &Scene, now: Timestamp) -> Outcome<bool> {
    let mut any = false;
    for pool in scene.scaling() {
        let fewest = pool.scales().map_or(0, |scaling| scaling.min_instances) as usize;
        let present = scene.staying(pool).count();
        let missing = fewest.saturating_sub(present);
        if missing == 0 || work.memory.barred(&scene.cluster.id, &pool.id, now) {
            continue;
        }
        let input = PoolGrow {
            count: u32::try_from(missing).unwrap_or(u32::MAX),
            vswitch_ids: Vec::new(),
            reason: "ScaleUpToMinimum",
            message: format!("Node pool {} has {present} nodes, and its minimum is {fewest}", pool.name),
        };
        any |= grow(work, scene, &pool.id, &input, now).await? > 0;
    }
    Ok(any)
}

/// Asks for nodes; a pool that cannot have them is left alone for a while.
async fn grow(work: &Work, scene: &Scene, pool_id: &str, input: &PoolGrow, now: Timestamp) -> Outcome<u32> {
    let id = &scene.cluster.id;
    let outcome = work.service.node_pool_grow(&context(scene), id, pool_id, input).await;
    let fault = match outcome {
        Ok(count) => return Ok(count),
        Err(fault) => fault,
    };
    if is_passing(&fault) {
        return Err(fault);
    }
    work.memory.back_off(id, pool_id, &fault.message, now);
    let name = scene.pool(pool_id).map_or(pool_id, |pool| &pool.name);
    let text = format!("Node pool {name} cannot grow: {}", fault.message);
    work.service.autoscaling_event(&context(scene), id, "ScaleUpFailed", &text).await?;
    Ok(0)
}

/// Whether the same may go well in a moment.
fn is_passing(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::ClusterState | FaultKind::Conflict | FaultKind::Unavailable)
}

/// The cluster's own order of its pools, when it matters now.
pub(super) async fn priorities(work: &Work, scene: &Scene) -> Outcome<Option<Priorities>> {
    const INVALID: &str = "PrioritiesInvalid";
    let id = &scene.cluster.id;
    if scene.config.expander != Expander::Priority {
        return Ok(None);
    }
    match work.eyes.priorities(id).await?.as_deref().map(Priorities::parse) {
        None => Ok(None),
        Some(Ok(priorities)) => {
            work.memory.relieve(id, INVALID);
            Ok(Some(priorities))
        }
        Some(Err(why)) => {
            let text = format!("kube-system/cluster-autoscaler-priority-expander has no effect: {why}");
            complain(work, scene, INVALID, &text).await?;
            Ok(None)
        }
    }
}

/// Tells a trouble once, until it is over.
pub(super) async fn complain(work: &Work, scene: &Scene, reason: &'static str, text: &str) -> Outcome<()> {
    let id = &scene.cluster.id;
    if !work.memory.is_new_complaint(id, reason) {
        return Ok(());
    }
    work.service.autoscaling_event(&context(scene), id, reason, text).await
}

/// Does what was decided.
pub(super) async fn carry_out(
    work: &Work,
    scene: &Scene,
    view: &View,
    decision: Decision,
    now: Timestamp,
) -> Outcome<()> {
    let mut news = Vec::new();
    replace_broken(work, scene, &decision.broken, now).await?;
    for growth in &decision.growths {
        scale_up(work, scene, growth, &mut news, now).await?;
    }
    for unhelped in decision.unhelped.iter().take(NEWS_MAX) {
        news.extend(refusal(work, scene, unhelped));
    }
    scale_down(work, scene, &decision.removals, &mut news).await?;
    tell(work, scene, view, news).await;
    Ok(())
}

/// Machines that never came into service go, and their pools wait before they try again.
async fn replace_broken(work: &Work, scene: &Scene, broken: &[Removal], now: Timestamp) -> Outcome<()> {
    for removal in broken {
        work.memory.back_off(&scene.cluster.id, &removal.pool_id, &removal.why, now);
        let input = PoolShrink {
            machine_ids: vec![removal.machine_id.clone()],
            broken: true,
            reason: "ScaleUpTimedOut",
            message: format!("Machine {} is given up: {}", removal.machine_id, removal.why),
        };
        work.service.node_pool_shrink(&context(scene), &scene.cluster.id, &removal.pool_id, &input).await?;
    }
    Ok(())
}

async fn scale_up(work: &Work, scene: &Scene, growth: &Growth, news: &mut Vec<News>, now: Timestamp) -> Outcome<()> {
    let Some(pool) = scene.pool(&growth.pool_id) else { return Ok(()) };
    let zone = growth.zone.as_deref();
    let named: Vec<String> = growth.pods.iter().take(NAMED_MAX).map(|pod| pod.title()).collect();
    let more = growth.pods.len().saturating_sub(named.len());
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    let place = zone.map(|zone| format!(" in zone {zone}")).unwrap_or_default();
    let input = PoolGrow {
        count: u32::try_from(growth.nodes).unwrap_or(u32::MAX),
        vswitch_ids: zone.map(|zone| scene.vswitches_in(pool, zone)).unwrap_or_default(),
        reason: "TriggeredScaleUp",
        message: format!(
            "Node pool {} gets {} nodes{place}: pods find no place: {}{others}",
            pool.name,
            growth.nodes,
            named.join(", ")
        ),
    };
    let before = scene.staying(pool).count();
    let came = grow(work, scene, &pool.id, &input, now).await? as usize;
    if came > 0 {
        let most = pool.scales().map_or(0, |scaling| scaling.max_instances);
        let text = format!("pod triggered scale-up: [{{{} {before}->{} (max: {most})}}]", pool.name, before + came);
        news.extend(growth.pods.iter().map(|pod| about_pod(pod, "TriggeredScaleUp", text.clone())));
    }
    Ok(())
}

fn about_pod(pod: &Pod, reason: &'static str, message: String) -> News {
    let about = About::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
    News { about, reason, message, warning: false }
}

/// What a pod is told that no new node would help; nothing, if it knows.
fn refusal(work: &Work, scene: &Scene, unhelped: &Unhelped) -> Option<News> {
    let reasons: Vec<String> = unhelped.reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
    let text = format!("pod didn't trigger scale-up: {}", reasons.join(", "));
    let is_news = work.memory.is_news(&scene.cluster.id, &unhelped.pod.uid, &text);
    is_news.then(|| about_pod(&unhelped.pod, "NotTriggerScaleUp", text))
}

async fn scale_down(work: &Work, scene: &Scene, removals: &[Removal], news: &mut Vec<News>) -> Outcome<()> {
    let mut pools: BTreeMap<&str, Vec<&Removal>> = BTreeMap::new();
    for removal in removals {
        pools.entry(&removal.pool_id).or_default().push(removal);
    }
    for (pool_id, removals) in pools {
        let words: Vec<String> = removals.iter().map(|one| format!("{} ({})", one.node, one.why)).collect();
        let name = scene.pool(pool_id).map_or(pool_id, |pool| &pool.name);
        let input = PoolShrink {
            machine_ids: removals.iter().map(|removal| removal.machine_id.clone()).collect(),
            broken: false,
            reason: "ScaleDown",
            message: format!("Node pool {name} does not need: {}", words.join("; ")),
        };
        let left = work.service.node_pool_shrink(&context(scene), &scene.cluster.id, pool_id, &input).await?;
        for removal in removals.iter().filter(|removal| left.contains(&removal.machine_id)) {
            let about = About::Node { name: removal.node.clone() };
            let message = format!("node is removed by the autoscaler: {}", removal.why);
            news.push(News { about, reason: "ScaleDown", message, warning: false });
        }
    }
    Ok(())
}

/// Tells Kubernetes' users. That is a courtesy: what was done is recorded already.
async fn tell(work: &Work, scene: &Scene, view: &View, news: Vec<News>) {
    let exists = |one: &News| match &one.about {
        About::Pod { uid, .. } => view.pods.contains_key(uid),
        About::Node { name } => view.nodes.contains_key(name),
    };
    for one in news.into_iter().filter(exists).take(NEWS_MAX) {
        if let Err(error) = work.eyes.tell(&scene.cluster.id, &one).await {
            tracing::debug!(cluster = scene.cluster.id, %error, "an event could not be made");
            return;
        }
    }
}
