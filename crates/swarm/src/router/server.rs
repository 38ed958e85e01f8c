//! Connections of clients: HTTP/1.1, or HTTP/2 if they begin with it (prior knowledge).

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{HeaderValue, Request};
use hyper::{body::Incoming, server::conn::http1, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{plane::Plane, proxy, sockets};

/// Connections of clients at a time; more wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 10_000;
const BACKLOG: u32 = 4096;
/// Pause after an error of accept, e.g. when no descriptors are left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
const BIND_RETRY: Duration = Duration::from_secs(1);
/// Requests wait so long for a way into the overlay before new ones are turned away.
const SHUT_MAX: Duration = Duration::from_millis(1500);
/// A head must be there so long after the connection was opened or the answer before was sent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The first bytes must be there in this time.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause before the first bytes are looked at again when too few are there to tell the protocol.
const FIRST_BYTES_RETRY: Duration = Duration::from_millis(10);
/// Bytes of a head (and of trailers).
const HEAD_BYTES_MAX: usize = 64 * 1024;
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 256;
const WINDOW_BYTES: u32 = 256 * 1024;
const SEND_BUFFER_BYTES: usize = 256 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests under way have so long when the router stops.
const STOP_GRACE: Duration = Duration::from_secs(10);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Opens the listening socket.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves clients until `stop`, then lets requests under way end.
pub(super) async fn serve(listener: TcpListener, address: SocketAddr, plane: Arc<Plane>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let accepted = |stream, peer: SocketAddr, end, permit| {
        let connection = connection(stream, peer.ip(), Arc::clone(&plane), end);
        connections.spawn(async move {
            connection.await;
            drop(permit);
        });
    };
    accept_while_open(listener, address, &plane, &stop, accepted).await;
    connections.close();
    if timeout(STOP_GRACE, connections.wait()).await.is_err() {
        tracing::info!(connections = connections.len(), "connections were cut at the end");
    }
}

/// Takes connections until `stop`, for as long as there is a way into the overlay. While there is none the socket is
/// closed, so that the balancer goes to another node's router; connections that are open are told to end (the token).
pub(super) async fn accept_while_open(
    listener: TcpListener,
    address: SocketAddr,
    plane: &Plane,
    stop: &CancellationToken,
    accepted: impl Fn(TcpStream, SocketAddr, CancellationToken, OwnedSemaphorePermit),
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut listener = Some(listener);
    loop {
        if let Some(listener) = listener.take() {
            let end = stop.child_token();
            tokio::select! {
                () = accept(&listener, &permits, |stream, peer, permit| accepted(stream, peer, end.clone(), permit)) => {}
                () = shut_for_long(plane) => tracing::warn!(%address, "closed: there is no way into the overlay"),
                () = stop.cancelled() => return,
            }
            end.cancel();
        }
        tokio::select! {
            () = plane.dialer().opened() => {}
            () = stop.cancelled() => return,
        }
        match bind(address) {
            Ok(bound) => listener = Some(bound),
            Err(error) => {
                tracing::warn!(%address, %error, "cannot be opened again yet");
                sleep(BIND_RETRY).await;
            }
        }
    }
}

/// Serves containers until `stop`: inside the overlay, at this port of the door's own address, which their names for routes
/// resolve to. Nothing to do where there is no door.
pub(super) async fn serve_inside(port: u16, plane: Arc<Plane>, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = plane.dialer().opened() => {}
            () = stop.cancelled() => break,
        }
        let generation = plane.dialer().generation();
        let listener = match plane.dialer().listen(port).await {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
            Err(error) => {
                tracing::warn!(port, %error, "cannot be opened inside the overlay yet");
                sleep(BIND_RETRY).await;
                continue;
            }
        };
        tracing::info!(port, "the router takes requests inside the overlay");
        let end = stop.child_token();
        let accepted = |stream, peer: SocketAddr, permit| {
            let connection = connection(stream, peer.ip(), Arc::clone(&plane), end.clone());
            connections.spawn(async move {
                connection.await;
                drop(permit);
            });
        };
        tokio::select! {
            () = accept(&listener, &permits, accepted) => {}
            () = plane.dialer().moved(generation) => {}
            () = stop.cancelled() => {}
        }
        end.cancel();
    }
    connections.close();
    // What is left then is cut, as outside.
    let _ = timeout(STOP_GRACE, connections.wait()).await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    accepted: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit),
) {
    while let Ok(permit) = Arc::clone(permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => accepted(stream, peer, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// A door that is shut only for a moment is waited for.
async fn shut_for_long(plane: &Plane) {
    loop {
        plane.dialer().shut().await;
        if timeout(SHUT_MAX, plane.dialer().opened()).await.is_err() {
            return;
        }
    }
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Open(Arc<Plane>);

impl Open {
    fn new(plane: Arc<Plane>) -> Self {
        plane.counters.accepted.fetch_add(1, Ordering::Relaxed);
        plane.counters.open.fetch_add(1, Ordering::Relaxed);
        Self(plane)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(stream: TcpStream, peer: IpAddr, plane: Arc<Plane>, stop: CancellationToken) {
    let _open = Open::new(Arc::clone(&plane));
    sockets::prepare_client(&stream);
    let begun = tokio::select! {
        begun = timeout(FIRST_BYTES_TIMEOUT, begins_with_preface(&stream)) => begun,
        () = stop.cancelled() => return,
    };
    let Ok(Ok(is_http2)) = begun else { return };
    let Ok(client) = HeaderValue::from_str(&peer.to_string()) else { return };
    let ended =
        if is_http2 { http2(stream, client, plane, stop).await } else { http1(stream, client, plane, stop).await };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a client's connection broke");
    }
}

/// Whether the client speaks HTTP/2. Looks at the first bytes without taking them.
async fn begins_with_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut bytes = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut bytes).await?;
        if length == 0 || bytes[..length] != PREFACE[..length] {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        sleep(FIRST_BYTES_RETRY).await;
    }
}

async fn http1(
    stream: TcpStream,
    client: HeaderValue,
    plane: Arc<Plane>,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let (plane, client) = (Arc::clone(&plane), client.clone());
        async move { Ok::<_, Infallible>(proxy::answer(&plane, request, &client).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn http2(
    stream: TcpStream,
    client: HeaderValue,
    plane: Arc<Plane>,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let (plane, client) = (Arc::clone(&plane), client.clone());
        async move { Ok::<_, Infallible>(proxy::answer(&plane, request, &client).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
