"""Several clusters beside each other: the same pod ranges, no way from one to the other."""

import json
import os
import time

from clients import Classic, managed_cluster, task_succeeds, wait_gone
from installation import kubectl

COUNT = int(os.environ.get("SAMPAN_E2E_CLUSTERS", "3"))


def test_side_by_side(own, tmp_path):
    installation = own("[quota]\nmanaged_clusters = 40\n")
    classic = Classic(installation.values)
    begun = time.monotonic()
    # The same pod and service ranges in each, every one in a VPC of its own.
    created = [classic.call("POST", "/clusters", managed_cluster(f"many-{n}", vpc=f"vpc-many-{n}", nodes=1))
               for n in range(COUNT)]
    for answer in created:
        task_succeeds(classic, answer["task_id"], 600)
    print(f"{COUNT} clusters with a node each: {time.monotonic() - begun:.1f} s")
    configs = []
    for answer in created[:2]:
        path = tmp_path / answer["cluster_id"]
        path.write_text(classic.call("GET", f"/k8s/{answer['cluster_id']}/user_config")["config"])
        configs.append(path)
    for path in configs:
        kubectl(path, "run", "web", "--image=nginx:alpine", "--labels=app=web")
        kubectl(path, "run", "shell", "--image=busybox", "--command", "--", "sleep", "3600")
        kubectl(path, "wait", "--for=condition=Ready", "--timeout=90s", "pod/web", "pod/shell")
    pods = [json.loads(kubectl(path, "get", "pod", "web", "-o", "json")) for path in configs]
    nodes = [classic.call("GET", f"/clusters/{answer['cluster_id']}/nodes")["nodes"][0] for answer in created[:2]]
    assert nodes[0]["ip_address"] != nodes[1]["ip_address"]
    # From a pod of the first cluster neither the second's node nor, behind it, its pods can be reached.
    closed = kubectl(configs[0], "exec", "shell", "--", "timeout", "5", "nc", "-z", nodes[1]["ip_address"][0], "10250",
                     check=False)
    assert closed.returncode != 0
    # The pods' addresses may be equal; each cluster reaches its own.
    for path, pod in zip(configs, pods):
        page = kubectl(path, "exec", "shell", "--", "wget", "-qO-", f"http://{pod['status']['podIP']}/")
        assert "nginx" in page.lower()
        logs = kubectl(path, "logs", "web")
        assert logs.count("GET /") == 1, "only its own cluster's request arrived"
    begun = time.monotonic()
    for answer in created:
        classic.request("DELETE", f"/clusters/{answer['cluster_id']}")
    for answer in created:
        wait_gone(classic, answer["cluster_id"], 300)
    print(f"deleted: {time.monotonic() - begun:.1f} s")
    assert [line for line in installation.docker_leftovers() if not line.startswith("ps")] == []


def test_one_vpc_two_clusters_must_not_overlap(classic):
    """Pod ranges of one VPC's clusters are kept apart (catalogue 9.2 subnet_cidr)."""
    from aliyunsdkcore.acs_exception.exceptions import ServerException
    first = classic.call("POST", "/clusters", managed_cluster("one-vpc", vpc="vpc-one", nodes=0))
    try:
        classic.call("POST", "/clusters", managed_cluster("one-vpc-2", vpc="vpc-one", nodes=0))
        raise AssertionError("an overlapping pod range was accepted")
    except ServerException as error:
        assert error.get_http_status() == 400 and "container_cidr" in str(error)
    finally:
        classic.request("DELETE", f"/clusters/{first['cluster_id']}")
        wait_gone(classic, first["cluster_id"])
