"""Upgrades under load: no request fails, whatever happens to the server; and one that is cancelled half-way."""

import threading
import time
import urllib.request

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcs.request.v20151215 import (
    CancelClusterUpgradeRequest,
    GetUpgradeStatusRequest,
    PauseClusterUpgradeRequest,
    ResumeUpgradeClusterRequest,
    UpgradeClusterRequest,
)

from clients import Classic, cs_models, modern, wait_state, wait_task
from conftest import Cluster
from installation import kubectl, kubectl_json, wait_until
from test_cluster import apply

NODE_PORT = 30080
NODES = 3


def versions(classic):
    """The older and the newer version that this installation can upgrade between."""
    query = {"Region": "cn-beijing", "ClusterType": "ManagedKubernetes", "QueryUpgradableVersion": "true"}
    offers = classic.call("GET", "/api/v1/metadata/versions", query=query)
    for offer in reversed(offers):
        minors = [version for version in offer["upgradable_versions"]
                  if version.split(".")[1] != offer["version"].split(".")[1]]
        if minors:
            return offer["version"], minors[-1]
    pytest.fail(f"the bundle has no two minor versions to upgrade between: {offers}")


def web(cluster):
    """Two replicas behind a port of every node, of which one must always serve."""
    container = {
        "name": "web", "image": "nginx:alpine", "imagePullPolicy": "IfNotPresent",
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    labels = {"app": "web"}
    apply(cluster, {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    }, {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
    }, {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "nodePort": NODE_PORT}]},
    })
    kubectl(cluster.kubeconfig, "rollout", "status", "deployment/web", "--timeout=120s")


def fetch(address):
    with urllib.request.urlopen(f"http://{address}:{NODE_PORT}/", timeout=5) as answer:
        return answer.read()


class Visitor:
    """Asks each node in turn, twenty times a second; remembers what was not answered."""

    def __init__(self, addresses):
        self.addresses, self.failures, self.count = addresses, [], 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.ended.wait(0.05):
            address = self.addresses[self.count % len(self.addresses)]
            self.count += 1
            try:
                fetch(address)
            except OSError as error:
                self.failures.append((time.strftime("%X"), address, repr(error)))

    def __enter__(self):
        for address in self.addresses:
            wait_until(lambda: fetch(address), f"{address} knows the service", 60)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def kubelets(cluster):
    nodes = kubectl_json(cluster.kubeconfig, "get", "nodes")["items"]
    return sorted(node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes)


def schedulable(cluster):
    nodes = kubectl_json(cluster.kubeconfig, "get", "nodes")["items"]
    return [not node["spec"].get("unschedulable", False) for node in nodes]


def ask(classic, kind, cluster_id, body=None):
    """A request of the older SDK's own class."""
    import json
    request = kind()
    if not request.get_version():
        # The field `version` of UpgradeCluster hides the API's version in the class as it is shipped.
        request.get_version = lambda: "2015-12-15"
    request.set_ClusterId(cluster_id)
    request.set_endpoint(classic.endpoint)
    request.set_protocol_type("http")
    if body is not None:
        request.set_content(json.dumps(body).encode())
        request.set_content_type("application/json")
    answer = classic.client.do_action_with_exception(request)
    return json.loads(answer) if answer else None


def refused(call, code):
    with pytest.raises(ServerException) as error:
        call()
    assert error.value.get_error_code() == code, error.value


def test_upgrade_under_load_with_pause_and_kill(own, tmp_path):
    installation = own()
    classic, sdk = Classic(installation.values), modern(installation.values)
    old, new = versions(classic)
    cluster = Cluster(classic, tmp_path, "moving", vpc="vpc-moving", nodes=NODES, kubernetes_version=old)
    assert (cluster.detail["current_version"], kubelets(cluster)) == (old, [f"v{old}"] * NODES)
    status = sdk.get_upgrade_status(cluster.id).body
    assert status.upgrade_step == "not_start"
    path = f"/api/v2/clusters/{cluster.id}/upgrade"
    refused(lambda: classic.call("POST", path), "MissingParameter")
    refused(lambda: classic.call("POST", path, {"next_version": old}), "InvalidParameter")
    refused(lambda: classic.call("POST", path, {"next_version": "1.99.0"}), "InvalidParameter")
    major, minor, _ = old.split(".")
    refused(lambda: classic.call("POST", path, {"next_version": f"{major}.{int(minor) - 1}.0"}), "InvalidParameter")
    refused(lambda: classic.call("POST", path, {"component_name": "etcd", "next_version": new}), "InvalidParameter")
    refused(lambda: classic.call("POST", f"{path}/pause"), "ErrorClusterState")
    web(cluster)
    addresses = [node["ip_address"][0] for node in cluster.nodes()]
    with Visitor(addresses) as visitor:
        begun = time.monotonic()
        wish = cs_models.UpgradeClusterRequest(component_name="k8s", next_version=new, version=old)
        task_id = sdk.upgrade_cluster(cluster.id, wish).body.task_id
        assert classic.call("GET", f"/clusters/{cluster.id}")["state"] == "updating"
        refused(lambda: classic.call("POST", path, {"next_version": new}), "ErrorClusterState")
        refused(lambda: classic.call("POST", f"/api/v2/clusters/{cluster.id}", {"count": 1}), "ErrorClusterState")
        wait_until(lambda: f"v{new}" in kubelets(cluster), "a node has the new version", 240)
        sdk.pause_cluster_upgrade(cluster.id)
        wait_until(lambda: sdk.get_upgrade_status(cluster.id).body.status == "pause", "the upgrade is paused", 120)
        mixed = kubelets(cluster)
        assert f"v{old}" in mixed and f"v{new}" in mixed and all(schedulable(cluster)), mixed
        assert classic.call("GET", f"/clusters/{cluster.id}")["current_version"] == new
        installation.kill()
        installation.start()
        assert sdk.get_upgrade_status(cluster.id).body.upgrade_step == "pause"
        sdk.resume_upgrade_cluster(cluster.id)
        wait_until(lambda: not all(schedulable(cluster)), "the next node is being emptied", 60)
        installation.kill()
        installation.start()
        task = wait_task(classic, task_id, 300)
        took = time.monotonic() - begun
    assert task["state"] == "success", task
    assert [stage["state"] for stage in task["stages"]] == ["success"] * 5
    assert {result["status"] for result in task["task_result"]} == {"success"}
    detail = wait_state(classic, cluster.id, "running")
    assert (detail["current_version"], detail["init_version"]) == (new, old)
    assert kubelets(cluster) == [f"v{new}"] * NODES and all(schedulable(cluster))
    status = sdk.get_upgrade_status(cluster.id).body
    assert (status.status, status.upgrade_step, status.upgrade_task.status) == ("success", "success", "Success")
    print(f"upgraded {NODES} nodes from {old} to {new} in {took:.0f} s with {visitor.count} requests, {len(visitor.failures)} failed")
    assert visitor.count > 100 and not visitor.failures, visitor.failures
    [backup] = classic.call("GET", f"/sampan/clusters/{cluster.id}/backups")
    assert f"from-{old.replace('.', '-')}" in backup["backup_id"] and backup["size"] > 100_000, backup
    events = classic.call("GET", "/events", query={"cluster_id": cluster.id, "type": "cluster_upgrade"})["events"]
    assert {"PrecheckPassed", "SnapshotTaken", "UpgradeSucceeded"} <= {event["data"]["reason"] for event in events}
    cluster.delete()


def slow_to_leave(cluster):
    """A pod on each of two nodes that does not end when it is told to: emptying a node takes its grace period."""
    labels = {"app": "slow"}
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    container = {"name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}
    apply(cluster, {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "slow"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 20, "affinity": {
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}}}},
    })
    kubectl(cluster.kubeconfig, "rollout", "status", "deployment/slow", "--timeout=120s")


def test_cancelled_half_way_with_the_older_sdk(own, tmp_path):
    installation = own()
    classic = Classic(installation.values)
    old, new = versions(classic)
    cluster = Cluster(classic, tmp_path, "halfway", vpc="vpc-halfway", nodes=2, kubernetes_version=old)
    slow_to_leave(cluster)
    answer = ask(classic, UpgradeClusterRequest.UpgradeClusterRequest, cluster.id, {"next_version": new})
    wait_until(lambda: f"v{new}" in kubelets(cluster), "a node has the new version", 240)
    ask(classic, PauseClusterUpgradeRequest.PauseClusterUpgradeRequest, cluster.id)
    ask(classic, ResumeUpgradeClusterRequest.ResumeUpgradeClusterRequest, cluster.id)
    ask(classic, CancelClusterUpgradeRequest.CancelClusterUpgradeRequest, cluster.id)
    assert wait_task(classic, answer["task_id"])["state"] == "fail"
    detail = wait_state(classic, cluster.id, "running")
    assert detail["current_version"] == new
    assert f"v{old}" in kubelets(cluster) and all(schedulable(cluster)), "mixed, and all nodes take pods"
    status = ask(classic, GetUpgradeStatusRequest.GetUpgradeStatusRequest, cluster.id)
    assert (status["status"], status["upgrade_task"]["status"]) == ("fail", "Failed") and "cancelled" in status["error_message"]
    kubectl(cluster.kubeconfig, "delete", "deployment", "slow")
    # It works: pods are made on both nodes, and it can be enlarged.
    apply(cluster, {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "all"},
        "spec": {"selector": {"matchLabels": {"app": "all"}}, "template": {
            "metadata": {"labels": {"app": "all"}},
            "spec": {"containers": [{"name": "web", "image": "nginx:alpine", "imagePullPolicy": "IfNotPresent"}]}}},
    })
    kubectl(cluster.kubeconfig, "rollout", "status", "daemonset/all", "--timeout=90s")
    # The nodes that stayed behind follow later.
    again = classic.call("POST", f"/api/v2/clusters/{cluster.id}/upgrade", {"next_version": new})
    assert wait_task(classic, again["task_id"])["state"] == "success"
    assert kubelets(cluster) == [f"v{new}"] * 2
    cluster.delete()
