//! Backups of clusters: files beside the database, one folder for each cluster. Each file is complete or not there, encrypted
//! under the installation's master key, and says what it is.
//!
//! [`Shelf`] is where they are; [`file`] is how one looks inside. When backups are made, and which of them stay, is for the
//! controllers.

mod file;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sampan_store::{
    MasterKey,
    model::{Fault, Outcome, Timestamp, new_token},
};
use serde::{Deserialize, Serialize};

pub use file::{Reader, Writer};

/// Ending of the files' names.
const SUFFIX: &str = ".backup";
/// No backup takes longer to be made.
const DRAFT_MAX: Duration = Duration::from_secs(3600);
/// Longest id.
const ID_LENGTH_MAX: usize = 80;
/// Files of one cluster that are looked at.
const LISTED_MAX: usize = 1000;

/// Why a backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Somebody asked for it.
    Manual,
    /// It was time.
    Periodic,
    /// An upgrade began.
    Upgrade,
}

impl Kind {
    /// The word for it, which also begins the ids of such backups.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Periodic => "periodic",
            Self::Upgrade => "upgrade",
        }
    }

    fn of(id: &str) -> Self {
        match id.split('-').next() {
            Some("periodic") => Self::Periodic,
            Some("upgrade") => Self::Upgrade,
            _ => Self::Manual,
        }
    }
}

/// What a backup's file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its id: the file's name without its ending.
    pub id: String,
    /// The cluster.
    pub cluster_id: String,
    /// Kubernetes version of the cluster then.
    pub kubernetes_version: String,
    /// When it was made.
    pub created: Timestamp,
    /// Revision of etcd's data.
    pub revision: i64,
    /// Size of the snapshot in bytes, with the hash at its end.
    pub size: u64,
    /// SHA-256 of these bytes, hexadecimal.
    pub sha256: String,
    /// Makes the file's key its own.
    pub salt: String,
}

impl Backup {
    /// Why it was made.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.id)
    }
}

/// A new backup's id: it sorts by time within its kind.
pub fn new_backup_id(kind: Kind, now: Timestamp) -> String {
    format!("{}-{}-{}", kind.as_str(), stamp(now), new_token(3))
}

/// The id of the backup that an upgrade begins with: always the same for the same upgrade.
pub fn upgrade_backup_id(from: &str, started: Timestamp) -> String {
    let from: String = from.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{}-{}-from-{from}", Kind::Upgrade.as_str(), stamp(started))
}

fn stamp(at: Timestamp) -> String {
    let seconds = jiff::Timestamp::from_second(at.as_second()).unwrap_or(at);
    seconds.to_string().chars().filter(|c| c.is_ascii_digit()).collect()
}

/// Where the backups of all clusters are.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
    key: MasterKey,
}

impl Shelf {
    /// The shelf in that directory, which is made when it is needed.
    pub fn new(dir: PathBuf, key: MasterKey) -> Self {
        Self { dir, key }
    }

    /// Where the backup is, or will be.
    ///
    /// # Errors
    /// `NotFound` for a text that is no id.
    pub fn path(&self, cluster_id: &str, id: &str) -> Outcome<PathBuf> {
        let is_id = |text: &str| {
            (1..=ID_LENGTH_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !is_id(cluster_id) || !is_id(id) {
            return Err(Fault::not_found("Backup", id));
        }
        Ok(self.dir.join(cluster_id).join(format!("{id}{SUFFIX}")))
    }

    /// Makes the cluster's folder, which only its owner may enter.
    ///
    /// # Errors
    /// Unavailable, when the disk refuses.
    pub fn prepare(&self, cluster_id: &str) -> Outcome<()> {
        let dir = self.dir.join(cluster_id);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| refused("made", &dir, &error))
    }

    /// The cluster's backups, the newest first. Files that are no backups are left out.
    pub fn list(&self, cluster_id: &str) -> Vec<Backup> {
        let Ok(entries) = fs::read_dir(self.dir.join(cluster_id)) else { return Vec::new() };
        let mut backups: Vec<Backup> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with(SUFFIX))
            .take(LISTED_MAX)
            .filter_map(|path| match Reader::open(&path, &self.key) {
                // A file that was brought may bear another name than it was made with.
                Ok(reader) => Some(Backup { id: stem(&path), ..reader.backup().clone() }),
                Err(fault) => {
                    tracing::warn!(path = %path.display(), error = %fault, "this is no backup of this installation");
                    None
                }
            })
            .collect();
        backups.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        backups
    }

    /// One backup.
    ///
    /// # Errors
    /// `NotFound` when there is none; what is wrong with its file.
    pub fn get(&self, cluster_id: &str, id: &str) -> Outcome<Backup> {
        self.open(cluster_id, id).map(|reader| Backup { id: id.to_owned(), ..reader.backup().clone() })
    }

    /// A backup's content.
    ///
    /// # Errors
    /// As [`Shelf::get`].
    pub fn open(&self, cluster_id: &str, id: &str) -> Outcome<Reader> {
        let path = self.path(cluster_id, id)?;
        if !path.exists() {
            return Err(Fault::not_found("Backup", id));
        }
        let reader = Reader::open(&path, &self.key)?;
        // A file that was renamed, or lies in another cluster's folder, is not what it seems.
        if reader.backup().cluster_id != cluster_id {
            let owner = &reader.backup().cluster_id;
            return Err(Fault::invalid("backup_id", format!("backup {id} is of cluster {owner}, not of {cluster_id}")));
        }
        Ok(reader)
    }

    /// Reads a whole backup, so that what is damaged is found before it is needed.
    ///
    /// # Errors
    /// As [`Shelf::get`]; what is damaged.
    pub fn verify(&self, cluster_id: &str, id: &str) -> Outcome<Backup> {
        let mut reader = self.open(cluster_id, id)?;
        while reader.next_chunk()?.is_some() {}
        Ok(reader.backup().clone())
    }

    /// Removes a backup; fine when it is gone.
    ///
    /// # Errors
    /// Unavailable, when the disk refuses.
    pub fn remove(&self, cluster_id: &str, id: &str) -> Outcome<()> {
        let path = self.path(cluster_id, id)?;
        gone(fs::remove_file(&path)).map_err(|error| refused("removed", &path, &error))
    }

    /// Removes what killed runs left of backups that they were making.
    pub fn sweep(&self, cluster_id: &str) {
        let Ok(entries) = fs::read_dir(self.dir.join(cluster_id)) else { return };
        let is_old = |entry: &fs::DirEntry| {
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > DRAFT_MAX)
        };
        let drafts = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "part"));
        for draft in drafts.filter(is_old) {
            // Best effort: it is tried again after the next backup.
            let _ = fs::remove_file(draft.path());
        }
    }

    /// Removes all backups of a cluster.
    ///
    /// # Errors
    /// Unavailable, when the disk refuses.
    pub fn remove_all(&self, cluster_id: &str) -> Outcome<()> {
        // Never the shelf itself.
        if self.path(cluster_id, "all").is_err() {
            return Ok(());
        }
        let dir = self.dir.join(cluster_id);
        gone(fs::remove_dir_all(&dir)).map_err(|error| refused("removed", &dir, &error))
    }

    /// The key that files are encrypted under.
    pub fn key(&self) -> &MasterKey {
        &self.key
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn refused(what: &str, path: &Path, error: &io::Error) -> Fault {
    Fault::unavailable(format!("{} cannot be {what}: {error}; check the data directory and its disk", path.display()))
}

#[cfg(test)]
mod tests;
