//! What the store needs of a database: raw rows, batches, no knowledge of the nouns.

mod migration;
mod problem;
mod sqlite;
mod sqlite_write;

use async_trait::async_trait;

use crate::document::Kind;
use crate::model::{Event, LogLine};
use crate::{EventQuery, Page, StoreError};

pub(crate) use sqlite::{Durability, SqliteBackend};

/// A document as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawObject {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) revision: u64,
    /// JSON.
    pub(crate) body: String,
}

/// An encrypted secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedSecret {
    pub(crate) nonce: Vec<u8>,
    /// With the authentication tag at its end.
    pub(crate) ciphertext: Vec<u8>,
}

/// On which condition a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// It does not exist.
    Create,
    /// It exists in this revision.
    Update(u64),
    /// None.
    Put,
}

/// One row to change.
#[derive(Clone, Debug)]
pub(crate) enum RawChange {
    /// Refused with `Conflict` when the condition does not hold.
    Write {
        mode: WriteMode,
        kind: Kind,
        id: String,
        parent: Option<String>,
        body: String,
    },
    /// No error when there is nothing to delete.
    Delete {
        kind: Kind,
        id: String,
    },
    /// Refused with `Conflict` unless the document is in this revision (`None`: does not exist).
    Expect {
        kind: Kind,
        id: String,
        revision: Option<u64>,
    },
    AppendEvent(Event),
    AppendLog(LogLine),
    /// Refused with `NonceUsed` when present. `expires` in milliseconds since 1970.
    UseNonce {
        access_key_id: String,
        nonce: String,
        expires: i64,
    },
    PutSecret {
        name: String,
        sealed: SealedSecret,
    },
    DeleteSecret {
        name: String,
    },
    DeleteSecretsUnder {
        prefix: String,
    },
    /// Forgets nonces that expired before this time, in milliseconds since 1970.
    ForgetNonces {
        before: i64,
    },
    /// Keeps only the newest events.
    TrimEvents {
        keep: u32,
    },
    /// Keeps only the newest lines of one cluster.
    TrimLogs {
        cluster_id: String,
        keep: u32,
    },
}

/// Changes that are written together or not at all, in this order.
pub(crate) type RawBatch = Vec<RawChange>;

/// What became of one batch: the revisions of its writes, in order, or why none of it was written.
pub(crate) type Applied = Result<Vec<u64>, StoreError>;

/// A database. One task calls [`Backend::apply`]; the reading methods may be called at any time from anywhere.
#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    /// Every document.
    async fn load_all(&self) -> Result<Vec<RawObject>, StoreError>;

    /// Writes the batches in order, each whole or not at all; a refused batch does not affect the others. When this
    /// returns, what it reports as written survives a power cut.
    ///
    /// # Errors
    /// An outer error means that nothing is known about any of the batches: [`Backend::load_all`] tells.
    async fn apply(&self, group: &[RawBatch]) -> Result<Vec<Applied>, StoreError>;

    /// Whether a nonce is recorded.
    async fn nonce_used(&self, access_key_id: &str, nonce: &str) -> Result<bool, StoreError>;

    /// A secret as stored.
    async fn secret(&self, name: &str) -> Result<Option<SealedSecret>, StoreError>;

    /// Newest first.
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError>;

    /// The newest `limit` lines, oldest of them first.
    async fn logs(&self, cluster_id: &str, limit: u32) -> Result<Vec<LogLine>, StoreError>;

    /// The clusters that have log lines.
    async fn log_owners(&self) -> Result<Vec<String>, StoreError>;

    /// Stores `value` under `name` unless something is there already; returns what is there then.
    async fn claim_fact(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError>;

    /// Gives everything back. Later calls fail.
    async fn close(&self);
}
