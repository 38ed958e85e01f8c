"""Triggers by curl, a push that redeploys, and the monitoring integration with an alert that scales."""

import json
import subprocess

import pytest
import requests

from installation import wait_until
from swarm import debian_image

SHOP = "web:\n  image: nginx:alpine\n  labels:\n    aliyun.scale: '1'\n"


@pytest.fixture
def shop(swarm):
    swarm.deploy("shop", SHOP)
    yield "shop"
    swarm.remove("shop")


def make(swarm, **fields):
    body = {"cluster_id": swarm.id, "project_id": "default/shop", "action": "redeploy", "type": "application", **fields}
    return swarm.classic.call("POST", f"/clusters/{swarm.id}/triggers", body)


def curl(*arguments):
    done = subprocess.run(["curl", "-s", "-o", "-", "-w", "\n%{http_code}", *arguments], capture_output=True, text=True, check=True)
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), body


def ids(swarm, name="shop"):
    return {key for service in swarm.project(name)["services"] for key in service["containers"]}


def test_redeploy_and_scaling_by_curl(swarm, shop, shared):
    trigger = make(swarm)
    assert len(trigger["secret"]) == 64
    before = ids(swarm)
    status, body = curl(trigger["trigger_url"])
    assert status == 200, body
    wait_until(lambda: ids(swarm) and not ids(swarm) & before, "deployed again", 90)
    swarm.settled("shop")

    scaling = make(swarm, action="scaling", service="web")
    # As the guide prints it: a surplus `=` and an empty parameter between two `&`.
    link = f"{shared.url}/hook/trigger?triggerUrl={scaling['token'].rstrip('=')}=&secret={scaling['secret']}&&type=scale_out&step=2"
    assert curl(link)[0] == 200
    wait_until(lambda: len(swarm.containers("shop")) == 3, "scaled out", 60)
    assert curl("-X", "POST", "-d", '{"id": "cpu_alert"}', link.replace("scale_out&step=2", "scale_in&step=1"))[0] == 200
    wait_until(lambda: len(swarm.containers("shop")) == 2, "scaled in", 60)
    for wrong, expected in [(link.replace("step=2", "step=101"), 400), (link.replace("scale_out", "sideways"), 400),
                            (link.replace(scaling["secret"], "0" * 64), 403), (f"{shared.url}/hook/trigger", 400)]:
        assert curl(wrong)[0] == expected, wrong
    path = f"/clusters/{swarm.id}/triggers"
    listed = swarm.classic.call("GET", path, query={"Namespace": "default", "Name": "shop"})
    assert {item["id"] for item in listed} == {trigger["id"], scaling["id"]}
    assert [item["action"] for item in swarm.classic.call("GET", path, query={"action": "scaling"})] == ["scaling"]
    for item in listed:
        swarm.classic.request("DELETE", f"{path}/{item['id']}")
    assert curl(trigger["trigger_url"])[0] == 403


def test_friendly_trigger_commands(swarm, shop, shared):
    shown = json.loads(shared.cli("trigger", "create", "harbour", "shop", "scaling", "--service", "web", "-o", "json").stdout)
    assert shown["id"] in shared.cli("trigger", "list", "harbour", "shop").stdout
    shared.cli("trigger", "delete", "harbour", shown["id"])
    assert shown["id"] not in shared.cli("trigger", "list", "harbour").stdout


def test_a_push_deploys_the_application_again(swarm):
    registry = swarm.classic.call("GET", f"/clusters/{swarm.id}")["registry"]
    reference = f"{registry}/e2e/pushed:latest"

    def push(word):
        debian_image(reference, ["busybox-static"], ['CMD ["/bin/busybox", "sh", "-c", "while true; do /bin/busybox sleep 1; done"]'],
                     extra=[("/word", word)])
        try:
            subprocess.run(["docker", "push", reference], check=True, capture_output=True)
        finally:
            subprocess.run(["docker", "rmi", reference], capture_output=True)
    push("first")
    swarm.deploy("shop", f"web:\n  image: {reference}\n")
    try:
        make(swarm, image_update=True)
        assert swarm.docker("exec", "shop_web_1", "/bin/busybox", "cat", "/word") == "first"
        push("second")
        def new():
            done = swarm.docker("exec", "shop_web_1", "/bin/busybox", "cat", "/word", check=False)
            return done.stdout.strip() == "second"
        wait_until(new, "the pushed image runs", 120)
    finally:
        swarm.remove("shop")


INFLUX = """
version: '2'
services:
  influxdb:
    image: {image}
    container_name: influxdb
    ports: ['8086:8086']
    labels:
      aliyun.monitoring.addon.influxdb: "http://influxdb:8086"
"""


def test_metrics_reach_influxdb_and_an_alert_scales(swarm):
    registry = swarm.classic.call("GET", f"/clusters/{swarm.id}")["registry"]
    image = f"{registry}/e2e/influxdb:1.6"
    debian_image(image, ["influxdb", "libc6", "busybox-static"], ['CMD ["/usr/bin/influxd", "-config", "/etc/influxdb/influxdb.conf"]'],
                 extra=[("/etc/influxdb/influxdb.conf", INFLUX_CONFIG)])
    subprocess.run(["docker", "push", image], check=True, capture_output=True)
    subprocess.run(["docker", "rmi", image], capture_output=True)
    swarm.deploy("monitor", INFLUX.format(image=image))
    swarm.deploy("shop", "web:\n  image: busybox\n  command: sh -c 'while true; do :; done'\n")
    try:
        node = swarm.containers("monitor")["influxdb"]["node"]

        def query(text):
            answer = requests.get(f"http://{node}:8086/query", params={"db": "telegraf", "q": text}, timeout=10).json()
            series = answer["results"][0].get("series", [])
            return [dict(zip(entry["columns"], row)) for entry in series for row in entry["values"]]
        where = f"\"aliyun.cluster\" = '{swarm.id}' AND \"aliyun.service.id\" = 'shop_web'"
        rows = wait_until(lambda: query(f"SELECT usage_percent FROM docker_container_cpu WHERE {where}"), "CPU is measured", 90)
        assert rows[-1]["usage_percent"] is not None
        measurements = {row["name"] for row in query("SHOW MEASUREMENTS")}
        assert {"docker_container_cpu", "docker_container_mem", "docker_container_net", "docker_container_blkio"} <= measurements

        # What Kapacitor does with the guide's rule: above 70 percent it posts to the scaling trigger.
        trigger = make(swarm, action="scaling", service="web")
        def alert():
            hot = query(f"SELECT last(usage_percent) AS used FROM docker_container_cpu WHERE {where}")
            return hot and hot[-1]["used"] > 30
        wait_until(alert, "the alert", 90)
        answer = requests.post(f"{trigger['trigger_url']}&&type=scale_out&step=2", json={"id": "cpu_alert", "level": "CRITICAL"})
        assert answer.status_code == 200, answer.text
        wait_until(lambda: len(swarm.containers("shop")) == 3, "containers appear", 60)
    finally:
        swarm.remove("shop")
        swarm.remove("monitor")


INFLUX_CONFIG = """
reporting-disabled = true
[meta]
  dir = "/tmp/meta"
[data]
  dir = "/tmp/data"
  wal-dir = "/tmp/wal"
[http]
  enabled = true
  bind-address = ":8086"
"""
