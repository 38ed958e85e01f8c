"""A dedicated cluster with three masters over three zones: what it is, and what may be taken from it."""

import json
import time

import pytest
from alibabacloud_tea_openapi.exceptions import ClientException

from clients import REGION, cs_models, reasons, task_succeeds, wait_gone, wait_state
from installation import kubectl_json, wait_until
from quorum import GAP_MAX, Writer, containers, docker, lose, ready_nodes, wait_members

VPC = "vpc-dedicated"
VSWITCHES = [f"vsw-dedicated-{letter}" for letter in "abc"]


def body(name, **fields):
    """Catalogue 9.1.1."""
    return cs_models.CreateClusterRequest(**{
        "name": name, "region_id": REGION, "cluster_type": "Kubernetes", "vpcid": VPC,
        "container_cidr": "172.20.0.0/16", "service_cidr": "172.21.0.0/20",
        "master_count": 3, "master_vswitch_ids": VSWITCHES, "master_instance_types": ["ecs.g6.large"] * 3,
        "master_system_disk_category": "cloud_essd", "master_system_disk_size": 120,
        "worker_vswitch_ids": VSWITCHES[:1], "worker_instance_types": ["ecs.g6.large"], "num_of_nodes": 1,
        "login_password": "Hello1234", "snat_entry": True, **fields,
    })


class Dedicated:
    def __init__(self, sdk, classic, directory):
        self.sdk, self.classic = sdk, classic
        begun = time.monotonic()
        created = sdk.create_cluster(body("dedicated")).body
        self.id = created.cluster_id
        task_succeeds(classic, created.task_id)
        print(f"a cluster of three masters and a worker is running after {time.monotonic() - begun:.1f} s")
        wait_state(classic, self.id, "running")
        self.kubeconfig = directory / "dedicated.kubeconfig"
        request = cs_models.DescribeClusterUserKubeconfigRequest()
        self.kubeconfig.write_text(sdk.describe_cluster_user_kubeconfig(self.id, request).body.config)

    def nodes(self):
        return self.classic.call("GET", f"/clusters/{self.id}/nodes")["nodes"]

    def masters(self):
        return [node for node in self.nodes() if node["instance_role"] == "Master"]

    def reasons(self):
        return reasons(self.classic, self.id)


@pytest.fixture(scope="module")
def dedicated(sdk, classic, tmp_path_factory):
    cluster = Dedicated(sdk, classic, tmp_path_factory.mktemp("dedicated"))
    yield cluster
    classic.request("DELETE", f"/clusters/{cluster.id}")
    wait_gone(classic, cluster.id)


def test_masters_are_nodes_over_three_zones(dedicated):
    detail = dedicated.classic.call("GET", f"/clusters/{dedicated.id}")
    assert (detail["cluster_type"], detail["size"]) == ("Kubernetes", 4)
    assert len(dedicated.masters()) == 3
    nodes = kubectl_json(dedicated.kubeconfig, "get", "nodes")["items"]
    masters = [node for node in nodes if "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]]
    assert len(nodes) == 4 and len(masters) == 3
    assert all("node-role.kubernetes.io/master" in node["metadata"]["labels"] for node in masters)
    zones = {node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in masters}
    assert len(zones) == 3
    assert all(node["metadata"]["labels"]["topology.kubernetes.io/region"] == REGION for node in masters)
    taints = [[taint["key"] for taint in node["spec"]["taints"]] for node in masters]
    assert all("node-role.kubernetes.io/control-plane" in keys for keys in taints), taints

    def endpoints():
        return len(kubectl_json(dedicated.kubeconfig, "get", "endpointslices", "kubernetes")["endpoints"]) == 3
    wait_until(endpoints, "three API servers stand behind the service kubernetes", 60, 1)


def test_one_master_is_killed(dedicated, shared):
    """SIGKILL for the container: no acknowledged write is lost, and the machine comes back by itself."""
    victim = containers(shared, dedicated.masters()[0]["instance_id"])
    with Writer(dedicated.kubeconfig, "killed") as writer:
        docker("kill", victim)
        wait_until(lambda: "MachineExited" in dedicated.reasons(), "its death is told", 60)
        wait_members(shared, dedicated.id, 3)
        time.sleep(3)
    writer.check()
    assert writer.longest < GAP_MAX
    wait_state(dedicated.classic, dedicated.id, "running")


def test_one_master_is_lost_with_its_disks(dedicated, shared):
    """Another machine takes its place, at its address, and its member of etcd does too."""
    lost = dedicated.masters()[1]
    with Writer(dedicated.kubeconfig, "lost") as writer:
        lose(shared, lost["instance_id"])

        def replaced():
            masters = {node["ip_address"][0]: node for node in dedicated.masters()}
            successor = masters.get(lost["ip_address"][0])
            return (len(masters) == 3 and successor and successor["instance_id"] != lost["instance_id"]
                    and successor["state"] == "running")
        wait_until(replaced, "a successor is in service at its address", 240, 1)
        wait_members(shared, dedicated.id, 3)
        time.sleep(3)
    writer.check()
    assert writer.longest < GAP_MAX
    assert "MachineReplaced" in dedicated.reasons()
    wait_until(lambda: len(ready_nodes(dedicated.kubeconfig)) == 4, "all nodes are Ready", 120, 1)


def test_a_power_cycle_of_everything(dedicated, shared):
    before = {node["instance_id"]: node["ip_address"][0] for node in dedicated.nodes()}
    with Writer(dedicated.kubeconfig, "power") as writer:
        time.sleep(1)
    docker("kill", *(containers(shared, machine) for machine in before))
    begun = time.monotonic()
    wait_members(shared, dedicated.id, 3)
    wait_until(lambda: len(ready_nodes(dedicated.kubeconfig)) == 4, "all nodes are Ready", 180, 1)
    print(f"quorum and nodes are back after {time.monotonic() - begun:.1f} s")
    writer.check()
    assert {node["instance_id"]: node["ip_address"][0] for node in dedicated.nodes()} == before


def test_it_is_stopped_and_started(dedicated, shared):
    """All machines end, and the quorum comes back with everything that was acknowledged."""
    before = {node["instance_id"]: node["ip_address"][0] for node in dedicated.nodes()}
    with Writer(dedicated.kubeconfig, "stopped") as writer:
        time.sleep(1)
    shared.cli("cluster", "stop", "dedicated")
    wait_state(dedicated.classic, dedicated.id, "stopped")
    label = f"label=io.sampan.cluster={dedicated.id}"
    assert docker("ps", "--quiet", "--filter", label) == ""
    shared.cli("cluster", "start", "dedicated")
    wait_state(dedicated.classic, dedicated.id, "running")
    wait_members(shared, dedicated.id, 3)
    wait_until(lambda: len(ready_nodes(dedicated.kubeconfig)) == 4, "all nodes are Ready", 180, 1)
    writer.check()
    assert {node["instance_id"]: node["ip_address"][0] for node in dedicated.nodes()} == before


def test_all_masters_are_lost_with_their_disks(dedicated, shared):
    """Nothing of etcd is left; a backup brings everything back that it has, on machines that never had any of it."""
    with Writer(dedicated.kubeconfig, "saved") as writer:
        time.sleep(1)
    backup = json.loads(shared.cli("cluster", "backup", "dedicated", "-o", "json").stdout)["backup_id"]
    lost = {node["instance_id"] for node in dedicated.masters()}
    lose(shared, *lost)
    wait_until(lambda: lost.isdisjoint(node["instance_id"] for node in dedicated.masters()), "all are given up", 240, 1)
    shared.cli("cluster", "restore", "dedicated", backup)
    wait_members(shared, dedicated.id, 3)
    wait_state(dedicated.classic, dedicated.id, "running")
    wait_until(lambda: len(ready_nodes(dedicated.kubeconfig)) == 4, "all nodes are Ready", 240, 1)
    assert len(dedicated.masters()) == 3
    writer.check()


@pytest.mark.parametrize("fields, field", [
    ({"master_count": 1}, "master_count"), ({"master_count": 2}, "master_count"), ({"master_count": 4}, "master_count"),
    ({"master_count": 7}, "master_count"), ({"master_instance_types": ["ecs.g6.large"] * 4}, "master_instance_types"),
    ({"master_instance_types": ["huge"]}, "master_instance_types"),
    ({"master_system_disk_size": 10}, "master_system_disk_size"),
    ({"master_instance_charge_type": "PrePaid"}, "master_period_unit"),
    ({"zone_id": "cn-elsewhere-a"}, "zone_ids"), ({"cluster_spec": "ack.pro.small"}, "cluster_spec"),
])
def test_refusals(sdk, fields, field):
    with pytest.raises(ClientException) as caught:
        sdk.create_cluster(body("refused", **fields))
    assert caught.value.code in ("InvalidParameter", "MissingParameter")
    assert field in caught.value.message


def test_masters_stay(dedicated):
    master = dedicated.masters()[0]
    request = cs_models.DeleteClusterNodesRequest(nodes=[master["node_name"]], release_node=True)
    with pytest.raises(ClientException) as caught:
        dedicated.sdk.delete_cluster_nodes(dedicated.id, request)
    assert caught.value.code == "InvalidParameter" and "master" in caught.value.message
    with pytest.raises(ClientException) as caught:
        dedicated.sdk.migrate_cluster(dedicated.id, cs_models.MigrateClusterRequest())
    assert caught.value.code == "NotSupported"
