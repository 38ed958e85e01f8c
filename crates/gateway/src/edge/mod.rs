//! The HTTP edge. For each request, in this order: bound its time, find the operation, verify the signature, read the body up
//! to a bound, ask for permission, refuse replays, call the handler, write the answer. Every way out has the API's own shape.
//! The body of somebody who has not signed is dropped as it comes, for a moment, and never kept.

mod hook;
pub mod keys;
pub mod listen;
mod metrics;
mod nonces;
mod region;
pub mod router;
pub mod tls;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use sampan_api::{
    Code, Format, Refusal,
    operation::Answer as AnswerKind,
    signature::{self, Credentials, SKEW_MAX_SECONDS, SignedRequest},
};
use sampan_control::service::{Nonce, RequestContext, Service};
use sampan_store::{
    Store,
    model::{Timestamp, new_uuid},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::{
    keys::{Key, Keys},
    metrics::Metrics,
    nonces::ReadNonces,
    router::{Match, Route, Router},
};
use crate::call::{Call, Reply};

/// The version of the API.
const VERSION_HEADER: &str = "x-acs-version";
/// So much of a body that is too large is read before it is refused.
const DISCARDED_BYTES_MAX: usize = 32 << 20;
/// And for so long: nobody holds a place of a request by announcing a body.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Says which request it was, in every answer.
const REQUEST_ID_HEADER: &str = "x-acs-request-id";

/// Limits of the edge.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest body in bytes.
    pub body_bytes_max: usize,
    /// Requests in work at once.
    pub requests_max: usize,
    /// Time to answer.
    pub timeout: Duration,
}

/// Names and values of a request's headers.
type Headers<'a> = Vec<(&'a str, &'a str)>;

/// A gauge of `/metrics`: name, help, value.
pub type Gauge = (&'static str, &'static str, f64);

/// What the gateway is made of.
pub struct GatewayParts {
    /// The use cases.
    pub service: Arc<Service>,
    /// Access keys.
    pub keys: Arc<Keys>,
    /// For nonces.
    pub store: Store,
    /// Operations and handlers.
    pub routes: Vec<Route>,
    /// Limits.
    pub limits: Limits,
    /// Whether a bearer token is the one that the installation's registry was given.
    pub registry_token: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// Region of requests that name none.
    pub region_id: String,
    /// Gauges beside the gateway's own figures.
    pub gauges: Box<dyn Fn() -> Vec<Gauge> + Send + Sync>,
}

/// The gateway.
pub struct Gateway {
    parts: GatewayParts,
    router: Router,
    read_nonces: ReadNonces,
    metrics: Metrics,
    permits: Semaphore,
    ready: AtomicBool,
    openapi: Bytes,
}

impl Gateway {
    /// Makes it; fails when the table declares a path twice.
    pub fn new(parts: GatewayParts) -> Result<Arc<Self>, String> {
        let router = Router::new(&parts.routes)?;
        let document = sampan_api::openapi::document(env!("CARGO_PKG_VERSION"));
        let openapi = serde_json::to_vec(&document).map_err(|error| format!("the API description: {error}"))?;
        Ok(Arc::new(Self {
            router,
            read_nonces: ReadNonces::default(),
            metrics: Metrics::default(),
            permits: Semaphore::new(parts.limits.requests_max),
            ready: AtomicBool::new(false),
            openapi: openapi.into(),
            parts,
        }))
    }

    /// Says whether `/readyz` answers 200.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// What needs no signature and holds no secret.
    fn system(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        if request.method() != http::Method::GET {
            return None;
        }
        let text = |status, text: String| plain(status, "text/plain; charset=utf-8", text.into());
        Some(match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok".into()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ok".into()),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: the controllers have not started".into()),
            "/metrics" => {
                let mut gauges = (self.parts.gauges)();
                let dropped = self.read_nonces.dropped() as f64;
                gauges.push(("sampan_read_nonces_dropped", "Nonces of reads forgotten before their time.", dropped));
                text(StatusCode::OK, self.metrics.render(&gauges))
            }
            "/openapi.json" => plain(StatusCode::OK, "application/json", self.openapi.clone()),
            _ => return None,
        })
    }

    fn permit(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.permits.try_acquire().map_err(|_| {
            Refusal::new(Code::ServiceUnavailable, "Too many requests are in work; try again in a moment.")
        })
    }

    async fn refusable(
        &self,
        request: Request<Incoming>,
        request_id: &str,
        operation: &mut &'static str,
    ) -> Result<(Route, Reply), Refusal> {
        let _permit = self.permit()?;
        let found = self.router.find(request.method(), request.uri().path())?;
        *operation = found.route.operation.name;
        let work = AssertUnwindSafe(self.work(request, found, request_id)).catch_unwind();
        match tokio::time::timeout(self.parts.limits.timeout, work).await {
            Ok(Ok(done)) => done,
            Ok(Err(_panic)) => Err(Refusal::new(Code::InternalError, "the handler panicked")),
            Err(_) => {
                let seconds = self.parts.limits.timeout.as_secs();
                Err(Refusal::new(Code::RequestTimeout, format!("The request was not answered within {seconds} s.")))
            }
        }
    }

    async fn work(
        &self,
        request: Request<Incoming>,
        found: Match,
        request_id: &str,
    ) -> Result<(Route, Reply), Refusal> {
        let (head, body) = request.into_parts();
        let now = Timestamp::now();
        let (headers, signer) = match self.admit(&head, &found.route, now) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                discard(&head.headers, body, self.parts.limits.body_bytes_max).await;
                return Err(refusal);
            }
        };
        let body = self.read_body(&head.headers, body).await?;
        let request = signed(&head, &headers, &body);
        signature::verify_body(&signer.credentials, &request, signer.secret()?)?;
        let query = signature::decode_pairs(head.uri.query().unwrap_or_default());
        let query: Vec<_> = query.into_iter().map(|pair| (pair.key, pair.value)).collect();
        let (mut context, credentials) = (signer.context(request_id), &signer.credentials);
        context.region_id = region::of_request(&query, request.header("x-acs-region-id"), request.header("host"))
            .unwrap_or_else(|| self.parts.region_id.clone());
        authorize(&context, &found.route)?;
        self.refuse_replay(credentials, &found.route, now, &mut context).await?;
        let call = Call {
            service: Arc::clone(&self.parts.service),
            context,
            operation: found.route.operation,
            path: found.path,
            query,
            content_type: request.header("content-type").map(str::to_owned),
            body,
        };
        let reply = (found.route.handler)(call).await?;
        Ok((found.route, reply))
    }

    async fn read_body(&self, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
        let max = self.parts.limits.body_bytes_max;
        let too_large = || Refusal::new(Code::RequestBodyTooLarge, format!("The body is larger than {max} bytes."));
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > max as u64) {
            discard(headers, body, DISCARDED_BYTES_MAX).await;
            return Err(too_large());
        }
        match Limited::new(body, max).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => Err(Refusal::new(Code::InvalidParameter, format!("The body cannot be read: {error}."))),
        }
    }

    /// Everything that can be checked before the body is read.
    fn admit<'a>(&self, head: &'a Parts, route: &Route, now: Timestamp) -> Result<(Headers<'a>, Signer), Refusal> {
        let headers = text_headers(&head.headers)?;
        let request = signed(head, &headers, &[]);
        check_version(request.header(VERSION_HEADER))?;
        check_action(route, request.header("x-acs-action"))?;
        let credentials = signature::parse_authorization(&headers)?;
        let key = self
            .parts
            .keys
            .get(&credentials.access_key_id)
            .ok_or_else(|| Refusal::new(Code::InvalidAccessKeyIdNotFound, "Specified access key is not found."))?;
        let signer = Signer { credentials, key };
        signature::verify_head(&signer.credentials, &request, signer.secret()?, now)?;
        Ok((headers, signer))
    }

    /// Nonces of reads are remembered here; those of changes are stored with their transaction, and looked for now so that
    /// a replay is called one whatever else would be wrong with it.
    async fn refuse_replay(
        &self,
        credentials: &Credentials,
        route: &Route,
        now: Timestamp,
        context: &mut RequestContext,
    ) -> Result<(), Refusal> {
        let Some(nonce) = &credentials.nonce else { return Ok(()) };
        let used = || Refusal::new(Code::SignatureNonceUsed, "Specified signature nonce was used already.");
        if !route.operation.changes() {
            let admitted = self.read_nonces.admit(&credentials.access_key_id, nonce, now.as_second());
            return if admitted { Ok(()) } else { Err(used()) };
        }
        let seen = self.parts.store.nonce_used(&credentials.access_key_id, nonce).await;
        if seen.map_err(|error| crate::faults::refusal(error.into()))? {
            return Err(used());
        }
        // Accepted until the request's own date refuses it: the skew either way, the time for the body, and a little.
        let skews = jiff::SignedDuration::from_secs(2 * SKEW_MAX_SECONDS + 60);
        let timeout = i64::try_from(self.parts.limits.timeout.as_secs()).unwrap_or(i64::MAX).min(24 * 3600);
        context.nonce = Some(Nonce {
            access_key_id: credentials.access_key_id.clone(),
            value: nonce.clone(),
            expires: now + skews + jiff::SignedDuration::from_secs(timeout),
        });
        Ok(())
    }
}

/// Who signed a request.
struct Signer {
    credentials: Credentials,
    key: Arc<Key>,
}

impl Signer {
    fn secret(&self) -> Result<&str, Refusal> {
        std::str::from_utf8(&self.key.secret)
            .map_err(|_| Refusal::new(Code::InternalError, "the secret of the access key is not text"))
    }

    fn context(&self, request_id: &str) -> RequestContext {
        let owner = &self.key.owner;
        RequestContext {
            account_id: owner.account_id.clone(),
            principal: owner.principal.clone(),
            is_root: owner.is_root,
            request_id: request_id.to_owned(),
            region_id: String::new(),
            nonce: None,
        }
    }
}

impl listen::Answer for Gateway {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if let Some(answer) = self.system(&request) {
            return answer;
        }
        let started = Instant::now();
        let _in_flight = self.metrics.begin();
        let request_id = new_uuid();
        let text = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let accept = text(header::ACCEPT).map(str::to_owned);
        let host = text(header::HOST).unwrap_or_default().to_owned();
        let mut operation = "unknown";
        if Self::is_hook(request.uri().path()) {
            let answer = self.hook(request, &mut operation, &request_id, &host).await;
            self.metrics.answered(operation, answer.status().as_u16(), started.elapsed());
            return answer;
        }
        let answer = self
            .refusable(request, &request_id, &mut operation)
            .await
            .and_then(|(route, reply)| write_reply(&route, reply, accept.as_deref(), &request_id));
        let answer = answer.unwrap_or_else(|refusal| {
            write_refusal(&log_refusal(refusal, operation, &request_id), accept.as_deref(), &request_id, &host)
        });
        self.metrics.answered(operation, answer.status().as_u16(), started.elapsed());
        answer
    }
}

/// Reads and drops a body, up to a bound: clients write all before they read, and an answer in the middle of that would be
/// lost to them. One that waits to be asked for its body is not asked.
async fn discard(headers: &HeaderMap, body: Incoming, bytes_max: usize) {
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let mut body = Limited::new(body, bytes_max);
    let read_all = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, read_all).await;
}

/// The request as it was signed.
fn signed<'a>(head: &'a Parts, headers: &'a [(&'a str, &'a str)], body: &'a [u8]) -> SignedRequest<'a> {
    SignedRequest {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers,
        body,
    }
}

fn text_headers(headers: &HeaderMap) -> Result<Headers<'_>, Refusal> {
    headers
        .iter()
        .map(|(name, value)| {
            let value =
                std::str::from_utf8(value.as_bytes()).map_err(|_| Refusal::invalid(name.as_str(), "is not UTF-8"))?;
            Ok((name.as_str(), value))
        })
        .collect()
}

fn check_version(version: Option<&str>) -> Result<(), Refusal> {
    match version.map(str::trim) {
        None | Some("" | sampan_api::API_VERSION) => Ok(()),
        Some(other) => Err(Refusal::new(
            Code::InvalidVersion,
            format!("Specified version {other} is not valid; this API has version {}.", sampan_api::API_VERSION),
        )),
    }
}

fn check_action(route: &Route, action: Option<&str>) -> Result<(), Refusal> {
    match action.map(str::trim).filter(|action| !action.is_empty()) {
        Some(action) if !route.operation.is_named(action) => Err(Refusal::new(
            Code::InvalidActionNotFound,
            format!("The header x-acs-action names {action}, but this method and path are {}.", route.operation.name),
        )),
        _ => Ok(()),
    }
}

/// The permission hook: the account itself may do everything. (RAM users and policies come with their own operations.)
fn authorize(context: &RequestContext, route: &Route) -> Result<(), Refusal> {
    if context.is_root {
        return Ok(());
    }
    let actions = route.operation.ram_actions.join(" or ");
    Err(Refusal::new(
        Code::StatusForbidden,
        format!("{} is not permitted: it needs the action {actions}.", context.principal),
    ))
}

/// Refusals by fault of ours are logged with their reason and answered without it.
fn log_refusal(refusal: Refusal, operation: &str, request_id: &str) -> Refusal {
    if refusal.code == Code::InternalError {
        tracing::error!(request_id, operation, reason = %refusal.message, "a request failed inside the server");
        return Refusal::internal(request_id);
    }
    tracing::debug!(request_id, operation, code = refusal.code.as_str(), reason = %refusal.message, "refused");
    refusal
}

fn write_reply(route: &Route, reply: Reply, accept: Option<&str>, request_id: &str) -> Result<Response<Body>, Refusal> {
    let status = StatusCode::from_u16(route.operation.status).unwrap_or(StatusCode::OK);
    let format = Format::for_answer(accept);
    let is_text = route.operation.answer == AnswerKind::Text && reply.json.starts_with('"');
    let content_type = if is_text { "text/plain; charset=utf-8" } else { format.content_type() };
    let body = sampan_api::encode::encode_json(route.operation, reply.json, format, request_id)
        .map_err(|error| Refusal::new(Code::InternalError, format!("the answer cannot be written: {error}")))?;
    Ok(respond(status, content_type, body.into(), request_id))
}

fn write_refusal(refusal: &Refusal, accept: Option<&str>, request_id: &str, host: &str) -> Response<Body> {
    let format = Format::for_refusal(accept);
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(status, format.content_type(), refusal.body(format, request_id, host).into(), request_id)
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes, request_id: &str) -> Response<Body> {
    let mut answer = plain(status, content_type, body);
    if let Ok(value) = HeaderValue::from_str(request_id) {
        answer.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    answer
}

fn plain(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
