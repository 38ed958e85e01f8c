//! What is remembered between two looks at a cluster. None of it is needed to be right.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sampan_store::model::Timestamp;

use super::decide::Decision;

/// First back-off of a pool that did not get its nodes.
const BACK_OFF_MIN: Duration = Duration::from_secs(300);
/// Longest one.
const BACK_OFF_MAX: Duration = Duration::from_secs(1800);
/// So long after the last failure it begins with the first again.
const BACK_OFF_RESET: Duration = Duration::from_secs(3 * 3600);

/// A pool that did not get its nodes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BackedOff {
    pub(super) until: Timestamp,
    pub(super) why: String,
    failed: Timestamp,
    span: Duration,
}

/// What is remembered of one cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    looked: Option<Timestamp>,
    /// Since when machines are not needed.
    pub(super) unneeded: BTreeMap<String, Timestamp>,
    pub(super) back_offs: BTreeMap<String, BackedOff>,
    /// Pods that waited, and since when more of them come, if they do.
    waiting: Option<(u64, Option<Timestamp>)>,
    /// What each pod was told last.
    told: BTreeMap<String, u64>,
    complaints: BTreeSet<String>,
}

/// What is remembered of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<String, Remembered>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        // Nothing in it is needed to be right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, cluster_id: &str, change: impl FnOnce(&mut Remembered) -> T) -> T {
        change(self.lock().entry(cluster_id.to_owned()).or_default())
    }

    pub(super) fn knows(&self, cluster_id: &str) -> bool {
        self.lock().contains_key(cluster_id)
    }

    pub(super) fn forget(&self, cluster_id: &str) {
        self.lock().remove(cluster_id);
    }

    pub(super) fn of(&self, cluster_id: &str) -> Remembered {
        self.with(cluster_id, |remembered| remembered.clone())
    }

    /// How long the cluster is not to be looked at again.
    pub(super) fn wait(&self, cluster_id: &str, interval: Duration, now: Timestamp) -> Option<Duration> {
        let looked = self.with(cluster_id, |remembered| remembered.looked)?;
        interval.checked_sub(span(looked, now)).filter(|wait| !wait.is_zero())
    }

    /// Whether pods keep coming, and it is better to wait for the rest of them.
    pub(super) fn settles<'a>(
        &self,
        cluster_id: &str,
        pods: impl Iterator<Item = &'a str>,
        now: Timestamp,
        most: Duration,
    ) -> bool {
        let mut hasher = DefaultHasher::new();
        let mut any = false;
        for pod in pods {
            any = true;
            pod.hash(&mut hasher);
        }
        let hash = hasher.finish();
        self.with(cluster_id, |remembered| {
            if !any {
                remembered.waiting = None;
                return false;
            }
            let since = match remembered.waiting {
                Some((before, _)) if before == hash => None,
                Some((_, Some(since))) if span(since, now) >= most => None,
                before => before.and_then(|(_, since)| since).or(Some(now)),
            };
            remembered.waiting = Some((hash, since));
            since.is_some()
        })
    }

    /// Remembers a look.
    pub(super) fn remember(&self, cluster_id: &str, decision: &Decision, now: Timestamp) {
        self.with(cluster_id, |remembered| {
            remembered.looked = Some(now);
            remembered.unneeded = decision
                .unneeded
                .iter()
                .map(|machine| (machine.clone(), remembered.unneeded.get(machine).copied().unwrap_or(now)))
                .collect();
            remembered.back_offs.retain(|_, back_off| span(back_off.failed, now) < BACK_OFF_RESET);
            remembered.told.retain(|pod, _| decision.waiting.contains(pod));
        });
    }

    /// A pool did not get its nodes: it is left alone for a while, longer each time.
    pub(super) fn back_off(&self, cluster_id: &str, pool_id: &str, why: &str, now: Timestamp) {
        self.with(cluster_id, |remembered| {
            let before = remembered.back_offs.get(pool_id);
            let span = before.map_or(BACK_OFF_MIN, |before| (before.span * 2).min(BACK_OFF_MAX));
            let until = now.checked_add(span).unwrap_or(Timestamp::MAX);
            let entry = BackedOff { until, why: why.to_owned(), failed: now, span };
            remembered.back_offs.insert(pool_id.to_owned(), entry);
        });
    }

    /// Why the pool is left alone now.
    pub(super) fn barred(&self, cluster_id: &str, pool_id: &str, now: Timestamp) -> bool {
        self.with(cluster_id, |remembered| remembered.back_offs.get(pool_id).is_some_and(|entry| entry.until > now))
    }

    /// Whether the pod has not been told that yet.
    pub(super) fn is_news(&self, cluster_id: &str, pod: &str, text: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        self.with(cluster_id, |remembered| remembered.told.insert(pod.to_owned(), hash) != Some(hash))
    }

    /// Whether the complaint is new.
    pub(super) fn is_new_complaint(&self, cluster_id: &str, reason: &str) -> bool {
        self.with(cluster_id, |remembered| remembered.complaints.insert(reason.to_owned()))
    }

    /// The trouble is over.
    pub(super) fn relieve(&self, cluster_id: &str, reason: &str) {
        self.with(cluster_id, |remembered| remembered.complaints.remove(reason));
    }
}

/// Time from one moment to a later one; none, when the clock went back.
pub(super) fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn bursts_are_waited_for() {
        let memory = Memory::default();
        let settles =
            |pods: &[&str], seconds| memory.settles("c", pods.iter().copied(), at(seconds), Duration::from_secs(5));
        assert!(!settles(&[], 0));
        assert!(settles(&["a"], 0), "perhaps more come");
        assert!(settles(&["a", "b"], 1));
        assert!(!settles(&["a", "b"], 2), "no more came");
        assert!(settles(&["a", "b", "c"], 100), "a burst of its own");
        assert!(settles(&["b", "c"], 102));
        assert!(!settles(&["c"], 105), "waited long enough");
        assert!(!settles(&[], 10));
        assert!(settles(&["d"], 11));
    }

    #[test]
    fn back_offs_grow_and_end() {
        let memory = Memory::default();
        let until = || memory.of("c").back_offs["np"].until;
        memory.back_off("c", "np", "no room", at(0));
        assert_eq!(until(), at(300));
        assert!(memory.barred("c", "np", at(299)) && !memory.barred("c", "np", at(300)));
        for (now, span) in [(300, 600), (900, 1200), (2100, 1800), (3900, 1800)] {
            memory.back_off("c", "np", "no room", at(now));
            assert_eq!(until(), at(now + span));
        }
        memory.remember("c", &Decision::default(), at(3900 + 3 * 3600));
        assert!(memory.of("c").back_offs.is_empty());
    }

    #[test]
    fn looks_keep_their_distance() {
        let memory = Memory::default();
        let wait = |seconds| memory.wait("c", Duration::from_secs(30), at(seconds));
        assert_eq!(wait(0), None);
        memory.remember("c", &Decision::default(), at(0));
        assert_eq!(wait(10), Some(Duration::from_secs(20)));
        assert_eq!(wait(30), None);
        assert_eq!(wait(-10), Some(Duration::from_secs(30)), "a clock that went back");
    }

    #[test]
    fn pods_are_told_once() {
        let memory = Memory::default();
        assert!(
            memory.is_news("c", "u1", "no") && !memory.is_news("c", "u1", "no") && memory.is_news("c", "u1", "nay")
        );
        memory.remember("c", &Decision::default(), at(0));
        assert!(memory.is_news("c", "u1", "nay"), "it was gone meanwhile");
    }
}
