#![allow(clippy::unwrap_used)]

use super::*;
use crate::{backup::Shelf, kubernetes::tests::sample_cluster};

fn message(blob: &[u8]) -> String {
    let blob = STANDARD.encode(blob);
    format!("{{\"result\":{{\"header\":{{\"revision\":\"77\"}},\"remaining_bytes\":\"1\",\"blob\":\"{blob}\"}}}}\n")
}

/// Writes what etcd would have sent in these messages.
async fn receive(messages: Vec<String>) -> (Outcome<Backup>, Shelf, std::path::PathBuf) {
    let dir = std::env::temp_dir().join(format!("sampan-snapshot-{}", sampan_store::model::new_token(8)));
    let shelf = Shelf::new(dir.clone(), MasterKey::generate().unwrap());
    shelf.prepare("c0123").unwrap();
    let path = shelf.path("c0123", "manual-1").unwrap();
    let backup = Backup {
        id: "manual-1".into(),
        cluster_id: sample_cluster().id,
        kubernetes_version: "1.36.3".into(),
        created: "2026-06-01T12:00:00Z".parse().unwrap(),
        revision: 0,
        size: 0,
        sha256: String::new(),
        salt: String::new(),
    };
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let key = shelf.key().clone();
    let writing = tokio::task::spawn_blocking(move || write(&path, &key, backup, receiver));
    let mut revision = 1;
    let mut outcome = Ok(());
    for line in messages {
        outcome = outcome.and(hand_over(line.as_bytes(), &sender, &mut revision, "etcd").await);
    }
    if outcome.is_ok() {
        let _ = sender.send(Piece::End { revision }).await;
    }
    drop(sender);
    let written = writing.await.unwrap();
    (outcome.and(written), shelf, dir)
}

#[tokio::test]
async fn a_snapshot_is_kept_only_when_its_hash_is_right() {
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let hash = Sha256::digest(&content);
    let whole = [content.as_slice(), hash.as_slice()].concat();
    // Also cut so that the hash is in two messages.
    for part in [32 * 1024, whole.len() - 7] {
        let messages: Vec<String> = whole.chunks(part).map(message).collect();
        let (backup, shelf, dir) = receive(messages.clone()).await;
        let backup = backup.unwrap();
        assert_eq!((backup.revision, backup.size), (77, whole.len() as u64));
        let mut reader = shelf.open("c0123", "manual-1").unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            read.extend(chunk);
        }
        assert!(read == whole, "what was sent");
        std::fs::remove_dir_all(dir).unwrap();

        let (backup, shelf, dir) = receive(messages[..messages.len() - 1].to_vec()).await;
        assert!(backup.unwrap_err().retryable(), "its end is missing");
        assert_eq!(shelf.list("c0123"), []);
        assert_eq!(std::fs::read_dir(dir.join("c0123")).unwrap().count(), 0, "nothing is left of it");
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[tokio::test]
async fn errors_in_the_stream_end_it() {
    for bad in [
        "{\"error\":{\"code\":13,\"message\":\"disk\"}}\n".to_owned(),
        "not json\n".to_owned(),
        "{\"result\":{\"blob\":\"*\"}}\n".to_owned(),
    ] {
        let (backup, shelf, dir) = receive(vec![message(b"begin"), bad]).await;
        assert!(backup.is_err());
        assert_eq!(shelf.list("c0123"), []);
        std::fs::remove_dir_all(dir).unwrap();
    }
    let (backup, _, dir) = receive(Vec::new()).await;
    assert!(backup.is_err(), "nothing is no snapshot");
    std::fs::remove_dir_all(dir).unwrap();
}
