//! Requests recorded from the official Python clients, with made-up keys, against verification.

// The lints spare functions that are tests, not those that tests call.
#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sampan_api::signature::{Credentials, Scheme, SignedRequest, parse_authorization, verify};
use sampan_api::{Code, Secret};
use serde::Deserialize;

#[derive(Clone, Deserialize)]
struct Recorded {
    client: String,
    name: String,
    access_key_id: String,
    secret: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
    now: Timestamp,
}

impl Recorded {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("data/signatures.json")).unwrap()
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn credentials(&self) -> Credentials {
        parse_authorization(&self.headers()).unwrap()
    }

    /// Verifies with the secret that was used, at `now`.
    fn verify_at(&self, now: Timestamp) -> Result<(), Code> {
        let headers = self.headers();
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let request =
            SignedRequest { method: &self.method, path, query, headers: &headers, body: self.body.as_bytes() };
        let credentials = parse_authorization(&headers).map_err(|refusal| refusal.code)?;
        verify(&credentials, &request, &self.secret, now).map_err(|refusal| refusal.code)
    }

    fn check(&self, expected: Result<(), Code>, what: &str) {
        assert_eq!(self.verify_at(self.now), expected, "{}: {}: {what}", self.client, self.name);
    }

    fn set_header(&mut self, name: &str, value: &str) -> bool {
        let found = self.headers.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, old)| *old = value.to_owned()).is_some()
    }

    fn remove_header(&mut self, name: &str) -> bool {
        let before = self.headers.len();
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.len() < before
    }
}

#[test]
fn every_recorded_request_is_accepted() {
    let all = Recorded::all();
    assert!(all.len() >= 30);
    for recorded in all {
        assert_eq!(recorded.credentials().access_key_id, recorded.access_key_id);
        recorded.check(Ok(()), "as recorded");
    }
}

#[test]
fn the_nonce_and_the_token_are_handed_on() {
    let all = Recorded::all();
    let find = |client: &str, name: &str| {
        all.iter().find(|recorded| recorded.client == client && recorded.name == name).unwrap().credentials()
    };
    let old = find("aliyun-python-sdk-core 2.16.1", "list clusters");
    assert_eq!((old.scheme, old.nonce), (Scheme::HmacSha1, None));
    let new = find("alibabacloud_cs20151215 7.2.3", "temporary credentials");
    assert!(matches!(new.scheme, Scheme::Acs3HmacSha256 { .. }) && new.nonce.is_some());
    assert_eq!(new.security_token.as_ref().map(Secret::expose), Some("token/With+Characters=="));
}

#[test]
fn any_alteration_is_noticed() {
    for recorded in Recorded::all() {
        let check = |alter: &dyn Fn(&mut Recorded) -> bool, code, what: &str| {
            let mut altered = recorded.clone();
            if alter(&mut altered) {
                altered.check(Err(code), what);
            }
        };
        let wrong = Code::SignatureDoesNotMatch;
        let set = |value: &mut String, text: &str| {
            *value = text.to_owned();
            true
        };
        check(&|altered| set(&mut altered.secret, "another"), wrong, "secret");
        check(&|altered| set(&mut altered.method, "PATCH"), wrong, "method");
        check(
            &|altered| {
                altered.target.insert(1, 'x');
                true
            },
            wrong,
            "path",
        );
        check(
            &|altered| {
                let separator = if altered.target.contains('?') { '&' } else { '?' };
                altered.target.push_str(&format!("{separator}more=1"));
                true
            },
            wrong,
            "query",
        );
        check(&|altered| altered.set_header("x-acs-version", "2015-12-16"), wrong, "version");
        check(&|altered| altered.set_header("x-acs-signature-nonce", "another"), wrong, "nonce");
        check(&|altered| altered.set_header("x-acs-security-token", "another"), wrong, "token");
        check(&|altered| altered.set_header("content-type", "text/plain"), wrong, "media type");
        let acs3 = matches!(recorded.credentials().scheme, Scheme::Acs3HmacSha256 { .. });
        if acs3 {
            check(&|altered| altered.set_header("host", "elsewhere:80"), wrong, "host");
        }
        let has_digest =
            recorded.headers.iter().any(|(name, _)| name == "x-acs-content-sha256" || name == "Content-MD5");
        if has_digest {
            let code = if acs3 { wrong } else { Code::InvalidParameter };
            check(&|altered| set(&mut altered.body, "{\"name\":\"other\"}"), code, "body");
        }
    }
}

#[test]
fn missing_and_doubled_pieces_are_named() {
    for recorded in Recorded::all() {
        let mut without = recorded.clone();
        without.remove_header("authorization");
        without.check(Err(Code::MissingParameter), "no authorization");
        let mut without = recorded.clone();
        without.remove_header("date");
        without.remove_header("x-acs-date");
        without.check(Err(Code::MissingParameter), "no date");
        let mut twice = recorded.clone();
        let authorization = twice.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization")).cloned();
        twice.headers.extend(authorization);
        twice.check(Err(Code::InvalidParameter), "two authorizations");
        let mut unsigned = recorded.clone();
        unsigned.headers.push(("x-acs-smuggled".into(), "1".into()));
        assert!(unsigned.verify_at(unsigned.now).is_err());
    }
}

#[test]
fn clocks_may_differ_by_fifteen_minutes() {
    for recorded in Recorded::all() {
        let at = |minutes, seconds| {
            let offset = SignedDuration::from_mins(minutes) + SignedDuration::from_secs(seconds);
            recorded.verify_at(recorded.now + offset)
        };
        // The clock of the recording may have been a second behind the client's.
        assert_eq!(at(14, 55), Ok(()));
        assert_eq!(at(-14, -55), Ok(()));
        assert_eq!(at(15, 5), Err(Code::InvalidTimeStampExpired));
        assert_eq!(at(-15, -5), Err(Code::InvalidTimeStampExpired));
    }
}

#[test]
fn a_wrong_signature_shows_the_string_to_sign() {
    let recorded = Recorded::all().remove(0);
    let headers = recorded.headers();
    let (path, query) = recorded.target.split_once('?').unwrap();
    let request = SignedRequest { method: "GET", path, query, headers: &headers, body: b"" };
    let refusal = verify(&recorded.credentials(), &request, "wrong", recorded.now).unwrap_err();
    assert_eq!((refusal.code, refusal.status()), (Code::SignatureDoesNotMatch, 403));
    let date = &recorded.headers.iter().find(|(name, _)| name == "Date").unwrap().1;
    let beginning = format!(
        "Specified signature is not matched with our calculation. server string to sign is:\
         GET\napplication/json\n\n\n{date}\nx-acs-region-id:cn-hangzhou\n"
    );
    assert!(refusal.message.starts_with(&beginning), "{}", refusal.message);
    assert!(refusal.message.ends_with("\n/clusters?RegionId=cn-hangzhou"), "{}", refusal.message);
}

#[test]
fn unreadable_authorizations_are_refused() {
    for text in [
        "",
        "acs",
        "acs nocolon",
        "acs :signature",
        "acs a b:signature",
        "Bearer abc",
        "ACS3-HMAC-SHA256",
        "ACS3-HMAC-SHA256 Credential=a",
        "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=1,Signature=2",
        "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=1,More=2",
        "ACS3-HMAC-SHA256 Credential=,SignedHeaders=host,Signature=1",
        "ACS3-RSA-SHA256 Credential=a,SignedHeaders=host,Signature=1",
    ] {
        let refusal = parse_authorization(&[("Authorization", text)]).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidParameter, "{text}");
    }
    let long = "n".repeat(257);
    let headers = [("Authorization", "acs a:b"), ("x-acs-signature-nonce", long.as_str())];
    assert_eq!(parse_authorization(&headers).unwrap_err().code, Code::InvalidParameter);
    let headers = [("Authorization", "acs a:b"), ("x-acs-signature-method", "HMAC-SHA256")];
    assert_eq!(parse_authorization(&headers).unwrap_err().code, Code::InvalidParameter);
}

proptest! {
    #[test]
    fn nothing_panics(
        authorization in "(acs |ACS3-HMAC-SHA256 |)[ -~]{0,80}|\\PC{0,40}",
        path in "\\PC{0,30}",
        query in "\\PC{0,60}",
        name in "[a-zA-Z-]{0,12}",
        value in "\\PC{0,30}",
        body in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let headers = [("Authorization", authorization.as_str()), ("x-acs-date", value.as_str()), (name.as_str(), value.as_str())];
        let request = SignedRequest { method: "GET", path: &path, query: &query, headers: &headers, body: &body };
        let known = Credentials {
            access_key_id: "a".into(),
            scheme: Scheme::Acs3HmacSha256 { signed_headers: vec![name.to_ascii_lowercase(), "host".into(), "x-acs-date".into()] },
            signature: value.clone(),
            nonce: None,
            security_token: None,
        };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        prop_assert!(verify(&known, &request, "secret", now).is_err());
        if let Ok(credentials) = parse_authorization(&headers) {
            prop_assert!(verify(&credentials, &request, "secret", now).is_err());
        }
        let dated = [("Date", "Thu, 01 Jan 2026 00:00:00 GMT"), ("x-acs-date", "2026-01-01T00:00:00Z"), (name.as_str(), value.as_str())];
        let request = SignedRequest { headers: &dated, ..request };
        prop_assert!(verify(&known, &request, "secret", now).is_err());
        let old = Credentials { scheme: Scheme::HmacSha1, ..known };
        prop_assert!(verify(&old, &request, "secret", now).is_err());
    }
}
