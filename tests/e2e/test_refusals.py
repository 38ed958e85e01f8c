"""Every refusal: code, status and shape, in JSON and XML, and nothing created."""

import base64
import datetime
import hashlib
import hmac
import http.client
import json
import uuid
import xml.etree.ElementTree as ElementTree

import pytest

from clients import Classic, managed_cluster, wait_task


class Raw:
    """Requests signed by hand (HMAC-SHA1), so that each part can be wrong."""

    def __init__(self, access):
        self.endpoint = access["SAMPAN_ENDPOINT"]
        self.key = access["ALIBABA_CLOUD_ACCESS_KEY_ID"]
        self.secret = access["ALIBABA_CLOUD_ACCESS_KEY_SECRET"]

    def send(self, method="GET", path="/clusters", body=b"", accept="application/json", key=None, secret=None, nonce=None,
             date=None, version="2015-12-15", content_type="application/json", headers=None):
        date = date or datetime.datetime.now(datetime.timezone.utc)
        sent = {
            "Accept": accept, "Date": date.strftime("%a, %d %b %Y %H:%M:%S GMT"), "Content-Type": content_type,
            "x-acs-version": version, "x-acs-signature-method": "HMAC-SHA1",
            "x-acs-signature-nonce": nonce or str(uuid.uuid4()), "x-acs-signature-version": "1.0", **(headers or {}),
        }
        canonical = "".join(f"{name}:{sent[name]}\n" for name in sorted(n for n in sent if n.startswith("x-acs-")))
        to_sign = f"{method}\n{accept}\n\n{content_type}\n{sent['Date']}\n{canonical}{path}"
        mac = hmac.new((secret or self.secret).encode(), to_sign.encode(), hashlib.sha1).digest()
        sent["Authorization"] = f"acs {key or self.key}:{base64.b64encode(mac).decode()}"
        connection = http.client.HTTPConnection(self.endpoint, timeout=30)
        try:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def raw(shared):
    return Raw(shared.values)


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """An installation that refuses what the default one makes or replaces, with small quotas."""
    from conftest import make_installation
    config = """
[network]
create_referenced = true
[kubernetes]
unknown_version = "refuse"
[quota]
clusters = 1
nodes_per_cluster = 2
node_pools_per_cluster = 1
"""
    installation = make_installation(config)
    yield installation
    installation.destroy()


def check(answer, status, code, xml=False):
    got, body, headers = answer
    assert headers["x-acs-request-id"]
    if xml:
        root = ElementTree.fromstring(body)
        assert root.tag == "Error" and [child.tag for child in root] == ["RequestId", "HostId", "Code", "Message"]
        assert (got, root.findtext("Code")) == (status, code), body
    else:
        error = json.loads(body)
        assert set(error) == {"RequestId", "HostId", "Code", "Message", "code", "message", "requestId"}
        assert (got, error["Code"], error["code"]) == (status, code, code), body
        assert error["Message"] and error["RequestId"] == headers["x-acs-request-id"] == error["requestId"]


ACCEPT = {False: "application/json", True: "application/xml"}


@pytest.mark.parametrize("xml", [False, True])
class TestProtocol:
    def test_wrong_signature(self, raw, xml):
        answer = raw.send(secret="wrong", accept=ACCEPT[xml])
        check(answer, 403, "SignatureDoesNotMatch", xml)
        assert b"server string to sign is:GET" in answer[1]

    def test_unknown_key(self, raw, xml):
        check(raw.send(key="LTAInobody", accept=ACCEPT[xml]), 404, "InvalidAccessKeyId.NotFound", xml)

    def test_replayed_nonce(self, raw, xml):
        nonce = str(uuid.uuid4())
        assert raw.send("GET", "/quota", b"", nonce=nonce)[0] == 200
        check(raw.send("GET", "/quota", b"", nonce=nonce, accept=ACCEPT[xml]), 400, "SignatureNonceUsed", xml)

    @pytest.mark.parametrize("minutes", [-16, 16])
    def test_skew(self, raw, xml, minutes):
        date = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
        check(raw.send(date=date, accept=ACCEPT[xml]), 400, "InvalidTimeStamp.Expired", xml)

    def test_unknown_path_and_method(self, raw, xml):
        check(raw.send(path="/nothing", accept=ACCEPT[xml]), 404, "InvalidAction.NotFound", xml)
        check(raw.send("DELETE", "/quota", accept=ACCEPT[xml]), 404, "InvalidAction.NotFound", xml)
        check(raw.send("PATCH", "/clusters", accept=ACCEPT[xml]), 404, "InvalidAction.NotFound", xml)

    def test_version_and_action(self, raw, xml):
        check(raw.send(version="2018-01-01", accept=ACCEPT[xml]), 400, "InvalidVersion", xml)
        check(raw.send(headers={"x-acs-action": "DeleteCluster"}, accept=ACCEPT[xml]), 404, "InvalidAction.NotFound", xml)

    def test_bodies(self, raw, xml):
        def post(body, **fields):
            return raw.send("POST", "/clusters", body, accept=ACCEPT[xml], **fields)
        check(post(b"{"), 400, "InvalidParameter", xml)
        check(post(b'{"name": ["a"]}'), 400, "InvalidParameter", xml)
        check(post(b"<a/>", content_type="application/xml"), 415, "UnsupportedMediaType", xml)
        check(post(b" " * (2 << 20)), 413, "RequestBodyTooLarge", xml)
        check(post(b"{}"), 400, "MissingParameter", xml)

    def test_unknown_cluster(self, raw, xml):
        for path in ("/clusters/cnone", "/clusters/cnone/nodes", "/k8s/cnone/user_config", "/clusters/cnone/logs"):
            check(raw.send(path=path, accept=ACCEPT[xml]), 404, "ErrorClusterNotFound", xml)
        check(raw.send("DELETE", "/clusters/cnone", accept=ACCEPT[xml]), 404, "ErrorClusterNotFound", xml)
        check(raw.send(path="/tasks/T-none", accept=ACCEPT[xml]), 404, "ErrorTaskNotFound", xml)


WRONG_FIELDS = [
    ("name", {"name": "_x"}), ("name", {"name": "a" * 64}), ("name", {"name": "a b"}),
    ("container_cidr", {"container_cidr": "172.20.0.0"}), ("container_cidr", {"container_cidr": "8.8.0.0/16"}),
    ("container_cidr", {"container_cidr": "172.20.0.0/28"}),
    ("service_cidr", {"service_cidr": "172.20.0.0/20"}), ("container_cidr", {"container_cidr": "10.200.0.0/13"}),
    ("node_cidr_mask", {"node_cidr_mask": "12"}), ("vswitch_ids", {"vswitch_ids": [f"vsw-{n}" for n in range(6)]}),
    ("proxy_mode", {"proxy_mode": "magic"}), ("cluster_domain", {"cluster_domain": "Not_Valid"}),
    ("custom_san", {"custom_san": "not a name"}), ("timezone", {"timezone": "Mars/Olympus"}),
    ("cluster_spec", {"cluster_spec": "ack.huge"}), ("addons", {"addons": [{"name": "terway-eniip"}]}),
    ("num_of_nodes", {"num_of_nodes": -1}), ("worker_instance_types", {"worker_instance_types": ["t2.micro"]}),
    ("taints", {"taints": [{"key": "a", "value": "b", "effect": "Sometimes"}]}), ("cluster_type", {"cluster_type": "Blob"}),
    ("profile", {"profile": "Edge"}), ("runtime", {"runtime": {"name": "Sandboxed-Container.runv"}}),
    ("snat_entry", {"snat_entry": False, "vpcid": None, "vswitch_ids": None}),
    ("user_ca", {"user_ca": "no PEM"}), ("user_data", {"user_data": "no Base64!"}), ("cpu_policy", {"cpu_policy": "dynamic"}),
    ("service_account_issuer", {"service_account_issuer": "a b"}), ("api_audiences", {"api_audiences": "a b"}),
    ("tags", {"tags": [{"key": "acs:mine", "value": ""}]}), ("timeout_mins", {"timeout_mins": 0}),
    ("worker_data_disks", {"worker_data_disks": [{"category": "cloud_ssd", "size": 1}]}),
    ("worker_period", {"worker_instance_charge_type": "PrePaid", "worker_period_unit": "Month", "worker_period": 13}),
    ("login_password", {"login_password": "weak"}),
    ("os_type", {"os_type": "Windows"}), ("ip_stack", {"ip_stack": "dual"}), ("instances", {"instances": ["i-1"]}),
    ("node_port_range", {"node_port_range": "20000-30000"}), ("auto_mode", {"auto_mode": {"enable": True}}),
    ("access_control_list", {"access_control_list": ["192.0.2.0/24"]}), ("network_mode", {"network_mode": "classic"}),
    ("platform", {"platform": "Windows"}),
]


@pytest.mark.parametrize("field,change", WRONG_FIELDS, ids=[f"{f}-{i}" for i, (f, _) in enumerate(WRONG_FIELDS)])
def test_wrong_fields_are_named_and_nothing_is_made(raw, shared, field, change):
    def ids():
        return {cluster["cluster_id"] for cluster in json.loads(raw.send(path="/clusters")[1])}
    before = ids()
    body = json.dumps({**managed_cluster("refused", vpc="vpc-refused"), **change}).encode()
    for xml in (False, True):
        answer = raw.send("POST", "/clusters", body, accept=ACCEPT[xml])
        check(answer, 400, "InvalidParameter", xml)
        assert field.encode() in answer[1], answer[1]
    assert ids() == before


def test_a_replayed_creation_makes_one_cluster(strict):
    """The nonce of a change is stored with it, and survives a restart."""
    raw = Raw(strict.values)
    body = json.dumps(managed_cluster("once", vpc="vpc-once", nodes=0, deletion_protection=True)).encode()
    nonce, date = str(uuid.uuid4()), datetime.datetime.now(datetime.timezone.utc)
    status, answer, _ = raw.send("POST", "/clusters", body, nonce=nonce, date=date)
    assert status == 202, answer
    created = json.loads(answer)
    check(raw.send("POST", "/clusters", body, nonce=nonce, date=date), 400, "SignatureNonceUsed")
    strict.kill()
    strict.start()
    check(raw.send("POST", "/clusters", body, nonce=nonce, date=date), 400, "SignatureNonceUsed")

    classic = Classic(strict.values)
    assert wait_task(classic, created["task_id"])["state"] == "success"
    cluster_id = created["cluster_id"]
    # Over quota, version, protection, state: each with its code.
    other = json.dumps(managed_cluster("second", vpc="vpc-once2")).encode()
    check(raw.send("POST", "/clusters", other), 400, "QuotaExceeded.Cluster")
    check(raw.send("PUT", f"/clusters/{cluster_id}", b'{"num_of_nodes": 3}'), 400, "QuotaExceeded.Node")
    pool = {"nodepool_info": {"name": "more"}, "scaling_group": {
        "instance_types": ["ecs.g6.large"], "vswitch_ids": ["vsw-vpc-once-1"], "key_pair": "k",
        "instance_charge_type": "PostPaid", "system_disk_category": "cloud_efficiency", "system_disk_size": 40},
        "kubernetes_config": {"runtime": "containerd", "runtime_version": "1.6"}, "count": 0}
    check(raw.send("POST", f"/clusters/{cluster_id}/nodepools", json.dumps(pool).encode()), 400, "QuotaExceeded.NodePool")
    check(raw.send("DELETE", f"/clusters/{cluster_id}"), 403, "DeletionProtected")
    check(raw.send("DELETE", f"/clusters/{cluster_id}", accept="application/xml"), 403, "DeletionProtected", True)
    classic.call("PUT", f"/api/v2/clusters/{cluster_id}", {"deletion_protection": False})


@pytest.mark.parametrize("xml", [False, True])
def test_unknown_version_is_refused_when_told_so(strict, xml):
    body = json.dumps(managed_cluster("old", vpc="vpc-old", kubernetes_version="1.12.6-aliyun.1")).encode()
    answer = Raw(strict.values).send("POST", "/clusters", body, accept=ACCEPT[xml])
    check(answer, 400, "InvalidParameter", xml)
    assert b"kubernetes_version" in answer[1], answer


def test_unsigned_pages_hold_no_secret(shared):
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        connection = http.client.HTTPConnection(shared.values["SAMPAN_ENDPOINT"], timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        assert answer.status == 200 and shared.values["ALIBABA_CLOUD_ACCESS_KEY_SECRET"] not in text
        assert shared.values["ALIBABA_CLOUD_ACCESS_KEY_ID"] not in text
