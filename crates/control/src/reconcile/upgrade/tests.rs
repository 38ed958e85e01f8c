//! What comes next, as tables.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sampan_store::{
    Versioned,
    model::{
        Cluster, ClusterState, Finding, Machine, MachineWanted, MaintenanceWindow, Management, NewUpgrade, NodePool,
        NodeTurn, Surge, Timestamp, Upgrade, UpgradePhase, UpgradeState, UpgradeWanted,
    },
};
use serde_json::json;

use super::{
    auto::{self, Wish},
    checks,
    decide::{Act, Sight, Turn, next},
};
use crate::{
    ports::{Budget, DeprecatedApi, NodeReadiness, NodeRoom, NodeView, Survey},
    reconcile::{scope::Scope, status::Step},
};

const OLD: &str = "1.35.2";
const NEW: &str = "1.36.3";

fn at(seconds: i64) -> Timestamp {
    // A Thursday, at three in the morning.
    "2024-01-04T03:00:00Z".parse::<Timestamp>().expect("a time") + jiff::SignedDuration::from_secs(seconds)
}

fn versioned<T>(value: T) -> Arc<Versioned<T>> {
    Arc::new(Versioned { revision: 1, value })
}

fn machine(index: u8, version: Option<&str>) -> Machine {
    let (role, pool) = if index == 0 { ("ControlPlane", None) } else { ("Worker", Some("np1")) };
    serde_json::from_value(json!({
        "id": format!("i-{index}"), "account_id": "1", "region_id": "r", "zone_id": "z", "vpc_id": "vpc-1",
        "vswitch_id": "vsw-1", "ip": format!("10.200.0.{}", 10 + index), "mac": "02:00:00:00:00:01", "instance_type": "t",
        "instance_name": "n", "source": "ess", "created": at(i64::from(index)), "wanted": "Run", "state": "running",
        "membership": {"cluster_id": "c1", "node_pool_id": pool, "role": role, "node_name": format!("n{index}"),
            "pod_cidr": null, "task_id": "T-1", "version": version},
    }))
    .expect("a machine")
}

/// A cluster with one control plane and three workers, of the older version.
struct World {
    scope: Scope,
    upgrade: Upgrade,
    nodes: Vec<NodeView>,
    in_force: HashSet<String>,
    processes: BTreeMap<String, Option<String>>,
    versions: BTreeMap<String, String>,
    may_touch: bool,
    now: Timestamp,
}

impl World {
    fn new(phase: UpgradePhase) -> Self {
        let cluster: Cluster = serde_json::from_value(json!({
            "id": "c1", "account_id": "1", "name": "n", "region_id": "r", "zone_id": "z",
            "cluster_type": "ManagedKubernetes", "spec": "ack.pro.small", "state": "updating",
            "created": at(0), "updated": at(0), "init_version": OLD, "version": OLD, "timeout_minutes": 60,
            "creation_task_id": "T-1", "first_running": at(0),
            "network": {
                "vpc_id": "vpc-1", "vswitch_ids": [], "security_group_id": "sg-1", "pod_cidr": "172.20.0.0/16",
                "service_cidr": "172.21.0.0/20", "node_cidr_mask": 25, "dns_ip": "172.21.0.10", "api_vip": "10.200.15.1",
                "api_public_port": null, "cluster_domain": "cluster.local", "proxy_mode": "ipvs",
                "api_load_balancer_id": "lb-1",
            },
        }))
        .expect("a cluster");
        let pool: NodePool = serde_json::from_value(json!({
            "id": "np1", "cluster_id": "c1", "name": "default", "is_default": true, "state": "active", "created": at(0),
            "updated": at(0), "region_id": "r", "instance_types": ["t"], "vswitch_ids": [],
        }))
        .expect("a pool");
        let new = NewUpgrade { task_id: "T-2".into(), from: OLD.into(), to: NEW.into(), ..NewUpgrade::default() };
        let mut world = Self {
            scope: Scope {
                cluster: versioned(cluster),
                machines: (0..4).map(|index| versioned(machine(index, None))).collect(),
                pools: vec![versioned(pool)],
                tasks: Vec::new(),
            },
            upgrade: Upgrade { phase, ..new.begin(at(0)) },
            nodes: (1..4).map(|index| node(index, OLD)).collect(),
            in_force: (0..4).map(|index| format!("i-{index}")).collect(),
            processes: (0..4).map(|index| (format!("i-{index}"), None)).collect(),
            versions: BTreeMap::new(),
            may_touch: true,
            now: at(1),
        };
        if phase > UpgradePhase::ControlPlane {
            world.adopt();
        }
        world
    }

    /// The control plane has the version, the nodes keep theirs.
    fn adopt(&mut self) {
        let cluster = Cluster { version: NEW.into(), ..self.scope.cluster.value.clone() };
        self.scope.cluster = versioned(cluster);
        (1..4).for_each(|index| self.set_version(index, Some(OLD)));
    }

    fn set_version(&mut self, index: u8, version: Option<&str>) {
        self.scope.machines[usize::from(index)] = versioned(machine(index, version));
    }

    fn manage(&mut self, management: Management) {
        let pool = NodePool { management: Some(management), ..self.scope.pools[0].value.clone() };
        self.scope.pools[0] = versioned(pool);
    }

    fn turn(&mut self, index: u8, switched: bool) {
        let turn = NodeTurn { machine_id: format!("i-{index}"), was_cordoned: false, since: at(0), switched };
        self.upgrade.turns.push(turn);
    }

    fn sight(&self) -> Sight<'_> {
        Sight {
            now: self.now,
            scope: &self.scope,
            nodes: Some(&self.nodes),
            api: &Step::Done,
            in_force: &self.in_force,
            processes: self.processes.clone(),
            versions: self.versions.clone(),
            may_touch: self.may_touch,
            drain_max: Duration::from_secs(300),
        }
    }

    #[track_caller]
    fn check(&self, expected: &Act) {
        assert_eq!(next(&self.upgrade, &self.sight()), *expected);
    }

    #[track_caller]
    fn waits(&self, word: &str) {
        match next(&self.upgrade, &self.sight()) {
            Act::Wait(what) => assert!(what.contains(word), "{what}"),
            other => panic!("{other:?} instead of waiting for {word}"),
        }
    }

    #[track_caller]
    fn halts(&self, word: &str) {
        match next(&self.upgrade, &self.sight()) {
            Act::Halt(why) => assert!(why.contains(word), "{why}"),
            other => panic!("{other:?} instead of a halt for {word}"),
        }
    }
}

fn node(index: u8, version: &str) -> NodeView {
    NodeView {
        name: format!("n{index}"),
        machine_id: Some(format!("i-{index}")),
        ready: NodeReadiness::Ready,
        heard: None,
        message: "why".into(),
        cordoned: false,
        pod_cidr: None,
        kubelet_version: format!("v{version}"),
    }
}

fn turns(turns: &[(u8, Turn)]) -> Act {
    Act::Turns(turns.iter().map(|(index, turn)| (format!("i-{index}"), turn.clone())).collect())
}

#[test]
fn the_control_plane_is_switched_and_waited_for() {
    World::new(UpgradePhase::Precheck).check(&Act::Check);
    World::new(UpgradePhase::Snapshot).check(&Act::Snapshot);
    let mut world = World::new(UpgradePhase::ControlPlane);
    world.check(&Act::Switch("i-0".into()));
    world.set_version(0, Some(NEW));
    world.in_force.clear();
    world.waits("being told");
    world.in_force.insert("i-0".into());
    world.processes.insert("i-0".into(), Some("kube-apiserver is starting".into()));
    world.waits("kube-apiserver is starting");
    world.now = at(600);
    world.halts("kube-apiserver is starting");
    world.processes.insert("i-0".into(), None);
    world.now = at(1);
    world.versions.insert("i-0".into(), format!("v{OLD}"));
    world.waits(OLD);
    world.versions.insert("i-0".into(), format!("v{NEW}"));
    world.check(&Act::Adopt);
}

#[test]
fn several_control_planes_go_one_after_the_other() {
    let mut world = World::new(UpgradePhase::ControlPlane);
    let mut second = machine(4, None);
    let member = second.membership.as_mut().expect("a member");
    (member.role, member.node_pool_id) = (sampan_store::model::MachineRole::ControlPlane, None);
    world.scope.machines.push(versioned(second));
    world.check(&Act::Switch("i-0".into()));
    world.set_version(0, Some(NEW));
    world.waits("does not answer");
    world.versions.insert("i-0".into(), format!("v{NEW}"));
    world.check(&Act::Switch("i-4".into()));
    let leaving = |world: &mut World, wanted| {
        let last = world.scope.machines.len() - 1;
        let machine = Machine { wanted, ..world.scope.machines[last].value.clone() };
        world.scope.machines[last] = versioned(machine);
    };
    leaving(&mut world, MachineWanted::Release);
    world.waits("is being replaced");
    leaving(&mut world, MachineWanted::Run);
    world.upgrade.wanted = UpgradeWanted::Pause;
    world.check(&Act::End(UpgradeState::Paused));
    world.upgrade.wanted = UpgradeWanted::Cancel;
    world.check(&Act::Switch("i-4".into()));
}

#[test]
fn nodes_take_turns() {
    let mut world = World::new(UpgradePhase::Nodes);
    world.check(&Act::Begin(vec!["i-1".into()]));
    world.turn(1, false);
    world.check(&turns(&[(1, Turn::Drain)]));
    world.upgrade.turns.clear();
    world.turn(1, true);
    world.set_version(1, None);
    world.waits("its kubelet reports");
    world.nodes[0] = NodeView { cordoned: true, ..node(1, NEW) };
    world.check(&turns(&[(1, Turn::Admit)]));
    world.nodes[0] = node(1, NEW);
    world.check(&turns(&[(1, Turn::Done)]));
    world.upgrade.turns.clear();
    world.check(&Act::Begin(vec!["i-2".into()]));
    for index in 2..4 {
        world.set_version(index, None);
        world.nodes[usize::from(index) - 1] = node(index, NEW);
    }
    world.check(&Act::End(UpgradeState::Success));
}

#[test]
fn no_more_nodes_are_away_than_may_be() {
    let mut world = World::new(UpgradePhase::Nodes);
    world.manage(Management { enable: true, max_unavailable: Some(2), ..Management::default() });
    world.check(&Act::Begin(vec!["i-1".into(), "i-2".into()]));
    world.nodes[2].ready = NodeReadiness::NotReady;
    world.check(&Act::Begin(vec!["i-1".into()]));
    world.upgrade.max_parallelism = Some(1);
    world.waits("is not Ready");
    world.now = at(600);
    world.halts("is not Ready");
    world.nodes[2].ready = NodeReadiness::Ready;
    world.upgrade.max_parallelism = Some(3);
    world.turn(1, false);
    world.check(&Act::Begin(vec!["i-2".into(), "i-3".into()]));
    world.may_touch = false;
    world.check(&turns(&[(1, Turn::Drain)]));
    world.upgrade.turns.clear();
    world.check(&Act::End(UpgradeState::Cancelled));
}

#[test]
fn what_was_begun_is_ended_before_it_stops() {
    for (wanted, end) in
        [(UpgradeWanted::Pause, UpgradeState::Paused), (UpgradeWanted::Cancel, UpgradeState::Cancelled)]
    {
        let mut world = World::new(UpgradePhase::Nodes);
        world.upgrade.wanted = wanted;
        world.check(&Act::End(end));
        world.turn(1, false);
        world.check(&turns(&[(1, Turn::Undo)]));
        world.upgrade.turns.clear();
        world.turn(1, true);
        world.set_version(1, None);
        world.waits("ends what was begun");
    }
    let mut world = World::new(UpgradePhase::Nodes);
    world.turn(1, false);
    world.turn(2, true);
    world.upgrade.halt = Some("why".into());
    let Act::Turns(steps) = next(&world.upgrade, &world.sight()) else { panic!("turns") };
    assert_eq!(steps[0].1, Turn::Undo);
    world.upgrade.turns.remove(0);
    world.check(&Act::End(UpgradeState::Failed));
}

#[test]
fn a_node_that_does_not_come_back_fails_the_upgrade() {
    let mut world = World::new(UpgradePhase::Nodes);
    world.turn(1, true);
    world.set_version(1, None);
    world.now = at(600);
    let Act::Turns(steps) = next(&world.upgrade, &world.sight()) else { panic!("turns") };
    assert!(matches!(&steps[0].1, Turn::Fail(why) if why.contains("kubelet")), "{steps:?}");
    world.upgrade.wanted = UpgradeWanted::Cancel;
    world.check(&turns(&[(1, Turn::Undo)]));
    world.scope.machines.remove(1);
    world.check(&turns(&[(1, Turn::Forget)]));
}

#[test]
fn surge_comes_first_and_goes_last() {
    let mut world = World::new(UpgradePhase::Nodes);
    world.manage(Management { enable: true, surge_percentage: Some(50), ..Management::default() });
    world.check(&Act::AddSurge { pool_id: "np1".into(), count: 2 });
    world.upgrade.surge.push(Surge { pool_id: "np1".into(), machine_ids: vec!["i-4".into()], since: at(0) });
    let mut added = machine(4, None);
    added.state = sampan_store::model::MachineState::Starting;
    world.scope.machines.push(versioned(added));
    world.waits("added for the upgrade");
    world.now = at(900);
    world.halts("added for the upgrade");
    world.scope.machines[4] = versioned(machine(4, None));
    world.nodes.push(node(4, NEW));
    world.check(&Act::Begin(vec!["i-1".into()]));
    (1..4).for_each(|index| world.set_version(index, None));
    world.check(&Act::Release(vec!["i-4".into()]));
    let leaving = Machine { wanted: sampan_store::model::MachineWanted::Release, ..machine(4, None) };
    world.scope.machines[4] = versioned(leaving);
    world.waits("leaves");
    world.scope.machines.pop();
    world.check(&Act::Released("np1".into()));
    world.upgrade.surge.clear();
    world.check(&Act::End(UpgradeState::Success));
}

fn found(world: &World, survey: &Survey) -> Vec<(String, bool)> {
    let findings: Vec<Finding> = checks::check(&world.scope, &world.upgrade, &world.nodes, survey);
    findings.into_iter().map(|finding| (finding.check, finding.blocks)).collect()
}

#[test]
fn pre_checks() {
    let mut world = World::new(UpgradePhase::Precheck);
    let mut survey = Survey::default();
    let check = |world: &World, survey: &Survey, expected: &[(&str, bool)]| {
        let expected: Vec<_> = expected.iter().map(|(check, blocks)| ((*check).to_owned(), *blocks)).collect();
        assert_eq!(found(world, survey), expected, "{survey:?}");
    };
    check(&world, &survey, &[]);
    world.nodes[0].kubelet_version = "v1.32.9".into();
    check(&world, &survey, &[("VersionSkew", true)]);
    world.nodes[0].kubelet_version = "v1.33.9".into();
    check(&world, &survey, &[]);
    world.nodes[0].ready = NodeReadiness::Unknown;
    check(&world, &survey, &[("UnhealthyNodes", true)]);
    world.nodes[0].ready = NodeReadiness::Ready;
    let api = |removed_in: &str| DeprecatedApi {
        group_version: "x/v1beta1".into(),
        resource: "things".into(),
        removed_in: removed_in.into(),
    };
    survey.deprecated = vec![api("1.36"), api("1.40"), api("")];
    check(&world, &survey, &[("RemovedApis", true), ("DeprecatedApis", false)]);
    survey.deprecated.clear();
    let budget = |allowed, desired, expected| Budget { name: "a/b".into(), allowed, desired, expected };
    survey.budgets = vec![budget(0, 2, 2), budget(0, 1, 2), budget(1, 1, 2), budget(0, 0, 0)];
    check(&world, &survey, &[("DisruptionBudgets", true), ("DisruptionBudgets", false)]);
    survey.budgets.clear();
    let room = |index: u8, moving: u64, used: u64| NodeRoom {
        node: format!("n{index}"),
        cpu_millis: 1000,
        moving_cpu_millis: moving,
        used_cpu_millis: used,
        ..NodeRoom::default()
    };
    survey.rooms = vec![room(1, 500, 600), room(2, 0, 700), room(3, 0, 700)];
    check(&world, &survey, &[]);
    survey.rooms[1].used_cpu_millis = 900;
    check(&world, &survey, &[("Room", false)]);
    world.manage(Management { enable: true, surge: Some(1), ..Management::default() });
    check(&world, &survey, &[]);
}

#[test]
fn upgrades_that_nobody_has_to_ask_for() {
    let mut world = World::new(UpgradePhase::Nodes);
    let offered = [OLD, NEW, "1.37.1"].map(String::from);
    let set = |world: &mut World, change: &dyn Fn(&mut Cluster)| {
        let mut cluster = world.scope.cluster.value.clone();
        change(&mut cluster);
        world.scope.cluster = versioned(cluster);
    };
    let wish = |world: &World, offered: &[String]| auto::wish(&world.scope, at(60), offered);
    let nodes = Wish { to: NEW.into(), pools: vec!["np1".into()] };
    assert_eq!(wish(&world, &offered), None, "no window");
    set(&mut world, &|cluster| {
        cluster.state = ClusterState::Running;
        cluster.maintenance_window = Some(MaintenanceWindow {
            enable: true,
            maintenance_time: "03:00:00Z".into(),
            duration: "3h".into(),
            weekly_period: "Thursday".into(),
        });
    });
    assert_eq!(wish(&world, &offered), None, "no pool wants it");
    world.manage(Management { enable: true, auto_upgrade: Some(true), ..Management::default() });
    assert_eq!(wish(&world, &offered), Some(nodes.clone()), "nodes follow their cluster, not to a newer minor version");
    assert_eq!(auto::wish(&world.scope, at(4 * 3600), &offered), None, "the window is closed");
    let patched = [NEW, "1.36.9", "1.37.1"].map(String::from);
    assert_eq!(wish(&world, &patched).map(|wish| wish.to), Some("1.36.9".to_owned()));
    let ended = |state: UpgradeState, ended: i64| {
        let upgrade = world.upgrade.clone();
        move |cluster: &mut Cluster| {
            cluster.upgrade = Some(Upgrade { state, ended: Some(at(ended)), ..upgrade.clone() });
        }
    };
    let (tried, failed, before) =
        (ended(UpgradeState::Cancelled, 30), ended(UpgradeState::Failed, -9999), ended(UpgradeState::Success, -9999));
    let succeeded = ended(UpgradeState::Success, 30);
    set(&mut world, &tried);
    assert_eq!(wish(&world, &offered), None, "it was tried in this window");
    set(&mut world, &succeeded);
    assert_eq!(wish(&world, &offered), Some(nodes.clone()), "one of the control plane alone, by hand");
    set(&mut world, &failed);
    assert_eq!(wish(&world, &offered), None, "somebody has to look at it first");
    set(&mut world, &before);
    assert_eq!(wish(&world, &offered), Some(nodes));
    (1..4).for_each(|index| world.set_version(index, None));
    assert_eq!(wish(&world, &offered), None, "nothing is behind");
}
