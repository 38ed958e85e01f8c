"""A Swarm cluster as its users have it: certificates in a directory, Docker's own clients, the application API."""

import json
import os
import pathlib
import subprocess
import tarfile
import tempfile

import requests

from clients import REGION, task_succeeds, wait_gone, wait_state
from installation import wait_until


def swarm_cluster(name, size=3, vpc="vpc-swarm", **fields):
    """A body for CreateCluster without `cluster_type`: catalogue, Swarm guide 2.4 and 4.6.3."""
    return {
        "password": "TestPwd124",
        "region_id": REGION,
        "instance_type": "ecs.n1.small",
        "name": name,
        "size": size,
        "network_mode": "vpc",
        "vpc_id": vpc,
        "vswitch_id": f"vsw-{vpc}-1",
        "subnet_cidr": "172.28.1.0/24",
        "data_disk_category": "cloud_ssd",
        "data_disk_size": 40,
        "need_slb": True,
        "ecs_image_id": "centos_7_04_64_20G_alibase_201701015",
        "io_optimized": "true",
        "release_eip_flag": False,
        **fields,
    }


class SwarmCluster:
    """A running Swarm cluster; `directory` gets ca.pem, cert.pem and key.pem."""

    def __init__(self, classic, directory, name, **fields):
        self.classic, self.name = classic, name
        created = classic.call("POST", "/clusters", swarm_cluster(name, **fields))
        self.id = created["cluster_id"]
        task_succeeds(classic, created["task_id"])
        self.detail = wait_state(classic, self.id, "running")
        self.url = self.detail["master_url"]
        self.certs = pathlib.Path(directory) / name
        self.certs.mkdir(parents=True)
        for part, text in classic.call("GET", f"/clusters/{self.id}/certs").items():
            if part in ("ca", "cert", "key"):
                (self.certs / f"{part}.pem").write_text(text)
        self.session = requests.Session()
        # A bundle named in the environment would go before the cluster's own authority.
        self.session.trust_env = False
        self.session.verify = str(self.certs / "ca.pem")
        self.session.cert = (str(self.certs / "cert.pem"), str(self.certs / "key.pem"))

    # The application API and Docker's, at the cluster's own endpoint.
    def api(self, method, path, body=None, expect=None, **options):
        answer = self.session.request(method, self.url + path, json=body, timeout=120, **options)
        if expect is None:
            assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        else:
            assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.json() if answer.content and is_json else answer.text

    def env(self):
        bundles = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        inherited = {name: value for name, value in os.environ.items() if name not in bundles}
        return {**inherited, "DOCKER_HOST": self.url.replace("https", "tcp"), "DOCKER_TLS_VERIFY": "1",
                "DOCKER_CERT_PATH": str(self.certs), "COMPOSE_TLS_VERSION": "TLSv1_2"}

    def docker(self, *arguments, check=True, timeout=180, program="docker", **options):
        """Docker's client as shipped; returns its output, or what ended when `check` is False."""
        done = subprocess.run([program, *map(str, arguments)], env=self.env(), capture_output=True, text=True,
                              timeout=timeout, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{program} {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip() if check else done

    def routed(self, host, path="/", **options):
        """A request through the cluster's load balancer."""
        url = self.classic.call("GET", f"/clusters/{self.id}")["routing_url"]
        return requests.get(url.rstrip("/") + path, headers={"Host": host, **options.pop("headers", {})},
                            timeout=options.pop("timeout", 30), **options)

    def project(self, name):
        return self.api("GET", f"/projects/{name}")

    def settled(self, name, timeout=120):
        """Waits until an application is what it shall be."""
        def look():
            project = self.project(name)
            return project if project["current_state"] == project["desired_state"] else None
        return wait_until(look, f"application {name} settles", timeout, 0.2)

    def deploy(self, name, template, **fields):
        self.api("POST", "/projects/", {"name": name, "template": template, **fields}, expect=201)
        return self.settled(name)

    def remove(self, name):
        self.api("DELETE", f"/projects/{name}?force=true&v=true")
        wait_until(lambda: self.session.get(f"{self.url}/projects/{name}").status_code == 404, f"{name} is gone", 60)

    def containers(self, name):
        """Containers of an application, by name, with their node's address."""
        services = self.project(name)["services"]
        return {item["name"].lstrip("/"): item for service in services for item in service["containers"].values()}

    def nodes(self):
        return self.classic.call("GET", f"/clusters/{self.id}/nodes")["nodes"]

    def delete(self):
        self.classic.request("DELETE", f"/clusters/{self.id}")
        wait_gone(self.classic, self.id)


def machine_container(installation, instance_id):
    """Name of the container that is a machine."""
    return f"sampan-{installation.installation_id()}-{instance_id}"


def debian_image(reference, packages, command, extra=()):
    """Makes an image in the host's engine out of Debian packages, unpacked and not configured, with their libraries."""
    with tempfile.TemporaryDirectory(prefix="sampan-image-") as directory:
        root, archives = pathlib.Path(directory) / "root", pathlib.Path(directory) / "archives"
        root.mkdir(), archives.mkdir()
        fetched = subprocess.run(["apt-get", "download", "-q", *packages], cwd=archives, capture_output=True, text=True)
        assert fetched.returncode == 0, fetched.stderr
        for archive in archives.iterdir():
            subprocess.run(["dpkg", "-x", archive, root], check=True)
        for path, text in extra:
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            target.chmod(0o755)
        for path in ("tmp", "run", "etc", "var/lib"):
            (root / path).mkdir(parents=True, exist_ok=True)
        archive = pathlib.Path(directory) / "root.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".")
        changes = [item for change in command for item in ("--change", change)]
        subprocess.run(["docker", "import", *changes, str(archive), reference], check=True, capture_output=True)
    return reference


def events(text):
    """Lines of JSON."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]
