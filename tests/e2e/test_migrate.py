"""MigrateCluster: a standard cluster gets a control plane of three machines, while somebody writes."""

import time

import pytest
from alibabacloud_tea_openapi.exceptions import ClientException

from clients import cs_models, task_succeeds, wait_state
from conftest import Cluster
from installation import wait_until
from quorum import GAP_MAX, Writer, control_planes, docker, ready_nodes, wait_members


@pytest.fixture(scope="module")
def managed(classic, tmp_path_factory):
    cluster = Cluster(classic, tmp_path_factory.mktemp("migrate"), "migrate", vpc="vpc-migrate", nodes=1)
    yield cluster
    cluster.delete()


def test_standard_becomes_pro_without_losing_a_write(managed, classic, shared, sdk):
    assert len(control_planes(shared, managed.id)) == 1
    with Writer(managed.kubeconfig, "migrated") as writer:
        begun = time.monotonic()
        task_id = sdk.migrate_cluster(managed.id, cs_models.MigrateClusterRequest()).body.task_id
        assert classic.call("POST", f"/clusters/{managed.id}/migrate")["task_id"] == task_id, "asked for twice"
        assert classic.call("GET", f"/clusters/{managed.id}")["state"] == "updating"
        task = task_succeeds(classic, task_id)
        print(f"migrated after {time.monotonic() - begun:.1f} s")
        time.sleep(3)
    writer.check()
    assert [stage["state"] for stage in task["stages"]] == ["success"] * 4
    detail = wait_state(classic, managed.id, "running")
    assert (detail["cluster_spec"], detail["size"]) == ("ack.pro.small", 1)
    wait_members(shared, managed.id, 3)
    with pytest.raises(ClientException) as caught:
        sdk.migrate_cluster(managed.id, cs_models.MigrateClusterRequest())
    assert caught.value.code == "ErrorClusterState"


def test_the_first_machine_may_be_killed_afterwards(managed, shared):
    """The one that held all the data until now."""
    victims = control_planes(shared, managed.id)
    with Writer(managed.kubeconfig, "survived") as writer:
        for victim in victims:
            docker("kill", victim)
            wait_members(shared, managed.id, 3)
            time.sleep(2)
    writer.check()
    assert writer.longest < GAP_MAX
    wait_until(lambda: len(ready_nodes(managed.kubeconfig)) == 1, "the worker is Ready", 60, 1)
