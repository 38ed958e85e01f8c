//! Keeps a task for every container that has a probe.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{Board, OverlayDialer, attempt::attempt};
use crate::{
    apps::{jitter, marks::Marks, names::UID},
    compose::template::Probe,
    model::{Container, Engines, View},
};

/// Pause between two probes of a container that serves.
const PERIOD: Duration = Duration::from_secs(5);
/// The same while it does not.
const PERIOD_FAILING: Duration = Duration::from_secs(1);
/// Probes at the same time.
const PARALLEL: usize = 64;

/// Probes containers for as long as it runs.
pub(crate) struct Prober {
    pub(crate) engines: Arc<dyn Engines>,
    pub(crate) dialer: Arc<dyn OverlayDialer>,
    pub(crate) board: Arc<Board>,
}

type Run = (String, Option<Timestamp>);

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
            for (run, probe) in wanted {
                if !running.contains_key(&run) {
                    let task = tasks.spawn(this.clone().watch(run.clone(), probe, permits.clone()));
                    running.insert(run, task);
                }
            }
            while tasks.try_join_next().is_some() {}
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn watch(self: Arc<Self>, (id, started): Run, probe: Probe, permits: Arc<Semaphore>) {
        sleep(left_of_delay(started, probe.initial_delay_seconds)).await;
        loop {
            let view = self.engines.view();
            let Some(container) = view.containers.iter().find(|container| container.id == id).cloned() else { return };
            let outcome = {
                let Ok(_permit) = permits.acquire().await else { return };
                attempt(&*self.engines, &*self.dialer, &view, &container, &probe).await
            };
            let period = if outcome.is_ok() { PERIOD } else { PERIOD_FAILING };
            self.board.note(&id, started, outcome);
            sleep(jitter(period)).await;
        }
    }
}

/// Containers to be probed.
fn probed(view: &View) -> HashMap<Run, Probe> {
    let ours = |container: &&Arc<Container>| container.is_running() && container.labels.contains_key(UID);
    let with_probe =
        |container: &Arc<Container>| Some(((container.id.clone(), container.started), Marks::of(container).probe?));
    view.containers.iter().filter(ours).filter_map(with_probe).collect()
}

fn left_of_delay(started: Option<Timestamp>, delay: u32) -> Duration {
    let delay = Duration::from_secs(delay.into());
    let since = started.and_then(|started| Duration::try_from(Timestamp::now().duration_since(started)).ok());
    delay.saturating_sub(since.unwrap_or_default())
}
