//! What the server can ask of one connected machine.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{STATUS_WAIT, TunnelError, address::DialAddress, mux::Opener};
use crate::{
    http::{exchange, failure_message, upgrade},
    spec::{NodeSpec, NodeStatus},
};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Applying a spec includes writing files and setting routes.
const PUT_SPEC_TIMEOUT: Duration = Duration::from_secs(30);
/// Stopping everything on a host and removing it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(170);
/// Stopping and starting everything on a host.
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Name of the protocol that `POST /v1/dial` upgrades to.
pub(crate) const DIAL_PROTOCOL: &str = "sampan-dial";

/// A raw connection to something that the machine can reach. Shutting down the writing side reaches the other end;
/// dropping it closes both directions.
pub type DialStream = TokioIo<Upgraded>;

/// One connected machine. Cheap to clone; belongs to one connection, so take a new one from the hub for each piece of work.
#[derive(Clone, Debug)]
pub struct AgentClient {
    machine: String,
    opener: Opener,
}

impl AgentClient {
    pub(crate) fn new(machine: String, opener: Opener) -> Self {
        Self { machine, opener }
    }

    /// Which machine this is.
    pub fn machine_id(&self) -> &str {
        &self.machine
    }

    /// Makes this the machine's wanted state. Answers when it is stored on the machine, files and routes are set and the
    /// processes are being supervised (not: ready).
    pub async fn put_spec(&self, spec: &NodeSpec) -> Result<NodeStatus, TunnelError> {
        let operation = "PUT /v1/spec";
        let body = serde_json::to_vec(spec).map_err(|error| self.transport(operation, &error))?;
        if body.len() > super::SPEC_BYTES_MAX {
            let reason = format!("the spec has {} bytes, {} are allowed", body.len(), super::SPEC_BYTES_MAX);
            return Err(self.transport(operation, &reason));
        }
        self.call(Method::PUT, "/v1/spec", body.into(), PUT_SPEC_TIMEOUT).await
    }

    /// Hash of the spec that the machine has on disk; empty when it has none.
    pub async fn spec_hash(&self) -> Result<String, TunnelError> {
        self.call(Method::GET, "/v1/spec/hash", Bytes::new(), CALL_TIMEOUT).await
    }

    /// The machine's status, asked afresh.
    pub async fn status(&self) -> Result<NodeStatus, TunnelError> {
        self.call(Method::GET, "/v1/status", Bytes::new(), CALL_TIMEOUT).await
    }

    /// The machine's status as soon as its revision is larger than `revision`, at the latest after [`STATUS_WAIT`].
    pub(crate) async fn status_after(&self, revision: u64) -> Result<NodeStatus, TunnelError> {
        let path = format!("/v1/status?after={revision}&timeout_ms={}", STATUS_WAIT.as_millis());
        self.call(Method::GET, &path, Bytes::new(), STATUS_WAIT + CALL_TIMEOUT).await
    }

    /// Makes a host forget us: everything is stopped and removed, the agent last. Answers what could not be removed.
    pub async fn leave(&self) -> Result<Vec<String>, TunnelError> {
        self.call(Method::POST, "/v1/leave", Bytes::new(), LEAVE_TIMEOUT).await
    }

    /// Stops all processes and starts them again.
    pub async fn restart(&self) -> Result<(), TunnelError> {
        self.call(Method::POST, "/v1/restart", Bytes::new(), RESTART_TIMEOUT).await
    }

    /// The last lines of a process' log.
    pub async fn process_log(&self, process: &str, lines: usize) -> Result<String, TunnelError> {
        let path = format!("/v1/logs/{process}?lines={lines}");
        let body = self.request(Method::GET, &path, Bytes::new(), CALL_TIMEOUT).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Connects to an address as the machine sees it, e.g. `127.0.0.1:6443` or `unix:/run/docker.sock`.
    pub async fn dial(&self, address: &str) -> Result<DialStream, TunnelError> {
        let operation = format!("dial {address}");
        let target: DialAddress = address.parse().map_err(|error| self.transport(&operation, &error))?;
        let request = Request::post(format!("/v1/dial?address={target}"))
            .header(header::HOST, "agent")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, DIAL_PROTOCOL)
            .body(Full::default())
            .map_err(|error| self.transport(&operation, &error))?;
        let work = async {
            let stream = self.opener.open().await.map_err(|_| self.disconnected(&operation))?;
            match upgrade(stream, request, ANSWER_BYTES_MAX).await {
                Ok(Ok(upgraded)) => Ok(TokioIo::new(upgraded)),
                Ok(Err((status, body))) => Err(self.refused(&operation, status, &body)),
                Err(error) => Err(self.transport(&operation, &error)),
            }
        };
        self.within(&operation, CALL_TIMEOUT, work).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, TunnelError> {
        let operation = format!("{method} {path}");
        let answer = self.request(method, path, body, limit).await?;
        serde_json::from_slice(&answer).map_err(|error| self.transport(&operation, &error))
    }

    async fn request(&self, method: Method, path: &str, body: Bytes, limit: Duration) -> Result<Bytes, TunnelError> {
        let operation = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "agent")
            .body(Full::new(body))
            .map_err(|error| self.transport(&operation, &error))?;
        let work = async {
            let stream = self.opener.open().await.map_err(|_| self.disconnected(&operation))?;
            let (status, answer) = exchange(stream, request, ANSWER_BYTES_MAX)
                .await
                .map_err(|error| self.transport(&operation, &error))?;
            if status.is_success() { Ok(answer) } else { Err(self.refused(&operation, status, &answer)) }
        };
        self.within(&operation, limit, work).await
    }

    async fn within<T>(
        &self,
        operation: &str,
        limit: Duration,
        work: impl Future<Output = Result<T, TunnelError>>,
    ) -> Result<T, TunnelError> {
        timeout(limit, work).await.unwrap_or_else(|_| {
            Err(TunnelError::TimedOut {
                machine: self.machine.clone(),
                operation: operation.to_owned(),
                seconds: limit.as_secs(),
            })
        })
    }

    fn disconnected(&self, operation: &str) -> TunnelError {
        TunnelError::Disconnected { machine: self.machine.clone(), operation: operation.to_owned() }
    }

    fn transport(&self, operation: &str, reason: &dyn std::fmt::Display) -> TunnelError {
        TunnelError::Transport {
            machine: self.machine.clone(),
            operation: operation.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn refused(&self, operation: &str, status: StatusCode, body: &[u8]) -> TunnelError {
        TunnelError::Refused {
            machine: self.machine.clone(),
            operation: operation.to_owned(),
            status: status.as_u16(),
            reason: failure_message(body),
        }
    }
}
