"""A Docker engine of a test's own, to be stopped, killed and filled without touching the host's.

It has its own network namespace (bridges, rules, ports), mount namespace (a file system of its own in a file, which can be
filled) and process namespace (all of it can be killed at once). What tests start after `enter` uses that network and that
engine. Namespaces and the mount end with the processes, also when the tests themselves are killed.
"""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from installation import BINARY, wait_until

CLONE_NEWNET = 0x40000000
PROGRAMS = ("dockerd", "containerd", "unshare", "nsenter", "setpriv", "mkfs.ext4", "mount", "ip", "ps")
MEBIBYTE = 1 << 20
# Holds the namespaces and the file system, whatever the engine does. /run is where engines leave sockets and locks.
HOLD = """
set -e
ip link set lo up
mount -t tmpfs tmpfs /run
mount -o loop,noatime disk data
mount -t tmpfs -o size=16m tmpfs small
echo ready
exec sleep infinity
"""
# The first process of a process namespace: the engine's death is its own, and with it that of all it started.
RUN = 'dockerd "$@" & engine=$!; trap "kill $engine" TERM; wait $engine; wait $engine'


def unavailable():
    """Why there can be no such engine here; None when there can."""
    if os.geteuid() != 0:
        return "an engine of the tests' own needs root"
    if not pathlib.Path("/dev/loop-control").exists():
        return "an engine of the tests' own needs loop devices"
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    return f"not installed: {', '.join(missing)}" if missing else None


def node_image():
    return json.loads((BINARY.parent / "sampan-bundle/bundle.json").read_text())["node_image"]


def mortal(*command, **options):
    """Starts a process that does not outlive the tests."""
    command = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)


def children(pid):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


class Engine:
    def __init__(self, size="8G"):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="sampan-engine-"))
        self.socket = self.directory / "docker.sock"
        self.cgroup = f"/{self.directory.name}"
        self.log_path = self.directory / "dockerd.log"
        self.process = self.home = None
        for name in ("data", "small"):
            (self.directory / name).mkdir()
        (self.directory / "daemon.json").write_text("{}")
        disk = self.directory / "disk"
        subprocess.run(["truncate", "-s", size, disk], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True)
        self.holder = mortal("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", HOLD,
                             cwd=self.directory, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "ready\n", "namespaces and file systems of the engine's own"
        mounts = pathlib.Path(f"/proc/{self.holder.pid}/root{self.directory}")
        # Its file system, and another of 16 MiB, as seen from outside; and where they are for programs started inside.
        self.data, self.small = mounts / "data", mounts / "small"
        self.inside = ["nsenter", "-t", str(self.holder.pid), "--net", "--mount", f"--wd={self.directory}"]

    def start(self):
        # A killed engine leaves its process id, and the next one may meet that number as its own.
        for stale in (self.directory / "docker.pid", self.directory / "run/containerd/containerd.pid"):
            stale.unlink(missing_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = mortal(
                *self.inside, "unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "bash", "-c", RUN, "engine",
                "--config-file", self.directory / "daemon.json", "--data-root", self.directory / "data/docker",
                "--exec-root", self.directory / "run", "--pidfile", self.directory / "docker.pid",
                "--host", f"unix://{self.socket}", "--cgroup-parent", self.cgroup,
                "--exec-opt", "native.cgroupdriver=cgroupfs", stdout=log, stderr=log)
        wait_until(self.answers, f"the engine answers (log: {self.log_path})", 60)
        return self

    def answers(self):
        assert self.process.poll() is None, self.log_path.read_text()[-2000:]
        return subprocess.run(["docker", "--host", f"unix://{self.socket}", "version"], capture_output=True).returncode == 0

    def signal(self, number):
        for first in children(self.process.pid):
            os.kill(first, number)

    def stop(self):
        """SIGTERM, as `systemctl stop docker`: containers are stopped, too."""
        self.signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def kill(self):
        """SIGKILL for the engine, its containerd, and every process of every container, all at once."""
        self.signal(signal.SIGKILL)
        self.process.wait(timeout=30)

    def load(self, image):
        """Copies an image from the host's engine."""
        save = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        subprocess.run(["docker", "--host", f"unix://{self.socket}", "load", "--quiet"], stdin=save.stdout, check=True,
                       capture_output=True)
        assert save.wait() == 0, f"{image} is in the host's engine (cargo xtask build)"

    def enter(self):
        """From now on this thread, and what it starts, is in the engine's network and uses the engine."""
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.environ.get("DOCKER_HOST")
        there = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
        set_namespace(there)
        os.close(there)
        os.environ["DOCKER_HOST"] = f"unix://{self.socket}"

    def leave(self):
        if self.home is None:
            return
        (home, host), self.home = self.home, None
        set_namespace(home)
        os.close(home)
        os.environ.pop("DOCKER_HOST")
        if host is not None:
            os.environ["DOCKER_HOST"] = host

    def destroy(self):
        """Removes all of it; what is left of a killed engine, too."""
        self.leave()
        if self.process and self.process.poll() is None:
            self.kill()
        self.holder.kill()
        self.holder.wait()
        for group in pathlib.Path("/sys/fs/cgroup").glob(f"**{self.cgroup}"):
            for path, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):  # a leftover cgroup is empty and harmless
                    os.rmdir(path)
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def full(directory):
    """Leaves no space on a directory's file system."""
    filler = directory / "filler"
    try:
        fill(filler)
        yield
    finally:
        filler.unlink(missing_ok=True)


def fill(path):
    with open(path, "wb", buffering=0) as file:
        room = os.statvfs(path.parent)
        size = room.f_bavail * room.f_frsize
        while size > 0:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                break
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size -= MEBIBYTE
        file.seek(0, os.SEEK_END)
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def set_namespace(descriptor):
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "the network namespace cannot be changed")
