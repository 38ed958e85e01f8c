//! What of a head is for the next hop only, and what a proxy adds.
//!
//! The client's address as a router sees it is that of the cluster's balancer, which carries TCP. `X-Forwarded-For` is
//! therefore continued, and `-Proto`, `-Host` and `-Port` are kept if a proxy of the user's, in front of the balancer, has
//! set them.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{self, Entry},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::matching::port_of;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Whether a request is gRPC, which needs HTTP/2 to the backend as well.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// The protocol that a request wants to change to. HTTP/2 is none: clients that speak it begin with it.
pub(super) fn wanted_upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    if request.version() != Version::HTTP_11 || !names(request.headers(), "upgrade") {
        return None;
    }
    let protocol = request.headers().get(header::UPGRADE)?;
    let is_http2 = protocol
        .to_str()
        .is_ok_and(|protocol| protocol.split(',').any(|one| one.trim().to_ascii_lowercase().starts_with("h2")));
    (!is_http2).then(|| protocol.clone())
}

/// Whether `Connection` names something.
fn names(headers: &HeaderMap, token: &str) -> bool {
    let tokens = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    tokens.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// Why a request has no route whatever the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoHost(pub(super) &'static str);

/// Makes the request name its host in `Host` and nowhere else, and its path in origin form.
pub(super) fn to_origin_form<B>(request: &mut Request<B>) -> Result<(), NoHost> {
    if let Some(authority) = request.uri().authority() {
        // An absolute form or `:authority` goes before `Host`.
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| NoHost("the host is not valid"))?;
        let path = request.uri().path_and_query().cloned();
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    let mut hosts = request.headers().get_all(header::HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => Ok(()),
        (None, _) => Err(NoHost("the request names no host")),
        (Some(_), Some(_)) => Err(NoHost("the request names two hosts")),
    }
}

/// The absolute form, as HTTP/2 to a backend needs it.
pub(super) fn to_absolute_form<B>(request: &mut Request<B>) -> Result<(), NoHost> {
    let host = request.headers_mut().remove(header::HOST).ok_or(NoHost("the request names no host"))?;
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| NoHost("the host is not valid"))?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| NoHost("the host is not valid"))?;
    Ok(())
}

/// Takes out what is for one hop.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        strip_named(headers);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Takes out `Connection` (one line, see [`fold_connection`]) and what it names.
fn strip_named(headers: &mut HeaderMap) {
    let Some(value) = headers.remove(header::CONNECTION) else { return };
    let Ok(tokens) = value.to_str() else { return };
    for token in tokens.split(',').map(str::trim) {
        let is_kept =
            ["close", "keep-alive", "upgrade", "te", "host"].iter().any(|kept| token.eq_ignore_ascii_case(kept));
        if !is_kept && let Ok(name) = HeaderName::try_from(token) {
            headers.remove(name);
        }
    }
}

/// Makes a client's head one for a backend.
pub(super) fn for_backend<B>(request: &mut Request<B>, client: &HeaderValue) {
    let is_http2 = request.version() == Version::HTTP_2;
    let headers = request.headers_mut();
    fold_connection(headers);
    strip(headers);
    headers.remove(HTTP2_SETTINGS);
    headers.remove(header::EXPECT);
    if let Entry::Occupied(te) = headers.entry(header::TE) {
        let wants_trailers = te.iter().any(|value| value.to_str().is_ok_and(|value| value.contains("trailers")));
        te.remove_entry_mult();
        if wants_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    if is_http2 {
        join_cookies(headers);
    }
    forward(headers, client);
    *request.version_mut() = Version::HTTP_11;
}

/// Several lines of `Connection` are one list.
fn fold_connection(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::CONNECTION).into_iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(header::CONNECTION).into_iter().map(HeaderValue::as_bytes).collect();
    if let Ok(one) = HeaderValue::from_bytes(&all.join(&b", "[..])) {
        headers.insert(header::CONNECTION, one);
    }
}

/// HTTP/2 clients may send one line for each cookie; HTTP/1.1 has one for all.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).into_iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if let Ok(one) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, one);
    }
}

fn forward(headers: &mut HeaderMap, client: &HeaderValue) {
    let chain = match headers.get(FORWARDED_FOR) {
        None => Some(client.clone()),
        Some(_) => {
            let mut all: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).into_iter().map(HeaderValue::as_bytes).collect();
            all.push(client.as_bytes());
            HeaderValue::from_bytes(&all.join(&b", "[..])).ok()
        }
    };
    if let Some(chain) = chain {
        headers.insert(FORWARDED_FOR, chain);
    }
    headers.entry(FORWARDED_PROTO).or_insert_with(|| HeaderValue::from_static("http"));
    let Some(host) = headers.get(header::HOST).cloned() else { return };
    if !headers.contains_key(FORWARDED_PORT) {
        let port = host.to_str().ok().and_then(port_of).and_then(|port| HeaderValue::from_str(port).ok());
        headers.insert(FORWARDED_PORT, port.unwrap_or_else(|| HeaderValue::from_static("80")));
    }
    headers.entry(FORWARDED_HOST).or_insert(host);
}

/// Makes a backend's head one for a client.
pub(super) fn for_client(headers: &mut HeaderMap) {
    fold_connection(headers);
    strip(headers);
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
