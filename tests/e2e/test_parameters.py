"""Parameters of the control plane: in force, or taken back with the reason."""

import json
import subprocess

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcs.request.v20151215.ModifyClusterConfigurationRequest import ModifyClusterConfigurationRequest

from clients import wait_state, wait_task
from installation import kubectl
from test_cluster import control_plane_container


def configure(classic, cluster_id, component, **values):
    """The official older SDK has this operation."""
    request = ModifyClusterConfigurationRequest()
    request.set_ClusterId(cluster_id)
    request.set_endpoint(classic.endpoint)
    request.set_protocol_type("http")
    configs = [{"key": key, "value": value} for key, value in values.items()]
    request.set_content(json.dumps({"customize_config": [{"name": component, "configs": configs}]}).encode())
    request.set_content_type("application/json")
    return json.loads(classic.client.do_action_with_exception(request))


def command_line(cluster, shared, process):
    name = control_plane_container(cluster, shared)
    script = f"tr '\\0' ' ' < /proc/$(pgrep -f '^/opt/.*/{process} ' | head -1)/cmdline"
    return subprocess.run(["docker", "exec", name, "sh", "-c", script], check=True, capture_output=True, text=True).stdout


def test_a_parameter_takes_effect(cluster, classic, shared):
    answer = configure(classic, cluster.id, "kube-apiserver", MaxRequestsInflight="123", **{"event-ttl": "30m"})
    task = wait_task(classic, answer["task_id"])
    assert task["state"] == "success", task
    wait_state(classic, cluster.id, "running")
    line = command_line(cluster, shared, "kube-apiserver")
    assert "--max-requests-inflight=123" in line and "--event-ttl=30m" in line
    answer = configure(classic, cluster.id, "kube-apiserver", MaxRequestsInflight="", **{"event-ttl": ""})
    assert wait_task(classic, answer["task_id"])["state"] == "success"
    assert "max-requests-inflight" not in command_line(cluster, shared, "kube-apiserver")
    assert kubectl(cluster.kubeconfig, "get", "--raw", "/readyz") == "ok"


def test_a_parameter_that_does_no_good_is_taken_back(cluster, classic, shared):
    answer = configure(classic, cluster.id, "kube-apiserver", FeatureGates="NoSuchFeatureAtAll=true")
    task = wait_task(classic, answer["task_id"])
    assert task["state"] == "fail" and "NoSuchFeatureAtAll" in task["error"]["message"], task
    wait_state(classic, cluster.id, "running")
    assert "NoSuchFeatureAtAll" not in command_line(cluster, shared, "kube-apiserver")
    assert kubectl(cluster.kubeconfig, "get", "--raw", "/readyz") == "ok"
    events = classic.call("GET", "/events", query={"cluster_id": cluster.id})["events"]
    assert "ParametersRolledBack" in {event["data"]["reason"] for event in events}


@pytest.mark.parametrize("component, key, value", [
    ("etcd", "quota-backend-bytes", "1"),
    ("kube-apiserver", "anonymous-auth", "true"),
    ("kube-apiserver", "MaxRequestsInflight", "many"),
    ("kube-scheduler", "event-ttl", "1h"),
])
def test_parameters_that_may_not_be_set(cluster, classic, component, key, value):
    with pytest.raises(ServerException) as error:
        configure(classic, cluster.id, component, **{key: value})
    assert error.value.get_error_code() == "InvalidParameter"
