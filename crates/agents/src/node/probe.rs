//! Asks whether something answers yet.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{http::exchange, spec::Probe};

const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// A cluster starts within seconds, so the first ones are watched closely.
const EAGER: Duration = Duration::from_secs(6);
const INTERVAL_MIN: Duration = Duration::from_millis(50);
const INTERVAL_MAX: Duration = Duration::from_millis(500);

/// Waits until the probe succeeds.
pub(crate) async fn wait(probe: &Probe) {
    let started = Instant::now();
    let mut interval = INTERVAL_MIN;
    while !succeeds(probe).await {
        sleep(interval).await;
        if started.elapsed() > EAGER {
            interval = (interval * 3 / 2).min(INTERVAL_MAX);
        }
    }
}

/// Tries once.
pub(crate) async fn succeeds(probe: &Probe) -> bool {
    let attempt = async {
        match probe {
            Probe::Tcp(address) => TcpStream::connect(address.as_str()).await.map(|_| true),
            Probe::Unix(path) => UnixStream::connect(path).await.map(|_| true),
            Probe::Http(url) => http_answers_200(url).await,
        }
    };
    matches!(timeout(TRY_TIMEOUT, attempt).await, Ok(Ok(true)))
}

async fn http_answers_200(url: &str) -> io::Result<bool> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {what}"));
    let uri: Uri = url.parse().map_err(|_| invalid("not a URL"))?;
    let tls = uri.scheme_str() == Some("https");
    let authority = uri.authority().ok_or_else(|| invalid("no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::CONNECTION, "close")
        .body(Full::<Bytes>::default())
        .map_err(io::Error::other)?;
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    let answer = if tls {
        let name = ServerName::try_from(host).map_err(|_| invalid("not a host name"))?;
        let stream = TlsConnector::from(tls_config()?).connect(name, tcp).await?;
        exchange(stream, request, ANSWER_BYTES_MAX).await
    } else {
        exchange(tcp, request, ANSWER_BYTES_MAX).await
    };
    Ok(answer.map_err(io::Error::other)?.0 == StatusCode::OK)
}

fn tls_config() -> io::Result<Arc<rustls::ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<rustls::ClientConfig>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        let verifier = Arc::new(AnyCertificate(provider));
        Some(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
    });
    config.clone().ok_or_else(|| io::Error::other("TLS cannot be set up"))
}

/// Accepts every certificate: a probe sends no secret and only learns whether something answers.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{empty, serve};
    use tokio::net::{TcpListener, UnixListener};

    #[tokio::test]
    async fn tcp_and_unix() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        assert!(succeeds(&Probe::Tcp(address.clone())).await);
        drop(tcp);
        assert!(!succeeds(&Probe::Tcp(address)).await);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        assert!(!succeeds(&Probe::Unix(path.display().to_string())).await);
        let _unix = UnixListener::bind(&path).unwrap();
        assert!(succeeds(&Probe::Unix(path.display().to_string())).await);
    }

    #[tokio::test]
    async fn http_counts_only_200() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(io, |request| {
                    let status = if request.uri().path() == "/ok" { StatusCode::OK } else { StatusCode::FORBIDDEN };
                    Box::pin(async move { empty(status) })
                }));
            }
        });
        assert!(succeeds(&Probe::Http(format!("http://{address}/ok"))).await);
        assert!(!succeeds(&Probe::Http(format!("http://{address}/no"))).await);
        assert!(!succeeds(&Probe::Http("nonsense".into())).await);
        // Plain HTTP on the other side of a TLS handshake is a failure, not a hang.
        assert!(!succeeds(&Probe::Http(format!("https://{address}/ok"))).await);
    }
}
