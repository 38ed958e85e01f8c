//! A way to the engine that can be cut, because the engine itself serves others too.

use std::path::{Path, PathBuf};

use tokio::{
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

/// A socket that leads to the engine.
pub(crate) struct Line {
    socket: PathBuf,
    carrier: JoinHandle<()>,
}

impl Line {
    pub(crate) fn open(socket: &Path) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let carrier = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut far) = UnixStream::connect("/var/run/docker.sock").await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { socket: socket.to_owned(), carrier }
    }

    /// Ends every connection and refuses new ones.
    pub(crate) async fn cut(&mut self) {
        self.carrier.abort();
        let _ = (&mut self.carrier).await;
        let _ = std::fs::remove_file(&self.socket);
    }
}
