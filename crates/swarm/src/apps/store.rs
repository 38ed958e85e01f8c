//! Applications on disk: one file each, written whole before anything is done about it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sampan_agents::disk;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, watch};

use super::{
    names,
    record::{FORM, Record},
};
use crate::model::Refusal;

/// Most applications of a cluster.
pub(crate) const PROJECTS_MAX: usize = 1000;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Deleted applications that are remembered, so that their containers on nodes that were away do not stay.
const TOMBSTONES_MAX: usize = 2000;
const TOMBSTONES_FILE: &str = "deleted-projects.json";

/// Applications as they are wanted, in memory and on disk.
pub(crate) struct Store {
    shared: Arc<Shared>,
    /// Writers take turns.
    turn: Arc<Turn<()>>,
}

struct Shared {
    directory: PathBuf,
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<String, Arc<Record>>,
    /// Names whose files could not be read.
    broken: BTreeSet<String>,
    tombstones: Arc<Tombstones>,
}

/// Uids of deleted applications, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tombstones {
    form: u32,
    uids: VecDeque<String>,
}

impl Tombstones {
    /// Whether an application with this uid was deleted.
    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.uids.iter().any(|known| known == uid)
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.uids.is_empty()
    }
}

impl Store {
    /// Reads everything under `state_dir`.
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let directory = state_dir.join("projects");
        fs::create_dir_all(&directory)?;
        let mut state = State { tombstones: Arc::new(tombstones(state_dir)?), ..State::default() };
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let Some(name) = project_of(&path) else { continue };
            match read(&path) {
                Ok(record) if record.name == name => {
                    state.records.insert(name, Arc::new(record));
                }
                Ok(record) => {
                    tracing::error!(path = %path.display(), inside = record.name, "the file of an application holds another one; it is left alone");
                    state.broken.insert(name);
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "the file of an application cannot be read; it is left alone");
                    state.broken.insert(name);
                }
            }
        }
        let shared = Shared { directory, state: Mutex::new(state), revision: watch::Sender::new(1) };
        Ok(Self { shared: Arc::new(shared), turn: Arc::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Counts changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Record>> {
        self.state().records.get(name).cloned()
    }

    /// All applications by name.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        self.state().records.values().cloned().collect()
    }

    pub(crate) fn tombstones(&self) -> Arc<Tombstones> {
        self.state().tombstones.clone()
    }

    /// Records a new application, if its name is free. `check` sees all others while nobody can change them.
    pub(crate) async fn insert(
        &self,
        record: Record,
        check: impl FnOnce(&[Arc<Record>]) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let turn = self.turn.clone().lock_owned().await;
        let others = {
            let state = self.state();
            if state.records.contains_key(&record.name) {
                return Err(Refusal::conflict(format!("the application {} exists already", record.name)));
            }
            if state.broken.contains(&record.name) {
                let path = self.shared.path(&record.name);
                return Err(Refusal::conflict(format!(
                    "the name {} is taken by a file that cannot be read: {}",
                    record.name,
                    path.display()
                )));
            }
            if state.records.len() >= PROJECTS_MAX {
                return Err(Refusal::conflict(format!(
                    "the cluster has {PROJECTS_MAX} applications, which is the most; delete some"
                )));
            }
            state.records.values().cloned().collect::<Vec<_>>()
        };
        check(&others)?;
        self.commit(turn, record).await
    }

    /// Changes an application; what `change` answers comes back when it is on disk. `change` sees the others as well.
    pub(crate) async fn update<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Record, &[Arc<Record>]) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let turn = self.turn.clone().lock_owned().await;
        let (before, others) = {
            let state = self.state();
            let before = state.records.get(name).cloned().ok_or_else(|| names::no_project(name))?;
            (before, state.records.values().filter(|other| other.name != name).cloned().collect::<Vec<_>>())
        };
        let mut after = Record::clone(&before);
        let answer = change(&mut after, &others)?;
        if after != *before {
            self.commit(turn, after).await?;
        }
        Ok(answer)
    }

    /// Forgets an application whose containers are gone, and remembers that it was deleted.
    pub(crate) async fn forget(&self, name: &str, uid: &str) -> Result<(), Refusal> {
        let turn = self.turn.clone().lock_owned().await;
        if self.get(name).is_none_or(|record| record.uid != uid) {
            return Ok(());
        }
        let mut tombstones = Tombstones::clone(&self.tombstones());
        tombstones.form = FORM;
        tombstones.uids.push_back(uid.to_owned());
        while tombstones.uids.len() > TOMBSTONES_MAX {
            tombstones.uids.pop_front();
        }
        let content = serde_json::to_vec(&tombstones).map_err(|error| unwritable(name, &error))?;
        let list = self.shared.directory.with_file_name(TOMBSTONES_FILE);
        let file = self.shared.path(name);
        let (shared, project) = (self.shared.clone(), name.to_owned());
        let work = async move {
            let _turn = turn;
            blocking(&project, move || {
                disk::replace(&list, 0o600, &content, true)?;
                fs::remove_file(&file)?;
                file.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
            })
            .await?;
            {
                let mut state = shared.state();
                state.records.remove(&project);
                state.tombstones = Arc::new(tombstones);
            }
            shared.revision.send_modify(|revision| *revision += 1);
            Ok(())
        };
        to_its_end(name, work).await
    }

    async fn commit(&self, turn: OwnedMutexGuard<()>, mut record: Record) -> Result<(), Refusal> {
        record.form = FORM;
        let name = record.name.clone();
        let content = serde_json::to_vec(&record).map_err(|error| unwritable(&name, &error))?;
        if content.len() as u64 > FILE_BYTES_MAX {
            let size = content.len();
            return Err(Refusal::bad(format!(
                "the application {name} takes {size} bytes, {FILE_BYTES_MAX} are allowed"
            )));
        }
        let path = self.shared.path(&name);
        let shared = self.shared.clone();
        let work = async move {
            let _turn = turn;
            blocking(&record.name, move || disk::replace(&path, 0o600, &content, true)).await?;
            shared.state().records.insert(record.name.clone(), Arc::new(record));
            shared.revision.send_modify(|revision| *revision += 1);
            Ok(())
        };
        to_its_end(&name, work).await
    }

    /// Nothing is being written any more.
    #[cfg(test)]
    pub(crate) async fn idle(&self) {
        drop(self.turn.lock().await);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

/// A write that has begun is finished, whoever stops waiting for it: memory and disk must not differ.
async fn to_its_end(
    name: &str,
    work: impl Future<Output = Result<(), Refusal>> + Send + 'static,
) -> Result<(), Refusal> {
    tokio::spawn(work).await.map_err(|error| unwritable(name, &error))?
}

async fn blocking(name: &str, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), Refusal> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| unwritable(name, &error))?;
    done.map_err(|error| unwritable(name, &error))
}

fn unwritable(name: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::internal(format!(
        "the application {name} could not be recorded: {error}; see the disk of the cluster's master"
    ))
}

/// The project whose file this is; `None` for what is no such file.
fn project_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
    crate::compose::project_name(name).is_ok().then(|| name.to_owned())
}

fn read(path: &Path) -> io::Result<Record> {
    let size = fs::metadata(path)?.len();
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has {size} bytes, {FILE_BYTES_MAX} are allowed")));
    }
    let content = fs::read(path)?;
    let form: Form = serde_json::from_slice(&content)?;
    if form.form > FORM {
        return Err(io::Error::other(format!(
            "it was written by a later version (form {}, known is {FORM})",
            form.form
        )));
    }
    Ok(serde_json::from_slice(&content)?)
}

#[derive(Deserialize)]
struct Form {
    form: u32,
}

fn tombstones(state_dir: &Path) -> io::Result<Tombstones> {
    match fs::read(state_dir.join(TOMBSTONES_FILE)) {
        Ok(content) => Ok(serde_json::from_slice(&content)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tombstones::default()),
        Err(error) => Err(error),
    }
}
