//! HMAC-SHA1, the method of the older clients.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::query::{Pair, decode_pairs};
use super::{Scheme, SignedRequest, does_not_match, same};
use crate::refusal::Refusal;

/// Reads `<access key id>:<signature>`.
pub(super) fn parse(rest: &str) -> Result<(String, Scheme, String), Refusal> {
    let Some((id, signature)) = rest.trim().split_once(':') else {
        return Err(Refusal::invalid("Authorization", "must look like acs <access key id>:<signature>"));
    };
    Ok((id.trim().to_owned(), Scheme::HmacSha1, signature.trim().to_owned()))
}

/// Compares the signature with every spelling that official clients of this method have for the same request.
pub(super) fn verify(signature: &str, request: &SignedRequest<'_>, secret: &str) -> Result<(), Refusal> {
    let mut pairs = decode_pairs(request.query);
    pairs.sort_by(|left, right| left.key.cmp(&right.key));
    let head = head(request);
    let matches = |resource: &str| {
        let string_to_sign = format!("{head}{resource}");
        same(signature.as_bytes(), sign(secret, &string_to_sign).as_bytes())
    };
    let usual = resource(request.path, &pairs, true);
    if matches(&usual) {
        return Ok(());
    }
    // Some clients sign `name` where the URL has `name=`; the Go client moreover encodes a few characters of the
    // otherwise decoded resource.
    let without_equals = resource(request.path, &pairs, false);
    let partly_encoded = without_equals.replace('+', "%20").replace('*', "%2A").replace("%7E", "~");
    if (without_equals != usual && matches(&without_equals))
        || (partly_encoded != without_equals && matches(&partly_encoded))
    {
        return Ok(());
    }
    Err(does_not_match(&format!("{head}{usual}")))
}

/// The signature of a string, in Base64.
pub(super) fn sign(secret: &str, string_to_sign: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, string_to_sign.as_bytes()))
}

/// What stands before the resource in the string to sign.
fn head(request: &SignedRequest<'_>) -> String {
    let mut head = String::with_capacity(256);
    head.push_str(request.method);
    head.push('\n');
    for name in ["accept", "content-md5", "content-type", "date"] {
        head.push_str(request.header(name).unwrap_or_default());
        head.push('\n');
    }
    let mut own: Vec<(String, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), *value))
        .filter(|(name, _)| name.starts_with("x-acs-"))
        .collect();
    own.sort_by(|left, right| left.0.cmp(&right.0));
    let mut last = String::new();
    for (name, value) in own {
        // A repeated header is one header with a list.
        if name == last {
            head.pop();
            head.push(',');
        } else {
            head.push_str(&name);
            head.push(':');
        }
        head.extend(value.trim().chars().map(|c| if matches!(c, '\t' | '\n' | '\r' | '\u{c}') { ' ' } else { c }));
        head.push('\n');
        last = name;
    }
    head
}

/// The path with the sorted, decoded query. `equals` says whether an empty value keeps its equals sign.
fn resource(path: &str, pairs: &[Pair], equals: bool) -> String {
    let mut resource = path.to_owned();
    let mut separator = '?';
    for pair in pairs {
        resource.push(separator);
        separator = '&';
        resource.push_str(&pair.key);
        if !pair.value.is_empty() || (equals && pair.has_value) {
            resource.push('=');
            resource.push_str(&pair.value);
        }
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_string_to_sign_follows_the_reference() {
        let headers = [
            ("Accept", "application/json"),
            ("Date", "Thu, 17 Nov 2018 18:49:58 GMT"),
            ("X-Acs-Version", " 2018-01-01"),
            ("x-acs-signature-nonce", "51284580-614a-11eb-8a9b-9dcfec8d61b7"),
            ("x-acs-action", "demo\tAction"),
            ("Host", "demo-product.example.com"),
        ];
        let query = "foo2=bar2&foo1=bar1";
        let request = SignedRequest { method: "GET", path: "/path", query, headers: &headers, body: b"" };
        let mut pairs = decode_pairs(query);
        pairs.sort_by(|left, right| left.key.cmp(&right.key));
        assert_eq!(
            format!("{}{}", head(&request), resource("/path", &pairs, true)),
            "GET\napplication/json\n\n\nThu, 17 Nov 2018 18:49:58 GMT\nx-acs-action:demo Action\n\
             x-acs-signature-nonce:51284580-614a-11eb-8a9b-9dcfec8d61b7\nx-acs-version:2018-01-01\n\
             /path?foo1=bar1&foo2=bar2"
        );
    }

    #[test]
    fn every_spelling_of_clients_is_accepted_and_no_other() {
        let headers = [("Date", "Thu, 17 Nov 2018 18:49:58 GMT")];
        let request =
            SignedRequest { method: "GET", path: "/clusters", query: "name=&b=a%2Bb%2A", headers: &headers, body: b"" };
        let check = |resource: &str, accepted: bool| {
            let signature = sign("secret", &format!("{}{resource}", head(&request)));
            assert_eq!(verify(&signature, &request, "secret").is_ok(), accepted, "{resource}");
        };
        check("/clusters?b=a+b*&name=", true);
        check("/clusters?b=a+b*&name", true);
        check("/clusters?b=a%20b%2A&name", true);
        check("/clusters?name=&b=a+b*", false);
        check("/clusters?b=a%2Bb%2A&name=", false);
        check("/clusters", false);
    }
}
