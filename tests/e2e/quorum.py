"""Writers and watchers for tests of control planes of several machines."""

import json
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse
import base64
import http.client

import re

from installation import kubectl, kubectl_json, wait_until


class ApiServer:
    """The API server of a kubeconfig over one connection at a time, with a short patience."""

    def __init__(self, kubeconfig, timeout=2.0):
        text = kubeconfig.read_text()
        field = lambda name: re.search(rf"{name}: *\"?([^\"\s]+)", text).group(1)
        self.url = urllib.parse.urlsplit(field("server"))
        self.context = ssl.create_default_context(cadata=base64.b64decode(field("certificate-authority-data")).decode())
        with tempfile.NamedTemporaryFile() as pair:
            for name in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(field(name)) + b"\n")
            pair.flush()
            self.context.load_cert_chain(pair.name)
        self.timeout, self.connection = timeout, None

    def request(self, method, path, body=None):
        """Status and answer; any trouble drops the connection."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(
                    self.url.hostname, self.url.port, timeout=self.timeout, context=self.context)
            content = None if body is None else json.dumps(body)
            self.connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException, socket.timeout):
            self.connection.close()
            self.connection = None
            raise


# Longest time, in seconds, for which no write may be acknowledged: a dead master is dropped within seconds.
GAP_MAX = 15


class Writer:
    """Creates ConfigMaps, ten a second, and remembers which were acknowledged and how long none was."""

    def __init__(self, kubeconfig, prefix):
        self.api, self.prefix = ApiServer(kubeconfig), prefix
        self.acknowledged, self.failures, self.longest = [], 0, 0.0
        self.last = time.monotonic()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.kubeconfig = kubeconfig

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: len(self.acknowledged) >= 10, "the writer writes", 30)
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(timeout=30)
        self.longest = max(self.longest, time.monotonic() - self.last)

    def run(self):
        number, due = 0, time.monotonic()
        while not self.stopping.is_set():
            name = f"{self.prefix}-{number}"
            number += 1
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"by": self.prefix}},
                    "data": {"at": str(time.time())}}
            try:
                status, _ = self.api.request("POST", "/api/v1/namespaces/default/configmaps", body)
                acknowledged = status == 201
            except (OSError, http.client.HTTPException):
                acknowledged = False
            now = time.monotonic()
            if acknowledged:
                self.longest = max(self.longest, now - self.last)
                self.last = now
                self.acknowledged.append(name)
            else:
                self.failures += 1
            due = max(due + 0.1, now)
            self.stopping.wait(max(0, due - time.monotonic()))

    def check(self):
        """Every write that was acknowledged is there."""
        # An API server that has just come back may still lose a connection.
        listed = wait_until(
            lambda: kubectl_json(self.kubeconfig, "get", "configmaps", "-l", f"by={self.prefix}"), "a list of them", 30, 1)
        listed = listed["items"]
        present = {item["metadata"]["name"] for item in listed}
        lost = [name for name in self.acknowledged if name not in present]
        print(f"{self.prefix}: {len(self.acknowledged)} writes acknowledged, {self.failures} refused, "
              f"longest gap {self.longest:.1f} s, lost {len(lost)}")
        assert not lost, lost[:10]


def containers(installation, machine_id):
    """The container of a machine."""
    return f"sampan-{installation.installation_id()}-{machine_id}"


def docker(*command):
    return subprocess.run(["docker", *command], check=True, capture_output=True, text=True).stdout


def lose(installation, *machine_ids):
    """Removes machines with their disks, at once as far as the server can see: it would make them again over what is left."""
    names = [containers(installation, machine_id) for machine_id in machine_ids]
    volumes = docker("inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", *names).split()
    installation.process.send_signal(signal.SIGSTOP)
    try:
        docker("rm", "--force", *names)
        docker("volume", "rm", "--force", *volumes)
    finally:
        installation.process.send_signal(signal.SIGCONT)


def control_planes(installation, cluster_id):
    """Running containers of the cluster that have an etcd."""
    names = docker("ps", "--filter", f"label=io.sampan.cluster={cluster_id}", "--format", "{{.Names}}").split()
    mounts = {name: docker("inspect", "--format", "{{range .Mounts}}{{.Destination}} {{end}}", name) for name in names}
    return [name for name in names if "/var/lib/etcd" in mounts[name].split()]


# The image has no HTTP client.
ASK = r"exec 3<>/dev/tcp/127.0.0.1/2381; printf 'GET /health HTTP/1.0\r\n\r\n' >&3; timeout 5 cat <&3"


def etcd_health(container):
    """What a member says of itself: whether it is well."""
    done = subprocess.run(["docker", "exec", container, "bash", "-c", ASK], capture_output=True, text=True)
    return '"health":"true"' in done.stdout


def wait_members(installation, cluster_id, count, timeout=240):
    """So many members of etcd, all of them well."""
    def whole():
        found = control_planes(installation, cluster_id)
        return len(found) == count and all(etcd_health(container) for container in found)
    wait_until(whole, f"{count} members of etcd are well", timeout, 1)


def ready_nodes(kubeconfig):
    nodes = kubectl_json(kubeconfig, "get", "nodes", "--request-timeout=5s")["items"]
    return [node["metadata"]["name"] for node in nodes
            if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])]


__all__ = ["ApiServer", "GAP_MAX", "Writer", "containers", "control_planes", "docker", "kubectl", "lose", "ready_nodes", "wait_members"]
