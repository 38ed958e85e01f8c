"""Fixtures: one installation and one cluster that most tests share, so that real clusters are made seldom."""

import subprocess
import sys
import pathlib

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from clients import Classic, managed_cluster, modern, task_succeeds, wait_gone, wait_state  # noqa: E402
from installation import Installation  # noqa: E402


def make_installation(config=""):
    installation = Installation(config).start()
    installation.values = installation.access()
    return installation


@pytest.fixture(scope="session")
def shared():
    """The installation that tests share."""
    installation = make_installation()
    yield installation
    print(installation.log_tail(), file=sys.stderr) if installation.process.poll() is not None else None
    installation.destroy()
    assert installation.process.returncode == 0, "the server ends cleanly on SIGTERM"


@pytest.fixture
def own():
    """Makes installations of a test's own; what they made in Docker is removed with them."""
    made = []

    def make(config=""):
        made.append(make_installation(config))
        return made[-1]

    yield make
    for installation in made:
        installation.destroy()


@pytest.fixture(scope="session")
def classic(shared):
    return Classic(shared.values)


@pytest.fixture(scope="session")
def sdk(shared):
    return modern(shared.values)


class Cluster:
    """A running cluster and its kubeconfig."""

    def __init__(self, classic, directory, name, **fields):
        created = classic.call("POST", "/clusters", managed_cluster(name, **fields))
        self.classic, self.id = classic, created["cluster_id"]
        task_succeeds(classic, created["task_id"])
        self.detail = wait_state(classic, self.id, "running")
        self.kubeconfig = directory / f"{name}.kubeconfig"
        self.kubeconfig.write_text(classic.call("GET", f"/k8s/{self.id}/user_config")["config"])

    def nodes(self):
        return self.classic.call("GET", f"/clusters/{self.id}/nodes")["nodes"]

    def delete(self):
        self.classic.request("DELETE", f"/clusters/{self.id}")
        wait_gone(self.classic, self.id)


@pytest.fixture(scope="session")
def cluster(classic, tmp_path_factory):
    """A managed cluster with two nodes that tests share."""
    cluster = Cluster(classic, tmp_path_factory.mktemp("shared"), "shared", vpc="vpc-shared")
    yield cluster
    cluster.delete()


@pytest.fixture(scope="session", autouse=True)
def docker():
    """The suite needs a Docker engine; it says so instead of skipping."""
    done = subprocess.run(["docker", "version"], capture_output=True, text=True)
    assert done.returncode == 0, f"no Docker engine answers: {done.stderr}"


@pytest.fixture(scope="session")
def swarm(classic, tmp_path_factory):
    """A Swarm cluster with three nodes that tests share."""
    from swarm import SwarmCluster

    cluster = SwarmCluster(classic, tmp_path_factory.mktemp("swarm"), "harbour")
    yield cluster
    cluster.delete()
