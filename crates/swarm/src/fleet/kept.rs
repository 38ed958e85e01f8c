//! What the fleet keeps on disk: definitions of volumes of plug-ins, so that nodes which come later get them too, and the
//! containers that move, so that they can be made anew even if the master was restarted after their node was lost.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use crate::model::Refusal;

/// Most volumes that are kept.
const VOLUMES_MAX: usize = 4096;

/// The fleet's state on disk. Volumes' options can be secrets: files are the owner's only, and `Debug` shows names.
pub(crate) struct Kept {
    volumes_dir: PathBuf,
    moving_path: PathBuf,
    volumes: Mutex<BTreeMap<String, Value>>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kept").field("volumes", &self.volume_names()).finish_non_exhaustive()
    }
}

impl Kept {
    /// Reads what is there. What cannot be read is told and left alone.
    pub(crate) fn open(state_dir: &str) -> Self {
        let volumes_dir = Path::new(state_dir).join("volumes");
        let volumes = read_volumes(&volumes_dir);
        Self { moving_path: Path::new(state_dir).join("moving.json"), volumes_dir, volumes: Mutex::new(volumes) }
    }

    fn volumes(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Definition of a volume.
    pub(crate) fn volume(&self, name: &str) -> Option<Value> {
        self.volumes().get(name).cloned()
    }
    /// Definitions of all volumes.
    pub(crate) fn all_volumes(&self) -> Vec<Value> {
        self.volumes().values().cloned().collect()
    }
    /// Names of all volumes.
    pub(crate) fn volume_names(&self) -> Vec<String> {
        self.volumes().keys().cloned().collect()
    }

    /// Keeps a definition.
    pub(crate) fn put_volume(&self, name: &str, body: &Value) -> Result<(), Refusal> {
        if self.volumes().len() >= VOLUMES_MAX {
            return Err(Refusal::conflict(format!("the cluster has {VOLUMES_MAX} volumes already; remove some")));
        }
        let path = self.volume_path(name)?;
        write(&path, &body.to_string()).map_err(|error| unwritable(&path, &error))?;
        self.volumes().insert(name.to_owned(), body.clone());
        Ok(())
    }

    /// Forgets a definition.
    pub(crate) fn remove_volume(&self, name: &str) -> Result<(), Refusal> {
        if self.volumes().remove(name).is_none() {
            return Ok(());
        }
        let path = self.volume_path(name)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&path, &error)),
            _ => Ok(()),
        }
    }

    fn volume_path(&self, name: &str) -> Result<PathBuf, Refusal> {
        let plain = name.chars().all(|next| next.is_ascii_alphanumeric() || matches!(next, '-' | '_' | '.'));
        match plain && !name.is_empty() && !name.starts_with('.') && name.len() <= 200 {
            true => Ok(self.volumes_dir.join(format!("{name}.json"))),
            false => Err(Refusal::bad(format!("{name:?} cannot be the name of a volume"))),
        }
    }

    /// Containers that move, by id, as last kept.
    pub(crate) fn moving(&self) -> Vec<Value> {
        match fs::read(&self.moving_path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!(path = %self.moving_path.display(), %error, "what was kept of moving containers is unreadable");
                Vec::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!(path = %self.moving_path.display(), %error, "what was kept of moving containers cannot be read");
                Vec::new()
            }
        }
    }

    /// Keeps the containers that move.
    pub(crate) fn put_moving(&self, containers: &[Value]) -> Result<(), Refusal> {
        let text = Value::Array(containers.to_vec()).to_string();
        write(&self.moving_path, &text).map_err(|error| unwritable(&self.moving_path, &error))
    }
}

fn read_volumes(dir: &Path) -> BTreeMap<String, Value> {
    let mut volumes = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return volumes,
        Err(error) => {
            tracing::error!(path = %dir.display(), %error, "definitions of volumes cannot be read");
            return volumes;
        }
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"))
        else {
            continue;
        };
        let read = fs::read(&path).map_err(|error| error.to_string());
        match read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string())) {
            Ok(body) => {
                volumes.insert(name.to_owned(), body);
            }
            Err(error) => tracing::error!(path = %path.display(), error, "the definition of a volume is unreadable"),
        }
    }
    volumes
}

fn unwritable(path: &Path, error: &io::Error) -> Refusal {
    Refusal::internal(format!("the master cannot write {}: {error}", path.display()))
}

/// Atomically and durably.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(dir)?.sync_all()
}
