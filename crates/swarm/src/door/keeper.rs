//! Keeps the placeholder container: looks how it is, does the next step towards how it shall be, looks again.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use rand::Rng as _;
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    DoorSettings, State,
    engine::{Engine, EngineError},
    namespace::Namespace,
    spec,
};

/// An open door is looked at so often, beside when something seems wrong.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Doubts do not lead to more looks than this.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Who keeps the door.
#[derive(Debug)]
pub(super) struct Keeper {
    settings: DoorSettings,
    engine: Engine,
    states: watch::Sender<State>,
    generation: Arc<AtomicU64>,
    doubt: Arc<Notify>,
    entered: Option<(Running, Arc<Namespace>)>,
}

/// One run of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Running {
    id: String,
    pid: u32,
    started: String,
    address: Ipv4Addr,
}

#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
}

impl Keeper {
    pub(super) fn new(
        settings: DoorSettings,
        states: watch::Sender<State>,
        generation: Arc<AtomicU64>,
        doubt: Arc<Notify>,
    ) -> Self {
        let engine = Engine::new(settings.engine_socket.clone());
        Self { settings, engine, states, generation, doubt, entered: None }
    }

    /// Never ends.
    pub(super) async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let looked = Instant::now();
            match self.look().await {
                Ok(Some(running)) => {
                    failures = 0;
                    self.rest(&running, looked).await;
                }
                // A step was done; the next look finds out whether it is enough.
                Ok(None) => sleep(BACKOFF_FIRST).await,
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(network = self.settings.network, %error, "there is no way into the overlay yet");
                    }
                    self.explain(&error);
                    let longest = BACKOFF_FIRST.saturating_mul(1 << failures.min(8)).min(BACKOFF_MAX);
                    sleep(jittered(longest)).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Until the container ends, somebody doubts, or some time has gone.
    async fn rest(&self, running: &Running, looked: Instant) {
        tokio::select! {
            ended = self.engine.wait(&running.id) => {
                tracing::debug!(?ended, "the door's container may have ended");
            }
            () = self.doubt.notified() => sleep_until(looked + LOOK_PAUSE).await,
            () = sleep(LOOK_INTERVAL) => {}
        }
    }

    /// One look and at most one step. `Some`: the door is open.
    async fn look(&mut self) -> Result<Option<Running>, KeepError> {
        let (wanted, hash) = spec::container(&self.settings).map_err(|error| KeepError::Io("own binary", error))?;
        let name = &self.settings.name;
        let Some(found) = self.engine.find(&format!("/containers/{name}/json")).await? else {
            self.shut("its container is being made");
            self.make(&wanted).await?;
            return Ok(None);
        };
        let id = text(&found, "/Id");
        let is_as_wanted = text(&found, &format!("/Config/Labels/{}", spec::SPEC_LABEL)) == hash;
        if !is_as_wanted {
            self.shut("its container is being made anew");
            self.remove(&id).await?;
            return Ok(None);
        }
        if found["State"]["Running"] != Value::Bool(true) || found["State"]["Restarting"] == Value::Bool(true) {
            self.shut("its container does not run");
            self.start(&id).await?;
            return Ok(None);
        }
        let Some(running) = self.running(&found, id.clone()) else {
            self.shut("its container has no address in the network that it was given there");
            self.remove(&id).await?;
            return Ok(None);
        };
        if self.entered.as_ref().is_none_or(|(entered, _)| *entered != running) {
            self.enter(running.clone()).await?;
        }
        Ok(Some(running))
    }

    fn running(&self, found: &Value, id: String) -> Option<Running> {
        let endpoint = &found["NetworkSettings"]["Networks"][&self.settings.network];
        let address = endpoint["IPAddress"].as_str()?.parse().ok()?;
        // One that the engine took without asking the swarm is somebody else's: see `fleet::addresses`.
        endpoint["IPAMConfig"]["IPv4Address"].as_str().filter(|given| !given.is_empty())?;
        let pid = u32::try_from(found["State"]["Pid"].as_u64()?).ok().filter(|pid| *pid > 0)?;
        Some(Running { id, pid, started: text(found, "/State/StartedAt"), address })
    }

    async fn make(&self, wanted: &Value) -> Result<(), KeepError> {
        let image = format!("{}:{}", spec::REPOSITORY, spec::TAG);
        if self.engine.find(&format!("/images/{image}/json")).await?.is_none() {
            let archive = spec::archive().map_err(|error| KeepError::Io("archive", error))?;
            self.engine.import(spec::REPOSITORY, spec::TAG, archive).await?;
        }
        let path = format!("/containers/create?name={}", self.settings.name);
        let made = self.engine.call(Method::POST, &path, Some(wanted)).await?;
        self.start(&text(&made, "/Id")).await
    }

    async fn start(&self, id: &str) -> Result<(), KeepError> {
        let started = self.engine.call(Method::POST, &format!("/containers/{id}/start"), None).await;
        if let Err(EngineError::Refused { .. }) = &started {
            // It may be bound to a network that was made anew under the same name: begin from the beginning.
            self.remove(id).await?;
        }
        started?;
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), KeepError> {
        match self.engine.call(Method::DELETE, &format!("/containers/{id}?force=true&v=true"), None).await {
            // Gone, or just going.
            Err(EngineError::Refused { status: StatusCode::NOT_FOUND | StatusCode::CONFLICT, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn enter(&mut self, running: Running) -> Result<(), KeepError> {
        let entered = Namespace::enter(running.pid, running.address).await;
        let namespace = entered.map_err(|error| KeepError::Io("namespace of the door's container", error))?;
        tracing::info!(network = self.settings.network, address = %running.address, "the way into the overlay is open");
        let namespace = Arc::new(namespace);
        self.entered = Some((running, Arc::clone(&namespace)));
        self.change(State::Open(namespace), true);
        Ok(())
    }

    /// The container does not run, or is not the right one: connections made through it are dead, new ones wait.
    fn shut(&mut self, reason: &str) {
        let was_open = self.entered.take().is_some();
        if was_open {
            tracing::warn!(network = self.settings.network, "the way into the overlay is shut: {reason}");
        }
        self.change(State::Shut(reason.to_owned()), was_open);
    }

    /// Both change before anybody is told, the state first: who reads the new generation never goes the old way.
    fn change(&self, state: State, is_another_way: bool) {
        self.states.send_modify(|current| {
            *current = state;
            self.generation.fetch_add(u64::from(is_another_way), Ordering::Relaxed);
        });
    }

    /// Why the door cannot be looked after. One whose container is still there stays open: an engine that does not answer
    /// for a moment is no reason to shut it.
    fn explain(&mut self, error: &KeepError) {
        if self.entered.as_ref().is_none_or(|(_, namespace)| !namespace.is_alive()) {
            self.shut(&error.to_string());
        }
    }
}

fn jittered(longest: Duration) -> Duration {
    longest.mul_f64(rand::rng().random_range(0.5..1.0))
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
