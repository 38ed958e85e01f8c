//! The driver: wakes keys, works on each of them serially and on different ones in parallel, tries failed ones again.
//! It knows no cluster. A reconciler takes no input but its key, is idempotent, and may be killed at any instruction; a
//! panic costs one reconcile.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sampan_store::model::Outcome;
use tokio::{
    sync::{Notify, watch},
    task::{Id, JoinError, JoinHandle, JoinSet},
    time::Instant,
};
use tracing::{debug, error, warn};

use super::queue::{BackOff, Ended, Queue};

/// How a reconcile ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// As wanted; look again when something changes.
    Settled,
    /// Not there yet; look again.
    Again {
        /// After this time, if nothing wakes it before.
        after: Duration,
        /// What is waited for.
        reason: String,
    },
}

impl Status {
    /// Look again after `after`, because of `reason`.
    pub fn again(after: Duration, reason: impl Into<String>) -> Self {
        Self::Again { after, reason: reason.into() }
    }

    /// The one that wants to look again first.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Again { after: mine, .. }, Self::Again { after: others, .. }) if others < mine => other,
            (Self::Settled, Self::Again { .. }) => other,
            _ => self,
        }
    }
}

/// What the driver drives.
#[async_trait]
pub trait Reconcile: Send + Sync + 'static {
    /// What work is told apart by.
    type Key: Clone + Eq + Hash + Debug + Send + Sync + 'static;

    /// Compares wanted with observed and does what can be done now.
    async fn reconcile(&self, key: &Self::Key) -> Outcome<Status>;

    /// Everything there is to look at, for the start and the regular resync.
    fn all(&self) -> Vec<Self::Key>;
}

/// Pace of the driver.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Retries of failed keys.
    pub back_off: BackOff,
    /// Everything is looked at again after this time.
    pub resync: Duration,
    /// So many keys are worked on at the same time.
    pub concurrency: usize,
    /// A stop waits so long for work in progress before it is cut off (which is safe).
    pub stop_grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            back_off: BackOff { first: Duration::from_millis(100), max: Duration::from_secs(30) },
            resync: Duration::from_secs(60),
            concurrency: 16,
            stop_grace: Duration::from_secs(5),
        }
    }
}

/// Wakes keys. Cheap to clone.
pub struct Waker<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Waker<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<K> {
    queue: Mutex<Queue<K>>,
    notify: Notify,
}

impl<K: Clone + Eq + Hash + Debug> Waker<K> {
    /// A waker with an empty queue.
    pub fn new(pace: &Pace) -> Self {
        let queue = Mutex::new(Queue::new(pace.back_off));
        Self { shared: Arc::new(Shared { queue, notify: Notify::new() }) }
    }

    /// Look at `key` soon.
    pub fn wake(&self, key: K) {
        self.queue().wake(key, Instant::now());
        self.shared.notify.notify_one();
    }

    /// Whether nothing is being worked on and nothing is due.
    pub fn is_idle(&self) -> bool {
        self.queue().is_idle(Instant::now())
    }

    fn queue(&self) -> MutexGuard<'_, Queue<K>> {
        // The queue's own methods leave it whole even if one of them panics between two statements.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    Stop,
}

/// A running driver. Dropping it kills it at once, as a power cut would.
#[derive(Debug)]
pub struct Driver {
    task: Option<JoinHandle<()>>,
    wish: watch::Sender<Wish>,
}

impl Debug for Wish {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(if *self == Self::Run { "run" } else { "stop" })
    }
}

impl Driver {
    /// Starts to work; everything is looked at once at the start.
    pub fn start<R: Reconcile>(reconciler: Arc<R>, waker: Waker<R::Key>, pace: Pace) -> Self {
        let (wish, wished) = watch::channel(Wish::Run);
        let worker = Worker { reconciler, waker, pace, running: JoinSet::new(), keys: HashMap::new() };
        Self { task: Some(tokio::spawn(worker.run(wished))), wish }
    }

    /// Begins nothing new, waits for the work in progress (at most [`Pace::stop_grace`]), and returns.
    pub async fn stop(mut self) {
        // The receiver is gone only when the worker has ended.
        let _ = self.wish.send(Wish::Stop);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            error!(%error, "the controllers' driver ended abnormally");
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Worker<R: Reconcile> {
    reconciler: Arc<R>,
    waker: Waker<R::Key>,
    pace: Pace,
    running: JoinSet<Outcome<Status>>,
    keys: HashMap<Id, R::Key>,
}

impl<R: Reconcile> Worker<R> {
    async fn run(mut self, mut wished: watch::Receiver<Wish>) {
        let mut resync = tokio::time::interval(self.pace.resync);
        resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.begin_what_is_due();
            let due = self.waker.queue().next_due();
            let shared = Arc::clone(&self.waker.shared);
            tokio::select! {
                _ = wished.wait_for(|wish| *wish == Wish::Stop) => break,
                Some(ended) = self.running.join_next_with_id() => self.end(ended),
                () = shared.notify.notified() => {}
                () = sleep_until(due) => {}
                _ = resync.tick() => self.wake_all(),
            }
        }
        self.finish().await;
    }

    fn begin_what_is_due(&mut self) {
        while self.running.len() < self.pace.concurrency {
            let Some(key) = self.waker.queue().pop(Instant::now()) else { return };
            let reconciler = Arc::clone(&self.reconciler);
            let mine = key.clone();
            let task = self.running.spawn(async move { reconciler.reconcile(&mine).await });
            self.keys.insert(task.id(), key);
        }
    }

    fn end(&mut self, ended: Result<(Id, Outcome<Status>), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        let how = match outcome {
            Ok(Ok(Status::Settled)) => Ended::Settled,
            Ok(Ok(Status::Again { after, reason })) => {
                debug!(?key, ?after, reason, "not there yet");
                Ended::Again(after)
            }
            Ok(Err(fault)) => {
                warn!(?key, error = %fault, "reconcile failed; will be tried again");
                Ended::Failed
            }
            Err(panic) => {
                error!(?key, error = %panic, "reconcile panicked; will be tried again");
                Ended::Failed
            }
        };
        self.waker.queue().ended(&key, how, Instant::now());
    }

    fn wake_all(&self) {
        for key in self.reconciler.all() {
            self.waker.wake(key);
        }
    }

    async fn finish(&mut self) {
        let deadline = Instant::now() + self.pace.stop_grace;
        while let Ok(Some(_)) = tokio::time::timeout_at(deadline, self.running.join_next()).await {}
        // What is left is cut off when the set is dropped; every reconcile can be killed at any instruction.
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use sampan_store::model::Fault;

    use super::*;

    /// Counts, per key, and does what the key says.
    #[derive(Default)]
    struct Counter {
        runs: Mutex<HashMap<String, usize>>,
        now: AtomicUsize,
        most: AtomicUsize,
        overlap: AtomicBool,
        busy: Mutex<Vec<String>>,
    }

    impl Counter {
        fn runs(&self, key: &str) -> usize {
            self.runs.lock().expect("unpoisoned").get(key).copied().unwrap_or(0)
        }
    }

    #[async_trait]
    impl Reconcile for Counter {
        type Key = String;

        async fn reconcile(&self, key: &String) -> Outcome<Status> {
            let run = {
                let mut busy = self.busy.lock().expect("unpoisoned");
                self.overlap.fetch_or(busy.contains(key), Ordering::Relaxed);
                busy.push(key.clone());
                let mut runs = self.runs.lock().expect("unpoisoned");
                *runs.entry(key.clone()).or_default() += 1;
                runs[key]
            };
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            self.busy.lock().expect("unpoisoned").retain(|other| other != key);
            match key.as_str() {
                "panics" if run < 3 => panic!("as asked"),
                "fails" if run < 4 => Err(Fault::unavailable("as asked")),
                "again" if run < 5 => Ok(Status::again(Duration::from_secs(1), "as asked")),
                _ => Ok(Status::Settled),
            }
        }

        fn all(&self) -> Vec<String> {
            let many = (0..20).map(|number| format!("key {number}"));
            many.chain(["panics", "fails", "again"].map(String::from)).collect()
        }
    }

    fn start() -> (Arc<Counter>, Waker<String>, Driver) {
        let (counter, pace) = (Arc::new(Counter::default()), Pace { concurrency: 4, ..Pace::default() });
        let waker = Waker::new(&pace);
        (Arc::clone(&counter), waker.clone(), Driver::start(counter, waker, pace))
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_looked_at_and_troubles_are_tried_again() {
        let (counter, waker, driver) = start();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(counter.runs("key 7"), 1, "settled");
        assert_eq!((counter.runs("panics"), counter.runs("fails"), counter.runs("again")), (3, 4, 5));
        assert_eq!(counter.most.load(Ordering::Relaxed), 4, "as many at a time as allowed");
        assert!(waker.is_idle());
        tokio::time::sleep(Duration::from_secs(55)).await;
        assert_eq!(counter.runs("key 7"), 2, "the resync");
        waker.wake("key 7".to_owned());
        waker.wake("key 7".to_owned());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(counter.runs("key 7"), 3);
        assert!(!counter.overlap.load(Ordering::Relaxed), "never two on one key");
        driver.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_what_is_in_progress_and_begins_nothing() {
        let (counter, waker, driver) = start();
        tokio::time::sleep(Duration::from_millis(5)).await;
        driver.stop().await;
        assert_eq!(counter.now.load(Ordering::Relaxed), 0, "what had begun has ended");
        let done: usize = counter.runs.lock().expect("unpoisoned").values().sum();
        assert_eq!(done, 4);
        waker.wake("key 1".to_owned());
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(counter.runs.lock().expect("unpoisoned").values().sum::<usize>(), done);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_driver_is_dead() {
        let (counter, _waker, driver) = start();
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(driver);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(counter.now.load(Ordering::Relaxed), 4, "cut off in the middle");
    }

    #[test]
    fn the_sooner_status_wins() {
        let again = |seconds| Status::again(Duration::from_secs(seconds), "");
        assert_eq!(Status::Settled.sooner(again(2)), again(2));
        assert_eq!(again(2).sooner(Status::Settled), again(2));
        assert_eq!(again(2).sooner(again(1)), again(1));
        assert_eq!(again(1).sooner(again(2)), again(1));
    }
}
