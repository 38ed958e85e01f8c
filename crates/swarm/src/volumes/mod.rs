//! The volume plug-in of a node: `ossfs` and `nas`.
//!
//! The Docker engine of a node asks it over two Unix sockets in Docker's protocol for volume plug-ins ([`protocol`]).
//! [`keeper`] knows which volumes there are and who uses them, mounts at the first use, unmounts after the last, and
//! mounts again what broke. How a file system gets into the machine is the business of a [`mounter::Mounter`]: a bucket
//! through an `s3fs` process ([`ossfs`]), a directory of the cluster's own file system or an NFS export ([`nas`]).
//!
//! Everything is below the configured `mount_root`: `ossfs/<bucket>` and `nas/<volume>`, where the API says volumes are.
//! Volumes of one bucket share its mount, so they must agree in every option.
//!
//! Mounts are made in the mount namespace of the machine, which the engine shares. `s3fs` processes lead process groups of
//! their own and outlive this process: a new one finds their mounts and goes on with them. When `s3fs` itself dies, its
//! mount is made anew, and running containers get the new one in the place of the dead one ([`graft`]); only files that
//! they held open stay broken.
//!
//! Credentials are in files that only root reads, never on a command line, in an answer or in a log.

mod boot;
mod files;
mod graft;
mod keeper;
mod locks;
mod mounter;
mod nas;
mod options;
mod ossfs;
mod protocol;
mod store;
mod system;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use self::{keeper::Keeper, options::Kind, store::Store, system::System};

/// What `sampan volumes` is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the Docker engine looks for the sockets of plug-ins.
    pub plugin_dir: PathBuf,
    /// Volumes and their credentials.
    pub state_dir: PathBuf,
    /// Below it volumes are mounted.
    pub mount_root: PathBuf,
    /// The file system that all machines of the cluster share.
    pub nas_dir: PathBuf,
}

/// Why the plug-in cannot work.
#[derive(Debug, thiserror::Error)]
pub enum VolumesError {
    /// The configuration cannot be read.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A directory of the configuration cannot be given to the programs that mount.
    #[error("'{0}' in the configuration is no absolute path of letters, digits and '/', '.', '_', '-'")]
    Path(PathBuf),
    /// Another process has the volumes.
    #[error("another process keeps the volumes of {}", .0.display())]
    Taken(PathBuf),
    /// A file or socket cannot be made or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Of what.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

impl VolumesError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl Config {
    fn read(path: &Path) -> Result<Self, VolumesError> {
        let fail = |source| VolumesError::Config { path: path.to_owned(), source };
        let text = fs::read(path).map_err(fail)?;
        let config: Self = serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
        for directory in [&config.plugin_dir, &config.state_dir, &config.mount_root, &config.nas_dir] {
            // They become parts of mount options, which commas would end.
            let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
            if !directory.is_absolute() || !directory.as_os_str().as_encoded_bytes().iter().copied().all(harmless) {
                return Err(VolumesError::Path(directory.clone()));
            }
        }
        Ok(config)
    }
}

/// Serves the node's volumes until it is told to end (`SIGTERM`). What is mounted stays mounted.
///
/// # Errors
/// When the configuration is wrong, another such process runs, or state or sockets cannot be opened.
pub async fn run(config_path: &Path) -> Result<(), VolumesError> {
    let config = Config::read(config_path)?;
    prepare(&config)?;
    let _lock = lock(&config.state_dir)?;
    let system = Arc::new(System::new(&config));
    system.clean().await;
    let store = Store::new(config.state_dir.clone(), boot::identity());
    let keeper =
        Keeper::open(store, system, config.mount_root.clone()).await.map_err(VolumesError::io(&config.state_dir))?;
    let mut signals = (
        signal(SignalKind::terminate()).map_err(VolumesError::io(config_path))?,
        signal(SignalKind::interrupt()).map_err(VolumesError::io(config_path))?,
    );
    let mut tasks = JoinSet::new();
    for kind in Kind::ALL {
        let listener = listen(&config.plugin_dir, kind)?;
        tasks.spawn(protocol::serve(listener, kind, Arc::clone(&keeper)));
    }
    tasks.spawn(keeper.tend());
    tracing::info!(plugin_dir = %config.plugin_dir.display(), "the volume plug-ins listen");
    tokio::select! {
        _ = signals.0.recv() => {}
        _ = signals.1.recv() => {}
        _ = tasks.join_next() => {}
    }
    Ok(())
}

fn prepare(config: &Config) -> Result<(), VolumesError> {
    for (directory, mode) in
        [(&config.plugin_dir, 0o755), (&config.state_dir, 0o700), (&config.mount_root, 0o755), (&config.nas_dir, 0o755)]
    {
        let is_new = !directory.exists();
        fs::create_dir_all(directory).map_err(VolumesError::io(directory))?;
        if is_new || mode == 0o700 {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).map_err(VolumesError::io(directory))?;
        }
    }
    Ok(())
}

/// Two keepers would unmount each other's volumes.
fn lock(state_dir: &Path) -> Result<Flock<fs::File>, VolumesError> {
    let path = state_dir.join("lock");
    let file =
        fs::File::options().create(true).truncate(false).write(true).open(&path).map_err(VolumesError::io(&path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| VolumesError::Taken(state_dir.to_owned()))
}

/// Opens a plug-in's socket in the place of one that is left over, without a moment when there is none.
fn listen(plugin_dir: &Path, kind: Kind) -> Result<UnixListener, VolumesError> {
    let path = plugin_dir.join(format!("{}.sock", kind.name()));
    let fresh = plugin_dir.join(format!(".{}.sock.new", kind.name()));
    let open = || {
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        fs::rename(&fresh, &path)?;
        Ok(listener)
    };
    open().map_err(VolumesError::io(&path))
}
