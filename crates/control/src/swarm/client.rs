//! One request to a cluster's master, through the tunnel of its machine.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
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
    let exchange = exchange(dialer, machine_id, Method::GET, &path, Bytes::new());
    let (status, bytes) = tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| Err(late(limit)))?;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).into_owned();
        return Err(Fault::unavailable(format!("the cluster's master answers {status}: {text}")));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Fault::internal(format!("the cluster's master answers what cannot be read: {error}")))
}

/// Any request of the master's API; answers its status and body.
pub(super) async fn call(
    dialer: &dyn Dialer,
    machine_id: &str,
    method: Method,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Outcome<(StatusCode, Bytes)> {
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let exchange = exchange(dialer, machine_id, method, path, body);
    tokio::time::timeout(CALL_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(late(CALL_TIMEOUT)))
}

fn late(limit: Duration) -> Fault {
    Fault::unavailable(format!("the cluster's master did not answer within {} s", limit.as_secs()))
}

async fn exchange(
    dialer: &dyn Dialer,
    machine_id: &str,
    method: Method,
    path: &str,
    body: Bytes,
) -> Outcome<(StatusCode, Bytes)> {
    let silent =
        |error: &dyn std::fmt::Display| Fault::unavailable(format!("the cluster's master does not answer: {error}"));
    let stream = dialer.dial(machine_id, &format!("unix:{SOCKET_PATH}")).await.map_err(|error| silent(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| silent(&error))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "master")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| Fault::internal(format!("a request cannot be built: {error}")))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| silent(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| silent(&error))?.to_bytes()))
    };
    // The connection lives exactly as long as its one exchange.
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(silent(&error)),
    }
}
