//! The real [`Mounter`].

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};
use tokio::time::{Instant, interval, timeout};

use super::{
    Config, graft,
    mounter::{MountState, Mounter, Problem},
    options::Definition,
    ossfs::process::{self, FILE_SYSTEM, Places, Wanted},
    table::{Mount, Table},
};

/// A mount has to answer within this time.
const MOUNT_LIMIT: Duration = Duration::from_secs(30);
/// A mount that does not answer in this time is taken as slow.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// How long an unmount waits for files that are still open, and between two attempts.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Mounts upon one another at one mount point.
const LAYERS_MAX: usize = 8;
/// An unmount writes back what is left; longer than this it is done behind our back.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(30);

/// Mounts in the mount namespace of this process.
#[derive(Debug)]
pub(super) struct System {
    places: Places,
    nas_dir: PathBuf,
    trials: PathBuf,
    trial: AtomicU64,
    /// Mounts that died and have no successor yet, which containers still have.
    dead: Mutex<HashMap<PathBuf, Mount>>,
    /// Looks that the kernel has not answered yet: one for each mount point, so that they do not pile up.
    looks: Arc<Mutex<HashSet<PathBuf>>>,
}

impl System {
    /// As configured.
    pub(super) fn new(config: &Config) -> Self {
        let state = &config.state_dir;
        Self {
            places: Places {
                credentials: state.join("credentials"),
                temporary: state.join("temporary"),
                ended: Arc::default(),
            },
            nas_dir: config.nas_dir.clone(),
            trials: state.join("trials"),
            trial: AtomicU64::new(0),
            dead: Mutex::default(),
            looks: Arc::default(),
        }
    }

    /// Makes directories, and takes away what a former process was trying when it was killed.
    pub(super) async fn clean(&self) {
        for directory in [&self.places.credentials, &self.places.temporary, &self.trials] {
            if let Err(error) = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
                tracing::error!(path = %directory.display(), %error, "a directory cannot be made");
            }
        }
        let Ok(listing) = fs::read_dir(&self.trials) else { return };
        for entry in listing.flatten() {
            self.end_trial(&entry.path()).await;
        }
        let Ok(listing) = fs::read_dir(&self.places.credentials) else { return };
        for entry in listing.flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }

    fn dead(&self) -> MutexGuard<'_, HashMap<PathBuf, Mount>> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn end_trial(&self, at: &Path) {
        if let Err(problem) = self.take_off(at).await {
            tracing::warn!(problem = problem.words(), "the end of a trial");
        }
        if let Err(error) = fs::remove_dir(at) {
            tracing::warn!(path = %at.display(), %error, "the mount point of a trial cannot be removed");
        }
    }

    async fn take_off(&self, at: &Path) -> Result<(), Problem> {
        // As often as something is mounted there: one may lie upon another.
        for _ in 0..LAYERS_MAX {
            let Some(mount) = mounted(at) else { return Ok(()) };
            unmount_one(at, self.state(at).await == MountState::Dead).await?;
            if mount.kind == FILE_SYSTEM {
                process::wait_for_end(at).await;
            }
        }
        Err(Problem::Lasting(format!("{} is still mounted after {LAYERS_MAX} unmounts", at.display())))
    }

    async fn look(&self, at: &Path) -> MountState {
        let is_first = {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            looks.insert(at.to_owned())
        };
        if !is_first {
            return MountState::Alive;
        }
        let (path, looks) = (at.to_owned(), Arc::clone(&self.looks));
        let look = tokio::task::spawn_blocking(move || {
            let seen = fs::metadata(&path).map(|metadata| metadata.ino());
            looks.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
            seen
        });
        match timeout(LOOK_LIMIT, look).await {
            Ok(Ok(Err(error))) if graft::is_gone(&error) => MountState::Dead,
            // No answer, or a refusal: somebody is there.
            _ => MountState::Alive,
        }
    }
}

/// The mount at a mount point.
fn mounted(at: &Path) -> Option<Mount> {
    match Table::read() {
        Ok(table) => table.at(at).cloned(),
        Err(error) => {
            tracing::error!(%error, "the table of mounts cannot be read");
            None
        }
    }
}

#[async_trait]
impl Mounter for System {
    async fn check(&self, definition: &Definition) -> Result<(), Problem> {
        let name = format!("trial-{}", self.trial.fetch_add(1, Ordering::Relaxed));
        let at = self.trials.join(&name);
        let made = fs::DirBuilder::new().mode(0o700).create(&at);
        made.map_err(|error| Problem::Lasting(format!("{}: {error}", at.display())))?;
        let outcome = match definition {
            Definition::Ossfs(options) => {
                let wanted = Wanted { options, at: &at, credentials: &name, is_trial: true };
                process::mount(&wanted, &self.places, MOUNT_LIMIT).await
            }
            Definition::Nas(options) => options.check(&self.nas_dir, &at).await,
        };
        self.end_trial(&at).await;
        outcome
    }

    async fn mount(&self, definition: &Definition, at: &Path) -> Result<(), Problem> {
        fs::create_dir_all(at).map_err(|error| Problem::Lasting(format!("{}: {error}", at.display())))?;
        match definition {
            Definition::Ossfs(options) => {
                let wanted = Wanted { options, at, credentials: &options.bucket, is_trial: false };
                let outcome = process::mount(&wanted, &self.places, MOUNT_LIMIT).await;
                if outcome.is_err() {
                    // A process that was killed leaves its mount.
                    let _ = self.take_off(at).await;
                }
                outcome
            }
            Definition::Nas(options) => options.mount(&self.nas_dir, at).await,
        }
    }

    async fn unmount(&self, at: &Path) -> Result<(), Problem> {
        // Nobody waits for its successor any more.
        self.dead().remove(at);
        self.take_off(at).await
    }

    async fn state(&self, at: &Path) -> MountState {
        match mounted(at) {
            None => MountState::Absent,
            Some(mount) if mount.is_deleted() => MountState::Dead,
            Some(_) => self.look(at).await,
        }
    }

    async fn revive(&self, definition: &Definition, at: &Path) -> Result<(), Problem> {
        if let Some(dead) = mounted(at).filter(|mount| mount.kind == FILE_SYSTEM) {
            self.dead().insert(at.to_owned(), dead);
        }
        self.take_off(at).await?;
        self.mount(definition, at).await?;
        // Forgotten only now: the server may have been away for several attempts.
        let Some(dead) = self.dead().remove(at) else { return Ok(()) };
        let at = at.to_owned();
        let places = tokio::task::spawn_blocking(move || graft::replace(&dead, &at)).await;
        tracing::info!(places = places.unwrap_or_default(), "running containers have the new mount");
        Ok(())
    }

    async fn is_used(&self, at: &Path) -> bool {
        let Some(mount) = mounted(at) else { return false };
        let users = tokio::task::spawn_blocking(move || graft::holders(&mount).len()).await;
        users.is_ok_and(|users| users > 0)
    }

    async fn disturbed(&self) {
        self.places.ended.notified().await;
    }
}

/// Takes the uppermost mount off.
async fn unmount_one(at: &Path, is_dead: bool) -> Result<(), Problem> {
    let deadline = Instant::now() + BUSY_LIMIT;
    let mut pause = interval(BUSY_PAUSE);
    let mut flags = if is_dead { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    loop {
        pause.tick().await;
        let path = at.to_owned();
        let call = tokio::task::spawn_blocking(move || umount2(&path, flags | MntFlags::UMOUNT_NOFOLLOW));
        match timeout(UNMOUNT_LIMIT, call).await {
            // EINVAL: not mounted any more.
            Ok(Ok(Ok(()) | Err(Errno::EINVAL | Errno::ENOENT))) => return Ok(()),
            // Files are still open; later they go with the last of them.
            Ok(Ok(Err(Errno::EBUSY))) if Instant::now() >= deadline => flags = MntFlags::MNT_DETACH,
            Ok(Ok(Err(Errno::EBUSY))) => {}
            Ok(Ok(Err(error))) => {
                return Err(Problem::Lasting(format!("{} cannot be unmounted: {error}", at.display())));
            }
            Ok(Err(error)) => return Err(Problem::Lasting(format!("{} cannot be unmounted: {error}", at.display()))),
            Err(_) => {
                // What it waits for does not answer: it goes with its process.
                process::kill_all(at);
                flags = MntFlags::MNT_DETACH;
            }
        }
    }
}
