"""What stays and what goes: machines of the inventory, a retained VPC, a creation that is refused."""

import json
import socket

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import REGION, Classic, managed_cluster, task_succeeds, wait_gone, wait_state
from conftest import Cluster
from installation import wait_until
from test_cluster import apply, in_pod, pod, wait_ready


def machines(installation):
    return json.loads(installation.cli("machine", "list", "-o", "json").stdout)


def kinds(installation):
    """How many containers, networks and volumes carry the installation's label."""
    found = [line.split()[0] for line in installation.docker_leftovers()]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def names_of(cluster):
    """Its machines: instance ids and addresses."""
    return {node["instance_id"]: node["ip_address"][0] for node in cluster.nodes()}


def runs_a_pod(cluster, instance_id):
    """A pod runs on the node of that machine."""
    [name] = [node["node_name"] for node in cluster.nodes() if node["instance_id"] == instance_id]
    apply(cluster, pod(f"on-{instance_id}", name))
    wait_ready(cluster, f"on-{instance_id}")
    assert "hello" in in_pod(cluster, f"on-{instance_id}", "echo", "hello")


def test_machines_that_are_kept_serve_again(own, tmp_path):
    """Through the inventory, a cluster, the inventory, the cluster, the inventory, another cluster, the inventory."""
    installation = own(f'[server]\nregion = "{REGION}"\n')
    classic = Classic(installation.values)
    installation.cli("machine", "create", "--vpc", "vpc-keeper")
    [machine] = machines(installation)
    first = machine["instance_id"]
    assert (machine["vpc_id"], machine["state"], machine.get("cluster_id") or "") == ("vpc-keeper", "kept", "")

    cluster = Cluster(classic, tmp_path, "keeper", vpc="vpc-keeper")
    members = names_of(cluster)
    assert members[first] == machine["ip_address"], "a machine of the inventory goes before new ones"
    [second] = set(members) - {first}
    refused = installation.cli("machine", "delete", first, check=False)
    assert refused.returncode != 0 and cluster.id in refused.stderr, "a machine in a cluster is not deleted"

    [name] = [node["node_name"] for node in cluster.nodes() if node["instance_id"] == first]
    body = {"nodes": [name], "release_node": False, "drain_node": True}
    task_succeeds(classic, classic.call("POST", f"/clusters/{cluster.id}/nodes", body)["task_id"])
    wait_state(classic, cluster.id, "running")
    assert set(names_of(cluster)) == {second}
    listed = {kept["instance_id"]: kept for kept in machines(installation)}
    assert (listed[first]["state"], listed[first].get("cluster_id") or "") == ("kept", "")
    assert (listed[second]["state"], listed[second]["cluster_id"]) == ("running", cluster.id)
    assert listed[first]["ip_address"] == machine["ip_address"], "it keeps its address"
    assert kinds(installation)["ps"] == 3, "balancer, control plane, a worker: what is kept has no container"

    task_succeeds(classic, classic.call("PUT", f"/clusters/{cluster.id}", {"num_of_nodes": 2})["task_id"])
    assert names_of(cluster) == members
    runs_a_pod(cluster, first)

    query = {"retain_resources": json.dumps([first])}
    classic.request("DELETE", f"/clusters/{cluster.id}", query=query)
    wait_gone(classic, cluster.id)
    assert [(kept["instance_id"], kept["state"]) for kept in machines(installation)] == [(first, "kept")]
    wait_until(lambda: kinds(installation) == {"network": 1, "ps": 1}, "the other machine is released", 30)

    again = Cluster(classic, tmp_path, "again", vpc="vpc-keeper", nodes=2)
    members = names_of(again)
    assert members[first] == machine["ip_address"]
    runs_a_pod(again, first)
    classic.request("DELETE", f"/clusters/{again.id}", query={"retain_all_resources": "true"})
    wait_gone(classic, again.id)
    assert {kept["instance_id"]: kept["ip_address"] for kept in machines(installation)} == members
    # The network is the retained VPC's: it stays until the installation is purged.
    wait_until(lambda: kinds(installation) == {"network": 1, "ps": 1}, "containers and volumes are gone", 30)
    installation.cli("machine", "delete", *members)
    assert machines(installation) == []


def test_a_taken_port_refuses_the_creation(own):
    """The range of public ports is used up by somebody else: a clear refusal, and nothing was begun."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        installation = own(f"[network]\npublic_ports = [{port}, {port}]\n")
        classic = Classic(installation.values)
        with pytest.raises(ServerException) as refused:
            classic.call("POST", "/clusters", managed_cluster("nowhere", vpc="vpc-nowhere"))
        assert refused.value.get_http_status() == 503, refused.value
        assert f"no port from {port} to {port} is free" in refused.value.get_error_msg()
    assert classic.call("GET", "/clusters") == [] and machines(installation) == []
    wait_until(lambda: kinds(installation) == {"ps": 1}, "only the balancer is there", 30)
