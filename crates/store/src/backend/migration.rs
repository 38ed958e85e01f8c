//! Bringing a SQLite database to the schema of this program, one numbered step after the other.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use super::problem::Problems;
use crate::StoreError;

/// One step. Its text never changes once it was released.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    /// Counts from 1 without gaps.
    pub(super) version: i64,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// Every step, in order. Add a file and a line here; change no old one.
pub(super) const SQLITE: &[Migration] =
    &[Migration { version: 1, name: "initial", sql: include_str!("../../migrations/sqlite/0001_initial.sql") }];

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_versions (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   BLOB NOT NULL,
    applied_at TEXT NOT NULL
) STRICT";

/// Applies what is missing, each step in a transaction of its own. Before the first step on a database that holds data,
/// a copy of it is put beside it as `<name>.v<version>.bak`.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    migrations: &[Migration],
    path: &Path,
) -> Result<(), StoreError> {
    let problems = Problems::of(path);
    let fail = |error| problems.describe(&error);
    let applied = applied(connection).await.map_err(fail)?;
    check(&applied, migrations, path)?;
    let missing = &migrations[applied.len()..];
    if let (Some(last), false) = (applied.last(), missing.is_empty()) {
        back_up(connection, path, last.0).await?;
    }
    for migration in missing {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(fail)?;
        sqlx::raw_sql(CREATE_TABLE).execute(&mut *transaction).await.map_err(fail)?;
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await.map_err(fail)?;
        sqlx::query("INSERT INTO schema_versions (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)")
            .bind(migration.version)
            .bind(migration.name)
            .bind(checksum(migration.sql))
            .bind(jiff::Timestamp::now().to_string())
            .execute(&mut *transaction)
            .await
            .map_err(fail)?;
        transaction.commit().await.map_err(fail)?;
        tracing::info!(version = migration.version, name = migration.name, "database schema brought up to date");
    }
    Ok(())
}

/// Version and checksum of each step that was applied, in order.
async fn applied(connection: &mut SqliteConnection) -> Result<Vec<(i64, Vec<u8>)>, sqlx::Error> {
    let exists: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_versions'")
            .fetch_one(&mut *connection)
            .await?;
    if exists == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_as("SELECT version, checksum FROM schema_versions ORDER BY version").fetch_all(connection).await
}

fn check(applied: &[(i64, Vec<u8>)], migrations: &[Migration], path: &Path) -> Result<(), StoreError> {
    let (known, path) = (migrations.len(), path.display());
    if applied.len() > known {
        return Err(StoreError::Corrupt(format!(
            "the database {path} has schema version {}, this program knows only {known}: it was used with a newer \
             version; start that version, or restore the copy made before its upgrade",
            applied.len()
        )));
    }
    for (migration, (version, stored)) in migrations.iter().zip(applied) {
        if migration.version != *version || checksum(migration.sql) != *stored {
            return Err(StoreError::Corrupt(format!(
                "step {version} of the schema of {path} is not the step {} ({}) that this program knows; start the \
                 version that made the database, or restore a backup",
                migration.version, migration.name
            )));
        }
    }
    Ok(())
}

async fn back_up(connection: &mut SqliteConnection, path: &Path, version: i64) -> Result<(), StoreError> {
    let mut target = path.as_os_str().to_owned();
    target.push(format!(".v{version}.bak"));
    let target = Path::new(&target);
    let fail = |error: &dyn std::fmt::Display| {
        StoreError::Unavailable(format!(
            "the database could not be copied to {} before its upgrade: {error}; nothing was changed. Check the free \
             space and the permissions",
            target.display()
        ))
    };
    if target.exists() {
        // From an upgrade that was interrupted after the copy: the database is still what was copied then, or the step
        // was applied and this place is not reached.
        std::fs::remove_file(target).map_err(|error| fail(&error))?;
    }
    let Some(name) = target.to_str() else {
        return Err(fail(&"the path is not UTF-8"));
    };
    sqlx::query("VACUUM INTO ?").bind(name).execute(connection).await.map_err(|error| fail(&error))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(target, private).map_err(|error| fail(&error))?;
    tracing::info!(copy = name, "the database was copied before its schema is upgraded");
    Ok(())
}

fn checksum(sql: &str) -> Vec<u8> {
    digest(&SHA256, sql.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend as _, Durability, RawChange, SqliteBackend, WriteMode};
    use crate::document::Kind;

    const NEXT: Migration = Migration {
        version: 2,
        name: "next",
        sql: "ALTER TABLE objects ADD COLUMN note TEXT; CREATE TABLE n (x INT);",
    };
    const BROKEN: Migration = Migration { version: 2, name: "broken", sql: "CREATE TABLE n (x INT); SELECT nonsense;" };

    async fn open(path: &Path, migrations: &[Migration]) -> Result<SqliteBackend, StoreError> {
        SqliteBackend::open_with(path, Durability::None, migrations).await
    }

    /// A database of the first version with one document.
    async fn old_database(path: &Path) {
        std::fs::write(path, "").unwrap();
        let old = open(path, SQLITE).await.unwrap();
        let write = RawChange::Write {
            mode: WriteMode::Create,
            kind: Kind::Setting,
            id: "a".to_owned(),
            parent: None,
            body: r#"{"id":"a","value":1}"#.to_owned(),
        };
        assert_eq!(old.apply(&[vec![write]]).await.unwrap(), [Ok(vec![1])]);
        old.close().await;
    }

    #[test]
    fn steps_are_numbered_without_gaps() {
        for (index, migration) in SQLITE.iter().enumerate() {
            assert_eq!(migration.version, index as i64 + 1);
        }
    }

    #[test]
    fn released_steps_do_not_change() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let sums: Vec<_> = SQLITE.iter().map(|migration| hex(checksum(migration.sql))).collect();
        // Existing databases were made with these texts. Add a step instead of changing one.
        assert_eq!(sums, ["ce6973457a5aafcf43cfff7f9b8cdba5719191d8fe6fcdccd8919e6d83a9cacf"]);
    }

    #[tokio::test]
    async fn an_upgrade_keeps_the_data_and_a_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sampan.db");
        old_database(&path).await;
        let copy = directory.path().join("sampan.db.v1.bak");
        assert!(!copy.exists(), "a new database needs no copy");
        std::fs::write(&copy, "left over from an interrupted upgrade").unwrap();

        let steps = [SQLITE[0], NEXT];
        for _ in 0..2 {
            let new = open(&path, &steps).await.unwrap();
            assert_eq!(new.load_all().await.unwrap().len(), 1);
            new.close().await;
        }
        let refused = open(&path, SQLITE).await.err();
        assert!(matches!(refused, Some(StoreError::Corrupt(text)) if text.contains("has schema version 2")));
        let restored = open(&copy, SQLITE).await.unwrap();
        assert_eq!(restored.load_all().await.unwrap()[0].id, "a");
        restored.close().await;
    }

    #[tokio::test]
    async fn a_step_that_fails_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sampan.db");
        old_database(&path).await;
        assert!(open(&path, &[SQLITE[0], BROKEN]).await.is_err());
        let old = open(&path, SQLITE).await.unwrap();
        assert_eq!(old.load_all().await.unwrap().len(), 1);
        old.close().await;
        open(&path, &[SQLITE[0], NEXT]).await.unwrap().close().await;
    }
}
