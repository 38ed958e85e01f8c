"""A cluster is backed up, damaged, and put back."""

import json
import pathlib

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import task_succeeds, wait_state
from conftest import Cluster
from installation import kubectl, kubectl_json, wait_until
from test_cluster import apply, in_pod, pod, wait_ready


@pytest.fixture(scope="module")
def backed(classic, tmp_path_factory):
    cluster = Cluster(classic, tmp_path_factory.mktemp("backed"), "backed", vpc="vpc-backed")
    yield cluster
    cluster.delete()


def backups(cluster):
    return {it["backup_id"]: it for it in cluster.classic.call("GET", f"/sampan/clusters/{cluster.id}/backups")}


def restored(cluster, backup_id):
    path = f"/sampan/clusters/{cluster.id}/backups/{backup_id}/restore"
    task = cluster.classic.call("POST", path)["task_id"]
    done = task_succeeds(cluster.classic, task)
    wait_state(cluster.classic, cluster.id, "running")
    return done


def is_absent(cluster, name):
    """Whether the API server answers that there is no such ConfigMap."""
    def told():
        done = kubectl(cluster.kubeconfig, "get", "configmap", name, check=False)
        return done if done.returncode == 0 or "NotFound" in done.stderr else None
    return wait_until(told, "the API server answers", 30).returncode != 0



def test_damage_is_undone(shared, backed, tmp_path):
    cluster = backed
    node = sorted(node["node_name"] for node in cluster.nodes())[0]
    kubectl(cluster.kubeconfig, "create", "namespace", "precious")
    kubectl(cluster.kubeconfig, "-n", "precious", "create", "configmap", "words", "--from-literal=a=1")
    kubectl(cluster.kubeconfig, "-n", "precious", "create", "secret", "generic", "key", "--from-literal=b=2")
    apply(cluster, pod("steady", node))
    wait_ready(cluster, "steady")
    steady = kubectl_json(cluster.kubeconfig, "get", "pod", "steady")["status"]["containerStatuses"][0]["containerID"]

    made = json.loads(shared.cli("cluster", "backup", "backed", "--to", str(tmp_path), "-o", "json").stdout)
    listed = backups(cluster)[made["backup_id"]]
    assert listed["kind"] == "manual" and listed["revision"] > 0 and listed["size"] > 0 and len(listed["sha256"]) == 64
    file = pathlib.Path(listed["file"])
    assert file.stat().st_mode & 0o777 == 0o600 and b"precious" not in file.read_bytes(), "private and encrypted"
    [copy] = tmp_path.iterdir()
    assert copy.read_bytes() == file.read_bytes()

    kubectl(cluster.kubeconfig, "delete", "namespace", "precious")
    kubectl(cluster.kubeconfig, "create", "configmap", "later", "--from-literal=c=3")
    restored(cluster, made["backup_id"])

    assert kubectl_json(cluster.kubeconfig, "-n", "precious", "get", "configmap", "words")["data"] == {"a": "1"}
    assert kubectl_json(cluster.kubeconfig, "-n", "precious", "get", "secret", "key")["data"] == {"b": "Mg=="}
    assert is_absent(cluster, "later"), "it was made later"
    wait_until(lambda: {it["node_status"] for it in cluster.nodes()} == {"Ready"}, "all nodes are Ready", 90, 1)
    wait_until(lambda: "hello" in in_pod(cluster, "steady", "echo", "hello"), "the pod still runs", 60)
    status = kubectl_json(cluster.kubeconfig, "get", "pod", "steady")["status"]["containerStatuses"][0]
    assert status["containerID"] == steady, "it was never interrupted"
    apply(cluster, pod("fresh", node))
    wait_ready(cluster, "fresh")


def test_a_file_from_elsewhere_and_the_end_of_one(shared, backed, tmp_path):
    cluster = backed
    shared.cli("cluster", "backup", "backed", "--to", str(tmp_path / "mine.backup"))
    [first] = [it for it in backups(cluster).values()][:1]
    shared.cli("cluster", "remove-backup", "backed", first["backup_id"])
    assert first["backup_id"] not in backups(cluster)
    kubectl(cluster.kubeconfig, "create", "configmap", "after-file")
    shared.cli("cluster", "restore", "backed", str(tmp_path / "mine.backup"))
    wait_state(cluster.classic, cluster.id, "running")
    assert is_absent(cluster, "after-file")


def test_what_is_refused_and_what_is_damaged(shared, backed):
    cluster = backed
    with pytest.raises(ServerException) as refusal:
        cluster.classic.call("POST", f"/sampan/clusters/{cluster.id}/backups/manual-0/restore")
    assert (refusal.value.get_http_status(), refusal.value.get_error_code()) == (404, "ErrorBackupNotFound")
    shared.cli("cluster", "backup", "backed")
    [newest] = list(backups(cluster).values())[:1]
    file = pathlib.Path(newest["file"])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    kubectl(cluster.kubeconfig, "create", "configmap", "untouched")
    done = shared.cli("cluster", "restore", "backed", newest["backup_id"], check=False)
    assert done.returncode != 0 and "damaged" in done.stderr
    wait_state(cluster.classic, cluster.id, "running")
    kubectl(cluster.kubeconfig, "get", "configmap", "untouched")
