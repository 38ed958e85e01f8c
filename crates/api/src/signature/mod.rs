//! The two signature methods: HMAC-SHA1 of the older clients, ACS3-HMAC-SHA256 of today's.
//!
//! Verification is in steps, because the key has to be looked up between them, and because nobody's body shall be
//! read who has not signed: [`parse_authorization`] says who signed and how, [`verify_head`] checks the time and, with
//! that key's secret, the signature, [`verify_body`] what only the body tells. Whether a nonce was used before is not
//! known here; [`Credentials::nonce`] hands it on.

mod acs;
mod acs3;
mod date;
mod query;
mod sign;

use aws_lc_rs::constant_time;
use jiff::Timestamp;

pub use query::{Pair, decode_pairs, encode_component, encode_pairs};
pub use sign::{OutgoingRequest, SigningKey, sign_acs3};

use crate::Secret;
use crate::refusal::{Code, Refusal};

/// How far the request's time may be from the server's, in seconds, either way.
pub const SKEW_MAX_SECONDS: i64 = 15 * 60;
/// The longest nonce that is accepted, in bytes.
pub const NONCE_LENGTH_MAX: usize = 256;
/// The longest access key id that is looked up, in bytes.
const ACCESS_KEY_ID_LENGTH_MAX: usize = 128;

const ACS3: &str = "ACS3-HMAC-SHA256";
const ACS1: &str = "HMAC-SHA1";

/// A request as it came, before anything was decoded. It has no `Debug`, because bodies hold secrets.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path as it stands in the request line.
    pub path: &'a str,
    /// The query as it stands there, without the question mark; empty if there is none.
    pub query: &'a str,
    /// All headers, names in any case, repeated ones in their order.
    pub headers: &'a [(&'a str, &'a str)],
    /// The whole body.
    pub body: &'a [u8],
}

impl<'a> SignedRequest<'a> {
    /// The first header with this name; `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        header(self.headers, name)
    }
}

/// The first header with this name; `name` is in lower case.
fn header<'a>(headers: &'a [(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// A signature method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: acs <id>:<signature>`.
    HmacSha1,
    /// `Authorization: ACS3-HMAC-SHA256 Credential=…,SignedHeaders=…,Signature=…`.
    Acs3HmacSha256 {
        /// The names in `SignedHeaders`, in lower case and in their order.
        signed_headers: Vec<String>,
    },
}

/// Who signed a request, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The access key.
    pub access_key_id: String,
    /// The method.
    pub scheme: Scheme,
    /// The signature as it stands in the header.
    pub signature: String,
    /// The random number that guards against replays, if one was sent.
    pub nonce: Option<String>,
    /// The token of temporary credentials, if one was sent.
    pub security_token: Option<Secret>,
}

/// Reads `Authorization` and the headers around it.
///
/// Refuses with `MissingParameter` if there is none and `InvalidParameter` if it cannot be read.
pub fn parse_authorization(headers: &[(&str, &str)]) -> Result<Credentials, Refusal> {
    let mut authorizations = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let authorization = match (authorizations.next(), authorizations.next()) {
        (None, _) => return Err(Refusal::missing("Authorization")),
        (Some((_, value)), None) => value.trim(),
        (Some(_), Some(_)) => return Err(Refusal::invalid("Authorization", "is given twice")),
    };
    let (method, rest) = authorization.split_once(' ').unwrap_or((authorization, ""));
    let (access_key_id, scheme, signature) = if method.eq_ignore_ascii_case("acs") {
        let announced = header(headers, "x-acs-signature-method").unwrap_or(ACS1);
        if !announced.trim().eq_ignore_ascii_case(ACS1) {
            return Err(Refusal::invalid("x-acs-signature-method", "must be HMAC-SHA1"));
        }
        acs::parse(rest)?
    } else if method.eq_ignore_ascii_case(ACS3) {
        acs3::parse(rest)?
    } else {
        return Err(Refusal::invalid("Authorization", "must begin with acs or ACS3-HMAC-SHA256"));
    };
    let readable = access_key_id.bytes().all(|byte| byte.is_ascii_graphic());
    if access_key_id.is_empty() || access_key_id.len() > ACCESS_KEY_ID_LENGTH_MAX || !readable {
        return Err(Refusal::invalid("Authorization", "holds no usable access key id"));
    }
    let nonce = header(headers, "x-acs-signature-nonce").map(str::trim).filter(|nonce| !nonce.is_empty());
    if nonce.is_some_and(|nonce| nonce.len() > NONCE_LENGTH_MAX) {
        return Err(Refusal::invalid("x-acs-signature-nonce", format_args!("is longer than {NONCE_LENGTH_MAX}")));
    }
    Ok(Credentials {
        access_key_id,
        scheme,
        signature,
        nonce: nonce.map(str::to_owned),
        security_token: header(headers, "x-acs-security-token").map(|token| Secret::new(token.trim())),
    })
}

/// Checks that the holder of `secret` signed exactly this request, not long before or after `now`.
///
/// Refuses with `SignatureDoesNotMatch`, `InvalidTimeStamp.Expired`, `MissingParameter` or `InvalidParameter`.
pub fn verify(
    credentials: &Credentials,
    request: &SignedRequest<'_>,
    secret: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    verify_head(credentials, request, secret, now)?;
    verify_body(credentials, request, secret)
}

/// What [`verify`] can check before the body has come; the request's `body` is not looked at. A request that passes was
/// signed by the holder of `secret`, but for one of the newer method that announces no digest of its body: that is seen
/// in [`verify_body`], which must follow in any case.
///
/// Refuses as [`verify`] does.
pub fn verify_head(
    credentials: &Credentials,
    request: &SignedRequest<'_>,
    secret: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    check_time(&credentials.scheme, request, now)?;
    match &credentials.scheme {
        Scheme::HmacSha1 => acs::verify(&credentials.signature, request, secret),
        Scheme::Acs3HmacSha256 { signed_headers } => {
            acs3::verify_head(&credentials.signature, signed_headers, request, secret)
        }
    }
}

/// What is left to check after [`verify_head`] when the body has come.
///
/// Refuses with `SignatureDoesNotMatch` or `InvalidParameter`.
pub fn verify_body(credentials: &Credentials, request: &SignedRequest<'_>, secret: &str) -> Result<(), Refusal> {
    if let Scheme::Acs3HmacSha256 { signed_headers } = &credentials.scheme {
        acs3::verify_body(&credentials.signature, signed_headers, request, secret)?;
    }
    check_md5(request)
}

fn check_time(scheme: &Scheme, request: &SignedRequest<'_>, now: Timestamp) -> Result<(), Refusal> {
    let (name, text) = match (scheme, request.header("date"), request.header("x-acs-date")) {
        // Without a date of its own the older method may carry the newer header, which it signs as well.
        (Scheme::HmacSha1, Some(date), _) => ("Date", date),
        (_, _, Some(date)) => ("x-acs-date", date),
        (Scheme::HmacSha1, None, None) => return Err(Refusal::missing("Date")),
        (Scheme::Acs3HmacSha256 { .. }, _, None) => return Err(Refusal::missing("x-acs-date")),
    };
    let time = date::parse(text).ok_or_else(|| {
        let form = "cannot be read; it must look like Thu, 17 Nov 2022 18:49:58 GMT or 2022-11-17T18:49:58Z";
        Refusal::new(Code::InvalidTimeStampExpired, format!("The header {name} {form}."))
    })?;
    if (now.as_second() - time.as_second()).abs() <= SKEW_MAX_SECONDS {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidTimeStampExpired,
        format!(
            "Specified time stamp or date value is expired. The request was signed at {time}, the server's clock \
             says {now}; they may differ by {SKEW_MAX_SECONDS} seconds."
        ),
    ))
}

/// Compares `Content-MD5`, if it was sent, with the body: it is signed, the body itself is not.
fn check_md5(request: &SignedRequest<'_>) -> Result<(), Refusal> {
    use base64::Engine;
    use md5::Digest;

    let Some(sent) = request.header("content-md5").map(str::trim).filter(|sent| !sent.is_empty()) else {
        return Ok(());
    };
    let calculated = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(request.body));
    if sent == calculated {
        return Ok(());
    }
    Err(Refusal::invalid("Content-MD5", "is not the MD5 digest of the body in Base64"))
}

/// Compares without telling by the time it takes how much is right.
fn same(left: &[u8], right: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(left, right).is_ok()
}

/// The refusal of a wrong signature. Clients compare the string with their own to find what differs.
fn does_not_match(string_to_sign: &str) -> Refusal {
    Refusal::new(
        Code::SignatureDoesNotMatch,
        format!("Specified signature is not matched with our calculation. server string to sign is:{string_to_sign}"),
    )
}
