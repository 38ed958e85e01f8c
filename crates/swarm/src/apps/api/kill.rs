//! Signals to containers, in the reverse order of the dependencies.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use http::StatusCode;

use crate::{
    apps::{
        Inner,
        intake::{self, Which},
        names,
        record::Desired,
    },
    model::{ContainerState, Refusal},
};

/// Signals sent at the same time.
const PARALLEL: usize = 16;
const SIGNAL_CHARS_MAX: usize = 16;

/// Sends a signal (`KILL` if none is given). After KILL the services are meant to be stopped; any other signal says nothing of
/// that.
pub(super) async fn kill(inner: &Inner, project: &str, which: &Which, signal: Option<&str>) -> Result<(), Refusal> {
    let signal = signal.unwrap_or("KILL").to_ascii_uppercase();
    let fits =
        signal.len() <= SIGNAL_CHARS_MAX && signal.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '-');
    if !fits {
        return Err(Refusal::bad("signal: a name (TERM, SIGHUP) or a number was expected"));
    }
    let ends = matches!(signal.as_str(), "KILL" | "SIGKILL" | "9");
    if ends {
        intake::desire(inner, project, which.clone(), Desired::Stopped, Some(0)).await?;
    }
    let record = inner.store.get(project).ok_or_else(|| names::no_project(project))?;
    let mut errors = Vec::new();
    for level in record.levels().into_iter().rev() {
        let origins: BTreeSet<String> = level
            .iter()
            .filter(|id| match which {
                Which::All => true,
                Which::One(one) => *id == one,
            })
            .filter_map(|id| record.services.get(id))
            .map(|service| service.origin())
            .collect();
        let view = inner.engines.view();
        let running: Vec<String> = view
            .containers
            .iter()
            .filter(|container| matches!(container.state, ContainerState::Running | ContainerState::Paused))
            .filter(|container| names::belongs(&record, container))
            .filter(|container| names::origin_of(&record, container).is_some_and(|origin| origins.contains(&origin)))
            .map(|container| container.id.clone())
            .collect();
        let signal = &signal;
        let sent = stream::iter(running).map(|id| async move { inner.engines.kill(&id, signal).await });
        let outcomes: Vec<_> = sent.buffer_unordered(PARALLEL).collect().await;
        errors.extend(outcomes.into_iter().filter_map(Result::err));
    }
    // One that ended by itself meanwhile (409, 404) needs no signal; the rest of a KILL is done by the worker.
    let real = errors
        .into_iter()
        .find(|refusal| !ends && !matches!(refusal.status, StatusCode::CONFLICT | StatusCode::NOT_FOUND));
    real.map_or(Ok(()), Err)
}
