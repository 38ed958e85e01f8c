"""What survives: the server killed at random instants, stopped for a while, machines that die, Docker power-cycled."""

import datetime
import json
import os
import random
import subprocess
import threading
import time
import urllib.request

import pytest

from clients import Classic, managed_cluster, wait_gone, wait_task
from conftest import Cluster
from installation import kubectl, kubectl_json, wait_until
from test_cluster import apply, pod, wait_ready

KILLS = int(os.environ.get("SAMPAN_E2E_KILLS", "20"))
# Kills while a cluster is created, scaled and deleted.
KILLS_PER_LIFE = (3, 2, 2)


def patient(call, timeout=60):
    """Asks again while the server is away."""
    from aliyunsdkcore.acs_exception.exceptions import ClientException

    def asked():
        try:
            return (call(),)
        except ClientException:
            return None
    return wait_until(asked, "the server answers", timeout, 0.1)[0]


def kill_during(installation, rng, seconds):
    """Kills the server at a random instant of the next seconds, and starts it again."""
    time.sleep(rng.uniform(0, seconds))  # the instant itself is what is random here
    installation.kill()
    installation.start()


def test_kill_at_random_instants(own):
    """Kill -9 over create, scale and delete, again and again: all converge, nothing leaks."""
    seed = int(os.environ.get("SAMPAN_E2E_SEED", random.randrange(1 << 30)))
    print(f"seed {seed} (SAMPAN_E2E_SEED)")
    rng = random.Random(seed)
    installation = own()
    lives = -(-KILLS // sum(KILLS_PER_LIFE))
    for number in range(lives):
        killed_life(installation, rng, f"phoenix-{number}")


def killed_life(installation, rng, name):
    """The life of a cluster with kills at each stage."""
    classic = Classic(installation.values)
    creating, scaling, deleting = KILLS_PER_LIFE
    created = classic.call("POST", "/clusters", managed_cluster(name, vpc=f"vpc-{name}", nodes=1))
    cluster_id = created["cluster_id"]
    for _ in range(creating):
        kill_during(installation, rng, 3)
    assert wait_task(classic, created["task_id"])["state"] == "success"
    scaled = classic.call("PUT", f"/clusters/{cluster_id}", {"num_of_nodes": 2})
    for _ in range(scaling):
        kill_during(installation, rng, 2)
    assert wait_task(classic, scaled["task_id"])["state"] == "success"
    nodes = classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]
    assert [node["node_status"] for node in nodes] == ["Ready", "Ready"]
    machines = [line for line in installation.docker_leftovers() if line.startswith("ps")]
    assert len(machines) == 4, "control plane, two workers and the balancer"
    classic.request("DELETE", f"/clusters/{cluster_id}")
    for _ in range(deleting):
        kill_during(installation, rng, 1.5)
    patient(lambda: wait_gone(classic, cluster_id))
    wait_until(lambda: len(installation.docker_leftovers()) == 1, "only the balancer is left", 60, 0.5)


@pytest.fixture
def web(cluster):
    """A web server that a loop can ask from the host."""
    kubectl(cluster.kubeconfig, "create", "deployment", "steady", "--image=nginx:alpine", "--replicas=2")
    kubectl(cluster.kubeconfig, "expose", "deployment", "steady", "--port=80", "--type=NodePort")
    kubectl(cluster.kubeconfig, "rollout", "status", "deployment/steady", "--timeout=90s")
    port = kubectl_json(cluster.kubeconfig, "get", "service", "steady")["spec"]["ports"][0]["nodePort"]
    url = f"http://{cluster.nodes()[0]['ip_address'][0]}:{port}/"
    # kube-proxy learns of the service a moment after the pods are ready.
    wait_until(lambda: urllib.request.urlopen(url, timeout=5).status == 200, "the web server answers", 30)
    yield url
    kubectl(cluster.kubeconfig, "delete", "deployment,service", "steady")


class Loop(threading.Thread):
    """Asks again and again until told to stop, and remembers failures."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self.ask, self.stop, self.asked, self.failures = ask, threading.Event(), 0, []
        self.start()

    def run(self):
        while not self.stop.is_set():
            try:
                self.ask()
            except Exception as error:
                self.failures.append(repr(error))
            self.asked += 1
            self.stop.wait(0.05)

    def end(self):
        self.stop.set()
        self.join()
        assert self.asked > 20 and not self.failures, (self.asked, self.failures[:3])


@pytest.mark.disruptive
def test_nobody_notices_a_stopped_server(cluster, shared, web):
    def ask_web():
        with urllib.request.urlopen(web, timeout=5) as answer:
            assert answer.status == 200
    loops = [Loop(ask_web), Loop(lambda: kubectl(cluster.kubeconfig, "get", "pods"))]
    assert shared.stop() == 0
    seconds = float(os.environ.get("SAMPAN_E2E_STOPPED_SECONDS", "120"))
    time.sleep(seconds)  # the length of the outage is the test
    shared.start()
    for loop in loops:
        loop.end()
    assert cluster.classic.call("GET", f"/clusters/{cluster.id}")["state"] == "running"


@pytest.mark.disruptive
def test_a_dead_machine_is_noticed_and_comes_back(cluster, shared):
    victim = cluster.nodes()[0]
    name = f"sampan-{shared.installation_id()}-{victim['instance_id']}"
    subprocess.run(["docker", "kill", name], check=True, capture_output=True)

    def ready_again():
        # The machine first: it is started again only after the server has noted that its node is not known to be Ready.
        running = subprocess.run(["docker", "inspect", "-f", "{{.State.Running}}", name], capture_output=True, text=True)
        [node] = [node for node in cluster.nodes() if node["instance_id"] == victim["instance_id"]] or [None]
        return running.stdout.strip() == "true" and node and node["node_status"] == "Ready"

    def heard():
        [condition] = [condition for item in kubectl_json(cluster.kubeconfig, "get", "nodes")["items"]
                       if item["metadata"]["name"] == victim["node_name"]
                       for condition in item["status"]["conditions"] if condition["type"] == "Ready"]
        return datetime.datetime.fromisoformat(condition["lastHeartbeatTime"])
    killed = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    wait_until(ready_again, "the machine runs and its node is Ready again", 150, 0.5)
    assert heard() >= killed, "the kubelet itself has said so since"
    events = cluster.classic.call("GET", "/events", query={"cluster_id": cluster.id, "page_size": 50})["events"]
    assert any(victim["instance_id"] in json.dumps(event) for event in events), "an event tells of it"


def docker(*arguments, check=True):
    return subprocess.run(["docker", *arguments], check=check, capture_output=True, text=True).stdout.strip()


@pytest.mark.disruptive
def test_a_machine_that_keeps_dying_is_replaced(cluster, shared):
    """Frozen: restarted. Removed: made anew. Unable to start: tried, then replaced by another one with its address."""
    victim = cluster.nodes()[-1]
    name = f"sampan-{shared.installation_id()}-{victim['instance_id']}"

    def node():
        [found] = [node for node in cluster.nodes() if node["ip_address"] == victim["ip_address"]] or [{}]
        return found

    def ready_in(container):
        """The node is Ready, and it is this container that runs."""
        status = docker("inspect", "-f", "{{.Id}} {{.State.Status}}", name, check=False)
        return node().get("node_status") == "Ready" and status == f"{container} running"

    before = docker("inspect", "-f", "{{.Id}}", name)
    docker("pause", name)
    wait_until(lambda: ready_in(before), "the frozen machine is restarted", 90)
    docker("rm", "-f", name)
    made = wait_until(lambda: docker("inspect", "-f", "{{.Id}}", name, check=False), "the removed machine is made anew", 60)
    wait_until(lambda: ready_in(made), "and its node is Ready", 90)
    assert node()["instance_id"] == victim["instance_id"] and made != before

    # With so few processes not even its first one starts.
    docker("update", "--pids-limit", "1", name)
    docker("kill", name)
    wait_until(lambda: node().get("instance_id") not in (None, victim["instance_id"]), "another machine takes its place", 90)
    wait_until(lambda: node()["node_status"] == "Ready", "and its node is Ready", 90)
    successor = node()
    assert (successor["node_name"], len(cluster.nodes())) == (victim["node_name"], 2)
    left = docker("ps", "-aq", "--filter", f"name={name}") + docker("volume", "ls", "-q", "--filter", f"name={name}")
    assert not left, "nothing is left of the broken machine"
    [seen] = [item for item in kubectl_json(cluster.kubeconfig, "get", "nodes")["items"]
              if item["metadata"]["name"] == successor["node_name"]]
    assert seen["metadata"]["labels"]["alibabacloud.com/instance-id"] == successor["instance_id"]
    events = cluster.classic.call("GET", "/events", query={"cluster_id": cluster.id, "page_size": 100})["events"]
    reasons = [event["data"]["reason"] for event in events if victim["instance_id"] in json.dumps(event)]
    assert {"MachineExited", "MachineLost", "MachineReplaced"} <= set(reasons), reasons
    apply(cluster, pod("there", successor["node_name"]))
    wait_ready(cluster, "there")
    kubectl(cluster.kubeconfig, "delete", "pod", "there", "--now")


@pytest.mark.disruptive
def test_a_machine_of_no_use_is_replaced(own, tmp_path):
    """Its container runs, but the node is not Ready: a restart does not help, another machine does."""
    installation = own("[limits]\nnot_ready_seconds = 5\nrepairs_max = 1\n")
    cluster = Cluster(Classic(installation.values), tmp_path, "useless", vpc="vpc-useless", nodes=1)
    [useless] = cluster.nodes()
    break_kubelet = "for k in /opt/sampan/kubernetes/*/kubelet; do cp /bin/false $k.new && mv $k.new $k; done; pkill kubelet"
    docker("exec", f"sampan-{installation.installation_id()}-{useless['instance_id']}", "sh", "-c", break_kubelet)

    def replaced():
        return [node for node in cluster.nodes()
                if node["instance_id"] != useless["instance_id"] and node["node_status"] == "Ready"]
    # The cluster itself notices after 40 s that a kubelet is silent.
    [successor] = wait_until(replaced, "another machine is there and its node Ready", 150, 0.5)
    assert (successor["node_name"], successor["ip_address"]) == (useless["node_name"], useless["ip_address"])
    events = cluster.classic.call("GET", "/events", query={"cluster_id": cluster.id, "page_size": 100})["events"]
    told = [event["data"]["message"] for event in events if useless["instance_id"] in json.dumps(event)]
    assert any("started again (repair 1)" in text for text in told) and any("is replaced" in text for text in told), told


@pytest.mark.disruptive
def test_power_cycle_of_a_cluster(own, tmp_path):
    """Every container of the installation and the server killed at once, then started: same addresses, same pods."""
    installation = own()
    classic = Classic(installation.values)
    created = classic.call("POST", "/clusters", managed_cluster("cycle", vpc="vpc-cycle", nodes=2))
    assert wait_task(classic, created["task_id"])["state"] == "success"
    cluster_id = created["cluster_id"]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(classic.call("GET", f"/k8s/{cluster_id}/user_config")["config"])
    kubectl(kubeconfig, "create", "deployment", "survivor", "--image=nginx:alpine", "--replicas=2")
    kubectl(kubeconfig, "rollout", "status", "deployment/survivor", "--timeout=90s")
    before = {node["node_name"] for node in classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]}
    containers = [line.split()[1] for line in installation.docker_leftovers() if line.startswith("ps")]
    installation.kill()
    subprocess.run(["docker", "kill", *containers], check=True, capture_output=True)
    installation.start()

    def back():
        pods = kubectl_json(kubeconfig, "get", "pods", "-l", "app=survivor")["items"]
        ready = [c["status"] for pod in pods for c in pod["status"].get("conditions", []) if c["type"] == "Ready"]
        nodes = kubectl_json(kubeconfig, "get", "nodes")["items"]
        up = [c["status"] for node in nodes for c in node["status"]["conditions"] if c["type"] == "Ready"]
        return ready.count("True") >= 2 and up == ["True", "True"]
    wait_until(back, "nodes and pods are back", 120, 0.5)
    assert {node["node_name"] for node in classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]} == before
