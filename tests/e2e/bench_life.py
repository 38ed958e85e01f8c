"""Figures of a cluster's later life: `cargo xtask bench --life`. Dedicated and pro clusters, joining nodes, upgrades."""

import os
import statistics
import subprocess
import sys
import time

from bench import container_pids, pss_mib, say
from clients import Classic, managed_cluster, task_succeeds, wait_gone
from installation import Installation, wait_until

ROUNDS = int(os.environ.get("SAMPAN_BENCH_ROUNDS", "3"))
# An idle control plane is what is weighed.
SETTLE = 20


def dedicated(name):
    """Three masters over three zones and a worker: catalogue 9.1.1."""
    zones = [f"vsw-{name}-{letter}" for letter in "abc"]
    return managed_cluster(
        name, vpc=f"vpc-{name}", nodes=1, cluster_type="Kubernetes", master_count=3, master_vswitch_ids=zones,
        master_instance_types=["ecs.g6.large"] * 3, worker_vswitch_ids=zones[:1])


class Life:
    def __init__(self, classic):
        self.classic = classic

    def timed(self, method, path, body):
        """Seconds until what was asked for is done."""
        begun = time.monotonic()
        answer = self.classic.call(method, path, body)
        ended = lambda: self.classic.call("GET", f"/tasks/{answer['task_id']}")["state"] != "running"
        wait_until(ended, f"{method} {path} has ended", 900, 0.05)
        took = time.monotonic() - begun
        task_succeeds(self.classic, answer["task_id"])
        return answer, took

    def create(self, body):
        answer, took = self.timed("POST", "/clusters", body)
        return answer["cluster_id"], took

    def delete(self, cluster_id):
        self.classic.request("DELETE", f"/clusters/{cluster_id}")
        wait_gone(self.classic, cluster_id)

    def weigh_control_plane(self, cluster_id):
        """Memory of each machine of the control plane, hidden ones too."""
        time.sleep(SETTLE)
        nodes = self.classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]
        workers = [node["instance_id"] for node in nodes if node["instance_role"] == "Worker"]
        listed = subprocess.run(["docker", "ps", "--filter", f"label=io.sampan.cluster={cluster_id}", "--format", "{{.Names}}"],
                                check=True, capture_output=True, text=True).stdout.split()
        names = [name for name in listed if not any(name.endswith(worker) for worker in workers)]
        return [pss_mib(container_pids(name)) for name in names]

    def dedicated(self):
        times = []
        for number in range(ROUNDS):
            cluster_id, took = self.create(dedicated(f"masters-{number}"))
            times.append(took)
            if number == ROUNDS - 1:
                masters = self.weigh_control_plane(cluster_id)
            self.delete(cluster_id)
        say(f"dedicated cluster: three masters, a worker (median of {ROUNDS})", f"{statistics.median(times):.1f} s")
        say("  memory of a master, which is a node too (PSS)", f"{statistics.mean(masters):.0f} MiB")

    def pro(self):
        body = managed_cluster("pro", vpc="vpc-pro", nodes=1, cluster_spec="ack.pro.small")
        cluster_id, took = self.create(body)
        machines = self.weigh_control_plane(cluster_id)
        assert len(machines) == 3, machines
        say("pro cluster: three hidden machines, a node", f"{took:.1f} s")
        say("  memory of its idle control plane (PSS)", f"{sum(machines):.0f} MiB")
        self.delete(cluster_id)

    def growth(self):
        """A node joins; then one node becomes ten."""
        cluster_id, _ = self.create(managed_cluster("growth", vpc="vpc-growth", nodes=1))
        [alone] = self.weigh_control_plane(cluster_id)
        say("standard cluster: memory of its idle control plane (PSS)", f"{alone:.0f} MiB")
        path, times = f"/api/v2/clusters/{cluster_id}", []
        for _ in range(ROUNDS):
            times.append(self.timed("POST", path, {"count": 1})[1])
            [*_, last] = self.classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]
            request = {"nodes": [last["node_name"]], "release_node": True}
            self.timed("POST", f"/clusters/{cluster_id}/nodes", request)
        say(f"a node joins, until Ready (median of {ROUNDS})", f"{statistics.median(times):.1f} s")
        _, took = self.timed("POST", path, {"count": 9})
        nodes = self.classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]
        assert len(nodes) == 10 and {node["node_status"] for node in nodes} == {"Ready"}, nodes
        say("from one node to ten, until all are Ready", f"{took:.1f} s")
        self.delete(cluster_id)

    def upgrade(self):
        query = {"Region": "cn-beijing", "ClusterType": "ManagedKubernetes", "QueryUpgradableVersion": "true"}
        offers = self.classic.call("GET", "/api/v1/metadata/versions", query=query)
        minor = lambda version: version.split(".")[1]
        steps = [(offer["version"], to) for offer in offers for to in offer["upgradable_versions"]
                 if minor(to) != minor(offer["version"])]
        if not steps:
            return say("upgrade of three nodes", "not measured", "two minor versions must be built")
        old, new = steps[-1]
        cluster_id, _ = self.create(managed_cluster("moving", vpc="vpc-moving", nodes=3, kubernetes_version=old))
        _, took = self.timed("POST", f"/api/v2/clusters/{cluster_id}/upgrade", {"next_version": new})
        say(f"upgrade of three nodes, {old} to {new}", f"{took:.1f} s")
        self.delete(cluster_id)


def main():
    installation = Installation("[quota]\nmanaged_clusters = 40\n").start()
    installation.values = installation.access()
    try:
        life = Life(Classic(installation.values))
        for part in (life.dedicated, life.pro, life.growth, life.upgrade):
            part()
    finally:
        installation.destroy()


if __name__ == "__main__":
    sys.exit(main())
