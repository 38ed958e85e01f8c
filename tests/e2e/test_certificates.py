"""Certificates that live for three minutes: a cluster works past their first end, and nobody notices."""

import datetime
import json
import threading
import time

import pytest

from clients import Classic, REGION
from conftest import Cluster
from installation import kubectl, kubectl_json, wait_until
from test_cluster import apply, in_pod, pod, wait_ready

SHORT = f"""
[server]
region = "{REGION}"
[kubernetes]
certificate_lifetime = 3
"""


def certificates(cluster):
    answer = cluster.classic.call("GET", f"/sampan/clusters/{cluster.id}/certificates")
    return {(it["name"], it["instance_id"]): it for it in answer["certificates"]}


def end(certificate):
    return datetime.datetime.fromisoformat(certificate["not_after"]).timestamp()


@pytest.fixture
def short(own, tmp_path):
    installation = own(SHORT)
    cluster = Cluster(Classic(installation.values), tmp_path, "short", vpc="vpc-short", num_of_nodes=1)
    cluster.installation = installation
    return cluster


class Requests(threading.Thread):
    """Asks the API ten times a second, each time by a new connection, and keeps what failed."""

    def __init__(self, kubeconfig):
        super().__init__(daemon=True)
        self.kubeconfig, self.failures, self.count, self.ended = kubeconfig, [], 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            self.count += 1
            try:
                kubectl(self.kubeconfig, "get", "--raw", "/api/v1/namespaces/default", timeout=20)
            except Exception as error:  # judged at the end
                self.failures.append((time.time(), repr(error)))


def test_a_cluster_works_past_the_end_of_its_certificates(short):
    cluster = short
    [node] = cluster.nodes()
    apply(cluster, pod("before", node["node_name"]))
    wait_ready(cluster, "before")
    first = certificates(cluster)
    names = {name for name, _ in first}
    assert names >= {"cluster-ca", "etcd-ca", "front-proxy-ca", "apiserver", "etcd-server", "etcd-client", "admin", "kube-proxy"}
    assert "PRIVATE KEY" not in json.dumps(list(first.values())), "keys are never listed"
    leaves = [it for it in first.values() if not it["is_ca"]]
    assert all(it["consumer"] and it["subject"] and it["issuer"] and it["renewed_at"] for it in leaves)
    first_end = max(end(it) for it in leaves)

    requests = Requests(cluster.kubeconfig)
    requests.start()
    wait_until(lambda: time.time() > first_end + 20, "the first certificates have ended", 300, 1)
    requests.ended.set()
    requests.join()
    assert requests.count > 50 and not requests.failures, f"{requests.count} requests, failed: {requests.failures[:5]}"

    now = certificates(cluster)
    assert all(end(it) > time.time() for it in now.values()), "all were issued again"
    assert first[("cluster-ca", "")] == now[("cluster-ca", "")], "authorities stay"
    # Every path still works: the server's own client, kubelets, logs and exec through the kubelet, controllers, scheduler.
    wait_until(lambda: {it["node_status"] for it in cluster.nodes()} == {"Ready"}, "all nodes are Ready", 60, 1)
    assert "hello" in in_pod(cluster, "before", "echo", "hello")
    apply(cluster, pod("after", node["node_name"]))
    wait_ready(cluster, "after")
    kubectl(cluster.kubeconfig, "create", "deployment", "scheduled", "--image=registry.k8s.io/pause:3.10.2")
    wait_until(
        lambda: kubectl_json(cluster.kubeconfig, "get", "deployment", "scheduled")["status"].get("readyReplicas") == 1,
        "a deployment is scheduled and runs", 60,
    )
    restarts = kubectl_json(cluster.kubeconfig, "get", "pod", "before")["status"]["containerStatuses"][0]["restartCount"]
    assert restarts == 0
    events = cluster.classic.call("GET", "/events", query={"cluster_id": cluster.id, "page_size": "50"})["events"]
    assert any(event["data"]["reason"] == "CertificatesRenewed" for event in events)
