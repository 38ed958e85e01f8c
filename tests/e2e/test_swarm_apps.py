"""Applications: a WordPress-shaped one through its whole life, while a client sends requests all the time."""

import subprocess
import threading
import time

import pytest
import requests

from installation import wait_until
from swarm import machine_container

TEMPLATE = """
version: '2'
services:
  web:
    image: ${IMAGE}
    command: netexec --http-port=80
    hostname: ${COLOUR}
    environment:
      - WORDPRESS_DB_HOST=db
      - COLOUR=${COLOUR}
    restart: always
    links:
      - db
    labels:
      aliyun.routing.port_80: shop.example
      aliyun.scale: '${SCALE}'
      aliyun.rolling_updates: 'true'
      aliyun.rolling_updates.parallelism: '1'
      aliyun.probe.url: http://container/healthz
      aliyun.probe.initial_delay_seconds: '0'
      aliyun.probe.timeout_seconds: '2'
      aliyun.depends: db
      example.unknown: kept
  db:
    image: ${IMAGE}
    command: netexec --http-port=3306
    environment:
      - MYSQL_ROOT_PASSWORD=${PASSWORD}
      - reschedule:on-node-failure
    restart: always
    volumes:
      - data:/var/lib/mysql
    labels:
      aliyun.probe.url: tcp://container:3306
volumes:
  data: {}
"""
IMAGE = "e2e-test-images/agnhost:2.63.0"


def environment(**fields):
    return {"IMAGE": IMAGE, "COLOUR": "blue", "SCALE": "3", "PASSWORD": "secret", **fields}


class Visitor:
    """Sends requests all the time and remembers what went wrong."""

    def __init__(self, cluster, host="shop.example"):
        self.url = cluster.classic.call("GET", f"/clusters/{cluster.id}")["routing_url"]
        self.host, self.sent, self.failures, self.seen = host, 0, [], {}
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.visit, daemon=True) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def visit(self):
        with requests.Session() as session:
            while not self.stopping.is_set():
                begun = time.time()
                try:
                    answer = session.get(self.url, headers={"Host": self.host}, timeout=30)
                    if answer.status_code != 200:
                        self.failures.append((begun, answer.status_code, answer.text[:200]))
                    self.sent += 1
                except requests.RequestException as error:
                    self.failures.append((begun, 0, repr(error)))
                self.stopping.wait(0.02)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(40)
        return self.failures


def host_of(cluster, host="shop.example"):
    answer = cluster.routed(host, "/hostname")
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_wordpress_shaped_application(swarm, shared):
    project = swarm.deploy("wordpress", TEMPLATE, environment=environment(), version="1.0", description="a shop")
    assert project["version"] == "1.0" and project["environment"]["COMPOSE_PROJECT_NAME"] == "wordpress"
    services = {service["name"]: service for service in project["services"]}
    assert services["web"]["id"] == "wordpress_web" and services["web"]["definition"]["image"] == IMAGE
    assert services["web"]["extensions"]["scale"] == 3
    containers = swarm.containers("wordpress")
    assert set(containers) == {"wordpress_web_1", "wordpress_web_2", "wordpress_web_3", "wordpress_db_1"}
    assert len({item["node"] for name, item in containers.items() if "web" in name}) == 3
    assert all(item["running"] and item["health"] == "success" for item in containers.values())
    wait_until(lambda: host_of(swarm) == "blue", "the route answers", 20)
    # The application's own name for its database, on the overlay.
    dial = swarm.routed("shop.example", "/dial?host=db&port=3306&request=hostname&protocol=http&tries=1")
    assert "responses" in dial.text, dial.text

    visitor = Visitor(swarm)
    try:
        swarm.api("POST", "/services/wordpress_web/scale", {"type": "scale_to", "value": 6})
        wait_until(lambda: len(swarm.containers("wordpress")) == 7, "scaled out", 90)
        swarm.settled("wordpress")
        swarm.api("POST", "/services/wordpress_web/scale", {"type": "scale_to", "value": 3})
        wait_until(lambda: len(swarm.containers("wordpress")) == 4, "scaled in", 90)
        swarm.settled("wordpress")
        swarm.api("POST", "/services/wordpress_web/scale", {"type": "scale_by", "value": 1}, expect=400)
        assert not visitor.failures, visitor.failures[:5]

        # Rolled.
        swarm.api("POST", "/projects/wordpress/update", {"template": TEMPLATE, "version": "1.0"}, expect=409)
        swarm.api("POST", "/projects/wordpress/update",
                  {"template": TEMPLATE, "version": "1.1", "environment": environment(COLOUR="teal")}, expect=202)
        wait_until(lambda: swarm.project("wordpress")["version"] == "1.1", "updating", 10)
        swarm.settled("wordpress", 240)
        assert host_of(swarm) == "teal"
        assert not visitor.failures, visitor.failures[:5]

        # Blue and green side by side.
        green = TEMPLATE.replace("  web:", "  web2:").replace("  db:", "  db2:").replace("- db", "- db2:db") \
            .replace("aliyun.depends: db", "aliyun.depends: db2").replace("data:", "data2:")
        swarm.api("POST", "/projects/wordpress/update",
                  {"update_method": "blue-green", "template": green, "version": "2.0",
                   "environment": environment(COLOUR="green")}, expect=202)
        wait_until(lambda: "wordpress_web2_3" in swarm.containers("wordpress"), "both versions run", 120)
        swarm.settled("wordpress")
        assert {host_of(swarm) for _ in range(10)} == {"teal"}, "the new version has no weight yet"
        swarm.api("POST", "/services/wordpress_web2/weight", {"weight": 100})
        wait_until(lambda: len({host_of(swarm) for _ in range(20)}) == 2, "both get requests", 20)
        swarm.api("POST", "/services/wordpress_web/weight", {"weight": 0})
        wait_until(lambda: {host_of(swarm) for _ in range(20)} == {"green"}, "only the new one does", 20)
        swarm.api("POST", "/projects/wordpress/confirm-update?force=true", expect=202)
        wait_until(lambda: "wordpress_web_1" not in swarm.containers("wordpress"), "the old version is gone", 120)
        swarm.settled("wordpress")
        assert swarm.project("wordpress")["version"] == "2.0"
        assert not visitor.failures, visitor.failures[:5]

        # And a release that is taken back.
        swarm.api("POST", "/projects/wordpress/update",
                  {"update_method": "blue-green", "template": TEMPLATE, "version": "3.0",
                   "environment": environment(COLOUR="red")}, expect=202)
        wait_until(lambda: "wordpress_web_3" in swarm.containers("wordpress"), "both versions run", 120)
        swarm.settled("wordpress")
        swarm.api("POST", "/projects/wordpress/rollback-update?force=true", expect=202)
        wait_until(lambda: "wordpress_web_1" not in swarm.containers("wordpress"), "the new version is gone", 120)
        swarm.settled("wordpress")
        assert swarm.project("wordpress")["version"] == "2.0" and host_of(swarm) == "green"
    finally:
        failures = visitor.stop()
    assert not failures, failures[:5]
    assert visitor.sent > 500
    swarm.remove("wordpress")
    assert "wordpress" not in swarm.docker("ps", "-a", "--format", "{{.Names}}")


def test_a_node_dies_under_an_application(swarm, shared):
    swarm.deploy("doomed", TEMPLATE.replace("shop.example", "doomed.example"), environment=environment())
    wait_until(lambda: host_of(swarm, "doomed.example") == "blue", "the route answers", 20)
    where = swarm.containers("doomed")["doomed_web_1"]["node"]
    node = next(node for node in swarm.nodes() if where in str(node["ip_address"]))
    visitor = Visitor(swarm, "doomed.example")
    try:
        subprocess.run(["docker", "kill", machine_container(shared, node["instance_id"])], check=True, capture_output=True)
        killed = time.time()
        def moved():
            containers = swarm.containers("doomed")
            webs = [item for name, item in containers.items() if "web" in name and item["running"]]
            return len(webs) == 3 and all(item["health"] == "success" for item in webs)
        wait_until(moved, "three healthy containers again", 180)
        # Only what was in flight on the killed node may fail.
        late = [failure for failure in visitor.failures if failure[0] > killed + 15]
        assert not late, late[:5]
    finally:
        visitor.stop()
    assert len(visitor.failures) <= 40, (len(visitor.failures), visitor.failures[:5])
    wait_until(lambda: all(node["node_status"] == "Ready" for node in swarm.nodes()) and len(swarm.nodes()) == 3,
               "the node is back", 180)
    swarm.remove("doomed")


@pytest.mark.parametrize("template, word", [
    ("web: [", "YAML"),
    ("web:\n  image: nginx\n  colour: red\n", "colour"),
    ("version: '2'\nservices:\n  a:\n    image: x\n    depends_on: [b]\n  b:\n    image: x\n    depends_on: [a]\n", "wait for each other"),
    ("a:\n  image: x\n  links: [b]\nb:\n  image: x\n  links: [a]\n", "wait for each other"),
    ("a: &a\n  image: [*a, *a]\n", ""),
    ("web:\n  build: .\n", "build"),
    ("web:\n  image: nginx\n  labels:\n    aliyun.scale: lots\n", "aliyun.scale"),
    ("web:\n  image: " + "x" * (3 << 20) + "\n", ""),
    ("\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
               + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]), ""),
])
def test_bad_templates_are_refused_and_leave_nothing(swarm, template, word):
    before = swarm.docker("ps", "-aq").split()
    answer = swarm.session.post(f"{swarm.url}/projects/", json={"name": "bad", "template": template}, timeout=60)
    assert answer.status_code in (400, 413), answer.text
    assert word.lower() in answer.json()["message"].lower(), answer.text
    swarm.api("GET", "/projects/bad", expect=404)
    assert swarm.docker("ps", "-aq").split() == before


def test_start_stop_kill_redeploy_and_lost_containers(swarm):
    swarm.deploy("life", "web:\n  image: nginx:alpine\n  labels:\n    aliyun.scale: '2'\n")
    swarm.api("POST", "/projects/", {"name": "life", "template": "web:\n  image: nginx\n"}, expect=409)
    before = swarm.containers("life")
    swarm.docker("rm", "-f", "life_web_2")
    wait_until(lambda: swarm.containers("life").get("life_web_2", {}).get("running"), "it comes back", 60)
    swarm.api("POST", "/projects/life/stop?t=1", expect=200)
    wait_until(lambda: not any(item["running"] for item in swarm.containers("life").values()), "stopped", 60)
    assert swarm.settled("life")["current_state"] == "stopped"
    swarm.api("POST", "/projects/life/start", expect=200)
    wait_until(lambda: all(item["running"] for item in swarm.containers("life").values()), "started", 60)
    swarm.api("POST", "/projects/life/redeploy", expect=200)
    def replaced():
        services = swarm.project("life")["services"]
        ids = {key for service in services for key in service["containers"]}
        return len(ids) == 2 and swarm.project("life")["current_state"] == "running"
    wait_until(replaced, "deployed again", 120)
    assert swarm.api("GET", "/services/life_web")["name"] == "web"
    assert [item["id"] for item in swarm.api("GET", "/services/?q=life")] == ["life_web"]
    assert [item["name"] for item in swarm.api("GET", "/projects/?q=life&services=false")] == ["life"]
    swarm.api("POST", "/service/life_web/stop?t=1", expect=200)
    swarm.api("POST", "/services/life_web/kill?signal=KILL", expect=200)
    swarm.api("POST", "/services/life_web/start", expect=200)
    assert before
    swarm.remove("life")
    swarm.api("GET", "/services/life_web", expect=404)


INSIDE = """
web:
  image: e2e-test-images/agnhost:2.63.0
  command: netexec --http-port=80
  labels: {aliyun.routing.port_80: 'http://inside.local'}
"""
CALLERS = """
caller:
  image: busybox
  command: sleep 3600
  stop_signal: SIGKILL
  external_links: [inside.local]
  labels: {aliyun.global: 'true'}
"""


def test_a_local_route_serves_inside_the_cluster_from_every_node(swarm):
    swarm.deploy("inside", INSIDE)
    swarm.deploy("callers", CALLERS)
    callers = swarm.containers("callers")
    assert len({caller["node"] for caller in callers.values()}) == len(swarm.nodes()), callers
    for name in callers:
        def answered():
            done = swarm.docker("exec", name, "wget", "-qO-", "http://inside.local/hostname", check=False)
            return done.returncode == 0 and done.stdout.strip()
        wait_until(answered, f"{name} is answered at port 80", 30)
    swarm.remove("callers")
    swarm.remove("inside")


def test_auto_scaling_by_measured_use(swarm):
    template = """
busy:
  image: busybox
  command: sh -c 'while true; do :; done'
  labels:
    aliyun.auto_scaling.max_cpu: '20'
    aliyun.auto_scaling.min_cpu: '1'
    aliyun.auto_scaling.step: '1'
    aliyun.auto_scaling.max_instances: '2'
    aliyun.auto_scaling.min_instances: '1'
"""
    swarm.deploy("grow", template)
    try:
        wait_until(lambda: len(swarm.containers("grow")) == 2, "it grows by itself", 180)
    finally:
        swarm.remove("grow")


def test_friendly_commands(swarm, shared, tmp_path):
    def run(*arguments, **options):
        return shared.cli(*arguments, **options).stdout

    (tmp_path / "docker-compose.yml").write_text("web:\n  image: ${IMAGE}\n")
    run("app", "deploy", "harbour", "friendly", "-f", str(tmp_path / "docker-compose.yml"), "-e", "IMAGE=nginx:alpine")
    assert "friendly" in run("app", "list", "harbour") and "friendly_web_1" in run("app", "show", "harbour", "friendly")
    run("app", "scale", "harbour", "friendly_web", "2")
    assert "friendly_web_2" in run("app", "show", "harbour", "friendly")
    run("app", "update", "harbour", "friendly", "-f", str(tmp_path / "docker-compose.yml"), "-e", "IMAGE=nginx:alpine",
        "--version", "2.0")
    assert "2.0" in run("app", "list", "harbour")
    assert "friendly_web_1 |" in run("app", "logs", "harbour", "friendly")
    lines = run("docker-env", "harbour", "--cert-path", str(tmp_path / "certs"))
    done = subprocess.run(["bash", "-c", f"{lines}\ndocker ps"], capture_output=True, text=True)
    assert "friendly_web_1" in done.stdout, done.stderr
    refused = shared.cli("app", "deploy", "harbour", "friendly", "-f", str(tmp_path / "docker-compose.yml"), check=False)
    assert refused.returncode == 2
    run("app", "rm", "harbour", "friendly", "--force")
    assert "friendly" not in run("app", "list", "harbour")
