//! The master, as a router asks it: `GET /internal/routes?after=REVISION&router=NODE` over mutual TLS.
//!
//! The revision asked for is the one in force, whole (see [`super::plane`]). Ports that could not be opened go along in
//! the header `x-sampan-tcp-failures`, a JSON array of `{"port", "message"}`.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use sampan_agents::master::TlsFiles;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::{sockets, table::RouteTable, tcp::Failure};
use crate::docker::query::encode;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The master answers after some 25 s even if nothing has changed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A table of ten thousand containers takes about 2 MB.
const TABLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Failures told at a time.
const FAILURES_MAX: usize = 32;
pub(crate) const FAILURES_HEADER: &str = "x-sampan-tcp-failures";

/// Why the master did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum MasterError {
    /// No connection.
    #[error("{what}: {source}")]
    Connect {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the master broke: {0}")]
    Http(#[from] hyper::Error),
    /// Not in time.
    #[error("the master did not answer in time")]
    TimedOut,
    /// It refuses.
    #[error("the master answers {0}")]
    Status(StatusCode),
    /// It answers something else.
    #[error("the master's answer is no route table: {0}")]
    Table(String),
}

/// The master.
#[derive(Debug)]
pub(super) struct Master {
    address: String,
    tls: TlsFiles,
    node: String,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl Master {
    /// The master at this address.
    pub(super) fn new(address: String, tls: TlsFiles, node: String) -> Self {
        Self { address, tls, node, connection: None }
    }

    /// Asks for a table after this revision; `None`: there is none yet.
    pub(super) async fn ask(&mut self, after: u64, failures: &[Failure]) -> Result<Option<RouteTable>, MasterError> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.sender.is_closed() => connection,
            _ => self.connect().await?,
        };
        connection.sender.ready().await?;
        let sending = connection.sender.send_request(self.request(after, failures)?);
        let response = timeout(ANSWER_TIMEOUT, sending).await.map_err(|_| MasterError::TimedOut)??;
        let status = response.status();
        let body = Limited::new(response.into_body(), TABLE_BYTES_MAX).collect();
        let body = timeout(BODY_TIMEOUT, body).await.map_err(|_| MasterError::TimedOut)?;
        let body = body.map_err(|error| MasterError::Table(error.to_string()))?.to_bytes();
        // Only a connection whose answer was read to its end is of use again.
        self.connection = Some(connection);
        match status {
            StatusCode::OK => {
                serde_json::from_slice(&body).map(Some).map_err(|error| MasterError::Table(error.to_string()))
            }
            StatusCode::NO_CONTENT => Ok(None),
            _ => Err(MasterError::Status(status)),
        }
    }

    fn request(&self, after: u64, failures: &[Failure]) -> Result<Request<Empty<Bytes>>, MasterError> {
        let uri = format!("/internal/routes?after={after}&router={}", encode(&self.node));
        let mut request = Request::get(uri).header(header::HOST, &self.address);
        if !failures.is_empty() {
            let told = serde_json::to_string(&failures[..failures.len().min(FAILURES_MAX)]).unwrap_or_default();
            request = request.header(FAILURES_HEADER, told);
        }
        request.body(Empty::new()).map_err(|error| MasterError::Connect {
            what: format!("a request to {}", self.address),
            source: io::Error::other(error),
        })
    }

    async fn connect(&self) -> Result<Connection, MasterError> {
        let failed = |what: String| move |source| MasterError::Connect { what, source };
        let connecting = async {
            // Read each time: certificates are replaced before they end.
            let config = client_config(&self.tls)?;
            let stream = TcpStream::connect(&self.address).await?;
            sockets::prepare_backend(&stream);
            let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
            TlsConnector::from(config).connect(name, stream).await
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| MasterError::TimedOut)?;
        let stream = connected.map_err(failed(format!("master {}", self.address)))?;
        let (sender, driver) = Builder::new().handshake(TokioIo::new(stream)).await?;
        let driver: JoinHandle<()> = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection to the master broke");
            }
        });
        Ok(Connection { sender, _driver: AbortOnDropHandle::new(driver) })
    }
}

fn client_config(files: &TlsFiles) -> io::Result<Arc<ClientConfig>> {
    let bad = |path: &str| {
        let path = path.to_owned();
        move |error: &dyn std::fmt::Display| io::Error::other(format!("{path}: {error}"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&files.ca).map_err(|error| bad(&files.ca)(&error))? {
        let certificate = certificate.map_err(|error| bad(&files.ca)(&error))?;
        roots.add(certificate).map_err(|error| bad(&files.ca)(&error))?;
    }
    let chain = CertificateDer::pem_file_iter(&files.cert).map_err(|error| bad(&files.cert)(&error))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&files.cert)(&error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad(&files.key)(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| bad(&files.cert)(&error))?;
    Ok(Arc::new(config))
}
