"""The `sampan` command as people use it, and machines that are kept."""

import json
import re
import shutil

from installation import kubectl_json


def test_friendly_commands(shared, tmp_path):
    def run(*arguments, **fields):
        return shared.cli(*arguments, **fields).stdout

    shown = run("cluster", "create", "friendly", "--nodes", "1", "--vpc", "vpc-cli", "--pod-cidr", "172.24.0.0/16",
                "--service-cidr", "172.25.0.0/20")
    cluster_id = [line.split()[1] for line in shown.splitlines() if line.startswith("cluster_id")][0]
    assert any(line.startswith("friendly") and "running" in line for line in run("cluster", "list").splitlines())
    assert json.loads(run("cluster", "show", "friendly", "-o", "json"))["cluster_id"] == cluster_id
    assert "state: running" in run("cluster", "show", "friendly", "-o", "yaml")
    assert len(run("cluster", "nodes", "friendly").splitlines()) == 2

    # Merging keeps what is there, and makes the new context current.
    config = tmp_path / "config"
    config.write_text("apiVersion: v1\nkind: Config\nclusters:\n- name: work\n  cluster:\n    server: https://work\n"
                      "contexts: []\nusers: []\ncurrent-context: work\n")
    run("cluster", "kubeconfig", "friendly", "--merge", env={"KUBECONFIG": str(config)})
    assert "https://work" in config.read_text() and (config.stat().st_mode & 0o777) == 0o600
    assert len(kubectl_json(config, "get", "nodes")["items"]) == 1

    run("cluster", "scale", "friendly", "--nodes", "2")
    run("nodepool", "create", "friendly", "extra", "--nodes", "0", "--label", "tier=web")
    assert "extra" in run("nodepool", "list", "friendly")
    run("nodepool", "scale", "friendly", "extra", "--add", "1")
    labels = [node["metadata"]["labels"] for node in kubectl_json(config, "get", "nodes")["items"]]
    assert len(labels) == 3 and sum(item.get("tier") == "web" for item in labels) == 1

    # A removed node that is kept stays in the inventory; released ones do not.
    nodes = json.loads(run("cluster", "nodes", "friendly", "-o", "json"))["nodes"]
    run("cluster", "remove-node", "friendly", nodes[0]["node_name"], "--keep")
    kept = [machine for machine in json.loads(run("machine", "list", "-o", "json"))
            if machine["instance_id"] == nodes[0]["instance_id"]]
    assert kept and not kept[0].get("cluster_id")
    run("machine", "delete", nodes[0]["instance_id"])
    assert nodes[0]["instance_id"] not in run("machine", "list")
    run("cluster", "delete", "friendly")
    assert "friendly" not in run("cluster", "list")
    assert "delet" in run("cluster", "logs", cluster_id).lower(), "a deleted cluster's log stays"


def test_raw_requests_and_completion(shared):
    quota = json.loads(shared.cli("cs", "GET", "/quota").stdout)
    assert quota["cluster_quota"] == 50
    refused = shared.cli("cs", "POST", "/clusters", "--header", "Content-Type=application/json", "--body", "{}", check=False)
    assert refused.returncode == 2 and "MissingParameter" in refused.stderr
    assert "_sampan" in shared.cli("completion", "bash").stdout


def test_the_doctor_says_what_is_true_of_this_host(shared):
    """What the tests themselves need is there; room and memory are judged as this host has them, whatever it has."""
    said = shared.cli("doctor", "--output", "json", check=False)
    checks = {check["check"]: check for check in json.loads(said.stdout)}
    for needed in ("cgroups", "Docker", "node image"):
        assert checks[needed]["result"] == "ok", checks[needed]
    failed = [name for name, check in checks.items() if check["result"] == "FAILED"]
    assert said.returncode == (1 if failed else 0), said.stderr
    assert set(failed) <= {"memory", "data directory", "Docker's directory"}, failed
    for name in failed:  # What fails says what is needed and what to do.
        assert re.search(r"needs \d+\.\d GiB: \w+", checks[name]["detail"]), checks[name]
    free = shutil.disk_usage(shared.data_dir).free
    assert ("data directory" in failed) == (free < 1 << 30), (checks["data directory"], free)


def test_images_reach_nodes_without_a_registry(cluster, shared, tmp_path):
    """`sampan image load` of a `docker save` archive; the next pod can use it."""
    import subprocess
    from installation import kubectl
    name = f"sampan-e2e-{shared.installation_id()}:1"
    # A Docker image made from a file system that is at hand: the one of a node's image.
    root = tmp_path / "root.tar"
    busybox = subprocess.run(["docker", "inspect", "-f", "{{.Config.Image}}",
                              f"sampan-{shared.installation_id()}-balancer"], check=True, capture_output=True, text=True)
    subprocess.run(["docker", "run", "--rm", "--entrypoint", "tar", busybox.stdout.strip(), "-C", "/", "-cf", "-",
                    "bin", "lib", "lib64", "usr/bin", "usr/lib64", "usr/lib/x86_64-linux-gnu"],
                   check=True, stdout=open(root, "wb"), stderr=subprocess.DEVNULL)
    try:
        subprocess.run(["docker", "import", str(root), name], check=True, capture_output=True)
        archive = tmp_path / "image.tar"
        subprocess.run(["docker", "save", "-o", str(archive), name], check=True)
        loaded = shared.cli("image", "load", str(archive)).stdout.split()
        assert loaded == [f"docker.io/library/{name}"]
        kubectl(cluster.kubeconfig, "run", "loaded", f"--image={name}", "--restart=Never", "--command", "--",
                "bash", "-c", "echo from the loaded image")
        kubectl(cluster.kubeconfig, "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s", "pod/loaded")
        assert "from the loaded image" in kubectl(cluster.kubeconfig, "logs", "loaded")
    finally:
        kubectl(cluster.kubeconfig, "delete", "pod", "loaded", "--ignore-not-found", "--now")
        shared.cli("image", "rm", name, check=False)
        subprocess.run(["docker", "rmi", name], capture_output=True)
