//! The server as a host reaches it: TLS, believed by its authority alone.

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use super::HostError;
use crate::{
    http::{client, exchange, failure_message, upgrade},
    spec::hexadecimal,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A download of which nothing arrives for so long has failed.
const STALLED: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Name of the protocols that connections to the server are upgraded to.
pub(crate) const UPGRADE: &str = "sampan-host";

/// The server.
pub struct Server {
    /// `host:port`.
    address: String,
    name: ServerName<'static>,
    roots: Arc<RootCertStore>,
    config: RwLock<Arc<ClientConfig>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// The server at `address` (`host:port`), whose certificate the authority in `ca` (PEM) has signed.
    ///
    /// # Errors
    /// When the address or the authority makes no sense.
    pub fn new(address: &str, ca: &str) -> Result<Self, HostError> {
        let host = address.rsplit_once(':').map(|(host, _)| host.trim_start_matches('[').trim_end_matches(']'));
        let host = host.ok_or_else(|| HostError(format!("{address:?} is not host:port")))?.to_owned();
        let name = ServerName::try_from(host).map_err(|error| HostError::of(address, error))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(|error| HostError::of("the server's authority", error))?;
            roots.add(certificate).map_err(|error| HostError::of("the server's authority", error))?;
        }
        if roots.is_empty() {
            return Err(HostError("the server's authority has no certificate".into()));
        }
        let roots = Arc::new(roots);
        let config = RwLock::new(Arc::new(config(&roots, None)?));
        Ok(Self { address: address.to_owned(), name, roots, config })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on the host shows this certificate (both PEM).
    ///
    /// # Errors
    /// When they cannot be read or do not belong together.
    pub fn identify(&self, certificate: &str, key: &str) -> Result<(), HostError> {
        let config = Arc::new(config(&self.roots, Some((certificate, key)))?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// A fresh connection.
    pub(crate) async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let connecting = async {
            let tcp = TcpStream::connect(&self.address).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(config).connect(self.name.clone(), tcp).await
        };
        timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends JSON and reads JSON.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, HostError> {
        let what = format!("{} {path}", self.address);
        let failed = |error: String| HostError::of(&what, error);
        let json = serde_json::to_vec(body).map_err(|error| failed(error.to_string()))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(json))).map_err(|error| failed(error.to_string()))?;
        let work = async {
            let io = self.connect().await.map_err(|error| failed(error.to_string()))?;
            exchange(io, request, ANSWER_BYTES_MAX).await.map_err(|error| failed(error.to_string()))
        };
        let answer = timeout(CALL_TIMEOUT, work).await;
        let (status, answer) = answer.map_err(|_| failed("no answer in time".into()))??;
        if !status.is_success() {
            // The server's words are for the person at the host.
            return Err(HostError(failure_message(&answer)));
        }
        serde_json::from_slice(&answer).map_err(|error| failed(error.to_string()))
    }

    /// Writes what the server has under `path` to a file, and returns its SHA-256 and size.
    pub(crate) async fn fetch(&self, path: &str, to: &Path) -> Result<(String, u64), HostError> {
        let what = format!("fetching {path} from {}", self.address);
        let failed = |error: &dyn fmt::Display| HostError::of(&what, error);
        let request = Request::get(path)
            .header(header::HOST, &self.address)
            .body(Full::<Bytes>::default())
            .map_err(|error| failed(&error))?;
        let io = self.connect().await.map_err(|error| failed(&error))?;
        let (mut sender, connection) = client().handshake(TokioIo::new(io)).await.map_err(|error| failed(&error))?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let answer = timeout(CALL_TIMEOUT, sender.send_request(request)).await;
        let answer = answer.map_err(|_| failed(&"no answer in time"))?.map_err(|error| failed(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(failed(&answer.status()));
        }
        let mut body = answer.into_body();
        let mut file = tokio::fs::File::create(to).await.map_err(|error| failed(&error))?;
        let (mut digest, mut size) = (Sha256::new(), 0u64);
        while let Some(frame) = timeout(STALLED, body.frame()).await.map_err(|_| failed(&"it has stalled"))? {
            let frame = frame.map_err(|error| failed(&error))?;
            if let Some(data) = frame.data_ref() {
                digest.update(data);
                size += data.len() as u64;
                file.write_all(data).await.map_err(|error| failed(&error))?;
            }
        }
        file.sync_all().await.map_err(|error| failed(&error))?;
        Ok((hexadecimal(&digest.finalize()), size))
    }

    /// A connection that carries something else than HTTP from now on: what stands behind `path`.
    pub(crate) async fn open(&self, path: &str) -> io::Result<TokioIo<Upgraded>> {
        let request = Request::post(path)
            .header(header::HOST, &self.address)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, UPGRADE)
            .body(Full::<Bytes>::default())
            .map_err(io::Error::other)?;
        let io = self.connect().await?;
        let upgraded = timeout(CALL_TIMEOUT, upgrade(io, request, ANSWER_BYTES_MAX)).await;
        match upgraded.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
            Ok(Ok(upgraded)) => Ok(TokioIo::new(upgraded)),
            Ok(Err((status, body))) => {
                Err(io::Error::other(format!("the server refused ({status}): {}", failure_message(&body))))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

fn config(roots: &Arc<RootCertStore>, own: Option<(&str, &str)>) -> Result<ClientConfig, HostError> {
    let failed = |error: &dyn fmt::Display| HostError::of("TLS cannot be set up", error);
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_root_certificates(Arc::clone(roots));
    let Some((certificate, key)) = own else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| failed(&error))?;
    builder.with_client_auth_cert(chain.map_err(|error| failed(&error))?, key).map_err(|error| failed(&error))
}
