//! The engine's events, as a stream that survives the engine.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{errors::Error as BollardError, models::EventMessage, query_parameters::EventsOptions};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{
    DockerProvider,
    engine::{Engine, LOOK_SECONDS},
};
use crate::{OWNER_LABEL, ProviderError, ProviderEvent};

/// Between two attempts to reach the engine.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Events this much older than the subscription are asked for too: the engine's clock may differ, and twice is harmless.
const OVERLAP_SECONDS: u64 = 5;
/// What can change the power of a machine.
const ACTIONS: [&str; 8] = ["create", "start", "die", "stop", "destroy", "pause", "unpause", "rename"];

struct Subscription {
    provider: DockerProvider,
    messages: Option<BoxStream<'static, Result<EventMessage, BollardError>>>,
    /// Seconds since 1970 from which on nothing may be missed.
    since: u64,
    back_off: Duration,
    /// The engine was away: whoever listens must look at everything again.
    broken: bool,
}

/// Events of our containers. After the engine was away, an event without a name.
pub(super) fn stream(provider: DockerProvider) -> BoxStream<'static, ProviderEvent> {
    let subscription =
        Subscription { provider, messages: None, since: now_less_overlap(), back_off: BACK_OFF_MIN, broken: false };
    stream::unfold(subscription, |mut subscription| async move {
        let event = subscription.next().await;
        Some((event, subscription))
    })
    .boxed()
}

impl Subscription {
    async fn next(&mut self) -> ProviderEvent {
        loop {
            if let Some(messages) = &mut self.messages {
                match messages.next().await {
                    Some(Ok(message)) => {
                        if let Some(event) = event_of(message) {
                            return event;
                        }
                    }
                    ended => {
                        let reason = ended.and_then(Result::err).map(|error| error.to_string());
                        tracing::warn!(?reason, "the Docker engine's events ended; connecting again");
                        self.messages = None;
                        self.broken = true;
                    }
                }
                continue;
            }
            match self.subscribe().await {
                Ok(()) => {
                    self.back_off = BACK_OFF_MIN;
                    if std::mem::take(&mut self.broken) {
                        return ProviderEvent { name: String::new() };
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no events from the Docker engine yet");
                    self.broken = true;
                    tokio::time::sleep(self.back_off).await;
                    self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    /// Makes sure that the engine answers, and subscribes from before that moment on. The request itself is only sent
    /// when the stream is next polled; `since` closes that gap.
    async fn subscribe(&mut self) -> Result<(), ProviderError> {
        let since = if self.broken { now_less_overlap() } else { self.since };
        let messages = self
            .provider
            .on_engine(|engine| async move {
                engine.call("ping the engine", LOOK_SECONDS, engine.docker.ping()).await?;
                Ok(messages(&engine, since))
            })
            .await?;
        self.messages = Some(messages);
        Ok(())
    }
}

fn messages(engine: &Engine, since: u64) -> BoxStream<'static, Result<EventMessage, BollardError>> {
    let filters: HashMap<String, Vec<String>> = [
        ("type".to_owned(), vec!["container".to_owned()]),
        ("label".to_owned(), vec![format!("{OWNER_LABEL}={}", engine.owner)]),
        ("event".to_owned(), ACTIONS.map(str::to_owned).to_vec()),
    ]
    .into();
    let options = EventsOptions { since: Some(since.to_string()), until: None, filters: Some(filters) };
    engine.docker.events(Some(options)).boxed()
}

fn event_of(message: EventMessage) -> Option<ProviderEvent> {
    let mut attributes = message.actor?.attributes?;
    let name = attributes.remove("name")?;
    Some(ProviderEvent { name })
}

fn now_less_overlap() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs().saturating_sub(OVERLAP_SECONDS)
}
