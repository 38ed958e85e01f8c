//! Parameters of the control plane's components: put in force machine by machine, and taken back when a component does not
//! come up with them.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use sampan_store::model::{Cluster, Level, Outcome, ParameterChange, Task, Timestamp};

use super::{
    context::Context,
    machines::title,
    repair,
    scope::Scope,
    status::{Facts, Step},
    upgrade::{self, Draft},
};

/// Type of the events.
const EVENT: &str = "cluster_configuration_modify";
/// A component must be ready with its new parameters within this time.
const READY_MAX: Duration = Duration::from_secs(120);
/// One that has ended by itself, and is not ready after this time, will not be.
const CRASHED_MAX: Duration = Duration::from_secs(20);
/// With the former parameters everything must be ready within this time; then the change ends all the same.
const ROLLED_BACK_MAX: Duration = Duration::from_secs(300);

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Wait,
    /// This machine gets the new parameters.
    Apply(String),
    /// They do no good.
    RollBack(String),
    /// All machines have them, or the former ones again.
    End,
}

/// What was seen.
struct Sight<'a> {
    now: Timestamp,
    api: &'a Step,
    in_force: &'a HashSet<String>,
    /// What is not ready on each machine that was asked.
    processes: BTreeMap<String, Option<String>>,
    /// Machines of the control plane, in order.
    machines: Vec<String>,
}

/// Goes one step on with a change of parameters. Answers whether the records have changed.
pub(super) async fn step(ctx: &Context, scope: &Scope, facts: &Facts) -> Outcome<bool> {
    let change = scope.cluster.control_plane.parameter_change.as_ref().filter(|change| !change.done);
    let Some(change) = change else { return Ok(false) };
    let sight = Sight {
        now: facts.now,
        api: &facts.api,
        in_force: &facts.in_force,
        processes: upgrade::processes(ctx, &change.applied).await,
        machines: scope.running_control_planes().into_iter().map(|machine| machine.id.clone()).collect(),
    };
    let act = next(change, &sight);
    let mut draft = Draft::of(scope, facts.now);
    record(scope, &act, &mut draft);
    draft.commit(ctx, scope).await
}

fn next(change: &ParameterChange, sight: &Sight<'_>) -> Act {
    let lasts = repair::span(change.since, sight.now);
    let known = |id: &&String| sight.machines.contains(id);
    let unready = change.applied.iter().filter(known).find_map(|id| trouble(id, sight));
    if change.rolled_back.is_some() {
        return if unready.is_none() || lasts >= ROLLED_BACK_MAX { Act::End } else { Act::Wait };
    }
    match unready {
        // A process that ended by itself will do so again.
        Some((has_ended, why)) if lasts >= READY_MAX || has_ended && lasts >= CRASHED_MAX => Act::RollBack(why),
        Some(_) => Act::Wait,
        None => match sight.machines.iter().find(|id| !change.applied.contains(id)) {
            Some(id) => Act::Apply(id.clone()),
            None => Act::End,
        },
    }
}

/// Why the machine is not ready, and whether a process has ended by itself.
fn trouble(machine_id: &str, sight: &Sight<'_>) -> Option<(bool, String)> {
    if !sight.in_force.contains(machine_id) {
        return Some((false, "it is being told what to be".to_owned()));
    }
    match sight.processes.get(machine_id) {
        Some(None) if *sight.api == Step::Done => None,
        Some(None) => Some((false, sight.api.message().to_owned())),
        Some(Some(why)) => Some((why.contains(" ended: "), why.clone())),
        None => Some((false, "its agent does not answer".to_owned())),
    }
}

fn record(scope: &Scope, act: &Act, draft: &mut Draft) {
    let now = draft.now;
    let options = &mut draft.cluster.control_plane;
    let Some(change) = &mut options.parameter_change else { return };
    let (level, reason, text) = match act {
        Act::Wait => return,
        Act::Apply(id) => {
            change.applied.push(id.clone());
            change.since = now;
            let machine = scope.running_control_planes().into_iter().find(|machine| machine.id == *id);
            let name = machine.map_or_else(|| id.clone(), title);
            draft.journal.log(format!("{name} gets the new parameters"));
            draft.cluster.updated = now;
            return;
        }
        Act::RollBack(why) => {
            change.rolled_back = Some(why.clone());
            change.since = now;
            let text = format!(
                "the control plane does not come up with the new parameters, the former ones are put back: {why}"
            );
            (Level::Error, "ParametersRolledBack", text)
        }
        Act::End => {
            change.done = true;
            let is_rolled_back = change.rolled_back.is_some();
            if is_rolled_back {
                options.parameters = std::mem::take(&mut change.previous);
            }
            draft.cluster.updated = now;
            let text =
                if is_rolled_back { "the former parameters are in force" } else { "the new parameters are in force" };
            draft.journal.log(text);
            return;
        }
    };
    draft.cluster.updated = now;
    draft.journal.cluster_event(EVENT, level, reason, text);
}

/// How far the change is that the task shows.
pub(super) fn progress(task: &Task, cluster: &Cluster) -> Step {
    let change = cluster.control_plane.parameter_change.as_ref().filter(|change| change.task_id == task.id);
    match change {
        None => Step::Refused("another change has taken its place".to_owned()),
        Some(ParameterChange { done: false, rolled_back: None, .. }) => {
            Step::Waiting("the control plane is being started with the new parameters".to_owned())
        }
        Some(ParameterChange { done: false, .. }) => Step::Waiting("the former parameters are put back".to_owned()),
        Some(ParameterChange { rolled_back: Some(why), .. }) => {
            Step::Refused(format!("the former parameters are in force again: {why}"))
        }
        Some(_) => Step::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("a time")
    }

    fn change(applied: &[&str], rolled_back: Option<&str>) -> ParameterChange {
        ParameterChange {
            task_id: "T-1".into(),
            previous: BTreeMap::new(),
            applied: applied.iter().map(|id| (*id).to_owned()).collect(),
            since: at(0),
            rolled_back: rolled_back.map(str::to_owned),
            done: false,
        }
    }

    fn check(change: &ParameterChange, seconds: i64, process: Option<&str>, in_force: bool, expected: &Act) {
        let force: HashSet<String> = if in_force { ["a".to_owned(), "b".to_owned()].into() } else { HashSet::new() };
        let processes = change.applied.iter().map(|id| (id.clone(), process.map(str::to_owned))).collect();
        let sight = Sight {
            now: at(seconds),
            api: &Step::Done,
            in_force: &force,
            processes,
            machines: vec!["a".into(), "b".into()],
        };
        assert_eq!(next(change, &sight), *expected, "{change:?} {seconds} {process:?} {in_force}");
    }

    #[test]
    fn one_machine_after_the_other() {
        check(&change(&[], None), 0, None, false, &Act::Apply("a".into()));
        check(&change(&["a"], None), 1, None, false, &Act::Wait);
        check(&change(&["a"], None), 1, Some("kube-apiserver is starting"), true, &Act::Wait);
        check(&change(&["a"], None), 1, None, true, &Act::Apply("b".into()));
        check(&change(&["a", "b"], None), 1, None, true, &Act::End);
        check(&change(&["gone", "a", "b"], None), 1, None, true, &Act::End);
    }

    #[test]
    fn what_does_not_come_up_is_taken_back() {
        let ended = "kube-apiserver ended: exit code 1\nunknown flag";
        check(&change(&["a"], None), 3, Some(ended), true, &Act::Wait);
        check(&change(&["a"], None), 20, Some(ended), true, &Act::RollBack(ended.into()));
        check(&change(&["a"], None), 119, Some("x is starting"), true, &Act::Wait);
        check(&change(&["a"], None), 120, Some("x is starting"), true, &Act::RollBack("x is starting".into()));
        check(&change(&["a"], Some("why")), 1, Some("x is starting"), true, &Act::Wait);
        check(&change(&["a"], Some("why")), 1, None, true, &Act::End);
        check(&change(&["a"], Some("why")), 300, Some("x is starting"), true, &Act::End);
    }
}
