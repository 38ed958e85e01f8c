//! What SQLite's errors mean for an operator.

use std::path::{Path, PathBuf};

use crate::StoreError;

/// A file that is mapped into memory could not be made larger: there is nothing else that hinders it than a full disk.
const SHARED_MEMORY_SIZE: i32 = 4874;
const FULL: i32 = 13;

/// Describes errors of one database.
#[derive(Clone, Debug)]
pub(super) struct Problems {
    path: PathBuf,
}

impl Problems {
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    pub(super) fn describe(&self, error: &sqlx::Error) -> StoreError {
        let path = self.path.display();
        match error {
            sqlx::Error::Database(database) => {
                // The low byte is SQLite's primary result code, the rest refines it.
                let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
                let primary = if code == SHARED_MEMORY_SIZE { FULL } else { code & 0xff };
                self.describe_code(primary, &format!("{} [{code}]", database.message()))
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt(format!(
                "the database {path} holds a value of an unexpected form ({error}); restore a backup"
            )),
            other => StoreError::Unavailable(format!(
                "the database {path} does not answer: {other}; if this goes on, restart the server"
            )),
        }
    }

    fn describe_code(&self, code: i32, message: &str) -> StoreError {
        let path = self.path.display();
        match code {
            5 | 6 => StoreError::Unavailable(format!(
                "another program keeps the database {path} locked ({message}); close it, e.g. an open sqlite3 session"
            )),
            8 => StoreError::Unavailable(format!(
                "the database {path} cannot be written ({message}); check its permissions and whether its file \
                 system is mounted read-only"
            )),
            10 => StoreError::Unavailable(format!(
                "reading or writing the database {path} failed ({message}); check the disk and the system's log"
            )),
            11 | 26 => StoreError::Corrupt(format!(
                "the database {path} is damaged or no database ({message}); restore a backup of the data directory"
            )),
            FULL => StoreError::Unavailable(format!(
                "the disk under the database {path} is full ({message}); free some space, then try again"
            )),
            14 => StoreError::Unavailable(format!(
                "the database {path} cannot be opened ({message}); check that it exists, and its permissions"
            )),
            _ => StoreError::Invalid(format!("the database {path} refused a statement: {message}")),
        }
    }

    /// A row that this program would not have written.
    pub(super) fn unreadable(&self, what: &str) -> StoreError {
        StoreError::Corrupt(format!(
            "the database {} holds {what}; it was damaged or written by a newer version: start that version, or \
             restore a backup",
            self.path.display()
        ))
    }

    pub(super) fn closed(&self) -> StoreError {
        StoreError::Unavailable(format!("the database {} is closed: the server is stopping", self.path.display()))
    }
}
