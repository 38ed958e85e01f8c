//! A Kubernetes client whose connections go through the tunnel of a machine.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        Client as HttpClient,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use kube::{Client, client::Body};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sampan_store::model::{Fault, Outcome};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{API_PORT, pki::Pki};
use crate::{
    certificate::CertifiedKey,
    ports::{Dialer, Stream},
};

/// Time for opening a stream through the tunnel and for the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept per cluster.
const IDLE_MAX: usize = 2;

/// A client for the API server that runs on the machine, as the cluster's administrator.
///
/// # Errors
/// Internal, when the stored certificates cannot be used.
pub(crate) fn client(dialer: Arc<dyn Dialer>, machine_id: &str, pki: &Pki) -> Outcome<Client> {
    let connector = Connector {
        dialer,
        machine_id: machine_id.into(),
        tls: TlsConnector::from(Arc::new(tls_config(&pki.cluster_ca.certificate, Some(&pki.admin))?)),
    };
    let http: HttpClient<Connector, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector);
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        let http = http.clone();
        async move {
            *request.uri_mut() = absolute(request.uri())?;
            http.request(request).await.map_err(tower::BoxError::from)
        }
    });
    Ok(Client::new(service, "default"))
}

/// The client's requests name only a path; the connector ignores the host, but HTTP needs one.
fn absolute(uri: &Uri) -> Result<Uri, tower::BoxError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Uri::builder().scheme("https").authority(format!("127.0.0.1:{API_PORT}")).path_and_query(path).build()?)
}

/// TLS with a server that `authority` (PEM) signed, as `client`, or as nobody.
pub(crate) fn tls_config(authority: &str, client: Option<&CertifiedKey>) -> Outcome<ClientConfig> {
    let unusable = |error: &dyn std::fmt::Display| {
        Fault::internal(format!("the cluster's stored certificates cannot be used: {error}"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots);
    let Some(client) = client else { return Ok(config.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(client.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).map_err(|error| unusable(&error))?;
    config.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))
}

#[derive(Clone)]
struct Connector {
    dialer: Arc<dyn Dialer>,
    machine_id: Arc<str>,
    tls: TlsConnector,
}

impl tower::Service<Uri> for Connector {
    type Response = Channel;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Channel>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { dialer, machine_id, tls } = self.clone();
        Box::pin(async move {
            let connect = async {
                let stream = dialer.dial(&machine_id, &format!("127.0.0.1:{API_PORT}")).await?;
                let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
                tls.connect(name, stream).await
            };
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "the API server on machine {machine_id} did not answer within {} s",
                        CONNECT_TIMEOUT.as_secs()
                    ),
                )
            })??;
            Ok(Channel(TokioIo::new(stream)))
        })
    }
}

/// A connection as the HTTP client wants it.
struct Channel(TokioIo<TlsStream<Box<dyn Stream>>>);

impl Connection for Channel {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Channel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
