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

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::model::Refusal;

/// Most containers that are remembered as replaced.
const REPLACED_MAX: usize = 100_000;
/// Most volumes that wait to be removed from nodes that are away; beyond, the oldest are forgotten.
const REMOVED_MAX: usize = 10_000;
/// Most names of images whose meaning is kept.
const IMAGES_MAX: usize = 10_000;
/// Most volumes that are kept.
const VOLUMES_MAX: usize = 4096;

/// The fleet's state on disk. Volumes' options can be secrets: files are the owner's only, and `Debug` shows names.
pub(crate) struct Kept {
    volumes_dir: PathBuf,
    moving_path: PathBuf,
    replaced_path: PathBuf,
    replaced: Mutex<BTreeMap<String, String>>,
    images_path: PathBuf,
    images: Mutex<BTreeMap<String, String>>,
    removed_path: PathBuf,
    removed: Mutex<Vec<(String, String)>>,
    reconnecting_path: PathBuf,
    reconnecting: Mutex<BTreeMap<String, Map<String, Value>>>,
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
        let replaced_path = Path::new(state_dir).join("replaced.json");
        let removed_path = Path::new(state_dir).join("removed-volumes.json");
        let images_path = Path::new(state_dir).join("images.json");
        let reconnecting_path = Path::new(state_dir).join("reconnecting.json");
        Self {
            images: Mutex::new(read_or_empty(&images_path)),
            images_path,
            removed: Mutex::new(read_or_empty(&removed_path)),
            removed_path,
            reconnecting: Mutex::new(read_or_empty(&reconnecting_path)),
            reconnecting_path,
            volumes_dir,
            volumes: Mutex::new(volumes),
            moving_path: Path::new(state_dir).join("moving.json"),
            replaced: Mutex::new(read_or_empty(&replaced_path)),
            replaced_path,
        }
    }

    /// Containers that were made anew elsewhere and are to go when their node is back: id → node.
    pub(crate) fn replaced(&self) -> BTreeMap<String, String> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Whether a container was made anew elsewhere.
    pub(crate) fn is_replaced(&self, id: &str) -> bool {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }
    /// Changes which containers were made anew elsewhere.
    pub(crate) fn change_replaced(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) -> Result<(), Refusal> {
        change_held(&self.replaced, &self.replaced_path, |replaced| {
            change(replaced);
            match replaced.len() > REPLACED_MAX {
                true => {
                    Err(Refusal::conflict("too many containers wait to be removed from nodes that do not come back"))
                }
                false => Ok(()),
            }
        })
    }

    /// Id of the image that a name (with its tag) means.
    pub(crate) fn image(&self, name: &str) -> Option<String> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
    /// Keeps what a name means; `None`: nothing any more.
    pub(crate) fn put_image(&self, name: &str, id: Option<&str>) -> Result<(), Refusal> {
        if self.image(name).as_deref() == id {
            return Ok(());
        }
        change_held(&self.images, &self.images_path, |images| {
            match id {
                Some(id) => drop(images.insert(name.to_owned(), id.to_owned())),
                None => drop(images.remove(name)),
            }
            while images.len() > IMAGES_MAX {
                let Some(other) = images.keys().find(|other| *other != name).cloned() else { break };
                images.remove(&other);
            }
            Ok(())
        })
    }

    /// Volumes that were removed while a node was away: (node, volume), the oldest first.
    pub(crate) fn removed_volumes(&self) -> Vec<(String, String)> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Changes which volumes are still to be removed from nodes that are away.
    pub(crate) fn change_removed(&self, change: impl FnOnce(&mut Vec<(String, String)>)) -> Result<(), Refusal> {
        change_held(&self.removed, &self.removed_path, |removed| {
            change(removed);
            if let Some(beyond) = removed.len().checked_sub(REMOVED_MAX).filter(|beyond| *beyond > 0) {
                tracing::warn!(beyond, "volumes that wait to be removed from nodes that are away are forgotten");
                removed.drain(..beyond);
            }
            Ok(())
        })
    }

    /// Containers that were taken out of overlays and are to be put back: id → network → how they are in it.
    pub(crate) fn reconnecting(&self) -> BTreeMap<String, Map<String, Value>> {
        self.reconnecting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Changes which containers are to be put back into overlays.
    pub(crate) fn change_reconnecting(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Map<String, Value>>),
    ) -> Result<(), Refusal> {
        change_held(&self.reconnecting, &self.reconnecting_path, |reconnecting| {
            change(reconnecting);
            Ok(())
        })
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
        read_or_empty(&self.moving_path)
    }

    /// Keeps the containers that move.
    pub(crate) fn put_moving(&self, containers: &[Value]) -> Result<(), Refusal> {
        let text = Value::Array(containers.to_vec()).to_string();
        write(&self.moving_path, &text).map_err(|error| unwritable(&self.moving_path, &error))
    }
}

/// Changes what is held, on disk first; what is refused, or cannot be written, changes nothing.
fn change_held<T: Clone + PartialEq + Serialize>(
    held: &Mutex<T>,
    path: &Path,
    change: impl FnOnce(&mut T) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fresh = held.clone();
    change(&mut fresh)?;
    if fresh != *held {
        write(path, &json!(fresh).to_string()).map_err(|error| unwritable(path, &error))?;
        *held = fresh;
    }
    Ok(())
}

/// What a file holds; what cannot be read is told and counts as nothing.
fn read_or_empty<T: Default + DeserializeOwned>(path: &Path) -> T {
    let read = match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return T::default(),
        Err(error) => Err(error.to_string()),
    };
    read.unwrap_or_else(|error| {
        tracing::error!(path = %path.display(), error, "what was kept cannot be read");
        T::default()
    })
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
