"""Servers themselves: two on one host, HTTPS, the master key, the data directory's lock and files."""

import ipaddress
import json
import os
import ssl
import stat
import subprocess
import urllib.error
import urllib.request

import pytest

from clients import Classic, managed_cluster, task_succeeds, wait_state
from installation import BINARY, Installation, free_port, kubectl, wait_until


@pytest.fixture
def bare():
    """Makes installations that are not started yet; what they made is removed with them."""
    made = []

    def make(config=""):
        made.append(Installation(config))
        return made[-1]

    yield make
    for installation in made:
        installation.destroy()


def refused_start(data_dir, *arguments):
    """Starts a server that must refuse to run; returns what it says."""
    command = [BINARY, "serve", "--data-dir", data_dir, "--listen", f"127.0.0.1:{free_port()}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode not in (0, None) and "panicked" not in done.stderr, done.stderr
    return done.stderr


def test_https_alone(bare):
    """With --listen-tls only: the local authority is what clients need, nothing answers without TLS."""
    installation = bare()
    installation.url = f"https://127.0.0.1:{installation.port}"
    installation.start("--listen-tls", f"127.0.0.1:{installation.port}")
    with pytest.raises(urllib.error.URLError) as untrusted:
        urllib.request.urlopen(f"{installation.url}/readyz", timeout=5, context=ssl.create_default_context())
    assert isinstance(untrusted.value.reason, ssl.SSLCertVerificationError)
    values = installation.access()
    assert values["SAMPAN_PROTOCOL"] == "https" and values["SAMPAN_ENDPOINT"] == f"127.0.0.1:{installation.port}"
    assert json.loads(installation.cli("cs", "GET", "/clusters").stdout) == []
    # The same by the environment that `sampan env` prints, without the data directory.
    environment = {name: value for name, value in os.environ.items() if name != "SAMPAN_DATA_DIR"} | values
    done = subprocess.run([BINARY, "cs", "GET", "/clusters"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout) == [], done.stderr
    assert stat.S_IMODE((installation.data_dir / "tls/ca.key").stat().st_mode) == 0o600
    authority = (installation.data_dir / "tls/ca.pem").read_bytes()
    assert installation.stop() == 0
    installation.start("--listen-tls", f"127.0.0.1:{installation.port}")
    assert (installation.data_dir / "tls/ca.pem").read_bytes() == authority, "clients go on trusting it"


def test_the_master_key(bare, tmp_path):
    """A key elsewhere; another key, a damaged one and one that others may read are refused in words."""
    installation = bare()
    key = tmp_path / "keys/master.key"
    listen = ("--listen", f"127.0.0.1:{installation.port}")
    installation.start(*listen, "--key-file", key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and key.stat().st_size == 32
    assert not (installation.data_dir / "master.key").exists()
    secret = installation.access()["ALIBABA_CLOUD_ACCESS_KEY_SECRET"]
    assert installation.stop() == 0, "SIGTERM ends it cleanly"

    other = tmp_path / "other.key"
    other.write_bytes(os.urandom(32))
    other.chmod(0o600)
    message = refused_start(installation.data_dir, "--key-file", other)
    assert "key" in message and "backup" in message, message
    other.write_bytes(b"short")
    assert "does not hold exactly 32 bytes" in refused_start(installation.data_dir, "--key-file", other)
    other.write_bytes(key.read_bytes())
    other.chmod(0o644)
    assert "chmod 600" in refused_start(installation.data_dir, "--key-file", other)

    installation.start(*listen, "--key-file", key)
    assert installation.access()["ALIBABA_CLOUD_ACCESS_KEY_SECRET"] == secret
    assert json.loads(installation.cli("cs", "GET", "/clusters").stdout) == []


def test_one_server_per_data_directory_and_its_files(bare):
    installation = bare().start()
    message = refused_start(installation.data_dir)
    assert str(installation.data_dir) in message, message
    with urllib.request.urlopen(f"{installation.url}/readyz", timeout=5) as answer:
        assert answer.status == 200, "the first one goes on"
    refused = installation.cli("purge", "--yes", check=False)
    assert refused.returncode != 0 and "is running" in refused.stderr
    installation.access()
    for name in ("credentials.json", "master.key", "sampan.db"):
        assert stat.S_IMODE((installation.data_dir / name).stat().st_mode) == 0o600, name
    assert installation.stop() == 0


def subnets(installation):
    """The ranges of the installation's Docker networks."""
    label = f"label=io.sampan.owner={installation.installation_id()}"
    ids = subprocess.run(["docker", "network", "ls", "-q", "--filter", label], check=True, capture_output=True, text=True)
    shown = subprocess.run(["docker", "network", "inspect", *ids.stdout.split()], check=True, capture_output=True, text=True)
    return [ipaddress.ip_network(part["Subnet"]) for network in json.loads(shown.stdout) for part in network["IPAM"]["Config"]]


def test_two_servers_on_one_host(bare, tmp_path):
    """The same names and ids in both; each knows only its own, and a purge of one leaves the other alone."""
    sides = []
    for index in range(2):
        installation = bare().start()
        classic = Classic(installation.access())
        # Clusters without nodes are enough: what could clash are names, ranges, ports and virtual addresses.
        created = classic.call("POST", "/clusters", managed_cluster("twin", vpc="vpc-twin", nodes=0))
        wait_until(lambda: subnets(installation), "the VPC's network is made", 30)
        sides.append((installation, classic, created["cluster_id"], tmp_path / f"{index}.kubeconfig", created["task_id"]))
    assert len({installation.installation_id() for installation, *_ in sides}) == 2
    for _, classic, cluster_id, kubeconfig, task_id in sides:
        task_succeeds(classic, task_id)
        wait_state(classic, cluster_id, "running")
        kubeconfig.write_text(classic.call("GET", f"/k8s/{cluster_id}/user_config")["config"])
        assert [cluster["cluster_id"] for cluster in classic.call("GET", "/clusters")] == [cluster_id]
    (first, _, first_id, _, _), (second, second_classic, second_id, second_config, _) = sides
    assert first_id != second_id
    ranges = subnets(first) + subnets(second)
    assert len(ranges) == 2 and not ranges[0].overlaps(ranges[1]), ranges
    urls = {json.loads(classic.call("GET", f"/clusters/{cluster_id}")["master_url"])["api_server_endpoint"]
            for _, classic, cluster_id, _, _ in sides}
    assert len(urls) == 2, urls

    before = sorted(second.docker_leftovers())
    assert first.stop() == 0
    first.cli("purge", "--yes")
    assert first.docker_leftovers() == []
    assert sorted(second.docker_leftovers()) == before
    assert kubectl(second_config, "get", "--raw", "/readyz") == "ok"
    assert second_classic.call("GET", f"/clusters/{second_id}")["state"] == "running"
