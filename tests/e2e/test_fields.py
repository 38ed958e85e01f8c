"""Fields of CreateCluster that the control plane shows: certificates, tokens, networks, events. No nodes are needed."""

import base64
import json
import pathlib
import re
import socket
import ssl
import subprocess

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import managed_cluster, task_succeeds, wait_gone, wait_state
from conftest import Cluster
from installation import BINARY, kubectl, kubectl_json, wait_until

ISSUER = "https://issuer.example.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """An RSA authority of the user's."""
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
def private(classic, other_version):
    """A cluster without a public endpoint, of another minor."""
    minor = other_version.rsplit(".", 1)[0]
    body = managed_cluster("private", vpc="vpc-private", nodes=0, endpoint_public_access=False, kubernetes_version=minor)
    created = classic.call("POST", "/clusters", body)
    yield created
    classic.request("DELETE", f"/clusters/{created['cluster_id']}")
    wait_gone(classic, created["cluster_id"])


@pytest.fixture(scope="module")
def fields(classic, tmp_path_factory, authority, private):
    """A cluster with many fields; it starts while the private one does."""
    cluster = Cluster(
        classic, tmp_path_factory.mktemp("fields"), "fields", vpc="vpc-fields", nodes=0,
        container_cidr="172.29.0.0/16", service_cidr="172.30.16.0/20", node_cidr_mask="26",
        user_ca=(authority / "ca.crt").read_text() + (authority / "ca.key").read_text(),
        taints=[{"key": "dedicated", "value": "e2e", "effect": "NoSchedule"}],
        timezone="Asia/Shanghai", service_account_issuer=ISSUER, api_audiences=f"{ISSUER},e2e",
        custom_san="fields.example.com,192.0.2.7", cluster_domain="corp.local",
        tags=[{"key": "team", "value": "fields"}], proxy_mode="ipvs", deletion_protection=True, runtime={"name": "docker"},
        addons=[{"name": "metrics-server", "disabled": True}], worker_instance_types=["ecs.c6.large"],
        cpu_policy="static", user_data=base64.b64encode(b"#!/bin/sh\necho from-the-user > /run/e2e-user-data\n").decode(),
    )
    yield cluster
    with pytest.raises(ServerException) as refused:
        classic.request("DELETE", f"/clusters/{cluster.id}")
    assert (refused.value.get_http_status(), refused.value.get_error_code()) == (403, "DeletionProtected")
    classic.call("PUT", f"/api/v2/clusters/{cluster.id}", {"deletion_protection": False})
    cluster.delete()


def event_of(cluster, reason):
    events = cluster.classic.call("GET", "/events", query={"cluster_id": cluster.id, "page_size": 100})["events"]
    found = [event["data"] for event in events if event["data"]["reason"] == reason]
    assert found, (reason, [event["data"]["reason"] for event in events])
    return found[0]["message"]


def test_user_ca_and_custom_san(fields, authority):
    """Only the user's authority is trusted, and the names asked for are in the certificate that it signed."""
    config = json.loads(kubectl(fields.kubeconfig, "config", "view", "--raw", "-o", "json"))
    given = (authority / "ca.crt").read_text()
    assert base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode().strip() == given.strip()
    host, port = config["clusters"][0]["cluster"]["server"].removeprefix("https://").split(":")
    context = ssl.create_default_context(cadata=given)
    for name in ("fields.example.com", "192.0.2.7", "127.0.0.1"):
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            with context.wrap_socket(raw, server_hostname=name) as secure:
                issuer = {part[0][0]: part[0][1] for part in secure.getpeercert()["issuer"]}
                assert issuer["commonName"] == "authority of the user"
    client = base64.b64decode(config["users"][0]["user"]["client-certificate-data"])
    (authority / "client.crt").write_bytes(client)
    done = subprocess.run(["openssl", "verify", "-CAfile", "ca.crt", "client.crt"], cwd=authority, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert fields.classic.call("GET", f"/clusters/{fields.id}").get("user_ca") is None, "the key is never returned"


def test_networks_and_tags(fields):
    assert kubectl_json(fields.kubeconfig, "get", "service", "kubernetes")["spec"]["clusterIP"] == "172.30.16.1"
    detail = fields.classic.call("GET", f"/clusters/{fields.id}")
    assert {"key": "team", "value": "fields"} in [{"key": tag["key"], "value": tag["value"]} for tag in detail["tags"]]


def test_what_cannot_be_is_said(fields):
    assert "containerd" in event_of(fields, "RuntimeReplaced")
    # Where the kernel has IPVS nothing is replaced, and nothing is said.
    if not pathlib.Path("/proc/net/ip_vs").exists():
        assert "no IPVS" in event_of(fields, "ProxyModeReplaced")


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


def test_private_endpoint_and_another_version(private, classic, other_version, tmp_path):
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
    # On Linux the host is in the VPC's bridge network, so kubectl itself can use the private configuration.
    kubeconfig = tmp_path / "private.kubeconfig"
    kubeconfig.write_text(config)
    assert json.loads(kubectl(kubeconfig, "get", "--raw", "/version"))["gitVersion"] == f"v{other_version}"
