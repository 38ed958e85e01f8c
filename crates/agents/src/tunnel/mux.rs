//! Multiplexed streams over one connection. The server opens streams, the agent accepts them; each end owns one task
//! that drives the connection.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Config, Connection, ConnectionError, Mode};

/// Streams that the server keeps open at once on one connection; others wait.
pub(crate) const STREAMS_MAX: usize = 128;
/// Yamux breaks the whole connection above its own limit, so it is kept well away: a stream that one side has dropped
/// may live a little longer on the other.
const STREAMS_HARD_MAX: usize = 512;
/// Receive buffers of all streams together; exactly the protocol's minimum, so that windows do not grow.
const WINDOW_BYTES_MAX: usize = STREAMS_HARD_MAX * 256 * 1024;
const OPEN_QUEUE: usize = 16;

fn config() -> Config {
    let mut config = Config::default();
    config.set_max_num_streams(STREAMS_HARD_MAX).set_max_connection_receive_window(Some(WINDOW_BYTES_MAX));
    config
}

/// One stream; counts against [`STREAMS_MAX`] for as long as it lives.
#[derive(Debug)]
pub(crate) struct MuxStream {
    stream: Compat<yamux::Stream>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for MuxStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Opens streams on a connection that a [`drive_opening`] future drives.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    requests: mpsc::Sender<oneshot::Sender<yamux::Stream>>,
    permits: Arc<Semaphore>,
}

/// The connection is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Opener {
    /// Opens a stream; waits while [`STREAMS_MAX`] are open.
    pub(crate) async fn open(&self) -> Result<MuxStream, Gone> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Gone)?;
        let (answer, stream) = oneshot::channel();
        self.requests.send(answer).await.map_err(|_| Gone)?;
        Ok(MuxStream { stream: stream.await.map_err(|_| Gone)?.compat(), _permit: permit })
    }
}

/// The opening side: the returned future must be polled for as long as the connection shall live.
pub(crate) fn opening<S>(io: S) -> (Opener, impl Future<Output = Result<(), ConnectionError>> + Send)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (requests, receiver) = mpsc::channel(OPEN_QUEUE);
    let opener = Opener { requests, permits: Arc::new(Semaphore::new(STREAMS_MAX)) };
    (opener, drive_opening(Connection::new(io.compat(), config(), Mode::Client), receiver))
}

async fn drive_opening<S>(
    mut connection: Connection<Compat<S>>,
    mut requests: mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut wanted: Option<oneshot::Sender<yamux::Stream>> = None;
    poll_fn(|cx| {
        loop {
            if wanted.is_none()
                && let Poll::Ready(Some(request)) = requests.poll_recv(cx)
            {
                wanted = Some(request);
            }
            if let Some(answer) = wanted.take() {
                match connection.poll_new_outbound(cx) {
                    Poll::Ready(Ok(stream)) => {
                        // Whoever asked may have given up; then the stream is dropped, which resets it.
                        let _ = answer.send(stream);
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => wanted = Some(answer),
                }
            }
            match connection.poll_next_inbound(cx) {
                // Agents open no streams; one that does gets it reset.
                Poll::Ready(Some(Ok(stream))) => drop(stream),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// The accepting side: calls `accept` with every stream, until the connection ends.
pub(crate) async fn accepting<S>(io: S, mut accept: impl FnMut(MuxStream) + Send) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut connection = Connection::new(io.compat(), config(), Mode::Server);
    let permits = Arc::new(Semaphore::new(2 * STREAMS_MAX));
    while let Some(stream) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        let stream = stream?;
        // Beyond the limit the stream is dropped, which resets it.
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            accept(MuxStream { stream: stream.compat(), _permit: permit });
        }
    }
    Ok(())
}
