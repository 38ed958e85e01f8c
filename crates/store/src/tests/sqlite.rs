//! SQLite passes the suite; and what is particular to it: files, keys, schema versions, a full disk.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::samples::*;
use super::suite::Fixture;
use crate::backend::Durability;
use crate::model::*;
use crate::{MasterKey, Store, StoreError, StoreOptions};

/// A directory with a database and its key.
pub(super) struct SqliteFixture {
    directory: tempfile::TempDir,
    key: MasterKey,
}

impl SqliteFixture {
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("data").join("sampan.db")
    }

    async fn open_with_key(&self, key: MasterKey) -> Result<Store, StoreError> {
        self.open_with(|options| options.master_key = key).await
    }

    /// Changes the database behind the store's back; the store must be closed.
    async fn execute(&self, sql: &'static str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path());
        SqliteConnection::connect_with(&options).await.unwrap()
    }
}

impl Fixture for SqliteFixture {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), key: MasterKey::generate().unwrap() }
    }

    async fn open_with(&self, adapt: impl FnOnce(&mut StoreOptions)) -> Result<Store, StoreError> {
        let mut options = StoreOptions::new(self.path(), self.key.clone());
        adapt(&mut options);
        Store::open_guarded(options, Durability::None, None).await
    }
}

mod behaviour {
    crate::tests::suite::behavioural_suite!(crate::tests::sqlite::SqliteFixture);
}

#[tokio::test]
async fn files_are_private_and_the_log_is_flushed() {
    let fixture = SqliteFixture::new();
    let store = Store::open(StoreOptions::new(fixture.path(), fixture.key.clone())).await.unwrap();
    commit(&store, |batch| batch.create(&setting("a", 1))).await.unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = fixture.directory.path().join("data");
    assert_eq!(mode(directory.clone()), 0o700);
    for file in ["sampan.db", "sampan.db-wal", "lock"] {
        assert_eq!(mode(directory.join(file)), 0o600, "{file}");
    }
    store.close().await;
    assert!(!directory.join("sampan.db-wal").exists(), "closing folds the log into the database");
}

#[tokio::test]
async fn a_directory_is_used_by_one_at_a_time() {
    let fixture = SqliteFixture::new();
    let store = fixture.open().await;
    let second = fixture.open_with(|_| {}).await.unwrap_err().to_string();
    assert!(second.contains(&format!("pid {}", std::process::id())), "{second}");
    assert!(second.contains("stop it first"), "{second}");
    store.close().await;
    fixture.open().await;
}

#[tokio::test]
async fn a_temporary_store_goes_away() {
    let store = Store::open_temporary().await.unwrap();
    commit(&store, |batch| batch.create(&setting("a", 1)).secret("s", b"x")).await.unwrap();
    assert_eq!(secret_text(&store, "s").await.as_deref(), Some("x"));
    let directory = store.options().path.parent().unwrap().to_path_buf();
    assert!(directory.exists());
    store.close().await;
    assert!(!directory.exists());
}

#[tokio::test]
async fn another_key_is_refused_at_once() {
    let fixture = SqliteFixture::new();
    fixture.open().await.close().await;
    let refused = fixture.open_with_key(MasterKey::generate().unwrap()).await;
    assert!(matches!(&refused, Err(StoreError::Key(text)) if text.contains("another master key")), "{refused:?}");
    fixture.open().await;
}

#[tokio::test]
async fn a_changed_secret_does_not_open() {
    let fixture = SqliteFixture::new();
    let store = fixture.open().await;
    commit(&store, |batch| {
        batch
            .secret("tampered", b"hush-hush")
            .secret("moved", b"hush-hush")
            .secret("short", b"hush-hush")
            .secret("good", b"hush-hush")
    })
    .await
    .unwrap();
    store.close().await;
    fixture
        .execute(
            "UPDATE secrets SET ciphertext = CAST(x'00' || substr(ciphertext, 2) AS BLOB) WHERE name = 'tampered';
             UPDATE secrets SET name = 'moved here' WHERE name = 'moved';
             UPDATE secrets SET ciphertext = x'00', nonce = x'00' WHERE name = 'short';",
        )
        .await;
    let store = fixture.open().await;
    for name in ["tampered", "moved here", "short"] {
        let refused = store.secret(name).await;
        assert!(matches!(&refused, Err(StoreError::Key(text)) if text.contains(name)), "{refused:?}");
    }
    assert_eq!(secret_text(&store, "good").await.as_deref(), Some("hush-hush"));
    store.close().await;
    let stored: Vec<u8> = std::fs::read(fixture.path()).unwrap();
    assert!(!stored.windows(9).any(|bytes| bytes == b"hush-hush"), "nothing in the clear is on disk");
}

#[tokio::test]
async fn what_cannot_be_understood_is_named() {
    for (sql, word) in [
        ("UPDATE objects SET body = '{}'", "setting a"),
        ("UPDATE objects SET id = 'b'", "says that its id is a"),
        ("UPDATE objects SET kind = 'submarine'", "submarine"),
        ("UPDATE schema_versions SET checksum = x'00'", "step 1"),
        ("INSERT INTO schema_versions VALUES (2, 'future', x'00', '')", "newer version"),
    ] {
        let fixture = SqliteFixture::new();
        let store = fixture.open().await;
        commit(&store, |batch| batch.create(&setting("a", 1))).await.unwrap();
        store.close().await;
        fixture.execute(sql).await;
        let refused = fixture.open_with(|_| {}).await;
        assert!(matches!(&refused, Err(StoreError::Corrupt(text)) if text.contains(word)), "{sql}: {refused:?}");
    }
    let fixture = SqliteFixture::new();
    std::fs::create_dir(fixture.path().parent().unwrap()).unwrap();
    std::fs::write(fixture.path(), "this is not a database, and it is long enough to be taken for one".repeat(20))
        .unwrap();
    let refused = fixture.open_with(|_| {}).await;
    assert!(matches!(&refused, Err(StoreError::Corrupt(text)) if text.contains("no database")), "{refused:?}");
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_is_lost() {
    let fixture = SqliteFixture::new();
    let store = fixture.open().await;
    commit(&store, |batch| batch.create(&setting("before", 1))).await.unwrap();
    store.close().await;
    let backend =
        std::sync::Arc::new(crate::backend::SqliteBackend::open(&fixture.path(), Durability::None).await.unwrap());
    backend.limit_pages(30).await;
    let options = StoreOptions::new(fixture.path(), fixture.key.clone());
    let guards = crate::writer::Guards { lock: None, temporary: None };
    let store = Store::start(options, backend, guards).await.unwrap();

    let large = Setting { id: "large".to_owned(), value: "x".repeat(1 << 20).into() };
    let refused = commit(&store, |batch| batch.put(&setting("before", 2)).put(&large)).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("full")), "{refused:?}");
    assert_eq!((value_of(&store, "before"), store.get::<Setting>("large")), (Some(1), None));
    // The connection that failed is replaced, and with it the limit is gone.
    commit(&store, |batch| batch.put(&setting("before", 3)).put(&large)).await.unwrap();
    store.close().await;
    assert_eq!(value_of(&fixture.open().await, "before"), Some(3));
}

#[tokio::test]
async fn a_batch_that_cannot_be_written_fails_alone() {
    let fixture = SqliteFixture::new();
    fixture.open().await.close().await;
    let backend = crate::backend::SqliteBackend::open(&fixture.path(), Durability::None).await.unwrap();
    backend.limit_pages(30).await;
    let put = |id: &str, length: usize| {
        let value = Setting { id: id.to_owned(), value: "x".repeat(length).into() };
        let mut batch = crate::Batch::new();
        batch.put(&value);
        batch.into_parts(&crate::key::Sealer::new(&fixture.key).unwrap()).unwrap().0
    };
    // SQLite refuses a text of more than a billion bytes; a page limit is the cheaper way to the same end.
    let group = [put("small", 1), put("large", 1 << 20), put("other", 1)];
    let outcomes = crate::backend::Backend::apply(&backend, &group).await.unwrap();
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    crate::backend::Backend::close(&backend).await;
}
