//! Does this pod fit that node? Tables after the scheduler's documentation.

use serde_json::{Value, json};

use super::*;
use crate::autoscale::simulate::Misfit;

fn check(what: &str, snapshot: &Snapshot, pod: &Pod, expected: &[Result<(), Misfit>]) {
    let found: Vec<_> = (0..snapshot.len()).map(|number| snapshot.fits(pod, number)).collect();
    assert_eq!(found, expected, "{what}");
}

fn spec(more: Value) -> Value {
    json!({"spec": more})
}

fn insufficient(resource: &str) -> Result<(), Misfit> {
    Err(Misfit::Insufficient(resource.into()))
}

#[test]
fn resources_are_what_is_left() {
    let busy = pod("busy", 1500, 1024, json!({}));
    let world = snapshot([(node("a", 2, 4, "z"), vec![busy]), (node("b", 2, 4, "z"), vec![])]);
    check("half a core is left", &world, &pod("p", 500, 0, json!({})), &[Ok(()), Ok(())]);
    check("a bit more is not", &world, &pod("p", 501, 0, json!({})), &[insufficient("cpu"), Ok(())]);
    check("memory", &world, &pod("p", 0, 4096, json!({})), &[insufficient("memory"), Ok(())]);
    check("nothing asked for", &world, &pod("p", 0, 0, json!({})), &[Ok(()), Ok(())]);
    let gpu = json!([{"name": "m", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]);
    let expected = [insufficient("nvidia.com/gpu"), insufficient("nvidia.com/gpu")];
    check("a device that nobody has", &world, &pod("p", 0, 0, spec(json!({"containers": gpu}))), &expected);
    let mut full = node("full", 2, 4, "z");
    full.allocatable = resources(&[("cpu", 2000), ("memory", GIB), ("pods", 1)]);
    let world = snapshot([(full, vec![pod("x", 0, 0, json!({}))])]);
    check("places for pods", &world, &pod("p", 0, 0, json!({})), &[insufficient("pods")]);
}

#[test]
fn taints_selectors_and_closed_nodes() {
    let mut cordoned = node("c", 2, 4, "z");
    cordoned.unschedulable = true;
    let world = snapshot([
        (tainted(node("t", 2, 4, "z1"), "dedicated"), vec![]),
        (node("b", 2, 4, "z2"), vec![]),
        (cordoned, vec![]),
    ]);
    let taint = || Err(Misfit::Taint("dedicated".into()));
    check("plain", &world, &pod("p", 1, 1, json!({})), &[taint(), Ok(()), Err(Misfit::Closed)]);
    let all = json!([{"operator": "Exists"}]);
    check("tolerates all", &world, &pod("p", 1, 1, spec(json!({"tolerations": all}))), &[Ok(()), Ok(()), Ok(())]);
    let zone = json!({"nodeSelector": {"topology.kubernetes.io/zone": "z2"}});
    check("in a zone", &world, &pod("p", 1, 1, spec(zone)), &[taint(), Ok(()), Err(Misfit::Closed)]);
    let nowhere = json!({"nodeSelector": {"topology.kubernetes.io/zone": "z9"}});
    check("in no zone", &world, &pod("p", 1, 1, spec(nowhere)), &[taint(), Err(Misfit::Affinity), Err(Misfit::Closed)]);
    let affinity = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": ["z2"]}]}]}}}});
    check(
        "not in a zone",
        &world,
        &pod("p", 1, 1, spec(affinity)),
        &[taint(), Err(Misfit::Affinity), Err(Misfit::Closed)],
    );
    let claims = json!({"resourceClaims": [{"name": "gpu"}]});
    let fault = Misfit::Hindered("it uses resource claims, which are not simulated".into());
    let all = [Err(fault.clone()), Err(fault.clone()), Err(fault)];
    check("what is not simulated is refused", &world, &pod("p", 1, 1, spec(claims)), &all);
}

#[test]
fn ports_of_the_host() {
    let with = |name: &str, port: Value| pod(name, 1, 1, spec(json!({"containers": [{"name": "m", "ports": [port]}]})));
    let tcp = |port: i32| json!({"containerPort": port, "hostPort": port});
    let world = snapshot([(node("a", 2, 4, "z"), vec![with("x", tcp(80))])]);
    check("taken", &world, &with("p", tcp(80)), &[Err(Misfit::Ports)]);
    check("another", &world, &with("p", tcp(81)), &[Ok(())]);
    check(
        "another protocol",
        &world,
        &with("p", json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"})),
        &[Ok(())],
    );
    let one_address = json!({"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1"});
    check("one address of all", &world, &with("p", one_address.clone()), &[Err(Misfit::Ports)]);
    let world = snapshot([(node("a", 2, 4, "z"), vec![with("x", one_address)])]);
    let another = json!({"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.2"});
    check("two addresses", &world, &with("p", another), &[Ok(())]);
}

fn between(kind: &str, term: Value) -> Value {
    spec(json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

#[test]
fn anti_affinity_holds_in_both_directions() {
    const HOST: &str = "kubernetes.io/hostname";
    const ZONE: &str = "topology.kubernetes.io/zone";
    let apart = |name: &str, key: &str| pod(name, 1, 1, between("podAntiAffinity", term("web", key)));
    let nodes = || [node("a", 2, 4, "z1"), node("b", 2, 4, "z1"), node("c", 2, 4, "z2")];
    let [a, b, c] = nodes();
    let world = snapshot([(a, vec![pod("plain", 1, 1, json!({}))]), (b, vec![]), (c, vec![])]);
    let no = || Err(Misfit::AntiAffinity);
    check("its own word, by host", &world, &apart("p", HOST), &[no(), Ok(()), Ok(())]);
    check("its own word, by zone", &world, &apart("p", ZONE), &[no(), no(), Ok(())]);
    let [a, b, c] = nodes();
    let world = snapshot([(a, vec![apart("shy", ZONE)]), (b, vec![]), (c, vec![])]);
    let no = || Err(Misfit::OthersAntiAffinity);
    check("the other's word", &world, &pod("p", 1, 1, json!({})), &[no(), no(), Ok(())]);
    let stranger = pod("p", 1, 1, json!({"metadata": {"labels": {"app": "db"}}}));
    check("not meant", &world, &stranger, &[Ok(()), Ok(()), Ok(())]);
    let elsewhere = pod("p", 1, 1, json!({"metadata": {"namespace": "other"}}));
    check("another namespace", &world, &elsewhere, &[Ok(()), Ok(()), Ok(())]);
    let everywhere =
        json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": ZONE, "namespaceSelector": {}});
    let [a, b, c] = nodes();
    let shy = pod("shy", 1, 1, between("podAntiAffinity", everywhere));
    let world = snapshot([(a, vec![shy]), (b, vec![]), (c, vec![])]);
    check("all namespaces", &world, &elsewhere, &[no(), no(), Ok(())]);
}

#[test]
fn affinity_needs_company_unless_it_is_the_first() {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let near = |app: &str| pod("p", 1, 1, between("podAffinity", term(app, ZONE)));
    let mut placeless = node("d", 2, 4, "z2");
    placeless.labels.remove(ZONE);
    let world = || {
        snapshot([
            (node("a", 2, 4, "z1"), vec![]),
            (node("b", 2, 4, "z1"), vec![]),
            (node("c", 2, 4, "z2"), vec![]),
            (placeless.clone(), vec![]),
        ])
    };
    let no = || Err(Misfit::PodAffinity);
    check("the first of its kind", &world(), &near("web"), &[Ok(()), Ok(()), Ok(()), no()]);
    check("nobody of another kind", &world(), &near("db"), &[no(), no(), no(), no()]);
    let mut with_company = world();
    with_company.place(1, pod("w", 1, 1, json!({})));
    check("where the others are", &with_company, &near("web"), &[Ok(()), Ok(()), no(), no()]);
    let namespaces =
        json!({"labelSelector": {}, "topologyKey": ZONE, "namespaceSelector": {"matchLabels": {"team": "b"}}});
    let wants_b = pod("p", 1, 1, between("podAffinity", namespaces));
    check("namespaces by label", &with_company, &wants_b, &[no(), no(), no(), no()]);
    with_company.place(2, pod("o", 1, 1, json!({"metadata": {"namespace": "other"}})));
    check("found there", &with_company, &wants_b, &[no(), no(), Ok(()), no()]);
}

#[test]
fn spreading_is_even() {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let spread = |more: Value| {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}},
        });
        merge(&mut constraint, more);
        pod("p", 1, 1, spec(json!({"topologySpreadConstraints": [constraint]})))
    };
    let world = snapshot([
        (node("a", 2, 4, "z1"), vec![pod("x", 1, 1, json!({}))]),
        (node("b", 2, 4, "z2"), vec![]),
        (tainted(node("c", 2, 4, "z3"), "k"), vec![]),
    ]);
    let no = || Err(Misfit::Spread);
    let taint = || Err(Misfit::Taint("k".into()));
    check("one more would be two too many", &world, &spread(json!({})), &[no(), Ok(()), taint()]);
    check("a larger skew", &world, &spread(json!({"maxSkew": 2})), &[Ok(()), Ok(()), taint()]);
    check("only advice", &world, &spread(json!({"whenUnsatisfiable": "ScheduleAnyway"})), &[Ok(()), Ok(()), taint()]);
    check(
        "others count",
        &world,
        &spread(json!({"labelSelector": {"matchLabels": {"app": "db"}}})),
        &[Ok(()), Ok(()), taint()],
    );
    check("too few places", &world, &spread(json!({"minDomains": 4})), &[no(), Ok(()), taint()]);
    let other_version = spread(json!({"matchLabelKeys": ["app", "pod-template-hash"]}));
    check("a label that it does not have", &world, &other_version, &[no(), Ok(()), taint()]);
    // With one pod in each of two zones, the third counts only if its taint does not matter.
    let mut even = world.clone();
    even.place(1, pod("y", 1, 1, json!({})));
    check("an empty zone that is closed to it", &even, &spread(json!({})), &[no(), no(), taint()]);
    let honest = spread(json!({"nodeTaintsPolicy": "Honor"}));
    check("left out by its taint", &even, &honest, &[Ok(()), Ok(()), taint()]);
    let mut ending = snapshot([
        (
            node("a", 2, 4, "z1"),
            vec![pod("x", 1, 1, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))],
        ),
        (node("b", 2, 4, "z2"), vec![]),
    ]);
    check("pods that end do not count", &ending, &spread(json!({})), &[Ok(()), Ok(())]);
    ending.close(0);
    check("a closed node", &ending, &spread(json!({})), &[Err(Misfit::Closed), Ok(())]);
    let mut nowhere = node("d", 2, 4, "z4");
    nowhere.labels.remove(ZONE);
    check("a node without a zone", &snapshot([(nowhere, vec![])]), &spread(json!({})), &[no()]);
}

#[test]
fn volumes_bind_to_places() {
    let mut bound = Pod::clone(&pod("p", 1, 1, json!({})));
    let terms =
        json!([{"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["z2"]}]}]);
    bound.volume_terms = vec![serde_json::from_value(terms).unwrap()];
    let world = snapshot([(node("a", 2, 4, "z1"), vec![]), (node("b", 2, 4, "z2"), vec![])]);
    check("where its volume is", &world, &bound, &[Err(Misfit::Volumes), Ok(())]);
    bound.volume_terms.push(Vec::new());
    check("a volume that is nowhere", &world, &bound, &[Err(Misfit::Volumes), Err(Misfit::Volumes)]);
}
