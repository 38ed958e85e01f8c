"""What a creation that is refused leaves behind: nothing."""

import json
import socket

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException

from clients import Classic, managed_cluster
from installation import wait_until


def machines(installation):
    return json.loads(installation.cli("machine", "list", "-o", "json").stdout)


def kinds(installation):
    """How many containers, networks and volumes carry the installation's label."""
    found = [line.split()[0] for line in installation.docker_leftovers()]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def test_a_taken_port_refuses_the_creation(own):
    """The range of public ports is used up by somebody else: a clear refusal, and nothing was begun."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        installation = own(f"[network]\npublic_ports = [{port}, {port}]\n")
        classic = Classic(installation.values)
        with pytest.raises(ServerException) as refused:
            classic.call("POST", "/clusters", managed_cluster("nowhere", vpc="vpc-nowhere"))
        assert refused.value.get_http_status() == 503, refused.value
        assert f"no port from {port} to {port} is free" in refused.value.get_error_msg()
    assert classic.call("GET", "/clusters") == [] and machines(installation) == []
    wait_until(lambda: kinds(installation) == {"ps": 1}, "only the balancer is there", 30)
