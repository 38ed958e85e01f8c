//! How often triggers may be called.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::SignedDuration;
use sampan_store::model::Timestamp;

/// Calls that a trigger takes at once.
const BURST: u32 = 20;
/// And one more each so often.
const REFILL: SignedDuration = SignedDuration::from_secs(2);
/// Wrong secrets that are answered as such in a burst, over all triggers; more are turned away unread.
const FAILURES_BURST: u32 = 50;
/// And one more each so often.
const FAILURES_REFILL: SignedDuration = SignedDuration::from_millis(200);
/// Triggers remembered; a full bucket need not be.
const BUCKETS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    since: Timestamp,
}

impl Bucket {
    /// Takes one; false: there is none.
    fn take(&mut self, now: Timestamp, burst: u32, refill: SignedDuration) -> bool {
        let passed = now.duration_since(self.since).as_millis().max(0);
        let gained = passed / refill.as_millis();
        let full = self.left.saturating_add(u32::try_from(gained).unwrap_or(u32::MAX)) >= burst;
        if full {
            (self.left, self.since) = (burst, now);
        } else if gained > 0 {
            self.left += u32::try_from(gained).unwrap_or(u32::MAX);
            self.since += refill * i32::try_from(gained).unwrap_or(i32::MAX);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[derive(Debug, Default)]
struct Buckets {
    triggers: HashMap<String, Bucket>,
    failures: Option<Bucket>,
}

/// The calls of late.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    buckets: Mutex<Buckets>,
}

impl Rates {
    /// Whether this trigger may be called now; a yes counts.
    pub(super) fn admit(&self, trigger_id: &str, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.triggers.len() >= BUCKETS_MAX {
            buckets.triggers.retain(|_, bucket| now.duration_since(bucket.since) < REFILL * BURST as i32);
        }
        let fresh = Bucket { left: BURST, since: now };
        buckets.triggers.entry(trigger_id.to_owned()).or_insert(fresh).take(now, BURST, REFILL)
    }

    /// Whether one more wrong call may be answered as such.
    pub(super) fn admit_failure(&self, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Bucket { left: FAILURES_BURST, since: now };
        buckets.failures.get_or_insert(fresh).take(now, FAILURES_BURST, FAILURES_REFILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_takes_a_burst_and_then_one_at_a_time() {
        let rates = Rates::default();
        let mut now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000);
        assert!((0..BURST).all(|_| rates.admit("a", now)));
        assert!(!rates.admit("a", now));
        assert!(rates.admit("b", now), "others are not concerned");
        now += REFILL;
        assert!(rates.admit("a", now));
        assert!(!rates.admit("a", now));
        now += SignedDuration::from_secs(3600);
        assert!((0..BURST).all(|_| rates.admit("a", now)));
        assert!(!rates.admit("a", now), "what was saved up is bounded");
    }

    #[test]
    fn guessing_is_slowed_down() {
        let rates = Rates::default();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!((0..1000).filter(|_| rates.admit_failure(now)).count(), FAILURES_BURST as usize);
        assert!(rates.admit("a", now), "callers with the secret are not concerned");
    }
}
