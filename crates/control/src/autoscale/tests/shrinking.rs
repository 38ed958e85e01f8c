//! Which nodes are not needed.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    packing::{any_node, any_pods},
    *,
};
use crate::autoscale::{
    model::Budget,
    scale_down::{Candidate, Needed, Thresholds, Unneeded, unneeded},
};

const HALF: Thresholds = Thresholds { utilization: 0.5, gpu_utilization: 0.5 };

fn candidates(count: usize) -> Vec<Candidate> {
    let one = |number: usize| Candidate { number, machine_id: format!("i-{number}"), pool_id: "np".into() };
    (0..count).map(one).collect()
}

fn budget(app: &str, allowed: i32) -> Budget {
    let selector = serde_json::from_value(json!({"matchLabels": {"app": app}})).unwrap();
    Budget { namespace: "default".into(), name: format!("of-{app}"), selector: Some(selector), allowed }
}

/// One small node with the pod, and a large one beside it.
fn look_at(pod: Arc<Pod>, budgets: &[Budget]) -> Result<Unneeded, Needed> {
    let mut world = snapshot([(node("a", 2, 8, "z"), vec![pod]), (node("b", 8, 32, "z"), vec![])]);
    let (mut found, mut kept) = unneeded(&mut world, candidates(1), HALF, budgets);
    found.pop().ok_or_else(|| kept.pop().unwrap().1)
}

#[test]
fn some_pods_keep_their_node() {
    let check = |what: &str, more: Value, budgets: &[Budget], expected: Option<&str>| {
        let outcome = look_at(pod("p", 100, 64, more), budgets).map(|_| ()).map_err(|why| why.to_string());
        match expected {
            None => assert_eq!(outcome, Ok(()), "{what}"),
            Some(part) => assert!(outcome.clone().is_err_and(|why| why.contains(part)), "{what}: {outcome:?}"),
        }
    };
    let annotated =
        |value: &str| json!({"metadata": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": value}}});
    let owned = |kind: &str| json!({"metadata": {"ownerReferences": [{"kind": kind, "controller": true, "name": "x", "uid": "u", "apiVersion": "v1"}]}});
    let scratch = json!({"spec": {"volumes": [{"name": "s", "emptyDir": {}}]}});
    let both = |mut one: Value, other: Value| {
        merge(&mut one, other);
        one
    };
    let system = json!({"metadata": {"namespace": "kube-system"}});
    check("plain", json!({}), &[], None);
    check("not safe", annotated("false"), &[], Some("not safe to evict"));
    check("alone", json!({"metadata": {"ownerReferences": null}}), &[], Some("no controller"));
    check("alone, but safe", both(json!({"metadata": {"ownerReferences": null}}), annotated("true")), &[], None);
    check("a job", owned("Job"), &[], None);
    check("something unknown", owned("Sidekick"), &[], Some("not known"));
    check("scratch space", scratch.clone(), &[], Some("keeps data"));
    check("scratch space that is safe", both(scratch, annotated("true")), &[], None);
    check("the system's", system.clone(), &[], Some("the system's"));
    let covering = Budget { namespace: "kube-system".into(), ..budget("web", 1) };
    check("the system's, with a budget", system, &[covering], None);
    check("a budget that allows it", json!({}), &[budget("web", 1)], None);
    check("a budget that does not", json!({}), &[budget("web", 0)], Some("default/of-web"));
    check("a budget of others", json!({}), &[budget("db", 0)], None);
    check("two budgets", json!({}), &[budget("web", 5), budget("web", 5)], Some("default/of-web"));
    check("a daemon", owned("DaemonSet"), &[budget("web", 0)], None);
    check(
        "a pod that ends",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        &[budget("web", 0)],
        None,
    );
}

#[test]
fn a_budget_is_not_spent_twice_on_one_node() {
    let two = || vec![pod("a", 10, 10, json!({})), pod("b", 10, 10, json!({}))];
    let run = |allowed: i32| {
        let mut world = snapshot([(node("a", 2, 8, "z"), two()), (node("b", 8, 32, "z"), vec![])]);
        unneeded(&mut world, candidates(1), HALF, &[budget("web", allowed)]).0.len()
    };
    assert_eq!((run(1), run(2)), (0, 1));
}

#[test]
fn nodes_that_are_used_or_kept_stay() {
    assert!(matches!(look_at(pod("p", 1000, 64, json!({})), &[]), Err(Needed::Used(share)) if share == 0.5));
    assert!(look_at(pod("p", 999, 64, json!({})), &[]).is_ok());
    assert!(matches!(look_at(pod("p", 1, 7000, json!({})), &[]), Err(Needed::Used(_))));
    let mut kept = node("a", 2, 8, "z");
    kept.kept = true;
    let mut world = snapshot([(kept, vec![])]);
    assert_eq!(unneeded(&mut world, candidates(1), HALF, &[]).1[0].1, Needed::Kept);
    let mut gpus = node("g", 2, 8, "z");
    gpus.allocatable.set("nvidia.com/gpu", 4);
    let mut world = snapshot([(gpus, vec![pod("p", 1900, 64, json!({}))])]);
    world.add(Arc::new(node("b", 8, 32, "z")), vec![]);
    assert_eq!(unneeded(&mut world, candidates(1), HALF, &[]).0.len(), 1, "only the GPUs count, and none is used");
}

#[test]
fn what_one_leaves_behind_is_not_promised_twice() {
    let busy = |name: &str| vec![pod(name, 900, 64, json!({}))];
    let mut world = snapshot([
        (node("a", 2, 8, "z"), busy("a")),
        (node("b", 2, 8, "z"), busy("b")),
        (node("c", 2, 8, "z"), busy("c")),
    ]);
    let (found, kept) = unneeded(&mut world, candidates(3), HALF, &[]);
    assert_eq!(found.iter().map(|one| one.node.as_str()).collect::<Vec<_>>(), ["a"]);
    // b has a's pod as well now, and is used; c's pod would have had a place at b before.
    assert_eq!(kept.len(), 2);
    assert_eq!(found[0].pods.len(), 1);
}

#[test]
fn the_last_place_is_kept() {
    let picky = pod("p", 100, 64, json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": "a"}}}));
    assert_eq!(look_at(picky, &[]).unwrap_err(), Needed::NoPlace("default/p".into()));
    let mut world = snapshot([(node("a", 2, 8, "z"), vec![pod("p", 100, 64, json!({}))])]);
    let (found, _) = unneeded(&mut world, candidates(1), HALF, &[]);
    assert!(found.is_empty());
    assert!(world.fits(&pod("q", 100, 64, json!({})), 0).is_ok(), "the world is as before");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_pod_is_left_without_a_place(
        pods in any_pods(20),
        nodes in proptest::collection::vec(any_node("n".into()), 1..6),
        allowed in 0i32..3,
    ) {
        let count = nodes.len();
        let mut world = snapshot(nodes.into_iter().enumerate().map(|(number, mut node)| {
            node.name = format!("n{number}");
            node.labels.insert("kubernetes.io/hostname".into(), node.name.clone());
            (node, vec![])
        }));
        let mut placed: Vec<String> =
            pods.iter().filter(|pod| world.schedule(pod).is_some()).map(|pod| pod.name.clone()).collect();
        let thresholds = Thresholds { utilization: 0.9, gpu_utilization: 0.9 };
        let (found, kept) = unneeded(&mut world, candidates(count), thresholds, &[budget("job", allowed)]);
        prop_assert_eq!(found.len() + kept.len(), count);
        // Of the nodes that are left each pod has one.
        let gone: Vec<usize> = found.iter().map(|one| one.candidate.number).collect();
        let mut rest = snapshot([]);
        for (number, slot) in slots(&world).into_iter().enumerate().filter(|(number, _)| !gone.contains(number)) {
            let _ = number;
            rest.add(Arc::clone(&slot.node), slot.pods.clone());
        }
        let mut left: Vec<String> =
            slots(&rest).iter().flat_map(|slot| slot.pods.iter().map(|pod| pod.name.clone())).collect();
        placed.sort();
        left.sort();
        prop_assert_eq!(left, placed);
        prop_assert_eq!(violations(&rest), Vec::<String>::new());
    }
}
