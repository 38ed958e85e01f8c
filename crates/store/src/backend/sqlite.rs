//! The embedded database: SQLite with a write-ahead log, one connection that writes, a few that read.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

use super::migration::{self, Migration};
use super::problem::Problems;
use super::{Applied, Backend, RawBatch, RawObject, SealedSecret, sqlite_write};
use crate::document::Kind;
use crate::model::{Event, LogLine};
use crate::{EVENTS_PER_PAGE_MAX, EventQuery, Page, StoreError};

/// How long a statement waits for a lock that another program (a backup, a curious operator) holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections for events, logs and secrets. Documents are not read from here, so few do.
const READERS_MAX: u32 = 2;

/// An idle reader gives its memory back after this time.
const READER_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The write-ahead log is cut back to this size once it was larger.
const WAL_BYTES_MAX: u32 = 16 << 20;

/// What an acknowledged batch survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power cut: each commit waits for the disk.
    PowerLoss,
    /// The death of the process only.
    None,
}

pub(crate) struct SqliteBackend {
    options: SqliteConnectOptions,
    problems: Problems,
    writer: Mutex<WriterConnection>,
    readers: SqlitePool,
}

enum WriterConnection {
    Open(SqliteConnection),
    /// After a failure: whatever state the old connection was in, a new one begins without it.
    Lost,
    Closed,
}

impl SqliteBackend {
    /// Opens the database file, which must exist (it may be empty), and brings its schema up to date.
    pub(crate) async fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        Self::open_with(path, durability, migration::SQLITE).await
    }

    pub(super) async fn open_with(
        path: &Path,
        durability: Durability,
        migrations: &[Migration],
    ) -> Result<Self, StoreError> {
        let problems = Problems::of(path);
        let options = SqliteConnectOptions::new()
            .filename(path)
            // A database that vanished under a running server must be noticed, not replaced by an empty one.
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match durability {
                Durability::PowerLoss => SqliteSynchronous::Full,
                Durability::None => SqliteSynchronous::Off,
            })
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("journal_size_limit", WAL_BYTES_MAX.to_string())
            .pragma("temp_store", "MEMORY")
            // Statements carry no secrets, but their parameters might one day.
            .disable_statement_logging();
        let mut writer = options.connect().await.map_err(|error| problems.describe(&error))?;
        if let Err(error) = migration::migrate(&mut writer, migrations, path).await {
            // Closing cannot make it worse; the first error is the one to tell.
            let _ = writer.close().await;
            return Err(error);
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .idle_timeout(READER_IDLE_TIMEOUT)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().pragma("query_only", "ON"));
        Ok(Self { options, problems, writer: Mutex::new(WriterConnection::Open(writer)), readers })
    }

    /// Makes the writing connection believe that the disk is full beyond this size. A new connection is free of it.
    #[cfg(test)]
    pub(crate) async fn limit_pages(&self, pages: u32) {
        let mut writer = self.writer.lock().await;
        let connection = self.connection(&mut writer).await.unwrap();
        let pragma = format!("PRAGMA max_page_count = {pages}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(pragma)).execute(connection).await.unwrap();
    }

    fn describe(&self, error: &sqlx::Error) -> StoreError {
        self.problems.describe(error)
    }

    /// The writing connection, opened anew if it was lost.
    async fn connection<'a>(&self, writer: &'a mut WriterConnection) -> Result<&'a mut SqliteConnection, StoreError> {
        if matches!(writer, WriterConnection::Lost) {
            let connection = self.options.connect().await.map_err(|error| self.describe(&error))?;
            *writer = WriterConnection::Open(connection);
        }
        match writer {
            WriterConnection::Open(connection) => Ok(connection),
            WriterConnection::Lost | WriterConnection::Closed => Err(self.problems.closed()),
        }
    }

    /// Writes a group in one transaction. An error of the first kind says that nothing was written, of the second that
    /// it may have been.
    async fn apply_group(
        &self,
        writer: &mut WriterConnection,
        group: &[RawBatch],
    ) -> Result<Result<Vec<Applied>, StoreError>, StoreError> {
        let connection = match self.connection(writer).await {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(error)),
        };
        let error = match sqlite_write::write_group(connection, group).await {
            Ok(outcomes) => match sqlite_write::commit(connection).await {
                Ok(()) => return Ok(Ok(outcomes)),
                Err(error) => Err(self.describe(&error)),
            },
            Err(error) => Ok(Err(self.describe(&error))),
        };
        if let WriterConnection::Open(connection) = std::mem::replace(writer, WriterConnection::Lost) {
            // Closing rolls an open transaction back. Its own error adds nothing to the one at hand.
            let _ = connection.close().await;
        }
        error
    }
}

#[async_trait]
impl Backend for SqliteBackend {
    async fn load_all(&self) -> Result<Vec<RawObject>, StoreError> {
        let mut writer = self.writer.lock().await;
        let connection = self.connection(&mut writer).await?;
        let rows: Vec<(String, String, Option<String>, i64, String)> =
            sqlx::query_as("SELECT kind, id, parent, revision, body FROM objects")
                .fetch_all(connection)
                .await
                .map_err(|error| self.describe(&error))?;
        rows.into_iter()
            .map(|(kind, id, parent, revision, body)| {
                let kind = Kind::from_name(&kind)
                    .ok_or_else(|| self.problems.unreadable(&format!("a document of unknown kind {kind:?} ({id})")))?;
                let revision = u64::try_from(revision)
                    .map_err(|_| self.problems.unreadable(&format!("a negative revision of {kind} {id}")))?;
                Ok(RawObject { kind, id, parent, revision, body })
            })
            .collect()
    }

    async fn apply(&self, group: &[RawBatch]) -> Result<Vec<Applied>, StoreError> {
        let mut writer = self.writer.lock().await;
        match self.apply_group(&mut writer, group).await? {
            Ok(outcomes) => return Ok(outcomes),
            Err(error) if group.len() == 1 => return Ok(vec![Err(error)]),
            Err(error) => {
                tracing::warn!(%error, "writing batches one by one: together they failed")
            }
        }
        // One batch that the database cannot take must not fail those that merely came at the same time.
        let mut outcomes = Vec::with_capacity(group.len());
        for batch in group.chunks(1) {
            match self.apply_group(&mut writer, batch).await? {
                Ok(mut outcome) => outcomes.append(&mut outcome),
                Err(error) => outcomes.push(Err(error)),
            }
        }
        Ok(outcomes)
    }

    async fn nonce_used(&self, access_key_id: &str, nonce: &str) -> Result<bool, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM nonces WHERE access_key_id = ? AND nonce = ?")
            .bind(access_key_id)
            .bind(nonce)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.describe(&error))?;
        Ok(row.is_some())
    }

    async fn secret(&self, name: &str) -> Result<Option<SealedSecret>, StoreError> {
        let row: Option<(Vec<u8>, Vec<u8>)> = sqlx::query_as("SELECT nonce, ciphertext FROM secrets WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.describe(&error))?;
        Ok(row.map(|(nonce, ciphertext)| SealedSecret { nonce, ciphertext }))
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        let (bodies, total) = read_events(&self.readers, query).await.map_err(|error| self.describe(&error))?;
        let items = bodies
            .iter()
            .map(|body| {
                serde_json::from_str(body)
                    .map_err(|error| self.problems.unreadable(&format!("an event that cannot be read ({error})")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Page { items, total })
    }

    async fn logs(&self, cluster_id: &str, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        let rows: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT id, created, text FROM logs WHERE cluster_id = ? ORDER BY id DESC LIMIT ?")
                .bind(cluster_id)
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.describe(&error))?;
        rows.into_iter()
            .rev()
            .map(|(id, created, text)| {
                let created = created.parse().map_err(|error| {
                    self.problems.unreadable(&format!("a log line ({id}) with the time {created:?} ({error})"))
                })?;
                Ok(LogLine { id, cluster_id: cluster_id.to_owned(), text, created })
            })
            .collect()
    }

    async fn log_owners(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT DISTINCT cluster_id FROM logs")
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.describe(&error))
    }

    async fn claim_fact(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut writer = self.writer.lock().await;
        let connection = self.connection(&mut writer).await?;
        sqlite_write::claim_fact(connection, name, value).await.map_err(|error| self.describe(&error))
    }

    async fn close(&self) {
        self.readers.close().await;
        let writer = std::mem::replace(&mut *self.writer.lock().await, WriterConnection::Closed);
        if let WriterConnection::Open(connection) = writer
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database was not closed cleanly; nothing is lost by that");
        }
    }
}

/// Bodies of a page and the number of all, both of one moment.
async fn read_events(readers: &SqlitePool, query: &EventQuery) -> Result<(Vec<String>, u64), sqlx::Error> {
    // Two texts, because a condition that may be absent would keep SQLite from using the index by cluster.
    let (page, count) = match query.cluster_id {
        Some(_) => (
            "SELECT body FROM events WHERE account_id = ?1 AND cluster_id = ?2 AND (?3 IS NULL OR event_type = ?3)
             ORDER BY seq DESC LIMIT ?4 OFFSET ?5",
            "SELECT count(*) FROM events WHERE account_id = ?1 AND cluster_id = ?2 AND (?3 IS NULL OR event_type = ?3)",
        ),
        None => (
            "SELECT body FROM events WHERE account_id = ?1 AND ?2 IS NULL AND (?3 IS NULL OR event_type = ?3)
             ORDER BY seq DESC LIMIT ?4 OFFSET ?5",
            "SELECT count(*) FROM events WHERE account_id = ?1 AND ?2 IS NULL AND (?3 IS NULL OR event_type = ?3)",
        ),
    };
    let mut transaction = readers.begin().await?;
    let bodies = sqlx::query_scalar(page)
        .bind(&query.account_id)
        .bind(&query.cluster_id)
        .bind(&query.event_type)
        .bind(query.limit.min(EVENTS_PER_PAGE_MAX))
        .bind(i64::try_from(query.offset).unwrap_or(i64::MAX))
        .fetch_all(&mut *transaction)
        .await?;
    let total: i64 = sqlx::query_scalar(count)
        .bind(&query.account_id)
        .bind(&query.cluster_id)
        .bind(&query.event_type)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok((bodies, total.unsigned_abs()))
}
