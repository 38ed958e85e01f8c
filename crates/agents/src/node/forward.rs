//! Ports of this machine that lead elsewhere: the installation's image registry has the same address on every machine.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{relay::relay, spec::Forward};

const CONNECTIONS_MAX: usize = 256;
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The open ports; dropping one closes it.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    open: BTreeMap<SocketAddr, (SocketAddr, AbortOnDropHandle<()>)>,
}

impl Forwards {
    /// Opens what is wanted and not open, closes the rest.
    pub(crate) async fn apply(&mut self, wanted: &[Forward]) -> Result<(), String> {
        self.open.retain(|listen, (to, _)| wanted.iter().any(|forward| forward.listen == *listen && forward.to == *to));
        let mut problems = Vec::new();
        for forward in wanted {
            if self.open.contains_key(&forward.listen) {
                continue;
            }
            match listener(forward.listen).await {
                Ok(listener) => {
                    let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, forward.to)));
                    self.open.insert(forward.listen, (forward.to, task));
                }
                Err(error) => problems.push(format!("forwarding {} to {}: {error}", forward.listen, forward.to)),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }
}

/// A task that was just aborted may hold the port for a moment.
async fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            sleep(ACCEPT_RETRY).await;
            TcpListener::bind(address).await
        }
        bound => bound,
    }
}

async fn accept(listener: TcpListener, to: SocketAddr) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    if let Err(error) = carry(stream, to).await {
                        tracing::debug!(%to, %error, "a forwarded connection ended");
                    }
                    drop(permit);
                });
            }
            // Out of descriptors, most likely: others end.
            Err(_) => sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn carry(stream: TcpStream, to: SocketAddr) -> io::Result<()> {
    let target = timeout(CONNECT_TIMEOUT, TcpStream::connect(to))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))?;
    let _ = (stream.set_nodelay(true), target.set_nodelay(true));
    relay(stream, target).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// An address that nobody listens on, on a loopback address of this test alone: on 127.0.0.1 another test may be
    /// given the same port as soon as it is free.
    async fn free_address() -> SocketAddr {
        let address = Ipv4Addr::new(127, 93, 61, 7);
        TcpListener::bind((address, 0)).await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn bytes_reach_the_target_and_a_port_that_is_not_wanted_closes() {
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let free = free_address().await;
        let mut forwards = Forwards::default();
        let wanted = [Forward { listen: free, to: target.local_addr().unwrap() }];
        forwards.apply(&wanted).await.unwrap();
        forwards.apply(&wanted).await.unwrap();
        let mut client = TcpStream::connect(free).await.unwrap();
        let (mut server, _) = target.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
        forwards.apply(&[]).await.unwrap();
        while TcpStream::connect(free).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_said() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let taken = holder.local_addr().unwrap();
        let wanted = [Forward { listen: taken, to: taken }];
        let problem = Forwards::default().apply(&wanted).await.unwrap_err();
        assert!(problem.contains(&taken.to_string()), "{problem}");
        drop(holder);
    }
}
