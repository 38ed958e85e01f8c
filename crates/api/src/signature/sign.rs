//! Signing of requests, for our own clients.

use jiff::Timestamp;

use super::acs3::{sha256_hex, sign_request};
use super::{ACS3, SignedRequest};
use crate::{API_VERSION, Secret};

/// The key to sign with.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// The access key id.
    pub access_key_id: String,
    /// Its secret.
    pub secret: Secret,
    /// The token of temporary credentials.
    pub security_token: Option<Secret>,
}

/// A request that is about to be sent. It has no `Debug`, because bodies hold secrets.
#[derive(Clone, Copy)]
pub struct OutgoingRequest<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The host with its port, as it will stand in `Host`.
    pub host: &'a str,
    /// The path, encoded as it will be sent.
    pub path: &'a str,
    /// The query, encoded as it will be sent (see [`super::encode_pairs`]), without the question mark.
    pub query: &'a str,
    /// The name of the operation, if it is known.
    pub action: Option<&'a str>,
    /// The media type of the body, if there is one.
    pub content_type: Option<&'a str>,
    /// Further headers, which are sent but not signed unless their names begin with `x-acs-`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// All headers of a request, signed with ACS3-HMAC-SHA256. Names are in lower case.
///
/// `nonce` must be a new random text for every request.
pub fn sign_acs3(
    request: &OutgoingRequest<'_>,
    key: &SigningKey,
    now: Timestamp,
    nonce: &str,
) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = vec![
        ("host".into(), request.host.into()),
        ("x-acs-version".into(), API_VERSION.into()),
        ("x-acs-date".into(), now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("x-acs-signature-nonce".into(), nonce.into()),
        ("x-acs-content-sha256".into(), sha256_hex(request.body)),
    ];
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            headers.push((name.into(), value.into()));
        }
    };
    add("x-acs-action", request.action);
    add("content-type", request.content_type);
    add("x-acs-security-token", key.security_token.as_ref().map(Secret::expose));
    for (name, value) in request.headers {
        let name = name.to_ascii_lowercase();
        // What the caller says about a header of ours goes before what we say.
        headers.retain(|(other, _)| *other != name);
        headers.push((name, (*value).to_owned()));
    }

    let is_signed = |name: &str| matches!(name, "host" | "content-type") || name.starts_with("x-acs-");
    let mut signed: Vec<String> = headers.iter().map(|(name, _)| name.clone()).filter(|name| is_signed(name)).collect();
    signed.sort_unstable();
    signed.dedup();
    let borrowed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let signable = SignedRequest {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: &borrowed,
        body: request.body,
    };
    let signature = sign_request(&signable, &signed, key.secret.expose());
    let authorization =
        format!("{ACS3} Credential={},SignedHeaders={},Signature={signature}", key.access_key_id, signed.join(";"));
    headers.push(("authorization".into(), authorization));
    headers
}

#[cfg(test)]
mod tests {
    use super::super::{parse_authorization, verify};
    use super::*;
    use crate::Code;

    fn key() -> SigningKey {
        SigningKey { access_key_id: "LTAItest".into(), secret: "topsecret".into(), security_token: None }
    }

    #[test]
    fn what_is_signed_here_is_accepted_here() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let outgoing = OutgoingRequest {
            method: "POST",
            host: "127.0.0.1:9443",
            path: "/clusters",
            query: "a=%E9%9B%86&b=",
            action: Some("CreateCluster"),
            content_type: Some("application/json"),
            headers: &[("Accept", "application/json"), ("X-Acs-Region-Id", "cn-hangzhou")],
            body: b"{}",
        };
        let headers = sign_acs3(&outgoing, &key(), now, "nonce-1");
        let borrowed: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let credentials = parse_authorization(&borrowed).unwrap();
        assert_eq!(credentials.access_key_id, "LTAItest");
        assert_eq!(credentials.nonce.as_deref(), Some("nonce-1"));
        let arrived = SignedRequest {
            method: "POST",
            path: "/clusters",
            query: "b&a=%e9%9b%86",
            headers: &borrowed,
            body: b"{}",
        };
        assert_eq!(verify(&credentials, &arrived, "topsecret", now), Ok(()));
        let altered = SignedRequest { body: b"{ }", ..arrived };
        assert_eq!(verify(&credentials, &altered, "topsecret", now).unwrap_err().code, Code::SignatureDoesNotMatch);

        let mut more = borrowed.clone();
        more.push(("x-acs-security-token", "smuggled"));
        let smuggled = SignedRequest { headers: &more, ..arrived };
        assert_eq!(verify(&credentials, &smuggled, "topsecret", now).unwrap_err().code, Code::InvalidParameter);
    }
}
