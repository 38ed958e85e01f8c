"""Docker's own clients, as shipped, against the whole cluster: one engine out of many."""

import json
import subprocess
import threading

import pytest

from installation import wait_until
from swarm import debian_image


@pytest.fixture
def named(swarm):
    """Removes what a test made, whatever became of it."""
    names = []
    yield lambda name: names.append(name) or name
    if names:
        swarm.docker("rm", "-f", "-v", *names, check=False)


def inspect(swarm, name):
    return json.loads(swarm.docker("inspect", name))[0]


def test_info_and_version(swarm):
    info = json.loads(swarm.docker("info", "--format", "{{json .}}"))
    assert info["NCPU"] >= 3 and info["Swarm"]["LocalNodeState"] in ("", "inactive")
    text = swarm.docker("info")
    assert "Nodes: 3" in text and "Strategy: spread" in text
    version = json.loads(swarm.docker("version", "--format", "{{json .Server}}"))
    assert version["ApiVersion"] == "1.41" and version["MinAPIVersion"] == "1.24"
    for path in ("/v1.24/containers/json", "/v1.41/containers/json", "/containers/json"):
        assert isinstance(swarm.api("GET", path), list)
    swarm.api("GET", "/v1.99/containers/json", expect=400)
    swarm.api("GET", "/v1.10/containers/json", expect=400)


def fetch(swarm, url, *options):
    """What a new container is answered, in lower case; nothing when it is not answered."""
    return swarm.docker("run", "--rm", *options, "busybox", "wget", "-qO-", "-T", "5", url, check=False).stdout.lower()


def test_containers_spread_and_reach_each_other_by_name(swarm, named):
    for number in range(3):
        swarm.docker("run", "-d", "--name", named(f"spread{number}"), "nginx:alpine")
    nodes = {inspect(swarm, f"spread{number}")["Node"]["Name"] for number in range(3)}
    assert len(nodes) == 3
    listed = swarm.docker("ps", "--format", "{{.Names}}").splitlines()
    assert any(name.endswith("/spread0") for name in listed), listed
    wait_until(lambda: "nginx" in fetch(swarm, "http://spread2"), "a container answers by its name", 30, 1)
    refused = swarm.docker("run", "-d", "--name", "spread0", "nginx:alpine", check=False)
    assert refused.returncode != 0 and "spread0" in refused.stderr, "names are unique over the cluster"


def test_run_interactively_with_standard_input(swarm):
    done = swarm.docker("run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo err >&2; exit 3", check=False, input="hello\n")
    assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "err\n", 3)
    # A terminal of its own, as `run -it` from a shell has.
    command = ["script", "-qec", "docker run -it --rm busybox sh -c 'tty; exit 5'", "/dev/null"]
    done = subprocess.run(command, env=swarm.env(), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert "/dev/pts/" in done.stdout or "/dev/tty" in done.stdout, done.stdout
    assert done.returncode == 5


def test_logs_exec_copy_and_the_rest_of_a_containers_life(swarm, named, tmp_path):
    name = named("life")
    swarm.docker("run", "-d", "--name", name, "-e", "COLOUR=blue", "busybox", "sh", "-c",
                 "i=0; while true; do echo line $i; i=$((i+1)); sleep 1; done")
    follow = subprocess.Popen(["docker", "logs", "-f", name], env=swarm.env(), stdout=subprocess.PIPE, text=True)
    try:
        assert follow.stdout.readline() == "line 0\n"
        assert follow.stdout.readline() == "line 1\n"
    finally:
        follow.kill()
        follow.wait()
    assert swarm.docker("exec", name, "sh", "-c", "echo $COLOUR") == "blue"
    assert swarm.docker("exec", name, "false", check=False).returncode == 1
    (tmp_path / "file").write_text("carried\n" * 10_000)
    swarm.docker("cp", tmp_path / "file", f"{name}:/tmp/file")
    swarm.docker("cp", f"{name}:/tmp/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == (tmp_path / "file").read_text()
    assert "A /tmp/file" in swarm.docker("diff", name)
    assert "sleep" in swarm.docker("top", name) or "sh" in swarm.docker("top", name)
    assert name in swarm.docker("stats", "--no-stream", name)
    swarm.docker("pause", name)
    assert inspect(swarm, name)["State"]["Paused"]
    swarm.docker("unpause", name)
    swarm.docker("update", "--memory", "64m", "--memory-swap", "64m", name)
    assert inspect(swarm, name)["HostConfig"]["Memory"] == 64 << 20
    swarm.docker("rename", name, named("life2"))
    swarm.docker("restart", "-t", "0", "life2")
    export = subprocess.run(f"docker export life2 | tar -tf - tmp/file", shell=True, env=swarm.env(), capture_output=True, text=True)
    assert export.stdout.strip() == "tmp/file", export.stderr
    identifier = inspect(swarm, "life2")["Id"]
    assert inspect(swarm, identifier[:10])["Name"].endswith("life2"), "ids resolve by prefix"
    swarm.docker("commit", "life2", "committed:1")
    assert swarm.docker("run", "--rm", "committed:1", "wc", "-l", "/tmp/file").startswith("10000")
    swarm.docker("kill", "life2")
    assert swarm.docker("wait", "life2") == "137"
    swarm.docker("rm", "life2")
    assert swarm.docker("inspect", "life2", check=False).returncode != 0
    swarm.docker("rmi", "committed:1")


def test_events_of_all_nodes_in_one_stream(swarm):
    watch = subprocess.Popen(["docker", "events", "--filter", "type=container", "--filter", "event=die",
                              "--format", "{{.Actor.Attributes.name}}"], env=swarm.env(), stdout=subprocess.PIPE, text=True)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(line.strip() for line in watch.stdout), daemon=True)
    reader.start()
    try:
        def three():
            for number in range(3):
                swarm.docker("run", "--rm", "--name", f"event{number}", "-e", f"constraint:aliyun.node_index=={number + 1}",
                             "busybox", "true")
            return {f"event{number}" for number in range(3)} <= set(seen)
        wait_until(three, "an event of every node", 60)
    finally:
        watch.kill()
        watch.wait()


def test_networks(swarm, named):
    swarm.docker("network", "create", "backend")
    try:
        network = json.loads(swarm.docker("network", "inspect", "backend"))[0]
        assert network["Driver"] == "overlay" and network["Scope"] == "swarm"
        swarm.docker("run", "-d", "--name", named("inside"), "--network", "backend", "-e", "constraint:aliyun.node_index==1",
                     "nginx:alpine")
        there = ["--network", "backend", "-e", "constraint:aliyun.node_index==2"]
        wait_until(lambda: "nginx" in fetch(swarm, "http://inside", *there), "another node is answered by name", 30, 1)
        assert not fetch(swarm, "http://inside"), "another network knows no such name"
        swarm.docker("network", "connect", "multi-host-network", "inside")
        wait_until(lambda: "nginx" in fetch(swarm, "http://inside"), "it is in both networks", 30, 1)
        assert "inside" in swarm.docker("network", "inspect", "backend")
        swarm.docker("rm", "-f", "inside")
    finally:
        swarm.docker("network", "rm", "backend")
    assert "multi-host-network" in swarm.docker("network", "ls")


def test_volumes(swarm):
    swarm.docker("volume", "create", "kept")
    try:
        swarm.docker("run", "--rm", "-v", "kept:/data", "-e", "constraint:aliyun.node_index==1", "busybox", "sh", "-c", "echo here > /data/file")
        read = swarm.docker("run", "--rm", "-v", "kept:/data", "-e", "constraint:aliyun.node_index==1", "busybox", "cat", "/data/file")
        assert read == "here"
        swarm.docker("create", "--name", "user", "-v", "kept:/data", "busybox")
        refused = swarm.docker("volume", "rm", "kept", check=False)
        assert refused.returncode != 0 and "use" in refused.stderr
        swarm.docker("rm", "user")
    finally:
        swarm.docker("volume", "rm", "kept")
    assert "kept" not in swarm.docker("volume", "ls", "-q").split()


def test_build_once_and_run_everywhere(swarm, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY word /word\nRUN cat /word /word > /words\nCMD [\"cat\", \"/words\"]\n")
    (tmp_path / "word").write_text("ship\n")
    swarm.docker("build", "-t", "built:1", tmp_path)
    for index in (1, 2, 3):
        output = swarm.docker("run", "--rm", "-e", f"constraint:aliyun.node_index=={index}", "built:1")
        assert output == "ship\nship"
    swarm.docker("tag", "built:1", "built:2")
    assert {"built:1", "built:2"} <= set(swarm.docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines())
    archive = tmp_path / "saved.tar"
    swarm.docker("save", "-o", archive, "built:1")
    swarm.docker("rmi", "built:1", "built:2")
    assert "built:1" not in swarm.docker("images", "--format", "{{.Repository}}:{{.Tag}}")
    swarm.docker("load", "-i", archive)
    assert swarm.docker("run", "--rm", "-e", "constraint:aliyun.node_index==3", "built:1") == "ship\nship"
    assert "cat /word" in swarm.docker("history", "--no-trunc", "built:1")
    swarm.docker("rmi", "built:1")


def test_pull_from_the_installations_registry(swarm):
    """One name on the host and on every node."""
    registry = swarm.classic.call("GET", f"/clusters/{swarm.id}")["registry"]
    reference = f"{registry}/e2e/hello:1"
    debian_image(reference, ["busybox-static"], ['CMD ["/bin/busybox", "echo", "from the registry"]'])
    try:
        subprocess.run(["docker", "push", reference], check=True, capture_output=True)
    finally:
        subprocess.run(["docker", "rmi", reference], capture_output=True)
    swarm.docker("pull", reference)
    for index in (1, 2, 3):
        assert swarm.docker("run", "--rm", "-e", f"constraint:aliyun.node_index=={index}", reference) == "from the registry"
    swarm.docker("tag", reference, f"{registry}/e2e/hello:2")
    swarm.docker("push", f"{registry}/e2e/hello:2")
    swarm.docker("rmi", reference, f"{registry}/e2e/hello:2")
    swarm.docker("pull", f"{registry}/e2e/hello:2")


def test_placement(swarm, named):
    name = swarm.api("GET", "/info")["Name"]
    assert name
    nodes = swarm.nodes()
    first = nodes[0]["node_name"]
    swarm.docker("run", "-d", "--name", named("pinned"), "-e", f"constraint:node=={first}", "busybox", "sleep", "600")
    assert inspect(swarm, "pinned")["Node"]["Name"] == first
    swarm.docker("run", "-d", "--name", named("near"), "-e", "affinity:container==pinned", "busybox", "sleep", "600")
    assert inspect(swarm, "near")["Node"]["Name"] == first
    swarm.docker("run", "-d", "--name", named("far"), "-e", "affinity:container!=pinned", "busybox", "sleep", "600")
    assert inspect(swarm, "far")["Node"]["Name"] != first
    swarm.docker("run", "-d", "--name", named("soft"), "-e", "constraint:storagedriver==~none", "busybox", "sleep", "600")
    refused = swarm.docker("run", "-e", "constraint:node==none", "busybox", "true", check=False)
    assert refused.returncode != 0 and "node==none" in refused.stderr
    # A host port is free once per node.
    for number in range(3):
        swarm.docker("run", "-d", "--name", named(f"port{number}"), "-p", "8099:80", "nginx:alpine")
    assert len({inspect(swarm, f"port{number}")["Node"]["Name"] for number in range(3)}) == 3
    full = swarm.docker("run", "-d", "-p", "8099:80", "nginx:alpine", check=False)
    assert full.returncode != 0 and "8099" in full.stderr
    swarm.docker("run", "-d", "--name", named("shared"), "--network", "container:port0", "busybox", "sleep", "600")
    assert inspect(swarm, "shared")["Node"]["Name"] == inspect(swarm, "port0")["Node"]["Name"]


def test_docker_compose(swarm, tmp_path):
    """Debian's docker-compose: up, scale, ps, logs, down of two services."""
    (tmp_path / "docker-compose.yml").write_text("""
version: '2.2'
services:
  web:
    image: nginx:alpine
    depends_on: [db]
  db:
    image: busybox
    command: sh -c 'echo database is up; sleep 3600'
    volumes: ['data:/data']
volumes:
  data: {}
""")
    def compose(*arguments):
        return swarm.docker("-p", "composed", *arguments, program="docker-compose", cwd=tmp_path, timeout=300)
    try:
        compose("up", "-d")
        compose("up", "-d", "--scale", "web=3")
        listed = compose("ps")
        assert listed.count("Up") == 4, listed
        assert "database is up" in compose("logs", "db")
        page = swarm.docker("exec", "composed_web_1", "wget", "-qO-", "http://127.0.0.1")
        assert "nginx" in page.lower()
    finally:
        compose("down", "-v")
    assert "composed" not in swarm.docker("ps", "-a", "--format", "{{.Names}}")
