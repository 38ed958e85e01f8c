"""An installation of Sampan of a test's own: a server process, its data directory, its clients."""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SAMPAN_BINARY", ROOT / "target/release/sampan"))
KUBECTL = BINARY.parent / "sampan-bundle/bin/kubectl"


def wait_until(condition, what, timeout, interval=0.1):
    """Waits until `condition()` is true and returns its value; fails with what it saw last."""
    end = time.monotonic() + timeout
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
            last = value
        except Exception as error:  # seen again below when it does not go away
            last = error
        time.sleep(interval)
    raise AssertionError(f"not within {timeout} s: {what}; last seen: {last!r}")


def free_port():
    """A free port, below those that the system gives to connections and to listeners that ask for any port."""
    for port in random.sample(range(18_000, 29_000), 1_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")


class Installation:
    """`sampan serve` on a free port with a data directory of its own."""

    def __init__(self, config="", parent=None):
        self.data_dir = pathlib.Path(tempfile.mkdtemp(prefix="sampan-e2e-", dir=parent))
        # The program, and the data directory as the program sees it.
        self.program, self.seen = [BINARY], self.data_dir
        if config:
            (self.data_dir / "config.toml").write_text(config)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.log_path = self.data_dir / "server.log"

    def start(self, *arguments):
        """Starts the server; arguments stand in for `--listen`, so that a test may choose other ones."""
        log = open(self.log_path, "ab")
        arguments = arguments or ("--listen", f"127.0.0.1:{self.port}")
        self.process = subprocess.Popen(
            [*self.program, "serve", "--data-dir", self.seen, *arguments],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env={**os.environ, "RUST_LOG": os.environ.get("RUST_LOG", "info")},
        )
        log.close()
        wait_until(self.is_ready, f"the server is ready (log: {self.log_path})", 60, 0.02)
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"the server ended with {self.process.returncode}:\n{self.log_tail()}")
        with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=self.tls()) as answer:
            return answer.status == 200

    def tls(self):
        """Trusts the installation's own authority, when the server speaks HTTPS."""
        if self.url.startswith("http:"):
            return None
        return ssl.create_default_context(cafile=self.data_dir / "tls/ca.pem")

    def log_tail(self, size=6000):
        return self.log_path.read_text(errors="replace")[-size:] if self.log_path.exists() else ""

    def kill(self):
        """SIGKILL: what a crash is."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """SIGTERM, as an operator does it; clusters outlive it."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the server did not stop within 20 s of SIGTERM")
        return self.process.returncode if self.process else None

    def access(self):
        """What `sampan env` prints, as a dictionary."""
        text = subprocess.run([*self.program, "env", "--data-dir", self.seen], check=True, capture_output=True, text=True)
        pairs = (line.removeprefix("export ").split("=", 1) for line in text.stdout.splitlines() if "=" in line)
        return {name: value.strip("'\"") for name, value in pairs}

    def installation_id(self):
        return (self.data_dir / "installation").read_text().strip()

    def docker_leftovers(self):
        """Everything in Docker that carries this installation's label."""
        label = f"label=io.sampan.owner={self.installation_id()}"
        found = []
        for command in (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"]):
            done = subprocess.run(["docker", *command, "--filter", label], check=True, capture_output=True, text=True)
            found += [f"{command[0]} {line}" for line in done.stdout.split()]
        return found

    def cli(self, *arguments, check=True, env=None, input=None):
        """Runs a `sampan` command against this installation; what a failed one printed is in the error."""
        done = subprocess.run(
            [BINARY, *arguments], check=False, capture_output=True, text=True, input=input,
            env={**os.environ, **(env or {}), "SAMPAN_DATA_DIR": str(self.data_dir)},
        )
        assert not check or done.returncode == 0, f"sampan {arguments} ended with {done.returncode}: {done.stdout} {done.stderr}"
        return done

    def destroy(self):
        """Removes everything of this installation, running or not."""
        try:
            self.stop()
        finally:
            subprocess.run([*self.program, "purge", "--data-dir", self.seen, "--yes"], check=False)
            shutil.rmtree(self.data_dir, ignore_errors=True)


def kubectl(kubeconfig, *arguments, check=True, timeout=120, input=None):
    """Runs kubectl (ours, from the bundle) and returns its standard output."""
    done = subprocess.run(
        [KUBECTL, "--kubeconfig", str(kubeconfig), *arguments],
        capture_output=True, text=True, timeout=timeout, input=input,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout if check else done


def kubectl_json(kubeconfig, *arguments):
    return json.loads(kubectl(kubeconfig, *arguments, "-o", "json"))
