//! The small parts of HTTP/1.1 that the agent, the mirror, the balancer's control socket and a Swarm cluster's master share: one service per
//! connection, bounded bodies, JSON answers. Three APIs of a handful of paths need no router.

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// Body of an answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 32 * 1024;
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(full(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be encoded");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An error answer: `{"message": …}`.
pub(crate) fn failure(status: StatusCode, message: impl std::fmt::Display) -> Response<Body> {
    json(status, &serde_json::json!({ "message": message.to_string() }))
}

/// Reads the message out of an error answer.
pub(crate) fn failure_message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Failure {
        message: String,
    }
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => failure.message,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned(),
    }
}

/// Reads a JSON body of at most `limit` bytes; the error is the answer to send.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Incoming, limit: usize) -> Result<T, Response<Body>> {
    serde_json::from_slice(&read(body, limit).await?).map_err(|error| malformed(&error))
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read(body: Incoming, limit: usize) -> Result<Bytes, Response<Body>> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(failure(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes")))
        }
        Err(error) => Err(failure(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))),
    }
}

/// The refusal of a body that is not what it should be.
pub(crate) fn malformed(error: &serde_json::Error) -> Response<Body> {
    failure(StatusCode::BAD_REQUEST, format!("the body is not what this call takes: {error}"))
}

/// The value of a query parameter, as written (these APIs use no character that needs escaping).
pub(crate) fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Serves one connection until it ends.
pub(crate) async fn serve<I, F>(io: I, handler: F) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The connection failed.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer was too large.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer ended early.
    #[error("the answer could not be read: {0}")]
    Body(String),
}

/// Sends one request on a fresh connection and reads an answer of at most `limit` bytes.
pub(crate) async fn exchange<I>(
    io: I,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<(StatusCode, Bytes), ExchangeError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = client().handshake(TokioIo::new(io)).await?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await?;
    read_answer(response, limit).await
}

/// Sends one upgrade request; `Err` of the inner result is the refusal.
pub(crate) async fn upgrade<I>(
    io: I,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Result<Upgraded, (StatusCode, Bytes)>, ExchangeError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = client().handshake(TokioIo::new(io)).await?;
    let driver = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Err(read_answer(response, limit).await?));
    }
    let upgraded = hyper::upgrade::on(response).await?;
    // The connection's task has handed its stream over and ends by itself.
    drop(driver.detach());
    Ok(Ok(upgraded))
}

/// How requests are sent.
pub(crate) fn client() -> hyper::client::conn::http1::Builder {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX);
    builder
}

async fn read_answer(response: Response<Incoming>, limit: usize) -> Result<(StatusCode, Bytes), ExchangeError> {
    let status = response.status();
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(collected) => Ok((status, collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(ExchangeError::TooLarge(limit)),
        Err(error) => Err(ExchangeError::Body(error.to_string())),
    }
}
