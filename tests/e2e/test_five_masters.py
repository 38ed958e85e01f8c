"""Five masters and no worker: two may be killed, one may freeze."""

import time

import pytest

from clients import REGION, task_succeeds, wait_gone, wait_state
from conftest import Cluster
from installation import wait_until
from quorum import GAP_MAX, Writer, containers, docker, ready_nodes, wait_members


@pytest.fixture(scope="module")
def five(classic, tmp_path_factory):
    body = {"name": "five", "region_id": REGION, "cluster_type": "Kubernetes", "master_count": 5, "num_of_nodes": 0,
            "login_password": "Hello1234"}
    created = classic.call("POST", "/clusters", body)
    task_succeeds(classic, created["task_id"])
    cluster = Cluster.__new__(Cluster)
    cluster.classic, cluster.id = classic, created["cluster_id"]
    cluster.detail = wait_state(classic, cluster.id, "running")
    cluster.kubeconfig = tmp_path_factory.mktemp("five") / "five.kubeconfig"
    cluster.kubeconfig.write_text(classic.call("GET", f"/k8s/{cluster.id}/user_config")["config"])
    yield cluster
    classic.request("DELETE", f"/clusters/{cluster.id}")
    wait_gone(classic, cluster.id)


def test_two_of_five_are_killed(five, shared):
    victims = [containers(shared, node["instance_id"]) for node in five.nodes()[:2]]
    assert len(five.nodes()) == 5
    with Writer(five.kubeconfig, "two") as writer:
        docker("kill", *victims)
        time.sleep(3)
        wait_members(shared, five.id, 5)
        time.sleep(3)
    writer.check()
    assert writer.longest < GAP_MAX
    wait_state(five.classic, five.id, "running")


# Etcd and the API server stand still, or go on; connections to them stay as they are.
SIGNAL = "for p in /proc/[0-9]*; do case $(cat $p/comm) in etcd|kube-apiserver) kill -{} ${{p#/proc/}};; esac; done"


def test_a_master_freezes(five, shared):
    """Nothing refuses a connection, and nobody answers: the checks find out."""
    victim = containers(shared, five.nodes()[2]["instance_id"])
    with Writer(five.kubeconfig, "frozen") as writer:
        docker("exec", victim, "bash", "-c", SIGNAL.format("STOP"))
        time.sleep(15)
        docker("exec", victim, "bash", "-c", SIGNAL.format("CONT"))
        wait_members(shared, five.id, 5)
        time.sleep(3)
    writer.check()
    assert writer.longest < GAP_MAX
    wait_until(lambda: len(ready_nodes(five.kubeconfig)) == 5, "all nodes are Ready", 120, 1)
