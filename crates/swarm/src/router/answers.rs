//! What the router itself answers, in words.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Answer;

/// So much of a host or path is repeated in an answer.
const ECHO_MAX: usize = 200;

/// Refuses a request.
pub(super) fn refuse(status: StatusCode, message: &str) -> Response<Answer> {
    let body = Bytes::from(format!("{} {}: {message}\n", status.as_u16(), status.canonical_reason().unwrap_or("")));
    let mut response = Response::new(Answer::Own(Some(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Something of the request, short enough to be repeated.
pub(super) fn echo(text: &str) -> String {
    let mut short: String = text.chars().take(ECHO_MAX).filter(|c| !c.is_control()).collect();
    if text.chars().nth(ECHO_MAX).is_some() {
        short.push('…');
    }
    short
}
