//! A database that fails at the worst moments: memory must follow the disk, not the hopes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;

use super::samples::*;
use crate::backend::{Applied, Backend, Durability, RawBatch, RawObject, SealedSecret, SqliteBackend};
use crate::model::*;
use crate::writer::Guards;
use crate::{EventQuery, MasterKey, Page, Store, StoreError, StoreOptions};

const WORKS: u8 = 0;
/// The commit reaches the disk, its confirmation does not come back.
const WRITES_AND_FAILS: u8 = 1;
const FAILS: u8 = 2;
/// The same, and looking at what is there fails too.
const WRITES_AND_IS_GONE: u8 = 3;

struct Doubtful {
    inner: SqliteBackend,
    mode: AtomicU8,
}

impl Doubtful {
    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    fn gone() -> StoreError {
        StoreError::Unavailable("the cable is out".to_owned())
    }
}

#[async_trait]
impl Backend for Doubtful {
    async fn load_all(&self) -> Result<Vec<RawObject>, StoreError> {
        match self.mode.load(Ordering::SeqCst) {
            WRITES_AND_IS_GONE => Err(Self::gone()),
            _ => self.inner.load_all().await,
        }
    }
    async fn apply(&self, group: &[RawBatch]) -> Result<Vec<Applied>, StoreError> {
        let mode = self.mode.load(Ordering::SeqCst);
        if mode == FAILS {
            return Err(Self::gone());
        }
        let outcomes = self.inner.apply(group).await;
        if mode == WORKS { outcomes } else { Err(Self::gone()) }
    }
    async fn nonce_used(&self, access_key_id: &str, nonce: &str) -> Result<bool, StoreError> {
        self.inner.nonce_used(access_key_id, nonce).await
    }
    async fn secret(&self, name: &str) -> Result<Option<SealedSecret>, StoreError> {
        self.inner.secret(name).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        self.inner.events(query).await
    }
    async fn logs(&self, cluster_id: &str, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        self.inner.logs(cluster_id, limit).await
    }
    async fn log_owners(&self) -> Result<Vec<String>, StoreError> {
        self.inner.log_owners().await
    }
    async fn claim_fact(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.inner.claim_fact(name, value).await
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

async fn doubtful_store() -> (Arc<Doubtful>, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sampan.db");
    std::fs::write(&path, "").unwrap();
    let inner = SqliteBackend::open(&path, Durability::None).await.unwrap();
    let backend = Arc::new(Doubtful { inner, mode: AtomicU8::new(WORKS) });
    let options = StoreOptions::new(path, MasterKey::generate().unwrap());
    let guards = Guards { lock: None, temporary: Some(directory) };
    let store = Store::start(options, backend.clone(), guards).await.unwrap();
    commit(&store, |batch| batch.create(&setting("a", 1)).create(&setting("gone", 1)).put(&machine("i-1", "c1")))
        .await
        .unwrap();
    (backend, store)
}

#[tokio::test]
async fn a_commit_that_fails_leaves_memory_as_it_was() {
    let (backend, store) = doubtful_store().await;
    let mut changes = store.watch();
    backend.set(FAILS);
    let failed = commit(&store, |batch| batch.put(&setting("a", 2))).await;
    assert_eq!(failed, Err(Doubtful::gone()));
    assert_eq!(value_of(&store, "a"), Some(1));
    assert!(changes.try_recv().is_err());
    backend.set(WORKS);
    commit(&store, |batch| batch.put(&setting("a", 3))).await.unwrap();
    assert_eq!(value_of(&store, "a"), Some(3));
}

#[tokio::test]
async fn a_commit_in_doubt_that_was_written_becomes_visible() {
    let (backend, store) = doubtful_store().await;
    let mut changes = store.watch();
    backend.set(WRITES_AND_FAILS);
    let failed =
        commit(&store, |batch| batch.put(&setting("a", 2)).delete::<Setting>("gone").put(&machine("i-1", "c2"))).await;
    assert_eq!(failed, Err(Doubtful::gone()));
    assert_eq!((value_of(&store, "a"), value_of(&store, "gone")), (Some(2), None), "it is on disk, so it is in memory");
    let mut heard = Vec::new();
    while let Ok(change) = changes.try_recv() {
        heard.push(format!("{} {:?}", change.id, change.parent));
    }
    assert_eq!(heard, ["i-1 Some(\"c1\")", "i-1 Some(\"c2\")", "a None", "gone None"]);
}

#[tokio::test]
async fn while_the_disk_is_unknown_nothing_is_written() {
    let (backend, store) = doubtful_store().await;
    backend.set(WRITES_AND_IS_GONE);
    for _ in 0..3 {
        assert!(commit(&store, |batch| batch.put(&setting("a", 2))).await.is_err());
    }
    backend.set(WORKS);
    // Refused on the ground of what is really there: the first of the three was written.
    let created = commit(&store, |batch| batch.create(&setting("a", 9))).await;
    assert!(matches!(created, Err(StoreError::Conflict { .. })));
    assert_eq!(value_of(&store, "a"), Some(2));
}
