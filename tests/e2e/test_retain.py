"""What stays and what goes: machines of the inventory, a retained VPC, a creation that is refused."""

import json
import socket

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import REGION, Classic, managed_cluster, task_succeeds, wait_gone
from installation import wait_until


def machines(installation):
    return json.loads(installation.cli("machine", "list", "-o", "json").stdout)


def kinds(installation):
    """How many containers, networks and volumes carry the installation's label."""
    found = [line.split()[0] for line in installation.docker_leftovers()]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def test_a_machine_of_the_inventory_outlives_a_cluster_in_its_vpc(own):
    """Such a machine is a record: nothing of it is in Docker, and no deletion of a cluster takes it along."""
    installation = own(f'[server]\nregion = "{REGION}"\n')
    classic = Classic(installation.values)
    installation.cli("machine", "create", "--vpc", "vpc-keeper")
    [machine] = machines(installation)
    assert (machine["vpc_id"], machine.get("cluster_id") or "") == ("vpc-keeper", "")
    created = classic.call("POST", "/clusters", managed_cluster("keeper", vpc="vpc-keeper", nodes=0))
    task_succeeds(classic, created["task_id"], 120)
    assert kinds(installation)["ps"] == 2, "balancer and control plane"
    classic.request("DELETE", f"/clusters/{created['cluster_id']}", query={"retain_all_resources": "true"})
    wait_gone(classic, created["cluster_id"])
    assert [kept["instance_id"] for kept in machines(installation)] == [machine["instance_id"]]
    wait_until(lambda: kinds(installation).get("ps") == 1 and "volume" not in kinds(installation),
               "containers and volumes are gone", 30)
    installation.cli("machine", "delete", machine["instance_id"])
    assert machines(installation) == []
    # The network is the retained VPC's: it stays until the installation is purged.
    assert kinds(installation) == {"network": 1, "ps": 1}


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
