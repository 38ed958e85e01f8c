//! The documents in memory: what is on disk, ready to be read without waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::StoreError;
use crate::backend::RawObject;
use crate::document::{AnyDocument, Document, Kind, Versioned, decode};

/// A document was written or deleted; memory has it already. A document that moved to another parent gives two of
/// these, one for each parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: Arc<str>,
    /// Its parent (the last one, when it was deleted).
    pub parent: Option<Arc<str>>,
}

/// What a committed batch does to memory.
pub(crate) enum Effect {
    Put { kind: Kind, id: String, parent: Option<String>, install: Box<dyn FnOnce(u64) -> AnyDocument + Send + Sync> },
    Delete { kind: Kind, id: String },
}

struct Entry {
    parent: Option<Arc<str>>,
    revision: u64,
    document: AnyDocument,
}

/// The documents of one kind.
#[derive(Default)]
struct Shelf {
    by_id: BTreeMap<Arc<str>, Entry>,
    by_parent: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Shelf {
    /// Returns the parent of the document that was replaced, `None` if there was none.
    fn put(&mut self, id: &Arc<str>, entry: Entry) -> Option<Option<Arc<str>>> {
        let new_parent = entry.parent.clone();
        let old = self.by_id.insert(id.clone(), entry).map(|old| old.parent);
        if let Some(Some(old_parent)) = &old
            && old.as_ref() != Some(&new_parent)
        {
            self.unlink(old_parent, id);
        }
        if let Some(parent) = new_parent {
            self.by_parent.entry(parent).or_default().insert(id.clone());
        }
        old
    }

    fn remove(&mut self, id: &str) -> Option<(Arc<str>, Option<Arc<str>>)> {
        let (id, entry) = self.by_id.remove_entry(id)?;
        if let Some(parent) = &entry.parent {
            self.unlink(parent, &id);
        }
        Some((id, entry.parent))
    }

    fn unlink(&mut self, parent: &Arc<str>, id: &str) {
        if let Some(children) = self.by_parent.get_mut(parent) {
            children.remove(id);
            if children.is_empty() {
                self.by_parent.remove(parent);
            }
        }
    }
}

type Shelves = [Shelf; Kind::ALL.len()];

/// One lock for all kinds, so that a batch becomes visible at once.
#[derive(Default)]
pub(crate) struct Mirror {
    shelves: RwLock<Shelves>,
}

impl Mirror {
    pub(crate) fn get<T: Document>(&self, id: &str) -> Option<Arc<Versioned<T>>> {
        self.read()[T::KIND as usize].by_id.get(id).and_then(typed)
    }

    pub(crate) fn list<T: Document>(&self) -> Vec<Arc<Versioned<T>>> {
        self.read()[T::KIND as usize].by_id.values().filter_map(typed).collect()
    }

    pub(crate) fn list_of<T: Document>(&self, parent: &str) -> Vec<Arc<Versioned<T>>> {
        let shelves = self.read();
        let shelf = &shelves[T::KIND as usize];
        let children = shelf.by_parent.get(parent).into_iter().flatten();
        children.filter_map(|id| shelf.by_id.get(id)).filter_map(typed).collect()
    }

    /// Does what a committed batch says. `revisions` are those of its writes, in order.
    pub(crate) fn apply(&self, effects: Vec<Effect>, revisions: &[u64]) -> Vec<Change> {
        let mut revisions = revisions.iter().copied();
        let mut changes = Vec::with_capacity(effects.len());
        let mut shelves = self.write();
        for effect in effects {
            match effect {
                Effect::Put { kind, id, parent, install } => {
                    // The backend gives one revision per write; without one the document could never be updated.
                    let revision = revisions.next().unwrap_or_default();
                    debug_assert_ne!(revision, 0, "the backend gave fewer revisions than there were writes");
                    let (id, parent) = (Arc::<str>::from(id), parent.map(Arc::<str>::from));
                    let entry = Entry { parent: parent.clone(), revision, document: install(revision) };
                    let old = shelves[kind as usize].put(&id, entry);
                    if let Some(old_parent) = old.filter(|old_parent| *old_parent != parent) {
                        changes.push(Change { kind, id: id.clone(), parent: old_parent });
                    }
                    changes.push(Change { kind, id, parent });
                }
                Effect::Delete { kind, id } => {
                    let removed = shelves[kind as usize].remove(&id);
                    changes.extend(removed.map(|(id, parent)| Change { kind, id, parent }));
                }
            }
        }
        changes
    }

    /// Makes memory equal to what was read from disk, and tells what that changed.
    pub(crate) fn replace(&self, rows: &[RawObject]) -> Result<Vec<Change>, StoreError> {
        let mut fresh = Shelves::default();
        for row in rows {
            let entry =
                Entry { parent: row.parent.as_deref().map(Arc::from), revision: row.revision, document: decode(row)? };
            fresh[row.kind as usize].put(&Arc::from(row.id.as_str()), entry);
        }
        let mut shelves = self.write();
        let changes = differences(&shelves, &fresh);
        *shelves = fresh;
        Ok(changes)
    }

    // A panic while the lock is held leaves maps that are whole (each map operation is), so poison says nothing here.
    fn read(&self) -> RwLockReadGuard<'_, Shelves> {
        self.shelves.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shelves> {
        self.shelves.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn differences(old: &Shelves, new: &Shelves) -> Vec<Change> {
    let mut changes = Vec::new();
    for kind in Kind::ALL {
        let (old, new) = (&old[kind as usize].by_id, &new[kind as usize].by_id);
        for (id, entry) in new {
            let before = old.get(id);
            if before.is_some_and(|before| before.revision == entry.revision) {
                continue;
            }
            if let Some(before) = before.filter(|before| before.parent != entry.parent) {
                changes.push(Change { kind, id: id.clone(), parent: before.parent.clone() });
            }
            changes.push(Change { kind, id: id.clone(), parent: entry.parent.clone() });
        }
        for (id, entry) in old.iter().filter(|(id, _)| !new.contains_key(*id)) {
            changes.push(Change { kind, id: id.clone(), parent: entry.parent.clone() });
        }
    }
    changes
}

fn typed<T: Document>(entry: &Entry) -> Option<Arc<Versioned<T>>> {
    let document = entry.document.clone().downcast::<Versioned<T>>();
    debug_assert!(document.is_ok(), "each kind has exactly one type");
    document.ok()
}
