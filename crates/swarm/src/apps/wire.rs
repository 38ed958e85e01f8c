//! One HTTP request over a connection that is already there.

use std::io;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// Asks, and answers the status and the answer's body if it has at most `body_max` bytes (else nothing of it).
pub(crate) async fn ask(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
    body_max: usize,
) -> io::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the set when the answer is there or nobody waits any more.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    if body_max == 0 {
        return Ok((status, Bytes::new()));
    }
    let body = Limited::new(response.into_body(), body_max).collect().await;
    Ok((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
}
