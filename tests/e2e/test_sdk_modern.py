"""The whole path with PyPI's alibabacloud-cs20151215, endpoint and protocol set, nothing else changed."""

import pytest
from alibabacloud_tea_openapi.exceptions import ClientException

from clients import REGION, cs_models
from installation import kubectl_json, wait_until


def create_request():
    return cs_models.CreateClusterRequest(
        name="modern", region_id=REGION, cluster_type="ManagedKubernetes", cluster_spec="ack.pro.small",
        vpcid="vpc-modern", vswitch_ids=["vsw-modern-1"], container_cidr="172.22.0.0/16", service_cidr="172.23.0.0/20",
        snat_entry=True, endpoint_public_access=True, deletion_protection=False,
        addons=[cs_models.Addon(name="flannel")],
        tags=[cs_models.Tag(key="team", value="e2e")],
        nodepools=[cs_models.Nodepool(
            nodepool_info=cs_models.NodepoolNodepoolInfo(name="workers"),
            scaling_group=cs_models.NodepoolScalingGroup(
                vswitch_ids=["vsw-modern-1"], instance_types=["ecs.g6.large"], system_disk_category="cloud_efficiency",
                system_disk_size=40, instance_charge_type="PostPaid", login_password="Hello1234",
            ),
            kubernetes_config=cs_models.NodepoolKubernetesConfig(runtime="containerd"),
            count=2,
        )],
    )


def wait_for_task(sdk, task_id):
    task = wait_until(
        lambda: (body := sdk.describe_task_info(task_id).body).state != "running" and body, f"task {task_id} ends", 300)
    assert task.state == "success", task.to_map()
    return task


def test_whole_life(sdk, tmp_path):
    created = sdk.create_cluster(create_request()).body
    cluster_id = created.cluster_id
    assert created.task_id.startswith("T-") and created.request_id
    wait_for_task(sdk, created.task_id)

    detail = sdk.describe_cluster_detail(cluster_id).body
    assert (detail.state, detail.name, detail.size, detail.cluster_spec) == ("running", "modern", 2, "ack.pro.small")
    assert [(tag.key, tag.value) for tag in detail.tags] == [("team", "e2e")]

    listed = sdk.describe_clusters_v1(cs_models.DescribeClustersV1Request(name="modern")).body
    assert [item.cluster_id for item in listed.clusters] == [cluster_id] and listed.page_info.total_count == 1

    nodes = sdk.describe_cluster_nodes(cluster_id, cs_models.DescribeClusterNodesRequest()).body
    assert [node.node_status for node in nodes.nodes] == ["Ready", "Ready"]
    pools = sdk.describe_cluster_node_pools(cluster_id, cs_models.DescribeClusterNodePoolsRequest()).body.nodepools
    pool = next(pool for pool in pools if pool.nodepool_info.name == "workers")
    assert {node.nodepool_id for node in nodes.nodes} == {pool.nodepool_info.nodepool_id}

    kubeconfig = tmp_path / "kubeconfig"
    config = sdk.describe_cluster_user_kubeconfig(
        cluster_id, cs_models.DescribeClusterUserKubeconfigRequest(temporary_duration_minutes=15)).body
    kubeconfig.write_text(config.config)
    assert len(kubectl_json(kubeconfig, "get", "nodes")["items"]) == 2

    scaled = sdk.scale_cluster_node_pool(
        cluster_id, pool.nodepool_info.nodepool_id, cs_models.ScaleClusterNodePoolRequest(count=1)).body
    assert len(wait_for_task(sdk, scaled.task_id).task_result) == 1
    assert len(kubectl_json(kubeconfig, "get", "nodes")["items"]) == 3

    victim = nodes.nodes[0].node_name
    removed = sdk.delete_cluster_nodes(
        cluster_id, cs_models.DeleteClusterNodesRequest(nodes=[victim], drain_node=True, release_node=True)).body
    wait_for_task(sdk, removed.task_id)
    names = [node["metadata"]["name"] for node in kubectl_json(kubeconfig, "get", "nodes")["items"]]
    assert victim not in names and len(names) == 2

    deleted = sdk.delete_cluster(cluster_id, cs_models.DeleteClusterRequest()).body
    again = sdk.delete_cluster(cluster_id, cs_models.DeleteClusterRequest()).body
    assert deleted.task_id == again.task_id, "a second DELETE answers the same task"
    wait_for_task(sdk, deleted.task_id)
    with pytest.raises(ClientException) as refusal:
        sdk.describe_cluster_detail(cluster_id)
    assert (refusal.value.status_code, refusal.value.code) == (404, "ErrorClusterNotFound")


def test_catalogue_reads(sdk, cluster):
    """The reads of chapter 9 answer in the documented shape."""
    assert sdk.describe_user_quota().body.cluster_quota == 50
    versions = sdk.describe_kubernetes_version_metadata(
        cs_models.DescribeKubernetesVersionMetadataRequest(region=REGION, cluster_type="ManagedKubernetes")).body
    assert any(version.version.startswith("1.36.") for version in versions)
    resources = sdk.describe_cluster_resources(cluster.id, cs_models.DescribeClusterResourcesRequest()).body
    assert {"ALIYUN::SLB::LoadBalancer", "ALIYUN::ECS::VPC"} <= {resource.resource_type for resource in resources}
    assert any("is Ready" in line.cluster_log for line in sdk.describe_cluster_logs(cluster.id).body)
    events = sdk.describe_events(cs_models.DescribeEventsRequest(cluster_id=cluster.id)).body
    assert events.page_info.total_count > 0 and any(event.type == "cluster_create" for event in events.events)
