"""An S3-compatible server in a container of a test's own: buckets that volumes mount.

It is a stranger to the installation, as a server on the internet would be: its container has no label of ours. To be reached
from the machines of a cluster it joins their network, at an address that nothing of ours takes; leave it before the cluster
goes. It checks signatures. Buckets are directories in the container, so tests look at objects without a client.
"""

import ipaddress
import json
import os
import pathlib
import secrets
import subprocess

from engine import node_image
from installation import ROOT, wait_until

PROGRAM = pathlib.Path(os.environ.get("SAMPAN_S3_SERVER", ROOT / "target/test/s3-server"))
PORT = 7070
BUCKETS = "/buckets"
START = f"mkdir -p {BUCKETS} /attributes && cd {BUCKETS} && mkdir -p \"$@\" && exec /s3-server --quiet --port :{PORT} " \
        f"posix --sidecar /attributes {BUCKETS}"


def unavailable():
    """Why there can be no such server here; None when there can."""
    return None if PROGRAM.exists() else f"{PROGRAM} is missing (cargo xtask build --s3-server)"


def docker(*arguments, **options):
    done = subprocess.run(["docker", *map(str, arguments)], capture_output=True, **options)
    assert done.returncode == 0, f"docker {' '.join(map(str, arguments[:4]))}: {done.stderr.decode(errors='replace').strip()}"
    return done.stdout


class S3Server:
    def __init__(self, *buckets):
        assert not unavailable(), unavailable()
        self.name = f"sampan-e2e-s3-{secrets.token_hex(4)}"
        # Such keys as the real service gives, so that they would be noticed where they must not be.
        self.ak_id, self.ak_secret = f"LTAI{secrets.token_hex(10)}", secrets.token_urlsafe(30)
        self.address = None
        docker("run", "--detach", "--name", self.name, "--volume", f"{PROGRAM}:/s3-server:ro",
               "--env", f"ROOT_ACCESS_KEY={self.ak_id}", "--env", f"ROOT_SECRET_KEY={self.ak_secret}",
               "--entrypoint", "/bin/sh", node_image(), "-c", START, "s3", *buckets)
        wait_until(self.answers, f"the S3 server answers ({self.name})", 30)

    def answers(self):
        """Whether it listens; bash asks, as the image has no client."""
        ask = f"exec 3<>/dev/tcp/127.0.0.1/{PORT}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; read -t 5 line <&3; echo $line"
        done = subprocess.run(["docker", "exec", self.name, "bash", "-c", ask], capture_output=True, text=True)
        return "403" in done.stdout

    def join(self, network):
        """Becomes reachable from a Docker network, close to its end, where machines are allocated last."""
        [config] = json.loads(docker("network", "inspect", network))[0]["IPAM"]["Config"]
        self.address = ipaddress.ip_network(config["Subnet"])[-3]
        docker("network", "connect", "--ip", self.address, network, self.name)
        return self

    def join_machine(self, container):
        """Joins the network of a machine."""
        [network] = json.loads(docker("inspect", container))[0]["NetworkSettings"]["Networks"]
        return self.join(network)

    def leave(self, network):
        docker("network", "disconnect", "--force", network, self.name)
        self.address = None

    @property
    def url(self):
        """For the option `url`, without a scheme, as in the guide."""
        return f"{self.address}:{PORT}"

    def options(self, bucket, **changed):
        """Options of a volume, as documented."""
        return {"bucket": bucket, "ak_id": self.ak_id, "ak_secret": self.ak_secret, "url": self.url,
                "no_stat_cache": "true", "other_opts": "-o allow_other -o default_permission=666", **changed}

    def read(self, bucket, name):
        """An object's content; None when there is none."""
        done = subprocess.run(["docker", "exec", self.name, "cat", f"{BUCKETS}/{bucket}/{name}"], capture_output=True)
        return done.stdout if done.returncode == 0 else None

    def names(self, bucket):
        """Names of all objects of a bucket."""
        found = docker("exec", self.name, "find", f"{BUCKETS}/{bucket}", "-type", "f", "-not", "-path", "*/.sgwtmp/*",
                       "-printf", "%P\\n")
        return sorted(found.decode().split())

    def pause(self):
        """It is there and does not answer."""
        docker("pause", self.name)

    def resume(self):
        docker("unpause", self.name)

    def destroy(self):
        subprocess.run(["docker", "rm", "--force", "--volumes", self.name], capture_output=True)
