//! Bodies on their way: those of requests ([`Upload`]) and of answers ([`Answer`]). Streamed; nothing is collected.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::{backend::Lease, link::Link, multiplex::Stream};

/// A client that owes bytes of a body for so long gets no more time.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Bodies of at most so many bytes fit into the buffers of any socket; for larger ones see [`Upload::is_large`].
const SMALL: u64 = 32 * 1024;

/// Body of a request.
#[derive(Debug)]
pub(super) struct Upload(Option<Stalling>);

#[derive(Debug)]
struct Stalling {
    shared: Arc<Shared>,
    timer: Option<Pin<Box<Sleep>>>,
    may_stall: bool,
}

/// What the body and those who watch it share.
#[derive(Debug, Default)]
struct Shared {
    incoming: Mutex<Option<Incoming>>,
    bytes: AtomicU64,
    is_touched: AtomicBool,
    is_broken: AtomicBool,
}

/// Why the body of a request did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The client broke off.
    #[error("the client's body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The client sends nothing.
    #[error("the client sent no more of its body")]
    Stalled,
    /// The body was taken back for another attempt.
    #[error("the body was taken back")]
    Taken,
}

impl Upload {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// A client's body. `may_stall`: a stream of both directions, silent for as long as it likes.
    pub(super) fn new(incoming: Incoming, may_stall: bool) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let shared = Arc::new(Shared { incoming: Mutex::new(Some(incoming)), ..Shared::default() });
        Self(Some(Stalling { shared, timer: None, may_stall }))
    }

    /// How far it has come; `None` without a body.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.0.as_ref().map(|body| Progress { shared: Arc::clone(&body.shared), may_stall: body.may_stall })
    }

    /// Whether a backend may read it so slowly that its socket's buffers fill.
    pub(super) fn is_large(&self) -> bool {
        self.0.as_ref().is_some_and(|_| self.size_hint().upper().is_none_or(|most| most > SMALL))
    }
}

/// Watches a body from outside of the connection that carries it.
#[derive(Debug)]
pub(super) struct Progress {
    shared: Arc<Shared>,
    may_stall: bool,
}

impl Progress {
    /// Bytes carried so far.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Whether it was the client that broke off.
    pub(super) fn is_broken(&self) -> bool {
        self.shared.is_broken.load(Ordering::Relaxed)
    }

    /// The body, for another attempt, if nothing of it has gone out yet.
    pub(super) fn take_back(&self) -> Option<Upload> {
        if self.shared.is_touched.load(Ordering::Acquire) {
            return None;
        }
        let incoming = self.shared.lock().take()?;
        Some(Upload::new(incoming, self.may_stall))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut incoming = self.lock();
        let Some(incoming) = incoming.as_mut() else { return Poll::Ready(Some(Err(UploadError::Taken))) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        self.is_touched.store(true, Ordering::Release);
        Poll::Ready(frame.map(|frame| frame.map_err(UploadError::from)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        match body.shared.poll(cx) {
            Poll::Ready(frame) => {
                body.timer = None;
                match &frame {
                    Some(Ok(frame)) => {
                        let length = frame.data_ref().map_or(0, Bytes::len);
                        body.shared.bytes.fetch_add(length as u64, Ordering::Relaxed);
                    }
                    Some(Err(_)) => body.shared.is_broken.store(true, Ordering::Relaxed),
                    None => {}
                }
                Poll::Ready(frame)
            }
            Poll::Pending if body.may_stall => Poll::Pending,
            Poll::Pending => {
                let timer = body.timer.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
                if timer.deadline() <= Instant::now() {
                    body.shared.is_broken.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(UploadError::Stalled)));
                }
                let _ = timer.as_mut().poll(cx);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(body) = &self.0 else { return true };
        body.shared.lock().as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(body) = &self.0 else { return SizeHint::with_exact(0) };
        body.shared.lock().as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// Body of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// The router's own words.
    Own(Option<Bytes>),
    /// A backend's, on a connection of its own.
    Linked(Linked),
    /// A backend's, one of several on a connection.
    Shared(Box<Stream>),
}

/// A backend's answer and the connection that it comes by.
#[derive(Debug)]
pub(super) struct Linked {
    incoming: Incoming,
    link: Option<Box<Link>>,
    lease: Option<Lease>,
}

impl Answer {
    /// The body that comes by this connection, which waits for the next request when the body has ended.
    pub(super) fn linked(incoming: Incoming, link: Box<Link>, lease: Lease) -> Self {
        let mut linked = Linked { incoming, link: Some(link), lease: Some(lease) };
        if linked.incoming.is_end_stream() {
            linked.finish();
        }
        Self::Linked(linked)
    }

    /// The body that comes by a connection which somebody else drives.
    pub(super) fn driven(incoming: Incoming, lease: Lease) -> Self {
        Self::Linked(Linked { incoming, link: None, lease: Some(lease) })
    }
}

impl Linked {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(link) = &mut self.link {
            link.drive(cx);
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.finish(),
            Some(Err(_)) => {
                if let Some(lease) = self.lease.take() {
                    lease.service.failed.fetch_add(1, Ordering::Relaxed);
                }
                self.link = None;
            }
        }
        Poll::Ready(frame)
    }

    fn finish(&mut self) {
        let (Some(lease), link) = (self.lease.take(), self.link.take()) else { return };
        if let Some(mut link) = link
            && link.is_ready_again()
        {
            lease.backend.keep(link);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Linked(linked) => linked.poll(cx),
            Self::Shared(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Linked(linked) => linked.incoming.is_end_stream(),
            Self::Shared(stream) => stream.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Linked(linked) => linked.incoming.size_hint(),
            Self::Shared(stream) => stream.size_hint(),
        }
    }
}
