//! The work queue of the driver: which keys are due, which wait, which are being worked on. Pure: time is an argument.
//!
//! A key is in the queue at most once, is worked on by at most one worker, and is looked at again when it was woken while
//! it was being worked on. Nothing is remembered of a key that is settled.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    fmt::Debug,
    hash::{BuildHasher as _, Hash, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// However often it is woken, a key that keeps failing is tried at most this often.
const FAILING_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// How fast a failed key is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// Pause after the first failure.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl BackOff {
    /// Pause after so many failures in a row, before jitter.
    fn pause(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

/// How a piece of work ended, as the queue needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing more to do until woken.
    Settled,
    /// Look again after this time.
    Again(Duration),
    /// Failed: try again after a growing pause.
    Failed,
}

#[derive(Debug, Default)]
struct Entry {
    queued: bool,
    running: bool,
    woken_while_running: bool,
    due: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<K> {
    entries: HashMap<K, Entry>,
    ready: VecDeque<K>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    timer_keys: HashMap<u64, K>,
    timers_made: u64,
    back_off: BackOff,
    jitter: RandomState,
}

impl<K: Clone + Eq + Hash + Debug> Queue<K> {
    pub(super) fn new(back_off: BackOff) -> Self {
        Self {
            entries: HashMap::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            timer_keys: HashMap::new(),
            timers_made: 0,
            back_off,
            jitter: RandomState::new(),
        }
    }

    /// Something changed: look at `key` soon.
    pub(super) fn wake(&mut self, key: K, now: Instant) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.running {
            entry.woken_while_running = true;
        } else if let Some(not_before) = entry.not_before.filter(|at| *at > now) {
            if entry.due.is_none_or(|due| due > not_before) {
                self.schedule(key, not_before);
            }
        } else if !entry.queued {
            entry.queued = true;
            entry.due = None;
            self.ready.push_back(key);
        }
    }

    /// The next key to work on, if any; it counts as being worked on until [`Self::ended`].
    pub(super) fn pop(&mut self, now: Instant) -> Option<K> {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(key) = self.timer_keys.remove(&timer) else { continue };
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.due == Some(at) && !entry.queued && !entry.running {
                entry.due = None;
                entry.queued = true;
                self.ready.push_back(key);
            }
        }
        let key = self.ready.pop_front()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.queued = false;
            entry.running = true;
            entry.woken_while_running = false;
        }
        Some(key)
    }

    /// When [`Self::pop`] may have something new without a wake.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// The work on `key` ended.
    pub(super) fn ended(&mut self, key: &K, how: Ended, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.running = false;
        let woken = std::mem::take(&mut entry.woken_while_running);
        entry.failures = if how == Ended::Failed { entry.failures.saturating_add(1) } else { 0 };
        entry.not_before = (how == Ended::Failed).then(|| now + FAILING_INTERVAL_MIN.min(self.back_off.first));
        let failures = entry.failures;
        match (how, woken) {
            (Ended::Settled | Ended::Again(_), true) => self.wake(key.clone(), now),
            (Ended::Settled, false) => {
                self.entries.remove(key);
            }
            (Ended::Again(after), false) => self.schedule(key.clone(), now + after),
            (Ended::Failed, woken) => {
                let pause = if woken { FAILING_INTERVAL_MIN.min(self.back_off.first) } else { self.pause(failures) };
                self.schedule(key.clone(), now + pause);
            }
        }
    }

    /// Whether no key is being worked on or could be now.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let is_due = self.timers.peek().is_some_and(|Reverse((at, _))| *at <= now);
        !is_due && self.ready.is_empty() && self.entries.values().all(|entry| !entry.running)
    }

    fn schedule(&mut self, key: K, at: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.due = Some(at);
            self.timers_made += 1;
            self.timers.push(Reverse((at, self.timers_made)));
            self.timer_keys.insert(self.timers_made, key);
        }
    }

    /// The pause with up to a fifth of it added or taken away, so that keys that failed together do not return together.
    fn pause(&self, failures: u32) -> Duration {
        let pause = self.back_off.pause(failures);
        let spread = self.jitter.hash_one(self.timers_made) % 401;
        let thousandths = 800 + u32::try_from(spread).unwrap_or(200);
        pause.saturating_mul(thousandths) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK_OFF: BackOff = BackOff { first: Duration::from_millis(100), max: Duration::from_secs(30) };
    const SECOND: Duration = Duration::from_secs(1);

    fn queue() -> (Queue<&'static str>, Instant) {
        (Queue::new(BACK_OFF), Instant::now())
    }

    #[test]
    fn a_key_woken_twice_is_worked_on_once() {
        let (mut queue, now) = queue();
        queue.wake("a", now);
        queue.wake("a", now);
        assert_eq!(queue.pop(now), Some("a"));
        assert_eq!(queue.pop(now), None);
        queue.ended(&"a", Ended::Settled, now);
        assert!(queue.entries.is_empty(), "nothing is remembered of a settled key");
        assert!(queue.is_idle(now));
    }

    #[test]
    fn a_key_woken_while_worked_on_comes_again() {
        let (mut queue, now) = queue();
        queue.wake("a", now);
        queue.pop(now);
        queue.wake("a", now);
        assert_eq!(queue.pop(now), None, "never two workers on one key");
        queue.ended(&"a", Ended::Again(SECOND), now);
        assert_eq!(queue.pop(now), Some("a"));
    }

    #[test]
    fn again_comes_after_its_time_or_when_woken() {
        let (mut queue, now) = queue();
        queue.wake("a", now);
        queue.pop(now);
        queue.ended(&"a", Ended::Again(SECOND), now);
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.next_due(), Some(now + SECOND));
        queue.wake("a", now);
        assert_eq!(queue.pop(now), Some("a"));
        queue.ended(&"a", Ended::Settled, now);
        assert_eq!(queue.pop(now + SECOND), None, "the old timer is void");
    }

    #[test]
    fn failures_back_off_up_to_the_limit() {
        let (mut queue, mut now) = queue();
        queue.wake("a", now);
        let mut last = Duration::ZERO;
        for round in 0..20 {
            assert_eq!(queue.pop(now), Some("a"), "round {round}");
            queue.ended(&"a", Ended::Failed, now);
            let due = queue.next_due().expect("a retry is scheduled");
            last = due - now;
            now = due;
        }
        assert!(last >= BACK_OFF.max.mul_f64(0.8) && last <= BACK_OFF.max.mul_f64(1.2), "{last:?}");
        assert_eq!(queue.pop(now), Some("a"));
        queue.ended(&"a", Ended::Settled, now);
        queue.wake("a", now);
        assert_eq!(queue.pop(now), Some("a"), "success forgets the failures");
    }

    #[test]
    fn waking_a_failing_key_brings_it_forward_but_never_spins() {
        let (mut queue, now) = queue();
        queue.wake("a", now);
        queue.pop(now);
        queue.ended(&"a", Ended::Failed, now);
        queue.wake("a", now);
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.pop(now + FAILING_INTERVAL_MIN), Some("a"));
    }
}
