//! `user_ca`: the certificate authority that a user brings along.
//!
//! With its private key it becomes the cluster's authority. Without a key it cannot sign anything, so it is what remains
//! possible: a further authority whose client certificates the API server trusts.

use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sampan_store::model::{Fault, Outcome, Timestamp};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{certificate::CertifiedKey, pem};

/// Longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// What the text turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserCa {
    /// Certificate and key: the cluster's authority.
    Authority(CertifiedKey),
    /// Certificates only (PEM): their clients are trusted beside the cluster's own.
    TrustedClients(String),
}

/// Reads and checks the text.
///
/// # Errors
/// `InvalidParameter` of `user_ca` that says what is wrong with it.
pub fn parse(text: &str, now: Timestamp) -> Outcome<UserCa> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(refuse("it is longer than 256 KiB"));
    }
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(&format!("its PEM text cannot be read: {error}")))?;
    let Some(first) = certificates.first() else {
        return Err(refuse("it contains no PEM certificate (BEGIN CERTIFICATE)"));
    };
    if text.contains("ENCRYPTED") {
        return Err(refuse("its private key is encrypted; give it unencrypted"));
    }
    let mut expires = Timestamp::MAX;
    for certificate in &certificates {
        expires = expires.min(check_authority(certificate, now)?);
    }
    let bundle: String = certificates.iter().map(|der| pem::certificate(der)).collect();
    if !text.contains("PRIVATE KEY-----") {
        return Ok(UserCa::TrustedClients(bundle));
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| refuse(&format!("its private key cannot be read: {error}")))?;
    check_pair(first, &key)?;
    Ok(UserCa::Authority(CertifiedKey { certificate: bundle, key: pem::private_key(&key), expires }))
}

/// Answers the end of validity.
fn check_authority(der: &CertificateDer<'_>, now: Timestamp) -> Outcome<Timestamp> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| refuse(&format!("a certificate cannot be read: {error}")))?;
    let subject = certificate.subject().to_string();
    if !certificate.is_ca() {
        return Err(refuse(&format!("the certificate of {subject} is not an authority's (CA:TRUE is missing)")));
    }
    if let Ok(Some(usage)) = certificate.key_usage()
        && !usage.value.key_cert_sign()
    {
        return Err(refuse(&format!(
            "the certificate of {subject} may not sign certificates (keyCertSign is missing)"
        )));
    }
    let validity = certificate.validity();
    if validity.not_after.timestamp() <= now.as_second() {
        return Err(refuse(&format!("the certificate of {subject} expired on {}", validity.not_after)));
    }
    if validity.not_before.timestamp() > now.as_second() {
        return Err(refuse(&format!("the certificate of {subject} is not valid before {}", validity.not_before)));
    }
    Ok(Timestamp::from_second(validity.not_after.timestamp()).unwrap_or(Timestamp::MAX))
}

fn check_pair(certificate: &CertificateDer<'_>, key: &PrivateKeyDer<'_>) -> Outcome<()> {
    let pair = KeyPair::try_from(key).map_err(|error| {
        refuse(&format!("its private key cannot be used ({error}); give an RSA, ECDSA or Ed25519 key"))
    })?;
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| refuse(&format!("it cannot be read: {error}")))?;
    if certificate.public_key().subject_public_key.data.as_ref() != pair.der_bytes() {
        return Err(refuse("its private key does not belong to its first certificate"));
    }
    Ok(())
}

fn refuse(why: &str) -> Fault {
    Fault::invalid(
        "user_ca",
        format!("user_ca cannot be used: {why}. Give the PEM certificate of an authority, followed by its private key"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::certificate::{Leaf, Usage, authority, issue};

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn given() -> CertifiedKey {
        authority("ours", time("2026-01-01T00:00:00Z"), time("2030-01-01T00:00:00Z")).unwrap()
    }

    fn reason(text: &str) -> String {
        parse(text, time("2026-06-01T00:00:00Z")).unwrap_err().message
    }

    #[test]
    fn certificate_and_key_become_the_authority() {
        let ca = given();
        let now = time("2026-06-01T00:00:00Z");
        for text in [format!("{}{}", ca.certificate, ca.key), format!("{}\n{}", ca.key, ca.certificate)] {
            let UserCa::Authority(read) = parse(&text, now).unwrap() else { panic!("no authority") };
            assert_eq!(read.expires, ca.expires);
            let leaf = Leaf {
                common_name: "x",
                organization: None,
                names: &[],
                usage: Usage::Client,
                now,
                expires: time("2040-01-01T00:00:00Z"),
            };
            assert_eq!(issue(&read, &leaf).unwrap().expires, ca.expires);
        }
    }

    #[test]
    fn other_kinds_of_keys_sign_too() {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};
        let now = time("2026-06-01T00:00:00Z");
        for key in [
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        ] {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let text = format!("{}{}", params.self_signed(&key).unwrap().pem(), key.serialize_pem());
            let UserCa::Authority(read) = parse(&text, now).unwrap() else { panic!("no authority") };
            let leaf = Leaf {
                common_name: "x",
                organization: None,
                names: &[],
                usage: Usage::Client,
                now,
                expires: time("2027-01-01T00:00:00Z"),
            };
            assert!(issue(&read, &leaf).unwrap().certificate.contains("BEGIN CERTIFICATE"));
        }
    }

    #[test]
    fn a_certificate_alone_is_trusted() {
        let ca = given();
        let read = parse(&ca.certificate, time("2026-06-01T00:00:00Z")).unwrap();
        assert!(matches!(read, UserCa::TrustedClients(text) if text.contains("BEGIN CERTIFICATE")));
    }

    #[test]
    fn refusals_say_why() {
        let (ca, other) = (given(), given());
        assert!(reason("").contains("no PEM certificate"));
        assert!(reason(&format!("{}{}", ca.certificate, other.key)).contains("does not belong"));
        assert!(parse(&ca.certificate, time("2031-01-01T00:00:00Z")).unwrap_err().message.contains("expired"));
        let leaf = Leaf {
            common_name: "leaf",
            organization: None,
            names: &[],
            usage: Usage::Client,
            now: time("2026-01-01T00:00:00Z"),
            expires: ca.expires,
        };
        assert!(reason(&issue(&ca, &leaf).unwrap().certificate).contains("CA:TRUE"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*", inside in "[A-Za-z0-9+/=\n]*") {
            let now = time("2026-06-01T00:00:00Z");
            let _ = parse(&text, now);
            let _ = parse(&format!("-----BEGIN CERTIFICATE-----\n{inside}\n-----END CERTIFICATE-----\n"), now);
        }
    }
}
