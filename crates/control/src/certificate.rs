//! Making single certificates: authorities, and leaves signed by them. What a cluster needs of them is in
//! [`crate::kubernetes`] and [`crate::swarm`].

use std::{fmt, net::IpAddr, time::Duration};

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType, SerialNumber,
};
use sampan_store::model::{Fault, Outcome, Timestamp};
use serde::{Deserialize, Serialize};

/// Clocks of the parties may differ by this much without a fresh certificate being "not yet valid".
const CLOCK_SKEW: Duration = Duration::from_secs(10 * 60);

/// A certificate with its private key, both PEM, and the end of its validity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedKey {
    /// PEM; an authority's own chain may follow.
    pub certificate: String,
    /// PEM (PKCS #8 for keys made here).
    pub key: String,
    /// End of validity.
    pub expires: Timestamp,
}

impl CertifiedKey {
    /// The certificate itself, without a chain after it.
    pub(crate) fn first_certificate(&self) -> &str {
        const END: &str = "-----END CERTIFICATE-----\n";
        self.certificate.find(END).map_or(self.certificate.as_str(), |at| &self.certificate[..at + END.len()])
    }
}

impl fmt::Debug for CertifiedKey {
    // The key must never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedKey").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// TLS servers.
    Server,
    /// TLS clients.
    Client,
    /// Both, as etcd's members are to each other.
    Peer,
}

/// Which keys are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// P-256: a hundred times faster to make than RSA, and accepted by every component, service account tokens included.
    Ecdsa,
    /// RSA with 2048 bits, for clients that read nothing else.
    Rsa,
}

/// A leaf to be issued.
pub(crate) struct Leaf<'a> {
    /// Common name: the user name, as Kubernetes sees it.
    pub(crate) common_name: &'a str,
    /// Organisation: the group, as Kubernetes sees it.
    pub(crate) organization: Option<&'a str>,
    /// Subject alternative names: addresses or DNS names.
    pub(crate) names: &'a [String],
    /// Use.
    pub(crate) usage: Usage,
    /// Validity begins (less the allowed clock skew).
    pub(crate) now: Timestamp,
    /// Validity ends, but never after the authority's own.
    pub(crate) expires: Timestamp,
}

/// Makes a self-signed authority.
///
/// # Errors
/// Internal, when the cryptographic library refuses.
pub(crate) fn authority(common_name: &str, now: Timestamp, expires: Timestamp) -> Outcome<CertifiedKey> {
    authority_of(KeyKind::Ecdsa, common_name, now, expires)
}

/// Makes a self-signed authority with a key of that kind.
///
/// # Errors
/// Internal, when the cryptographic library refuses.
pub(crate) fn authority_of(
    kind: KeyKind,
    common_name: &str,
    now: Timestamp,
    expires: Timestamp,
) -> Outcome<CertifiedKey> {
    let key = new_key(kind)?;
    let mut params = base_params(common_name, None, now, expires)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(|error| failed(common_name, &error))?;
    Ok(CertifiedKey { certificate: certificate.pem(), key: key.serialize_pem(), expires })
}

/// Issues a leaf with a new key.
///
/// # Errors
/// `InvalidParameter` for a name that cannot be in a certificate; internal when the authority is unusable.
pub(crate) fn issue(authority: &CertifiedKey, leaf: &Leaf<'_>) -> Outcome<CertifiedKey> {
    issue_of(KeyKind::Ecdsa, authority, leaf)
}

/// Issues a leaf with a new key of that kind.
///
/// # Errors
/// As [`issue`].
pub(crate) fn issue_of(kind: KeyKind, authority: &CertifiedKey, leaf: &Leaf<'_>) -> Outcome<CertifiedKey> {
    let expires = leaf.expires.min(authority.expires);
    let mut params = base_params(leaf.common_name, leaf.organization, leaf.now, expires)?;
    params.subject_alt_names = leaf.names.iter().map(|name| alternative_name(name)).collect::<Outcome<_>>()?;
    params.key_usages = match kind {
        KeyKind::Ecdsa => vec![KeyUsagePurpose::DigitalSignature],
        // Old clients exchange keys with it.
        KeyKind::Rsa => vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment],
    };
    params.extended_key_usages = match leaf.usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Peer => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    let key = new_key(kind)?;
    let signer = KeyPair::from_pem(&authority.key).map_err(|error| failed("the authority's key", &error))?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, signer)
        .map_err(|error| failed("the authority's certificate", &error))?;
    let certificate = params.signed_by(&key, &issuer).map_err(|error| failed(leaf.common_name, &error))?;
    Ok(CertifiedKey { certificate: certificate.pem(), key: key.serialize_pem(), expires })
}

/// A key pair for signing tokens: private PEM, public PEM.
///
/// # Errors
/// Internal, when the cryptographic library refuses.
pub(crate) fn signing_key_pair() -> Outcome<(String, String)> {
    let key = new_key(KeyKind::Ecdsa)?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// `name` as a subject alternative name: an address, or a DNS name (one leading `*.` is allowed).
///
/// # Errors
/// `InvalidParameter` of `custom_san`, the only place where users give names.
pub(crate) fn alternative_name(name: &str) -> Outcome<SanType> {
    let name = name.trim();
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let unusable = || Fault::invalid("custom_san", format!("\"{name}\" is neither an IP address nor a DNS name"));
    if name.len() > 253 || !bare.split('.').all(label_ok) {
        return Err(unusable());
    }
    Ok(SanType::DnsName(name.try_into().map_err(|_| unusable())?))
}

fn new_key(kind: KeyKind) -> Outcome<KeyPair> {
    match kind {
        KeyKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    }
    .map_err(|error| failed("a new key", &error))
}

fn base_params(
    common_name: &str,
    organization: Option<&str>,
    now: Timestamp,
    expires: Timestamp,
) -> Outcome<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    let mut serial = [0u8; 16];
    rand::fill(&mut serial).map_err(|_| Fault::internal("the random generator failed"))?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |time: Timestamp| Duration::from_secs(time.as_second().max(0).unsigned_abs());
    params.not_before = epoch + seconds(now).saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + seconds(expires);
    Ok(params)
}

fn failed(what: &str, error: &rcgen::Error) -> Fault {
    Fault::internal(format!("cannot make the certificate of {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alternative_names() {
        assert!(matches!(alternative_name("10.0.0.1"), Ok(SanType::IpAddress(_))));
        assert!(matches!(alternative_name("::1"), Ok(SanType::IpAddress(_))));
        for good in ["a", "cs.example.com", "*.example.com", "cn-beijing.10.1.2.3", " spaced.example "] {
            assert!(matches!(alternative_name(good), Ok(SanType::DnsName(_))), "{good}");
        }
        for bad in ["", "a..b", "http://x", "a b", "*", "**.x", "ä.example", &"a".repeat(64)] {
            assert!(alternative_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let made = authority("x", now, "2027-01-01T00:00:00Z".parse().unwrap()).unwrap();
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(name in ".*") {
            let _ = alternative_name(&name);
        }
    }
}
