//! Volumes and their users on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{
    files,
    options::{Kind, Volume, check_name},
};

/// A volume: its driver and name.
pub(super) type Key = (Kind, String);
/// Who mounted which volume: identifiers that the engine invents for each mount.
pub(super) type Users = BTreeMap<Key, BTreeSet<String>>;

/// The state directory. Its calls block.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
    boot: String,
}

/// Users are those of one run of the machine.
#[derive(Serialize, Deserialize)]
struct UsersFile {
    boot: String,
    users: Vec<(Kind, String, BTreeSet<String>)>,
}

impl Store {
    /// `boot` names this run of the machine.
    pub(super) fn new(directory: PathBuf, boot: String) -> Self {
        Self { directory, boot }
    }

    /// Reads everything. What cannot be read is left where it is and told in the log: other volumes must work.
    pub(super) fn load(&self) -> io::Result<(BTreeMap<Key, Volume>, Users)> {
        let mut volumes = BTreeMap::new();
        for kind in Kind::ALL {
            let directory = self.directory.join(kind.name());
            fs::create_dir_all(&directory)?;
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                let named = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
                let Some(name) = named.filter(|name| check_name(name).is_ok()) else { continue };
                match fs::read(&path).and_then(|text| Ok(serde_json::from_slice::<Volume>(&text)?)) {
                    Ok(volume) if volume.name == name && volume.definition.kind() == kind => {
                        volumes.insert((kind, name.to_owned()), volume);
                    }
                    Ok(_) => {
                        tracing::error!(path = %path.display(), "holds another volume than its name says; left out")
                    }
                    Err(error) => tracing::error!(path = %path.display(), %error, "a volume cannot be read; left out"),
                }
            }
        }
        let users = self.load_users(&volumes);
        Ok((volumes, users))
    }

    fn load_users(&self, volumes: &BTreeMap<Key, Volume>) -> Users {
        let path = self.users_path();
        let file = match fs::read(&path).and_then(|text| Ok(serde_json::from_slice::<UsersFile>(&text)?)) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(path = %path.display(), %error, "users of volumes cannot be read; taken as none");
                }
                return Users::new();
            }
        };
        if file.boot != self.boot {
            return Users::new();
        }
        let users = file.users.into_iter().map(|(kind, name, users)| ((kind, name), users));
        users.filter(|(key, users)| volumes.contains_key(key) && !users.is_empty()).collect()
    }

    /// Writes a volume.
    pub(super) fn write(&self, volume: &Volume) -> io::Result<()> {
        files::replace(&self.path(volume.definition.kind(), &volume.name), &serde_json::to_vec(volume)?)
    }

    /// Forgets a volume.
    pub(super) fn remove(&self, key: &Key) -> io::Result<()> {
        files::remove(&self.path(key.0, &key.1))
    }

    /// Writes who uses what.
    pub(super) fn write_users(&self, users: &Users) -> io::Result<()> {
        let users = users.iter().map(|((kind, name), users)| (*kind, name.clone(), users.clone())).collect();
        files::replace(&self.users_path(), &serde_json::to_vec(&UsersFile { boot: self.boot.clone(), users })?)
    }

    fn path(&self, kind: Kind, name: &str) -> PathBuf {
        self.directory.join(kind.name()).join(format!("{name}.json"))
    }

    fn users_path(&self) -> PathBuf {
        self.directory.join("users.json")
    }
}
