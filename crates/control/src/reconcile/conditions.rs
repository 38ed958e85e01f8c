//! How the parts of a cluster are, since when, in words that a person can follow. Pure.

use std::time::Duration;

use sampan_store::model::{Condition, Health, Level, Timestamp};

use super::{
    journal::Journal,
    repair,
    scope::Scope,
    status::{Facts, Step, Verdict},
};
use crate::ports::ComponentView;

/// What is amiss for less than this is not told of: an API server that restarts is up again by then.
const TOLD_AFTER: Duration = Duration::from_secs(20);

/// Brings the conditions of a cluster that has been running up to date, and tells of what has been amiss for some time.
pub(super) fn note(scope: &Scope, facts: &Facts, verdict: &mut Verdict) {
    if scope.cluster.first_running.is_none() {
        return;
    }
    let before = &scope.cluster.conditions;
    let mut after = Vec::new();
    for view in views(scope, facts) {
        let known = before.iter().find(|condition| condition.component == view.component);
        after.push(next(known, view, facts.now, &mut verdict.journal));
    }
    // What could not be looked at this time stays as it was.
    let is_new = |component: &str| after.iter().any(|condition: &Condition| condition.component == component);
    let kept: Vec<Condition> = before.iter().filter(|condition| !is_new(&condition.component)).cloned().collect();
    after.extend(kept);
    after.sort_by(|a, b| a.component.cmp(&b.component));
    verdict.cluster.conditions = after;
}

fn views(scope: &Scope, facts: &Facts) -> Vec<ComponentView> {
    let step = |component, step: &Step, well: &str| match step {
        Step::Done => ComponentView { component, health: Health::Healthy, message: well.to_owned() },
        step => ComponentView { component, health: Health::Unhealthy, message: step.message().to_owned() },
    };
    let mut views = vec![
        step("network", &facts.network, "the network is there"),
        step("certificates", &facts.certificates, "all certificates are valid"),
        api_server(scope, facts),
        step("endpoint", &facts.endpoint, "the load balancer listens"),
    ];
    if !facts.ending.is_empty() {
        let words: Vec<String> = facts.ending.iter().map(|(name, at)| format!("{name} ends at {at}")).collect();
        views[1] = ComponentView { component: "certificates", health: Health::Degraded, message: words.join("; ") };
    }
    match &facts.components_seen {
        Some(seen) => views.extend(seen.iter().cloned()),
        None if facts.api == Step::Done => {}
        None => {
            let unknown = |component| ComponentView {
                component,
                health: Health::Unknown,
                message: "the control plane does not answer".to_owned(),
            };
            views.extend(["etcd", "controllers", "scheduler", "dns"].map(unknown));
        }
    }
    views
}

/// Where there are several API servers, one that is away does no harm yet.
fn api_server(scope: &Scope, facts: &Facts) -> ComponentView {
    let (all, ready) = (scope.running_control_planes().len(), facts.api_ready.len());
    let (health, message) = match &facts.api {
        Step::Done if all > 1 && ready < all => (Health::Degraded, format!("{ready} of {all} API servers are ready")),
        Step::Done if all > 1 => (Health::Healthy, format!("all {all} API servers are ready")),
        Step::Done => (Health::Healthy, "the API server is ready".to_owned()),
        step => (Health::Unhealthy, step.message().to_owned()),
    };
    ComponentView { component: "api_server", health, message }
}

fn next(known: Option<&Condition>, view: ComponentView, now: Timestamp, journal: &mut Journal) -> Condition {
    let fresh = |told| Condition {
        component: view.component.to_owned(),
        health: view.health,
        message: view.message.clone(),
        since: now,
        told,
    };
    let is_amiss = |health| matches!(health, Health::Unhealthy | Health::Degraded);
    match known {
        None => fresh(false),
        Some(known) if known.health != view.health => {
            let stays_amiss = is_amiss(known.health) && view.health != Health::Healthy;
            if known.told && view.health == Health::Healthy {
                let lasted = repair::span(known.since, now).as_secs();
                let text = format!("{} is healthy again after {lasted} s", words(view.component));
                journal.cluster_event("cluster_modify", Level::Info, "ComponentHealthy", text);
            }
            fresh(known.told && stays_amiss)
        }
        Some(known) => {
            let mut same = known.clone();
            let is_due = is_amiss(view.health) && repair::span(known.since, now) >= TOLD_AFTER;
            if is_due && !known.told {
                let text = format!("{} is {:?}: {}", words(view.component), view.health, view.message).to_lowercase();
                journal.cluster_event("cluster_modify", Level::Warning, "ComponentUnhealthy", text);
                same.told = true;
                same.message = view.message;
            }
            same
        }
    }
}

fn words(component: &str) -> String {
    component.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(health: Health, message: &str) -> ComponentView {
        ComponentView { component: "etcd", health, message: message.into() }
    }

    #[test]
    fn what_lasts_is_told_once_and_so_is_its_end() {
        let cluster = crate::reconcile::scope::tests::cluster("running");
        let start: Timestamp = "2024-01-01T00:00:00Z".parse().expect("a time");
        let mut journal = Journal::of(&cluster, start);
        let mut known: Option<Condition> = None;
        let mut see = |seconds: u64, health, journal: &mut Journal| {
            let now = start + Duration::from_secs(seconds);
            known = Some(next(known.as_ref(), view(health, "no quorum"), now, journal));
            known.clone().expect("a condition")
        };
        let first = see(0, Health::Healthy, &mut journal);
        assert_eq!(see(10, Health::Healthy, &mut journal), first, "nothing new is nothing to write");
        see(20, Health::Unhealthy, &mut journal);
        assert_eq!(see(30, Health::Healthy, &mut journal).since, start + Duration::from_secs(30));
        assert!(journal.events.is_empty(), "a short one is not told of");
        see(40, Health::Unhealthy, &mut journal);
        see(61, Health::Unhealthy, &mut journal);
        see(90, Health::Unhealthy, &mut journal);
        see(100, Health::Unknown, &mut journal);
        see(110, Health::Healthy, &mut journal);
        let reasons: Vec<&str> = journal.events.iter().map(|event| event.reason.as_str()).collect();
        assert_eq!(reasons, ["ComponentUnhealthy", "ComponentHealthy"]);
        assert!(journal.events[0].message.contains("no quorum"));
    }
}
