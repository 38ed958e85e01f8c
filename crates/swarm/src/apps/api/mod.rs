//! The application API over HTTP: `/projects`, `/services`.

mod fields;
mod kill;
mod projects;
mod services;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{Full, LengthLimitError};
use serde_json::{Value, json};

use super::{BODY_BYTES_MAX, Inner};
use crate::model::Refusal;
use fields::Query;

const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");

/// What an operation answers.
pub(super) enum Answer {
    /// Nothing but a status.
    Empty(StatusCode),
    /// 201, and where it is.
    Created(String),
    /// 200 and an object or array.
    Shown(Value),
}

/// Whether a path belongs to this API.
pub(super) fn takes(path: &str) -> bool {
    matches!(segments(path).as_deref(), Ok([first, ..]) if ["projects", "services", "service"].contains(&first.as_str()))
}

/// The parts of a path, decoded, without a version in front and without empty ones.
fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    let is_version = |part: &&str| {
        part.strip_prefix('v')
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    };
    parts.next_if(is_version);
    parts.map(fields::decode).collect()
}

/// The answer to a body that did not arrive, or is too large.
pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> Response<Full<Bytes>> {
    let refusal = if error.is::<LengthLimitError>() {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than the {BODY_BYTES_MAX} bytes that are allowed"),
        )
    } else {
        Refusal::bad(format!("the body did not arrive: {error}"))
    };
    refuse(&refusal)
}

/// Answers a request.
pub(super) async fn handle(inner: &Arc<Inner>, parts: &Parts, body: &[u8]) -> Response<Full<Bytes>> {
    match route(inner, parts, body).await {
        Ok(answer) => respond(answer),
        Err(refusal) => refuse(&refusal),
    }
}

async fn route(inner: &Arc<Inner>, parts: &Parts, body: &[u8]) -> Result<Answer, Refusal> {
    if body.len() > BODY_BYTES_MAX {
        let message = format!("the body has {} bytes, {BODY_BYTES_MAX} are allowed", body.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let segments = segments(parts.uri.path())?;
    let query = Query::read(parts.uri.query().unwrap_or_default())?;
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = &parts.method;
    match path.as_slice() {
        ["projects", rest @ ..] => projects::route(inner, method, rest, &query, body).await,
        ["services" | "service", rest @ ..] => services::route(inner, method, rest, &query, body).await,
        _ => Err(unknown(method, parts.uri.path())),
    }
}

/// 404 for a path that nobody answers.
pub(super) fn unknown(method: &Method, path: &str) -> Refusal {
    Refusal::missing(format!("no such operation: {method} {path}"))
}

/// 405.
pub(super) fn not_allowed(method: &Method, what: &str) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not an operation of {what}"))
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match answer {
        Answer::Empty(status) => *response.status_mut() = status,
        Answer::Created(location) => {
            *response.status_mut() = StatusCode::CREATED;
            if let Ok(location) = HeaderValue::try_from(location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
        }
        Answer::Shown(value) => {
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            *response.body_mut() = Full::from(value.to_string());
        }
    }
    response
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(json!({ "message": refusal.message }).to_string()));
    *response.status_mut() = refusal.status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}
