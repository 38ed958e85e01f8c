//! ACS3-HMAC-SHA256, the method of today's clients.

use aws_lc_rs::{digest, hmac};

use super::query::{decode_pairs, encode_component};
use super::{ACS3, Scheme, SignedRequest, does_not_match, same};
use crate::refusal::Refusal;

/// More names in `SignedHeaders` are not read.
const SIGNED_HEADERS_MAX: usize = 100;

/// Reads `Credential=<access key id>,SignedHeaders=<names>,Signature=<hex>`.
pub(super) fn parse(rest: &str) -> Result<(String, Scheme, String), Refusal> {
    let (mut credential, mut names, mut signature) = (None, None, None);
    for part in rest.split(',') {
        let place = match part.trim().split_once('=') {
            Some(("Credential", value)) => credential.replace(value),
            Some(("SignedHeaders", value)) => names.replace(value),
            Some(("Signature", value)) => signature.replace(value),
            _ => return Err(malformed()),
        };
        if place.is_some() {
            return Err(malformed());
        }
    }
    let (Some(credential), Some(names), Some(signature)) = (credential, names, signature) else {
        return Err(malformed());
    };
    let signed_headers: Vec<String> =
        names.split(';').map(str::trim).filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect();
    if signed_headers.len() > SIGNED_HEADERS_MAX {
        return Err(malformed());
    }
    Ok((credential.trim().to_owned(), Scheme::Acs3HmacSha256 { signed_headers }, signature.trim().to_ascii_lowercase()))
}

fn malformed() -> Refusal {
    Refusal::invalid(
        "Authorization",
        "must look like ACS3-HMAC-SHA256 Credential=<access key id>,SignedHeaders=<names>,Signature=<hex>",
    )
}

/// Compares the signature with that of the request and the digest that it announces of its body, if it does.
pub(super) fn verify_head(
    signature: &str,
    signed_headers: &[String],
    request: &SignedRequest<'_>,
    secret: &str,
) -> Result<(), Refusal> {
    require_signed(signed_headers, request)?;
    match announced_hash(request) {
        Some(hash) => compare(signature, signed_headers, request, &hash, secret),
        None => Ok(()),
    }
}

/// Compares the body with its announced digest, or else the signature with that of the request and its body.
pub(super) fn verify_body(
    signature: &str,
    signed_headers: &[String],
    request: &SignedRequest<'_>,
    secret: &str,
) -> Result<(), Refusal> {
    let body_hash = sha256_hex(request.body);
    match announced_hash(request) {
        Some(hash) if hash == body_hash => Ok(()),
        Some(_) => Err(Refusal::new(
            crate::Code::SignatureDoesNotMatch,
            "Specified signature is not matched with our calculation. x-acs-content-sha256 is not the SHA-256 digest \
             of the body that arrived.",
        )),
        None => compare(signature, signed_headers, request, &body_hash, secret),
    }
}

/// The digest of the body as `x-acs-content-sha256` has it.
fn announced_hash(request: &SignedRequest<'_>) -> Option<String> {
    request.header("x-acs-content-sha256").map(|hash| hash.trim().to_ascii_lowercase())
}

fn compare(
    signature: &str,
    signed_headers: &[String],
    request: &SignedRequest<'_>,
    body_hash: &str,
    secret: &str,
) -> Result<(), Refusal> {
    let canonical = canonical_request(request, signed_headers, body_hash, true);
    if same(signature.as_bytes(), sign(secret, &canonical).as_bytes()) {
        return Ok(());
    }
    // Some clients sign `name` for an empty value, others `name=`.
    let without_equals = canonical_request(request, signed_headers, body_hash, false);
    if without_equals != canonical && same(signature.as_bytes(), sign(secret, &without_equals).as_bytes()) {
        return Ok(());
    }
    let string_to_sign = string_to_sign(&canonical);
    Err(does_not_match(&format!("{string_to_sign}, server canonical request is:{canonical}")))
}

/// What names the request must be signed, or it could be altered on its way.
fn require_signed(signed_headers: &[String], request: &SignedRequest<'_>) -> Result<(), Refusal> {
    let is_signed = |name: &str| signed_headers.iter().any(|signed| signed == name);
    let own =
        request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).filter(|name| name.starts_with("x-acs-"));
    for name in own.chain(["host".to_owned(), "x-acs-date".to_owned()]) {
        if !is_signed(&name) {
            return Err(Refusal::invalid("Authorization", format_args!("must list {name} in SignedHeaders")));
        }
    }
    Ok(())
}

/// The request in the form that is hashed. `equals` says whether an empty value keeps its equals sign.
fn canonical_request(request: &SignedRequest<'_>, signed_headers: &[String], body_hash: &str, equals: bool) -> String {
    let mut pairs = decode_pairs(request.query);
    pairs.sort_by(|left, right| left.key.cmp(&right.key));
    let mut canonical = String::with_capacity(1024);
    canonical.push_str(request.method);
    canonical.push('\n');
    canonical.push_str(if request.path.is_empty() { "/" } else { request.path });
    canonical.push('\n');
    for (index, pair) in pairs.iter().enumerate() {
        if index > 0 {
            canonical.push('&');
        }
        canonical.push_str(&encode_component(&pair.key));
        if equals || !pair.value.is_empty() {
            canonical.push('=');
            canonical.push_str(&encode_component(&pair.value));
        }
    }
    canonical.push('\n');
    for name in signed_headers {
        canonical.push_str(name);
        canonical.push(':');
        canonical.push_str(&header_value(request, name));
        canonical.push('\n');
    }
    canonical.push('\n');
    canonical.push_str(&signed_headers.join(";"));
    canonical.push('\n');
    canonical.push_str(body_hash);
    canonical
}

/// The trimmed value of a header; those of a repeated one sorted and joined.
fn header_value(request: &SignedRequest<'_>, name: &str) -> String {
    let mut values: Vec<&str> = request
        .headers
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect();
    values.sort_unstable();
    values.join(",")
}

fn string_to_sign(canonical_request: &str) -> String {
    format!("{ACS3}\n{}", sha256_hex(canonical_request.as_bytes()))
}

/// The signature of a canonical request, in hexadecimal.
pub(super) fn sign(secret: &str, canonical_request: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex(hmac::sign(&key, string_to_sign(canonical_request).as_bytes()).as_ref())
}

/// The signature of a request that is about to be sent.
pub(super) fn sign_request(request: &SignedRequest<'_>, signed_headers: &[String], secret: &str) -> String {
    sign(secret, &canonical_request(request, signed_headers, &sha256_hex(request.body), true))
}

/// The SHA-256 digest in hexadecimal.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
