"""What a cluster of `ack.pro.small` does by itself: backups at intervals, and upgrades of nodes in its maintenance window."""

import datetime
import json

from clients import Classic, cs_models, modern, reasons, wait_state, wait_task
from conftest import Cluster
from installation import kubectl, wait_until
from test_upgrade import kubelets, versions

CONFIG = "[backup]\ninterval_minutes = 1\nkeep = 2\n"


def window(minutes):
    """A maintenance window that began so many minutes ago (negative: begins so much later), an hour long, every day; in UTC."""
    begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=minutes)
    return cs_models.ModifyClusterRequest(maintenance_window=cs_models.MaintenanceWindow(
        enable=True, maintenance_time=begin.strftime("%H:%M:%SZ"), duration="1h",
        weekly_period="Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday"))


def test_backups_at_intervals_and_nodes_that_follow_in_the_window(own, tmp_path):
    installation = own(CONFIG)
    classic, sdk = Classic(installation.values), modern(installation.values)
    old, new = versions(classic)
    cluster = Cluster(classic, tmp_path, "pro", vpc="vpc-pro", nodes=1, cluster_spec="ack.pro.small", kubernetes_version=old)

    # Something blocks: nothing is begun, and the reason is named.
    kubectl(cluster.kubeconfig, "create", "deployment", "stubborn", "--image=nginx:alpine")
    kubectl(cluster.kubeconfig, "create", "poddisruptionbudget", "never", "--selector=app=stubborn", "--max-unavailable=0")
    kubectl(cluster.kubeconfig, "rollout", "status", "deployment/stubborn", "--timeout=90s")
    upgrade = f"/api/v2/clusters/{cluster.id}/upgrade"
    blocked = wait_task(classic, classic.call("POST", upgrade, {"next_version": new})["task_id"])
    assert blocked["state"] == "fail" and "never" in json.dumps(blocked), blocked
    status = sdk.get_upgrade_status(cluster.id).body
    assert status.status == "fail" and "never" in status.error_message, status
    assert wait_state(classic, cluster.id, "updating_failed")["current_version"] == old and kubelets(cluster) == [f"v{old}"]
    kubectl(cluster.kubeconfig, "delete", "poddisruptionbudget", "never")
    sdk.cancel_cluster_upgrade(cluster.id)
    wait_state(classic, cluster.id, "running")

    # Only the masters go to the new version; the node stays behind until the window is open.
    task = classic.call("POST", upgrade, {"next_version": new, "master_only": True})["task_id"]
    assert wait_task(classic, task)["state"] == "success"
    assert wait_state(classic, cluster.id, "running")["current_version"] == new and kubelets(cluster) == [f"v{old}"]
    [pool] = classic.call("GET", f"/clusters/{cluster.id}/nodepools")["nodepools"]
    pool_id = pool["nodepool_info"]["nodepool_id"]
    classic.call("PUT", f"/clusters/{cluster.id}/nodepools/{pool_id}",
                 {"management": {"enable": True, "upgrade_config": {"auto_upgrade": True, "max_unavailable": 1}}})
    change = sdk.modify_cluster(cluster.id, window(-120)).body
    assert wait_task(classic, change.task_id)["state"] == "success"
    made = wait_until(lambda: backups(cluster, "periodic"), "a backup is made by itself", 120, 1)
    assert all(it["size"] > 0 and len(it["sha256"]) == 64 for it in made)
    assert kubelets(cluster) == [f"v{old}"], "the window is closed"
    sdk.modify_cluster(cluster.id, window(5))
    wait_until(lambda: kubelets(cluster) == [f"v{new}"], "the node follows by itself", 240, 1)
    wait_state(classic, cluster.id, "running")
    events = reasons(classic, cluster.id)
    assert events.index("UpgradeSucceeded") < events.index("UpgradeStarted"), "the newest first; the masters' upgrade was before"

    # So many are kept, and no more.
    most = 0

    def replaced():
        nonlocal most
        kept = backups(cluster, "periodic")
        most = max(most, len(kept))
        return len(kept) == 2 and made[0]["backup_id"] not in {it["backup_id"] for it in kept}
    wait_until(replaced, "the oldest one has gone", 240, 2)
    assert most <= 3, "one more than is kept, while the next one is made"
    cluster.delete()


def backups(cluster, kind):
    listed = cluster.classic.call("GET", f"/sampan/clusters/{cluster.id}/backups")
    return [it for it in listed if it["kind"] == kind]
