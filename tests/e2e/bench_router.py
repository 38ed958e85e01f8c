"""The router of Swarm clusters beside nginx and HAProxy of Debian: the same small answers of the same server, in one container
without a network but its own loopback."""

import json
import pathlib
import re
import statistics
import subprocess
import tempfile

from bench import say
from installation import BINARY, wait_until

IMAGE = "sampan-bench-router:1"
PACKAGES = "nginx-light,haproxy,wrk,bash,iproute2,curl"
ROUNDS, SECONDS, CONNECTIONS = 3, 5, 32
NGINX_SERVER = """
worker_processes 1; error_log /dev/null; pid /tmp/server.pid;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000;
  server { listen 127.0.0.1:8081; location / { return 200 "%s"; } } }
""" % ("x" * 100)
NGINX_PROXY = """
worker_processes 2; error_log /dev/null; pid /tmp/proxy.pid;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000;
  upstream web { server 127.0.0.1:8081; keepalive 64; keepalive_requests 1000000; }
  server { listen 127.0.0.1:8082; location / {
    proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } } }
"""
HAPROXY = """
global
  nbthread 2
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
frontend web
  bind 127.0.0.1:8083
  default_backend servers
backend servers
  http-reuse always
  server one 127.0.0.1:8081
"""
ROUTES = {"revision": 1, "tcp": [], "routes": [{"host": "web.test", "path": "/", "sticky": False, "groups": [
    {"service": "bench_web", "weight": 100, "backends": [{"id": "one", "address": "127.0.0.1:8081"}]}]}]}
ROUTER = {"state_dir": "/bench/state", "listen": "127.0.0.1", "http_port": 8084, "node": "bench", "direct": True}
START = """
ip link set lo up 2>/dev/null
nginx -c /bench/server.conf & nginx -c /bench/proxy.conf &
haproxy -f /bench/haproxy.cfg -db & /sampan router --config /bench/router.json &
wait
"""
SIDES = {"nginx": 8082, "HAProxy": 8083, "Sampan's router": 8084}


def image():
    found = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True)
    if found.returncode != 0:
        build = f"mmdebstrap --variant=apt --include={PACKAGES} bookworm - | docker import - {IMAGE}"
        subprocess.run(["bash", "-o", "pipefail", "-c", build], check=True, capture_output=True)
    return IMAGE


def load(container, port):
    """Requests per second and the 99th percentile in milliseconds."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-H", "Host: web.test", f"http://127.0.0.1:{port}/"]
    done = subprocess.run(["docker", "exec", container, *command], check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in done, done
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done)[1])
    amount, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", done).groups()
    return rate, float(amount) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def measure():
    with tempfile.TemporaryDirectory(prefix="sampan-bench-") as directory:
        home = pathlib.Path(directory)
        (home / "state").mkdir()
        for name, text in [("server.conf", NGINX_SERVER), ("proxy.conf", NGINX_PROXY), ("haproxy.cfg", HAPROXY),
                           ("router.json", json.dumps(ROUTER)), ("state/routes.json", json.dumps(ROUTES))]:
            (home / name).write_text(text)
        container = subprocess.run(
            ["docker", "run", "-d", "--rm", "--network", "none", "-v", f"{home}:/bench", "-v", f"{BINARY}:/sampan:ro",
             image(), "bash", "-c", START], check=True, capture_output=True, text=True).stdout.strip()
        try:
            def up():
                ask = ["curl", "-sf", "-o", "/dev/null", "-H", "Host: web.test"]
                return all(subprocess.run(["docker", "exec", container, *ask, f"http://127.0.0.1:{port}/"]).returncode == 0
                           for port in SIDES.values())
            wait_until(up, "all three proxies answer", 30)
            figures = {name: [] for name in SIDES}
            for _ in range(ROUNDS):
                for name, port in SIDES.items():
                    figures[name].append(load(container, port))
        finally:
            subprocess.run(["docker", "kill", container], capture_output=True)
    medians = {name: [statistics.median(values) for values in zip(*rounds)] for name, rounds in figures.items()}
    ours = medians["Sampan's router"]
    for name, (rate, latency) in medians.items():
        ratio = "" if name.startswith("Sampan") else f"ours to it: rate {ours[0] / rate:.2f}, p99 {ours[1] / latency:.2f}"
        say(f"{name}: 100-byte answers, {CONNECTIONS} connections (median of {ROUNDS})", f"{rate:.0f}/s, p99 {latency:.1f} ms", ratio)


if __name__ == "__main__":
    measure()
