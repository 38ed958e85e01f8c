//! The store: documents from memory, changes as durable batches.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::backend::{Backend, Durability, SqliteBackend};
use crate::directory;
use crate::document::{Document, Versioned};
use crate::key::{MasterKey, Sealer, SecretBytes};
use crate::mirror::{Change, Mirror};
use crate::model::{Event, LogLine};
use crate::writer::{Guards, QUEUE_LENGTH_MAX, Request, Writer};
use crate::{Batch, EventQuery, Page, StoreError};

/// Changes that a slow watcher may be behind before it is told that it lags.
const WATCH_LENGTH_MAX: usize = 4_096;

/// Attempts of [`Store::modify`]. In each round of a race somebody wins, so this is reached only when more than this
/// many writers fight for one document.
const MODIFY_ATTEMPTS_MAX: usize = 1_000;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the store lies, and how much of the past it keeps.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The SQLite file. Its directory is made when it is missing, and locked: one process per directory.
    pub path: PathBuf,
    /// Seals the secrets. A database opens only with the key it was made with.
    pub master_key: MasterKey,
    /// Finished tasks may be forgotten this long after their last change.
    pub task_retention: Duration,
    /// Of finished tasks only this many are kept (the newest), however young they are: tasks are held in memory.
    pub finished_tasks_max: usize,
    /// The records of deleted clusters may be forgotten this long after the deletion.
    pub deleted_cluster_retention: Duration,
    /// Events kept, over all accounts.
    pub events_max: u32,
    /// Log lines kept of each cluster.
    pub log_lines_per_cluster_max: u32,
}

impl StoreOptions {
    /// The usual limits.
    pub fn new(path: impl Into<PathBuf>, master_key: MasterKey) -> Self {
        Self {
            path: path.into(),
            master_key,
            task_retention: 30 * DAY,
            finished_tasks_max: 2_000,
            deleted_cluster_retention: 30 * DAY,
            events_max: 100_000,
            log_lines_per_cluster_max: 5_000,
        }
    }
}

impl Default for StoreOptions {
    /// `sampan.db` in the working directory and a random key: both are meant to be replaced. (With the random key the
    /// database could not be opened again; the store says so then.)
    fn default() -> Self {
        // The operating system's generator does not fail after boot; if it does, nothing here can be trusted.
        #[allow(clippy::expect_used)]
        let key = MasterKey::generate().expect("the operating system's random generator works");
        Self::new("sampan.db", key)
    }
}

/// What Sampan knows. Cheap to clone; all clones are the same store.
///
/// Reading documents never waits: they are in memory. Every change is a [`Batch`]. Call [`Store::close`] at the end
/// of a process that wants to hand the data directory on; a process that just dies loses nothing that was
/// acknowledged.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    options: StoreOptions,
    sealer: Sealer,
    mirror: Arc<Mirror>,
    backend: Arc<dyn Backend>,
    watchers: broadcast::Sender<Change>,
    /// `None` once the store is closed.
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the store, or makes it; brings an older schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when another process uses the directory or the disk does not work;
    /// [`StoreError::Corrupt`] when the database was written by a newer version or is damaged; [`StoreError::Key`] when
    /// it was made with another master key.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_guarded(options, Durability::PowerLoss, None).await
    }

    /// A store in a directory of its own that goes away with the last clone. For tests: it does not survive a power
    /// cut.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_temporary() -> Result<Self, StoreError> {
        let directory = tempfile::Builder::new().prefix("sampan-store-").tempdir().map_err(|error| {
            StoreError::Unavailable(format!("no temporary directory can be made: {error}; check TMPDIR"))
        })?;
        let options = StoreOptions::new(directory.path().join("sampan.db"), MasterKey::generate()?);
        Self::open_guarded(options, Durability::None, Some(directory)).await
    }

    pub(crate) async fn open_guarded(
        options: StoreOptions,
        durability: Durability,
        temporary: Option<tempfile::TempDir>,
    ) -> Result<Self, StoreError> {
        let parent = directory::directory_of(&options.path);
        directory::prepare(&parent)?;
        let lock = Some(directory::lock(&parent)?);
        directory::prepare_database(&options.path)?;
        let backend = Arc::new(SqliteBackend::open(&options.path, durability).await?);
        Self::start(options, backend, Guards { lock, temporary }).await
    }

    /// Starts a store on an open database.
    pub(crate) async fn start(
        options: StoreOptions,
        backend: Arc<dyn Backend>,
        guards: Guards,
    ) -> Result<Self, StoreError> {
        let opened = async {
            check_key(&*backend, &options.master_key, &options.path).await?;
            let mirror = Arc::new(Mirror::default());
            mirror.replace(&backend.load_all().await?)?;
            Ok((Sealer::new(&options.master_key)?, mirror))
        };
        let (sealer, mirror) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                backend.close().await;
                return Err(error);
            }
        };
        let (watchers, _) = broadcast::channel(WATCH_LENGTH_MAX);
        let (queue, receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
        let writer = Writer { backend: backend.clone(), mirror: mirror.clone(), watchers: watchers.clone(), guards };
        let writer = tokio::spawn(writer.run(receiver));
        let (queue, writer) = (Mutex::new(Some(queue)), Mutex::new(Some(writer)));
        Ok(Self { inner: Arc::new(Inner { options, sealer, mirror, backend, watchers, queue, writer }) })
    }

    /// A document, from memory.
    pub fn get<T: Document>(&self, id: &str) -> Option<Arc<Versioned<T>>> {
        self.inner.mirror.get(id)
    }

    /// All documents of a kind, in the order of their ids, from memory.
    pub fn list<T: Document>(&self) -> Vec<Arc<Versioned<T>>> {
        self.inner.mirror.list()
    }

    /// The documents of a kind that belong to `parent`, in the order of their ids, from memory.
    pub fn list_of<T: Document>(&self, parent: &str) -> Vec<Arc<Versioned<T>>> {
        self.inner.mirror.list_of(parent)
    }

    /// Writes a batch: all of it, durably and visible to every reader when this returns `Ok`, or nothing.
    ///
    /// When the returned future is dropped before it is done, the batch may be written or not, but never in part.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] and [`StoreError::NonceUsed`] as the batch says. After [`StoreError::Unavailable`] it
    /// is, in rare cases, possible that the batch was written (a disk that failed at the very end); what the reading
    /// methods say is right.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (raw, effects) = batch.into_parts(&self.inner.sealer)?;
        let closed = || {
            let text = "nothing can be stored now: the server is stopping, or its writer failed and the log says why";
            StoreError::Unavailable(text.to_owned())
        };
        let queue = lock(&self.inner.queue).clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        queue.send(Request { raw, effects, reply }).await.map_err(|_| closed())?;
        // A sender kept here would keep a closing store open for as long as this batch takes, which is wanted.
        let outcome = answer.await.map_err(|_| closed())?;
        drop(queue);
        outcome
    }

    /// Changes one document, beginning anew when somebody else was faster. The closure says whether to write; it may be
    /// called several times. Returns the document as it is then, `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Store::commit`]; [`StoreError::Invalid`] when the closure changes the id.
    pub async fn modify<T: Document>(
        &self,
        id: &str,
        change: impl Fn(&mut T) -> bool + Send,
    ) -> Result<Option<Arc<Versioned<T>>>, StoreError> {
        let conflict = || StoreError::Conflict { kind: T::KIND, id: id.to_owned() };
        for _ in 0..MODIFY_ATTEMPTS_MAX {
            let Some(current) = self.get::<T>(id) else {
                return Ok(None);
            };
            let mut value = current.value.clone();
            if !change(&mut value) {
                return Ok(Some(current));
            }
            if value.id() != id {
                return Err(StoreError::Invalid(format!("the id of the {} {id} cannot be changed", T::KIND)));
            }
            let mut batch = Batch::new();
            batch.update(current.revision, &value);
            match self.commit(batch).await {
                // Somebody may have changed or deleted it since; the newest is what callers want to go on with.
                Ok(()) => return Ok(self.get(id)),
                Err(error) if error == conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(conflict())
    }

    /// Tells every change of a document, in the order of commits, after memory has it. A receiver that lags must look
    /// at everything.
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        self.inner.watchers.subscribe()
    }

    /// Whether a committed batch recorded this nonce and it was not pruned since.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the disk does not answer.
    pub async fn nonce_used(&self, access_key_id: &str, nonce: &str) -> Result<bool, StoreError> {
        self.inner.backend.nonce_used(access_key_id, nonce).await
    }

    /// A secret, decrypted; read from disk at each call, so callers on a hot path keep what they need.
    ///
    /// # Errors
    /// [`StoreError::Key`] when it was changed on disk.
    pub async fn secret(&self, name: &str) -> Result<Option<SecretBytes>, StoreError> {
        let sealed = self.inner.backend.secret(name).await?;
        sealed.map(|sealed| self.inner.sealer.open(name, sealed)).transpose()
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the disk does not answer.
    pub async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        self.inner.backend.events(query).await
    }

    /// The newest `limit` lines of a cluster's log (at most [`crate::LOG_LINES_PER_QUERY_MAX`]), the oldest of them
    /// first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the disk does not answer.
    pub async fn logs(&self, cluster_id: &str, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        self.inner.backend.logs(cluster_id, limit.min(crate::LOG_LINES_PER_QUERY_MAX)).await
    }

    /// The installation's master key, for deriving keys.
    pub fn master_key(&self) -> &MasterKey {
        &self.inner.options.master_key
    }

    /// Writes what is queued, then gives the data directory back. Later commits are refused; documents can still be
    /// read.
    pub async fn close(&self) {
        drop(lock(&self.inner.queue).take());
        let writer = lock(&self.inner.writer).take();
        if let Some(Err(error)) = match writer {
            Some(writer) => Some(writer.await),
            None => None,
        } {
            tracing::error!(%error, "the store's writer ended badly");
        }
    }

    pub(crate) fn options(&self) -> &StoreOptions {
        &self.inner.options
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.inner.backend
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Store").field("path", &self.inner.options.path).finish_non_exhaustive()
    }
}

/// A wrong key must be noticed at once, not at the first secret somebody asks for.
async fn check_key(backend: &dyn Backend, key: &MasterKey, path: &Path) -> Result<(), StoreError> {
    let mine = key.derive("check value");
    if backend.claim_fact("master_key_check", &mine).await? == mine {
        return Ok(());
    }
    Err(StoreError::Key(format!(
        "the database {} was made with another master key; start with the key file that belongs to it, restored from a \
         backup if need be",
        path.display()
    )))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Only whole values are put in and taken out under these locks, so poison says nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
