//! One HTTP/1.1 connection to a backend, driven by whoever uses it.
//!
//! hyper's connection is a future that somebody must poll. It is not spawned: the request that is on it polls it, and then
//! the body of the answer does. So a request is carried from end to end by the task of its client's connection, without
//! hand-overs between tasks, and back-pressure is that of the sockets.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    body::{Progress, Upload},
    sockets,
};

type Driver = Connection<TokioIo<TcpStream>, Upload>;

/// A backend that says nothing for so long while a request waits for its answer does not answer it.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// A connection.
pub(super) struct Link {
    sender: SendRequest<Upload>,
    /// `None` when the connection has ended.
    driver: Option<Driver>,
    generation: u64,
    since: Instant,
    /// Whether it has carried a request before.
    pub(super) is_reused: bool,
    /// Whether it was opened for a large upload; such a connection is not used again.
    is_patient: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_reused", &self.is_reused).finish_non_exhaustive()
    }
}

/// How sending a request ended without an answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nothing of it was sent; here it is.
    Unsent(Box<Request<Upload>>),
    /// It was sent, at least in part, and the connection broke.
    Broken(hyper::Error),
    /// No answer in time.
    TimedOut,
}

impl Link {
    /// Begins HTTP/1.1 on a connection.
    pub(super) async fn new(stream: TcpStream, generation: u64, is_patient: bool) -> Result<Box<Self>, hyper::Error> {
        if is_patient {
            sockets::be_patient(&stream);
        }
        let (sender, driver) = Builder::new().handshake(TokioIo::new(stream)).await?;
        let since = Instant::now();
        Ok(Box::new(Self { sender, driver: Some(driver), generation, since, is_reused: false, is_patient }))
    }

    /// Sends a request and waits for the head of its answer. `before` is dropped as soon as the request is on its way.
    pub(super) async fn send<T>(
        &mut self,
        request: Request<Upload>,
        before: T,
    ) -> Result<Response<Incoming>, Unanswered> {
        let progress = request.body().progress();
        let answer = self.sender.try_send_request(request);
        let timer = tokio::time::sleep(ANSWER_TIMEOUT);
        tokio::pin!(answer, timer);
        let mut before = Some(before);
        let mut carried = 0;
        std::future::poll_fn(|cx| {
            self.drive(cx);
            before = None;
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(answered.map_err(|mut error| match error.take_message() {
                    Some(request) => Unanswered::Unsent(Box::new(request)),
                    None => Unanswered::Broken(error.into_error()),
                }));
            }
            while timer.as_mut().poll(cx).is_ready() {
                // A long upload is not a backend that is silent.
                let now_carried = progress.as_ref().map_or(0, Progress::bytes);
                if now_carried == carried {
                    return Poll::Ready(Err(Unanswered::TimedOut));
                }
                carried = now_carried;
                timer.as_mut().reset(tokio::time::Instant::now() + ANSWER_TIMEOUT);
            }
            Poll::Pending
        })
        .await
    }

    /// Carries bytes as far as they go.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    /// Whether the next request may go out on it, once an answer has been read to its end.
    pub(super) fn is_ready_again(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.is_reused = true;
        self.since = Instant::now();
        !self.is_patient && self.driver.is_some() && self.sender.is_ready()
    }

    /// Whether a connection that waited is still of use. A close or stray bytes of the backend are noticed.
    pub(super) fn is_usable(&mut self, generation: u64, age_max: Duration) -> bool {
        if self.generation != generation || self.since.elapsed() > age_max {
            return false;
        }
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// A connection for one request that may become a stream; hyper's task drives it.
pub(super) async fn upgradable(stream: TcpStream) -> Result<SendRequest<Upload>, hyper::Error> {
    sockets::be_patient(&stream);
    let (sender, driver) = Builder::new().handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(%error, "a connection to a backend broke");
        }
    });
    Ok(sender)
}
