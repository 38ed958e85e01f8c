//! The little that a door needs of the local engine, over its Unix socket.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, time::timeout};
use tokio_util::task::AbortOnDropHandle;

const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Attaching to an overlay whose manager is away takes the engine 20 s to give up.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// No answer.
    #[error("engine {socket}: {source}")]
    Io {
        /// The engine's socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A refusal.
    #[error("{call}: the engine says {status}: {message}")]
    Refused {
        /// Method and path.
        call: String,
        /// Status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
}

/// The local engine.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    socket: PathBuf,
}

impl Engine {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// A call with a JSON body or none.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, EngineError> {
        let (kind, bytes) = match body {
            Some(body) => ("application/json", Bytes::from(body.to_string())),
            None => ("", Bytes::new()),
        };
        let answer = self.exchange(method, path, kind, bytes, Some(CALL_TIMEOUT)).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// As [`Engine::call`]; `None` if there is no such thing.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Value>, EngineError> {
        match self.call(Method::GET, path, None).await {
            Err(EngineError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Makes an image from an archive.
    pub(super) async fn import(&self, repository: &str, tag: &str, archive: Vec<u8>) -> Result<(), EngineError> {
        let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}");
        let answer =
            self.exchange(Method::POST, &path, "application/x-tar", archive.into(), Some(CALL_TIMEOUT)).await?;
        // The status is sent before the work is done; a failure is told in the stream.
        let failure = answer
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
            .find_map(|line| line.get("error").and_then(Value::as_str).map(str::to_owned));
        match failure {
            None => Ok(()),
            Some(message) => Err(EngineError::Refused {
                call: format!("POST {path}"),
                status: StatusCode::INTERNAL_SERVER_ERROR,
                message,
            }),
        }
    }

    /// Waits for as long as a container runs.
    pub(super) async fn wait(&self, name: &str) -> Result<(), EngineError> {
        let path = format!("/containers/{name}/wait?condition=not-running");
        self.exchange(Method::POST, &path, "", Bytes::new(), None).await.map(drop)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
        limit: Option<Duration>,
    ) -> Result<Bytes, EngineError> {
        let failed = |source| EngineError::Io { socket: self.socket.clone(), source };
        let call = format!("{method} {path}");
        let request = Request::builder().method(method).uri(path).header(header::HOST, "docker");
        let request = if kind.is_empty() { request } else { request.header(header::CONTENT_TYPE, kind) };
        let request = request.body(Full::new(body)).map_err(|error| failed(io::Error::other(error)))?;
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, driver) = handshake.map_err(io::Error::other)?;
            let _driver = AbortOnDropHandle::new(tokio::spawn(driver));
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status();
            let body =
                Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(io::Error::other)?;
            Ok((status, body.to_bytes()))
        };
        let answered = match limit {
            Some(limit) => timeout(limit, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => exchange.await,
        };
        let (status, body) = answered.map_err(failed)?;
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(body);
        }
        let message =
            serde_json::from_slice::<Value>(&body).ok().and_then(|body| body["message"].as_str().map(str::to_owned));
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned());
        Err(EngineError::Refused { call, status, message })
    }
}
