//! Ports of the host's loopback interface that lead to its cluster: straight where the host reaches it, so that the server
//! may be away, else through the server.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::agent::HostAgent;
use crate::{
    node::board::Board,
    relay::relay,
    spec::{Uplink, UplinkService},
};

const CONNECTIONS_MAX: usize = 256;
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Within the VPC an address answers at once.
const DIRECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After a direct way that did not answer it is not tried for so long.
const DIRECT_PAUSE: Duration = Duration::from_secs(30);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The open ports; dropping one closes it.
#[derive(Default)]
pub(crate) struct Uplinks {
    open: BTreeMap<SocketAddr, (Uplink, AbortOnDropHandle<()>)>,
}

impl Uplinks {
    /// Opens what is wanted and not open, closes the rest.
    pub(crate) async fn apply(
        &mut self,
        wanted: &[Uplink],
        host: Option<&Arc<HostAgent>>,
        board: &Arc<Board>,
    ) -> Result<(), String> {
        self.open.retain(|_, (open, _)| wanted.contains(open));
        for uplink in wanted {
            if self.open.contains_key(&uplink.listen) {
                continue;
            }
            let host = host.ok_or("this machine is no host and has no way through the server")?;
            let listener =
                TcpListener::bind(uplink.listen).await.map_err(|error| format!("{}: {error}", uplink.listen))?;
            let way = Way {
                uplink: uplink.clone(),
                host: Arc::clone(host),
                board: Arc::clone(board),
                not_before: std::sync::Mutex::new(Instant::now()),
            };
            let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::new(way))));
            self.open.insert(uplink.listen, (uplink.clone(), task));
        }
        Ok(())
    }
}

/// How connections to one port go.
struct Way {
    uplink: Uplink,
    host: Arc<HostAgent>,
    board: Arc<Board>,
    /// When the direct way may be tried again.
    not_before: std::sync::Mutex<Instant>,
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let way = Arc::clone(&way);
                tokio::spawn(async move {
                    if let Err(error) = way.carry(stream).await {
                        tracing::debug!(listen = %way.uplink.listen, %error, "a connection to the cluster ended");
                    }
                    drop(permit);
                });
            }
            // Out of descriptors, most likely: others end.
            Err(_) => sleep(ACCEPT_RETRY).await,
        }
    }
}

impl Way {
    async fn carry(&self, stream: TcpStream) -> io::Result<()> {
        let _ = stream.set_nodelay(true);
        let target = match self.direct().await {
            Some(direct) => direct,
            None => self.through_the_server().await?,
        };
        relay(stream, target).await
    }

    async fn direct(&self) -> Option<Box<dyn Stream>> {
        let address = self.uplink.direct?;
        let not_before = || self.not_before.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if Instant::now() < *not_before() {
            return None;
        }
        let problem = format!("direct way to {address}");
        match timeout(DIRECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                self.board.set_problem(&problem, None);
                let _ = stream.set_nodelay(true);
                Some(Box::new(stream))
            }
            _ => {
                *not_before() = Instant::now() + DIRECT_PAUSE;
                let text = format!(
                    "this host does not reach {address} directly; it goes through the server, whose absence it would \
                     notice: give it a route to the VPC"
                );
                self.board.set_problem(&problem, Some(text));
                None
            }
        }
    }

    async fn through_the_server(&self) -> io::Result<Box<dyn Stream>> {
        let server = self.host.server();
        match self.uplink.service {
            UplinkService::Api => Ok(Box::new(server.open("/v1/api").await?)),
            // The registry is a part of what the server says by HTTP itself.
            UplinkService::Images => Ok(Box::new(server.connect().await?)),
        }
    }
}
