//! Carries bytes between two connections, half-close included.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::sleep,
};

const BUFFER_BYTES: usize = 16 * 1024;
/// When one direction has ended, the other may be silent for so long; an end that only ever half-closes must not keep
/// the connection for ever.
const HALF_CLOSED_IDLE_MAX: Duration = Duration::from_secs(300);

/// Carries bytes both ways until both directions have ended or one fails.
///
/// # Errors
/// What the connection that failed says; a time-out if one direction has ended and the other is silent for long.
pub async fn relay<A, B>(a: A, b: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let carried = AtomicU64::new(0);
    let (a_read, a_write) = split(a);
    let (b_read, b_write) = split(b);
    let forth = pump(a_read, b_write, &carried);
    let back = pump(b_read, a_write, &carried);
    tokio::pin!(forth, back);
    let mut forth_open = true;
    tokio::select! {
        done = &mut forth => { done?; forth_open = false; }
        done = &mut back => done?,
    }
    let rest = async { if forth_open { forth.await } else { back.await } };
    tokio::select! {
        done = rest => done,
        () = idle(&carried) => Err(io::Error::new(io::ErrorKind::TimedOut, "half-closed and idle")),
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    carried: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            // The other end may be gone already; then there is nobody left to tell.
            let _ = to.shutdown().await;
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        carried.fetch_add(1, Ordering::Relaxed);
    }
}

async fn idle(carried: &AtomicU64) {
    loop {
        let before = carried.load(Ordering::Relaxed);
        sleep(HALF_CLOSED_IDLE_MAX).await;
        if carried.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn half_close_reaches_the_other_end_and_the_answer_comes_back() {
        let (mut client, a) = tokio::io::duplex(64);
        let (b, mut server) = tokio::io::duplex(64);
        let relay = tokio::spawn(relay(a, b));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        relay.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_silent_connection_is_given_up() {
        let (mut client, a) = tokio::io::duplex(64);
        let (b, _server) = tokio::io::duplex(64);
        let relay = tokio::spawn(relay(a, b));
        client.shutdown().await.unwrap();
        assert_eq!(relay.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
