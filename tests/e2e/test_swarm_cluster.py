"""The ten commands of the Swarm guide's chapter 2, and its samples against the cluster's own endpoint."""

import json
import pathlib
import re
import subprocess

import pytest
import requests
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import task_succeeds, wait_gone, wait_state
from swarm import SwarmCluster, swarm_cluster

HERE = pathlib.Path(__file__).parent
FIELDS = {"agent_version", "cluster_id", "created", "external_loadbalancer_id", "master_url", "name", "network_mode",
          "region_id", "security_group_id", "size", "state", "updated", "vpc_id", "vswitch_id"}


def by_command(installation):
    """`sampan cs`, which behaves as `aliyun cs`."""
    def call(method, path, body=None):
        arguments = ["cs", method, path]
        if body is not None:
            arguments += ["--header", "Content-Type=application/json", "--body", json.dumps(body)]
        output = installation.cli(*arguments).stdout
        return json.loads(output) if output.strip() else None
    return call


def by_sdk(classic):
    """`aliyun-python-sdk-core`."""
    def call(method, path, body=None):
        path, _, query = path.partition("?")
        pairs = dict(pair.split("=") for pair in query.split("&")) if query else None
        return classic.call(method, path, body, pairs)
    return call


@pytest.mark.parametrize("client", ["command", "sdk"])
def test_the_ten_commands(client, shared, classic):
    call = by_command(shared) if client == "command" else by_sdk(classic)
    vpc = f"vpc-ten-{client}"
    # 2.4 create
    created = call("POST", "/clusters", swarm_cluster(f"ten-{client}", size=2, vpc=vpc))
    assert re.fullmatch(r"c[0-9a-f]{32}", created["cluster_id"]) and created["task_id"].startswith("T-")
    assert created["request_id"]
    cluster_id = created["cluster_id"]
    task_succeeds(classic, created["task_id"])
    # 2.2 list, 2.3 view
    listed = next(item for item in call("GET", "/clusters") if item["cluster_id"] == cluster_id)
    viewed = call("GET", f"/clusters/{cluster_id}")
    assert FIELDS <= listed.keys() and FIELDS <= viewed.keys()
    assert viewed["state"] == "running" and viewed["size"] == 2 and viewed["network_mode"] == "vpc"
    assert re.fullmatch(r"https://127\.0\.0\.1:\d+", viewed["master_url"]) and viewed["vpc_id"] == vpc
    # 2.8 images
    images = call("GET", "/images")
    assert images and all({"text", "value"} <= image.keys() for region in images.values() for image in region["items"])
    image = next(iter(images.values()))["items"][0]["value"]
    # 2.5 expand: the size is the new total
    body = {"password": "TestPwd124", "instance_type": "ecs.n1.small", "size": 3, "ecs_image_id": image}
    scaled = call("PUT", f"/clusters/{cluster_id}", body)
    task_succeeds(classic, scaled["task_id"])
    assert wait_state(classic, cluster_id, "running")["size"] == 3
    # 2.6 attach an existing instance
    machine = json.loads(shared.cli("machine", "create", "--vpc", vpc, "-o", "json").stdout)["instance_ids"][0]
    body = {"password": "TestPwd124", "instances": [machine], "ecs_image_id": image}
    attached = call("POST", f"/clusters/{cluster_id}/attach", body)
    assert [(item["code"], item["instanceId"]) for item in attached["list"]] == [("200", machine)]
    task_succeeds(classic, attached["task_id"])
    nodes = classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]
    assert len(nodes) == 4 and machine in {node["instance_id"] for node in nodes}
    # 2.9 reset
    node = next(node for node in nodes if node["instance_id"] == machine)
    body = {"password": "TestPwd124", "ecs_image_id": image}
    reset = call("POST", f"/clusters/{cluster_id}/instances/{machine}/reset", body)
    task_succeeds(classic, reset["task_id"])
    again = classic.call("GET", f"/clusters/{cluster_id}/nodes")["nodes"]
    assert {item["instance_id"] for item in again} == {item["instance_id"] for item in nodes}
    # 2.7 remove by address
    address = node["ip_address"][0] if isinstance(node["ip_address"], list) else node["ip_address"]
    call("DELETE", f"/clusters/{cluster_id}/ip/{address}?releaseInstance=true")
    assert wait_state(classic, cluster_id, "running")["size"] == 3
    # 2.11 certificates
    certs = call("GET", f"/clusters/{cluster_id}/certs")
    assert certs["ca"].startswith("-----BEGIN CERTIFICATE-----") and certs["cert"].startswith("-----BEGIN CERTIFICATE")
    assert certs["key"].startswith("-----BEGIN RSA PRIVATE KEY-----")
    # 2.10 delete
    call("DELETE", f"/clusters/{cluster_id}")
    wait_gone(classic, cluster_id)


def test_the_guides_curl_sample(swarm):
    certs = swarm.certs
    done = subprocess.run(["curl", "--insecure", "--cert", f"{certs}/cert.pem", "--key", f"{certs}/key.pem",
                           f"{swarm.url}/projects/"], capture_output=True, text=True, check=True)
    assert isinstance(json.loads(done.stdout), list)


def test_the_guides_java_sample(swarm, tmp_path):
    """As printed, but for the address and the paths; it verifies the host name and reads a traditional RSA key."""
    source = (HERE / "swarm_guide" / "Test.java").read_text()
    source = source.replace("https://123.123.123.123:1234", swarm.url)
    source = source.replace("~/.docker/aliyun/ClusterName", str(swarm.certs))
    (tmp_path / "Test.java").write_text(source)
    jars = "/usr/share/java"
    names = ["httpclient", "httpcore", "commons-logging", "commons-codec", "bcpkix", "bcprov", "bcutil"]
    path = ":".join([*(f"{jars}/{name}.jar" for name in names), "."])
    subprocess.run(["javac", "-cp", path, "Test.java"], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(["java", "-cp", path, "Test"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line, body = done.stdout.strip().splitlines()
    assert line == "-" * 40 and isinstance(json.loads(body), list)


def openssl(*arguments, directory):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def test_other_certificates_get_nothing(swarm, classic, tmp_path, own):
    """None, one of another authority, one of another cluster, an expired one of an authority of the same name."""
    def attempt(cert):
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(f"{swarm.url}/info", verify=str(swarm.certs / "ca.pem"), cert=cert, timeout=10)
        except requests.exceptions.SSLError:
            return "refused"
        except requests.exceptions.ConnectionError:
            return "refused"
        return answer.text
    assert attempt(None) == "refused"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "own.key", "-out", "own.pem", "-days", "1",
            "-subj", "/CN=foreign", directory=tmp_path)
    assert attempt((str(tmp_path / "own.pem"), str(tmp_path / "own.key"))) == "refused"
    subject = subprocess.run(["openssl", "x509", "-noout", "-subject", "-nameopt", "compat", "-in", swarm.certs / "ca.pem"],
                             capture_output=True, text=True, check=True).stdout.split("=", 1)[1].strip()
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
            "-subj", f"/{subject.lstrip('/')}", directory=tmp_path)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=user",
            directory=tmp_path)
    openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            "leaf.pem", "-days", "-1", directory=tmp_path)
    assert attempt((str(tmp_path / "leaf.pem"), str(tmp_path / "leaf.key"))) == "refused"
    assert "Containers" in attempt((str(swarm.certs / "cert.pem"), str(swarm.certs / "key.pem")))


def refused(classic, method, path, body, code, status=400):
    with pytest.raises(ServerException) as caught:
        classic.call(method, path, body)
    assert (caught.value.get_error_code(), caught.value.get_http_status()) == (code, status), caught.value
    return caught.value.get_error_msg()


@pytest.mark.parametrize("field, value, code", [
    ("name", "", "MissingParameter"),
    ("name", "no spaces", "InvalidParameter"),
    ("size", 0, "InvalidParameter"),
    ("size", "many", "InvalidParameter"),
    ("instance_type", "ecs.none", "InvalidParameter"),
    ("network_mode", "classic", "InvalidParameter"),
    ("subnet_cidr", "172.28.1.0", "InvalidParameter"),
    ("subnet_cidr", "172.28.1.0/30", "InvalidParameter"),
    ("password", "short", "InvalidParameter"),
    ("ecs_image_id", "windows_95", "InvalidParameter"),
    ("io_optimized", "perhaps", "InvalidParameter"),
    ("data_disk_size", -1, "InvalidParameter"),
])
def test_bad_bodies_leave_nothing(classic, field, value, code):
    def ids():
        return {cluster["cluster_id"] for cluster in classic.call("GET", "/clusters")}
    before = ids()
    message = refused(classic, "POST", "/clusters", {**swarm_cluster("bad"), field: value}, code)
    assert field in message
    assert ids() == before


def test_what_belongs_to_the_other_edition_is_refused(swarm, classic, cluster):
    for method, path, body in [
        ("GET", f"/k8s/{swarm.id}/user_config", None),
        ("POST", f"/clusters/{swarm.id}/nodepools", {"nodepool_info": {"name": "x"}}),
    ]:
        with pytest.raises(ServerException) as caught:
            classic.call(method, path, body)
        assert caught.value.get_http_status() == 400, caught.value
    refused(classic, "PUT", f"/clusters/{swarm.id}", {"size": 3, "password": "TestPwd124"}, "InvalidParameter")
    with pytest.raises(ServerException):
        classic.call("POST", f"/clusters/{cluster.id}/instances/i-x/reset", {"password": "TestPwd124"})


def test_the_endpoint_lives_while_the_server_is_stopped(own, tmp_path):
    from clients import Classic

    installation = own()
    cluster = SwarmCluster(Classic(installation.values), tmp_path, "alone", size=1, vpc="vpc-alone")
    installation.stop()
    assert cluster.docker("run", "--rm", "busybox", "echo", "still here") == "still here"
    cluster.deploy("app", "web:\n  image: nginx:alpine\n")
    assert cluster.project("app")["current_state"] == "running"
    installation.start()
    assert cluster.classic.call("GET", f"/clusters/{cluster.id}")["state"] == "running"
    assert cluster.project("app")["current_state"] == "running"
    cluster.delete()
    assert not [line for line in installation.docker_leftovers() if line.startswith("volume")]
