//! gRPC: HTTP/2 from end to end. Calls are not idempotent; one that was sent is not sent again.

use std::sync::Arc;

use http::{Request, Response, StatusCode, Version};
use tokio::time::timeout;

use super::{
    answers::refuse,
    body::{Answer, Upload},
    headers,
    link::ANSWER_TIMEOUT,
    multiplex::Stream,
    plane::Plane,
    proxy::{Attempts, Target, finish, timed_out},
};

/// Answers a call. Clients read the status of a refusal (404: unimplemented, 503: unavailable).
pub(super) async fn answer(plane: &Arc<Plane>, mut request: Request<Upload>) -> Response<Answer> {
    let mut attempts = Attempts::default();
    loop {
        plane.ready(&mut attempts.door).await;
        let Target { lease, routes, session } = match Target::choose(plane, &request, &mut attempts) {
            Ok(target) => target,
            Err(refusal) => return *refusal,
        };
        let channel = match plane.channel(&lease.backend).await {
            Ok(channel) => channel,
            Err(error) => {
                attempts.unreachable(plane, &lease, &error);
                continue;
            }
        };
        let host = request.headers().get(http::header::HOST).cloned();
        if let Err(reason) = headers::to_absolute_form(&mut request) {
            return refuse(StatusCode::BAD_REQUEST, reason.0);
        }
        *request.version_mut() = Version::HTTP_2;
        let (mut sender, busy) = channel.begin();
        let sending = sender.try_send_request(request);
        drop(routes);
        let Ok(sent) = timeout(ANSWER_TIMEOUT, sending).await else { return timed_out(&lease.service) };
        match sent {
            Ok(response) => {
                lease.backend.succeeded();
                let answer = response.map(|body| Answer::Shared(Box::new(Stream::new(body, busy, lease))));
                return finish(answer, session);
            }
            Err(mut error) => {
                let Some(unsent) = error.take_message() else {
                    let message = format!("service {} did not answer the call: {}", lease.service.name, error.error());
                    return refuse(StatusCode::BAD_GATEWAY, &message);
                };
                request = unsent;
                if let Some(host) = host {
                    request.headers_mut().insert(http::header::HOST, host);
                }
                lease.backend.multiplexed.forget();
                attempts.closed(&lease, false);
            }
        }
    }
}
