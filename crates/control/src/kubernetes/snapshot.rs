//! A snapshot of all that a cluster's etcd holds, taken into a backup's file.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt as _;
use sampan_store::{
    MasterKey,
    model::{Cluster, Fault, Outcome, Timestamp},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::timeout};

use super::{
    etcd::EtcdClient,
    gateway::{Gateway, broken, late},
};
use crate::backup::{Backup, Writer};

/// A snapshot that makes no progress for so long has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest message of a snapshot; etcd sends 32 KiB of data in each.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Pieces on their way to the disk.
const PIECES_MAX: usize = 16;
/// etcd puts the SHA-256 of a snapshot at its end.
const HASH_BYTES: usize = 32;

/// One message of a snapshot.
#[derive(Deserialize)]
struct Message {
    result: Option<Part>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Part {
    header: Option<Header>,
    #[serde(default)]
    blob: String,
}

#[derive(Deserialize)]
struct Header {
    /// 64-bit numbers are text in this JSON.
    revision: Option<String>,
}

/// Takes a snapshot into a backup's file at `to`; answers its size.
///
/// # Errors
/// Unavailable, when etcd or the disk does not do it; internal, when what arrived is not what was sent.
pub(crate) async fn save(etcd: &EtcdClient, cluster: &Cluster, to: &Path, key: MasterKey) -> Outcome<u64> {
    let id = to.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let backup = Backup {
        id,
        cluster_id: cluster.id.clone(),
        kubernetes_version: cluster.version.clone(),
        created: Timestamp::now(),
        revision: 0,
        size: 0,
        sha256: String::new(),
        salt: String::new(),
    };
    let status = etcd.status().await?;
    if !status.healthy || status.learner {
        let text = "the member of etcd is not well, or has not caught up; no backup is made of what it knows";
        return Err(Fault::unavailable(text));
    }
    // Needs a majority, and this member to know all that was acknowledged before; a snapshot by itself needs neither.
    etcd.members().await?;
    // The revision is of the moment before: the snapshot holds at least that.
    let revision = etcd.status().await?.revision;
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let path = to.to_owned();
    let writing = tokio::task::spawn_blocking(move || write(&path, &key, backup, receiver));
    let received = receive(etcd.gateway(), sender, revision).await;
    let written = writing.await.map_err(|error| Fault::internal(format!("the backup was not written: {error}")))?;
    // What etcd says goes before what follows from it.
    received?;
    written.map(|backup| backup.size)
}

/// What the writer is told.
enum Piece {
    Data(Vec<u8>),
    End { revision: i64 },
}

async fn receive(gateway: &Gateway, sender: mpsc::Sender<Piece>, revision: i64) -> Outcome<()> {
    let what = format!("etcd on machine {}", gateway.machine_id());
    let mut body = gateway.open("/v3/maintenance/snapshot", &serde_json::json!({})).await?;
    let mut pending: Vec<u8> = Vec::new();
    let mut revision = revision;
    loop {
        let frame = timeout(STALL_TIMEOUT, body.frame()).await.map_err(|_| late(&what, STALL_TIMEOUT))?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|error| broken(&what, &error))?.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            hand_over(&line, &sender, &mut revision, &what).await?;
        }
        if pending.len() > MESSAGE_BYTES_MAX {
            return Err(broken(&what, &"a message of the snapshot is too long"));
        }
    }
    hand_over(&pending, &sender, &mut revision, &what).await?;
    // The writer says itself why it has ended.
    let _ = sender.send(Piece::End { revision }).await;
    Ok(())
}

async fn hand_over(line: &[u8], sender: &mpsc::Sender<Piece>, revision: &mut i64, what: &str) -> Outcome<()> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let message: Message = serde_json::from_slice(line).map_err(|error| broken(what, &error))?;
    if let Some(error) = message.error {
        return Err(broken(what, &format!("the snapshot ended: {error}")));
    }
    let Some(part) = message.result else { return Ok(()) };
    if let Some(text) = part.header.and_then(|header| header.revision) {
        *revision = text.parse().unwrap_or(*revision);
    }
    let blob = STANDARD.decode(part.blob).map_err(|error| broken(what, &error))?;
    if !blob.is_empty() && sender.send(Piece::Data(blob)).await.is_err() {
        // The writer has failed and says why.
        return Ok(());
    }
    Ok(())
}

/// Writes what arrives; a file without a right end does not come to be.
fn write(path: &Path, key: &MasterKey, backup: Backup, mut pieces: mpsc::Receiver<Piece>) -> Outcome<Backup> {
    let mut writer = Writer::create(path, key, backup)?;
    let (mut hash, mut tail) = (Sha256::new(), Vec::new());
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Data(data) => {
                writer.write(&data)?;
                tail.extend_from_slice(&data);
                let sure = tail.len().saturating_sub(HASH_BYTES);
                hash.update(&tail[..sure]);
                tail.drain(..sure);
            }
            Piece::End { revision } => {
                if tail.len() < HASH_BYTES || hash.finalize().as_slice() != tail {
                    return Err(Fault::unavailable("the snapshot arrived damaged; it is tried again"));
                }
                return writer.finish(revision);
            }
        }
    }
    Err(Fault::unavailable("the snapshot broke off"))
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
