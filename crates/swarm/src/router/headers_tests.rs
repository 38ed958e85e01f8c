#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn request(headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get("/x").body(()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    request
}

fn client() -> HeaderValue {
    HeaderValue::from_static("192.0.2.7")
}

#[test]
fn upgrades_are_those_of_http11_that_say_so() {
    let wanted = |headers: &[(&str, &str)]| wanted_upgrade(&request(headers)).is_some();
    assert!(wanted(&[("connection", "keep-alive"), ("connection", "x, Upgrade"), ("upgrade", "websocket")]));
    assert!(!wanted(&[("upgrade", "websocket")]));
    assert!(!wanted(&[("connection", "upgrade")]));
    assert!(!wanted(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")]));
    assert!(!wanted(&[("connection", "Upgrade"), ("upgrade", "websocket, H2C")]));
}

#[test]
fn every_line_of_connection_counts_and_the_host_stays() {
    let mut request = request(&[
        ("host", "a.test"),
        ("connection", "close, x-one"),
        ("connection", "Host, X-Two"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-three", "3"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
    ]);
    for_backend(&mut request, &client());
    let mut names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-three"];
    assert_eq!(names, expected);
}

#[test]
fn the_absolute_form_is_made_of_the_host() {
    let mut request = request(&[("host", "a.test:81")]);
    to_absolute_form(&mut request).unwrap();
    assert_eq!(request.uri(), "http://a.test:81/x");
    assert!(request.headers().is_empty());
    assert!(to_absolute_form(&mut self::request(&[("host", "a b")])).is_err());
    assert!(to_origin_form(&mut self::request(&[])).is_err());
    assert!(to_origin_form(&mut self::request(&[("host", "a"), ("host", "a")])).is_err());
}

proptest! {
    #[test]
    fn what_connection_names_does_not_pass(tokens in prop::collection::vec("[a-zA-Z-]{1,12}", 0..6)) {
        let mut request = request(&[("host", "a.test"), ("connection", &tokens.join(", "))]);
        for token in &tokens {
            if let Ok(name) = HeaderName::try_from(token.as_str()) && name != header::HOST && name != header::CONNECTION {
                request.headers_mut().insert(name, "1".parse().unwrap());
            }
        }
        for_backend(&mut request, &client());
        prop_assert_eq!(&request.headers()["host"], "a.test");
        for token in &tokens {
            let ours = token.to_ascii_lowercase().starts_with("x-forwarded");
            let kept = ["host", "close", "te"].contains(&token.to_ascii_lowercase().as_str());
            prop_assert!(ours || kept || !request.headers().contains_key(token.as_str()), "{token}");
        }
    }
}
