"""The Kubernetes API walk-through of the 2022 edition (chapter 1), its commands as printed."""

import json
import subprocess

import pytest

from installation import wait_until

POD_JSON = """{
  "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "nginx", "namespace": "default"},
  "spec": {"containers": [{"name": "ngnix", "image": "nginx:alpine", "ports": [{"containerPort": 80}]}]}
}
"""
POD_YAML = """apiVersion: v1
kind: Pod
metadata:
  name: nginx
  namespace: default
spec:
  containers:
  - name: nginx
    image: nginx:alpine
    ports:
    - containerPort: 80
"""
DEPLOYMENT_YAML = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx-deploy
  labels:
    app: nginx
spec:
  replicas: 2
  selector:
    matchLabels:
      app: nginx
  template:
    metadata:
      labels:
        app: nginx
    spec:
      containers:
      - name: nginx
        image:  nginx:alpine
        ports:
        - containerPort: 80
        resources:
          requests:
            cpu: "2"
            memory: "4Gi"
"""
CURL = "curl -sS --cert ./client-cert.pem --key ./client-key.pem -k "
POD = "$APISERVER/api/v1/namespaces/default/pods/nginx"
DEPLOYMENTS = "$APISERVER/apis/apps/v1/namespaces/default/deployments"


@pytest.fixture(scope="module")
def shell(cluster, tmp_path_factory):
    directory = tmp_path_factory.mktemp("walkthrough")
    (directory / "kubeconfig").write_text(cluster.kubeconfig.read_text())
    (directory / "nginx-pod.json").write_text(POD_JSON)
    (directory / "nginx-pod.yaml").write_text(POD_YAML)
    (directory / "nginx-deploy.yaml").write_text(DEPLOYMENT_YAML)

    def run(command):
        server = "APISERVER=`cat  ./kubeconfig |grep server | awk -F ' ' '{print $2}'`\n"
        return subprocess.run(["bash", "-c", server + command], cwd=directory, check=True, capture_output=True, text=True).stdout

    run("cat  ./kubeconfig |grep client-certificate-data | awk -F ' ' '{print $2}' |base64 -d > ./client-cert.pem")
    run("cat  ./kubeconfig |grep client-key-data | awk -F ' ' '{print $2}' |base64 -d > ./client-key.pem")
    return run


def pod_phase(shell):
    return json.loads(shell(CURL + POD))["status"].get("phase")


def delete_pod(shell):
    shell(CURL + POD + " -X DELETE")
    wait_until(lambda: json.loads(shell(CURL + POD)).get("code") == 404, "the pod is gone", 90)


def test_namespaces(shell):
    names = [item["metadata"]["name"] for item in json.loads(shell(CURL + "$APISERVER/api/v1/namespaces"))["items"]]
    assert {"default", "kube-system"} <= set(names)


@pytest.mark.parametrize("create", [
    " --header 'content-type: application/json' -d@nginx-pod.json",
    " --header 'content-type: application/yaml' --data-binary @nginx-pod.yaml",
])
def test_pod(shell, create):
    assert json.loads(shell(CURL + "$APISERVER/api/v1/namespaces/default/pods"))["kind"] == "PodList"
    shell(CURL + "$APISERVER/api/v1/namespaces/default/pods -X POST" + create)
    wait_until(lambda: pod_phase(shell) == "Running", "the pod runs", 60)
    shell(CURL + POD + "/log")
    metrics = "$APISERVER/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/nginx"
    usage = wait_until(
        lambda: json.loads(shell(CURL + metrics)).get("containers"), "metrics.k8s.io has the pod", 120, 1)
    assert "cpu" in usage[0]["usage"]
    delete_pod(shell)


def test_deployment(shell):
    shell(CURL + DEPLOYMENTS + " -X POST --header 'content-type: application/yaml' --data-binary @nginx-deploy.yaml")
    assert "nginx-deploy" in [d["metadata"]["name"] for d in json.loads(shell(CURL + DEPLOYMENTS))["items"]]
    patch = CURL + DEPLOYMENTS + "/nginx-deploy -X PATCH -H 'Content-Type: application/strategic-merge-patch+json' -d "
    assert json.loads(shell(patch + """'{"spec": {"replicas": 4}}'"""))["spec"]["replicas"] == 4
    pods = "$APISERVER/api/v1/namespaces/default/pods?labelSelector=app%3Dnginx"

    def unschedulable():
        items = json.loads(shell(CURL + f'"{pods}"'))["items"]
        conditions = [condition for pod in items for condition in pod["status"].get("conditions", [])]
        return [c for c in conditions if c["type"] == "PodScheduled" and c.get("reason") == "Unschedulable"]

    assert wait_until(unschedulable, "pods beyond the nodes' size stay Pending", 60)
    image = """'{"spec": {"template": {"spec": {"containers": [{"name": "nginx","image": "nginx:1.7.9"}]}}}}'"""
    assert json.loads(shell(patch + image))["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1.7.9"
    small = """'{"spec": {"template": {"spec": {"containers": [{"name": "nginx","resources": {"requests":
        {"cpu": "10m", "memory": "16Mi"}}}]}}}}'"""
    shell(patch + small)
    wait_until(
        lambda: json.loads(shell(CURL + DEPLOYMENTS + "/nginx-deploy"))["status"].get("updatedReplicas") == 4
        and json.loads(shell(CURL + DEPLOYMENTS + "/nginx-deploy"))["status"].get("readyReplicas") == 4,
        "with smaller requests all four become ready", 120)
    shell(CURL + DEPLOYMENTS + "/nginx-deploy -X DELETE")
