//! A cluster's whole life: stop and start, health, certificates, backups.

use sampan_api::{Refusal, types};

use super::convert;
use crate::{
    call::{Call, Reply},
    faults::refusal,
    views::lifecycle as views,
};

pub(super) async fn stop(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    convert::started(call.service.cluster_stop(&call.context, id).await.map_err(refusal)?)
}

pub(super) async fn start(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    convert::started(call.service.cluster_start(&call.context, id).await.map_err(refusal)?)
}

pub(super) async fn health(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    Reply::new(&views::health(&call.service.cluster_health(&call.context, id).await.map_err(refusal)?))
}

pub(super) async fn certificates(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    let found = call.service.cluster_certificates(&call.context, id).await.map_err(refusal)?;
    let certificates = found.iter().map(views::certificate).collect();
    Reply::new(&types::ClusterCertificates { certificates, request_id: String::new() })
}

pub(super) async fn backup(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    let started = call.service.cluster_backup(&call.context, id).await.map_err(refusal)?;
    Reply::new(&types::CreateClusterBackupResponse {
        cluster_id: started.cluster_id,
        backup_id: started.backup_id,
        task_id: started.task_id,
        request_id: String::new(),
    })
}

pub(super) async fn backups(call: Call) -> Result<Reply, Refusal> {
    let id = call.path("ClusterId");
    let found = call.service.cluster_backups(&call.context, id).await.map_err(refusal)?;
    Reply::new(&found.iter().map(|(backup, path)| views::backup(backup, path)).collect::<Vec<_>>())
}

pub(super) async fn backup_delete(call: Call) -> Result<Reply, Refusal> {
    let (cluster_id, id) = (call.path("ClusterId"), call.path("BackupId"));
    call.service.backup_delete(&call.context, cluster_id, id).await.map_err(refusal)?;
    Reply::new(&types::DeleteClusterBackupResponse { backup_id: id.to_owned(), request_id: String::new() })
}

pub(super) async fn restore(call: Call) -> Result<Reply, Refusal> {
    let (cluster_id, id) = (call.path("ClusterId"), call.path("BackupId"));
    convert::started(call.service.cluster_restore(&call.context, cluster_id, id).await.map_err(refusal)?)
}
