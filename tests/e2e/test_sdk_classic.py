"""The whole path with aliyun-python-sdk-core's ROA requests, in JSON and in XML."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from clients import Classic, managed_cluster, task_succeeds, wait_gone, wait_state
from installation import kubectl_json


def test_whole_life_json(classic, tmp_path):
    created = classic.call("POST", "/clusters", managed_cluster("classic", vpc="vpc-classic"))
    cluster_id = created["cluster_id"]
    task_succeeds(classic, created["task_id"])
    detail = wait_state(classic, cluster_id, "running")
    assert detail["size"] == 2 and json.loads(detail["master_url"])["api_server_endpoint"].startswith("https://127.0.0.1:")
    assert cluster_id in [item["cluster_id"] for item in classic.call("GET", "/clusters")]
    page = classic.call("GET", "/api/v1/clusters", query={"name": "classic"})
    assert [item["cluster_id"] for item in page["clusters"]] == [cluster_id]

    nodes = classic.call("GET", f"/clusters/{cluster_id}/nodes")
    assert nodes["page"]["total_count"] == 2 and {node["node_status"] for node in nodes["nodes"]} == {"Ready"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(classic.call("GET", f"/k8s/{cluster_id}/user_config")["config"])
    assert len(kubectl_json(kubeconfig, "get", "nodes")["items"]) == 2
    # DescribeClusterCerts of the 2019 edition answers the same kind of kubeconfig.
    assert "client-certificate-data" in classic.call("GET", f"/clusters/{cluster_id}/certs")["config"]

    # PUT of the Swarm guide and of 2019 3.5: num_of_nodes is the new total.
    grown = classic.call("PUT", f"/clusters/{cluster_id}", {"num_of_nodes": 3})
    task_succeeds(classic, grown["task_id"])
    assert classic.call("GET", f"/clusters/{cluster_id}")["size"] == 3
    victim = nodes["nodes"][1]["instance_id"]
    removed = classic.call("POST", f"/clusters/{cluster_id}/nodes", {"nodes": [victim], "release_node": True})
    task_succeeds(classic, removed["task_id"])
    assert victim not in [node["instance_id"] for node in classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]]
    classic.request("DELETE", f"/clusters/{cluster_id}")
    wait_gone(classic, cluster_id)


def test_whole_life_xml(shared, tmp_path):
    xml = Classic(shared.values, accept="XML")

    def call(*arguments, **fields):
        return ElementTree.fromstring(xml.request(*arguments, **fields))

    def task_state(task_id):
        return call("GET", f"/tasks/{task_id}").findtext("state")

    def wait(task_id):
        from installation import wait_until
        wait_until(lambda: task_state(task_id) != "running", f"task {task_id} ends", 300)
        assert task_state(task_id) == "success"

    created = call("POST", "/clusters", managed_cluster("xml", vpc="vpc-xml"))
    assert created.tag == "CreateClusterResponse"
    cluster_id = created.findtext("cluster_id")
    wait(created.findtext("task_id"))
    assert call("GET", f"/clusters/{cluster_id}").findtext("state") == "running"
    assert cluster_id in [item.findtext("cluster_id") for item in call("GET", "/clusters").findall("item")]
    nodes = call("GET", f"/clusters/{cluster_id}/nodes").find("nodes").findall("item")
    assert [node.findtext("node_status") for node in nodes] == ["Ready", "Ready"]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(call("GET", f"/k8s/{cluster_id}/user_config").findtext("config"))
    assert len(kubectl_json(kubeconfig, "get", "nodes")["items"]) == 2
    scaled = call("POST", f"/api/v2/clusters/{cluster_id}", body={
        "count": 1, "vswitch_ids": ["vsw-vpc-xml-1"], "worker_data_disk": False,
        "worker_instance_types": ["ecs.c5.xlarge"], "login_password": "Hello1234",
    })
    wait(scaled.findtext("task_id"))
    removed = call("POST", f"/clusters/{cluster_id}/nodes", body={"nodes": [nodes[0].findtext("node_name")],
                                                                   "release_node": True})
    wait(removed.findtext("task_id"))
    assert call("GET", f"/clusters/{cluster_id}").findtext("size") == "2"
    wait(call("DELETE", f"/clusters/{cluster_id}").findtext("task_id"))


@pytest.mark.parametrize("count", [0])
def test_cluster_without_workers(classic, count, tmp_path):
    """9.1.2 as printed makes no workers; the API server answers all the same."""
    created = classic.call("POST", "/clusters", managed_cluster("empty", vpc="vpc-empty", nodes=count))
    task_succeeds(classic, created["task_id"])
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(classic.call("GET", f"/k8s/{created['cluster_id']}/user_config")["config"])
    assert kubectl_json(kubeconfig, "get", "nodes")["items"] == []
    classic.request("DELETE", f"/clusters/{created['cluster_id']}")
    wait_gone(classic, created["cluster_id"])
