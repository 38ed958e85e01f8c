//! HTTP/2 connections to a backend, for gRPC: many requests at once on each.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    body::{Body as _, Frame, Incoming, SizeHint},
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{backend::Lease, body::Upload, sockets};

/// Connections of one backend that are kept.
const KEPT_MAX: usize = 16;
/// A connection without a request is closed after so long.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Requests on one connection, whatever the backend allows.
const REQUESTS_MAX: usize = 200;
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const WINDOW_BYTES: u32 = 256 * 1024;

/// The connections of a backend.
#[derive(Debug, Default)]
pub(super) struct Multiplexed(Mutex<Vec<Channel>>);

/// One of them, shared by its requests.
#[derive(Clone)]
pub(super) struct Channel {
    sender: SendRequest<Upload>,
    requests: Arc<AtomicUsize>,
    /// Requests at a time that the backend allows.
    allowed: Arc<AtomicUsize>,
    generation: u64,
    since: Instant,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Multiplexed {
    /// A connection that takes one more request.
    pub(super) fn channel(&self, generation: u64) -> Option<Channel> {
        let channels = self.lock();
        let mut open = channels.iter().filter(|channel| channel.is_open(generation));
        open.find(|channel| channel.requests.load(Ordering::Relaxed) < channel.most()).cloned()
    }

    /// Keeps a connection for others.
    pub(super) fn keep(&self, channel: &Channel) {
        let mut channels = self.lock();
        if channels.len() < KEPT_MAX {
            channels.push(channel.clone());
        }
    }

    /// Lets go of connections that are closed or were not used for long.
    pub(super) fn sweep(&self, generation: u64) {
        self.lock().retain_mut(|channel| {
            if channel.requests.load(Ordering::Relaxed) > 0 {
                channel.since = Instant::now();
            }
            channel.is_open(generation) && channel.since.elapsed() < IDLE_MAX
        });
    }

    /// Lets go of all; each closes when its last request has ended.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    /// Begins HTTP/2 on a connection.
    pub(super) async fn new(stream: TcpStream, generation: u64) -> Result<Self, hyper::Error> {
        sockets::be_patient(&stream);
        let (sender, mut driver) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(4 * WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        let allowed = Arc::new(AtomicUsize::new(REQUESTS_MAX));
        let told = Arc::clone(&allowed);
        tokio::spawn(async move {
            let driven = std::future::poll_fn(|cx| {
                let ended = Pin::new(&mut driver).poll(cx);
                told.store(driver.current_max_send_streams(), Ordering::Relaxed);
                ended
            });
            if let Err(error) = driven.await {
                tracing::debug!(%error, "an HTTP/2 connection to a backend broke");
            }
        });
        Ok(Self { sender, requests: Arc::default(), allowed, generation, since: Instant::now() })
    }

    fn is_open(&self, generation: u64) -> bool {
        self.generation == generation && !self.sender.is_closed()
    }

    fn most(&self) -> usize {
        self.allowed.load(Ordering::Relaxed).min(REQUESTS_MAX)
    }

    /// Takes one request onto it.
    pub(super) fn begin(self) -> (SendRequest<Upload>, Busy) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        (self.sender, Busy(self.requests))
    }
}

/// Counts a request on a connection for as long as it lasts.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Stream {
    incoming: Incoming,
    under_way: Option<(Busy, Lease)>,
}

impl Stream {
    /// The body of an answer on this connection.
    pub(super) fn new(incoming: Incoming, busy: Busy, lease: Lease) -> Self {
        Self { incoming, under_way: Some((busy, lease)) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => {}
            None => self.under_way = None,
            Some(Err(_)) => {
                if let Some((_, lease)) = self.under_way.take() {
                    lease.service.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
