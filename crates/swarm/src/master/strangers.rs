//! Connections that have not said yet who they are.
//!
//! All of them come through the cluster's balancer, so their addresses tell nothing, and whoever connects may be silent for as
//! long as a handshake may take. They do not wait for one another; there is a bound, and beyond it the oldest goes: who really
//! wants to be let in has long been.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Strangers of an endpoint.
pub(super) struct Strangers {
    max: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    next: u64,
    /// By number; the lowest came first.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// A stranger, until this is dropped.
pub(super) struct Stranger {
    of: Arc<Strangers>,
    number: u64,
    gone: CancellationToken,
}

impl Strangers {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one in, and turns the oldest away if there are too many.
    pub(super) fn take_in(self: &Arc<Self>) -> Stranger {
        let mut known = self.known();
        let (number, gone) = (known.next, CancellationToken::new());
        known.next += 1;
        known.waiting.insert(number, gone.clone());
        while known.waiting.len() > self.max {
            if let Some((_, oldest)) = known.waiting.pop_first() {
                oldest.cancel();
            }
        }
        drop(known);
        Stranger { of: self.clone(), number, gone }
    }
}

impl Stranger {
    /// Ends when somebody else needs the place.
    pub(super) async fn turned_away(&self) {
        self.gone.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.of.known().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes() {
        let strangers = Strangers::new(2);
        let (first, second) = (strangers.take_in(), strangers.take_in());
        drop(second);
        let third = strangers.take_in();
        assert!(!first.gone.is_cancelled());
        let fourth = strangers.take_in();
        assert!(first.gone.is_cancelled() && !third.gone.is_cancelled() && !fourth.gone.is_cancelled());
        drop((first, third, fourth));
        assert!(strangers.known().waiting.is_empty());
    }
}
