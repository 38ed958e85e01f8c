//! How hosts and the server believe each other: an authority of the installation's own, and certificates by it.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer,
    KeyPair, KeyUsagePurpose,
};
use sampan_store::{
    Batch, Store,
    model::{Fault, Outcome, Timestamp},
};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::certificate::{CertifiedKey, Leaf, Usage, authority, issue};

/// Where the authority is among the secrets.
const SECRET: &str = "hosts/authority";
const AUTHORITY_DAYS: i64 = 20 * 365;
/// The server's own certificates are made at each start, and nobody but our agents looks at them.
const SERVER_DAYS: i64 = 10 * 365;
/// Agents renew theirs every month.
const HOST_DAYS: i64 = 365;
const CLOCK_SKEW_MINUTES: i64 = 10;
/// Organisation in a host's certificate.
const ORGANIZATION: &str = "sampan:hosts";

/// The authority that hosts believe, and that says who they are.
#[derive(Clone, Debug)]
pub struct HostAuthority {
    own: CertifiedKey,
}

impl HostAuthority {
    /// Reads it from the store, or makes it.
    ///
    /// # Errors
    /// Unavailable when the disk does not answer; internal when the stored one cannot be read.
    pub async fn load(store: &Store, now: Timestamp) -> Outcome<Self> {
        if let Some(bytes) = store.secret(SECRET).await? {
            let own = serde_json::from_slice(&bytes)
                .map_err(|error| Fault::internal(format!("the stored authority of hosts cannot be read: {error}")))?;
            return Ok(Self { own });
        }
        let own = authority("Sampan hosts", now, later(now, AUTHORITY_DAYS)?)?;
        let json = serde_json::to_vec(&own)
            .map_err(|error| Fault::internal(format!("the authority of hosts cannot be written as JSON: {error}")))?;
        let mut batch = Batch::new();
        batch.secret(SECRET, &json);
        store.commit(batch).await?;
        Ok(Self { own })
    }

    /// PEM.
    pub fn certificate(&self) -> &str {
        &self.own.certificate
    }

    /// SHA-256 of the PEM text, hexadecimal: what the attach line compares.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.own.certificate.as_bytes()))
    }

    /// A certificate of the server for these names or addresses.
    ///
    /// # Errors
    /// Internal, when the cryptographic library refuses; `InvalidParameter` for a name that is none.
    pub fn server(&self, names: &[String], now: Timestamp) -> Outcome<CertifiedKey> {
        let expires = later(now, SERVER_DAYS)?;
        let leaf = Leaf { common_name: "sampan", organization: None, names, usage: Usage::Server, now, expires };
        issue(&self.own, &leaf)
    }

    /// A certificate for the key in a host's request (PEM). What else the request asks for is not looked at.
    ///
    /// # Errors
    /// `InvalidParameter` of `csr` when it is no request.
    pub fn sign(&self, csr: &str, machine_id: &str, now: Timestamp) -> Outcome<String> {
        let wrong = |error: rcgen::Error| {
            Fault::invalid("csr", format!("csr: this is no certificate signing request: {error}"))
        };
        let failed =
            |error: rcgen::Error| Fault::internal(format!("cannot make the certificate of {machine_id}: {error}"));
        let request = CertificateSigningRequestParams::from_pem(csr).map_err(wrong)?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, ORGANIZATION);
        subject.push(DnType::CommonName, machine_id);
        params.distinguished_name = subject;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let begin = now.checked_sub(jiff::SignedDuration::from_mins(CLOCK_SKEW_MINUTES)).unwrap_or(now);
        let seconds = |time: Timestamp| std::time::Duration::from_secs(time.as_second().max(0).unsigned_abs());
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + seconds(begin);
        params.not_after = epoch + seconds(later(now, HOST_DAYS)?);
        let signer = KeyPair::from_pem(&self.own.key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&self.own.certificate, signer).map_err(failed)?;
        Ok(params.signed_by(&request.public_key, &issuer).map_err(failed)?.pem())
    }
}

/// The machine that a certificate (DER) names. Who signed it, the TLS handshake has checked.
pub fn machine_of(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let organization = subject.iter_organization().next()?.as_str().ok()?;
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    (organization == ORGANIZATION).then(|| name.to_owned())
}

/// SHA-256 of a token, hexadecimal: what is stored of it.
pub(crate) fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn later(now: Timestamp, days: i64) -> Outcome<Timestamp> {
    now.checked_add(jiff::SignedDuration::from_hours(24 * days))
        .map_err(|error| Fault::internal(format!("the clock shows {now}: {error}")))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[tokio::test]
    async fn the_authority_stays_and_names_hosts() {
        let store = Store::open_temporary().await.unwrap();
        let first = HostAuthority::load(&store, now()).await.unwrap();
        let again = HostAuthority::load(&store, now()).await.unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.fingerprint().len(), 64);
        let key = KeyPair::generate().unwrap();
        let mut asked = CertificateParams::default();
        // What a request says of itself does not count.
        asked.distinguished_name.push(DnType::CommonName, "i-somebody-else");
        let csr = asked.serialize_request(&key).unwrap().pem().unwrap();
        let certificate = first.sign(&csr, "i-1", now()).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        assert_eq!(machine_of(&der).as_deref(), Some("i-1"));
        let server = first.server(&["10.0.0.1".into()], now()).unwrap();
        let der = CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap();
        assert_eq!(machine_of(&der), None, "the server is no machine");
        assert!(first.sign("nonsense", "i-1", now()).is_err());
    }
}
