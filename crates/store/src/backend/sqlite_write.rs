//! The writing half of the SQLite database: one function per kind of change.

use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};

use super::{Applied, RawBatch, RawChange, SealedSecret, WriteMode};
use crate::StoreError;
use crate::document::Kind;

/// Why a batch was not written.
enum Failure {
    /// One of its conditions does not hold; the transaction goes on without it.
    Refused(StoreError),
    /// The database failed; the transaction cannot go on.
    Broken(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Broken(error)
    }
}

/// Begins a transaction and writes the batches in it, each under a savepoint of its own.
pub(super) async fn write_group(
    connection: &mut SqliteConnection,
    group: &[RawBatch],
) -> Result<Vec<Applied>, sqlx::Error> {
    // The write lock is taken at once: a transaction that reads first and then wants to write could be refused then.
    execute(connection, sqlx::query("BEGIN IMMEDIATE")).await?;
    let mut outcomes = Vec::with_capacity(group.len());
    for batch in group {
        execute(connection, sqlx::query("SAVEPOINT batch")).await?;
        match write_batch(connection, batch).await {
            Ok(revisions) => outcomes.push(Ok(revisions)),
            Err(Failure::Refused(error)) => {
                execute(connection, sqlx::query("ROLLBACK TO batch")).await?;
                outcomes.push(Err(error));
            }
            Err(Failure::Broken(error)) => return Err(error),
        }
        execute(connection, sqlx::query("RELEASE batch")).await?;
    }
    Ok(outcomes)
}

/// Ends the transaction. After an error it may or may not have been written.
pub(super) async fn commit(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    execute(connection, sqlx::query("COMMIT")).await.map(drop)
}

pub(super) async fn claim_fact(
    connection: &mut SqliteConnection,
    name: &str,
    value: &[u8],
) -> Result<Vec<u8>, sqlx::Error> {
    let insert = sqlx::query("INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING");
    execute(connection, insert.bind(name.to_owned()).bind(value.to_owned())).await?;
    sqlx::query_scalar("SELECT value FROM facts WHERE name = ?").bind(name).fetch_one(connection).await
}

async fn write_batch(connection: &mut SqliteConnection, batch: &RawBatch) -> Result<Vec<u64>, Failure> {
    let writes = batch.iter().filter(|change| matches!(change, RawChange::Write { .. })).count();
    let mut revisions = reserve_revisions(connection, writes).await?.into_iter();
    let mut given = Vec::with_capacity(writes);
    for change in batch {
        match change {
            RawChange::Write { mode, kind, id, parent, body } => {
                // One was reserved for each write.
                let Some(revision) = revisions.next() else {
                    continue;
                };
                write_object(connection, *mode, (*kind, id), parent.as_deref(), revision, body).await?;
                given.push(revision.unsigned_abs());
            }
            RawChange::Expect { kind, id, revision } => expect(connection, *kind, id, *revision).await?,
            RawChange::UseNonce { access_key_id, nonce, expires } => {
                let insert = sqlx::query(
                    "INSERT INTO nonces (access_key_id, nonce, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                );
                let insert = insert.bind(access_key_id.as_str()).bind(nonce.as_str()).bind(*expires);
                if execute(connection, insert).await? == 0 {
                    return Err(Failure::Refused(StoreError::NonceUsed));
                }
            }
            other => write_other(connection, other).await?,
        }
    }
    Ok(given)
}

/// Numbers for `count` writes. If the batch is refused, they are given again.
async fn reserve_revisions(connection: &mut SqliteConnection, count: usize) -> Result<Vec<i64>, sqlx::Error> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let last: i64 = sqlx::query_scalar("UPDATE counters SET value = value + ? WHERE name = 'revision' RETURNING value")
        .bind(count)
        .fetch_one(connection)
        .await?;
    Ok((last - count + 1..=last).collect())
}

async fn write_object(
    connection: &mut SqliteConnection,
    mode: WriteMode,
    (kind, id): (Kind, &str),
    parent: Option<&str>,
    revision: i64,
    body: &str,
) -> Result<(), Failure> {
    let statement = match mode {
        WriteMode::Create => {
            "INSERT INTO objects (parent, revision, body, kind, id) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING"
        }
        WriteMode::Put => {
            "INSERT INTO objects (parent, revision, body, kind, id) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (kind, id) DO UPDATE SET parent = ?1, revision = ?2, body = ?3"
        }
        WriteMode::Update(_) => {
            "UPDATE objects SET parent = ?1, revision = ?2, body = ?3 WHERE kind = ?4 AND id = ?5 AND revision = ?6"
        }
    };
    let mut query = sqlx::query(statement).bind(parent).bind(revision).bind(body).bind(kind.as_str()).bind(id);
    if let WriteMode::Update(read) = mode {
        query = query.bind(signed(read));
    }
    match execute(connection, query).await? {
        0 => Err(conflict(kind, id)),
        _ => Ok(()),
    }
}

async fn expect(connection: &mut SqliteConnection, kind: Kind, id: &str, revision: Option<u64>) -> Result<(), Failure> {
    let found: Option<i64> = sqlx::query_scalar("SELECT revision FROM objects WHERE kind = ? AND id = ?")
        .bind(kind.as_str())
        .bind(id)
        .fetch_optional(connection)
        .await?;
    if found == revision.map(signed) { Ok(()) } else { Err(conflict(kind, id)) }
}

/// Changes that cannot be refused.
async fn write_other(connection: &mut SqliteConnection, change: &RawChange) -> Result<(), sqlx::Error> {
    let query = match change {
        RawChange::Delete { kind, id } => {
            sqlx::query("DELETE FROM objects WHERE kind = ? AND id = ?").bind(kind.as_str()).bind(id)
        }
        RawChange::AppendEvent(event) => {
            let body = serde_json::to_string(event).map_err(|error| sqlx::Error::Encode(error.into()))?;
            sqlx::query("INSERT INTO events (account_id, cluster_id, event_type, body) VALUES (?, ?, ?, ?)")
                .bind(&event.account_id)
                .bind(&event.cluster_id)
                .bind(&event.event_type)
                .bind(body)
        }
        RawChange::AppendLog(line) => sqlx::query("INSERT INTO logs (cluster_id, created, text) VALUES (?, ?, ?)")
            .bind(&line.cluster_id)
            .bind(line.created.to_string())
            .bind(&line.text),
        RawChange::PutSecret { name, sealed: SealedSecret { nonce, ciphertext } } => sqlx::query(
            "INSERT INTO secrets (name, nonce, ciphertext) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET nonce = ?2, ciphertext = ?3",
        )
        .bind(name)
        .bind(nonce)
        .bind(ciphertext),
        RawChange::DeleteSecret { name } => sqlx::query("DELETE FROM secrets WHERE name = ?").bind(name),
        RawChange::DeleteSecretsUnder { prefix } => {
            sqlx::query("DELETE FROM secrets WHERE substr(name, 1, length(?1)) = ?1").bind(prefix)
        }
        RawChange::ForgetNonces { before } => sqlx::query("DELETE FROM nonces WHERE expires < ?").bind(before),
        // Numbers are given without gaps and only the oldest are ever removed, so counting is subtraction.
        RawChange::TrimEvents { keep } => {
            sqlx::query("DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events) - ?").bind(keep)
        }
        RawChange::TrimLogs { cluster_id, keep } => sqlx::query(
            "DELETE FROM logs WHERE cluster_id = ?1 AND id <=
             (SELECT id FROM logs WHERE cluster_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )
        .bind(cluster_id)
        .bind(keep),
        // Those with conditions are done by the caller.
        RawChange::Write { .. } | RawChange::Expect { .. } | RawChange::UseNonce { .. } => {
            return Ok(());
        }
    };
    execute(connection, query).await.map(drop)
}

/// Runs a prepared statement; returns the number of rows that it changed.
async fn execute(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
) -> Result<u64, sqlx::Error> {
    query.execute(connection).await.map(|done| done.rows_affected())
}

fn conflict(kind: Kind, id: &str) -> Failure {
    Failure::Refused(StoreError::Conflict { kind, id: id.to_owned() })
}

/// Revisions come from SQLite's signed integers; one beyond them matches no row.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(-1)
}
