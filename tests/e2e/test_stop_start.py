"""A cluster is stopped and started: memory is freed, state is kept, pods serve again."""

import json
import ssl
import subprocess
import urllib.parse

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import Classic, task_succeeds, wait_state
from conftest import Cluster
from installation import kubectl, kubectl_json, wait_until
from test_cluster import apply, in_pod, pod, wait_ready


@pytest.fixture(scope="module")
def stopping(classic, tmp_path_factory):
    cluster = Cluster(classic, tmp_path_factory.mktemp("stopping"), "stopping", vpc="vpc-stopping")
    yield cluster
    cluster.delete()


def containers(installation, cluster, *filters):
    label = f"label=io.sampan.owner={installation.installation_id()}"
    ours = f"label=io.sampan.cluster={cluster.id}"
    command = ["docker", "ps", "-q", *filters, "--filter", label, "--filter", ours]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def power(cluster, verb):
    return cluster.classic.call("POST", f"/sampan/clusters/{cluster.id}/{verb}")


def refused(cluster, method, path, body=None):
    with pytest.raises(ServerException) as refusal:
        cluster.classic.call(method, path, body)
    return refusal.value.get_http_status(), refusal.value.get_error_code()


def test_a_cluster_is_stopped_and_started(shared, stopping):
    cluster = stopping
    nodes = {node["node_name"]: node["ip_address"] for node in cluster.nodes()}
    apply(cluster, pod("survivor", sorted(nodes)[0]))
    wait_ready(cluster, "survivor")
    kubectl(cluster.kubeconfig, "create", "configmap", "kept", "--from-literal=word=here")
    before = kubectl_json(cluster.kubeconfig, "get", "pod", "survivor")["metadata"]["uid"]
    assert len(containers(shared, cluster)) == 3

    stopped = power(cluster, "stop")
    assert power(cluster, "stop")["task_id"] == stopped["task_id"], "asked again, the same task is answered"
    task_succeeds(cluster.classic, stopped["task_id"])
    wait_state(cluster.classic, cluster.id, "stopped")
    assert containers(shared, cluster) == [] and len(containers(shared, cluster, "--all")) == 3
    assert kubectl(cluster.kubeconfig, "get", "nodes", "--request-timeout=3s", check=False).returncode != 0

    # It is read, and not changed.
    assert {node["state"] for node in cluster.nodes()} == {"stopped"}
    assert cluster.classic.call("GET", f"/k8s/{cluster.id}/user_config")["config"]
    assert refused(cluster, "POST", f"/sampan/clusters/{cluster.id}/stop") == (400, "ErrorClusterState")
    assert refused(cluster, "POST", f"/sampan/clusters/{cluster.id}/backups") == (400, "ErrorClusterState")
    scale = {"count": 1, "worker_instance_types": ["ecs.g6.large"]}
    assert refused(cluster, "POST", f"/api/v2/clusters/{cluster.id}", scale) == (400, "ErrorClusterState")

    # Also a server that is killed in its middle brings it up.
    started = power(cluster, "start")
    shared.kill()
    shared.start()
    task_succeeds(cluster.classic, started["task_id"])
    wait_state(cluster.classic, cluster.id, "running")
    assert {node["node_name"]: node["ip_address"] for node in cluster.nodes()} == nodes, "the same addresses"
    assert kubectl_json(cluster.kubeconfig, "get", "configmap", "kept")["data"] == {"word": "here"}
    wait_ready(cluster, "survivor")
    after = kubectl_json(cluster.kubeconfig, "get", "pod", "survivor")["metadata"]["uid"]
    assert after == before, "it is the same pod"
    wait_until(lambda: "hello" in in_pod(cluster, "survivor", "echo", "hello"), "the pod serves again", 30)


def test_health_in_words(stopping):
    cluster = stopping

    def healthy():
        health = cluster.classic.call("GET", f"/sampan/clusters/{cluster.id}/health")
        return health if health["health"] == "healthy" else None

    health = wait_until(healthy, "the cluster is healthy", 90, 1)
    parts = {part["component"] for part in health["components"]}
    assert parts >= {"api_server", "etcd", "controllers", "scheduler", "dns", "network", "certificates", "endpoint"}
    assert all(part["since"] and part["message"] for part in health["components"])
    [member] = health["etcd_members"]
    assert member["leader"] and member["db_size"] > 0 and not member["problems"]
    for node in health["nodes"]:
        ready = next(condition for condition in node["conditions"] if condition["type"] == "Ready")
        assert ready["status"] == "True" and ready["since"] and ready["reason"]


def test_certificates_are_shown(shared, stopping):
    """`sampan cluster certs`: every certificate with its end, which is that of the certificate the API server shows."""
    listed = json.loads(shared.cli("cluster", "certs", "stopping", "-o", "json").stdout)["certificates"]
    assert len(listed) >= 5 and all(it["not_after"] for it in listed), listed
    detail = stopping.classic.call("GET", f"/clusters/{stopping.id}")
    endpoint = urllib.parse.urlsplit(json.loads(detail["master_url"])["api_server_endpoint"])
    shown = ssl.get_server_certificate((endpoint.hostname, endpoint.port))
    end = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601"], input=shown, check=True,
                         capture_output=True, text=True).stdout.strip().removeprefix("notAfter=").replace(" ", "T")
    assert end in {it["not_after"] for it in listed}, (end, listed)
    assert len(shared.cli("cluster", "certs", "stopping").stdout.splitlines()) == len(listed) + 1
