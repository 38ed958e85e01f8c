//! The agent's side: one connection to the server, for ever.

use std::{
    hash::{BuildHasher as _, RandomState},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    SILENCE_MAX,
    handshake::{self, HandshakeError, Hello},
    mux,
};
use crate::http::{Body, serve};

pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(50);
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A connection that ends sooner (another agent has this machine's id, say) does not reset the back-off.
pub(crate) const STEADY: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the agent looks whether the server has made a new socket: while it has no connection, and while it has one
/// (whose end it notices anyway, unless the server hangs).
const SOCKET_LOOK_INTERVAL: Duration = Duration::from_millis(200);
const SOCKET_LOOK_INTERVAL_CONNECTED: Duration = Duration::from_secs(3);

/// Answers the requests that arrive through the tunnel.
pub(crate) type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Keeps one connection to the server's socket until `stop`. The socket file may be replaced at any time: a server that
/// restarts makes a new one in the same directory.
pub(crate) async fn keep_connected(socket: &Path, hello: &Hello, handler: Handler, stop: CancellationToken) {
    let mut backoff = BACKOFF_MIN;
    let mut last_problem = String::new();
    while !stop.is_cancelled() {
        let identity = socket_identity(socket);
        let started = Instant::now();
        let outcome = tokio::select! {
            outcome = connect_once(socket, hello, &handler) => outcome,
            () = socket_replaced(socket, identity, SOCKET_LOOK_INTERVAL_CONNECTED), if identity.is_some() => Ok(()),
            () = stop.cancelled() => return,
        };
        match outcome {
            Ok(()) if started.elapsed() > STEADY => backoff = BACKOFF_MIN,
            Ok(()) => {}
            Err(error) => {
                let problem = error.to_string();
                // The server may be away for days: say each new reason once.
                if problem != last_problem {
                    tracing::warn!(socket = %socket.display(), "no connection to the server, trying on: {problem}");
                    last_problem = problem;
                }
                if matches!(error, HandshakeError::Refused(_)) {
                    backoff = BACKOFF_MAX;
                }
            }
        }
        tokio::select! {
            () = sleep(jittered(backoff)) => backoff = (backoff * 2).min(BACKOFF_MAX),
            () = socket_replaced(socket, identity, SOCKET_LOOK_INTERVAL) => backoff = BACKOFF_MIN,
            () = stop.cancelled() => return,
        }
    }
}

/// One connection. `Ok` when it was established and ended later.
async fn connect_once(socket: &Path, hello: &Hello, handler: &Handler) -> Result<(), HandshakeError> {
    let io = timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await.map_err(|_| HandshakeError::TimedOut)??;
    serve_tunnel(io, hello, handler).await
}

/// Introduces itself on a fresh connection and serves the streams that the server opens, until the connection ends or
/// falls silent: the server always keeps a status request waiting, so silence means that it is gone.
pub(crate) async fn serve_tunnel<S>(io: S, hello: &Hello, handler: &Handler) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let io = handshake::introduce(io, hello).await?;
    tracing::info!("connected to the server");
    let started = Instant::now();
    let last_heard_ms = AtomicU64::new(0);
    let streams = TaskTracker::new();
    let ended = CancellationToken::new();
    let _end_streams = ended.clone().drop_guard();
    let accept = |stream| {
        last_heard_ms.store(elapsed_ms(started), Ordering::Relaxed);
        let (handler, ended) = (Arc::clone(handler), ended.clone());
        streams.spawn(async move {
            tokio::select! {
                served = serve(stream, move |request| handler(request)) => {
                    if let Err(error) = served {
                        tracing::debug!(%error, "a stream of the tunnel ended early");
                    }
                }
                () = ended.cancelled() => {}
            }
        });
    };
    let silence = async {
        loop {
            sleep(SILENCE_MAX / 4).await;
            let silent_ms = elapsed_ms(started).saturating_sub(last_heard_ms.load(Ordering::Relaxed));
            if Duration::from_millis(silent_ms) > SILENCE_MAX {
                return;
            }
        }
    };
    tokio::select! {
        outcome = mux::accepting(io, accept) => match outcome {
            Ok(()) => tracing::info!("the server closed the connection"),
            Err(error) => tracing::info!(%error, "the connection to the server broke"),
        },
        () = silence => tracing::warn!("the server fell silent; connecting anew"),
    }
    Ok(())
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Device, inode and change time: an inode number alone may be used again at once.
fn socket_identity(socket: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = std::fs::metadata(socket).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// Waits until the path names another socket than `known`.
async fn socket_replaced(socket: &Path, known: Option<(u64, u64, i64, i64)>, interval: Duration) {
    loop {
        sleep(interval).await;
        let now = socket_identity(socket);
        if now.is_some() && now != known {
            return;
        }
    }
}

/// Between 50 % and 100 %, so that the agents of one server do not come back in step.
pub(crate) fn jittered(duration: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8) % 512;
    duration / 2 + duration / 1024 * u32::try_from(random).unwrap_or(0)
}
