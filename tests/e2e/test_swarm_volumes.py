"""Volumes that all nodes share: a bucket of a real S3-compatible server, and the file system that Sampan keeps."""

import json

import pytest

import s3server
from swarm import machine_container

NODE = "constraint:aliyun.node_index=={}"


@pytest.fixture
def bucket(swarm, shared):
    server = s3server.S3Server("shop")
    node = swarm.nodes()[0]
    server.join_machine(machine_container(shared, node["instance_id"]))
    yield server
    server.destroy()


def run(swarm, index, volume, *command):
    return swarm.docker("run", "--rm", "-e", NODE.format(index), "-v", f"{volume}:/data", "busybox", *command)


def test_two_containers_on_two_nodes_share_a_bucket(swarm, bucket):
    options = bucket.options("shop")
    made = swarm.api("POST", "/volumes/create", {"name": "ossvolume", "driver": "ossfs", "driverOpts": options}, expect=201)
    assert made["Name"] == "ossvolume" and made["Driver"] == "ossfs"
    assert made["Mountpoint"] == "/mnt/acs_mnt/ossfs/shop"
    try:
        run(swarm, 1, "ossvolume", "sh", "-c", "echo from one > /data/one")
        assert run(swarm, 2, "ossvolume", "cat", "/data/one") == "from one"
        assert bucket.read("shop", "one") == b"from one\n", "it is in the bucket"
        swarm.docker("run", "-d", "--name", "reader", "-e", NODE.format(3), "-v", "ossvolume:/data", "busybox", "sleep", "600")
        viewed = swarm.api("GET", "/volumes/ossvolume")
        assert [reference["Name"].lstrip("/").split("/")[-1] for reference in viewed["Refs"]] == ["reader"]
        text = json.dumps([viewed, swarm.api("GET", "/volumes")]) + swarm.docker("volume", "inspect", "ossvolume")
        assert bucket.ak_secret not in text and bucket.ak_id not in text, "credentials are never shown again"
        refused = swarm.session.delete(f"{swarm.url}/volumes/ossvolume")
        assert refused.status_code == 409 and "reader" in refused.text
        swarm.docker("rm", "-f", "reader")
    finally:
        swarm.docker("rm", "-f", "reader", check=False)
        swarm.api("DELETE", "/volumes/ossvolume", expect=204)
    assert "ossvolume" not in json.dumps(swarm.api("GET", "/volumes"))


@pytest.mark.parametrize("change, word", [
    ({"ak_secret": "wrong"}, "signature"),
    ({"ak_id": "nobody"}, "key"),
    ({"bucket": "absent"}, "bucket"),
    ({"other_opts": "-o passwd_file=/etc/shadow"}, "passwd_file"),
])
def test_what_is_wrong_is_said_in_words(swarm, bucket, change, word):
    body = {"name": "wrong", "driver": "ossfs", "driverOpts": bucket.options("shop", **change)}
    answer = swarm.session.post(f"{swarm.url}/volumes/create", json=body, timeout=120)
    assert 400 <= answer.status_code < 600 and word in answer.json()["message"].lower(), answer.text
    assert "wrong" not in [volume["Name"] for volume in swarm.api("GET", "/volumes")["Volumes"]]


def test_a_file_system_that_sampan_keeps(swarm):
    options = {"diskid": "1234556", "host": "1234556-gpp53.cn-hangzhou.nas.aliyuncs.com", "path": "/abc", "mode": "755"}
    made = swarm.api("POST", "/volumes/create", {"name": "nasvolume", "driver": "nas", "driverOpts": options}, expect=201)
    assert made["Mountpoint"] == "/mnt/acs_mnt/nas/nasvolume"
    try:
        run(swarm, 1, "nasvolume", "sh", "-c", "echo shared > /data/file")
        assert run(swarm, 2, "nasvolume", "cat", "/data/file") == "shared"
    finally:
        swarm.api("DELETE", "/volumes/nasvolume", expect=204)
    body = {"name": "foreign", "driver": "nas", "driverOpts": {**options, "host": "nfs.example", "path": "/../.."}}
    answer = swarm.session.post(f"{swarm.url}/volumes/create", json=body, timeout=120)
    assert answer.status_code >= 400 and answer.json()["message"]
