//! The server's side of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, time::timeout};

use super::{Config, Report, Status};
use crate::http::{exchange, failure_message};

const TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Talks to a balancer; connects anew for each call, so the balancer may come and go.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why the balancer could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens on the socket.
    #[error("the balancer is not running (no answer on {}): {source}", socket.display())]
    NotRunning {
        /// The control socket.
        socket: PathBuf,
        /// Why connecting failed.
        source: io::Error,
    },
    /// No answer in time.
    #[error("the balancer did not answer {operation} within {} s", TIMEOUT.as_secs())]
    TimedOut {
        /// What was asked.
        operation: &'static str,
    },
    /// The exchange broke off or made no sense.
    #[error("{operation} of the balancer failed: {reason}")]
    Transport {
        /// What was asked.
        operation: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// The balancer said no.
    #[error("the balancer refused {operation} ({status}): {reason}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// The balancer's words.
        reason: String,
    },
}

impl Client {
    /// A client for the balancer with this control socket ([`super::CONTROL_SOCKET`] in its directory).
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Makes this the balancer's configuration. It is stored when this returns, and applied but for the reported failures.
    ///
    /// # Errors
    /// When the balancer cannot be asked or could not store the configuration.
    pub async fn apply(&self, config: &Config) -> Result<Report, ControlError> {
        let operation = "PUT /config";
        let body = serde_json::to_vec(config)
            .map_err(|error| ControlError::Transport { operation, reason: error.to_string() })?;
        self.call(operation, Method::PUT, "/config", body.into()).await
    }

    /// What the balancer is doing.
    ///
    /// # Errors
    /// When the balancer cannot be asked.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.call("GET /status", Method::GET, "/status", Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ControlError> {
        let transport = |reason: String| ControlError::Transport { operation, reason };
        let request = Request::builder().method(method).uri(path).header(header::HOST, "balancer");
        let request = request.body(Full::new(body)).map_err(|error| transport(error.to_string()))?;
        let work = async {
            let stream = UnixStream::connect(&self.socket)
                .await
                .map_err(|source| ControlError::NotRunning { socket: self.socket.clone(), source })?;
            let answered = exchange(stream, request, ANSWER_BYTES_MAX).await;
            let (status, answer) = answered.map_err(|error| transport(error.to_string()))?;
            if !status.is_success() {
                let reason = failure_message(&answer);
                return Err(ControlError::Refused { operation, status: status.as_u16(), reason });
            }
            serde_json::from_slice(&answer).map_err(|error| transport(error.to_string()))
        };
        timeout(TIMEOUT, work).await.unwrap_or(Err(ControlError::TimedOut { operation }))
    }
}
