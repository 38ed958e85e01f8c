//! PEM text, written the way every reader accepts: 64 columns, one block after the other.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};

/// Columns of a line.
const COLUMNS: usize = 64;

/// A certificate.
pub(crate) fn certificate(der: &[u8]) -> String {
    block("CERTIFICATE", der)
}

/// A private key, under the label of its own format.
pub(crate) fn private_key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    block(label, key.secret_der())
}

/// An RSA key in the traditional form (PKCS #1, `RSA PRIVATE KEY`) of its PKCS #8 form; `None` when it is no such key.
pub(crate) fn traditional_rsa(pkcs8: &str) -> Option<String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pkcs8.as_bytes()).ok()?;
    let pkcs1 = inner_rsa(der.secret_pkcs8_der())?;
    Some(private_key(&PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(pkcs1))))
}

/// The octet string within PKCS #8's `PrivateKeyInfo { version, algorithm, key }`, if the algorithm is rsaEncryption.
fn inner_rsa(der: &[u8]) -> Option<&[u8]> {
    const INTEGER: u8 = 0x02;
    const OCTET_STRING: u8 = 0x04;
    const OBJECT_ID: u8 = 0x06;
    const SEQUENCE: u8 = 0x30;
    const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let (info, _) = element(SEQUENCE, der)?;
    let (_, rest) = element(INTEGER, info)?;
    let (algorithm, rest) = element(SEQUENCE, rest)?;
    let (name, _) = element(OBJECT_ID, algorithm)?;
    let (key, _) = element(OCTET_STRING, rest)?;
    (name == RSA_ENCRYPTION).then_some(key)
}

/// Splits a DER element with this tag off: its content, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        (bytes.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn block(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(COLUMNS) {
        // Base64 is ASCII.
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::certificate::{KeyKind, authority, authority_of};

    #[test]
    fn rsa_keys_have_a_traditional_form() {
        let (now, end) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2027-01-01T00:00:00Z".parse().unwrap());
        let rsa = authority_of(KeyKind::Rsa, "x", now, end).unwrap();
        let text = traditional_rsa(&rsa.key).unwrap();
        assert!(text.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "{}", text.lines().next().unwrap());
        assert!(text.ends_with("-----END RSA PRIVATE KEY-----\n") && text.lines().all(|line| line.len() <= COLUMNS));
        let der = PrivatePkcs1KeyDer::from_pem_slice(text.as_bytes()).unwrap();
        let pair = aws_lc_rs::rsa::KeyPair::from_der(der.secret_pkcs1_der()).unwrap();
        assert_eq!(pair.public_modulus_len(), 256);
        assert_eq!(traditional_rsa(&authority("x", now, end).unwrap().key), None, "not an RSA key");
        assert_eq!(traditional_rsa("nothing"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = inner_rsa(&bytes);
        }
    }
}
