//! Passing a request to a node's engine and its answer back, both as streams.

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;

use super::{Answer, hijack};
use crate::{
    fleet::{Member, wire},
    model::Refusal,
};

/// Headers that belong to one connection and not to the request.
const OF_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::UPGRADE,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::EXPECT,
];

/// Passes a request to `target` (path and query) at a node. Upgrades are passed too: the two ends are then joined.
pub(crate) async fn request(member: &Member, mut request: Request<Incoming>, target: &str) -> Answer {
    let uri: Uri = target.parse().map_err(|error| Refusal::bad(format!("{target:?} is no address: {error}")))?;
    let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let mut outgoing = Request::builder().method(request.method().clone()).uri(uri).body(wire::nothing());
    if let Ok(outgoing) = &mut outgoing {
        copy_headers(request.headers(), outgoing.headers_mut(), upgrade.is_some());
        *outgoing.body_mut() = wire::passing(request.into_body());
    }
    let outgoing = outgoing.map_err(|error| Refusal::bad(format!("{target:?} cannot be asked for: {error}")))?;
    let mut response = member.client.send(outgoing).await?;
    let mut answer = Response::builder().status(response.status()).body(wire::nothing());
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let Ok(answer) = &mut answer {
        copy_headers(response.headers(), answer.headers_mut(), switched);
    }
    let mut answer = answer.map_err(|error| Refusal::internal(format!("an answer cannot be passed on: {error}")))?;
    match upgrade {
        Some(client) if switched => {
            let engine = hyper::upgrade::on(&mut response);
            hijack::join(client, engine);
        }
        _ => *answer.body_mut() = response.into_body(),
    }
    Ok(answer)
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = connection.flat_map(|value| value.split(','));
    headers.contains_key(header::UPGRADE) && tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap, upgrade: bool) {
    for (name, value) in from {
        let kept = upgrade && (*name == header::CONNECTION || *name == header::UPGRADE);
        if kept || !OF_CONNECTION.contains(name) {
            to.append(name, value.clone());
        }
    }
}
