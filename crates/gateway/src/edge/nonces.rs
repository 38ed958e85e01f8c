//! Replay protection for reads: a bounded set of nonces seen lately. (Nonces of changing requests are stored with their
//! transaction, so that they survive a restart; those of reads need not.)

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A bucket covers this many seconds; with the accepted skew of 15 minutes either way, 31 minutes have to be remembered.
const BUCKET_SECONDS: i64 = 120;
const BUCKETS_MAX: usize = 16;
/// Hashes in all buckets together; 8 bytes each and the set's overhead: about 16 MiB at most.
const ENTRIES_MAX: usize = 1 << 20;

#[derive(Default)]
struct Buckets {
    /// Oldest first: (bucket number, hashes).
    buckets: std::collections::VecDeque<(i64, HashSet<u64>)>,
    entries: usize,
}

/// Nonces of reads, as keyed 64-bit hashes in time buckets.
pub(super) struct ReadNonces {
    hasher: RandomState,
    buckets: Mutex<Buckets>,
    dropped: AtomicU64,
}

impl Default for ReadNonces {
    fn default() -> Self {
        Self { hasher: RandomState::new(), buckets: Mutex::default(), dropped: AtomicU64::new(0) }
    }
}

impl ReadNonces {
    /// Remembers the nonce; `false` when it was seen before.
    pub(super) fn admit(&self, access_key_id: &str, nonce: &str, now_seconds: i64) -> bool {
        let hash = self.hasher.hash_one((access_key_id, nonce));
        let bucket = now_seconds.div_euclid(BUCKET_SECONDS);
        let mut state = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if state.buckets.iter().any(|(_, hashes)| hashes.contains(&hash)) {
            return false;
        }
        if state.buckets.back().is_none_or(|(newest, _)| *newest < bucket) {
            state.buckets.push_back((bucket, HashSet::new()));
        }
        while state.buckets.len() > BUCKETS_MAX || (state.entries >= ENTRIES_MAX && state.buckets.len() > 1) {
            self.drop_oldest(&mut state, bucket);
        }
        if state.entries >= ENTRIES_MAX {
            // One bucket alone is full: that is more than 8,000 reads a second for two minutes. Begin anew, and count it.
            self.drop_oldest(&mut state, bucket);
            state.buckets.push_back((bucket, HashSet::new()));
        }
        if let Some((_, hashes)) = state.buckets.back_mut() {
            hashes.insert(hash);
            state.entries += 1;
        }
        true
    }

    /// Entries that had to be dropped before their time.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn drop_oldest(&self, state: &mut Buckets, now_bucket: i64) {
        if let Some((number, hashes)) = state.buckets.pop_front() {
            state.entries -= hashes.len();
            if now_bucket - number < BUCKETS_MAX as i64 {
                self.dropped.fetch_add(hashes.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_admitted_once_per_key() {
        let nonces = ReadNonces::default();
        assert!(nonces.admit("a", "1", 0));
        assert!(!nonces.admit("a", "1", 1));
        assert!(nonces.admit("b", "1", 1));
        assert!(!nonces.admit("a", "1", 1799));
    }

    #[test]
    fn old_ones_are_forgotten_and_memory_is_bounded() {
        let nonces = ReadNonces::default();
        assert!(nonces.admit("a", "1", 0));
        for minute in 0..60 {
            assert!(nonces.admit("a", &format!("m{minute}"), minute * 60));
        }
        assert!(nonces.admit("a", "1", 3600));
        assert_eq!(nonces.dropped(), 0);
        for number in 0..ENTRIES_MAX + 10 {
            nonces.admit("c", &number.to_string(), 3600);
        }
        assert!(nonces.dropped() > 0);
        let state = nonces.buckets.lock().unwrap();
        assert!(state.entries <= ENTRIES_MAX);
    }
}
