//! One request to a cluster's master, through the tunnel of its machine.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use sampan_agents::master::{MasterStatus, SOCKET_PATH};
use sampan_store::model::{Fault, Outcome};

use crate::ports::Dialer;

/// Time for an answer that is there.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for an answer that waits for news; the master answers sooner by itself.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The master's status; with `after`, as soon as there is a later one.
pub(super) async fn status(dialer: &dyn Dialer, machine_id: &str, after: Option<u64>) -> Outcome<MasterStatus> {
    let (path, limit) = match after {
        None => ("/internal/status".to_owned(), CALL_TIMEOUT),
        Some(revision) => (format!("/internal/status?after={revision}"), WAIT_TIMEOUT),
    };
    let answer = tokio::time::timeout(limit, get(dialer, machine_id, &path)).await;
    let bytes = answer.unwrap_or_else(|_| {
        Err(Fault::unavailable(format!("the cluster's master did not answer within {} s", limit.as_secs())))
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Fault::internal(format!("the cluster's master answers what cannot be read: {error}")))
}

async fn get(dialer: &dyn Dialer, machine_id: &str, path: &str) -> Outcome<Bytes> {
    let silent =
        |error: &dyn std::fmt::Display| Fault::unavailable(format!("the cluster's master does not answer: {error}"));
    let stream = dialer.dial(machine_id, &format!("unix:{SOCKET_PATH}")).await.map_err(|error| silent(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| silent(&error))?;
    let request = Request::get(path)
        .header(header::HOST, "master")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Fault::internal(format!("a request cannot be built: {error}")))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| silent(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| silent(&error))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(bytes);
        }
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).into_owned();
        Err(Fault::unavailable(format!("the cluster's master answers {status}: {text}")))
    };
    // The connection lives exactly as long as its one exchange.
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(silent(&error)),
    }
}
