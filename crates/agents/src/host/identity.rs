//! The host's key and certificate.

use rcgen::{CertificateParams, DnType, KeyPair};

use super::HostError;

/// A key that was made here and never leaves, and the request for its certificate.
pub(crate) struct Identity {
    /// Private key, PEM.
    pub(crate) key: String,
    /// Certificate signing request, PEM.
    pub(crate) csr: String,
}

impl Identity {
    /// Makes a new key.
    pub(crate) fn generate(name: &str) -> Result<Self, HostError> {
        let failed = |error: rcgen::Error| HostError::of("a key cannot be made", error);
        Self::request(KeyPair::generate().map_err(failed)?, name)
    }

    /// A request for a new certificate of the same key.
    pub(crate) fn of_key(key: &str, name: &str) -> Result<Self, HostError> {
        let failed = |error: rcgen::Error| HostError::of("the host's key cannot be read", error);
        Self::request(KeyPair::from_pem(key).map_err(failed)?, name)
    }

    fn request(key: KeyPair, name: &str) -> Result<Self, HostError> {
        let failed = |error: rcgen::Error| HostError::of("a certificate cannot be asked for", error);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let csr = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
        Ok(Self { key: key.serialize_pem(), csr })
    }
}
