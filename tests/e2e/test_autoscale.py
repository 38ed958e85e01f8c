"""Nodes that come and go by themselves: a pool grows from its minimum to its maximum for pods that find no place, and
shrinks again when they are gone; a pod that fits nowhere is told why."""

import time

import pytest
from alibabacloud_tea_openapi.exceptions import ClientException

from clients import cs_models
from conftest import Cluster
from installation import kubectl, kubectl_json, wait_until
from test_cluster import apply, bundled
from test_fields import events_of
from test_sdk_modern import wait_for_task

POOL = {"pool": "auto"}


@pytest.fixture(scope="module")
def scaling(classic, tmp_path_factory):
    """A cluster whose default pool has one node."""
    cluster = Cluster(classic, tmp_path_factory.mktemp("scaling"), "scaling", vpc="vpc-scaling", nodes=1,
                      container_cidr="172.26.0.0/16", service_cidr="172.27.0.0/20")
    yield cluster
    cluster.delete()


def configure(sdk, cluster, **fields):
    """Quick enough for a test; what is not named is as by default."""
    values = {"cool_down_duration": "10s", "unneeded_duration": "10s", "scan_interval": "2s",
              "utilization_threshold": "0.5", "gpu_utilization_threshold": "0.5", **fields}
    return sdk.create_autoscaling_config(cluster.id, cs_models.CreateAutoscalingConfigRequest(**values))


@pytest.fixture(scope="module")
def pool(scaling, sdk):
    """A pool of one to four nodes that scales by itself."""
    configure(sdk, scaling)
    request = cs_models.CreateClusterNodePoolRequest(
        nodepool_info=cs_models.CreateClusterNodePoolRequestNodepoolInfo(name="auto"),
        scaling_group=cs_models.CreateClusterNodePoolRequestScalingGroup(
            vswitch_ids=["vsw-vpc-scaling-1"], instance_types=["ecs.g6.large"], instance_charge_type="PostPaid",
            system_disk_category="cloud_efficiency", system_disk_size=120),
        kubernetes_config=cs_models.CreateClusterNodePoolRequestKubernetesConfig(
            labels=[cs_models.Tag(key="pool", value="auto")], runtime="containerd", runtime_version="1.0.0"),
        auto_scaling=cs_models.CreateClusterNodePoolRequestAutoScaling(
            enable=True, min_instances=1, max_instances=4, type="cpu"),
    )
    answer = sdk.create_cluster_node_pool(scaling.id, request).body
    if answer.task_id:
        wait_for_task(sdk, answer.task_id)
    wait_until(lambda: serving(sdk, scaling, answer.nodepool_id) == 1, "the pool has its fewest nodes", 120)
    return answer.nodepool_id


def status(sdk, cluster, pool_id):
    return sdk.describe_cluster_node_pool_detail(cluster.id, pool_id).body.status


def serving(sdk, cluster, pool_id):
    found = status(sdk, cluster, pool_id)
    return found.healthy_nodes if found.total_nodes == found.healthy_nodes else -1


def deployment(replicas, cpu="1100m", name="crowd", **spec):
    labels = {"app": name}
    container = {"name": "main", "image": bundled("pause"), "imagePullPolicy": "IfNotPresent",
                 "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, "nodeSelector": POOL, **spec}}},
    }


def ready_replicas(cluster, name="crowd"):
    return kubectl_json(cluster.kubeconfig, "get", "deployment", name)["status"].get("readyReplicas", 0)


def pod_events(cluster, reason):
    items = kubectl_json(cluster.kubeconfig, "get", "events", "--field-selector", f"reason={reason}")["items"]
    return [(item["involvedObject"]["name"], item["message"]) for item in items]


def test_the_configuration_is_checked(scaling, sdk, classic):
    answer = classic.call("POST", f"/cluster/{scaling.id}/autoscale/config/", {"cool_down_duration": "10", "scan_interval": "30"})
    assert (answer["cool_down_duration"], answer["unneeded_duration"], answer["scan_interval"]) == ("10m", "10m", "30s")
    assert answer["expander"] == "least-waste" and answer["scale_down_enabled"] is True
    classic.call("POST", f"/cluster/{scaling.id}/autoscale/config", {})
    for field, value in [("cool_down_duration", "soon"), ("utilization_threshold", "2"), ("scan_interval", "0s"), ("expander", "price")]:
        with pytest.raises(ClientException) as refused:
            configure(sdk, scaling, **{field: value})
        assert refused.value.status_code == 400 and field in str(refused.value), refused.value
    assert "AutoscalingConfigured" in [
        event["data"]["reason"] for event in classic.call("GET", "/events", query={"cluster_id": scaling.id})["events"]]


def test_one_to_four_and_back(scaling, sdk, pool):
    configure(sdk, scaling)
    began = time.monotonic()
    apply(scaling, deployment(4))
    wait_until(lambda: status(sdk, scaling, pool).total_nodes == 4, "the pool gets its most nodes", 120)
    asked = time.monotonic() - began
    wait_until(lambda: ready_replicas(scaling) == 4, "all pods run", 180)
    ran = time.monotonic() - began
    wait_until(lambda: serving(sdk, scaling, pool) == 4, "all nodes are healthy", 60)
    triggered = pod_events(scaling, "TriggeredScaleUp")
    assert triggered and all("(max: 4)" in message for _, message in triggered), triggered
    assert "auto gets" in events_of(scaling, "TriggeredScaleUp")

    # A fifth one is more than the pool may have.
    kubectl(scaling.kubeconfig, "scale", "deployment", "crowd", "--replicas=5")
    wait_until(lambda: any("max node group size reached" in message for _, message in pod_events(scaling, "NotTriggerScaleUp")),
               "the fifth pod is told", 60)
    assert status(sdk, scaling, pool).total_nodes == 4

    began = time.monotonic()
    kubectl(scaling.kubeconfig, "delete", "deployment", "crowd")
    wait_until(lambda: serving(sdk, scaling, pool) == 1, "the pool is at its fewest again", 180)
    gone = time.monotonic() - began
    print(f"1 to 4: asked for after {asked:.1f} s, all pods ran after {ran:.1f} s; 4 to 1 after {gone:.1f} s (of which 10 s unneeded)")
    assert "auto does not need" in events_of(scaling, "ScaleDown")
    assert len([node for node in scaling.nodes() if node["nodepool_id"] != pool]) == 1, "other pools are left alone"


def test_a_pod_that_fits_nowhere_makes_no_node(scaling, sdk, pool):
    configure(sdk, scaling)
    before = status(sdk, scaling, pool).total_nodes
    apply(scaling, deployment(1, cpu="64", name="giant"), deployment(1, name="stray", nodeSelector={"pool": "none"}))
    told = wait_until(
        lambda: len({name.rsplit("-", 2)[0] for name, _ in pod_events(scaling, "NotTriggerScaleUp")} & {"giant", "stray"}) == 2
        and pod_events(scaling, "NotTriggerScaleUp"), "both are told", 60)
    messages = {name.rsplit("-", 2)[0]: message for name, message in told}
    assert "Insufficient cpu" in messages["giant"] and "didn't match Pod's node affinity/selector" in messages["stray"], messages
    assert status(sdk, scaling, pool).total_nodes == before
    kubectl(scaling.kubeconfig, "delete", "deployment", "giant", "stray")


def test_a_budget_keeps_its_node(scaling, sdk, pool):
    """Two pods on two nodes that are hardly used: neither leaves while the budget says no, one does when it may."""
    configure(sdk, scaling)
    apart = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": {
        "labelSelector": {"matchLabels": {"app": "pair"}}, "topologyKey": "kubernetes.io/hostname"}}]}}
    apply(scaling, deployment(2, name="filler"))
    wait_until(lambda: ready_replicas(scaling, "filler") == 2, "two nodes", 180)
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "pair"},
              "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "pair"}}}}
    apply(scaling, budget, deployment(2, cpu="100m", name="pair", affinity=apart))
    wait_until(lambda: ready_replicas(scaling, "pair") == 2, "the pair runs", 60)
    kubectl(scaling.kubeconfig, "delete", "deployment", "filler")
    deadline = time.monotonic() + 20
    # Longer than a node that is not needed stays.
    wait_until(lambda: time.monotonic() > deadline or status(sdk, scaling, pool).total_nodes != 2, "time passes", 30)
    assert status(sdk, scaling, pool).total_nodes == 2
    budget["spec"]["maxUnavailable"] = 1
    apply(scaling, budget)
    wait_until(lambda: serving(sdk, scaling, pool) == 1, "one node leaves", 120)
    wait_until(lambda: ready_replicas(scaling, "pair") == 2, "the pair is together", 60)
    kubectl(scaling.kubeconfig, "delete", "deployment/pair", "pdb/pair")


def test_bounds_hold_against_hands(scaling, sdk, pool):
    with pytest.raises(ClientException) as refused:
        sdk.scale_cluster_node_pool(scaling.id, pool, cs_models.ScaleClusterNodePoolRequest(count=4))
    assert "max_instances" in str(refused.value), refused.value
