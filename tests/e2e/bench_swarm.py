"""Figures of the Swarm edition: `cargo xtask bench --swarm`. Docker's own swarm mode does the same on the same engines in the
same run where it can; the router stands beside nginx and HAProxy of Debian."""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import bench_router
from bench import container_pids, pss_mib, say
from clients import Classic
from installation import Installation, wait_until
from swarm import SwarmCluster, machine_container

ROUNDS = int(os.environ.get("SAMPAN_BENCH_ROUNDS", "3"))
CONTAINERS = int(os.environ.get("SAMPAN_BENCH_CONTAINERS", "300"))
ONLY = os.environ.get("SAMPAN_BENCH_ONLY", "")
TEMPLATE = """
job:
  image: busybox
  command: sleep 3600
  stop_signal: SIGKILL
  labels:
    aliyun.scale: '%d'
"""


class Engines:
    """Docker's own swarm mode on the engines of a Sampan cluster, by its real manager."""

    def __init__(self, installation, cluster):
        label = f"label=io.sampan.cluster={cluster.id}"
        listed = subprocess.run(["docker", "ps", "--filter", label, "--format", "{{.Names}}"], check=True,
                                capture_output=True, text=True).stdout.split()
        workers = {machine_container(installation, node["instance_id"]) for node in cluster.nodes()}
        [self.manager] = [name for name in listed if name not in workers]
        self.workers = sorted(workers)

    def docker(self, *arguments, container=None):
        command = ["docker", "exec", container or self.manager, "docker", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def docker_shell(self, machine, script):
        return subprocess.run(["docker", "exec", machine, "sh", "-c", script], check=True, capture_output=True, text=True).stdout

    def running(self):
        tasks = self.docker("service", "ps", "peer", "--filter", "desired-state=running", "--format", "{{.CurrentState}}")
        return sum(line.startswith("Running") for line in tasks.splitlines())

    def create(self, replicas):
        self.docker("service", "create", "-d", "--name", "peer", "--endpoint-mode", "dnsrr", "--constraint", "node.role==worker", "--network",
                    "multi-host-network", "--replicas", str(replicas), "--stop-signal", "SIGKILL", "busybox", "sleep", "3600")

    def remove(self):
        self.docker("service", "rm", "peer")
        wait_until(lambda: not any("peer." in self.docker("ps", "-a", "--format", "{{.Names}}", container=worker)
                                   for worker in self.workers), "the peer's containers are gone", 120)


def timed(work):
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def running(cluster, name):
    return sum(item["running"] for item in cluster.containers(name).values())


def ours_and_theirs(what, ours, theirs):
    mine, peer = statistics.median(ours), statistics.median(theirs)
    say(f"{what} (median of {len(ours)})", f"{mine:.1f} s", f"swarm mode {peer:.1f} s, ratio {peer / mine:.2f}")


def deploy(cluster, engines):
    ours, theirs = [], []
    for number in range(ROUNDS):
        name = f"fifty{number}"
        def mine():
            cluster.api("POST", "/projects/", {"name": name, "template": TEMPLATE % 50})
            wait_until(lambda: running(cluster, name) == 50, "50 containers run", 300, 0.05)
        ours.append(timed(mine))
        cluster.remove(name)
        def peer():
            engines.create(50)
            wait_until(lambda: engines.running() == 50, "50 tasks run", 300, 0.05)
        theirs.append(timed(peer))
        engines.remove()
    ours_and_theirs("deploy 50 containers on 3 nodes", ours, theirs)


def scale(cluster, engines):
    ours, theirs = [], []
    for number in range(ROUNDS):
        name = f"thirty{number}"
        cluster.deploy(name, TEMPLATE % 1)
        def mine():
            cluster.api("POST", f"/services/{name}_job/scale", {"type": "scale_to", "value": 30})
            wait_until(lambda: running(cluster, name) == 30, "30 containers run", 300, 0.05)
        ours.append(timed(mine))
        cluster.remove(name)
        engines.create(1)
        wait_until(lambda: engines.running() == 1, "a task runs", 60, 0.05)
        def peer():
            engines.docker("service", "scale", "-d", "peer=30")
            wait_until(lambda: engines.running() == 30, "30 tasks run", 300, 0.05)
        theirs.append(timed(peer))
        engines.remove()
    ours_and_theirs("scale 1 to 30", ours, theirs)


def node_loss(cluster, engines):
    """A node's cable is cut; time until as many containers run elsewhere."""
    cluster.deploy("loss", TEMPLATE % 6)
    engines.create(6)
    wait_until(lambda: engines.running() == 6, "6 tasks run", 60)
    victim = engines.workers[0]
    addresses = next(node for node in cluster.nodes() if victim.endswith(node["instance_id"]))["ip_address"]
    taken = time.monotonic()
    subprocess.run(["docker", "exec", victim, "ip", "link", "set", "eth0", "down"], check=True, capture_output=True)
    times = {}
    try:
        def look():
            now = time.monotonic() - taken
            alive = [item for item in cluster.containers("loss").values() if item["running"] and item["node"] not in addresses]
            if "ours" not in times and len(alive) >= 6:
                times["ours"] = now
            if "peer" not in times:
                tasks = engines.docker("service", "ps", "peer", "--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}")
                lines = [line for line in tasks.splitlines() if "Running" in line]
                names = {line.split()[0] for line in lines}
                down = engines.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}")
                lost = {line.split()[0] for line in down.splitlines() if "Down" in line}
                if lost and len(lines) >= 6 and not names & lost:
                    times["peer"] = now
            return len(times) == 2
        wait_until(look, "both are whole again", 180, 0.1)
    finally:
        subprocess.run(["docker", "restart", "--time", "0", victim], check=False, capture_output=True)
    say("reschedule 2 of 6 containers after a node is cut off", f"{times['ours']:.1f} s",
        f"swarm mode {times['peer']:.1f} s, ratio {times['peer'] / times['ours']:.2f}")
    wait_until(lambda: all(node["node_status"] == "Ready" for node in cluster.nodes()), "the node is back", 120)
    engines.remove()
    cluster.remove("loss")


def listing(cluster, engines):
    for number in range(CONTAINERS):
        cluster.api("POST", f"/containers/create?name=many{number}", {"Image": "busybox", "Cmd": ["true"]})
    cluster.docker("ps", "-a")
    ours = [timed(lambda: cluster.docker("ps", "-a")) for _ in range(10)]
    path = f"/containers/json?all=1"
    raw = [timed(lambda: cluster.api("GET", path)) for _ in range(20)]
    say(f"docker ps -a over {CONTAINERS} containers (median of 10)", f"{statistics.median(ours) * 1000:.0f} ms")
    say("  of that GET /containers/json", f"{statistics.median(raw) * 1000:.1f} ms")
    ids = [item["Id"] for item in cluster.api("GET", path) if any("many" in name for name in item["Names"])]
    for identifier in ids:
        cluster.api("DELETE", f"/containers/{identifier}?force=1")
    one = engines.workers[0]
    for number in range(CONTAINERS):
        subprocess.run(["docker", "exec", one, "docker", "create", "--name", f"many{number}", "busybox", "true"],
                       check=True, capture_output=True)
    clock = "a=$(date +%s%N); docker ps -a > /dev/null; b=$(date +%s%N); echo $((b - a))"
    single = [int(engines.docker_shell(one, clock)) / 1e9 for _ in range(10)]
    say("  one engine with as many, on its own machine", f"{statistics.median(single) * 1000:.0f} ms",
        f"ratio {statistics.median(single) / statistics.median(ours):.2f}")
    subprocess.run(["docker", "exec", one, "sh", "-c", "docker rm -f $(docker ps -aq --filter name=many) >/dev/null"], check=True)


def main():
    installation = Installation().start()
    installation.values = installation.access()
    try:
        with tempfile.TemporaryDirectory() as directory:
            classic = Classic(installation.values)
            begun = time.monotonic()
            cluster = SwarmCluster(classic, pathlib.Path(directory), "bench")
            say("CreateCluster to running, three engines in one swarm", f"{time.monotonic() - begun:.1f} s")
            engines = Engines(installation, cluster)
            cluster.docker("pull", "busybox")
            time.sleep(10)  # idle machines are what is weighed
            say("manager's machine idle: memory (PSS)", f"{pss_mib(container_pids(engines.manager)):.0f} MiB")
            say("node idle: memory (PSS)", f"{pss_mib(container_pids(engines.workers[0])):.0f} MiB")
            for part in (deploy, scale, node_loss, listing):
                if ONLY in ("", part.__name__):
                    part(cluster, engines)
            cluster.delete()
    finally:
        installation.destroy()
    if ONLY in ("", "router"):
        bench_router.measure()


if __name__ == "__main__":
    sys.exit(main())
