"""What the engine and the host can do to clusters: killed hard, stopped half-way, disk full, port taken, memory short.

All of it happens to an engine of the module's own; the host's is left alone.
"""

import json
import socket
import subprocess
import time
import urllib.request

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

import engine as engines
from clients import Classic, managed_cluster, task_succeeds, wait_gone, wait_state
from conftest import Cluster, make_installation
from installation import BINARY, Installation, kubectl, kubectl_json, wait_until

REASON = engines.unavailable()
pytestmark = [pytest.mark.disruptive, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(scope="module")
def engine():
    made = engines.Engine()
    try:
        made.start()
        made.load(engines.node_image())
        made.enter()
        yield made
    finally:
        made.destroy()


@pytest.fixture(scope="module")
def installation(engine):
    """An installation that uses that engine."""
    installation = make_installation()
    yield installation
    installation.destroy()
    assert installation.process.returncode == 0, installation.log_tail()


@pytest.fixture(scope="module")
def client(installation):
    return Classic(installation.values)


@pytest.fixture(scope="module")
def standing(client, tmp_path_factory):
    """A cluster that lives through all of it."""
    cluster = Cluster(client, tmp_path_factory.mktemp("standing"), "standing", vpc="vpc-standing")
    kubectl(cluster.kubeconfig, "create", "deployment", "web", "--image=nginx:alpine", "--replicas=2")
    kubectl(cluster.kubeconfig, "expose", "deployment", "web", "--port=80", "--type=NodePort")
    kubectl(cluster.kubeconfig, "rollout", "status", "deployment/web", "--timeout=90s")
    cluster.port = kubectl_json(cluster.kubeconfig, "get", "service", "web")["spec"]["ports"][0]["nodePort"]
    cluster.addresses = {node["node_name"]: node["ip_address"][0] for node in cluster.nodes()}
    is_back(cluster)
    return cluster


def is_back(cluster, timeout=120):
    """The API, nodes and pods of a cluster serve, at the addresses they had."""
    def serves():
        nodes = kubectl_json(cluster.kubeconfig, "get", "nodes", "--request-timeout=5s")["items"]
        up = [c["status"] for node in nodes for c in node["status"]["conditions"] if c["type"] == "Ready"]
        pods = kubectl_json(cluster.kubeconfig, "get", "pods", "-l", "app=web", "--request-timeout=5s")["items"]
        ready = [c["status"] for pod in pods for c in pod["status"].get("conditions", []) if c["type"] == "Ready"]
        for address in cluster.addresses.values():
            urllib.request.urlopen(f"http://{address}:{cluster.port}/", timeout=5).close()
        return up == ["True", "True"] and ready.count("True") >= 2
    wait_until(serves, f"{cluster.id}: nodes and pods serve", timeout, 0.5)


def says(client, task_id, *words, timeout=60):
    """Waits until a running task's stages say all of these words; returns what they say."""
    def said():
        task = client.call("GET", f"/tasks/{task_id}")
        assert task["state"] == "running", task
        text = "\n".join(stage["message"] for stage in task["stages"])
        return text if all(word.lower() in text.lower() for word in words) else None
    return wait_until(said, f"task {task_id} says {words}", timeout, 0.2)


def held(installation, cluster_id):
    """How much of each kind a cluster holds in the engine."""
    def of(*command):
        done = subprocess.run(["docker", *command], check=True, capture_output=True, text=True)
        return done.stdout.split()
    installation_id = installation.installation_id()
    machines = of("ps", "-a", "--filter", f"label=io.sampan.cluster={cluster_id}", "--format", "{{.Names}}")
    volumes = of("volume", "ls", "-q", "--filter", f"label=io.sampan.owner={installation_id}")
    return len(machines), len([v for v in volumes if any(v.startswith(f"{machine}-") for machine in machines)]), len(volumes)


def test_the_engine_and_the_server_killed(engine, installation, standing):
    """SIGKILL for both and for every container's processes, both started: all is back where it was."""
    installation.kill()
    engine.kill()
    begun = time.monotonic()
    engine.start()
    installation.start()
    is_back(standing)
    print(f"nodes and pods are back after {time.monotonic() - begun:.1f} s")
    assert {node["node_name"]: node["ip_address"][0] for node in standing.nodes()} == standing.addresses
    wait_state(standing.classic, standing.id, "running", 60)


def taken(port):
    """Somebody else listens on this port."""
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.bind(("127.0.0.1", port))
    other.listen()
    return other


def public_port(client, cluster_id):
    url = json.loads(client.call("GET", f"/clusters/{cluster_id}")["master_url"])["api_server_endpoint"]
    return int(url.rsplit(":", 1)[1])


def events(client, cluster_id):
    """What was told of a cluster, as (reason, message)."""
    answer = client.call("GET", "/events", query={"cluster_id": cluster_id, "page_size": 50})
    return [(event["data"]["reason"], event["data"]["message"]) for event in answer["events"]]


def test_the_engine_stopped_during_a_creation(engine, installation, client, standing):
    """The task says what it waits for and goes on; the port that was taken in the meantime is left to its taker."""
    created = client.call("POST", "/clusters", managed_cluster("halfway", vpc="vpc-halfway", nodes=1))
    cluster_id = created["cluster_id"]
    port = public_port(client, cluster_id)
    wait_until(lambda: held(installation, cluster_id)[0], "the first machine is made", 30, 0.05)
    engine.stop()
    with taken(port):
        print(says(client, created["task_id"], "the Docker engine does not answer", str(engine.socket), "start it"))
        assert "the Docker engine does not answer" in installation.log_path.read_text()
        engine.start()
        task_succeeds(client, created["task_id"])
        wait_state(client, cluster_id, "running", 30)
        assert public_port(client, cluster_id) not in (port, public_port(client, standing.id))
        assert [text for reason, text in events(client, cluster_id) if reason == "EndpointMoved" and str(port) in text]
    # Four volumes of the control plane's machine, three of each worker; those of the standing cluster beside them.
    assert held(installation, cluster_id) == (2, 7, 7 + held(installation, standing.id)[1])
    is_back(standing)
    client.request("DELETE", f"/clusters/{cluster_id}")
    wait_gone(client, cluster_id)
    assert held(installation, cluster_id)[0] == 0


def test_the_engines_disk_is_full(engine, installation, client, standing):
    with engines.full(engine.data):
        created = client.call("POST", "/clusters", managed_cluster("crammed", vpc="vpc-crammed", nodes=1))
        text = says(client, created["task_id"], "no space left on device", "free some disk space")
        print(text)
        assert "no space left on device" in installation.log_path.read_text()
    task_succeeds(client, created["task_id"])
    wait_state(client, created["cluster_id"], "running", 30)
    assert held(installation, created["cluster_id"])[:2] == (2, 7)
    is_back(standing)
    client.request("DELETE", f"/clusters/{created['cluster_id']}")
    wait_gone(client, created["cluster_id"])


@pytest.fixture
def small(engine, tmp_path, monkeypatch):
    """A server with its data directory on a small file system; without images and engine it keeps records only."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    bundle = tmp_path / "bundle"
    (bundle / "images/blobs/sha256").mkdir(parents=True)
    (bundle / "images/index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    (bundle / "bundle.json").write_text((BINARY.parent / "sampan-bundle/bundle.json").read_text())
    made = Installation(parent=engine.small)
    made.program, made.seen = [*engine.inside, BINARY], engine.directory / "small" / made.data_dir.name
    made.log_path = tmp_path / "server.log"
    made.arguments = ("--listen", f"127.0.0.1:{made.port}", "--bundle", bundle)
    made.start(*made.arguments)
    yield made
    monkeypatch.undo()
    made.destroy()


def test_the_data_directorys_disk_is_full(small):
    """Changes are refused in words, reads go on; it serves again without a restart. It does not start on a full disk."""
    client = Classic(small.access())
    recorded = []

    def record():
        body = managed_cluster("recorded", vpc=f"vpc-recorded-{len(recorded)}", nodes=0)
        recorded.append(client.call("POST", "/clusters", body)["cluster_id"])

    def is_whole():
        listed = [cluster["cluster_id"] for cluster in client.call("GET", "/clusters")]
        return sorted(listed) == sorted(recorded)

    with engines.full(small.data_dir.parent):
        with pytest.raises(ServerException) as refused:
            while True:  # the database's files have room for a few more
                record()
        print(refused.value)
        assert refused.value.get_http_status() == 503 and "is full" in str(refused.value)
        assert is_whole()
        assert "is full" in small.log_path.read_text()
    record()
    assert is_whole()
    assert small.stop() == 0
    with engines.full(small.data_dir.parent):
        command = [*small.program, "serve", "--data-dir", small.seen, *small.arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30)
        print(done.stderr)
        assert done.returncode == 1 and ("is full" in done.stderr or "No space left" in done.stderr)
    small.start(*small.arguments)
    assert is_whole()
    assert "panicked" not in small.log_path.read_text() + done.stderr


def test_too_little_memory(engine, installation, client):
    """What the host has cannot be changed; what must stay available can."""
    config = installation.data_dir / "config.toml"
    assert installation.stop() == 0
    config.write_text("[docker]\nmemory_reserve_mib = 1000000000\n")
    installation.start()
    created = client.call("POST", "/clusters", managed_cluster("hungry", vpc="vpc-hungry", nodes=0))
    print(says(client, created["task_id"], "MiB of memory available", "delete a cluster"))
    assert held(installation, created["cluster_id"])[0] == 0
    assert "ResourcesExhausted" in dict(events(client, created["cluster_id"]))
    assert installation.stop() == 0
    config.unlink()
    installation.start()
    task_succeeds(client, created["task_id"])
    client.request("DELETE", f"/clusters/{created['cluster_id']}")
    wait_gone(client, created["cluster_id"])


def test_a_running_clusters_port_is_taken(engine, installation, client, standing):
    """The cluster keeps its port: it is said that somebody else has it, and it serves again when that is over."""
    port = public_port(client, standing.id)
    balancer = f"sampan-{installation.installation_id()}-balancer"
    assert installation.stop() == 0
    subprocess.run(["docker", "stop", balancer], check=True, capture_output=True)
    with taken(port):
        installation.start()

        def told():
            return [text for reason, text in events(client, standing.id)
                    if reason == "EndpointUnavailable" and f"127.0.0.1:{port}" in text]
        [message, *_] = wait_until(told, "an event tells that the port is taken", 60, 0.5)
        print(message)
        assert "in use" in message
    is_back(standing)
    assert public_port(client, standing.id) == port
