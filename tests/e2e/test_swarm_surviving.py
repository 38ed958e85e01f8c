"""What dies comes back: an engine, the master, the server, everything at once."""

import random
import subprocess
import time

import pytest

from clients import Classic
from installation import wait_until
from swarm import SwarmCluster, machine_container

TEMPLATE = """
version: '2'
services:
  web:
    image: ${IMAGE}
    command: netexec --http-port=80
    restart: always
    environment: ['COLOUR=${COLOUR}']
    labels:
      aliyun.routing.port_80: life.example
      aliyun.scale: '3'
      aliyun.rolling_updates: 'true'
      aliyun.probe.url: http://container/healthz
  db:
    image: ${IMAGE}
    command: netexec --http-port=3306
    restart: always
"""
IMAGE = "e2e-test-images/agnhost:2.63.0"
pytestmark = pytest.mark.disruptive


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An installation and a cluster of this module's own, to be killed."""
    from conftest import make_installation

    installation = make_installation()
    try:
        cluster = SwarmCluster(Classic(installation.values), tmp_path_factory.mktemp("home"), "home", vpc="vpc-home")
        cluster.deploy("life", TEMPLATE, environment={"IMAGE": IMAGE, "COLOUR": "blue"})
        yield installation, cluster
        cluster.delete()
        assert installation.docker_leftovers() == [] or all("volume" not in line for line in installation.docker_leftovers())
    finally:
        installation.destroy()


def machines(installation):
    label = f"label=io.sampan.owner={installation.installation_id()}"
    listed = subprocess.run(["docker", "ps", "-q", "--filter", label], check=True, capture_output=True, text=True)
    return listed.stdout.split()


def manager(installation):
    """The machine that runs the master."""
    for container in machines(installation):
        done = subprocess.run(["docker", "exec", container, "pgrep", "-f", "sampan master"], capture_output=True, text=True)
        if done.returncode == 0:
            return container
    raise AssertionError("no machine runs the master")


def serves(cluster, replicas=3):
    """Every container runs, is healthy, reaches the others by name, and the route answers."""
    def look():
        containers = cluster.containers("life")
        webs = [name for name, item in containers.items() if "web" in name and item["running"] and item["health"] == "success"]
        shown = {name: (item["node"], item["ip"], item["status"], item["health"]) for name, item in containers.items()}
        db = [item for name, item in containers.items() if "db" in name and item["running"]]
        assert len(webs) == replicas and len(db) == 1, f"not all of them run and are healthy: {shown}"
        for name in webs:
            dial = cluster.docker("exec", name, "/agnhost", "connect", "--timeout=3s", "db:3306", check=False)
            assert dial.returncode == 0, f"{name} does not reach db: {dial.stdout}{dial.stderr}; {shown}"
        # An address without one that was asked for is one that nobody gave: see `fleet/addresses.rs`.
        given = ["{{range .NetworkSettings.Networks}}{{.IPAMConfig}}{{end}}"]
        addresses = cluster.docker("inspect", "-f", *given, *containers).splitlines()
        assert "<nil>" not in addresses, f"{addresses}: not all addresses are the swarm's; {shown}"
        answers = [cluster.routed("life.example", "/hostname").status_code for _ in range(6)]
        assert answers == [200] * 6, f"the route answers {answers}; {shown}"
        return True
    return wait_until(look, "the application serves", 240, 0.5)


def runs_on(cluster, address):
    """Which runs of which containers there are on a node."""
    names = [name for name, item in cluster.containers("life").items() if item["node"] == address]
    return {cluster.docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", name) for name in names}


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_an_engine_restarts(home, nth):
    """More than once: what an engine asks the swarm while it starts may be answered too late, and then it helps itself."""
    installation, cluster = home
    serves(cluster)
    before = cluster.containers("life")
    address = next(item["node"] for name, item in before.items() if "db" in name)
    node = next(node for node in cluster.nodes() if address in node["ip_address"])
    ran = runs_on(cluster, address)
    assert ran
    container = machine_container(installation, node["instance_id"])
    subprocess.run(["docker", "exec", container, "pkill", "-KILL", "dockerd"], check=True)
    # Before that everything may look as if nothing had happened.
    wait_until(lambda: not ran & runs_on(cluster, address), "its containers run anew, here or elsewhere", 120, 0.5)
    serves(cluster)
    # A node that is away for long enough loses its containers to others, which have further numbers.
    wait_until(lambda: len(cluster.containers("life")) == len(before), "no more and no fewer containers", 60)


def test_the_master_dies(home):
    installation, cluster = home
    machine = manager(installation)
    before = cluster.containers("life")
    subprocess.run(["docker", "exec", machine, "pkill", "-KILL", "-f", "sampan master"], check=True)
    wait_until(lambda: cluster.docker("ps", check=False).returncode == 0, "the endpoint answers", 60)
    serves(cluster)
    wait_until(lambda: len(cluster.containers("life")) == len(before), "no more and no fewer containers", 60)
    # Its whole machine, too.
    subprocess.run(["docker", "kill", machine], check=True, capture_output=True)
    wait_until(lambda: cluster.docker("ps", check=False).returncode == 0, "the endpoint answers", 120)
    serves(cluster)


def test_killed_in_the_middle_of_changes(home):
    """Deploy, scale and update, with the server and the master killed at random moments: it ends as if nothing had happened."""
    installation, cluster = home
    chance = random.Random(7)
    machine = manager(installation)

    def strike():
        time.sleep(chance.uniform(0, 1.5))
        subprocess.run(["docker", "exec", machine, "pkill", "-KILL", "-f", "sampan master"], capture_output=True)
        installation.kill()
        installation.start()
        wait_until(lambda: cluster.docker("ps", check=False).returncode == 0, "the endpoint answers", 60)
    for round in range(3):
        name = f"struck{round}"
        template = "web:\n  image: nginx:alpine\n  labels:\n    aliyun.scale: '3'\n"
        cluster.api("POST", "/projects/", {"name": name, "template": template, "version": "1"}, expect=201)
        strike()
        cluster.settled(name, 180)
        assert len(cluster.containers(name)) == 3
        cluster.api("POST", f"/services/{name}_web/scale", {"type": "scale_to", "value": 5})
        strike()
        wait_until(lambda: len(cluster.containers(name)) == 5, "scaled", 120)
        cluster.api("POST", f"/projects/{name}/update", {"template": template.replace("'3'", "'2'") + "  environment: ['A=b']\n", "version": "2"})
        strike()
        cluster.settled(name, 180)
        assert cluster.project(name)["version"] == "2"
        cluster.api("DELETE", f"/projects/{name}?force=true")
        strike()
        wait_until(lambda: name not in cluster.docker("ps", "-a", "--format", "{{.Names}}"), "gone", 120)
    serves(cluster)


def test_a_power_cycle(home):
    installation, cluster = home
    serves(cluster)
    before = cluster.containers("life")
    all_of_it = machines(installation)
    subprocess.run(["docker", "kill", *all_of_it], check=True, capture_output=True)
    installation.kill()
    subprocess.run(["docker", "start", *all_of_it], check=True, capture_output=True)
    installation.start()
    wait_until(lambda: cluster.docker("ps", check=False).returncode == 0, "the endpoint answers", 120)
    serves(cluster)
    wait_until(lambda: len(cluster.containers("life")) == len(before), "no more and no fewer containers", 60)
    assert cluster.docker("run", "--rm", "busybox", "echo", "again") == "again"
