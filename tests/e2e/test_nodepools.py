"""Node pools for their whole life on one real cluster: made with all fields, changed, drained, repaired, deleted, refused."""

import base64
import re

import pytest
from alibabacloud_tea_openapi.exceptions import ClientException

from clients import cs_models
from conftest import Cluster
from installation import kubectl, kubectl_json, wait_until
from test_cluster import apply, bundled
from test_fields import events_of, in_machine
from test_sdk_modern import wait_for_task

SCRIPT = base64.b64encode(b"#!/bin/sh\necho once >> /var/lib/sampan/e2e-pool\n").decode()
VSWITCHES = ["vsw-pools-a", "vsw-pools-b"]


@pytest.fixture(scope="module")
def pools(classic, tmp_path_factory):
    """A cluster whose default pool has one node."""
    cluster = Cluster(classic, tmp_path_factory.mktemp("pools"), "pools", vpc="vpc-pools", nodes=1,
                      container_cidr="172.24.0.0/16", service_cidr="172.25.0.0/20")
    yield cluster
    cluster.delete()


@pytest.fixture(scope="module")
def blue(pools, sdk):
    """A pool with all fields and two nodes."""
    request = cs_models.CreateClusterNodePoolRequest(
        nodepool_info=cs_models.CreateClusterNodePoolRequestNodepoolInfo(name="blue", resource_group_id="rg-e2e", type="ess"),
        count=2,
        scaling_group=cs_models.CreateClusterNodePoolRequestScalingGroup(
            vswitch_ids=VSWITCHES, instance_types=["ecs.c6.large", "ecs.g6.large"], instance_charge_type="PostPaid",
            system_disk_category="cloud_efficiency", system_disk_size=120, key_pair="np-key-name",
            multi_az_policy="PRIORITY", scaling_policy="release", spot_strategy="SpotAsPriceGo",
            data_disks=[cs_models.DataDisk(category="cloud_ssd", size=40)],
            tags=[cs_models.CreateClusterNodePoolRequestScalingGroupTags(key="owner", value="e2e")],
        ),
        kubernetes_config=cs_models.CreateClusterNodePoolRequestKubernetesConfig(
            labels=[cs_models.Tag(key="env", value="prod"), cs_models.Tag(key="old", value="1")],
            taints=[cs_models.Taint(key="dedicated", value="blue", effect="NoSchedule")],
            cpu_policy="static", user_data=SCRIPT, node_name_mode="customized,blue.,6,.e2e", runtime="containerd",
            runtime_version="1.0.0", cms_enabled=True,
        ),
        management=cs_models.CreateClusterNodePoolRequestManagement(
            enable=True, auto_repair=True,
            upgrade_config=cs_models.CreateClusterNodePoolRequestManagementUpgradeConfig(
                auto_upgrade=False, surge=1, max_unavailable=2),
        ),
        auto_scaling=cs_models.CreateClusterNodePoolRequestAutoScaling(
            enable=False, min_instances=1, max_instances=4, type="cpu"),
    )
    answer = sdk.create_cluster_node_pool(pools.id, request).body
    wait_for_task(sdk, answer.task_id)
    return answer.nodepool_id


def nodes_of(pools, pool_id):
    return [node for node in pools.nodes() if node["nodepool_id"] == pool_id]


def objects(pools, pool_id):
    selector = f"alibabacloud.com/nodepool-id={pool_id}"
    return kubectl_json(pools.kubeconfig, "get", "nodes", "-l", selector)["items"]


def detail_of(sdk, pools, pool_id):
    return sdk.describe_cluster_node_pool_detail(pools.id, pool_id).body


def modify(sdk, pools, pool_id, **fields):
    """Changes labels and taints."""
    update = fields.pop("update_nodes", None)
    config = cs_models.ModifyClusterNodePoolRequestKubernetesConfig(**fields)
    request = cs_models.ModifyClusterNodePoolRequest(kubernetes_config=config, update_nodes=update)
    answer = sdk.modify_cluster_node_pool(pools.id, pool_id, request).body
    assert answer.nodepool_id == pool_id
    wait_for_task(sdk, answer.task_id)


def refused(code, call, *arguments):
    with pytest.raises(ClientException) as refusal:
        call(*arguments)
    assert refusal.value.code == code, refusal.value
    return str(refusal.value)


def test_every_field_takes_effect(pools, blue, sdk, shared):
    names = [node["metadata"]["name"] for node in objects(pools, blue)]
    assert len(names) == 2 and all(re.fullmatch(r"blue\.\d{6}\.e2e", name) for name in names), names
    for node in objects(pools, blue):
        labels = node["metadata"]["labels"]
        assert (labels["env"], labels["old"], labels["owner"]) == ("prod", "1", "e2e")
        assert labels["node.kubernetes.io/instance-type"] == "ecs.c6.large"
        assert {"key": "dedicated", "value": "blue", "effect": "NoSchedule"} in node["spec"]["taints"]
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/configz"
        assert '"cpuManagerPolicy":"static"' in kubectl(pools.kubeconfig, "get", "--raw", path)
    machines = {node["instance_id"] for node in nodes_of(pools, blue)}
    listed = pools.classic.call("GET", "/sampan/machines")
    assert {m["vswitch_id"] for m in listed if m["instance_id"] in machines} == {VSWITCHES[0]}, "PRIORITY"
    for machine in machines:
        assert in_machine(shared, machine, "cat", "/var/lib/sampan/e2e-pool").split() == ["once"]
    pool = detail_of(sdk, pools, blue)
    assert (pool.management.enable, pool.management.auto_repair) == (True, True)
    upgrades = pool.management.upgrade_config
    assert (upgrades.auto_upgrade, upgrades.surge, upgrades.max_unavailable) == (False, 1, 2)
    assert (pool.auto_scaling.enable, pool.auto_scaling.min_instances, pool.auto_scaling.max_instances) == (False, 1, 4)
    assert pool.kubernetes_config.node_name_mode == "customized,blue.,6,.e2e"
    assert pool.scaling_group.multi_az_policy == "PRIORITY" and pool.scaling_group.spot_strategy == "SpotAsPriceGo"
    assert (pool.status.state, pool.status.total_nodes, pool.status.healthy_nodes) == ("active", 2, 2)
    told = events_of(pools, "NotApplied")
    for field in ("spot_strategy", "data_disks", "key_pair", "cms_enabled", "runtime_version"):
        assert field in told, (field, told)


def own_taints(node):
    """Keys of the taints that are not Kubernetes' own: those come and go with what a node says of itself."""
    keys = [taint["key"] for taint in node["spec"].get("taints", [])]
    return [key for key in keys if not key.startswith("node.kubernetes.io/")]


def kubelets(shared, pools, pool_id):
    """The process ids of the nodes' kubelets: one that starts again is not Ready for a moment."""
    return [in_machine(shared, node["instance_id"], "pgrep", "-x", "kubelet") for node in nodes_of(pools, pool_id)]


def test_a_change_reaches_live_nodes_only_if_asked(pools, blue, sdk, shared):
    running = kubelets(shared, pools, blue)
    mine = objects(pools, blue)[0]["metadata"]["name"]
    kubectl(pools.kubeconfig, "label", "node", mine, "my-own=kept")
    modify(sdk, pools, blue, labels=[cs_models.Tag(key="env", value="test")], taints=[])
    for node in objects(pools, blue):
        assert (node["metadata"]["labels"]["env"], node["metadata"]["labels"]["old"]) == ("prod", "1")
        assert own_taints(node) == ["dedicated"]
    modify(sdk, pools, blue, labels=[cs_models.Tag(key="env", value="stage"), cs_models.Tag(key="new", value="1")],
           taints=[cs_models.Taint(key="soft", value="", effect="PreferNoSchedule")], update_nodes=True)
    for node in objects(pools, blue):
        labels = node["metadata"]["labels"]
        assert (labels["env"], labels["new"]) == ("stage", "1") and "old" not in labels, labels
        assert own_taints(node) == ["soft"]
    assert kubectl_json(pools.kubeconfig, "get", "node", mine)["metadata"]["labels"]["my-own"] == "kept"
    modify(sdk, pools, blue, labels=[cs_models.Tag(key="env", value="stage")], taints=[], update_nodes=True)
    for node in objects(pools, blue):
        assert "new" not in node["metadata"]["labels"] and not own_taints(node)
    assert kubelets(shared, pools, blue) == running, "no kubelet was started again for it"


def test_a_drain_names_the_budget_that_blocks_it(pools, blue, sdk):
    victim = objects(pools, blue)[0]["metadata"]["name"]
    labels = {"app": "held"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "held", "labels": labels}, "spec": {
        "nodeName": victim, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": bundled("agnhost"), "args": ["pause"]}]}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "at-least-one"},
              "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}}
    apply(pools, pod, budget)
    kubectl(pools.kubeconfig, "wait", "pod/held", "--for=condition=Ready", "--timeout=60s")
    removed = sdk.delete_cluster_nodes(
        pools.id, cs_models.DeleteClusterNodesRequest(nodes=[victim], drain_node=True, release_node=True)).body

    def blocked():
        task = pools.classic.call("GET", f"/tasks/{removed.task_id}")
        return "PodDisruptionBudget default/at-least-one" in str(task)
    wait_until(blocked, "the task names the budget", 60)
    assert "PodDisruptionBudget default/at-least-one" in events_of(pools, "DrainBlocked")
    refused("ErrorClusterState", sdk.delete_cluster_nodepool, pools.id, blue, cs_models.DeleteClusterNodepoolRequest())
    kubectl(pools.kubeconfig, "delete", "pdb", "at-least-one")
    wait_for_task(sdk, removed.task_id)
    assert [node["metadata"]["name"] for node in objects(pools, blue)] != [victim] and len(objects(pools, blue)) == 1
    assert len(nodes_of(pools, blue)) == 1


def test_repair(pools, blue, sdk, shared):
    [node] = nodes_of(pools, blue)
    idle = sdk.repair_cluster_node_pool(
        pools.id, blue, cs_models.RepairClusterNodePoolRequest(nodes=[node["node_name"]])).body
    assert wait_for_task(sdk, idle.task_id).task_result[0].data == node["node_name"]
    # The agent would start a kubelet that ended; one that stands still is out of service.
    in_machine(shared, node["instance_id"], "sh", "-c", "kill -STOP $(pidof kubelet)")

    def is_off():
        pool = detail_of(sdk, pools, blue)
        return pool.status.offline_nodes == 1 and pool.status.healthy_nodes == 0
    wait_until(is_off, "the node is not Ready", 90)
    [seen] = nodes_of(pools, blue)
    assert seen["node_status"] in ("NotReady", "Unknown") and "the node is" in seen["error_message"]
    repaired = sdk.repair_cluster_node_pool(pools.id, blue, cs_models.RepairClusterNodePoolRequest()).body
    wait_for_task(sdk, repaired.task_id)
    pool = detail_of(sdk, pools, blue)
    assert (pool.status.healthy_nodes, pool.status.offline_nodes) == (1, 0)


def test_refusals(pools, blue, sdk, cluster):
    default = next(pool for pool in pools.classic.call("GET", f"/clusters/{pools.id}/nodepools")["nodepools"]
                   if pool["nodepool_info"]["is_default"])["nodepool_info"]["nodepool_id"]
    none = cs_models.DeleteClusterNodepoolRequest()
    assert "default node pool" in refused("InvalidParameter", sdk.delete_cluster_nodepool, pools.id, default, none)
    for call, request in [
        (sdk.delete_cluster_nodepool, none),
        (sdk.repair_cluster_node_pool, cs_models.RepairClusterNodePoolRequest()),
        (sdk.modify_cluster_node_pool, cs_models.ModifyClusterNodePoolRequest()),
        (sdk.scale_cluster_node_pool, cs_models.ScaleClusterNodePoolRequest(count=1)),
    ]:
        refused("ErrorNodePoolNotFound", call, pools.id, "np0000", request)
        # A pool of another cluster of the same account.
        refused("ErrorNodePoolNotFound", call, cluster.id, blue, request)
    attach = cs_models.AttachInstancesRequest(instances=["i-nobody"], nodepool_id=blue)
    refused("ErrorNodePoolNotFound", sdk.attach_instances, cluster.id, attach)
    strange = cs_models.RepairClusterNodePoolRequest(nodes=["cn-beijing.10.9.9.9"])
    refused("InvalidParameter", sdk.repair_cluster_node_pool, pools.id, blue, strange)
    scaling = cs_models.ModifyClusterNodePoolRequestAutoScaling(enable=True, min_instances=3, max_instances=2)
    request = cs_models.ModifyClusterNodePoolRequest(auto_scaling=scaling)
    assert "max_instances" in refused("InvalidParameter", sdk.modify_cluster_node_pool, pools.id, blue, request)
    labels = cs_models.ModifyClusterNodePoolRequestKubernetesConfig(labels=[cs_models.Tag(key="a b", value="c")])
    request = cs_models.ModifyClusterNodePoolRequest(kubernetes_config=labels)
    assert "labels" in refused("InvalidParameter", sdk.modify_cluster_node_pool, pools.id, blue, request)


def test_commands_and_deletion(pools, blue, sdk, shared):
    """The friendly commands: one more node by a change of size, then the pool goes."""
    done = shared.cli("nodepool", "update", pools.id, "blue", "--nodes", "2", "--auto-repair", "false")
    assert "T-" in done.stdout
    pool = detail_of(sdk, pools, blue)
    assert (pool.status.total_nodes, pool.management.auto_repair) == (2, False)
    shared.cli("nodepool", "repair", pools.id, "blue")
    first = sdk.delete_cluster_nodepool(pools.id, blue, cs_models.DeleteClusterNodepoolRequest()).body
    again = sdk.delete_cluster_nodepool(pools.id, blue, cs_models.DeleteClusterNodepoolRequest()).body
    assert first.task_id == again.task_id
    wait_for_task(sdk, first.task_id)
    wait_until(lambda: not objects(pools, blue), "its nodes are gone", 30)
    refused("ErrorNodePoolNotFound", sdk.describe_cluster_node_pool_detail, pools.id, blue)
    assert len(pools.nodes()) == 1
