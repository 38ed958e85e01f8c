"""Fields of CreateCluster, checked where they take effect: in certificates, tokens, nodes and pods, and in the answers.

Two clusters have all of them: `fields` with the flat worker fields, `private` with node pools.
"""

import base64
import json
import pathlib
import re
import socket
import ssl
import subprocess

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import REGION, task_succeeds, wait_gone, wait_state
from conftest import Cluster
from installation import BINARY, kubectl, kubectl_json, wait_until
from test_cluster import apply, bundled, in_pod, pod, service, wait_ready

ISSUER = "https://issuer.example.com"
DATA_DISK = {"category": "cloud_ssd", "size": 200, "encrypted": "false"}
# Checked, stored and returned; of those with a reason, an event says why they have no effect.
RECORDED = {
    "worker_data_disks": ([DATA_DISK], None), "worker_auto_renew": (False, None), "charge_type": ("PostPaid", None),
    "load_balancer_spec": ("slb.s2.small", None), "cloud_monitor_flags": (True, "monitoring agent"),
    "enable_rrsa": (True, "no RAM"), "controlplane_log_ttl": ("30", "no log service"), "nat_gateway": (True, "their host"),
    "image_id": ("aliyun_3_x64_20G.vhd", "own image"), "node_name_mode": ("customized,a.,5,b", None),
    "soc_enabled": (True, "not hardened"), "ssh_flags": (True, "no SSH server"), "is_enterprise_security_group": (True, None),
}
WINDOW = {"enable": True, "maintenance_time": "03:00:00Z", "duration": "3h", "weekly_period": "Monday,Thursday"}
SCRIPT = base64.b64encode(b"#!/bin/sh\necho from-the-user >> /run/e2e-user-data\n").decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """An RSA authority of the user's that ends soon: sooner than certificates are renewed otherwise."""
    directory = tmp_path_factory.mktemp("authority")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-keyout", "ca.key", "-out", "ca.crt",
         "-subj", "/O=e2e/CN=authority of the user"], check=True, capture_output=True, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def other_version():
    """A version that is not the default; the default where only that was built."""
    bundle = json.loads((BINARY.parent / "sampan-bundle/bundle.json").read_text())
    return min(bundle["kubernetes"], key=lambda entry: entry["default"])["version"]


@pytest.fixture(scope="module")
def private(classic, other_version, authority):
    """A cluster of another minor without a public endpoint, in a VPC of its own, with pools instead of worker fields."""
    def node_pool(name, size, **kubernetes):
        group = {"instance_types": ["ecs.g6.large"], "desired_size": size, "key_pair": "mine", "system_disk_size": 120}
        return {"nodepool_info": {"name": name}, "scaling_group": group, "kubernetes_config": kubernetes}
    first = node_pool("first", 1, labels=[{"key": "tier", "value": "web"}], user_data=SCRIPT,
                      taints=[{"key": "of-the", "value": "pool", "effect": "PreferNoSchedule"}])
    body = {
        "name": "private", "region_id": REGION, "cluster_type": "ManagedKubernetes", "cluster_spec": "ack.pro.small",
        "kubernetes_version": other_version.rsplit(".", 1)[0], "zone_ids": [f"{REGION}-h"], "endpoint_public_access": False,
        "proxy_mode": "iptables", "extra_sans": ["private.example.com"], "client_token": "e2e-private",
        "user_ca": (authority / "ca.crt").read_text(), "maintenance_window": WINDOW,
        "nodepools": [first, node_pool("second", 0)],
    }
    created = classic.call("POST", "/clusters", body)
    assert classic.call("POST", "/clusters", body)["cluster_id"] == created["cluster_id"], "the token makes it one request"
    yield created
    classic.request("DELETE", f"/clusters/{created['cluster_id']}")
    wait_gone(classic, created["cluster_id"])


@pytest.fixture(scope="module")
def fields(classic, tmp_path_factory, authority, private):
    """A cluster with many fields; it starts while the private one does."""
    cluster = Cluster(
        classic, tmp_path_factory.mktemp("fields"), "fields", vpc="vpc-fields", nodes=1,
        container_cidr="172.29.0.0/16", service_cidr="172.30.16.0/20", node_cidr_mask="26",
        user_ca=(authority / "ca.crt").read_text() + (authority / "ca.key").read_text(),
        taints=[{"key": "dedicated", "value": "e2e", "effect": "NoSchedule"}],
        timezone="Asia/Shanghai", service_account_issuer=ISSUER, api_audiences=f"{ISSUER},e2e",
        custom_san="fields.example.com,192.0.2.7", cluster_domain="corp.local", resource_group_id="rg-e2e",
        tags=[{"key": "team", "value": "fields"}], proxy_mode="ipvs", deletion_protection=True, runtime={"name": "docker"},
        addons=[{"name": "metrics-server", "disabled": True}, {"name": "arms-prometheus"}],
        worker_instance_types=["ecs.c6.large"], worker_vswitch_ids=["vsw-fields-workers"], cpu_policy="static",
        user_data=SCRIPT, no_such_field=1,
        **{name: value for name, (value, _) in RECORDED.items()},
    )
    yield cluster
    with pytest.raises(ServerException) as refused:
        classic.request("DELETE", f"/clusters/{cluster.id}")
    assert (refused.value.get_http_status(), refused.value.get_error_code()) == (403, "DeletionProtected")
    classic.call("PUT", f"/api/v2/clusters/{cluster.id}", {"deletion_protection": False})
    cluster.delete()


@pytest.fixture(scope="module")
def node(fields):
    [node] = kubectl_json(fields.kubeconfig, "get", "nodes")["items"]
    return node


@pytest.fixture(scope="module")
def shell(fields, node):
    """A pod to ask from, with a processor of its own; it tolerates the taint. Beside it a web server."""
    tolerations = [{"key": "dedicated", "operator": "Exists"}]
    asking = pod("shell", tolerations=tolerations)
    size = {"cpu": "1", "memory": "32Mi"}
    asking["spec"]["containers"][0]["resources"] = {"requests": size, "limits": size}
    apply(fields, asking, pod("web", image="nginx:alpine", command=None, tolerations=tolerations), service("web", app="web"))
    wait_ready(fields, "shell", "web")
    return "shell"


def in_machine(shared, instance_id, *command):
    name = f"sampan-{shared.installation_id()}-{instance_id}"
    return subprocess.run(["docker", "exec", name, *command], check=True, capture_output=True, text=True).stdout


def proxy_mode_of(shared, instance_id):
    """What kube-proxy says that it does."""
    ask = "exec 3<>/dev/tcp/127.0.0.1/10249; printf 'GET /proxyMode HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    return in_machine(shared, instance_id, "bash", "-c", ask).split("\n\n")[-1].strip()


def events_of(cluster, reason):
    events = cluster.classic.call("GET", "/events", query={"cluster_id": cluster.id, "page_size": 100})["events"]
    found = [event["data"] for event in events if event["data"]["reason"] == reason]
    assert found, (reason, [event["data"]["reason"] for event in events])
    return "; ".join(event["message"] for event in found)


def peer(url, name, authority):
    """The certificate that a server shows, checked for that name with that authority."""
    host, port = url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cadata=authority)
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname=name) as secure:
            return secure.getpeercert()


def client_of(authority):
    """Arguments of kubectl: a client's certificate that the authority signed."""
    request = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=their-user"]
    signature = ["x509", "-req", "-in", "own.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "own.crt"]
    for command in (request, signature):
        subprocess.run(["openssl", *command], check=True, capture_output=True, cwd=authority)
    return [f"--client-certificate={authority / 'own.crt'}", f"--client-key={authority / 'own.key'}"]


def test_user_ca_and_custom_san(fields, authority):
    """Only the user's authority is trusted, and the names asked for are in the certificate that it signed."""
    config = json.loads(kubectl(fields.kubeconfig, "config", "view", "--raw", "-o", "json"))
    given = (authority / "ca.crt").read_text()
    assert base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode().strip() == given.strip()
    for name in ("fields.example.com", "192.0.2.7", "127.0.0.1"):
        issuer = peer(config["clusters"][0]["cluster"]["server"], name, given)["issuer"]
        assert {part[0][0]: part[0][1] for part in issuer}["commonName"] == "authority of the user"
    client = base64.b64decode(config["users"][0]["user"]["client-certificate-data"])
    (authority / "client.crt").write_bytes(client)
    subprocess.run(["openssl", "verify", "-CAfile", "ca.crt", "client.crt"], cwd=authority, check=True, capture_output=True)
    assert fields.classic.call("GET", f"/clusters/{fields.id}").get("user_ca") is None, "the key is never returned"


def test_networks(fields, node, shared):
    machines = json.loads(shared.cli("machine", "list", "-o", "json").stdout)
    assert [machine["vswitch_id"] for machine in machines if machine["cluster_id"] == fields.id] == ["vsw-fields-workers"]
    assert re.fullmatch(r"172\.29\.\d+\.\d+/26", node["spec"]["podCIDR"])
    assert kubectl_json(fields.kubeconfig, "get", "service", "kubernetes")["spec"]["clusterIP"] == "172.30.16.1"


def test_taints_and_labels_of_nodes(fields, node):
    assert {"key": "dedicated", "value": "e2e", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert node["metadata"]["labels"]["team"] == "fields", "a tag of the cluster"
    assert re.fullmatch(r"a\.\d{5}b", node["metadata"]["name"]), "node_name_mode"
    kubectl(fields.kubeconfig, "run", "kept-out", f"--image={bundled('agnhost')}")

    def kept_out():
        conditions = kubectl_json(fields.kubeconfig, "get", "pod", "kept-out")["status"].get("conditions", [])
        return any(c.get("reason") == "Unschedulable" and "taint" in c["message"] for c in conditions)
    wait_until(kept_out, "the taint keeps a pod out", 30)
    kubectl(fields.kubeconfig, "delete", "pod", "kept-out", "--now")
    # The cluster's own DNS is not kept out.
    kubectl(fields.kubeconfig, "rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=60s")


def test_instance_type(node):
    """ecs.c6.large: 2 cores, 4 GiB; pods get no more, however large the host is."""
    assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "ecs.c6.large"
    allocatable = node["status"]["allocatable"]
    cpu = allocatable["cpu"]
    assert 1000 <= (int(cpu[:-1]) if cpu.endswith("m") else int(cpu) * 1000) <= 2000
    number, unit = re.fullmatch(r"(\d+)([KMG]i)", allocatable["memory"]).groups()
    assert 2 << 30 <= int(number) << {"Ki": 10, "Mi": 20, "Gi": 30}[unit] <= 4 << 30


def test_cpu_policy(fields, node, shell):
    path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/configz"
    assert json.loads(kubectl(fields.kubeconfig, "get", "--raw", path))["kubeletconfig"]["cpuManagerPolicy"] == "static"
    own = in_pod(fields, shell, "grep", "Cpus_allowed_list", "/proc/self/status").split()[1]
    others = in_pod(fields, "web", "grep", "Cpus_allowed_list", "/proc/self/status").split()[1]
    assert own.isdigit() and own != others, (own, others)


def test_timezone_and_user_data(fields, shared):
    [machine] = [node["instance_id"] for node in fields.nodes()]
    assert in_machine(shared, machine, "date", "+%z").strip() == "+0800"
    assert in_machine(shared, machine, "cat", "/run/e2e-user-data").split() == ["from-the-user"], "the script ran once"
    # And so do the components.
    environment = in_machine(shared, machine, "sh", "-c", "tr '\\0' '\\n' < /proc/$(pidof kubelet)/environ")
    assert "TZ=Asia/Shanghai" in environment.splitlines()


def test_cluster_domain(fields, shell):
    assert "svc.corp.local" in in_pod(fields, shell, "cat", "/etc/resolv.conf")
    assert "172.30.16.1" in in_pod(fields, shell, "nslookup", "kubernetes.default.svc.corp.local")
    for name in ("web", "web.default.svc.corp.local"):
        wait_until(lambda: "nginx" in in_pod(fields, shell, "wget", "-qO-", f"http://{name}/").lower(), name, 30)
    usual = ["exec", shell, "--", "nslookup", "kubernetes.default.svc.cluster.local"]
    assert "NXDOMAIN" in kubectl(fields.kubeconfig, *usual, check=False).stdout, "the usual domain is not served"


def test_answers_have_what_was_asked_for(fields):
    detail = fields.classic.call("GET", f"/clusters/{fields.id}")
    expected = {
        "cluster_domain": "corp.local", "timezone": "Asia/Shanghai", "node_cidr_mask": "26", "proxy_mode": "ipvs",
        "service_cidr": "172.30.16.0/20", "container_cidr": "172.29.0.0/16", "resource_group_id": "rg-e2e",
        "extra_sans": ["fields.example.com", "192.0.2.7"], "deletion_protection": True, "vpc_id": "vpc-fields",
    }
    assert {name: detail[name] for name in expected} == expected
    assert {"key": "team", "value": "fields"} in [{"key": tag["key"], "value": tag["value"]} for tag in detail["tags"]]
    for name, (value, _) in RECORDED.items():
        text = detail["parameters"][name]
        assert (text if isinstance(value, str) else json.loads(text)) == value, name
    addons = {addon["name"]: addon["installed"] for addon in json.loads(detail["meta_data"])["Addons"]}
    assert (addons["metrics-server"], addons["arms-prometheus"], addons["coredns"]) == (False, False, True)
    listed = fields.classic.call("GET", "/clusters", query={"resource_group_id": "rg-e2e"})
    assert [cluster["cluster_id"] for cluster in listed] == [fields.id]
    [pool] = fields.classic.call("GET", f"/clusters/{fields.id}/nodepools")["nodepools"]
    disk = pool["scaling_group"]["data_disks"][0]
    assert {name: disk[name] for name in DATA_DISK} == DATA_DISK
    for answer in (detail, pool):
        assert "Hello1234" not in json.dumps(answer) and "PRIVATE KEY" not in json.dumps(answer), "secrets are never returned"


def test_what_cannot_be_is_said(fields, node, shared):
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    assert "containerd" in events_of(fields, "RuntimeReplaced")
    assert "arms-prometheus" in events_of(fields, "AddonNotInstalled")
    assert "no_such_field" in events_of(fields, "FieldsIgnored")
    not_applied = events_of(fields, "NotApplied")
    for name, (_, reason) in {**RECORDED, "login_password": (None, "no SSH server")}.items():
        assert reason is None or (name in not_applied and reason in not_applied), (name, not_applied)
    # Where the kernel has IPVS nothing is replaced, and nothing is said.
    [machine] = [node["instance_id"] for node in fields.nodes()]
    mode = proxy_mode_of(shared, machine)
    if not pathlib.Path("/proc/net/ip_vs").exists():
        assert mode == "nftables" and "no IPVS" in events_of(fields, "ProxyModeReplaced")
    else:
        assert mode == "ipvs"


def test_tokens_have_the_issuer_and_audiences(fields):
    # The controller manager makes the account a moment after the namespace.
    token = wait_until(lambda: kubectl(fields.kubeconfig, "create", "token", "default").strip(), "a token is issued", 30)
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert (claims["iss"], claims["aud"]) == (ISSUER, [ISSUER, "e2e"])
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {"name": "x"},
              "spec": {"token": token, "audiences": ["e2e"]}}
    answer = json.loads(kubectl(fields.kubeconfig, "create", "-o", "json", "-f", "-", input=json.dumps(review)))
    assert answer["status"]["authenticated"] and answer["status"]["user"]["username"] == "system:serviceaccount:default:default"
    discovery = json.loads(kubectl(fields.kubeconfig, "get", "--raw", "/.well-known/openid-configuration"))
    assert discovery["issuer"] == ISSUER


def test_a_disabled_addon_is_not_installed(fields):
    deployments = kubectl_json(fields.kubeconfig, "get", "deployments", "-n", "kube-system")["items"]
    assert [item["metadata"]["name"] for item in deployments] == ["coredns"]
    services = kubectl_json(fields.kubeconfig, "get", "apiservices")["items"]
    assert not [item for item in services if "metrics" in item["metadata"]["name"]]


def test_private_endpoint_and_another_version(private, classic, other_version, authority, shared, tmp_path):
    task_succeeds(classic, private["task_id"])
    cluster_id = private["cluster_id"]
    detail = wait_state(classic, cluster_id, "running")
    assert detail["current_version"] == other_version
    with pytest.raises(ServerException) as refused:
        classic.call("GET", f"/k8s/{cluster_id}/user_config")
    assert (refused.value.get_http_status(), refused.value.get_error_code()) == (400, "ErrorKubeconfigUnavailable")
    urls = json.loads(detail["master_url"])
    assert not urls.get("api_server_endpoint"), "no public endpoint is shown"
    config = classic.call("GET", f"/k8s/{cluster_id}/user_config", query={"PrivateIpAddress": "true"})["config"]
    server = re.search(r"server: (https://\S+)", config).group(1)
    assert server == urls["intranet_api_server_endpoint"]
    [machine] = [node["instance_id"] for node in classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]]
    address = server.removeprefix("https://").replace(":", "/")
    in_machine(shared, machine, "bash", "-c", f"exec 3<>/dev/tcp/{address}")
    # On Linux the host is in the VPC's bridge network, so kubectl itself can use the private configuration.
    kubeconfig = tmp_path / "private.kubeconfig"
    kubeconfig.write_text(config)
    version = kubectl(kubeconfig, "get", "--raw", "/version", "--tls-server-name=private.example.com")
    assert json.loads(version)["gitVersion"] == f"v{other_version}"
    [node] = kubectl_json(kubeconfig, "get", "nodes")["items"]
    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{other_version}"
    assert proxy_mode_of(shared, machine) == "iptables"
    # Without its key the user's authority signs nothing of the cluster's, but clients that it knows are let in.
    with pytest.raises(ssl.SSLCertVerificationError):
        peer(server, "private.example.com", (authority / "ca.crt").read_text())
    who = kubectl(kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", *client_of(authority))
    assert who == "their-user"
    assert detail["maintenance_window"] | WINDOW == detail["maintenance_window"]


def test_pools_made_with_the_cluster(private, classic, shared, tmp_path):
    task_succeeds(classic, private["task_id"])
    cluster_id = private["cluster_id"]
    pools = classic.call("GET", f"/clusters/{cluster_id}/nodepools")["nodepools"]
    found = [(pool["nodepool_info"], pool["status"]["total_nodes"]) for pool in pools]
    found = sorted((info["name"], info["is_default"], nodes) for info, nodes in found)
    assert found == [("first", True, 1), ("second", False, 0)]
    [machine] = [node["instance_id"] for node in classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]]
    assert in_machine(shared, machine, "cat", "/run/e2e-user-data").strip() == "from-the-user"
    config = classic.call("GET", f"/k8s/{cluster_id}/user_config", query={"PrivateIpAddress": "true"})["config"]
    kubeconfig = tmp_path / "pools.kubeconfig"
    kubeconfig.write_text(config)
    [node] = kubectl_json(kubeconfig, "get", "nodes")["items"]
    assert node["metadata"]["labels"]["tier"] == "web"
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == f"{REGION}-h"
    assert {"key": "of-the", "value": "pool", "effect": "PreferNoSchedule"} in node["spec"]["taints"]
    assert node["spec"]["podCIDR"].endswith("/25"), "the default mask"
