//! One request from its arrival to the head of its answer.
//!
//! What is tried again, and when: a backend that cannot be reached, or a connection that closed before anything was sent,
//! is no harm to any request. A request that was sent is sent again only if its method is idempotent, nothing of its body
//! has gone out, and no answer has begun; a few times at most, and to another backend unless it was only a connection that
//! had waited too long.

use std::{
    io::ErrorKind,
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::Incoming;

use super::{
    answers::{echo, refuse},
    backend::{Backend, Lease, Service},
    body::{Answer, Progress, Upload},
    grpc, headers,
    link::Unanswered,
    matching::host_of,
    plane::{Needs, Plane},
    routes::{Route, Routes, Tried},
    session::{self, Session},
    upgrade,
};

/// Backends that are tried for one request.
const ATTEMPTS_MAX: usize = 5;
/// Times that one request is sent again after it was sent.
const REPEATS_MAX: usize = 2;

/// A refusal; boxed, because it is rare and large.
pub(super) type Refused = Box<Response<Answer>>;

fn refused(status: StatusCode, message: &str) -> Refused {
    Box::new(refuse(status, message))
}

/// Answers a request.
pub(super) async fn answer(
    plane: &Arc<Plane>,
    mut request: Request<Incoming>,
    client: &HeaderValue,
) -> Response<Answer> {
    plane.counters.requests.fetch_add(1, Ordering::Relaxed);
    if request.method() == Method::CONNECT {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "this is no forward proxy; CONNECT is refused");
    }
    if let Err(reason) = headers::to_origin_form(&mut request) {
        return refuse(StatusCode::BAD_REQUEST, reason.0);
    }
    if let Some(protocol) = headers::wanted_upgrade(&request) {
        return Box::pin(upgrade::answer(plane, request, protocol, client)).await;
    }
    let is_grpc = request.version() == Version::HTTP_2 && headers::is_grpc(request.headers());
    let may_stall = request.version() == Version::HTTP_2;
    headers::for_backend(&mut request, client);
    let request = request.map(|body| Upload::new(body, may_stall));
    if is_grpc {
        return Box::pin(grpc::answer(plane, request)).await;
    }
    forward(plane, request).await
}

async fn forward(plane: &Arc<Plane>, mut request: Request<Upload>) -> Response<Answer> {
    let mut attempts = Attempts::default();
    let mut is_fresh = false;
    loop {
        plane.ready(&mut attempts.door).await;
        let target = match Target::choose(plane, &request, &mut attempts) {
            Ok(target) => target,
            Err(refusal) => return *refusal,
        };
        let Target { lease, routes, session, .. } = target;
        let is_repeatable = is_idempotent(request.method());
        let needs = Needs { is_repeatable, is_large: request.body().is_large(), is_fresh };
        let mut link = match plane.link(&lease.backend, needs).await {
            Ok(link) => link,
            Err(error) => {
                attempts.unreachable(plane, &lease, &error);
                continue;
            }
        };
        let copy = (is_repeatable && attempts.repeats < REPEATS_MAX).then(|| Copy::of(&request));
        let progress = request.body().progress();
        match link.send(request, routes).await {
            Ok(response) => {
                lease.backend.succeeded();
                let (head, body) = response.into_parts();
                let answer = Answer::linked(body, link, lease);
                return finish(Response::from_parts(head, answer), session);
            }
            Err(Unanswered::Unsent(unsent)) => {
                // Closed while it waited, before anything was sent.
                (request, is_fresh) = (*unsent, true);
                attempts.closed(&lease, link.is_reused);
            }
            Err(Unanswered::Broken(error)) => {
                match again(&error, copy, &lease, &mut attempts, link.is_reused, progress.as_ref()) {
                    Ok(copy) => (request, is_fresh) = (copy, true),
                    Err(refusal) => return *refusal,
                }
            }
            Err(Unanswered::TimedOut) => return timed_out(&lease.service),
        }
    }
}

/// The request for another attempt, if it may have one.
fn again(
    error: &hyper::Error,
    copy: Option<Copy>,
    lease: &Lease,
    attempts: &mut Attempts,
    was_reused: bool,
    progress: Option<&Progress>,
) -> Result<Request<Upload>, Refused> {
    let (service, backend) = (&lease.service.name, &lease.backend.id);
    tracing::debug!(service, backend, %error, "a request was not answered");
    if progress.is_some_and(Progress::is_broken) {
        return Err(refused(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come to its end"));
    }
    let has_answered = error.is_parse() || error.is_parse_too_large();
    let request = copy.filter(|_| !has_answered).and_then(Copy::into_request);
    let Some(request) = request else {
        lease.service.failed.fetch_add(1, Ordering::Relaxed);
        let what = if has_answered { "answered something that is not HTTP" } else { "closed the connection" };
        let message = format!("a container of service {service} {what} instead of answering the request");
        return Err(refused(StatusCode::BAD_GATEWAY, &message));
    };
    attempts.repeats += 1;
    if is_gone(error) {
        lease.backend.failed();
    }
    attempts.closed(lease, was_reused && !is_gone(error));
    lease.service.repeated.fetch_add(1, Ordering::Relaxed);
    Ok(request)
}

/// Whether the backend's machine does not answer any more, as against a container that closed a connection.
fn is_gone(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    let kinds = [ErrorKind::TimedOut, ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
    source.is_some_and(|source| kinds.contains(&source.kind()))
}

pub(super) fn timed_out(service: &Service) -> Response<Answer> {
    service.failed.fetch_add(1, Ordering::Relaxed);
    let message = format!("service {} did not answer in time", service.name);
    refuse(StatusCode::GATEWAY_TIMEOUT, &message)
}

/// The answer as its client gets it.
pub(super) fn finish(mut response: Response<Answer>, session: Option<HeaderValue>) -> Response<Answer> {
    headers::for_client(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    if let Some(cookie) = session {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Whether sending it twice does what sending it once does.
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}

/// A request that may have to be sent again.
struct Copy {
    head: Parts,
    body: Option<Progress>,
}

impl Copy {
    fn of(request: &Request<Upload>) -> Self {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = request.method().clone();
        head.uri = request.uri().clone();
        head.version = request.version();
        head.headers = request.headers().clone();
        Self { head, body: request.body().progress() }
    }

    fn into_request(self) -> Option<Request<Upload>> {
        let body = match self.body {
            None => Upload::empty(),
            Some(body) => body.take_back()?,
        };
        Some(Request::from_parts(self.head, body))
    }
}

/// What was tried for one request, and why it did not go.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    tried: Tried,
    count: usize,
    repeats: usize,
    last_error: Option<String>,
    /// It waits so long for a way into the overlay.
    pub(super) door: Option<tokio::time::Instant>,
}

impl Attempts {
    /// The backend could not be reached.
    pub(super) fn unreachable(&mut self, plane: &Plane, lease: &Lease, error: &std::io::Error) {
        let (service, backend, address) = (&lease.service.name, &lease.backend.id, lease.backend.address);
        tracing::debug!(service, backend, %address, %error, "a backend cannot be reached");
        self.count += 1;
        if plane.dialer().is_open() {
            plane.counters.connect_failures.fetch_add(1, Ordering::Relaxed);
            lease.backend.failed();
            self.tried.add(&lease.backend);
        }
        self.last_error = Some(error.to_string());
    }

    /// The connection closed before it answered. One that had waited says nothing about the backend.
    pub(super) fn closed(&mut self, lease: &Lease, was_reused: bool) {
        self.count += 1;
        if !was_reused {
            self.tried.add(&lease.backend);
        }
    }
}

/// Where an attempt goes.
pub(super) struct Target {
    /// The backend, held.
    pub(super) lease: Lease,
    /// The table that was asked; to be dropped when the request is on its way.
    pub(super) routes: Arc<Routes>,
    /// Cookie to set.
    pub(super) session: Option<HeaderValue>,
}

impl Target {
    /// Asks the table in force.
    pub(super) fn choose<B>(plane: &Plane, request: &Request<B>, attempts: &mut Attempts) -> Result<Self, Refused> {
        let routes = plane.routes();
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).and_then(host_of);
        let Some(host) = host else { return Err(refused(StatusCode::BAD_REQUEST, "the host is not valid")) };
        let Some(route) = routes.find(&host, request.uri().path()) else {
            plane.counters.unrouted.fetch_add(1, Ordering::Relaxed);
            let (host, path) = (echo(&host), echo(request.uri().path()));
            return Err(refused(
                StatusCode::NOT_FOUND,
                &format!("no service has a route for host {host} and path {path}"),
            ));
        };
        let is_first = attempts.count == 0;
        if attempts.count >= ATTEMPTS_MAX {
            return Err(exhausted(attempts));
        }
        let now = if route.sticky { now() } else { 0 };
        let Some((backend, service, session)) = choose(route, request.headers(), attempts, now) else {
            let is_hopeless = attempts.tried.is_empty();
            return Err(if is_hopeless {
                refused(StatusCode::SERVICE_UNAVAILABLE, route.why_none())
            } else {
                exhausted(attempts)
            });
        };
        if is_first {
            service.requests.fetch_add(1, Ordering::Relaxed);
        }
        let session = route.sticky.then(|| cookie(route, backend, session, now)).flatten();
        let lease = Lease::new(backend, service);
        Ok(Self { lease, routes, session })
    }
}

type Chosen<'a> = (&'a Arc<Backend>, &'a Arc<Service>, Option<Session>);

fn choose<'a>(route: &'a Route, headers: &HeaderMap, attempts: &mut Attempts, now: u64) -> Option<Chosen<'a>> {
    let choice = if route.sticky {
        route.choose(session::of(headers, now), &mut attempts.tried)
    } else {
        route.choose(std::iter::empty(), &mut attempts.tried)
    };
    choice.map(|choice| (choice.backend, choice.service, choice.session))
}

fn cookie(route: &Route, backend: &Backend, session: Option<Session>, now: u64) -> Option<HeaderValue> {
    let session = match session {
        Some(session) => session.renewed(now)?,
        None => Session::new(backend.hash, now),
    };
    session.cookie(&route.prefix)
}

fn exhausted(attempts: &Attempts) -> Refused {
    match &attempts.last_error {
        Some(error) => {
            let message = format!("no container of this route can be reached; the last one said: {error}");
            refused(StatusCode::BAD_GATEWAY, &message)
        }
        None => refused(StatusCode::BAD_GATEWAY, "every container of this route closed the connection unanswered"),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
