//! The set of supervised processes: what a new spec changes, and the order in which everything stops.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures::future::join_all;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::unit::{Context, Unit};
use crate::spec::Process;

/// How long a process that was changed or removed may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long one process may take of the time in which the whole machine stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// All supervised processes.
#[derive(Debug)]
pub(crate) struct Supervisor {
    context: Context,
    units: BTreeMap<String, Supervised>,
    /// Supervisions that have been told to stop, by name.
    stopping: HashMap<String, JoinHandle<()>>,
    runs: u64,
}

#[derive(Debug)]
struct Supervised {
    fingerprint: Fingerprint,
    run: u64,
    stop: watch::Sender<Option<Duration>>,
    /// Those of the newest spec.
    start_arguments: watch::Sender<Vec<String>>,
    task: JoinHandle<()>,
}

/// What a process was started from; another fingerprint means that it must be started again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    /// Without its `start_arguments`.
    process: Process,
    /// Digests of the files in `restart_on`; `None`: cannot be read.
    files: Vec<Option<[u8; 32]>>,
}

impl Fingerprint {
    fn of(process: &Process) -> Self {
        let digest = |path: &String| std::fs::read(path).ok().map(|content| Sha256::digest(&content).into());
        let started_from = Process { start_arguments: Vec::new(), ..process.clone() };
        Self { process: started_from, files: process.restart_on.iter().map(digest).collect() }
    }
}

impl Supervisor {
    pub(crate) fn new(context: Context) -> Self {
        Self { context, units: BTreeMap::new(), stopping: HashMap::new(), runs: 0 }
    }

    /// Makes these the supervised processes. Those that have not changed are left alone, but for the
    /// arguments of their next start; nothing is waited for.
    pub(crate) fn apply(&mut self, processes: &[Process]) {
        self.stopping.retain(|_, task| !task.is_finished());
        let wanted: BTreeMap<&str, Fingerprint> =
            processes.iter().map(|process| (process.name.as_str(), Fingerprint::of(process))).collect();
        let obsolete: Vec<String> = self
            .units
            .iter()
            .filter(|(name, unit)| wanted.get(name.as_str()) != Some(&unit.fingerprint))
            .map(|(name, _)| name.clone())
            .collect();
        for name in obsolete {
            if let Some(unit) = self.units.remove(&name) {
                unit.stop.send_replace(Some(STOP_GRACE));
                self.stopping.insert(name, unit.task);
            }
        }
        // Runs are numbered and shown before any of them starts, for they look for each other on the board.
        let mut new = Vec::new();
        let mut lines = Vec::new();
        for process in processes {
            let run = self.units.get(&process.name).map_or_else(
                || {
                    self.runs += 1;
                    new.push((process, self.runs));
                    self.runs
                },
                |unit| {
                    unit.start_arguments.send_replace(process.start_arguments.clone());
                    unit.run
                },
            );
            lines.push((process.name.clone(), run));
        }
        self.context.board.set_processes(lines);
        for (process, run) in new {
            if let Some(fingerprint) = wanted.get(process.name.as_str()) {
                self.start(process, fingerprint.clone(), run);
            }
        }
    }

    fn start(&mut self, process: &Process, fingerprint: Fingerprint, run: u64) {
        let (stop, receiver) = watch::channel(None);
        let (start_arguments, arguments) = watch::channel(process.start_arguments.clone());
        let unit = Unit::new(self.context.clone(), fingerprint.process.clone(), run, arguments, receiver);
        let task = tokio::spawn(unit.supervise(self.stopping.remove(&process.name)));
        self.units.insert(process.name.clone(), Supervised { fingerprint, run, stop, start_arguments, task });
    }

    /// Stops everything within `limit`: first what nothing else needs, then what that needed, and so on.
    pub(crate) async fn stop_all(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.units.is_empty() {
            let needed = |name: &String| self.units.values().any(|unit| unit.fingerprint.process.after.contains(name));
            let mut level: Vec<String> = self.units.keys().filter(|name| !needed(name)).cloned().collect();
            if level.is_empty() {
                // A circle, which a checked spec has not; still, everything must stop.
                level = self.units.keys().cloned().collect();
            }
            let grace = SHUTDOWN_GRACE.min(deadline.saturating_duration_since(Instant::now()));
            let tasks = level.iter().filter_map(|name| self.units.remove(name)).map(|unit| {
                unit.stop.send_replace(Some(grace));
                unit.task
            });
            join_all(tasks.collect::<Vec<_>>()).await;
        }
        let rest = join_all(self.stopping.drain().map(|(_, task)| task));
        let _ = timeout(deadline.saturating_duration_since(Instant::now()), rest).await;
    }
}
