//! TLS of both sides: certificates from files, aws-lc as the only provider.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use sampan_agents::master::TlsFiles;

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind that is needed.
    #[error("{what} in {path}: {reason}")]
    File {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// rustls refuses them.
    #[error("the certificates cannot be used: {0}")]
    Rejected(String),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn rejected(error: impl std::fmt::Display) -> TlsError {
    TlsError::Rejected(error.to_string())
}

fn read<T>(what: &'static str, path: &str, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<T, TlsError> {
    let parsed =
        std::fs::read(Path::new(path)).map_err(|error: io::Error| error.to_string()).and_then(|text| parse(&text));
    parsed.map_err(|reason| TlsError::File { what, path: path.to_owned(), reason })
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    read("certificates", path, |text| {
        let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let list = list.map_err(|error| error.to_string())?;
        if list.is_empty() { Err("there is none".to_owned()) } else { Ok(list) }
    })
}

fn key(path: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    read("a private key", path, |text| PrivateKeyDer::from_pem_slice(text).map_err(|error| error.to_string()))
}

fn roots(paths: &[&str]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for path in paths {
        for certificate in certificates(path)? {
            store.add(certificate).map_err(rejected)?;
        }
    }
    Ok(store)
}

/// Client side: `files.ca` signs the servers.
pub(crate) fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).map_err(rejected)?;
    let config = builder
        .with_root_certificates(roots(&[&files.ca])?)
        .with_client_auth_cert(certificates(&files.cert)?, key(&files.key)?)
        .map_err(rejected)?;
    Ok(Arc::new(config))
}

/// A client that shows no certificate.
#[cfg(test)]
pub(crate) fn anonymous_client(ca: &str) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12]);
    Arc::new(builder.unwrap().with_root_certificates(roots(&[ca]).unwrap()).with_no_client_auth())
}

/// Server side of the endpoint: a client certificate of one of the two authorities is needed.
pub(crate) struct Endpoint {
    pub(crate) config: Arc<ServerConfig>,
    /// Tells users' certificates from routers'.
    pub(crate) users: Arc<dyn ClientCertVerifier>,
}

/// `files.ca` signs users, `router_ca` the routers.
pub(crate) fn endpoint(files: &TlsFiles, router_ca: &str) -> Result<Endpoint, TlsError> {
    let verifier = |store: RootCertStore| {
        WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider()).build().map_err(rejected)
    };
    let anybody = verifier(roots(&[&files.ca, router_ca])?)?;
    let users = verifier(roots(&[&files.ca])?)?;
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).map_err(rejected)?;
    let mut config = builder
        .with_client_cert_verifier(anybody)
        .with_single_cert(certificates(&files.cert)?, key(&files.key)?)
        .map_err(rejected)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Endpoint { config: Arc::new(config), users })
}
