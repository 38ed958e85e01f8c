"""What `CreateCluster` is compared with: the same cluster made with kubeadm, by hand but by somebody who hurries.

Same Kubernetes and the same executables, same node image, same kind of containers, same pod network, and done when our
server would call a cluster `running`: two Ready workers, and a pod that answers for the DNS service.

What helps kubeadm: the images are in each machine's containerd before the clock starts, the Docker network is there,
kubeadm's checks are skipped, and workers join as soon as the API server answers them, before `kubeadm init` ends.
What is kubeadm's nature: the control plane is a node with pods, and everything has kubeadm's own settings.
"""

import base64
import concurrent.futures
import ipaddress
import json
import os
import pathlib
import re
import secrets
import shutil
import ssl
import string
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from installation import BINARY, ROOT, wait_until

PEER = pathlib.Path(os.environ.get("SAMPAN_PEER", ROOT / "target/bench/kubeadm"))
FILES = pathlib.Path(__file__).with_name("peer_kubeadm")
PODS, SERVICES, DNS = "10.244.0.0/16", "10.96.0.0/16", "10.96.0.10"
MACHINES = ["control-plane", "worker-1", "worker-2"]
VOLUMES = ["containerd", "kubelet", "etcd"]
PATIENCE = 300
CAP_SYS_RESOURCE = 24
# A question for the address of the DNS service itself. It has no byte that is a newline, where bash would cut it in two.
QUESTION = (b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0" + b"".join(
    bytes([len(label)]) + label for label in b"kube-dns.kube-system.svc.cluster.local".split(b".")) + b"\0\0\x01\0\x01")


def docker(*arguments, check=True, **options):
    done = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(map(str, arguments[:6]))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def may_lower_oom_score():
    [bounding] = re.findall(r"CapBnd:\s*(\w+)", pathlib.Path("/proc/self/status").read_text())
    return bool(int(bounding, 16) >> CAP_SYS_RESOURCE & 1)


def machine_flags():
    """The flags of a machine of the Docker provider."""
    flags = ["--cap-add=ALL", "--cgroupns=private", "--tmpfs=/run:exec,mode=755", "--tmpfs=/tmp:exec"]
    info = json.loads(docker("info", "--format", "{{json .}}"))
    filters = {"seccomp": "seccomp=unconfined", "apparmor": "apparmor=unconfined", "selinux": "label=disable"}
    modules = " ".join(info.get("SecurityOptions") or [])
    flags += [f"--security-opt={option}" for name, option in filters.items() if f"name={name}" in modules]
    flags += ["--security-opt=systempaths=unconfined"]
    flags += ["--device-cgroup-rule=a *:* m" if info.get("CgroupVersion") == "2" else "--device-cgroup-rule=a *:* rwm"]
    flags += [f"--device={path}" for path in ("/dev/kmsg", "/dev/fuse") if os.path.exists(path)]
    if os.path.isdir("/lib/modules"):
        flags += ["--volume=/lib/modules:/lib/modules:ro"]
    if not may_lower_oom_score():
        flags += ["--cap-drop=SYS_RESOURCE"]
    return flags


class Api:
    """The API server of the cluster, by plain HTTPS: kubectl would take the cores that are measured."""

    def __init__(self, address, directory):
        self.url = f"https://{address}:6443"
        self.directory = directory
        self.tls = ssl._create_unverified_context()

    def log_in(self, kubeconfig):
        for name in ("client-certificate", "client-key"):
            [data] = re.findall(rf"{name}-data: (\S+)", kubeconfig)
            (self.directory / name).write_bytes(base64.b64decode(data))
        self.tls.load_cert_chain(self.directory / "client-certificate", self.directory / "client-key")

    def get(self, path):
        with urllib.request.urlopen(self.url + path, context=self.tls, timeout=5) as answer:
            return json.load(answer)

    def cluster_info(self):
        """Where the API server is and whom to trust, for joining machines. Anybody may ask as soon as a token works.

        Later it is signed, too, for those who know only the token. Machines with it as a file need not wait for that.
        """
        return self.get("/api/v1/namespaces/kube-public/configmaps/cluster-info")["data"]["kubeconfig"]

    def workers_ready(self):
        nodes = self.get("/api/v1/nodes")["items"]
        ready = {node["metadata"]["name"] for node in nodes for condition in node["status"].get("conditions", [])
                 if condition["type"] == "Ready" and condition["status"] == "True"}
        return ready >= set(MACHINES[1:])

    def dns_ready(self):
        """The condition of our server's `running`."""
        path = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices?labelSelector=k8s-app%3Dkube-dns"
        return any(endpoint["conditions"].get("ready") is not False
                   for piece in self.get(path)["items"] for endpoint in piece.get("endpoints") or [])


class Kubeadm:
    """Makes clusters one after another; everything of them in Docker has one name and one label."""

    def __init__(self):
        self.bundle = json.loads((BINARY.parent / "sampan-bundle/bundle.json").read_text())
        [self.kubernetes] = [version for version in self.bundle["kubernetes"] if version["default"]]
        self.name = f"sampan-peer-{secrets.token_hex(4)}"
        self.label = f"io.sampan.peer={self.name}"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.flags = machine_flags()
        self.addresses = {}

    def prepare(self):
        """What the clock does not count: files, the network, a volume with the images as containerd keeps them."""
        # The engine finds a range that is free; addresses can only be chosen in a range that somebody chose.
        for subnet in (None, self.free_subnet):
            chosen = ["--subnet", subnet()] if subnet else []
            docker("network", "create", "--label", self.label, *chosen, self.name)
        prefix = self.subnet.split("/")[0].rsplit(".", 1)[0]
        self.addresses = {machine: f"{prefix}.{number}" for number, machine in enumerate(MACHINES, 11)}
        self.write_files()
        image = f"{self.name}-images"
        self.volume(image)
        script = ("containerd --config /peer/containerd.toml --log-level warn & "
                  "until ctr version >/dev/null 2>&1; do sleep 0.1; done; "
                  "ctr -n k8s.io images import /dev/stdin && kill %1 && wait")
        layout = ["tar", "--create", "--directory", PEER / "images", "."]
        with subprocess.Popen(layout, stdout=subprocess.PIPE) as tar:
            docker("run", "--rm", "--interactive", "--name", image, "--label", self.label, *self.flags,
                   "--volume", f"{image}:/var/lib/containerd", "--volume", f"{self.directory}:/peer:ro",
                   "--entrypoint", "/bin/bash", self.bundle["node_image"], "-c", script, stdin=tar.stdout)
        assert tar.returncode == 0, "the images could not be read"

    def free_subnet(self):
        [found] = json.loads(docker("network", "inspect", self.name))
        self.subnet = found["IPAM"]["Config"][0]["Subnet"]
        docker("network", "rm", self.name)
        return self.subnet

    def write_files(self):
        control_plane = self.addresses[MACHINES[0]]
        self.token = f"{secrets.token_hex(3)}.{secrets.token_hex(8)}"
        values = {
            "token": self.token, "control_plane": control_plane, "pods": PODS, "services": SERVICES,
            "kubernetes": self.kubernetes["version"], "etcd": self.kubernetes["etcd"],
            "coredns": self.bundle["coredns"], "pause": self.bundle["images"]["pause"], "oom_score": -999 if may_lower_oom_score() else 0,
            "restrict_oom": "false" if may_lower_oom_score() else "true",
        }
        def fill_in(file, to, **more):
            text = string.Template((FILES / file).read_text()).substitute(values, **more)
            (self.directory / to).write_text(text)

        for file in ("init.yaml", "containerd.toml"):
            fill_in(file, to=file)
        for name in MACHINES[1:]:
            fill_in("join.yaml", to=f"{name}.yaml", name=name, address=self.addresses[name])
        shutil.copy(FILES / "machine.sh", self.directory)
        hosts = pathlib.Path("/etc/resolv.conf").read_text().splitlines()
        servers = [line for line in hosts if line.startswith("nameserver") and not line.split()[1].startswith("127.")]
        # CoreDNS wants some server; nobody asks this one for anything.
        (self.directory / "resolv.conf").write_text("\n".join(servers or ["nameserver 192.0.2.1"]) + "\n")

    def volume(self, name):
        docker("volume", "create", "--label", self.label, name)

    def fill_volumes(self):
        """Each machine's containerd has the images before it starts; nothing of that is still being written."""
        mounts, copies = [], []
        for machine in MACHINES:
            for kind in VOLUMES:
                self.volume(f"{self.name}-{machine}-{kind}")
            mounts += ["--volume", f"{self.name}-{machine}-containerd:/to/{machine}"]
            copies.append(f"cp -a /from/. /to/{machine}/")
        docker("run", "--rm", "--name", f"{self.name}-copy", "--label", self.label,
               "--volume", f"{self.name}-images:/from:ro", *mounts,
               "--entrypoint", "/bin/bash", self.bundle["node_image"], "-c", f"{' && '.join(copies)} && sync")

    def run(self, machine):
        number = MACHINES.index(machine)
        parts = [PODS.replace("0.0/16", f"{index}.0/24") for index in range(len(MACHINES))]
        routes = [f"{part} {self.addresses[other]}" for part, other in zip(parts, MACHINES) if other != machine]
        environment = {"POD_CIDR": parts[number], "CLUSTER_POD_CIDR": PODS, "ROUTES": ",".join(routes),
                       "INIT": "yes" if number == 0 else "no",
                       "KUBELET": f"/opt/sampan/kubernetes/{self.kubernetes['version']}/kubelet"}
        volumes = [f"{self.name}-{machine}-{kind}:/var/lib/{kind}" for kind in VOLUMES]
        volumes += [f"{self.directory}:/peer:ro", f"{PEER / 'kubeadm'}:/usr/local/bin/kubeadm:ro"]
        docker("run", "--detach", "--name", f"{self.name}-{machine}", "--hostname", machine, "--label", self.label,
               "--network", self.name, "--ip", self.addresses[machine], *self.flags,
               *(f"--env={name}={value}" for name, value in environment.items()),
               *(f"--volume={volume}" for volume in volumes),
               "--entrypoint", "/peer/machine.sh", self.bundle["node_image"])

    def join(self, machine):
        self.execute(machine, "kubeadm", "join", "--skip-phases", "preflight", "--config", f"/peer/{machine}.yaml")

    def execute(self, machine, *command):
        return docker("exec", f"{self.name}-{machine}", *command)

    def create(self):
        """Makes a cluster and returns the seconds that it took."""
        self.fill_volumes()
        try:
            return self.create_in_time()
        except Exception as error:
            logs = "tail --lines=25 /var/log/kubeadm.log /var/log/kubelet.log /var/log/containerd.log"
            tails = [docker("exec", f"{self.name}-{machine}", "/bin/sh", "-c", logs, check=False)
                     for machine in MACHINES]
            raise AssertionError(f"{error}\n" + "\n".join(map("== {}\n{}".format, MACHINES, tails))) from error

    def create_in_time(self):
        api = Api(self.addresses[MACHINES[0]], self.directory)
        with concurrent.futures.ThreadPoolExecutor(len(MACHINES)) as hands:
            begun = time.monotonic()
            list(hands.map(self.run, MACHINES))
            info = wait_until(api.cluster_info, "the token works", PATIENCE, 0.05)
            (self.directory / "cluster-info.conf").write_text(info)
            self.mark("token works", begun)
            joining = [hands.submit(self.join, worker) for worker in MACHINES[1:]]
            api.log_in(self.execute(MACHINES[0], "cat", "/etc/kubernetes/admin.conf"))
            wait_until(api.workers_ready, "both workers are ready", PATIENCE, 0.05)
            self.mark("workers ready", begun)
            wait_until(api.dns_ready, "a pod answers for the DNS service", PATIENCE, 0.05)
            took = time.monotonic() - begun
            self.mark("dns ready", begun)
            for join in joining:
                join.result()
        wait_until(self.name_resolves, "a name resolves through the DNS service", PATIENCE)
        self.mark("name resolves", begun)
        return took

    @staticmethod
    def mark(what, begun):
        if os.environ.get("SAMPAN_PEER_TIMES"):
            print(f"    {time.monotonic() - begun:6.2f} s  {what}", flush=True)

    def name_resolves(self):
        """Asks the DNS service from a worker."""
        question = "".join(f"\\x{byte:02x}" for byte in QUESTION)
        ask = (f"exec 3<>/dev/udp/{DNS}/53; printf '{question}' >&3; "
               "timeout 1 dd bs=512 count=1 <&3 2>/dev/null | od -An -v -tx1")
        answer = docker("exec", f"{self.name}-{MACHINES[1]}", "/bin/bash", "-c", ask, check=False)
        return bytes.fromhex(answer).endswith(ipaddress.ip_address(DNS).packed)

    def delete(self):
        """Removes the machines and their volumes; the images' volume and the network stay for the next cluster."""
        self.remove("container", lambda name: True)
        self.remove("volume", lambda name: not name.endswith("-images"))

    def remove(self, kind, which):
        names = docker(kind, "ls", *(["--all"] if kind == "container" else []), "--filter", f"label={self.label}",
                       "--format", "{{.Names}}" if kind == "container" else "{{.Name}}", check=False).split()
        for name in filter(which, names):
            docker(kind, "rm", *(["--force", "--volumes"] if kind == "container" else []), name, check=False)

    def destroy(self):
        """Removes everything."""
        for kind in ("container", "volume", "network"):
            self.remove(kind, lambda name: True)
        shutil.rmtree(self.directory, ignore_errors=True)


def measure(rounds):
    """Seconds of each of `rounds` clusters; `None` when kubeadm was not built."""
    if not (PEER / "kubeadm").exists():
        return None
    kubeadm, times = Kubeadm(), []
    try:
        kubeadm.prepare()
        for _ in range(rounds):
            times.append(kubeadm.create())
            kubeadm.delete()
    finally:
        kubeadm.destroy()
    return times


if __name__ == "__main__":
    print(measure(int(os.environ.get("SAMPAN_BENCH_ROUNDS", "5"))))
