//! The allocation guard, as controllers use it: the use cases rewrite it with everything that they allocate.

use std::sync::Arc;

use sampan_store::{
    Batch, Store, Versioned,
    model::{ALLOCATION_GUARD, Setting},
};

/// The guard as it was before one looked at what is taken.
pub(super) struct Guard(Option<Arc<Versioned<Setting>>>);

impl Guard {
    /// Reads it. What is taken must be looked at only after this.
    pub(super) fn read(store: &Store) -> Self {
        Self(store.get::<Setting>(ALLOCATION_GUARD))
    }

    /// Lets the batch fail when anything was allocated in between, and lets others fail that looked before it.
    pub(super) fn rewrite(&self, batch: &mut Batch) {
        let count = self.0.as_ref().and_then(|guard| guard.value.value.as_u64()).unwrap_or(0);
        let next = Setting { id: ALLOCATION_GUARD.to_owned(), value: (count + 1).into() };
        match &self.0 {
            Some(guard) => batch.update(guard.revision, &next),
            None => batch.create(&next),
        };
    }
}
