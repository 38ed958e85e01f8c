"""The figures of the README: `cargo xtask bench`. Each line says what was measured, how often, and the budget."""

import base64
import datetime
import hashlib
import hmac
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

import peer_kubeadm
from clients import Classic, managed_cluster, task_succeeds, wait_gone
from installation import Installation, kubectl, wait_until

ROUNDS = int(os.environ.get("SAMPAN_BENCH_ROUNDS", "5"))
REQUESTS = int(os.environ.get("SAMPAN_BENCH_REQUESTS", "20000"))
CLUSTERS = int(os.environ.get("SAMPAN_BENCH_CLUSTERS", "10"))
TICK = os.sysconf("SC_CLK_TCK")


def say(what, value, budget=""):
    print(f"{what:<58} {value:<26} {budget}", flush=True)


def pss_mib(pids):
    """Proportional set size of processes in MiB: shared pages are counted once over all who share them."""
    total = 0
    for pid in pids:
        try:
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total / 1024


def container_pids(name):
    top = subprocess.run(["docker", "top", name, "-eo", "pid"], check=True, capture_output=True, text=True)
    return [int(line) for line in top.stdout.split()[1:]]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def start_up():
    """A second start on an existing data directory, to the first answered /readyz."""
    times = []
    installation = Installation().start()
    try:
        for _ in range(ROUNDS):
            installation.stop()
            begun = time.monotonic()
            installation.start()
            times.append(time.monotonic() - begun)
        time.sleep(2)  # an idle server is what is weighed
        idle = pss_mib([installation.process.pid])
    finally:
        installation.destroy()
    say(f"server: start to ready (median of {ROUNDS})", f"{statistics.median(times) * 1000:.0f} ms", "at most 100 ms")
    say("server: memory when idle (PSS)", f"{idle:.1f} MiB", "at most 40 MiB")


def signed_get(access, path):
    """A GET signed with HMAC-SHA1 and no nonce: as the old clients send it, it may be sent again within 15 minutes."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    to_sign = f"GET\napplication/json\n\n\n{date}\nx-acs-version:2015-12-15\n{path}"
    mac = hmac.new(access["ALIBABA_CLOUD_ACCESS_KEY_SECRET"].encode(), to_sign.encode(), hashlib.sha1).digest()
    head = (f"GET {path} HTTP/1.1\r\nHost: {access['SAMPAN_ENDPOINT']}\r\nAccept: application/json\r\nDate: {date}\r\n"
            f"x-acs-version: 2015-12-15\r\n"
            f"Authorization: acs {access['ALIBABA_CLOUD_ACCESS_KEY_ID']}:{base64.b64encode(mac).decode()}\r\n\r\n")
    return head.encode()


def hammer(access, request, count):
    host, port = access["SAMPAN_ENDPOINT"].split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            connection.sendall(request)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(65536)


def requests(installation, what, path):
    request = signed_get(installation.values, path)
    hammer(installation.values, request, 500)
    pid, threads = installation.process.pid, 2
    cpu, begun = cpu_seconds(pid), time.monotonic()
    workers = [threading.Thread(target=hammer, args=(installation.values, request, REQUESTS // threads))
               for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took, used = time.monotonic() - begun, cpu_seconds(pid) - cpu
    say(f"API: server CPU per signed read, {what}", f"{used / REQUESTS * 1e6:.0f} µs", "at most 60 µs")
    say(f"API: requests per second, {what} (generator shares the cores)", f"{REQUESTS / took:.0f}")


def create(classic, name, nodes=2):
    begun = time.monotonic()
    created = classic.call("POST", "/clusters", managed_cluster(name, vpc=f"vpc-{name}", nodes=nodes))
    wait_until(lambda: classic.call("GET", f"/clusters/{created['cluster_id']}")["state"] == "running", "running", 300, 0.05)
    return created["cluster_id"], time.monotonic() - begun


def clusters(installation):
    classic = Classic(installation.values)
    times, name = [], None
    for number in range(ROUNDS):
        cluster_id, took = create(classic, f"bench-{number}")
        times.append(took)
        kubeconfig = installation.data_dir / "bench.kubeconfig"
        kubeconfig.write_text(classic.call("GET", f"/k8s/{cluster_id}/user_config")["config"])
        ready = kubectl(kubeconfig, "get", "nodes", "--no-headers").count(" Ready")
        assert ready == 2, "running means two Ready nodes"
        if number == ROUNDS - 1:
            time.sleep(20)  # an idle control plane is what is weighed
            workers = {node["instance_id"] for node in classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]}
            label = f"label=io.sampan.cluster={cluster_id}"
            names = subprocess.run(["docker", "ps", "--filter", label, "--format", "{{.Names}}"],
                                   check=True, capture_output=True, text=True).stdout.split()
            [name] = [name for name in names if not any(name.endswith(worker) for worker in workers)]
            say("control plane idle: memory (PSS)", f"{pss_mib(container_pids(name)):.0f} MiB", "at most 300 MiB")
            say("worker idle: memory (PSS)",
                f"{pss_mib(container_pids(next(n for n in names if n != name))):.0f} MiB")
            requests(installation, "DescribeClusterDetail", f"/clusters/{cluster_id}")
            requests(installation, "DescribeClusters", "/clusters")
        classic.request("DELETE", f"/clusters/{cluster_id}")
        wait_gone(classic, cluster_id)
    say(f"CreateCluster to running, two Ready nodes, DNS (median of {ROUNDS})", f"{statistics.median(times):.1f} s",
        "at most 6 s")
    say("  fastest, slowest", f"{min(times):.1f} s, {max(times):.1f} s")
    return statistics.median(times)


def peer(ours):
    """The same cluster by other means, on the same machine in the same run."""
    times = peer_kubeadm.measure(ROUNDS)
    if times is None:
        say("the same cluster with kubeadm", "not built", "cargo xtask build --peer")
        return
    median = statistics.median(times)
    say(f"the same cluster with kubeadm (median of {ROUNDS})", f"{median:.1f} s")
    say("  fastest, slowest", f"{min(times):.1f} s, {max(times):.1f} s")
    say("  ratio of the medians, kubeadm to Sampan", f"{median / ours:.1f}")


def many(installation):
    classic = Classic(installation.values)
    begun = time.monotonic()
    created = [classic.call("POST", "/clusters", managed_cluster(f"ten-{n}", vpc=f"vpc-ten-{n}", nodes=1))
               for n in range(CLUSTERS)]
    for answer in created:
        task_succeeds(classic, answer["task_id"], 900)
    took = time.monotonic() - begun
    memory = {line.split()[0]: int(line.split()[1]) for line in open("/proc/meminfo")}
    say(f"{CLUSTERS} clusters with a node each, made at once", f"{took:.1f} s")
    used = (memory["MemTotal:"] - memory["MemAvailable:"]) / 1024
    say("  memory in use on the host", f"{used:.0f} MiB")
    begun = time.monotonic()
    for answer in created:
        classic.request("DELETE", f"/clusters/{answer['cluster_id']}")
    for answer in created:
        wait_gone(classic, answer["cluster_id"], 300)
    say("  all deleted", f"{time.monotonic() - begun:.1f} s")


def main():
    start_up()
    installation = Installation("[quota]\nmanaged_clusters = 40\n").start()
    installation.values = installation.access()
    try:
        peer(clusters(installation))
        many(installation)
    finally:
        installation.destroy()


if __name__ == "__main__":
    sys.exit(main())
