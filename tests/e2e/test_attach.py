"""Existing machines as nodes: bare hosts by the pasted line, machines of the inventory by the SDK."""

import json
import subprocess

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import Classic, cs_models, managed_cluster, modern, task_succeeds, wait_task
from conftest import Cluster
from installation import Installation, free_port, kubectl, kubectl_json, wait_until

VPC = "vpc-attach"

# What a host is, for the comparison of before and after. Left out is what a running Debian changes by itself.
SNAPSHOT = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/cache -o -path /var/lib/apt \
    -o -path /var/log/apt \) -prune -o -print | sort
find /var/lib /run -xdev | grep -v '^/var/lib/apt' | sort
echo == mounts; awk '{print $5}' /proc/self/mountinfo | sort
echo == links; ls /sys/class/net | sort
echo == tables; nft list tables | sort
echo == routes; ip -4 route show table main | sort
echo == processes; ps -eo args= | grep -v -e '^\[' -e '^ps ' -e '^sort' -e '^grep' -e '^sh -c' -e '^awk' -e '^sleep' | sort
echo == groups; find /sys/fs/cgroup -type d | grep -v '/init' | sort
echo == name; cat /proc/sys/kernel/hostname /etc/hostname 2>/dev/null
echo == sysctls; cat /proc/sys/net/ipv4/ip_forward /proc/sys/vm/overcommit_memory /proc/sys/kernel/panic
"""


def bridge_address():
    """An address of this host that containers reach, and nobody outside. An engine that was never restarted does not say it."""
    done = subprocess.run(["docker", "network", "inspect", "bridge"], check=True, capture_output=True, text=True)
    bridge = json.loads(done.stdout)[0]["Options"]["com.docker.network.bridge.name"]
    shown = subprocess.run(["ip", "-j", "-4", "address", "show", "dev", bridge], check=True, capture_output=True, text=True)
    return json.loads(shown.stdout)[0]["addr_info"][0]["local"]


@pytest.fixture(scope="module")
def installation():
    made = Installation()
    address = bridge_address()
    made.door = f"{address}:{free_port()}"
    made.start("--listen", f"127.0.0.1:{made.port}", "--listen-agents", made.door)
    made.values = made.access()
    yield made
    made.destroy()
    assert made.process.returncode == 0, made.log_tail()


@pytest.fixture(scope="module")
def client(installation):
    return Classic(installation.values)


@pytest.fixture(scope="module")
def demo(client, tmp_path_factory):
    return Cluster(client, tmp_path_factory.mktemp("attach"), "attach", vpc=VPC, nodes=1)


class Host:
    """A bare host."""

    def __init__(self, installation, client):
        body = {"vpc_id": VPC, "vswitch_id": f"vsw-{VPC}-1", "bare": True}
        self.client = client
        self.id = client.call("POST", "/sampan/machines", body)["instance_ids"][0]
        shown = next(one for one in client.call("GET", "/sampan/machines") if one["instance_id"] == self.id)
        assert shown["kind"] == "bare_host", shown
        self.name, self.ip = shown["container"], shown["ip_address"]
        # The last thing that its boot does is to wait.
        booted = "for line in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$line; echo; done 2>/dev/null | grep -qx 'sleep 3600 '"
        wait_until(lambda: self.run(booted).returncode == 0, "the bare host has booted", 60)

    def run(self, command, **options):
        return subprocess.run(["docker", "exec", self.name, "sh", "-c", command], capture_output=True, text=True, **options)

    def as_before(self, before):
        """What has ended may be seen for a moment longer."""
        def same():
            left = sorted(set(self.snapshot().splitlines()) ^ set(before.splitlines()))
            assert not left, left
            return True
        wait_until(same, "the host is as it was", 30, 1)

    def snapshot(self):
        done = self.run(SNAPSHOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def record(self):
        return next((one for one in self.client.call("GET", "/sampan/machines") if one["instance_id"] == self.id), None)


def attach_line(installation, cluster, **fields):
    """By today's SDK: the body is the line itself, not JSON."""
    request = cs_models.DescribeClusterAttachScriptsRequest(**fields)
    answer = modern(installation.values).describe_cluster_attach_scripts(cluster.id, request)
    line = answer.body
    assert "\n" not in line.strip() and not line.startswith('"') and installation.door in line, line
    return line


def is_ready(cluster, host):
    nodes = kubectl_json(cluster.kubeconfig, "get", "nodes")["items"]
    node = next((node for node in nodes if node["metadata"]["name"].endswith(f".{host.ip}")), None)
    conditions = node["status"]["conditions"] if node else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions) and node


def test_a_bare_host_joins_runs_pods_and_leaves_as_it_came(installation, client, demo):
    host = Host(installation, client)
    before = host.snapshot()
    line = attach_line(installation, demo, keep_instance_name=False)
    joined = host.run(line)
    assert joined.returncode == 0, joined.stdout + joined.stderr
    assert host.id in joined.stdout, joined.stdout
    assert host.run("cat /proc/sys/kernel/hostname").stdout.strip() == f"worker-k8s-for-cs-{demo.id}"
    node = wait_until(lambda: is_ready(demo, host), "the host's node is Ready", 120)
    name = node["metadata"]["name"]
    shown = wait_until(
        lambda: [one for one in demo.nodes() if one["instance_id"] == host.id and one["state"] == "running"],
        "the host is a node", 60)[0]
    assert shown["source"] == "ess_attach" and shown["ip_address"] == [host.ip], shown
    # A pod on it reaches a service whose pod is on another node, and is reached from there.
    kubectl(demo.kubeconfig, "create", "deployment", "web", "--image=nginx:alpine")
    kubectl(demo.kubeconfig, "expose", "deployment", "web", "--port=80")
    override = json.dumps({"spec": {"nodeName": name}})
    kubectl(demo.kubeconfig, "run", "on-host", "--image=busybox", f"--overrides={override}", "--", "sleep", "3600")
    kubectl(demo.kubeconfig, "wait", "--for=condition=Ready", "pod/on-host", "--timeout=90s")
    kubectl(demo.kubeconfig, "rollout", "status", "deployment/web", "--timeout=90s")
    def answers():
        done = kubectl(demo.kubeconfig, "exec", "on-host", "--", "wget", "-qO-", "http://web.default.svc.cluster.local")
        return "nginx" in (done.stdout if hasattr(done, "stdout") else done)
    wait_until(answers, "a pod on the host reaches a service", 60)
    # The token was good once.
    again = host.run(line)
    assert again.returncode != 0
    removal = client.call("POST", f"/clusters/{demo.id}/nodes", {"nodes": [name], "drain_node": True})
    task_succeeds(client, removal["task_id"])
    events = client.call("GET", "/events", query={"cluster_id": demo.id, "page_size": "50"})["events"]
    assert any("nothing of ours is on it" in json.dumps(event) for event in events), events
    assert not is_ready(demo, host)
    host.as_before(before)
    assert host.record()["cluster_id"] == "" and host.record()["state"] == "kept"
    # It can join again, with a new line.
    joined = host.run(attach_line(installation, demo))
    assert joined.returncode == 0, joined.stdout + joined.stderr
    wait_until(lambda: is_ready(demo, host), "the host's node is Ready again", 120)
    removal = client.call("POST", f"/clusters/{demo.id}/nodes", {"nodes": [host.id], "release_node": True})
    task_succeeds(client, removal["task_id"])
    wait_until(lambda: host.record() is None, "a released bare host is gone", 60)


@pytest.fixture
def disk(tmp_path):
    """A disk of this host's kernel: a file behind a loop device."""
    file = tmp_path / "disk"
    with open(file, "wb") as content:
        content.truncate(4 << 30)
    made = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"the kernel of this host gives no loop device: {made.stderr}")
    device = made.stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


def test_containers_data_goes_to_an_unused_disk(installation, client, demo, disk):
    """`format_disk`: an empty disk is formatted and holds what containers write; one with data is left alone."""
    host = Host(installation, client)
    number = disk.removeprefix("/dev/loop")
    line = f"export SAMPAN_DATA_DISK={disk}; {attach_line(installation, demo, format_disk=True)}"
    # A container has no way to its host's disks but this.
    assert host.run(f"mknod {disk} b 7 {number}; mkswap {disk}").returncode == 0
    refused = host.run(line)
    assert refused.returncode != 0 and "it has data" in refused.stderr, refused
    assert "swap" in host.run(f"wipefs {disk}").stdout, "it was left alone"
    assert host.run(f"wipefs --all {disk}").returncode == 0
    joined = host.run(line)  # The refusal has not used the token up.
    assert joined.returncode == 0, joined.stdout + joined.stderr
    node = wait_until(lambda: is_ready(demo, host), "the host's node is Ready", 120)
    for folder in ("/var/lib/containerd", "/var/lib/kubelet"):
        assert host.run(f"findmnt --noheadings --output SOURCE --target {folder}").stdout.startswith(disk), folder
    name = node["metadata"]["name"]
    override = json.dumps({"spec": {"nodeName": name}})
    kubectl(demo.kubeconfig, "run", "on-disk", "--image=busybox", f"--overrides={override}", "--", "sleep", "3600")
    kubectl(demo.kubeconfig, "wait", "--for=condition=Ready", "pod/on-disk", "--timeout=90s")
    removal = client.call("POST", f"/clusters/{demo.id}/nodes", {"nodes": [name], "release_node": True})
    task_succeeds(client, removal["task_id"])
    wait_until(lambda: host.record() is None, "a released bare host is gone", 60)


def test_a_line_with_another_hash_changes_nothing(installation, client, demo):
    host = Host(installation, client)
    before = host.snapshot()
    line = attach_line(installation, demo)
    digest = line.split('echo "', 1)[1].split(" ", 1)[0]
    refused = host.run(line.replace(digest, "0" * 64))
    assert refused.returncode != 0 and "another hash" in refused.stderr, refused
    host.as_before(before)
    # And a token that is none is refused by the server; nothing stays.
    token = line.split("SAMPAN_TOKEN=", 1)[1].split(" ", 1)[0]
    refused = host.run(line.replace(token, "0" * len(token)))
    assert refused.returncode != 0 and "join token is not known" in refused.stderr, refused
    host.as_before(before)
    client.call("DELETE", f"/sampan/machines/{host.id}")
    wait_until(lambda: host.record() is None, "the bare host is gone", 60)


def test_a_host_goes_on_without_the_server_and_after_a_reboot(installation, client, demo):
    host = Host(installation, client)
    assert host.run(attach_line(installation, demo)).returncode == 0
    node = wait_until(lambda: is_ready(demo, host), "the host's node is Ready", 120)
    installation.kill()
    subprocess.run(["docker", "restart", host.name], check=True, capture_output=True)
    name = node["metadata"]["name"]
    boot = node["status"]["conditions"]

    def heard():
        node = is_ready(demo, host)
        return node and node["status"]["conditions"] != boot
    wait_until(heard, "after a reboot, the node is Ready without the server", 120)
    installation.start("--listen", f"127.0.0.1:{installation.port}", "--listen-agents", installation.door)
    wait_until(lambda: is_ready(demo, host), "the host's node is Ready", 60)
    removal = client.call("POST", f"/clusters/{demo.id}/nodes", {"nodes": [name], "release_node": True})
    task_succeeds(client, removal["task_id"])


def test_machines_of_the_inventory_by_the_sdk(installation, client, demo):
    made = client.call("POST", "/sampan/machines", {"vpc_id": VPC, "vswitch_id": f"vsw-{VPC}-1", "count": 1})
    elsewhere = client.call("POST", "/sampan/machines", {"vpc_id": "vpc-elsewhere"})["instance_ids"][0]
    machine = made["instance_ids"][0]
    sdk = modern(installation.values)
    request = cs_models.AttachInstancesRequest(
        instances=[machine, elsewhere, "i-unknown"], password="Hello1234", keep_instance_name=False, format_disk=True,
        tags=[cs_models.Tag(key="env", value="prod")],
    )
    answer = sdk.attach_instances(demo.id, request).body
    codes = {one.instance_id: one.code for one in answer.list}
    assert codes[machine] == "200" and codes[elsewhere] == "400" and codes["i-unknown"] == "404", codes
    task_succeeds(client, answer.task_id)
    shown = next(one for one in demo.nodes() if one["instance_id"] == machine)
    assert shown["instance_name"] == f"worker-k8s-for-cs-{demo.id}" and shown["state"] == "running", shown
    nodes = kubectl_json(demo.kubeconfig, "get", "nodes", "-l", "env=prod")["items"]
    assert [node["metadata"]["name"] for node in nodes] == [shown["node_name"]]
    for body, code in [
        ({"instances": [machine]}, "ErrorClusterState"),
        ({"instances": [elsewhere]}, "InvalidParameter"),
        ({"instances": ["i-unknown"]}, "ErrorNodeNotFound"),
        ({"instances": [elsewhere], "nodepool_id": "np-of-another"}, "ErrorNodePoolNotFound"),
        ({}, "MissingParameter"),
    ]:
        with pytest.raises(ServerException) as refused:
            client.call("POST", f"/clusters/{demo.id}/attach", body)
        assert refused.value.get_error_code() == code, body
    removal = client.call("POST", f"/clusters/{demo.id}/nodes", {"nodes": [machine], "release_node": True})
    assert wait_task(client, removal["task_id"])["state"] == "success"


def test_without_a_door_there_is_no_line(own):
    installation = own()
    client = Classic(installation.values)
    created = client.call("POST", "/clusters", managed_cluster("nodoor", nodes=0))
    task_succeeds(client, created["task_id"])
    with pytest.raises(ServerException) as refused:
        client.call("POST", f"/clusters/{created['cluster_id']}/attachscript", {})
    assert "--listen-agents" in str(refused.value.get_error_msg()), refused.value
