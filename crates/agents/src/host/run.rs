//! `sampan host run`: the agent as the host's service.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{HostError, agent::HostAgent, data_disk, leave, state::HostState};
use crate::node::{NodeOptions, run_until};

/// A removal that was interrupted by a reboot waits so long for the server to hear of it.
const REPORT_WAIT: Duration = Duration::from_secs(60);

/// Why the agent ends.
enum End {
    /// Somebody stops it.
    Signal,
    /// The host is left.
    Left,
    /// It could not run.
    Failed(HostError),
}

/// Runs until it is stopped, or the host has been left.
///
/// # Errors
/// When this host is none of ours, or the agent cannot run.
pub async fn run() -> Result<(), HostError> {
    let root = PathBuf::from("/");
    let state = HostState::load(&root)?
        .filter(|state| !state.machine_id.is_empty())
        .ok_or_else(|| HostError("this host is in no cluster of a Sampan installation".into()))?;
    leave::end_daemons();
    let agent = HostAgent::new(root.clone(), state.clone())?;
    if let Some(disk) = state.data_disk.as_ref().filter(|_| !agent.is_leaving()) {
        data_disk::mount(disk)?;
    }
    match serve(&agent, &state).await? {
        End::Signal => Ok(()),
        End::Failed(error) => Err(error),
        End::Left => finish(root, state).await,
    }
}

async fn serve(agent: &Arc<HostAgent>, state: &HostState) -> Result<End, HostError> {
    let unhandled = |error| HostError::of("signals cannot be handled", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(unhandled)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unhandled)?;
    let stop = CancellationToken::new();
    let options = NodeOptions {
        pid1: false,
        images_dir: None,
        host: Some(Arc::clone(agent)),
        ..NodeOptions::new(state.machine_id.clone(), String::new())
    };
    let node = run_until(options, stop.clone());
    tokio::pin!(node);
    let overdue = async {
        match agent.is_leaving() {
            true => sleep(REPORT_WAIT).await,
            false => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        ended = &mut node => return Ok(ended.map_or_else(|error| End::Failed(HostError(error.to_string())), |()| End::Signal)),
        _ = terminate.recv() => End::Signal,
        _ = interrupt.recv() => End::Signal,
        () = agent.left() => End::Left,
        () = agent.removed() => End::Left,
        () = overdue => End::Left,
    };
    stop.cancel();
    let ended = node.await;
    Ok(ended.map_or_else(|error| End::Failed(HostError(error.to_string())), |()| end))
}

/// Everything goes, the agent last. What was done already is found done.
async fn finish(root: PathBuf, state: HostState) -> Result<(), HostError> {
    let work = spawn_blocking(move || {
        leave::begin(&root)?;
        let mut left = leave::clean(&root, &state);
        left.extend(leave::remove_self(&root, &state.before));
        Ok(left)
    });
    let left = work.await.map_err(|error| HostError::of("the removal broke off", error))??;
    match left.is_empty() {
        true => tracing::info!("this host has left its cluster; nothing of it is left"),
        false => {
            tracing::warn!(left = left.join("; "), "this host has left its cluster; some things could not be removed")
        }
    }
    Ok(())
}
