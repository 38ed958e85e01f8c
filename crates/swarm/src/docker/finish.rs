//! Calls that change something are finished, whoever stops waiting for the answer.

use std::sync::Arc;

use http::Method;
use tokio::sync::Semaphore;

use crate::model::Refusal;

/// Calls that are being finished at the same time; further ones wait before they begin. As many as there are connections.
const WORKS_MAX: usize = 4096;

/// Runs work to its end. Cheap to clone.
///
/// A server drops what it does for a connection as soon as that connection is gone. A container that is being renamed would
/// then stay out of its networks, one that is restarted in two steps would stay stopped.
#[derive(Clone)]
pub(crate) struct Finisher(Arc<Semaphore>);

impl Default for Finisher {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WORKS_MAX)))
    }
}

impl Finisher {
    /// Waits for the end of `work`, which comes even if nobody waits any more. What has not begun by then does not begin.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = self.0.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Refusal::unavailable("the master is going down"))?;
        let running = tokio::spawn(async move {
            let _permit = permit;
            work.await
        });
        running
            .await
            .map_err(|error| Refusal::internal(format!("the call was not finished: {error}; look how far it is")))
    }
}

/// Whether a request asks for a change at all.
pub(crate) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a call of the Docker API changes something in steps of ours. Not those that live as long as their client listens
/// or sends: streams, uploads, and what waits for a container's end; engines stop them themselves when the client goes.
pub(super) fn is_to_be_finished(method: &Method, path: &str) -> bool {
    let path = path.trim_matches('/');
    let (room, rest) = path.split_once('/').unwrap_or((path, ""));
    let flows = |ends: &[&str]| ends.iter().any(|end| rest.ends_with(end));
    let steps = match room {
        "containers" => !flows(&["/attach", "/attach/ws", "/wait", "/archive", "/resize"]),
        "images" => !matches!(rest, "create" | "load") && !flows(&["/push"]),
        "build" => !rest.is_empty(),
        "networks" | "volumes" | "commit" => true,
        _ => false,
    };
    steps && changes(method)
}
