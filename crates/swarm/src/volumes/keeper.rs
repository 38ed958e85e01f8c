//! Which volumes there are, who uses them, and what is mounted for them.
//!
//! Users come first: a mount is made for somebody who is already on record, and ends after the last is off it. So whatever
//! kills this process, the next one knows what to keep, to mount again and to unmount.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rand::Rng as _;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    locks::Locks,
    mounter::{MountState, Mounter, Problem},
    options::{Definition, Kind, Volume, check_name},
    store::{Key, Store, Users},
};

/// Volumes of one driver on one node.
pub(super) const VOLUMES_MAX: usize = 1024;
/// Users of one volume: containers that mount it.
const USERS_MAX: usize = 4096;
/// Longest identifier of a user.
const USER_MAX: usize = 256;
/// A container's start waits at most so long for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often mounts are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long a look waits for its turn; shorter than the shortest pause between two.
const TURN: Duration = Duration::from_secs(1);
/// Pauses between attempts to mount again what died.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After so long without trouble pauses begin anew.
const CALM: Duration = Duration::from_secs(300);
/// After so long without a sign in the kernel's tables a user is one that the engine forgot.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// What the engine may know of a volume.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    /// Its name.
    pub(super) name: String,
    /// Where it is, when it is mounted.
    pub(super) mountpoint: PathBuf,
    /// Since when it exists.
    pub(super) created: Timestamp,
    /// More in words.
    pub(super) status: serde_json::Map<String, serde_json::Value>,
}

/// Why something was refused, for the user.
pub(super) type Refused = String;

/// The volumes of this node.
pub(super) struct Keeper {
    store: Store,
    mounter: Arc<dyn Mounter>,
    mount_root: PathBuf,
    book: Mutex<Book>,
    locks: Locks,
}

#[derive(Default)]
struct Book {
    volumes: BTreeMap<Key, Volume>,
    users: Users,
    /// When a volume last got a user.
    mounted: HashMap<Key, Instant>,
    /// Mount points that had to be mounted again.
    troubles: HashMap<PathBuf, Trouble>,
}

/// The last time that a mount was found broken.
struct Trouble {
    /// Why it still is.
    words: Option<String>,
    at: Instant,
    pause: Duration,
    /// Not again before that: also what can be mounted may die again at once.
    next: Instant,
}

/// What a look at a mount leads to.
enum Step {
    Nothing,
    Unmount,
    Revive(Definition),
}

impl Keeper {
    /// Reads what is on disk. Nothing is mounted yet: that is the business of [`Self::tend`] and of users.
    pub(super) async fn open(store: Store, mounter: Arc<dyn Mounter>, mount_root: PathBuf) -> io::Result<Arc<Self>> {
        let (volumes, users) = on_disk(&store, Store::load).await?;
        let book = Mutex::new(Book { volumes, users, ..Book::default() });
        Ok(Arc::new(Self { store, mounter, mount_root, book, locks: Locks::default() }))
    }

    /// Records a volume after its options, and what they lead to, were found good. Fine when there is the very same.
    pub(super) async fn create(
        &self,
        kind: Kind,
        name: &str,
        options: BTreeMap<String, String>,
    ) -> Result<(), Refused> {
        check_name(name)?;
        let definition = Definition::read(kind, options)?;
        let key = (kind, name.to_owned());
        let at = definition.mountpoint(&self.mount_root, name);
        let _name = self.locks.hold(format!("volume {kind:?} {name}")).await;
        let _mount = self.hold(&at).await;
        if self.is_there(&key, &definition, &at)? {
            return Ok(());
        }
        if self.mounter.state(&at).await != MountState::Alive {
            self.mounter.check(&definition).await.map_err(|problem| problem.words().to_owned())?;
        }
        let volume = Volume { name: name.to_owned(), created: Timestamp::now(), definition };
        let written = volume.clone();
        on_disk(&self.store, move |store| store.write(&written)).await.map_err(|error| cannot_write(name, &error))?;
        self.book().volumes.insert(key, volume);
        Ok(())
    }

    /// Whether the volume exists just so. Refuses what others make impossible.
    fn is_there(&self, key: &Key, definition: &Definition, at: &Path) -> Result<bool, Refused> {
        let book = self.book();
        if let Some(volume) = book.volumes.get(key) {
            return if volume.definition == *definition {
                Ok(true)
            } else {
                Err(format!("there is a volume '{}' with other options; remove it first", key.1))
            };
        }
        if book.volumes.keys().filter(|(kind, _)| *kind == key.0).count() >= VOLUMES_MAX {
            return Err(format!("there are already {VOLUMES_MAX} volumes of the driver {}", key.0.name()));
        }
        let other = self.at_same(&book, at).find(|volume| volume.definition != *definition);
        match other {
            Some(other) => Err(format!(
                "the volume '{}' has the same bucket with other options; volumes of one bucket share its mount, so all \
                 their options must be the same",
                other.name
            )),
            None => Ok(false),
        }
    }

    /// Forgets a volume that nobody uses. Files stay where they are.
    pub(super) async fn remove(&self, kind: Kind, name: &str) -> Result<(), Refused> {
        let key = (kind, name.to_owned());
        let _name = self.locks.hold(format!("volume {kind:?} {name}")).await;
        let volume = self.volume(&key)?;
        let at = self.mountpoint(&volume);
        let _mount = self.hold(&at).await;
        if self.has_users(&key) {
            self.forget_lost_users(&key, &at).await?;
        }
        if !self.is_wanted(&at) {
            self.mounter.unmount(&at).await.map_err(|problem| problem.words().to_owned())?;
        }
        let gone = key.clone();
        on_disk(&self.store, move |store| store.remove(&gone)).await.map_err(|error| cannot_write(name, &error))?;
        let mut book = self.book();
        book.volumes.remove(&key);
        book.mounted.remove(&key);
        if self.at_same(&book, &at).next().is_none() {
            book.troubles.remove(&at);
        }
        Ok(())
    }

    /// An engine that was killed may forget to unmount. Before it removes a volume it makes sure that no container of its
    /// own has it; if the kernel does not know of one either, the users on record are such leftovers.
    async fn forget_lost_users(&self, key: &Key, at: &Path) -> Result<(), Refused> {
        let is_recent = self.book().mounted.get(key).is_some_and(|mounted| mounted.elapsed() < FORGOTTEN);
        if is_recent || self.mounter.is_used(at).await {
            return Err(format!("the volume '{}' is in use: it is mounted by a container", key.1));
        }
        tracing::warn!(volume = key.1, "users that the engine forgot are forgotten");
        self.book().users.remove(key);
        self.write_users().await.map_err(|error| cannot_write(&key.1, &error))
    }

    /// Mounts a volume for a user, unless it is mounted already. Answers where.
    pub(super) async fn mount(&self, kind: Kind, name: &str, user: &str) -> Result<PathBuf, Refused> {
        if user.len() > USER_MAX {
            return Err(format!("the identifier of the mount is longer than {USER_MAX} bytes"));
        }
        let key = (kind, name.to_owned());
        let at = self.mountpoint(&self.volume(&key)?);
        let _mount = self.hold(&at).await;
        // It may have gone while we waited.
        let volume = self.volume(&key)?;
        let is_new = self.add_user(&key, user)?;
        let recorded = self.write_users().await.map_err(|error| cannot_write(name, &error));
        let done = match recorded {
            Ok(()) => self.make_alive(&volume, &at).await.map_err(|problem| problem.words().to_owned()),
            Err(words) => Err(words),
        };
        if let Err(words) = done {
            if is_new {
                self.drop_user(&key, user);
                let _ = self.write_users().await;
            }
            return Err(words);
        }
        if let Some(trouble) = self.book().troubles.get_mut(&at) {
            trouble.words = None;
        }
        Ok(at)
    }

    async fn make_alive(&self, volume: &Volume, at: &Path) -> Result<(), Problem> {
        match self.mounter.state(at).await {
            MountState::Alive => Ok(()),
            MountState::Dead => self.mounter.revive(&volume.definition, at).await,
            MountState::Absent => self.mount_patiently(&volume.definition, at).await,
        }
    }

    /// After a power cut the server of a bucket may come up after us.
    async fn mount_patiently(&self, definition: &Definition, at: &Path) -> Result<(), Problem> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSE_FIRST;
        loop {
            let problem = match self.mounter.mount(definition, at).await {
                Err(problem @ Problem::Passing(_)) => problem,
                done => return done,
            };
            let next = Instant::now() + jittered(pause);
            if next >= deadline {
                return Err(problem);
            }
            tracing::warn!(problem = problem.words(), "trying again");
            sleep_until(next).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Takes a user off; the last one's mount ends. Fine when there is no such user.
    pub(super) async fn unmount(&self, kind: Kind, name: &str, user: &str) -> Result<(), Refused> {
        let key = (kind, name.to_owned());
        let at = self.mountpoint(&self.volume(&key)?);
        let _mount = self.hold(&at).await;
        self.drop_user(&key, user);
        if let Err(error) = self.write_users().await {
            // The mount ends all the same; a user too many on disk only keeps a mount longer than needed.
            tracing::error!(%error, "users of volumes cannot be written");
        }
        if self.is_wanted(&at) {
            return Ok(());
        }
        self.mounter.unmount(&at).await.map_err(|problem| problem.words().to_owned())
    }

    /// One volume.
    pub(super) fn get(&self, kind: Kind, name: &str) -> Result<Shown, Refused> {
        let key = (kind, name.to_owned());
        let volume = self.volume(&key)?;
        Ok(self.shown(&key, &volume))
    }

    /// All volumes of a driver.
    pub(super) fn list(&self, kind: Kind) -> Vec<Shown> {
        let volumes: Vec<(Key, Volume)> = {
            let book = self.book();
            let own = book.volumes.iter().filter(|((of, _), _)| *of == kind);
            own.map(|(key, volume)| (key.clone(), volume.clone())).collect()
        };
        volumes.iter().map(|(key, volume)| self.shown(key, volume)).collect()
    }

    fn shown(&self, key: &Key, volume: &Volume) -> Shown {
        let mountpoint = self.mountpoint(volume);
        let book = self.book();
        let mut status = volume.definition.status();
        status.insert("users".to_owned(), book.users.get(key).map_or(0, BTreeSet::len).into());
        if let Some(words) = book.troubles.get(&mountpoint).and_then(|trouble| trouble.words.clone()) {
            status.insert("error".to_owned(), words.into());
        }
        Shown { name: volume.name.clone(), mountpoint, created: volume.created, status }
    }

    /// Looks after mounts for ever: those with users are kept alive, those without are taken off.
    pub(super) async fn tend(self: Arc<Self>) {
        // Each mount by itself: one that hangs must not keep others waiting.
        let mut rounds = JoinSet::new();
        loop {
            while rounds.try_join_next().is_some() {}
            for at in self.mountpoints() {
                let keeper = Arc::clone(&self);
                rounds.spawn(async move { keeper.tend_mount(&at).await });
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(LOOK)) => {}
                () = self.mounter.disturbed() => {}
            }
        }
    }

    /// One round.
    #[cfg(test)]
    pub(super) async fn tend_once(&self) {
        for at in self.mountpoints() {
            self.tend_mount(&at).await;
        }
    }

    fn mountpoints(&self) -> BTreeSet<PathBuf> {
        let book = self.book();
        book.volumes.values().map(|volume| self.mountpoint(volume)).collect()
    }

    async fn tend_mount(&self, at: &Path) {
        // Somebody mounts or unmounts it right now: the next round will do.
        let Ok(_mount) = timeout(TURN, self.hold(at)).await else { return };
        let state = self.mounter.state(at).await;
        match self.next_step(at, state) {
            Step::Nothing => {}
            Step::Unmount => {
                if let Err(problem) = self.mounter.unmount(at).await {
                    self.trouble(at, Some(&problem));
                }
            }
            Step::Revive(definition) => {
                tracing::warn!(at = %at.display(), ?state, "a mount in use is gone; mounting again");
                let done = self.mounter.revive(&definition, at).await;
                self.trouble(at, done.err().as_ref());
            }
        }
    }

    fn next_step(&self, at: &Path, state: MountState) -> Step {
        let mut book = self.book();
        book.troubles.retain(|of, trouble| of != at || trouble.at.elapsed() < CALM);
        let wanted = self.at_same(&book, at).find(|volume| book.users.contains_key(&key_of(volume)));
        let waits = book.troubles.get(at).is_some_and(|trouble| trouble.next > Instant::now());
        match (state, wanted) {
            (MountState::Alive, Some(_)) | (MountState::Absent, None) => Step::Nothing,
            (MountState::Alive | MountState::Dead, None) => Step::Unmount,
            (MountState::Absent | MountState::Dead, Some(_)) if waits => Step::Nothing,
            (MountState::Absent | MountState::Dead, Some(volume)) => Step::Revive(volume.definition.clone()),
        }
    }

    /// Notes that a mount was broken, and whether it still is.
    fn trouble(&self, at: &Path, problem: Option<&Problem>) {
        let words = problem.map(|problem| problem.words().to_owned());
        if let Some(words) = &words {
            tracing::warn!(at = %at.display(), problem = words, "a mount cannot be kept");
        }
        let mut book = self.book();
        let before = book.troubles.get(at).filter(|trouble| trouble.at.elapsed() < CALM);
        let pause = before.map_or(PAUSE_FIRST, |trouble| (trouble.pause * 2).min(PAUSE_MAX));
        let now = Instant::now();
        book.troubles.insert(at.to_owned(), Trouble { words, at: now, pause, next: now + jittered(pause) });
    }

    fn volume(&self, key: &Key) -> Result<Volume, Refused> {
        let book = self.book();
        book.volumes
            .get(key)
            .cloned()
            .ok_or_else(|| format!("there is no volume '{}' of the driver {}", key.1, key.0.name()))
    }

    fn mountpoint(&self, volume: &Volume) -> PathBuf {
        volume.definition.mountpoint(&self.mount_root, &volume.name)
    }

    fn at_same<'a>(&'a self, book: &'a Book, at: &'a Path) -> impl Iterator<Item = &'a Volume> {
        book.volumes.values().filter(move |volume| self.mountpoint(volume) == at)
    }

    fn has_users(&self, key: &Key) -> bool {
        self.book().users.contains_key(key)
    }

    /// Whether a volume of this mount point has users.
    fn is_wanted(&self, at: &Path) -> bool {
        let book = self.book();
        self.at_same(&book, at).any(|volume| book.users.contains_key(&key_of(volume)))
    }

    fn add_user(&self, key: &Key, user: &str) -> Result<bool, Refused> {
        let mut book = self.book();
        let users = book.users.entry(key.clone()).or_default();
        if users.len() >= USERS_MAX && !users.contains(user) {
            return Err(format!("the volume '{}' already has {USERS_MAX} users on this node", key.1));
        }
        let is_new = users.insert(user.to_owned());
        book.mounted.insert(key.clone(), Instant::now());
        Ok(is_new)
    }

    fn drop_user(&self, key: &Key, user: &str) {
        let mut book = self.book();
        if let Some(users) = book.users.get_mut(key) {
            users.remove(user);
            if users.is_empty() {
                book.users.remove(key);
            }
        }
    }

    async fn write_users(&self) -> io::Result<()> {
        // In turn, so that the last one written is the newest.
        let _turn = self.locks.hold("users".to_owned()).await;
        let users = self.book().users.clone();
        on_disk(&self.store, move |store| store.write_users(&users)).await
    }

    async fn hold(&self, at: &Path) -> tokio::sync::OwnedMutexGuard<()> {
        self.locks.hold(format!("mount {}", at.display())).await
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(volume: &Volume) -> Key {
    (volume.definition.kind(), volume.name.clone())
}

fn cannot_write(name: &str, error: &io::Error) -> Refused {
    format!("the volume '{name}' cannot be recorded on this machine's disk: {error}")
}

/// Between half and all of it.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}

async fn on_disk<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || work(&store)).await.map_err(io::Error::other)?
}
