//! Requests that turn their connection into something else: WebSocket and every other `Upgrade`.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use sampan_agents::relay::relay;
use tokio::time::timeout;

use super::{
    answers::refuse,
    backend::Lease,
    body::{Answer, Upload},
    headers,
    link::{ANSWER_TIMEOUT, upgradable},
    plane::Plane,
    proxy::{Attempts, Target, finish, timed_out},
};

/// Answers a request that asks for `protocol`. It goes to its backend on a fresh connection; if the backend agrees, bytes
/// are carried both ways until both ends have finished, however long they are silent.
pub(super) async fn answer(
    plane: &Arc<Plane>,
    mut request: Request<Incoming>,
    protocol: HeaderValue,
    client: &HeaderValue,
) -> Response<Answer> {
    let upgraded = hyper::upgrade::on(&mut request);
    headers::for_backend(&mut request, client);
    let wanted = request.headers_mut();
    wanted.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    wanted.insert(header::UPGRADE, protocol);
    let mut request = request.map(|body| Upload::new(body, true));
    let mut attempts = Attempts::default();
    loop {
        plane.ready(&mut attempts.door).await;
        let Target { lease, routes, session } = match Target::choose(plane, &request, &mut attempts) {
            Ok(target) => target,
            Err(refusal) => return *refusal,
        };
        let connected = match plane.dial(lease.backend.address).await {
            Ok(stream) => upgradable(stream).await.map_err(std::io::Error::other),
            Err(error) => Err(error),
        };
        let mut sender = match connected {
            Ok(sender) => sender,
            Err(error) => {
                attempts.unreachable(plane, &lease, &error);
                continue;
            }
        };
        let sending = sender.try_send_request(request);
        drop(routes);
        let Ok(sent) = timeout(ANSWER_TIMEOUT, sending).await else { return timed_out(&lease.service) };
        match sent {
            Ok(response) => {
                lease.backend.succeeded();
                return finish_upgrade(response, upgraded, lease, session);
            }
            Err(mut error) => {
                let Some(unsent) = error.take_message() else {
                    let message = format!("service {} closed the connection: {}", lease.service.name, error.error());
                    return refuse(StatusCode::BAD_GATEWAY, &message);
                };
                request = unsent;
                attempts.closed(&lease, false);
            }
        }
    }
}

fn finish_upgrade(
    mut response: Response<Incoming>,
    client: OnUpgrade,
    lease: Lease,
    session: Option<HeaderValue>,
) -> Response<Answer> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, body) = response.into_parts();
        return finish(Response::from_parts(head, Answer::driven(body, lease)), session);
    }
    let protocol = response.headers().get(header::UPGRADE).cloned();
    let backend = hyper::upgrade::on(&mut response);
    let lease = lease.into_stream();
    tokio::spawn(async move {
        let (client, backend) = match tokio::try_join!(client, backend) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(service = lease.service.name, %error, "a connection did not change its protocol");
                return;
            }
        };
        if let Err(error) = relay(TokioIo::new(client), TokioIo::new(backend)).await {
            tracing::debug!(service = lease.service.name, %error, "an upgraded connection broke");
        }
    });
    let (head, _) = response.into_parts();
    let mut response = finish(Response::from_parts(head, Answer::Own(None)), session);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
    }
    response
}
