//! What to do about a machine's container, decided from what is recorded and what is seen. Pure.

use std::time::Duration;

use sampan_provider::MachinePower;
use sampan_store::model::{Machine, MachineRole, MachineState, Timestamp};

use super::scope::role;
use crate::ports::Limits;

/// A machine in service this long after its last repair counts as healthy again.
pub(super) const HEALED_AFTER: Duration = Duration::from_secs(600);
/// The longest pause between two starts of a machine that keeps ending.
const START_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A machine that was never in service, or of which it is doubtful whether it needs repair, is given so many times the
/// patience: on a host that is busy starting others, a restart would only add to the load.
const LENIENCE: u32 = 5;
/// And a machine that was never in service at least this much.
const FIRST_START: Duration = Duration::from_secs(300);

/// A little more than the time for which Kubernetes believes a silent kubelet (`--node-monitor-grace-period`).
const BELIEVED_FOR: Duration = Duration::from_secs(45);

/// What is seen of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its container, if there is one.
    pub(super) power: Option<MachinePower>,
    /// Its container is of another image than machines are made from now.
    pub(super) outdated: bool,
    /// Its container could not be made lately, because the host has too little memory.
    pub(super) starved: bool,
    /// Its agent is connected.
    pub(super) connected: bool,
    /// How long its container has run without its agent being connected, as far as we watched.
    pub(super) silent: Duration,
    /// Time since we repaired it last, in this run of the server.
    pub(super) since_repair: Option<Duration>,
    /// How long this run of the server has been watching: what is older was not seen by it.
    pub(super) watched: Duration,
    /// Its cluster has never been running.
    pub(super) cluster_is_new: bool,
    /// The rest of its cluster can do without it, also without what is on its disks.
    pub(super) replaceable: bool,
    /// No machine's agent is connected: more likely it is us whom they cannot reach.
    pub(super) all_silent: bool,
    /// It was emptied, because it is being upgraded.
    pub(super) is_upgraded: bool,
    /// Now.
    pub(super) now: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Fine,
    /// Make it and start it, for the first time.
    Make,
    /// It was stopped on purpose, and shall run again.
    Boot,
    /// Look again after this time.
    Wait(Duration),
    /// It ended or vanished: start it again (or make it again), with this reason.
    Start(&'static str),
    /// It runs, but is of no use: stop it and start it again.
    Restart(&'static str),
    /// It ought to be repaired, and must wait; says why.
    Hold(String),
    /// It was repaired often enough: another machine in its place.
    Replace(&'static str),
    /// Make it anew from the present image, over its volumes.
    Renew,
}

/// Reasons, as an event's.
pub(super) const EXITED: &str = "MachineExited";
pub(super) const LOST: &str = "MachineLost";
pub(super) const SILENT: &str = "AgentSilent";
pub(super) const NOT_READY: &str = "NodeNotReady";
pub(super) const ORDERED: &str = "RepairOrdered";

/// Decides.
pub(super) fn decide(machine: &Machine, seen: &Seen, limits: &Limits) -> Step {
    let reason = match (seen.power, machine.state) {
        // Never seen running: it is being made. A container whose first start failed is started by making it.
        (None | Some(MachinePower::Created), MachineState::Pending | MachineState::Kept) => return Step::Make,
        // That the host has no memory is not the machine's fault.
        (None, _) if seen.starved => return Step::Make,
        (None, MachineState::Stopped) => return Step::Make,
        // This server knows a control plane as its own image has it. Workers keep theirs until they are upgraded: making
        // one anew would restart its pods.
        (Some(_), _)
            if seen.outdated && (role(machine).is_some_and(MachineRole::is_control_plane) || seen.is_upgraded) =>
        {
            return Step::Renew;
        }
        (Some(_), MachineState::Stopped) => return Step::Boot,
        (Some(MachinePower::Running), _) => return running(machine, seen, limits),
        (None, _) => LOST,
        (Some(MachinePower::Created | MachinePower::Exited), _) => EXITED,
    };
    if may_replace(machine, seen, limits) {
        return Step::Replace(reason);
    }
    let pause = start_pause(machine.repairs);
    match seen.since_repair {
        Some(since) if since < pause => Step::Wait(pause - since),
        _ => Step::Start(reason),
    }
}

fn running(machine: &Machine, seen: &Seen, limits: &Limits) -> Step {
    if matches!(machine.state, MachineState::Pending | MachineState::Kept) {
        return Step::Make;
    }
    let is_first_start = machine.state != MachineState::Running || seen.cluster_is_new;
    let not_ready = machine.not_ready_since.map(|since| span(since, seen.now).min(seen.watched));
    let (reason, lasts, is_doubtful) = match not_ready {
        _ if !seen.connected && seen.silent.is_zero() => return Step::Fine,
        _ if !seen.connected => {
            // A silent agent alone is no proof that the machine is of no use.
            let is_doubtful = seen.all_silent || machine.node_status.as_deref() == Some("Ready");
            (SILENT, seen.silent, is_doubtful)
        }
        Some(lasts) => (NOT_READY, lasts, false),
        None => return Step::Fine,
    };
    let patience = patience(machine, limits, is_first_start, is_doubtful);
    if lasts < patience {
        return Step::Wait(patience - lasts);
    }
    if may_replace(machine, seen, limits) { Step::Replace(reason) } else { Step::Restart(reason) }
}

/// Only machines that were in service once are replaced: one that never came up would not come up in another place. The
/// only machine of a control plane never is.
fn may_replace(machine: &Machine, seen: &Seen, limits: &Limits) -> bool {
    seen.replaceable && machine.state == MachineState::Running && machine.repairs >= limits.repairs_max
}

/// How long a machine may be of no use before it is restarted; longer each time once the usual repairs did not help.
fn patience(machine: &Machine, limits: &Limits, is_first_start: bool, is_doubtful: bool) -> Duration {
    let once = match (is_first_start, is_doubtful) {
        (true, _) => (limits.not_ready * LENIENCE).max(FIRST_START),
        (false, true) => limits.not_ready * LENIENCE,
        (false, false) => limits.not_ready,
    };
    let beyond = machine.repairs.saturating_sub(limits.repairs_max).min(5);
    once.saturating_mul(1 << beyond)
}

fn start_pause(repairs: u32) -> Duration {
    match repairs {
        0 => Duration::ZERO,
        repairs => Duration::from_secs(1 << repairs.min(6)).min(START_PAUSE_MAX),
    }
}

/// Whether the n-th repair is worth an event: the first ones, then fewer and fewer.
pub(super) fn is_worth_telling(repairs: u32) -> bool {
    repairs <= 4 || repairs.is_power_of_two()
}

/// Time from `since` to `now`; nothing when the clock went backwards.
pub(super) fn span(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
}

/// Whether Ready was said (`heard`) before the machine went out of service, and its kubelet has been silent since: Kubernetes
/// believes a silent kubelet for its grace period, after which it calls the node Unknown.
pub(super) fn is_old_news(heard: Option<Timestamp>, machine: &Machine, now: Timestamp) -> bool {
    let (Some(since), Some(heard)) = (machine.not_ready_since, heard) else { return false };
    // Kubernetes counts whole seconds.
    heard.as_second() < since.as_second() && since <= now && span(since, now) < BELIEVED_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { drain: Duration::from_secs(300), not_ready: Duration::from_secs(120), repairs_max: 3 };

    fn machine(role: &str, state: &str, repairs: u32) -> Machine {
        let pool = (role == "Worker").then_some("np1");
        serde_json::from_value(serde_json::json!({
            "id": "i-1", "account_id": "1", "region_id": "r", "zone_id": "z", "vpc_id": "vpc-1", "vswitch_id": "vsw-1",
            "ip": "10.200.0.5", "mac": "02:00:00:00:00:01", "instance_type": "ecs.g6.large", "instance_name": "n",
            "source": "ess", "created": now(), "wanted": "Run", "state": state, "repairs": repairs,
            "membership": {"cluster_id": "c1", "node_pool_id": pool, "role": role, "node_name": "r.10.200.0.5",
                "pod_cidr": null, "task_id": "T-1"},
        }))
        .expect("a machine")
    }

    fn now() -> Timestamp {
        "2024-01-01T12:00:00Z".parse().expect("a time")
    }

    fn check(role: &str, state: &str, repairs: u32, change: impl FnOnce(&mut Machine, &mut Seen), expected: Step) {
        let mut machine = machine(role, state, repairs);
        let power = Some(MachinePower::Running);
        let mut seen = Seen {
            power,
            outdated: false,
            starved: false,
            connected: true,
            silent: Duration::ZERO,
            since_repair: None,
            watched: seconds(86_400),
            cluster_is_new: false,
            all_silent: false,
            is_upgraded: false,
            replaceable: role == "Worker",
            now: now(),
        };
        change(&mut machine, &mut seen);
        assert_eq!(decide(&machine, &seen, &LIMITS), expected, "{role} {state} {repairs} {seen:?}");
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn being_made() {
        check("Worker", "pending", 0, |_, seen| seen.power = None, Step::Make);
        check("Worker", "pending", 0, |_, seen| seen.power = Some(MachinePower::Created), Step::Make);
        check("Worker", "pending", 0, |_, _| (), Step::Make);
        check("Worker", "pending", 0, |_, seen| seen.power = Some(MachinePower::Exited), Step::Start(EXITED));
    }

    #[test]
    fn ended_and_lost() {
        let exited = |_: &mut Machine, seen: &mut Seen| seen.power = Some(MachinePower::Exited);
        check("Worker", "running", 0, exited, Step::Start(EXITED));
        check("Worker", "starting", 7, exited, Step::Start(EXITED));
        check("Worker", "running", 3, exited, Step::Replace(EXITED));
        check("ControlPlane", "running", 9, exited, Step::Start(EXITED));
        check("Worker", "running", 0, |_, seen| seen.power = None, Step::Start(LOST));
        let just_now = |_: &mut Machine, seen: &mut Seen| {
            seen.power = Some(MachinePower::Exited);
            seen.since_repair = Some(seconds(1));
        };
        check("Worker", "running", 2, just_now, Step::Wait(seconds(3)));
        check("ControlPlane", "running", 40, just_now, Step::Wait(seconds(59)));
    }

    #[test]
    fn what_was_ready_before_the_machine_went_is_not_ready_after_it() {
        let mut machine = machine("Worker", "running", 1);
        let ago = |lasts: i64| now() - jiff::SignedDuration::from_secs(lasts);
        assert!(!is_old_news(Some(ago(300)), &machine, now()));
        machine.not_ready_since = Some(ago(10) + jiff::SignedDuration::from_millis(900));
        assert!(is_old_news(Some(ago(11)), &machine, now()));
        assert!(!is_old_news(Some(ago(10)), &machine, now()) && !is_old_news(None, &machine, now()));
        machine.not_ready_since = Some(ago(60));
        assert!(!is_old_news(Some(ago(300)), &machine, now()), "Kubernetes itself does not believe that any more");
    }

    #[test]
    fn of_another_image() {
        for power in [MachinePower::Running, MachinePower::Exited] {
            let outdated = move |_: &mut Machine, seen: &mut Seen| (seen.outdated, seen.power) = (true, Some(power));
            check("ControlPlane", "running", 0, outdated, Step::Renew);
        }
        check("Worker", "running", 0, |_, seen| seen.outdated = true, Step::Fine);
        check("Worker", "running", 0, |_, seen| (seen.outdated, seen.is_upgraded) = (true, true), Step::Renew);
        check("Worker", "running", 0, |_, seen| seen.is_upgraded = true, Step::Fine);
        check("ControlPlane", "pending", 0, |_, seen| (seen.outdated, seen.power) = (true, None), Step::Make);
    }

    #[test]
    fn a_host_without_memory_is_not_the_machines_fault() {
        let starved = |_: &mut Machine, seen: &mut Seen| (seen.starved, seen.power) = (true, None);
        check("Worker", "running", 3, starved, Step::Make);
    }

    #[test]
    fn running_but_of_no_use() {
        check("Worker", "running", 0, |_, _| (), Step::Fine);
        let not_ready = |lasts: i64| {
            move |machine: &mut Machine, _: &mut Seen| {
                machine.not_ready_since = Some(now() - jiff::SignedDuration::from_secs(lasts));
            }
        };
        check("Worker", "running", 0, not_ready(20), Step::Wait(seconds(100)));
        check("Worker", "running", 0, not_ready(120), Step::Restart(NOT_READY));
        check("Worker", "running", 3, not_ready(120), Step::Replace(NOT_READY));
        check("Worker", "starting", 3, not_ready(600), Step::Restart(NOT_READY));
        check("ControlPlane", "running", 5, not_ready(120), Step::Wait(seconds(360)));
        check("Worker", "running", 0, not_ready(-50), Step::Wait(seconds(120)));
        let silent = |_: &mut Machine, seen: &mut Seen| {
            seen.connected = false;
            seen.silent = seconds(121);
        };
        check("Worker", "running", 0, silent, Step::Restart(SILENT));
        let still_ready = |machine: &mut Machine, seen: &mut Seen| {
            silent(machine, seen);
            machine.node_status = Some("Ready".into());
        };
        check("Worker", "running", 0, still_ready, Step::Wait(seconds(479)));
        let all = |machine: &mut Machine, seen: &mut Seen| {
            silent(machine, seen);
            seen.all_silent = true;
        };
        check("ControlPlane", "running", 0, all, Step::Wait(seconds(479)));
        let before_our_time = |machine: &mut Machine, seen: &mut Seen| {
            not_ready(9999)(machine, seen);
            seen.watched = seconds(5);
        };
        check("Worker", "running", 0, before_our_time, Step::Wait(seconds(115)));
    }

    #[test]
    fn a_first_start_may_take_longer() {
        let late = |machine: &mut Machine, _: &mut Seen| {
            machine.not_ready_since = Some(now() - jiff::SignedDuration::from_secs(120));
        };
        check("Worker", "starting", 0, late, Step::Wait(seconds(480)));
        check("ControlPlane", "starting", 0, late, Step::Wait(seconds(480)));
        check("ControlPlane", "starting", 5, late, Step::Wait(seconds(4 * 600 - 120)));
        let in_a_new_cluster = |machine: &mut Machine, seen: &mut Seen| {
            late(machine, seen);
            seen.cluster_is_new = true;
        };
        check("ControlPlane", "running", 0, in_a_new_cluster, Step::Wait(seconds(480)));
        let silent = |_: &mut Machine, seen: &mut Seen| {
            seen.connected = false;
            seen.silent = seconds(121);
        };
        check("Worker", "starting", 0, silent, Step::Wait(seconds(479)));
        let machine = machine("Worker", "starting", 0);
        let short = Limits { not_ready: seconds(10), ..LIMITS };
        assert_eq!(patience(&machine, &short, true, false), seconds(300), "never less than five minutes");
    }

    #[test]
    fn the_told_repairs_become_fewer() {
        let told: Vec<u32> = (1..=40).filter(|n| is_worth_telling(*n)).collect();
        assert_eq!(told, [1, 2, 3, 4, 8, 16, 32]);
    }
}
