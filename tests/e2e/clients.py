"""The official clients as shipped; only endpoint and protocol are set."""

import json

from alibabacloud_cs20151215 import models as cs_models
from alibabacloud_cs20151215.client import Client as CsClient
from alibabacloud_tea_openapi import models as open_api_models
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import RoaRequest

from installation import wait_until

REGION = "cn-beijing"


def modern(access):
    """`alibabacloud-cs20151215`: ACS3-HMAC-SHA256."""
    return CsClient(open_api_models.Config(
        access_key_id=access["ALIBABA_CLOUD_ACCESS_KEY_ID"],
        access_key_secret=access["ALIBABA_CLOUD_ACCESS_KEY_SECRET"],
        endpoint=access["SAMPAN_ENDPOINT"],
        protocol="http",
        region_id=REGION,
    ))


class Classic:
    """`aliyun-python-sdk-core` with ROA requests: HMAC-SHA1."""

    def __init__(self, access, accept="JSON"):
        self.client = AcsClient(
            access["ALIBABA_CLOUD_ACCESS_KEY_ID"], access["ALIBABA_CLOUD_ACCESS_KEY_SECRET"], REGION, timeout=60,
        )
        self.endpoint = access["SAMPAN_ENDPOINT"]
        self.accept = accept

    def request(self, method, path, body=None, query=None):
        request = RoaRequest("CS", "2015-12-15", None)
        request.set_endpoint(self.endpoint)
        request.set_protocol_type("http")
        request.set_method(method)
        request.set_uri_pattern(path)
        request.set_accept_format(self.accept)
        for name, value in (query or {}).items():
            request.add_query_param(name, value)
        if body is not None:
            request.set_content(json.dumps(body).encode())
            request.set_content_type("application/json")
        if self.accept == "XML":
            # do_action_with_exception would ask for JSON whatever is set.
            return self.client.do_action(request)
        return self.client.do_action_with_exception(request)

    def call(self, method, path, body=None, query=None):
        answer = self.request(method, path, body, query)
        return json.loads(answer) if answer else None


def managed_cluster(name, vpc="vpc-e2e", nodes=2, **fields):
    """A body for CreateCluster: catalogue 9.1.2 with the worker fields of the 2019 edition."""
    return {
        "name": name,
        "region_id": REGION,
        "cluster_type": "ManagedKubernetes",
        "vpcid": vpc,
        "vswitch_ids": [f"vsw-{vpc}-1"],
        "container_cidr": "172.20.0.0/16",
        "service_cidr": "172.21.0.0/20",
        "num_of_nodes": nodes,
        "worker_instance_types": ["ecs.g6.large"],
        "worker_system_disk_category": "cloud_efficiency",
        "worker_system_disk_size": 120,
        "login_password": "Hello1234",
        "snat_entry": True,
        **fields,
    }


def wait_task(classic, task_id, timeout=300):
    """Waits until a task has ended; returns it, whatever its end."""
    def ended():
        task = classic.call("GET", f"/tasks/{task_id}")
        return task if task["state"] != "running" else None
    return wait_until(ended, f"task {task_id} ends", timeout)


def task_succeeds(classic, task_id, timeout=300):
    task = wait_task(classic, task_id, timeout)
    assert task["state"] == "success", task
    return task


def wait_state(classic, cluster_id, state, timeout=300):
    def reached():
        cluster = classic.call("GET", f"/clusters/{cluster_id}")
        assert cluster["state"] != "failed" or state == "failed", cluster
        return cluster if cluster["state"] == state else None
    return wait_until(reached, f"cluster {cluster_id} is {state}", timeout)


def reasons(classic, cluster_id):
    """What the cluster's last fifty events are about, the newest first."""
    answer = classic.call("GET", "/events", query={"cluster_id": cluster_id, "page_size": 50})
    return [event["data"]["reason"] for event in answer["events"]]


def wait_gone(classic, cluster_id, timeout=180):
    from aliyunsdkcore.acs_exception.exceptions import ServerException

    def gone():
        try:
            classic.call("GET", f"/clusters/{cluster_id}")
            return False
        except ServerException as error:
            return error.get_http_status() == 404 and error.get_error_code() == "ErrorClusterNotFound"
    wait_until(gone, f"cluster {cluster_id} is gone", timeout)


__all__ = ["CsClient", "Classic", "REGION", "cs_models", "managed_cluster", "modern", "reasons", "task_succeeds", "wait_gone",
           "wait_state", "wait_task"]
