//! The data directory: what is where, who may read it, and the credentials file that `sampan env` prints.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Paths under the data directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// How to reach the server: the root account's access key and the address it listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    /// `host:port`.
    pub(crate) endpoint: String,
    /// `http` or `https`.
    pub(crate) protocol: String,
    pub(crate) access_key_id: String,
    pub(crate) access_key_secret: String,
    pub(crate) region_id: String,
}

impl DataDir {
    /// Makes the directory (0711: the sockets' directory must be passable, everything secret is 0600 or 0700). A directory
    /// with other things in it is refused.
    pub(crate) fn create(root: &Path) -> anyhow::Result<Self> {
        if !root.exists() {
            make_dir(root, 0o711)?;
        }
        let root = root.canonicalize().with_context(|| format!("cannot resolve {}", root.display()))?;
        let dir = Self { root };
        dir.refuse_foreign()?;
        set_mode(&dir.root, 0o711)?;
        for (path, mode) in [
            (dir.agents(), 0o711),
            (dir.backups(), 0o700),
            (dir.balancer(), 0o700),
            (dir.images(), 0o755),
            (dir.registry(), 0o700),
            (dir.tls(), 0o700),
        ] {
            make_dir(&path, mode)?;
            set_mode(&path, mode)?;
        }
        Ok(dir)
    }

    /// A data directory has a database, or nothing but a configuration, logs and keys that were put there for it.
    fn refuse_foreign(&self) -> anyhow::Result<()> {
        const OURS: [&str; 8] = ["agents", "backups", "balancer", "images", "registry", "tls", "lock", "installation"];
        if self.database().exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&self.root).with_context(|| format!("cannot read {}", self.root.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let known = OURS.contains(&name.as_str())
                || [".toml", ".key", ".log", ".pid"].iter().any(|suffix| name.ends_with(suffix));
            anyhow::ensure!(
                known,
                "{} holds {name}, which is not Sampan's: give --data-dir a new or empty directory",
                self.root.display()
            );
        }
        Ok(())
    }

    /// Opens an existing one, for commands beside the server.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        let root = root
            .canonicalize()
            .with_context(|| format!("there is no data directory {}: start `sampan serve` first", root.display()))?;
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("sampan.db")
    }
    pub(crate) fn master_key(&self) -> PathBuf {
        self.root.join("master.key")
    }
    pub(crate) fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }
    pub(crate) fn agents_socket(&self) -> PathBuf {
        self.agents().join("agents.sock")
    }
    pub(crate) fn backups(&self) -> PathBuf {
        self.root.join("backups")
    }
    pub(crate) fn balancer(&self) -> PathBuf {
        self.root.join("balancer")
    }
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    pub(crate) fn registry(&self) -> PathBuf {
        self.root.join("registry")
    }
    pub(crate) fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }
    fn credentials(&self) -> PathBuf {
        self.root.join("credentials.json")
    }

    /// Writes the credentials file, mode 0600, as a whole or not at all.
    pub(crate) fn write_access(&self, access: &Access) -> anyhow::Result<()> {
        write_private(&self.credentials(), &serde_json::to_vec_pretty(access)?)
    }

    /// Reads the credentials file.
    pub(crate) fn read_access(&self) -> anyhow::Result<Access> {
        let path = self.credentials();
        let text = fs::read(&path).with_context(|| {
            format!("cannot read {}: start `sampan serve --data-dir {}` first", path.display(), self.root.display())
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not valid", path.display()))
    }
}

/// Writes a file that only its owner may read (0600), as a whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} is not a file", path.display()))?.to_owned();
    name.push(".sampan-new");
    let temporary = path.with_file_name(name);
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        // One that a killed run left behind may have another mode.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

fn make_dir(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_others_is_left_alone() {
        let root = std::env::temp_dir().join(format!("sampan-foreign-{}", std::process::id()));
        fs::create_dir_all(root.join("photos")).unwrap();
        let error = DataDir::create(&root).unwrap_err().to_string();
        assert!(error.contains("photos"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn credentials_are_private_and_come_back() {
        let root = std::env::temp_dir().join(format!("sampan-data-dir-{}", std::process::id()));
        let dir = DataDir::create(&root).unwrap();
        let access = Access {
            endpoint: "127.0.0.1:1".into(),
            protocol: "http".into(),
            access_key_id: "id".into(),
            access_key_secret: "secret".into(),
            region_id: "cn-hangzhou".into(),
        };
        dir.write_access(&access).unwrap();
        dir.write_access(&access).unwrap();
        assert_eq!(dir.read_access().unwrap(), access);
        let mode = fs::metadata(dir.credentials()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(root).unwrap();
    }
}
