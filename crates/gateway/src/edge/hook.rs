//! What is called without a signature and does something: triggers, which carry a secret of their own, and the installation's
//! image registry, which carries the server's.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::body::Body;
use futures::FutureExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use sampan_api::{Code, Refusal, signature};
use sampan_control::service::trigger::Pull;
use serde::Deserialize;
use serde_json::json;

use super::{Gateway, discard, log_refusal, respond, write_refusal};

/// Path of triggers (catalogue: Swarm guide 4.9).
const TRIGGER: &str = "/hook/trigger";
/// Path that the registry notifies.
const REGISTRY: &str = "/hook/registry";
/// Callers post what they like (alerts, …); so much of it is read and dropped.
const POSTED_BYTES_MAX: usize = 1 << 20;

/// Images of one notification that are looked at; the registry sends one at a time.
const TARGETS_MAX: usize = 100;

/// A registry's notification, as far as it matters.
#[derive(Deserialize)]
struct Notification {
    #[serde(default)]
    events: Vec<PushEvent>,
}

#[derive(Deserialize)]
struct PushEvent {
    #[serde(default)]
    action: String,
    #[serde(default)]
    target: PushTarget,
}

#[derive(Default, Deserialize)]
struct PushTarget {
    #[serde(default)]
    repository: String,
    #[serde(default)]
    tag: String,
}

impl Gateway {
    /// Whether the request is one of those answered here.
    pub(super) fn is_hook(path: &str) -> bool {
        matches!(path.trim_end_matches('/'), TRIGGER | REGISTRY)
    }

    pub(super) async fn hook(
        &self,
        request: Request<Incoming>,
        operation: &mut &'static str,
        request_id: &str,
        host: &str,
    ) -> Response<Body> {
        let accept = header_text(request.headers(), header::ACCEPT).map(str::to_owned);
        let _permit = match self.permit() {
            Ok(permit) => permit,
            Err(refusal) => return write_refusal(&refusal, accept.as_deref(), request_id, host),
        };
        let is_trigger = request.uri().path().trim_end_matches('/') == TRIGGER;
        *operation = if is_trigger { "Trigger" } else { "RegistryNotification" };
        let work =
            async { if is_trigger { self.pull_trigger(request).await } else { self.registry_notified(request).await } };
        let limit = self.parts.limits.timeout;
        let work = AssertUnwindSafe(work).catch_unwind();
        let answer = tokio::time::timeout(limit, work)
            .await
            .map(|done| done.unwrap_or_else(|_panic| Err(Refusal::new(Code::InternalError, "the handler panicked"))));
        let answer = answer.unwrap_or_else(|_| {
            Err(Refusal::new(
                Code::RequestTimeout,
                format!("The request was not answered within {} s.", limit.as_secs()),
            ))
        });
        match answer {
            Ok(message) => {
                let body = json!({ "code": "200", "message": message, "requestId": request_id }).to_string();
                respond(StatusCode::OK, "application/json", body.into(), request_id)
            }
            Err(refusal) => {
                // Plain `Accept: */*` of curl is answered in JSON here, as everywhere.
                let refusal = log_refusal(refusal, operation, request_id);
                write_refusal(&refusal, accept.as_deref(), request_id, host)
            }
        }
    }

    /// GET and POST fire a trigger; what is posted does not matter.
    async fn pull_trigger(&self, request: Request<Incoming>) -> Result<String, Refusal> {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return Err(Refusal::new(Code::InvalidActionNotFound, "A trigger is called by GET or POST."));
        }
        let (head, body) = request.into_parts();
        discard(&head.headers, body, POSTED_BYTES_MAX).await;
        // Empty pairs, as between the `&&` of published links, carry nothing.
        let query = signature::decode_pairs(head.uri.query().unwrap_or_default());
        let value = |name: &str| query.iter().find(|pair| pair.key == name).map(|pair| pair.value.clone());
        let pull =
            Pull { token: value("triggerUrl"), secret: value("secret"), kind: value("type"), step: value("step") };
        let fired = self.parts.service.trigger_fire(&pull).await.map_err(crate::faults::refusal)?;
        Ok(fired.message)
    }

    async fn registry_notified(&self, request: Request<Incoming>) -> Result<String, Refusal> {
        let (head, body) = request.into_parts();
        let given = header_text(&head.headers, header::AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
        if !given.is_some_and(|given| (self.parts.registry_token)(given)) || head.method != Method::POST {
            discard(&head.headers, body, POSTED_BYTES_MAX).await;
            return Err(Refusal::new(Code::StatusForbidden, "Only the installation's registry may notify."));
        }
        let body = self.read_body(&head.headers, body).await?;
        let notification: Notification = serde_json::from_slice(&body)
            .map_err(|error| Refusal::invalid("body", format!("is not a registry's notification: {error}")))?;
        let pushed = notification.events.into_iter().filter(|event| event.action == "push");
        // Layers and manifests without a tag name no image that a template could use.
        let targets: Vec<PushTarget> =
            pushed.map(|event| event.target).filter(|target| !target.tag.is_empty()).take(TARGETS_MAX).collect();
        let message = format!("{} images were pushed", targets.len());
        // The registry repeats what is not answered soon, in order, before it tells of anything else.
        let service = Arc::clone(&self.parts.service);
        tokio::spawn(async move {
            for PushTarget { repository, tag } in targets {
                service.image_pushed(&repository, &tag).await;
            }
        });
        Ok(message)
    }
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
