"""What a running cluster is: pods that reach each other, names, logs, exec, metrics, webhooks, and its own security."""

import base64
import datetime
import json
import re
import socket
import ssl
import subprocess
import urllib.request

import pytest

from installation import BINARY, KUBECTL, free_port, kubectl, kubectl_json, wait_until


def bundled(name):
    """The full name of an image of the bundle."""
    index = json.loads((BINARY.parent / "sampan-bundle/images/index.json").read_text())
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]
    return next(full for full in names if f"/{name}:" in full)


def apply(cluster, *objects):
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl(cluster.kubeconfig, "apply", "-f", "-", input=items)


def pod(name, node=None, image="busybox", command=("sleep", "3600"), labels=None, **spec):
    container = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"}
    if command:
        container["command"] = list(command)
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0,
                 **({"nodeName": node} if node else {}), **spec},
    }


def service(name, port=80, **selector):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": selector, "ports": [{"port": port}]}}


def wait_ready(cluster, *pods):
    kubectl(cluster.kubeconfig, "wait", "--for=condition=Ready", "--timeout=90s", *(f"pod/{name}" for name in pods))


@pytest.fixture(scope="module")
def pods(cluster):
    """A web server and a shell on each of the two nodes."""
    nodes = [node["node_name"] for node in cluster.nodes()]
    objects, names = [], []
    for index, node in enumerate(nodes):
        objects += [pod(f"web-{index}", node, "nginx:alpine", None), pod(f"shell-{index}", node),
                    service(f"web-{index}", app=f"web-{index}")]
        names += [f"web-{index}", f"shell-{index}"]
    apply(cluster, *objects)
    wait_ready(cluster, *names)
    yield nodes
    kubectl(cluster.kubeconfig, "delete", "pod", "--now", *names)
    kubectl(cluster.kubeconfig, "delete", "service", *(f"web-{index}" for index in range(len(nodes))))


def in_pod(cluster, name, *command):
    return kubectl(cluster.kubeconfig, "exec", name, "--", *command)


def test_pods_reach_each_other_and_services_by_name(cluster, pods):
    address = {name: kubectl(cluster.kubeconfig, "get", "pod", name, "-o", "jsonpath={.status.podIP}")
               for name in ("web-0", "web-1", "shell-0")}
    for shell in ("shell-0", "shell-1"):
        for web in ("web-0", "web-1"):
            assert "nginx" in in_pod(cluster, shell, "wget", "-qO-", f"http://{address[web]}/").lower()
            # kube-proxy learns of a service a moment after its pods are ready.
            name = f"http://{web}.default.svc.cluster.local/"
            wait_until(lambda: "nginx" in in_pod(cluster, shell, "wget", "-qO-", name).lower(), f"{name} from {shell}", 30)
    # The source address survives between nodes: nothing masquerades inside the pod network.
    wait_until(lambda: address["shell-0"] in kubectl(cluster.kubeconfig, "logs", "web-1"), "web-1 logs shell-0's address", 30)


def test_logs_exec_top_and_port_forward(cluster, pods):
    assert "hello" in in_pod(cluster, "shell-0", "echo", "hello")
    assert "GET /" in kubectl(cluster.kubeconfig, "logs", "web-0")
    wait_until(lambda: "web-0" in kubectl(cluster.kubeconfig, "top", "pod"), "kubectl top shows the pod", 120, 2)
    assert len(kubectl(cluster.kubeconfig, "top", "node", "--no-headers").splitlines()) == 2
    port = free_port()
    forward = subprocess.Popen(
        [KUBECTL, "--kubeconfig", cluster.kubeconfig, "port-forward", "pod/web-1", f"{port}:80"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def page():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return answer.status == 200
        wait_until(page, "the forwarded port answers", 30)
    finally:
        forward.terminate()
        forward.wait()


def test_a_webhook_in_a_pod_is_called(cluster, tmp_path):
    """The API server reaches pods, although its machine is no node."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=hook-ca")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=hook")
    (tmp_path / "names").write_text("subjectAltName=DNS:hook.default.svc")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tls.crt",
            "-extfile", "names")
    data = {name: base64.b64encode((tmp_path / name).read_bytes()).decode() for name in ("tls.crt", "tls.key")}
    hook = pod("hook", image=bundled("agnhost"), command=None, volumes=[{"name": "tls", "secret": {"secretName": "hook"}}])
    container = hook["spec"]["containers"][0]
    container["args"] = ["webhook", "--tls-cert-file=/tls/tls.crt", "--tls-private-key-file=/tls/tls.key", "--port=8443"]
    container["volumeMounts"] = [{"name": "tls", "mountPath": "/tls"}]
    container["readinessProbe"] = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
    apply(cluster, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "data": data}, hook,
          service("hook", port=8443, app="hook"))
    wait_ready(cluster, "hook")
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hook"}, "webhooks": [{
            "name": "deny.hook.test", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            "objectSelector": {"matchLabels": {"hook": "on"}},
            "clientConfig": {"service": {"name": "hook", "namespace": "default", "port": 8443, "path": "/always-deny"},
                             "caBundle": base64.b64encode((tmp_path / "ca.crt").read_bytes()).decode()},
        }]}
    try:
        apply(cluster, configuration)
        config_map = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": {"hook": "on"}}})

        def denied():
            done = kubectl(cluster.kubeconfig, "create", "--dry-run=server", "-f", "-", check=False, input=config_map)
            return "denied the request" in done.stderr and done.stderr
        assert "deny.hook.test" in wait_until(denied, "the webhook denies", 30)
    finally:
        kubectl(cluster.kubeconfig, "delete", "validatingwebhookconfiguration/hook", "pod/hook", "service/hook",
                "secret/hook", "--ignore-not-found", "--now")


def control_plane_container(cluster, shared):
    label = f"label=io.sampan.owner={shared.installation_id()}"
    listed = subprocess.run(
        ["docker", "ps", "--filter", label, "--filter", f"label=io.sampan.cluster={cluster.id}", "--format", "{{.Names}}"],
        check=True, capture_output=True, text=True).stdout.split()
    workers = {node["instance_id"] for node in cluster.nodes()}
    [name] = [name for name in listed if not any(name.endswith(worker) for worker in workers)]
    return name


def test_secrets_are_encrypted_in_etcd(cluster, shared):
    kubectl(cluster.kubeconfig, "create", "secret", "generic", "hidden", "--from-literal=word=abracadabra-in-etcd")
    try:
        name = control_plane_container(cluster, shared)

        def files_with(text):
            # Not by its exit status: a file may go while it is read.
            search = ["docker", "exec", name, "grep", "-rls", text, "/var/lib/etcd"]
            return subprocess.run(search, capture_output=True, text=True).stdout.split()
        assert files_with("/registry/secrets/default/hidden"), "the secret itself is on etcd's disk"
        assert not files_with("abracadabra-in-etcd"), "its text is not"
    finally:
        kubectl(cluster.kubeconfig, "delete", "secret", "hidden")


def test_kubelets_serve_with_certificates_of_the_cluster(cluster):
    """`kubectl logs` verifies them; here a client that trusts only the cluster's CA does."""
    config = json.loads(kubectl(cluster.kubeconfig, "config", "view", "--raw", "-o", "json"))
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    for node in cluster.nodes():
        ip = node["ip_address"][0]
        with socket.create_connection((ip, 10250), timeout=5) as raw:
            with context.wrap_socket(raw, server_hostname=ip) as secure:
                assert secure.version() in ("TLSv1.2", "TLSv1.3")


def test_node_authoriser_and_restriction(cluster):
    """A kubelet sees only what is its own, and may not give itself labels that others rely on."""
    nodes = [node["node_name"] for node in cluster.nodes()]
    user = ["--as", f"system:node:{nodes[0]}", "--as-group", "system:nodes"]
    for what in (["node", nodes[1]], ["secrets", "-A"]):
        refused = kubectl(cluster.kubeconfig, "get", *what, *user, check=False)
        assert refused.returncode != 0 and "forbidden" in refused.stderr.lower(), refused
    label = "node-restriction.kubernetes.io/trusted=yes"
    restricted = kubectl(cluster.kubeconfig, "label", "node", nodes[0], label, *user, check=False)
    assert restricted.returncode != 0 and "is not allowed to modify labels" in restricted.stderr, restricted


def test_nodes_carry_the_names_and_labels_of_the_api(cluster):
    for node in kubectl_json(cluster.kubeconfig, "get", "nodes")["items"]:
        name = node["metadata"]["name"]
        assert re.fullmatch(r"cn-beijing\.\d+\.\d+\.\d+\.\d+", name)
        [known] = [item for item in cluster.nodes() if item["node_name"] == name]
        assert node["spec"]["providerID"] == f"cn-beijing.{known['instance_id']}"
        assert node["metadata"]["labels"]["alibabacloud.com/nodepool-id"] == known["nodepool_id"]
        assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "ecs.g6.large"
        assert node["spec"]["podCIDR"].startswith("172.20.")


def test_a_temporary_kubeconfig_expires(cluster, classic):
    answer = classic.call("GET", f"/k8s/{cluster.id}/user_config", query={"TemporaryDurationMinutes": "15"})
    certificate = re.search(r"client-certificate-data: (\S+)", answer["config"]).group(1)
    shown = subprocess.run(["openssl", "x509", "-noout", "-enddate"], input=base64.b64decode(certificate),
                           check=True, capture_output=True).stdout.decode()
    end = subprocess.run(["date", "-u", "-d", shown.strip().removeprefix("notAfter="), "+%Y-%m-%dT%H:%M:%SZ"],
                         check=True, capture_output=True, text=True).stdout.strip()
    assert end == answer["expiration"]
    left = datetime.datetime.fromisoformat(end) - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(minutes=10) < left <= datetime.timedelta(minutes=15)
    internal = classic.call("GET", f"/k8s/{cluster.id}/user_config", query={"PrivateIpAddress": "true"})["config"]
    assert re.search(r"server: https://10\.2\d\d\.\d+\.\d+:6443", internal)


def test_the_internal_endpoint_answers_inside_the_vpc(cluster, shared):
    vip = json.loads(cluster.detail["master_url"])["intranet_api_server_endpoint"]
    node = cluster.nodes()[0]["instance_id"]
    name = f"sampan-{shared.installation_id()}-{node}"
    code = subprocess.run(
        ["docker", "exec", name, "bash", "-c", f"exec 3<>/dev/tcp/{vip.split('//')[1].replace(':', '/')} && echo open"],
        check=True, capture_output=True, text=True).stdout
    assert code.strip() == "open"
