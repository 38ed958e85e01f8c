//! How many nodes make the pods schedulable.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::autoscale::simulate::{NODES_PER_PASS_MAX, Offer, Plan, grow};

fn room(pools: &[(&str, usize)]) -> HashMap<String, usize> {
    pools.iter().map(|(id, room)| ((*id).to_owned(), *room)).collect()
}

fn first(_: &[Offer]) -> usize {
    0
}

fn total(plan: &Plan) -> usize {
    plan.growths.iter().map(|growth| growth.nodes).sum()
}

fn pods(count: usize, millicores: i64, more: serde_json::Value) -> Vec<Arc<Pod>> {
    (0..count).map(|number| pod(&format!("p{number}"), millicores, 64, more.clone())).collect()
}

#[test]
fn pods_are_packed() {
    let groups = [group("np", vec![node("t", 2, 8, "z")])];
    let run = |pods: Vec<Arc<Pod>>, limit: usize| {
        grow(&mut snapshot([]), pods, &groups, &[], &mut room(&[("np", limit)]), &mut first)
    };
    assert_eq!(total(&run(pods(4, 500, json!({})), 10)), 1);
    assert_eq!(total(&run(pods(5, 500, json!({})), 10)), 2);
    assert_eq!(total(&run(pods(3, 1500, json!({})), 10)), 3);
    let mixed: Vec<_> = pods(2, 1500, json!({})).into_iter().chain(pods(2, 500, json!({}))).collect();
    assert_eq!(total(&run(mixed, 10)), 2, "the large first, the small beside them");
    let full = run(pods(9, 1500, json!({})), 3);
    assert_eq!((total(&full), full.unhelped.len()), (3, 6));
    let why: Vec<_> = full.unhelped[0].reasons.clone().into_iter().collect();
    assert_eq!(why, [("max node group size reached".to_owned(), 1)]);
    let huge = run(pods(1, 2500, json!({})), 3);
    assert_eq!((total(&huge), huge.unhelped[0].reasons.get("Insufficient cpu")), (0, Some(&1)));
}

#[test]
fn pods_that_want_to_be_alone_get_a_node_each() {
    let apart = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]}}}});
    let mut world = snapshot([]);
    let groups = [group("np", vec![node("t", 4, 8, "z")])];
    let plan = grow(&mut world, pods(3, 100, apart), &groups, &[], &mut room(&[("np", 9)]), &mut first);
    assert_eq!((total(&plan), violations(&world)), (3, Vec::<String>::new()));
}

#[test]
fn a_pool_grows_zone_by_zone_and_in_one_zone_where_only_that_helps() {
    let zones = vec![node("t", 2, 8, "z1"), node("t", 2, 8, "z2")];
    let pools = [group("np", zones.clone())];
    let zonal: Vec<Group> = zones
        .into_iter()
        .zip(["z1", "z2"])
        .map(|(node, zone)| Group { zone: Some(zone.into()), ..group("np", vec![node]) })
        .collect();
    let run = |more: serde_json::Value| {
        let mut world = snapshot([]);
        let plan = grow(&mut world, pods(3, 1500, more), &pools, &zonal, &mut room(&[("np", 9)]), &mut first);
        let mut zones: Vec<String> =
            slots(&world).iter().map(|slot| slot.node.labels["topology.kubernetes.io/zone"].clone()).collect();
        zones.sort();
        (zones.join(","), plan.growths.iter().map(|growth| growth.zone.clone()).collect::<Vec<_>>())
    };
    assert_eq!(run(json!({})), ("z1,z1,z2".to_owned(), vec![None]));
    let spread = json!({"spec": {"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    assert_eq!(run(spread).0, "z1,z1,z2");
    let only = json!({"spec": {"nodeSelector": {"topology.kubernetes.io/zone": "z2"}}});
    assert_eq!(run(only), ("z2,z2,z2".to_owned(), vec![Some("z2".to_owned())]));
}

#[test]
fn daemons_take_their_share() {
    let mut own = group("np", vec![]);
    let daemons = vec![pod("agent", 600, 0, json!({}))];
    own.order.push(Arc::new(Template { node: node("t", 2, 8, "z"), daemons }));
    let plan = grow(&mut snapshot([]), pods(4, 500, json!({})), &[own], &[], &mut room(&[("np", 9)]), &mut first);
    assert_eq!(total(&plan), 2);
}

#[test]
fn several_pools_each_for_what_it_can() {
    let mut gpus = tainted(node("g", 2, 8, "z"), "gpu");
    gpus.allocatable.set("nvidia.com/gpu", 1);
    let groups = [group("plain", vec![node("t", 2, 8, "z")]), group("gpus", vec![gpus])];
    let gpu = json!({"spec": {
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "containers": [{"name": "m", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]}});
    let all: Vec<_> = pods(2, 1500, json!({})).into_iter().chain(pods(2, 0, gpu)).collect();
    let plan = grow(&mut snapshot([]), all, &groups, &[], &mut room(&[("plain", 9), ("gpus", 1)]), &mut first);
    let mut grown: Vec<(&str, usize)> =
        plan.growths.iter().map(|growth| (growth.pool_id.as_str(), growth.nodes)).collect();
    grown.sort_unstable();
    assert_eq!(grown, [("gpus", 1), ("plain", 2)]);
    let why: Vec<_> = plan.unhelped[0].reasons.clone().into_iter().collect();
    assert_eq!(why, [("Insufficient nvidia.com/gpu".to_owned(), 1), ("max node group size reached".to_owned(), 1)]);
}

#[test]
fn a_barred_pool_says_why() {
    let barred = Group { barred: Some("in backoff".into()), ..group("np", vec![node("t", 2, 8, "z")]) };
    let unknown = group("odd", vec![]);
    let plan = grow(
        &mut snapshot([]),
        pods(1, 100, json!({})),
        &[barred, unknown],
        &[],
        &mut room(&[("np", 9), ("odd", 9)]),
        &mut first,
    );
    let why: Vec<&str> = plan.unhelped[0].reasons.keys().map(String::as_str).collect();
    assert_eq!((total(&plan), why), (0, vec!["in backoff", "it has no instance type that is known"]));
}

/// Nodes, pods and pools of many kinds.
pub(super) fn any_pod(number: usize) -> impl Strategy<Value = Arc<Pod>> {
    (0i64..3000, 0i64..5000, 0u8..8, 0u8..3, 0u8..4, any::<bool>()).prop_map(
        move |(cpu, memory, kind, zone, port, tolerates)| {
            let app = ["web", "db", "job"][usize::from(kind % 3)];
            let mut more = json!({"metadata": {"labels": {"app": app}}, "spec": {}});
            let spec = &mut more["spec"];
            match kind {
                0 => spec["nodeSelector"] = json!({"topology.kubernetes.io/zone": format!("z{zone}")}),
                1 | 2 => {
                    let key = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"][usize::from(zone % 2)];
                    spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                        {"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": key}]}});
                }
                3 => {
                    spec["containers"] = json!([{"name": "m", "ports": [{"containerPort": 80, "hostPort": 8000 + i32::from(port)}],
                        "resources": {"requests": {"cpu": format!("{cpu}m")}}}]);
                }
                4 => {
                    spec["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "db"}}}]);
                }
                _ => {}
            }
            if tolerates {
                spec["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]);
            }
            pod(&format!("p{number}"), cpu, memory, more)
        },
    )
}

pub(super) fn any_pods(most: usize) -> impl Strategy<Value = Vec<Arc<Pod>>> {
    (0..=most).prop_flat_map(|count| (0..count).map(any_pod).collect::<Vec<_>>())
}

pub(super) fn any_node(name: String) -> impl Strategy<Value = Node> {
    (1i64..5, 1i64..9, 0u8..3, any::<bool>()).prop_map(move |(cores, gib, zone, closed)| {
        let node = node(&name, cores, gib, &format!("z{zone}"));
        if closed { tainted(node, "dedicated") } else { node }
    })
}

fn any_groups() -> impl Strategy<Value = (Vec<Group>, HashMap<String, usize>)> {
    proptest::collection::vec((proptest::collection::vec(any_node("t".into()), 0..3), 0usize..6), 1..4).prop_map(
        |pools| {
            let room = pools.iter().enumerate().map(|(number, (_, room))| (format!("np{number}"), *room)).collect();
            let groups = pools.into_iter().enumerate().map(|(n, (nodes, _))| group(&format!("np{n}"), nodes)).collect();
            (groups, room)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_pod_is_put_where_the_rules_refuse(
        existing in any_pods(8),
        waiting in any_pods(25),
        nodes in proptest::collection::vec(any_node("n".into()), 0..4),
        (groups, mut left) in any_groups(),
        pick in 0usize..4,
    ) {
        let named = nodes.into_iter().enumerate().map(|(number, mut node)| {
            node.name = format!("n{number}");
            node.labels.insert("kubernetes.io/hostname".into(), node.name.clone());
            (node, vec![])
        });
        let mut world = snapshot(named);
        for pod in existing {
            let mut renamed = Pod::clone(&pod);
            renamed.name = format!("old-{}", pod.name);
            world.schedule(&Arc::new(renamed));
        }
        let before = (world.len(), left.clone());
        let plan = grow(&mut world, waiting.clone(), &groups, &[], &mut left, &mut |offers: &[Offer]| pick % offers.len());
        prop_assert_eq!(violations(&world), Vec::<String>::new());
        // Never more nodes than the pools may have.
        for (pool, room) in &before.1 {
            let grown: usize = plan.growths.iter().filter(|g| g.pool_id == *pool).map(|g| g.nodes).sum();
            prop_assert!(grown <= *room);
            prop_assert_eq!(left[pool], room - grown);
        }
        prop_assert!(total(&plan) <= NODES_PER_PASS_MAX);
        prop_assert_eq!(world.len() - before.0, total(&plan), "nothing is left of what was only tried");
        // Each pod is helped or told why not, and no node is empty.
        let helped: usize = plan.growths.iter().map(|growth| growth.pods.len()).sum();
        prop_assert_eq!(helped + plan.unhelped.len(), waiting.len());
        prop_assert!(plan.growths.iter().all(|growth| growth.pods.len() >= growth.nodes));
        // What is not helped would indeed fit on no new node of a pool that has room.
        for unhelped in &plan.unhelped {
            prop_assert!(!unhelped.reasons.is_empty());
        }
    }
}
