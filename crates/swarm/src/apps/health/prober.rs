//! Keeps a task for every container that has a probe.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{Board, FIRST_ANSWER_WAIT, attempt::attempt};
use crate::{
    apps::{jitter, marks::Marks, names::UID},
    compose::template::{Probe, ProbeCheck},
    door::OverlayDialer,
    model::{Container, Engines, View},
};

/// Pause between two probes of a container that serves.
const PERIOD: Duration = Duration::from_secs(5);
/// The same while it does not.
const PERIOD_FAILING: Duration = Duration::from_secs(1);
/// Seconds that one connection may take.
const FIRST_ANSWER_TIMEOUT: u32 = 3;
/// Probes at the same time.
const PARALLEL: usize = 64;

/// Probes containers for as long as it runs.
pub(crate) struct Prober {
    pub(crate) engines: Arc<dyn Engines>,
    pub(crate) dialer: Arc<dyn OverlayDialer>,
    pub(crate) board: Arc<Board>,
}

type Run = (String, Option<Timestamp>);

/// How a container is asked.
#[derive(Clone, Debug)]
enum Question {
    /// Again and again, as its template says.
    Probe(Probe),
    /// Until it takes connections for the first time.
    FirstAnswer(Probe),
}

impl Prober {
    /// Never ends.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        let permits = Arc::new(Semaphore::new(PARALLEL));
        let mut changes = this.engines.changes();
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Run, AbortHandle> = HashMap::new();
        loop {
            changes.borrow_and_update();
            let view = this.engines.view();
            let wanted = probed(&view);
            running.retain(|run, task| {
                let stays = wanted.contains_key(run);
                if !stays {
                    task.abort();
                }
                stays
            });
            this.board.keep(&view.containers.iter().map(|container| container.id.clone()).collect::<HashSet<_>>());
            for (run, question) in wanted {
                if let Entry::Vacant(place) = running.entry(run) {
                    let watching = this.clone().watch(place.key().clone(), question, permits.clone());
                    place.insert(tasks.spawn(watching));
                }
            }
            while tasks.try_join_next().is_some() {}
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn watch(self: Arc<Self>, (id, started): Run, question: Question, permits: Arc<Semaphore>) {
        let (probe, once) = match question {
            Question::Probe(probe) => (probe, false),
            Question::FirstAnswer(probe) => (probe, true),
        };
        sleep(left_of_delay(started, probe.initial_delay_seconds)).await;
        let begun = Instant::now();
        loop {
            // A way that is barred for the master says nothing of the container.
            if !matches!(probe.check, ProbeCheck::Command(_)) {
                self.dialer.opened().await;
            }
            let view = self.engines.view();
            let Some(container) = view.containers.iter().find(|container| container.id == id).cloned() else { return };
            let outcome = {
                let Ok(_permit) = permits.acquire().await else { return };
                attempt(&*self.engines, &*self.dialer, &view, &container, &probe).await
            };
            let late = once && begun.elapsed() >= FIRST_ANSWER_WAIT;
            let answered = outcome.is_ok();
            self.board.note(&id, started, if late { Ok(()) } else { outcome });
            if once && (answered || late) {
                return;
            }
            sleep(jitter(if answered { PERIOD } else { PERIOD_FAILING })).await;
        }
    }
}

/// Containers to be asked.
fn probed(view: &View) -> HashMap<Run, Question> {
    let ours = |container: &&Arc<Container>| container.is_running() && container.labels.contains_key(UID);
    let question = |container: &Arc<Container>| {
        let marks = Marks::of(container);
        let port = marks.first_port();
        match marks.probe {
            Some(probe) => Some(Question::Probe(probe)),
            None if container.health.is_some() => None,
            None => port.map(|port| {
                let check = ProbeCheck::Tcp { port };
                Question::FirstAnswer(Probe { check, initial_delay_seconds: 0, timeout_seconds: FIRST_ANSWER_TIMEOUT })
            }),
        }
    };
    let run = |container: &Arc<Container>| Some(((container.id.clone(), container.started), question(container)?));
    view.containers.iter().filter(ours).filter_map(run).collect()
}

fn left_of_delay(started: Option<Timestamp>, delay: u32) -> Duration {
    let delay = Duration::from_secs(delay.into());
    let since = started.and_then(|started| Duration::try_from(Timestamp::now().duration_since(started)).ok());
    delay.saturating_sub(since.unwrap_or_default())
}
